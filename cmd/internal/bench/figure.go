// Package bench is what the benches share: a figure as a ratio against a limit that is measured in turns with it, the
// private server they measure on, and a program around a list of them.
//
// It measures nothing itself. Start reading at [Program], then at [Alternate].
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Figure is what a bench found.
type Figure struct {
	Bench       string
	Unit        string
	Ours, Limit []float64 // one value a round; the values of one round were measured one right after the other
	Floor       float64   // the ratio should reach it; 0: it is told, and nothing is asked of it
	Ceiling     float64   // the ratio should not pass it
}

// Alternate measures ours and the limit in turns, after a round of each that does not count: it fills caches and
// prepares statements.
func Alternate(f Figure, rounds int, ours, limit func() (float64, error)) (Figure, error) {
	for round := range rounds + 1 {
		o, err := ours()
		if err != nil {
			return f, fmt.Errorf("%s: %w", f.Bench, err)
		}
		l, err := limit()
		if err != nil {
			return f, fmt.Errorf("%s, the limit: %w", f.Bench, err)
		}
		if round > 0 {
			f.Ours, f.Limit = append(f.Ours, o), append(f.Limit, l)
		}
	}
	return f, nil
}

// Ratio is that of the medians: one round that the machine was busy elsewhere must not decide.
func (f Figure) Ratio() float64 { return Median(f.Ours) / Median(f.Limit) }

func (f Figure) met() bool {
	return f.Ratio() >= f.Floor && (f.Ceiling == 0 || f.Ratio() <= f.Ceiling)
}

// spread is the lowest and highest ratio of one round.
func (f Figure) spread() (lowest, highest float64) {
	ratios := make([]float64, len(f.Ours))
	for i := range ratios {
		ratios[i] = f.Ours[i] / f.Limit[i]
	}
	return slices.Min(ratios), slices.Max(ratios)
}

// Median is the middle of some values.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// PerSecond is the rate of n things since a moment.
func PerSecond(n int, since time.Time) float64 { return float64(n) / time.Since(since).Seconds() }

// report prints the figures for people, then one JSON object a line for programs. It returns how many miss what they
// should reach.
func report(out io.Writer, figures []Figure) (missed int, err error) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nbench\tours\tlimit\tunit\tratio\tasked\trounds\tratios from .. to\t")
	for _, f := range figures {
		asked, verdict := "", ""
		switch {
		case f.Floor > 0:
			asked = fmt.Sprintf(">= %.2f", f.Floor)
		case f.Ceiling > 0:
			asked = fmt.Sprintf("<= %.2f", f.Ceiling)
		}
		if !f.met() {
			missed, verdict = missed+1, "missed"
		}
		lowest, highest := f.spread()
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%s\t%.2f\t%s\t%d\t%.2f .. %.2f\t%s\n",
			f.Bench, Median(f.Ours), Median(f.Limit), f.Unit, f.Ratio(), asked, len(f.Ours), lowest, highest, verdict)
	}
	if err := table.Flush(); err != nil {
		return missed, err
	}
	fmt.Fprintln(out)
	for _, f := range figures {
		line, err := json.Marshal(struct {
			Bench string  `json:"bench"`
			Ours  float64 `json:"ours"`
			Limit float64 `json:"limit"`
			Ratio float64 `json:"ratio"`
		}{f.Bench, round(Median(f.Ours), 1), round(Median(f.Limit), 1), round(f.Ratio(), 1000)})
		if err != nil {
			return missed, err
		}
		if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
			return missed, err
		}
	}
	return missed, nil
}

// round rounds to a whole number of 1/parts.
func round(v, parts float64) float64 { return float64(int64(v*parts+0.5)) / parts }
