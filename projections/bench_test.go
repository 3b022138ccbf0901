package projections_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

type bench struct {
	*testing.T
	pool *pgxpool.Pool
	q    projections.Queries
	mem  []events.Recorded
	vers map[string]int64
	done int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	pool := pgtest.New(t)
	return &bench{T: t, pool: pool, q: projections.Queries{DB: pool}, vers: map[string]int64{}}
}

func (b *bench) record(stream string, facts ...domain.Event) events.Position {
	b.Helper()
	for _, f := range facts {
		b.vers[stream]++
		data, err := json.Marshal(f)
		if err != nil {
			b.Fatal(err)
		}
		v := reflect.New(reflect.TypeOf(f))
		if err := json.Unmarshal(data, v.Interface()); err != nil {
			b.Fatal(err)
		}
		b.mem = append(b.mem, events.Recorded{Position: events.Position(len(b.mem) + 1), Stream: stream, Version: b.vers[stream], Type: f.EventType(), Event: v.Elem().Interface().(domain.Event)})
	}
	return events.Position(len(b.mem))
}

func (b *bench) all() []events.Recorded { return b.mem }

func (b *bench) project() {
	b.Helper()
	for _, p := range projections.All() {
		b.apply(p, b.mem[b.done:])
	}
	b.done = len(b.mem)
}

// applyInBatchesOf applies the whole log to every read model, past the runner.
func (b *bench) applyInBatchesOf(size int) {
	b.Helper()
	for _, p := range projections.All() {
		for rest := b.all(); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			b.apply(p, rest[:min(size, len(rest))])
		}
	}
}

func (b *bench) apply(p projections.Projection, batch []events.Recorded) {
	b.Helper()
	if err := b.try(p, batch); err != nil {
		b.Fatalf("%s: %v", p.Name, err)
	}
}

func (b *bench) try(p projections.Projection, batch []events.Recorded) error {
	b.Helper()
	return pgx.BeginFunc(b.Context(), b.pool, func(tx pgx.Tx) error { return p.Apply(b.Context(), tx, batch) })
}

// truncate empties every read model and makes its projection begin again.
func (b *bench) truncate() {
	b.Helper()
	b.exec(`TRUNCATE ` + strings.Join(allTables(), ", "))
	b.done = 0
}

func (b *bench) exec(sql string, args ...any) {
	b.Helper()
	if _, err := b.pool.Exec(b.Context(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

// dump is every row of every read model as text, "table (values)", in order.
func (b *bench) dump() string {
	b.Helper()
	var out strings.Builder
	for _, table := range allTables() {
		rows, err := b.pool.Query(b.Context(), fmt.Sprintf(`SELECT r::text FROM %s AS r ORDER BY r::text COLLATE "C"`, table))
		if err != nil {
			b.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			b.Fatal(err)
		}
		for _, line := range lines {
			out.WriteString("\n" + table + " " + line)
		}
	}
	return out.String()
}
