package projections_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// patience is how long the read models may take to follow a test's events, on a machine busy with other tests.
const patience = time.Minute

// bench is a log in a database of the test's own, and the read models beside it.
type bench struct {
	*testing.T
	pool *pgxpool.Pool
	log  *events.Log
	q    projections.Queries
}

func newBench(t *testing.T) *bench {
	t.Helper()
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.New(t)
	log, err := events.Open(t.Context(), pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return &bench{T: t, pool: pool, log: log, q: projections.Queries{DB: pool}}
}

// record appends events to a stream and returns the position of the last.
func (b *bench) record(stream string, facts ...domain.Event) events.Position {
	b.Helper()
	return b.recordFor(nil, stream, facts...)
}

// recordFor is record for events that name who may see them.
func (b *bench) recordFor(parties []string, stream string, facts ...domain.Event) events.Position {
	b.Helper()
	a := events.StreamAppend{Stream: stream, Expected: events.Any}
	for _, fact := range facts {
		a.Events = append(a.Events, events.NewEvent{Event: fact, Metadata: events.Metadata{Parties: parties}})
	}
	result, err := b.log.Append(b.Context(), events.Append{Streams: []events.StreamAppend{a}})
	if err != nil {
		b.Fatal(err)
	}
	return result.Last
}

// after returns the log past a position, as far as one read goes; the tests' logs are no longer.
func (b *bench) after(position events.Position) []events.Recorded {
	b.Helper()
	batch, err := b.log.ReadAll(b.Context(), position, events.MaxRead)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// project runs the runner until every read model, or those given, are at the end of the log.
func (b *bench) project(only ...projections.Projection) {
	b.Helper()
	if len(only) == 0 {
		only = projections.All()
	}
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: b.pool, Log: b.log, Projections: only})
	if err != nil {
		b.Fatal(err)
	}
	head, err := b.log.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { runner.Run(ctx) })
	err = runner.WaitFor(ctx, head.Position)
	cancel()
	running.Wait()
	if err != nil {
		b.Fatal(err)
	}
}

// applyInBatchesOf applies the whole log to every read model, past the runner.
func (b *bench) applyInBatchesOf(size int) {
	b.Helper()
	for _, p := range projections.All() {
		for rest := b.after(0); len(rest) > 0; rest = rest[min(size, len(rest)):] {
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
	b.exec(`DELETE FROM subscriptions`)
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
