package main

import (
	"context"
	"time"

	"crossbill/cmd/internal/bench"
)

// growth appends to a long log and to a short one. The long one is filled by appending, so that its tree, its streams
// and its partitions are what they would be; then its tables are rebuilt from it, for their memory.
func growth(ctx context.Context, b *run) ([]bench.Figure, error) {
	short, err := b.log(ctx, "growth_short")
	if err != nil {
		return nil, err
	}
	defer short.close()
	if err := short.fill(ctx, b.growSmall); err != nil {
		return nil, err
	}
	long, err := b.log(ctx, "growth_long")
	if err != nil {
		return nil, err
	}
	defer long.close()
	const steps = 5
	for range steps {
		begun := time.Now()
		if err := long.fill(ctx, b.growLarge/steps); err != nil {
			return nil, err
		}
		b.Say("growth: %d more events at %.0f events/s, load %s", b.growLarge/steps, bench.PerSecond(b.growLarge/steps, begun), bench.Load())
	}
	// What filling left to do would otherwise be done while one of the two is measured.
	for _, l := range []*testLog{short, long} {
		if _, err := l.pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
			return nil, err
		}
	}
	if _, err := long.pool.Exec(ctx, `CHECKPOINT`); err != nil {
		return nil, err
	}
	f, err := bench.Alternate(bench.Figure{Bench: "growth", Unit: "events/s", Floor: 0.8}, b.rounds,
		func() (float64, error) { return long.append(ctx, long.source.prepare(b.appends, 1000, false), 1) },
		func() (float64, error) { return short.append(ctx, short.source.prepare(b.appends, 1000, false), 1) })
	if err != nil {
		return nil, err
	}
	memory, err := rebuildMemory(ctx, b, long, "growth_long")
	return []bench.Figure{f, memory}, err
}
