package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/cmd/internal/bench"
)

// columns are those of the table events, in its order.
const columns = `position, version, recorded_at, event_id, schema, stream, type, salt, leaf_hash, metadata, payload`

// append1000 appends a thousand events at a time. The limit is COPY of the very rows that came of it, a thousand in a
// transaction, into the table of a twin database: the bytes are PostgreSQL's own, made before the clock starts, so that
// it pays for nothing but sending and storing them.
func append1000(ctx context.Context, b *run) ([]bench.Figure, error) {
	var figures []bench.Figure
	for _, variant := range []struct {
		bench      string
		callers    int
		repeatable bool
		floor      float64
	}{
		{"append_1000", 1, false, 0.70},
		{"append_1000_callers_4", 4, false, 0},
		{"append_1000_repeatable", 1, true, 0},
	} {
		log, err := b.log(ctx, variant.bench)
		if err != nil {
			return nil, err
		}
		defer log.close()
		twin, err := openTwin(ctx, b, variant.bench+"_twin")
		if err != nil {
			return nil, err
		}
		defer twin.close(ctx)
		f := bench.Figure{Bench: variant.bench, Unit: "events/s", Floor: variant.floor}
		f, err = bench.Alternate(f, b.rounds, func() (float64, error) {
			return log.append(ctx, log.source.prepare(b.appends, 1000, variant.repeatable), variant.callers)
		}, func() (float64, error) { return twin.copyNew(ctx, log) })
		if err != nil {
			return nil, err
		}
		if err := twin.requireSame(ctx, log); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// twin is a database with the same tables, into which rows are written plainly.
type twin struct {
	conn     *pgx.Conn
	position int64 // of the last row that was taken over
}

func openTwin(ctx context.Context, b *run, name string) (*twin, error) {
	pool, err := b.Database(ctx, name)
	if err != nil {
		return nil, err
	}
	pool.Close()
	conn, err := pgx.Connect(ctx, b.URLFor(name))
	return &twin{conn: conn}, err
}

func (t *twin) close(ctx context.Context) { t.conn.Close(context.WithoutCancel(ctx)) }

// copyNew takes over the rows that are new in the log and returns the rows per second of writing them.
func (t *twin) copyNew(ctx context.Context, log *testLog) (float64, error) {
	const each = 1000
	head, err := log.head(ctx)
	if err != nil {
		return 0, err
	}
	from, err := log.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer from.Release()
	var chunks [][]byte
	first := t.position
	for ; t.position < head; t.position = min(t.position+each, head) {
		var rows bytes.Buffer
		_, err := from.Conn().PgConn().CopyTo(ctx, &rows, fmt.Sprintf(
			`COPY (SELECT %s FROM events WHERE position > %d AND position <= %d ORDER BY position) TO STDOUT (FORMAT binary)`,
			columns, t.position, t.position+each))
		if err != nil {
			return 0, err
		}
		chunks = append(chunks, rows.Bytes())
	}
	begun := time.Now()
	for _, rows := range chunks {
		if _, err := t.conn.PgConn().CopyFrom(ctx, bytes.NewReader(rows), `COPY events (`+columns+`) FROM STDIN (FORMAT binary)`); err != nil {
			return 0, err
		}
	}
	return bench.PerSecond(int(head-first), begun), nil
}

// requireSame makes sure that both have written the same.
func (t *twin) requireSame(ctx context.Context, log *testLog) error {
	const query = `SELECT count(*)::text || ' ' || md5(string_agg(leaf_hash, '' ORDER BY position)) FROM events`
	var ours, its string
	if err := log.pool.QueryRow(ctx, query).Scan(&ours); err != nil {
		return err
	}
	if err := t.conn.QueryRow(ctx, query).Scan(&its); err != nil {
		return err
	}
	if ours != its {
		return fmt.Errorf("the log has written %s and its twin %s: what was measured is not the same", ours, its)
	}
	return nil
}
