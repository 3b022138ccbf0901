package projections_test

import (
	"testing"

	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/projections"
)

// TestRebuild_ThroughArchives archives all of the log that can be, and builds every read model anew from its first event.
func TestRebuild_ThroughArchives(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, sql := range []string{ // no event is there yet
		`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 4::bigint'`,
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		b.exec(sql)
	}
	b.recordHistory()
	b.project()
	want := b.dump()

	dir := t.TempDir()
	done, err := events.Archive(t.Context(), b.pool, events.ArchiveOptions{Dir: dir})
	if err != nil || len(done) < 5 {
		t.Fatalf("archived %d partitions, %v", len(done), err)
	}
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	if b.log, err = events.Open(t.Context(), b.pool, codec, events.Options{ArchiveDir: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.log.Close)
	for _, p := range projections.All() {
		if _, err := projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: b.pool, Log: b.log}); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	b.exec(`UPDATE read_usage SET bytes_in = bytes_in + 1`)
	b.rebuildAll()
	if got := b.dump(); got != want {
		t.Errorf("from archives the tables come out otherwise:\n%s", firstDifference(want, got))
	}
}
