package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/cmd/internal/bench"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/projections"
)

// asRebuild holds the database that a process which this program starts of itself is to rebuild from. Its memory is its
// own then, and not that of the benches before it.
const asRebuild = "CROSSBILL_BENCH_REBUILD"

// memoryLimit is what a rebuild may have resident at most, in MB of 10^6 bytes.
const memoryLimit = 200

// rebuilt is what such a process says at its end.
type rebuilt struct {
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
	PeakKB  int64   `json:"peak_kb"` // VmHWM
}

// rebuildMemory rebuilds the read model of readings from a log in a process of its own.
func rebuildMemory(ctx context.Context, b *run, log *testLog, name string) (bench.Figure, error) {
	head, err := log.head(ctx)
	if err != nil {
		return bench.Figure{}, err
	}
	r, err := bench.Self[rebuilt](ctx, asRebuild, b.URLFor(name))
	if err != nil {
		return bench.Figure{}, err
	}
	var rows int64
	if err := log.pool.QueryRow(ctx, `SELECT count(*) FROM read_readings`).Scan(&rows); err != nil {
		return bench.Figure{}, err
	}
	if r.Events != head || rows != head {
		return bench.Figure{}, fmt.Errorf("the log has %d events; %d were applied, and the table has %d rows", head, r.Events, rows)
	}
	peak := float64(r.PeakKB) * 1024 / 1e6
	b.Say("rebuild: %d events in %.0f s, %.0f events/s; peak resident memory %.0f MB", r.Events, r.Seconds, float64(r.Events)/r.Seconds, peak)
	return bench.Figure{Bench: "rebuild_memory", Unit: "MB", Ours: []float64{peak}, Limit: []float64{memoryLimit}, Ceiling: 1}, nil
}

// rebuildHere is the process that rebuilds.
func rebuildHere(ctx context.Context, url string, stdout, stderr io.Writer) (exitCode int) {
	r, err := rebuild(ctx, url)
	return bench.Say(stdout, stderr, r, err)
}

func rebuild(ctx context.Context, url string) (r rebuilt, err error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return r, err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return r, err
	}
	defer pool.Close()
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		return r, err
	}
	defer log.Close()
	p, err := usage()
	if err != nil {
		return r, err
	}
	begun := time.Now()
	position, err := projections.Rebuild(ctx, p, projections.RebuildOptions{Pool: pool, Log: log})
	if err != nil {
		return r, err
	}
	r.Events, r.Seconds = int64(position), time.Since(begun).Seconds()
	r.PeakKB, err = bench.PeakResident()
	return r, err
}
