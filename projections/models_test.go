package projections_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"crossbill/projections"
)

// mintedIDs are ids that the log minted for events: each of the test's machines its own, as they are not copies of one log.
var mintedIDs = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// TestRebuild_SameBytes holds the promise of the whole design: the tables are a function of the log. They come back the
// same after a replay, and on another machine that has the same events.
func TestRebuild_SameBytes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	want := b.dump()
	for _, table := range allTables() {
		if !strings.Contains(want, "\n"+table+" (") {
			t.Errorf("the history leaves %s empty, so the test says nothing about it", table)
		}
	}

	b.truncate()
	b.project()
	if got := b.dump(); got != want {
		t.Errorf("a replay made other tables:\n%s", firstDifference(want, got))
	}

	other := newBench(t)
	other.recordHistory()
	other.project()
	if got, want := mintedIDs.ReplaceAllString(other.dump(), "id"), mintedIDs.ReplaceAllString(want, "id"); got != want {
		t.Errorf("another machine made other tables:\n%s", firstDifference(want, got))
	}
}

// TestApply_BatchesDoNotMatter applies the same log one event at a time, a few at a time and all at once.
func TestApply_BatchesDoNotMatter(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.applyInBatchesOf(1)
	want := b.dump()
	for _, size := range []int{2, 7, 50, len(b.after(0))} {
		b.truncate()
		b.applyInBatchesOf(size)
		if got := b.dump(); got != want {
			t.Errorf("batches of %d made other tables:\n%s", size, firstDifference(want, got))
		}
	}
}

// TestAll_OwnTables checks that the list of tables is the database's, and that a projection writes its own and no other.
func TestAll_OwnTables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rows, err := b.pool.Query(t.Context(), `SELECT tablename FROM pg_tables WHERE tablename LIKE 'read\_%' OR tablename LIKE 'ledger\_%' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	inDatabase, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if listed := allTables(); !slices.Equal(listed, inDatabase) {
		t.Errorf("Tables lists %v, the database has %v", listed, inDatabase)
	}
	if projections.Tables("no such model") != nil {
		t.Error("an unknown model has tables")
	}

	b.recordHistory()
	for _, p := range projections.All() {
		b.truncate()
		b.apply(p, b.after(0))
		for _, table := range allTables() {
			own := slices.Contains(projections.Tables(p.Name), table)
			if written := strings.Contains(b.dump(), "\n"+table+" ("); written != own {
				t.Errorf("%s: %s is its own: %v; it wrote it: %v", p.Name, table, own, written)
			}
		}
	}
}

func allTables() []string {
	var tables []string
	for _, p := range projections.All() {
		tables = append(tables, projections.Tables(p.Name)...)
	}
	slices.Sort(tables)
	return tables
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "want " + w[i] + "\ngot  " + g[i]
		}
	}
	return "one is longer"
}
