package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"crossbill/cmd/internal/bench"
)

// search asks for pages of twenty over a full market, with words, a metro and a bandwidth, as people do. The limit runs
// the SQL of such a search without anything around it.
func search(ctx context.Context, r *run) ([]bench.Figure, error) {
	n, err := openNode(ctx, r, "search")
	if err != nil {
		return nil, err
	}
	defer n.close()
	m, err := n.openMarket(ctx)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := n.publish(ctx, m, r.listings); err != nil {
		return nil, err
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	r.Say("search: %d listings, published and on the market after %.0f s", r.listings, time.Since(begun).Seconds())
	// The statement is the same for all; what it asks for goes round the market.
	const recorded = "Amsterdam"
	target := func(base, metro string) string {
		query := url.Values{"q": {"low latency"}, "metro": {metro}, "bandwidth_mbps": {"1000"}, "limit": {"20"}}
		return base + "/v1/listings?" + query.Encode()
	}
	steps, err := n.tap.record(func() error {
		_, err := hit(ctx, 1, func(int) (*http.Request, error) { return get(target(n.server.URL, recorded), m.customerKey) })
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("search: the request ran no SQL")
	}
	limit, stop, err := bare(ctx, r.URLFor("search"), steps, lower(recorded), func(req *http.Request) string { return lower(req.URL.Query().Get("metro")) })
	if err != nil {
		return nil, err
	}
	defer stop()
	ask := func(base, key string) func() (float64, error) {
		return func() (float64, error) {
			return hit(ctx, r.requests/4, func(i int) (*http.Request, error) { return get(target(base, metros[i%len(metros)]), key) })
		}
	}
	f, err := bench.Alternate(bench.Figure{Bench: "search", Unit: "requests/s", Floor: 0.5}, r.rounds, ask(n.server.URL, m.customerKey), ask(limit.URL, ""))
	return []bench.Figure{f}, err
}
