package main

import (
	"testing"
	"time"
)

// TestWireAt holds the sampler to what it may know: the count at an instant only if no frame passed within the margin.
func TestWireAt(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	s := &wireSampler{last: at(1000), moves: []wireMove{
		{by: at(0), bytes: 10},                  // the first sample
		{after: at(98), by: at(102), bytes: 20}, // a frame passed somewhere in between
		{after: at(498), by: at(502), bytes: 30},
	}}
	for _, c := range []struct {
		name   string
		at     int
		margin time.Duration
		bytes  uint64
		ok     bool
	}{
		{"before the first sample", -1, 0, 0, false},
		{"between frames", 50, 0, 10, true},
		{"in the gap a frame passed in", 100, 0, 0, false},
		{"after the gap", 103, 0, 20, true},
		{"quiet within the margin", 300, 100 * time.Millisecond, 20, true},
		{"a frame within the margin after", 450, 100 * time.Millisecond, 0, false},
		{"a frame within the margin before", 550, 100 * time.Millisecond, 0, false},
		{"after the last frame", 900, 50 * time.Millisecond, 30, true},
		{"not sampled yet", 999, 10 * time.Millisecond, 0, false},
	} {
		bytes, ok := s.at(at(c.at), c.margin)
		if bytes != c.bytes || ok != c.ok {
			t.Errorf("%s: %d, %t; want %d, %t", c.name, bytes, ok, c.bytes, c.ok)
		}
	}
}

func TestBytesOf(t *testing.T) {
	t.Parallel()
	for quantity, want := range map[string]uint64{"0": 0, "0.070419137": 70419137, "12345.678901234": 12345678901234} {
		if got, err := bytesOf(quantity); err != nil || got != want {
			t.Errorf("%s GB are %d bytes, %v; want %d", quantity, got, err, want)
		}
	}
	for _, bad := range []string{"", "-1", "0.0000000001", "1e9", "99999999999999999999"} {
		if got, err := bytesOf(bad); err == nil {
			t.Errorf("%q GB are %d bytes", bad, got)
		}
	}
}
