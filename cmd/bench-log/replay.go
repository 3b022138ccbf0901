package main

import (
	"context"
	"fmt"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/domain/reading"
	"crossbill/events"
)

// replayPage is how many events a replay reads at once, as many as a rebuild does.
const replayPage = 2000

// replayAndProject reads one log in both ways.
func replayAndProject(ctx context.Context, b *run) ([]bench.Figure, error) {
	log, err := b.log(ctx, "replay")
	if err != nil {
		return nil, err
	}
	defer log.close()
	if err := log.fill(ctx, b.replayed); err != nil {
		return nil, err
	}
	if _, err := log.pool.Exec(ctx, `VACUUM ANALYZE events`); err != nil {
		return nil, err
	}
	replay, err := bench.Alternate(bench.Figure{Bench: "replay", Unit: "events/s", Floor: 0.5}, b.rounds,
		func() (float64, error) { return log.replay(ctx, b.replayed) },
		func() (float64, error) { return log.readPlainly(ctx, b.replayed) })
	if err != nil {
		return nil, err
	}
	project, err := bench.Alternate(bench.Figure{Bench: "project", Unit: "events/s", Floor: 0.25}, b.rounds,
		func() (float64, error) { return log.project(ctx, b.replayed) },
		func() (float64, error) { return log.replay(ctx, b.replayed) })
	if err != nil {
		return nil, err
	}
	return []bench.Figure{replay, project}, nil
}

// replay reads the whole log and folds each event into the state of its stream.
func (l *testLog) replay(ctx context.Context, n int) (float64, error) {
	states := make(map[string]reading.State, streams)
	var after events.Position
	begun := time.Now()
	for {
		page, err := l.ReadAll(ctx, after, replayPage)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			r := &page[i]
			switch e := r.Event.(type) {
			case reading.Recorded:
				states[r.Stream] = reading.Evolve(states[r.Stream], e)
			default:
				return 0, fmt.Errorf("the event at %d is a %T", r.Position, e)
			}
		}
		after = page[len(page)-1].Position
	}
	rate, seen := bench.PerSecond(n, begun), int64(0)
	for _, s := range states {
		seen += s.Readings
	}
	if seen != int64(n) {
		return 0, fmt.Errorf("%d events were replayed, not %d", seen, n)
	}
	return rate, nil
}

// readPlainly reads the same rows with one statement into variables.
func (l *testLog) readPlainly(ctx context.Context, n int) (float64, error) {
	var (
		position, version, last       int64
		recordedAt                    time.Time
		id                            [16]byte
		schema                        int32
		stream, eventType             string
		salt, leaf, metadata, payload []byte
	)
	begun, seen := time.Now(), 0
	rows, err := l.pool.Query(ctx, `SELECT `+bench.Columns+` FROM events WHERE position > $1 ORDER BY position`, last)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&position, &version, &recordedAt, &id, &schema, &stream, &eventType, &salt, &leaf, &metadata, &payload); err != nil {
			return 0, err
		}
		seen++
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if seen != n {
		return 0, fmt.Errorf("%d rows were read, not %d", seen, n)
	}
	return bench.PerSecond(n, begun), nil
}
