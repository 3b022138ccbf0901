package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// How often progress is shown.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 10 * time.Second
)

// barWidth is the number of cells of the bar itself.
const barWidth = 30

// progress shows how far a long piece of work is: as a bar on a terminal, else as a line now and then.
type progress struct {
	what     string
	terminal *os.File
	lines    io.Writer
	clock    func() time.Time
	begun    time.Time
	shown    time.Time
	drawn    bool
}

func newProgress(what string, terminal *os.File, lines io.Writer, clock func() time.Time) *progress {
	now := clock()
	return &progress{what: what, terminal: terminal, lines: lines, clock: clock, begun: now, shown: now}
}

// isTerminal reports whether somebody may be looking. The null device is a character device too.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

func (p *progress) update(done, target int64) {
	interval := lineInterval
	if p.terminal != nil {
		interval = barInterval
	}
	now := p.clock()
	if now.Sub(p.shown) < interval && !(p.terminal != nil && done >= target) {
		return
	}
	p.shown = now
	text := progressText(done, target, now.Sub(p.begun))
	if p.terminal == nil {
		fmt.Fprintf(p.lines, "%s: %s\n", p.what, text)
		return
	}
	filled := int(barWidth * min(done, target) / max(target, 1))
	fmt.Fprintf(p.terminal, "\r%s [%s%s] %s\x1b[K", p.what, strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), text)
	p.drawn = true
}

// end takes the bar away.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.terminal, "\r\x1b[K")
	}
}

// progressText says how much is done, how fast, and how long the rest takes at that.
func progressText(done, target int64, took time.Duration) string {
	percent := 100 * done / max(target, 1)
	rate := float64(done) / max(took.Seconds(), 1e-3)
	rest := "?"
	if done > 0 {
		rest = time.Duration(float64(target-done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%d%%, %d of %d events, %.0f events/s, %s left", percent, done, target, rate, rest)
}

func (p *progress) summary(done int64) string {
	took := p.clock().Sub(p.begun)
	return fmt.Sprintf("%d events in %s, %.0f events/s", done, took.Round(10*time.Millisecond), float64(done)/max(took.Seconds(), 1e-3))
}
