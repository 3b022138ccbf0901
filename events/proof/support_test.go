package proof_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/events/proof"
)

const origin = "log.test/main"

// noted is an event for tests.
type noted struct {
	Text string `json:"text"`
}

func (noted) EventType() string { return "test.noted" }

// bench is a log in a database of the test's own, with a prover and a key.
type bench struct {
	t      testing.TB
	pool   *pgxpool.Pool
	log    *events.Log
	signer *events.Signer
	prover *proof.Prover
}

func newBench(t testing.TB, size int) *bench {
	t.Helper()
	b := &bench{t: t, pool: pgtest.New(t)}
	codec, err := events.NewCodec([]domain.Event{noted{}})
	must(t, err)
	b.signer, err = events.LoadOrCreateSigner(filepath.Join(t.TempDir(), "key"), origin)
	must(t, err)
	b.log, err = events.Open(context.Background(), b.pool, codec, events.Options{Signer: b.signer})
	must(t, err)
	t.Cleanup(b.log.Close)
	b.prover = proof.NewProver(b.pool, events.RecordsIn(b.pool))
	b.grow(size)
	return b
}

// grow appends events, over three streams.
func (b *bench) grow(n int) {
	b.t.Helper()
	for n > 0 {
		var a events.Append
		for s := range 3 {
			stream := events.StreamAppend{Stream: fmt.Sprintf("note-%c", 'a'+s), Expected: events.Any}
			for range min(n, 1000) {
				stream.Events = append(stream.Events, events.NewEvent{Event: noted{fmt.Sprint(n)}, Metadata: events.Metadata{Actor: "tester"}})
				n--
			}
			if len(stream.Events) > 0 {
				a.Streams = append(a.Streams, stream)
			}
		}
		_, err := b.log.Append(context.Background(), a)
		must(b.t, err)
	}
}

func (b *bench) checkpoint() []byte {
	b.t.Helper()
	c, err := b.log.Checkpoint(context.Background())
	must(b.t, err)
	return c
}

// leaves returns all leaf hashes, from the rows.
func (b *bench) leaves() [][32]byte {
	b.t.Helper()
	var leaves [][32]byte
	must(b.t, events.RecordsIn(b.pool).Range(context.Background(), 1, 1<<62, func(r events.StoredRecord) error {
		leaves = append(leaves, r.Record.LeafHash())
		return nil
	}))
	return leaves
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	tag, err := b.pool.Exec(context.Background(), sql, args...)
	must(b.t, err)
	if tag.RowsAffected() == 0 {
		b.t.Fatalf("%s changed nothing", sql)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func requireCode(t testing.TB, err error, code domain.Code) {
	t.Helper()
	if domain.CodeOf(err) != code {
		t.Fatalf("error %v, want code %q", err, code)
	}
}

// reseal computes leaf hashes and head again from the rows as they are, as who has changed them might.
func (b *bench) reseal() {
	b.t.Helper()
	leaves := b.leaves()
	for i, leaf := range leaves {
		b.exec(`UPDATE events SET leaf_hash = $2 WHERE position = $1`, i+1, leaf[:])
	}
	var frontier []byte
	for from, size := 0, 1<<62; size > 0; size /= 2 {
		if len(leaves)&size != 0 {
			root := rootOf(leaves[from : from+size])
			frontier, from = append(frontier, root[:]...), from+size
		}
	}
	root := rootOf(leaves)
	b.exec(`UPDATE log_head SET root = $1, frontier = $2`, root[:], frontier)
}

func exportOf(b *bench, checkpoint []byte, positions ...events.Position) proof.Export {
	return proof.Export{Positions: positions, Checkpoint: checkpoint, Key: b.signer.VerifierKey()}
}
