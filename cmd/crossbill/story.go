package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// story prints what happens as lines that a person can follow: seconds since the start, who acts, what they do.
type story struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func newStory(out io.Writer) *story { return &story{out: out, start: time.Now()} }

// say prints one step.
func (s *story) say(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%6.1fs  %-9s %s\n", time.Since(s.start).Seconds(), who, fmt.Sprintf(format, args...))
}

// detail prints a line that belongs to the step before it.
func (s *story) detail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%19s%s\n", "", fmt.Sprintf(format, args...))
}
