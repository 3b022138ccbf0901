package main

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"

	"crossbill/cmd/internal/bench"
)

func lower(s string) string { return strings.ToLower(s) }

// connectionLookup reads connections one by one. The limit runs the SQL of such a read without anything around it.
func connectionLookup(ctx context.Context, r *run) ([]bench.Figure, error) {
	n, err := openNode(ctx, r, "connection_lookup")
	if err != nil {
		return nil, err
	}
	defer n.close()
	m, err := n.openMarket(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := n.connect(ctx, m, r.connections)
	if err != nil {
		return nil, err
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	target := func(base, id string) string { return base + "/v1/connections/" + id }
	steps, err := n.tap.record(func() error {
		_, err := hit(ctx, 1, func(int) (*http.Request, error) { return get(target(n.server.URL, ids[0]), m.customerKey) })
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("connection_lookup: the request ran no SQL")
	}
	limit, stop, err := bare(ctx, r.URLFor("connection_lookup"), steps, ids[0], func(req *http.Request) string { return path.Base(req.URL.Path) })
	if err != nil {
		return nil, err
	}
	defer stop()
	ask := func(base, key string) func() (float64, error) {
		return func() (float64, error) {
			return hit(ctx, r.requests, func(i int) (*http.Request, error) { return get(target(base, ids[i%len(ids)]), key) })
		}
	}
	f, err := bench.Alternate(bench.Figure{Bench: "connection_lookup", Unit: "requests/s", Floor: 0.5}, r.rounds, ask(n.server.URL, m.customerKey), ask(limit.URL, ""))
	return []bench.Figure{f}, err
}
