package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is what a bench found.
type figure struct {
	bench       string
	unit        string
	ours, limit []float64 // one value a round; the values of one round were measured one right after the other
	floor       float64   // the ratio should reach it; 0: it is told, and nothing is asked of it
	ceiling     float64   // the ratio should not pass it
}

// alternate measures ours and the limit in turns, after a round of each that does not count: it fills caches and
// prepares statements.
func alternate(f figure, rounds int, ours, limit func() (float64, error)) (figure, error) {
	for round := range rounds + 1 {
		o, err := ours()
		if err != nil {
			return f, fmt.Errorf("%s: %w", f.bench, err)
		}
		l, err := limit()
		if err != nil {
			return f, fmt.Errorf("%s, the limit: %w", f.bench, err)
		}
		if round > 0 {
			f.ours, f.limit = append(f.ours, o), append(f.limit, l)
		}
	}
	return f, nil
}

// ratio is that of the medians: one round that the machine was busy elsewhere must not decide.
func (f figure) ratio() float64 { return median(f.ours) / median(f.limit) }

func (f figure) met() bool {
	return f.ratio() >= f.floor && (f.ceiling == 0 || f.ratio() <= f.ceiling)
}

// spread is the lowest and highest ratio of one round.
func (f figure) spread() (lowest, highest float64) {
	ratios := make([]float64, len(f.ours))
	for i := range ratios {
		ratios[i] = f.ours[i] / f.limit[i]
	}
	return slices.Min(ratios), slices.Max(ratios)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// perSecond is the rate of n things since a moment.
func perSecond(n int, since time.Time) float64 { return float64(n) / time.Since(since).Seconds() }

// report prints the figures for people, then one JSON object a line for programs. It returns how many miss what they
// should reach.
func report(out io.Writer, figures []figure) (missed int, err error) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nbench\tours\tlimit\tunit\tratio\tasked\trounds\tratios from .. to\t")
	for _, f := range figures {
		asked, verdict := "", ""
		switch {
		case f.floor > 0:
			asked = fmt.Sprintf(">= %.2f", f.floor)
		case f.ceiling > 0:
			asked = fmt.Sprintf("<= %.2f", f.ceiling)
		}
		if !f.met() {
			missed, verdict = missed+1, "missed"
		}
		lowest, highest := f.spread()
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%s\t%.2f\t%s\t%d\t%.2f .. %.2f\t%s\n",
			f.bench, median(f.ours), median(f.limit), f.unit, f.ratio(), asked, len(f.ours), lowest, highest, verdict)
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
		}{f.bench, round(median(f.ours), 1), round(median(f.limit), 1), round(f.ratio(), 1000)})
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
