// Command bench-api measures the API against the least that could do the same work on the same private server: a bare
// net/http handler with the very SQL, COPY of the very rows, River's own inserts. It prints ratios, because a rate says as
// much about the machine as about the program; ours and the limit are measured in turns, in one process.
//
// It never touches a server that it did not make, and removes what it made. What the figures mean is in
// docs/performance.md. Start reading at [program], then in the file of a bench: search.go, lookup.go, ingest.go, order.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"crossbill/cmd/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

var program = bench.Program[*run]{
	Name: "bench-api", Dir: "build/bench-api", Rounds: 7,
	Benches: []bench.Bench[*run]{
		{Name: "search", Measure: search},
		{Name: "connection_lookup", Measure: connectionLookup},
		{Name: "usage_ingest", Measure: usageIngest},
		{Name: "order", Measure: order},
	},
	Open: func(server *bench.Server, rounds int, quick bool) (*run, error) {
		s := full
		if quick {
			s = small
		}
		s.rounds = rounds
		return &run{sizes: s, Server: server}, nil
	},
}

// run is one run of the benches.
type run struct {
	sizes
	*bench.Server
}

// sizes say how much is measured.
type sizes struct {
	rounds      int
	listings    int // on the market
	connections int // that are looked up
	requests    int // in each round of search and connection_lookup
	batches     int // of 1 000 readings, in each round of usage_ingest
	orders      int // in each round of order
}

var (
	full  = sizes{listings: 100_000, connections: 2_000, requests: 6_000, batches: 60, orders: 1_280}
	small = sizes{listings: 200, connections: 20, requests: 64, batches: 2, orders: 64}
)
