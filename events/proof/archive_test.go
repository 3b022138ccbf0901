package proof_test

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"crossbill/events"
	"crossbill/events/proof"
)

// TestProofsThroughArchives makes tiles and proofs of a log whose beginning is archived, and wants those of the log as it
// was.
func TestProofsThroughArchives(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	for _, sql := range []string{ // no event is there yet
		`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 128::bigint'`,
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		_, err := b.pool.Exec(t.Context(), sql)
		must(t, err)
	}
	b.grow(1000)
	ctx := context.Background()
	before, err := b.prover.Inclusion(ctx, 300, 1000)
	must(t, err)
	dir := t.TempDir()
	done, err := events.Archive(ctx, b.pool, events.ArchiveOptions{Dir: dir})
	must(t, err)
	if len(done) != 7 {
		t.Fatalf("archived %d partitions", len(done))
	}
	_, err = b.pool.Exec(ctx, `TRUNCATE log_tiles`)
	must(t, err)
	records := events.ArchivedRecordsIn(b.pool, dir)
	after, err := proof.NewProver(b.pool, records).Inclusion(ctx, 300, 1000)
	must(t, err)
	if !reflect.DeepEqual(before, after) {
		t.Errorf("the proof is %+v, and was %+v", after, before)
	}
	var first, second bytes.Buffer
	for i, out := range []*bytes.Buffer{&first, &second} {
		must(t, records.Range(ctx, events.Position(100*i+250), events.Position(100*i+300), func(r events.StoredRecord) error {
			out.Write(r.LeafHash)
			return nil
		}))
	}
	leaves, err := records.Leaves(ctx, 250, 400)
	must(t, err)
	if !bytes.Equal(leaves[:first.Len()], first.Bytes()) || !bytes.Equal(leaves[len(leaves)-second.Len():], second.Bytes()) || len(leaves) != 32*151 {
		t.Error("the leaves are others than those of the events")
	}
}
