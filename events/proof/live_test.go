package proof_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"crossbill/events"
	"crossbill/events/proof"
)

// TestBesideAWritingNode verifies and proves while the log grows and its tiles are made: what is not there yet must not be
// taken for damage, and a proof must hold for the checkpoint it was asked for.
func TestBesideAWritingNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.prover.Follow(ctx, b.log, slog.New(slog.DiscardHandler)) })
	running.Go(func() {
		for range 25 {
			b.grow(900)
		}
		cancel()
	})
	rounds := 0
	var older events.Head
	for ; ctx.Err() == nil; rounds++ {
		if _, err := events.Verify(t.Context(), b.pool, b.checkpoint(), b.signer.VerifierKey()); err != nil {
			t.Fatal(err)
		}
		checkpoint := b.checkpoint()
		head, err := events.ParseCheckpoint(checkpoint, b.signer.VerifierKey())
		must(t, err)
		for _, position := range []events.Position{1, head.Position / 2, head.Position} {
			i, err := b.prover.Inclusion(t.Context(), position, head.Position)
			must(t, err)
			if i.Root != head.Root {
				t.Fatalf("at %d events the proof is for another root", head.Position)
			}
		}
		c, err := b.prover.Consistency(t.Context(), older.Position, head.Position)
		must(t, err)
		if c.ToRoot != head.Root || older.Position > 0 && c.FromRoot != older.Root {
			t.Fatalf("from %d to %d events the proof is for other roots", older.Position, head.Position)
		}
		_, err = proof.Verify(b.bundle(exportOf(b, checkpoint, 1, head.Position)), b.signer.VerifierKey(), nil)
		must(t, err)
		older = head
	}
	running.Wait()
	b.sound()
	if rounds < 3 {
		t.Errorf("only %d rounds while the log grew", rounds)
	}
}
