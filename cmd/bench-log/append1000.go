package main

import (
	"context"

	"crossbill/cmd/internal/bench"
)

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
		twin, err := b.OpenTwin(ctx, variant.bench+"_twin")
		if err != nil {
			return nil, err
		}
		defer twin.Close(ctx)
		f := bench.Figure{Bench: variant.bench, Unit: "events/s", Floor: variant.floor}
		f, err = bench.Alternate(f, b.rounds, func() (float64, error) {
			return log.append(ctx, log.source.prepare(b.appends, 1000, variant.repeatable), variant.callers)
		}, func() (float64, error) { return twin.CopyNew(ctx, log.pool) })
		if err != nil {
			return nil, err
		}
		if err := twin.RequireSame(ctx, log.pool); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}
