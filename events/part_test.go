package events

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events/pgtest"
)

// TestReading reads in the ways that Message DB names: a stream, a category, by correlation, each from a position on and
// so many at most. (Its positions in a stream count from 0 and are the first to return; ours are the last not to.)
func TestReading(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	for i, e := range []struct{ stream, correlation string }{
		{"note-1", ""}, {"note-2", "case-a"}, {"memo-1", "case-a"}, {"note-1", "case-b"}, {"note:command-1", "case-a"},
		{"note-1", "other-a"}, {"note-3", "case"}, {"note-2", "cases-a"}, {"note-2+x", "case-a"}, {"notes-1", "case-a"},
	} {
		a := one(e.stream, Any, nil, fmt.Sprint(i+1)) // the text is the position
		a.Streams[0].Events[0].Metadata.Correlation = e.correlation
		mustAppend(t, l, a)
	}
	stream := func(name string, after int64, limit int) ([]Recorded, error) {
		return l.ReadStream(t.Context(), name, after, limit)
	}
	category := func(name string, after Position, limit int) ([]Recorded, error) {
		return l.ReadCategory(t.Context(), name, after, limit)
	}
	correlated := func(name, with string, after Position, limit int) ([]Recorded, error) {
		return l.ReadPart(t.Context(), name, Part{Correlation: with}, after, limit)
	}
	for name, c := range map[string]struct {
		read func() ([]Recorded, error)
		want string
	}{
		"a stream":                             {func() ([]Recorded, error) { return stream("note-1", 0, 10) }, "1 4 6"},
		"a stream from a version on":           {func() ([]Recorded, error) { return stream("note-1", 1, 10) }, "4 6"},
		"so many of a stream":                  {func() ([]Recorded, error) { return stream("note-1", 0, 2) }, "1 4"},
		"one from the middle of a stream":      {func() ([]Recorded, error) { return stream("note-1", 1, 1) }, "4"},
		"a stream from before its beginning":   {func() ([]Recorded, error) { return stream("note-1", -5, 10) }, "1 4 6"},
		"a stream past its end":                {func() ([]Recorded, error) { return stream("note-1", 3, 10) }, ""},
		"a stream that is not there":           {func() ([]Recorded, error) { return stream("note-9", 0, 10) }, ""},
		"a stream whose name begins another's": {func() ([]Recorded, error) { return stream("note-2", 0, 10) }, "2 8"},
		"a category":                           {func() ([]Recorded, error) { return category("note", 0, 10) }, "1 2 4 6 7 8 9"},
		"a category from a position on":        {func() ([]Recorded, error) { return category("note", 4, 10) }, "6 7 8 9"},
		"from another category's position on":  {func() ([]Recorded, error) { return category("note", 3, 10) }, "4 6 7 8 9"},
		"so many of a category":                {func() ([]Recorded, error) { return category("note", 0, 3) }, "1 2 4"},
		"so many from a position on":           {func() ([]Recorded, error) { return category("note", 4, 2) }, "6 7"},
		"a category from before its beginning": {func() ([]Recorded, error) { return category("note", -5, 2) }, "1 2"},
		"a category past its end":              {func() ([]Recorded, error) { return category("note", 9, 10) }, ""},
		"a category that is not there":         {func() ([]Recorded, error) { return category("not", 0, 10) }, ""},
		"a category with a kind":               {func() ([]Recorded, error) { return category("note:command", 0, 10) }, "5"},
		"no category":                          {func() ([]Recorded, error) { return category("", 0, 10) }, ""},
		"a stream's name for a category":       {func() ([]Recorded, error) { return category("note-1", 0, 10) }, ""},
		"correlated with a category":           {func() ([]Recorded, error) { return correlated("note", "case", 0, 10) }, "2 4 7 9"},
		"correlated with a stream":             {func() ([]Recorded, error) { return correlated("note", "case-a", 0, 10) }, "2 9"},
		"correlated, from a position on":       {func() ([]Recorded, error) { return correlated("note", "case", 2, 10) }, "4 7 9"},
		"so many correlated":                   {func() ([]Recorded, error) { return correlated("note", "case", 0, 2) }, "2 4"},
		"correlated, in another category":      {func() ([]Recorded, error) { return correlated("memo", "case", 0, 10) }, "3"},
		"correlated with nothing there is":     {func() ([]Recorded, error) { return correlated("note", "cas", 0, 10) }, ""},
	} {
		page, err := c.read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, r := range page {
			if got = append(got, r.Event.(noted).Text); got[len(got)-1] != fmt.Sprint(r.Position) {
				t.Errorf("%s: event %s is said to be at %d", name, got[len(got)-1], r.Position)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// TestGroups shares a category between the members of groups of several sizes: each event is one member's, each stream
// is always the same one's, and so are streams whose ids begin alike, in any category. Events in archives and in the
// table are shared alike.
func TestGroups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 512, Options{ArchiveDir: dir})
	const streams = 60
	for i := range 1500 {
		category := []string{"note", "memo"}[i%2]
		name := fmt.Sprintf("%s-%d", category, i/2%streams)
		if i%5 == 0 {
			name += fmt.Sprintf("+%d-ü", i%10)
		}
		a := one(name, Any, nil, fmt.Sprint(i))
		a.Streams[0].Events[0].Metadata.Correlation = fmt.Sprintf("case-%d", i%3)
		if _, err := l.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	read := func(category string, part Part) (all []Recorded) {
		for after := Position(0); ; {
			page, err := l.ReadPart(t.Context(), category, part, after, 70)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return all
			}
			all, after = append(all, page...), page[len(page)-1].Position
		}
	}
	before := map[Part]string{}
	for _, archived := range []bool{false, true} {
		if archived && len(mustArchive(t, pool, ArchiveOptions{Dir: dir})) == 0 {
			t.Fatal("nothing was archived")
		}
		for _, group := range []int{1, 2, 3, 7} {
			owner := map[string]int{} // by cardinal id
			for _, category := range []string{"note", "memo"} {
				var together []Position
				for member := range group {
					mine := read(category, Part{Group: group, Member: member})
					if len(mine) == 0 && group < 7 {
						t.Errorf("member %d of %d has nothing to do", member, group)
					}
					for i, r := range mine {
						cardinal, _, _ := strings.Cut(strings.SplitN(r.Stream, "-", 2)[1], "+")
						if other, owned := owner[cardinal]; owned && other != member {
							t.Fatalf("%s is member %d's, and events of its id are %d's", r.Stream, member, other)
						}
						if owner[cardinal] = member; i > 0 && r.Position <= mine[i-1].Position {
							t.Fatalf("position %d after %d", r.Position, mine[i-1].Position)
						}
						together = append(together, r.Position)
					}
				}
				slices.Sort(together)
				if want := positions(read(category, Part{})); !slices.Equal(together, want) {
					t.Errorf("%d members of %s read %d of %d events", group, category, len(together), len(want))
				}
			}
		}
		for _, part := range []Part{{Group: 3, Member: 1}, {Correlation: "case-2"}, {Group: 3, Member: 2, Correlation: "case"}, {Group: 2, Correlation: "case-1"}} {
			var want []Position
			for _, r := range read("memo", Part{}) {
				if part.has(r) {
					want = append(want, r.Position)
				}
			}
			got := positions(read("memo", part))
			if len(got) == 0 || !slices.Equal(got, want) {
				t.Errorf("%+v, archived %t: %d events, want %d", part, archived, len(got), len(want))
			}
			if b := fmt.Sprint(got); before[part] != "" && before[part] != b {
				t.Errorf("%+v: reading archives gives other events than the table did", part)
			} else {
				before[part] = b
			}
		}
	}
	for _, part := range []Part{{Group: -1}, {Group: MaxGroup + 1}, {Group: 2, Member: 2}, {Group: 2, Member: -1}, {Member: 1}} {
		_, err := l.ReadPart(t.Context(), "note", part, 0, 1)
		requireCode(t, err, domain.Invalid)
	}
}

func positions(page []Recorded) (all []Position) {
	for _, r := range page {
		all = append(all, r.Position)
	}
	return all
}

// TestMemberOf pins whose streams are: members that are at different events must not exchange streams.
func TestMemberOf(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]int{"note-1": 182, "note-2": 902, "memo-2+x": 902, "note-ü": 314} {
		if got := memberOf(stream, 1000); got != want {
			t.Errorf("%s is member %d's, want %d", stream, got, want)
		}
	}
}

// TestPartsUseTheIndex wants PostgreSQL to go along the category's index from the position on, and to sort nothing.
func TestPartsUseTheIndex(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	// As many rows as it takes for the planner to see a difference, past the log: what they say does not matter here.
	if _, err := pool.Exec(t.Context(), `
		INSERT INTO events
		SELECT i, 1, now(), gen_random_uuid(), 1, CASE WHEN i % 20 = 0 THEN 'memo-' ELSE 'note-' END || i, 'test.noted',
		       '\x00', '\x00', convert_to('{"correlation":"case-1"}', 'UTF8'), '\x00'
		  FROM generate_series(1, 60000) i
	`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `ANALYZE events`); err != nil {
		t.Fatal(err)
	}
	for _, part := range []Part{{}, {Group: 4, Member: 1}, {Correlation: "case"}, {Group: 4, Member: 1, Correlation: "case"}} {
		sql, args := part.query("memo", 2000, 20)
		rows, _ := pool.Query(context.Background(), `EXPLAIN (COSTS OFF) `+sql, args...)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(lines, "\n")
		for _, want := range []string{"Index Scan using events_p00000_split_part_position_idx", `Index Cond: ((split_part(stream, '-'::text, 1) = 'memo'::text) AND ("position" > '2000'::bigint))`} {
			if !strings.Contains(plan, want) {
				t.Errorf("%+v: the plan lacks %s:\n%s", part, want, plan)
			}
		}
		if strings.Contains(plan, "Sort") {
			t.Errorf("%+v: the plan sorts:\n%s", part, plan)
		}
	}
}
