package events

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

// tenant reads as an organisation, as the API's door does: a transaction for each query.
type tenant struct {
	pool         *pgxpool.Pool
	organisation string
}

type tenantRows struct {
	pgx.Rows
	tx pgx.Tx
}

func (r tenantRows) Close() {
	r.Rows.Close()
	r.tx.Rollback(context.Background())
}

func (d tenant) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx, err := d.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `SELECT set_config('role', 'crossbill_tenant', true), set_config('crossbill.viewer', $1, true)`, d.organisation); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, sql, args...)
	return tenantRows{rows, tx}, err
}

func viewOf(l *Log, organisation string) View {
	return l.View(tenant{l.pool, organisation}, func(m Metadata) bool {
		return organisation == "operator" || slices.Contains(m.Parties, organisation)
	})
}

// addFor appends an event that the organisations may see.
func addFor(t testing.TB, l *Log, stream, text string, parties ...string) {
	t.Helper()
	mustAppend(t, l, Append{Streams: []StreamAppend{{Stream: stream, Expected: Any, Events: []NewEvent{{
		Event: noted{text}, Metadata: Metadata{Actor: `"org_c" \"org_c\"`, Correlation: "org_c", Parties: parties},
	}}}}})
}

// seen is what [Load] makes of a stream for somebody: its texts.
func seen(v View, stream string) string {
	all, version, err := Load(context.Background(), v, stream, func(s []string, e domain.Event) []string { return append(s, e.(noted).Text) })
	if err != nil {
		return string(domain.CodeOf(err))
	}
	return fmt.Sprint(version, all)
}

// TestView looks at streams whose events are in archives, in the table and in both, as their party, as another and as an
// operator. Where they are makes no difference; partitions that are made later are no exception.
func TestView(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
	for i := range 6 {
		addFor(t, l, "note-ab", fmt.Sprint(i), "org_a", "org_b")
		addFor(t, l, "note-b", fmt.Sprint(i), "org_b")
		addFor(t, l, "note-none", fmt.Sprint(i))
		addFor(t, l, "note-late", fmt.Sprint(i), []string{"org_b", "org_a"}[:1+i/3]...) // org_a from the fourth on
	}
	addFor(t, l, "note-gap", "0", "org_a")
	addFor(t, l, "note-gap", "1", "org_b")
	addFor(t, l, "note-gap", "2", "org_a")
	all := "6 [0 1 2 3 4 5]"
	check := func(when string, l *Log) {
		t.Helper()
		for who, want := range map[string]map[string]string{
			"org_a":    {"note-ab": all, "note-gap": "internal"},
			"org_b":    {"note-ab": all, "note-b": all, "note-late": all, "note-gap": "0 []"},
			"org_c":    {},
			"":         {},
			"operator": {"note-ab": all, "note-b": all, "note-none": all, "note-late": all, "note-gap": "3 [0 1 2]"},
		} {
			v := viewOf(l, who)
			for _, stream := range []string{"note-ab", "note-b", "note-none", "note-late", "note-gap", "note-nothing"} {
				wanted := want[stream]
				if wanted == "" {
					wanted = "0 []"
				}
				if got := seen(v, stream); got != wanted {
					t.Errorf("%s, %q sees %s of %s, want %s", when, who, got, stream, wanted)
				}
			}
		}
		positions := []Position{1, 2, 3, 4, 16, 24, 25, 26, 27, 99}
		for who, want := range map[string]string{"org_a": "[1 16 24 25 27]", "org_b": "[1 2 4 16 24 26]", "org_c": "[]", "operator": "[1 2 3 4 16 24 25 26 27]"} {
			visible, err := viewOf(l, who).Visible(t.Context(), positions)
			if got := strings.ReplaceAll(fmt.Sprint(visible), "<nil>", "[]"); err != nil || got != want {
				t.Errorf("%s, %q sees the positions %s, want %s: %v", when, who, got, want, err)
			}
		}
	}
	check("in the table", l)
	mustArchive(t, pool, ArchiveOptions{Dir: dir, Before: 17, KeepPartitions: 1})
	if archives, end := l.archives.all(); end != 0 {
		t.Fatalf("the log knows of %d archives, and was to find out", len(archives))
	}
	check("half archived", l)
	mustArchive(t, pool, ArchiveOptions{Dir: dir})
	check("archived", l)
	check("archived, to another node", openOn(t, pool, Options{ArchiveDir: dir}))

	// Pages: a stream that is longer than one, from either place.
	for i := range 40 {
		addFor(t, l, "note-long", fmt.Sprint(i), "org_a")
	}
	mustArchive(t, pool, ArchiveOptions{Dir: dir, KeepPartitions: 2})
	for _, limit := range []int{1, 3, 39, 40, 100} {
		var texts []string
		v := viewOf(l, "org_a")
		for after := int64(0); ; {
			page, more, err := v.readStream(t.Context(), "note-long", after, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d events of %d: %v", len(page), limit, err)
			}
			for _, r := range page {
				texts, after = append(texts, r.Event.(noted).Text), r.Version
			}
			if !more || len(page) == 0 {
				break
			}
		}
		if len(texts) != 40 || texts[39] != "39" || !slices.Equal(texts[:3], []string{"0", "1", "2"}) {
			t.Errorf("in pages of %d: %v", limit, texts)
		}
	}
}
