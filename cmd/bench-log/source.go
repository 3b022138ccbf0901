package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/domain/reading"
	"crossbill/events"
)

// streams is how many connections the readings are of.
const streams = 64

// source makes the events that are measured with: readings of meters, which are nearly all of a grown log. It is safe
// for concurrent use.
type source struct {
	mu    sync.Mutex
	next  [streams]int64
	turns int
}

func newSource() *source { return new(source) }

// of returns n readings of one connection. With repeatable, under the ids that the API gives readings: derived from what
// they are, so that the log has to look each one up. Without, the log mints ids.
func (s *source) of(connection, n int, repeatable bool) events.StreamAppend {
	const edgeNode = "edg_01k9c6x3v8e2f4r7t1m5n0p9qa"
	id := fmt.Sprintf("con_01k9c6x3v8e2f4r7t1m5n0p%03d", connection)
	s.mu.Lock()
	first := s.next[connection]
	s.next[connection] += int64(n)
	s.mu.Unlock()
	a := events.StreamAppend{Stream: reading.Stream(id), Expected: events.Any, Events: make([]events.NewEvent, n)}
	metadata := events.Metadata{Actor: "key_01k9c6x3v8e2f4r7t1m5n0p9qb", Parties: []string{"org_01k9c6x3v8e2f4r7t1m5n0p9qc", "org_01k9c6x3v8e2f4r7t1m5n0p9qd"}}
	for i := range a.Events {
		sequence := first + int64(i) + 1
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(sequence) * time.Minute)
		a.Events[i] = events.NewEvent{Metadata: metadata, Event: reading.Recorded{
			EdgeNodeID: edgeNode, ConnectionID: id, Epoch: 1, Sequence: sequence, From: from, To: from.Add(time.Minute),
			BytesIn: 748_113_920 + sequence, BytesOut: 91_337_004 + sequence, PacketsIn: 561_207, PacketsOut: 488_019,
			Source: reading.SourceEBPF,
		}}
		if repeatable {
			a.Events[i].ID = reading.EventID(edgeNode, id, 1, sequence)
		}
	}
	return a
}

// turn returns n readings of the next connection.
func (s *source) turn(n int, repeatable bool) events.StreamAppend {
	s.mu.Lock()
	s.turns++
	turn := s.turns
	s.mu.Unlock()
	return s.of(turn%streams, n, repeatable)
}

// prepare makes appends, so that making them is not measured.
func (s *source) prepare(appends, n int, repeatable bool) []events.Append {
	all := make([]events.Append, appends)
	for i := range all {
		all[i] = events.Append{Streams: []events.StreamAppend{s.turn(n, repeatable)}}
	}
	return all
}

// append appends all, from callers at once, and returns the events per second.
func (l *testLog) append(ctx context.Context, all []events.Append, callers int) (float64, error) {
	n := 0
	for _, a := range all {
		n += len(a.Streams[0].Events)
	}
	begun := time.Now()
	err := together(callers, func(caller int) error {
		for i := caller; i < len(all); i += callers {
			if _, err := l.Append(ctx, all[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return bench.PerSecond(n, begun), err
}

// fill appends n events.
func (l *testLog) fill(ctx context.Context, n int) error {
	const each, callers = 1000, 2
	for n > 0 {
		some := min(n, 100*each)
		if _, err := l.append(ctx, l.source.prepare((some+each-1)/each, min(each, some), false), callers); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// together runs a function n times at once and returns an error, if there was one.
func together(n int, each func(int) error) error {
	fails := make(chan error, n)
	for i := range n {
		go func() { fails <- each(i) }()
	}
	var failed error
	for range n {
		if err := <-fails; err != nil {
			failed = err
		}
	}
	return failed
}
