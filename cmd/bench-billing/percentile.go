package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"crossbill/billing/rating"
	"crossbill/cmd/internal/bench"
	"crossbill/domain"
	"crossbill/domain/pricing"
)

var april = rating.Interval{From: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}

func burst() pricing.Plan {
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burstable bandwidth", CommitMbps: 100, CommitPrice: domain.MustDecimal("2.00"), OveragePrice: domain.MustDecimal("3.00")},
	}}
}

// rateP95 rates a connection-month of 8 640 buckets, filled one by one and rated to items with their arithmetic, against
// sorting the same numbers.
func rateP95(_ context.Context, b *run) ([]bench.Figure, error) {
	r := rand.New(rand.NewPCG(95, 1))
	n := int(april.Seconds() / int64(rating.BucketLength/time.Second))
	in, out := make([]int64, n), make([]int64, n)
	for i := range n {
		in[i], out[i] = r.Int64N(20_000_000_000), r.Int64N(4_000_000_000)
	}
	f, err := bench.Alternate(bench.Figure{Bench: "rate_p95", Unit: "connection-months/s"}, b.rounds, func() (float64, error) {
		begun := time.Now()
		for range b.percentiles {
			buckets := rating.NewBuckets(april)
			for i := range n {
				if err := buckets.AddBucket(i, in[i], out[i]); err != nil {
					return 0, err
				}
			}
			_, err := rating.Rate(rating.Input{
				ConnectionID: "con_bench", Plan: burst(), BandwidthMbps: 100, Period: april, Billable: april,
				Percentile: buckets.Percentile([]rating.Interval{april}),
			})
			buckets.Discard()
			if err != nil {
				return 0, err
			}
		}
		return bench.PerSecond(b.percentiles, begun), nil
	}, func() (float64, error) {
		begun := time.Now()
		for range b.percentiles {
			slices.Sort(slices.Clone(in))
			slices.Sort(slices.Clone(out))
		}
		return bench.PerSecond(b.percentiles, begun), nil
	})
	return []bench.Figure{f}, err
}
