package events

import (
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Rows read the same in PostgreSQL's binary format and as text, which is what a pool set to the simple protocol gets.
func TestScanBinaryAndText(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l, pool := openLog(t)
	many := make([]string, 3*smallPage)
	for i, stream := range []string{"note-a", "note-b", "note-a"} {
		a := one(stream, Any, []byte{byte(i + 1)}, append([]string{"first"}, many...)...)
		for j := range a.Streams[0].Events {
			a.Streams[0].Events[j].Metadata = Metadata{Actor: stream, Parties: []string{"org_a", stream}}
		}
		if _, err := l.Append(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	config := pool.Config()
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer simple.Close()
	for _, c := range []struct {
		pool   *pgxpool.Pool
		binary bool
	}{{pool, true}, {simple, false}} {
		rows, err := c.pool.Query(ctx, selectRecorded+`LIMIT $1`, 1) // without arguments pgx takes the simple protocol by itself
		if err != nil {
			t.Fatal(err)
		}
		if !rows.Next() || isBinary(rows, rows.RawValues()) != c.binary {
			t.Errorf("the rows' format is not as it should be: binary %v", c.binary)
		}
		rows.Close()
	}
	fast, err := l.ReadAll(ctx, 0, MaxRead)
	if err != nil || len(fast) != 3*(1+len(many)) {
		t.Fatalf("%d events, %v", len(fast), err)
	}
	slow, err := openOn(t, simple, Options{}).ReadAll(ctx, 0, MaxRead)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fast, slow) {
		t.Errorf("as text the events read otherwise:\n%+v\n%+v", fast[0], slow[0])
	}
	for _, r := range fast {
		if r.Metadata.Actor != r.Stream || r.RecordedAt.IsZero() || r.LeafHash == [32]byte{} || r.Salt == [16]byte{} {
			t.Fatalf("%+v", r)
		}
	}
}
