// Command bench-billing measures billing against the least that could do the same, on a private server with fsync on: a
// percentile against sorting its numbers, a run against a loop that reads the same rows and inserts the same invoices, and a
// run over many connections against one over few. Ours and the limit are measured in turns.
//
// It never touches a server that it did not make, and removes what it made. What the figures mean is in
// docs/performance.md. Start reading at [program].
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
	var code int
	if url := os.Getenv(asRun); url != "" {
		said, err := runHere(ctx, url)
		code = bench.Say(os.Stdout, os.Stderr, said, err)
	} else {
		code = program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

var program = bench.Program[*run]{
	Name: "bench-billing", Dir: "build/bench-billing", Rounds: 3,
	Benches: []bench.Bench[*run]{
		{Name: "rate_p95", Measure: rateP95},
		{Name: "invoice_run", Measure: invoiceRun},       // with its memory
		{Name: "invoice_growth", Measure: invoiceGrowth}, // likewise
	},
	Open: func(server *bench.Server, rounds int, quick bool) (*run, error) {
		s := full
		if quick {
			s = small
		}
		s.rounds = rounds
		return &run{Server: server, sizes: s}, nil
	},
}

// sizes say how much is measured.
type sizes struct {
	rounds      int
	percentiles int // in each round of rate_p95
	connections int // of invoice_run
	few, many   int // connections of invoice_growth
}

var (
	full  = sizes{percentiles: 500, connections: 10_000, few: 1_000, many: 100_000}
	small = sizes{percentiles: 5, connections: 60, few: 30, many: 60}
)

// run is what a bench is given.
type run struct {
	*bench.Server
	sizes
}
