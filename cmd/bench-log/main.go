// Command bench-log measures the log against what PostgreSQL itself can do with the same rows, on a private server with
// fsync on. It prints ratios, because a rate says as much about the machine as about the program: ours and the limit are
// measured in turns, in one process, on one server, and what disturbs one disturbs the other.
//
// It never touches a server or a log that it did not make, and removes what it made. What the figures mean is in
// docs/performance.md. Start reading at [run], then in the file of a bench: append1000.go, append1.go, replay.go,
// project.go, growth.go, memory.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	if url := os.Getenv(asRebuild); url != "" {
		return rebuildHere(ctx, url, stdout, stderr)
	}
	flags := flag.NewFlagSet("bench-log", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "small sizes: shows that it runs, measures nothing")
	enforce := flags.Bool("enforce", false, "exit with 2 if a figure misses its floor")
	dir := flags.String("data-dir", "build/bench-log", "where the server's files are meanwhile; needs 10 GB")
	only := flags.String("only", "", "one of append_1000, append_1, replay (with project), growth (with the rebuild's memory); empty: all")
	rounds := flags.Int("rounds", 0, "how often each is measured in turn (default 9; 3 with -quick)")
	profile := flags.String("cpuprofile", "", "write a CPU profile of this process, the clients' half of the work, to a file")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 1
	}
	s := full
	if *quick {
		s = small
	}
	if *rounds > 0 {
		s.rounds = *rounds
	}
	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			fmt.Fprintln(stderr, "bench-log:", err)
			return 1
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			fmt.Fprintln(stderr, "bench-log:", err)
			return 1
		}
		defer pprof.StopCPUProfile()
	}
	figures, err := measureAll(ctx, s, *only, *dir, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "bench-log:", err)
		return 1
	}
	missed, err := report(stdout, figures)
	if err != nil {
		fmt.Fprintln(stderr, "bench-log:", err)
		return 1
	}
	if *enforce && missed > 0 {
		fmt.Fprintf(stderr, "bench-log: %d of %d figures miss what they should reach\n", missed, len(figures))
		return 2
	}
	return 0
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
	full  = sizes{rounds: 9, appends: 40, singles: 12_800, replayed: 200_000, growSmall: 100_000, growLarge: 5_000_000}
	small = sizes{rounds: 3, appends: 2, singles: 640, replayed: 4_000, growSmall: 2_000, growLarge: 6_000}
)

// benches are what is measured, in this order.
var benches = []struct {
	name    string
	measure func(context.Context, *bench) ([]figure, error)
}{
	{"append_1000", append1000},
	{"append_1", append1},
	{"replay", replayAndProject},
	{"growth", growth},
}

func measureAll(ctx context.Context, s sizes, only, dir string, progress io.Writer) ([]figure, error) {
	b, err := openBench(ctx, s, dir, progress)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var figures []figure
	for _, m := range benches {
		if only != "" && m.name != only {
			continue
		}
		some, err := m.measure(ctx, b)
		if err != nil {
			return nil, err
		}
		for _, f := range some {
			b.say("%s: %.2f, load %s", f.bench, f.ratio(), load())
		}
		figures = append(figures, some...)
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("there is no bench %q", only)
	}
	return figures, nil
}
