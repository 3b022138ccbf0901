package bench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
)

// Bench is one of a program's benches. It may find several figures.
type Bench[Run any] struct {
	Name    string
	Measure func(context.Context, Run) ([]Figure, error)
}

// Program is a command that measures a list of benches and reports them.
type Program[Run any] struct {
	Name    string
	Dir     string // where the server's files are meanwhile, unless a flag says otherwise
	Benches []Bench[Run]
	Rounds  int // how often each is measured in turn
	// Open prepares a run. quick asks for sizes that show that it runs and measure nothing.
	Open func(server *Server, rounds int, quick bool) (Run, error)
}

// quickRounds is for showing that it runs.
const quickRounds = 3

// Run is main without the process around it. Its exit code is 1 for an error and, where that is asked for, 2 for a figure
// that misses what it should reach.
func (p Program[Run]) Run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	var names []string
	for _, b := range p.Benches {
		names = append(names, b.Name)
	}
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "small sizes: shows that it runs, measures nothing")
	enforce := flags.Bool("enforce", false, "exit with 2 if a figure misses its floor")
	dir := flags.String("data-dir", p.Dir, "where the server's files are meanwhile; needs 10 GB")
	only := flags.String("only", "", "one of "+strings.Join(names, ", ")+"; empty: all")
	rounds := flags.Int("rounds", 0, fmt.Sprintf("how often each is measured in turn (default %d; %d with -quick)", p.Rounds, quickRounds))
	profile := flags.String("cpuprofile", "", "write a CPU profile of this process to a file")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 1
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	if *only != "" && !slices.Contains(names, *only) {
		return fail(fmt.Errorf("there is no bench %q", *only))
	}
	if *rounds <= 0 {
		*rounds = p.Rounds
		if *quick {
			*rounds = quickRounds
		}
	}
	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			return fail(err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fail(err)
		}
		defer pprof.StopCPUProfile()
	}
	figures, err := p.measure(ctx, *only, *dir, *rounds, *quick, stdout)
	if err != nil {
		return fail(err)
	}
	missed, err := report(stdout, figures)
	if err != nil {
		return fail(err)
	}
	if *enforce && missed > 0 {
		fmt.Fprintf(stderr, "%s: %d of %d figures miss what they should reach\n", p.Name, missed, len(figures))
		return 2
	}
	return 0
}

func (p Program[Run]) measure(ctx context.Context, only, dir string, rounds int, quick bool, progress io.Writer) ([]Figure, error) {
	server, err := OpenServer(ctx, dir, progress)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	run, err := p.Open(server, rounds, quick)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, b := range p.Benches {
		if only != "" && b.Name != only {
			continue
		}
		some, err := b.Measure(ctx, run)
		if err != nil {
			return nil, err
		}
		for _, f := range some {
			server.Say("%s: %.2f, load %s", f.Bench, f.Ratio(), Load())
		}
		figures = append(figures, some...)
	}
	return figures, nil
}
