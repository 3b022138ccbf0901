// Command bench-log measures the log against what PostgreSQL itself can do with the same rows, on a private server with
// fsync on. It prints ratios, because a rate says as much about the machine as about the program: ours and the limit are
// measured in turns, in one process, on one server, and what disturbs one disturbs the other.
//
// It never touches a server or a log that it did not make, and removes what it made. What the figures mean is in
// docs/performance.md. Start reading at [program], then in the file of a bench: append1000.go, append1.go, replay.go,
// project.go, growth.go, memory.go.
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
	if url := os.Getenv(asRebuild); url != "" {
		code = rebuildHere(ctx, url, os.Stdout, os.Stderr)
	} else {
		code = program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

var program = bench.Program[*run]{
	Name: "bench-log", Dir: "build/bench-log", Rounds: 9,
	Benches: []bench.Bench[*run]{
		{Name: "append_1000", Measure: append1000},
		{Name: "append_1", Measure: append1},
		{Name: "replay", Measure: replayAndProject}, // with project
		{Name: "growth", Measure: growth},           // with the rebuild's memory
	},
	Open: func(server *bench.Server, rounds int, quick bool) (*run, error) {
		s := full
		if quick {
			s = small
		}
		s.rounds = rounds
		return newRun(s, server)
	},
}

// sizes say how much is measured.
type sizes struct {
	rounds    int
	appends   int // of 1 000 events, in each round of append_1000 and growth
	singles   int // events in each round of append_1
	replayed  int // events in the log of replay and project
	growSmall int // events in the logs of growth
	growLarge int
}

var (
	full  = sizes{appends: 40, singles: 12_800, replayed: 200_000, growSmall: 100_000, growLarge: 5_000_000}
	small = sizes{appends: 2, singles: 640, replayed: 4_000, growSmall: 2_000, growLarge: 6_000}
)
