package main

import (
	"context"
	"sort"
	"sync"
	"time"
)

// wireSampler reads a port's kernel counter again and again and remembers when it moved, so that the count at a past
// instant can be told, or told to be unknown because a frame passed too near to it.
type wireSampler struct {
	read func() (uint64, error)

	mu    sync.Mutex
	moves []wireMove // in order; the first is the first sample
	last  time.Time  // of the newest sample
	err   error
}

// wireMove says that the counter took this value somewhere in (after, by].
type wireMove struct {
	after, by time.Time
	bytes     uint64
}

const wireSampleInterval = 2 * time.Millisecond

// run samples until ctx ends.
func (s *wireSampler) run(ctx context.Context) {
	tick := time.NewTicker(wireSampleInterval)
	defer tick.Stop()
	for {
		s.sample()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *wireSampler) sample() {
	before := time.Now()
	bytes, err := s.read()
	after := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.err = err
		return
	}
	if len(s.moves) == 0 || s.moves[len(s.moves)-1].bytes != bytes {
		s.moves = append(s.moves, wireMove{after: s.last, by: after, bytes: bytes})
	}
	s.last = before
}

// at returns the counter at t. ok is false if the counter moved within margin of t, or t is not sampled yet.
func (s *wireSampler) at(t time.Time, margin time.Duration) (bytes uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || len(s.moves) == 0 || s.last.Before(t.Add(margin)) || s.moves[0].by.After(t) {
		return 0, false
	}
	next := sort.Search(len(s.moves), func(i int) bool { return s.moves[i].by.After(t.Add(-margin)) })
	if next < len(s.moves) && s.moves[next].after.Before(t.Add(margin)) {
		return 0, false
	}
	if next == 0 {
		return 0, false
	}
	return s.moves[next-1].bytes, true
}
