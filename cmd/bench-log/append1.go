package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/cmd/internal/bench"
)

// callers is how many append single events at once.
const callers = 64

// append1 appends single events from many callers. The limit is as many connections with a prepared INSERT of the same
// rows each, every row a transaction, into the table of a twin database.
func append1(ctx context.Context, b *run) ([]bench.Figure, error) {
	log, err := b.log(ctx, "append_1")
	if err != nil {
		return nil, err
	}
	defer log.close()
	twin, err := b.OpenTwin(ctx, "append_1_twin")
	if err != nil {
		return nil, err
	}
	defer twin.Close(ctx)
	var conns []*pgx.Conn
	for range callers {
		conn, err := pgx.ConnectConfig(ctx, twin.Conn.Config())
		if err != nil {
			return nil, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		conns = append(conns, conn)
	}
	f, err := bench.Alternate(bench.Figure{Bench: "append_1", Unit: "events/s", Floor: 1.3}, b.rounds, func() (float64, error) {
		return log.append(ctx, log.source.prepare(b.singles, 1, false), callers)
	}, func() (float64, error) { return insertNew(ctx, twin, log, conns) })
	if err != nil {
		return nil, err
	}
	var flushes float64
	if err := log.pool.QueryRow(ctx, `SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'log_head'`).Scan(&flushes); err != nil {
		return nil, err
	}
	if flushes > 0 { // the statistics come late, and not at all after a short run
		b.Say("append_1: %.0f events in a flush", float64(twin.Position)/flushes)
	}
	return []bench.Figure{f}, twin.RequireSame(ctx, log.pool)
}

// insertNew takes over the rows that are new in the log, one a transaction, and returns the rows per second.
func insertNew(ctx context.Context, t *bench.Twin, log *testLog, conns []*pgx.Conn) (float64, error) {
	rows, err := log.pool.Query(ctx, `SELECT `+bench.Columns+` FROM events WHERE position > $1 ORDER BY position`, t.Position)
	if err != nil {
		return 0, err
	}
	type row struct {
		Position, Version                 int64
		RecordedAt                        time.Time
		EventID                           [16]byte
		Schema                            int32
		Stream, Type                      string
		Salt, LeafHash, Metadata, Payload []byte
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("the log has nothing new")
	}
	begun := time.Now()
	err = together(len(conns), func(n int) error {
		for i := n; i < len(all); i += len(conns) {
			r := &all[i]
			_, err := conns[n].Exec(ctx, `INSERT INTO events (`+bench.Columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
				r.Position, r.Version, r.RecordedAt, r.EventID, r.Schema, r.Stream, r.Type, r.Salt, r.LeafHash, r.Metadata, r.Payload)
			if err != nil {
				return err
			}
		}
		return nil
	})
	t.Position = all[len(all)-1].Position
	return bench.PerSecond(len(all), begun), err
}
