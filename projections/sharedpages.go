package projections

import (
	"context"
	"sync"
	"time"

	"crossbill/domain"
	"crossbill/events"
)

// Of pages that followers share.
const (
	sharedPages = 4           // kept, of at most maxBatch events each
	sharedFor   = time.Second // after which a page is read again: texts of persons must not outlive their keys here
)

// sharedLog reads the log once for all followers that are near each other, which in a running node is all of them. Every
// one of them would otherwise fetch and decode every event for itself. Who reads a page must not change what is in it.
type sharedLog struct {
	log *events.Log

	mu     sync.Mutex
	recent [sharedPages]*sharedPage
	next   int // the one to replace
}

// sharedPage is a page that is being read, or was.
type sharedPage struct {
	after events.Position
	limit int
	done  chan struct{} // closed when the rest is there
	at    time.Time
	page  []events.Recorded
	err   error
}

// read returns the events after a position, at most limit and at least one if there are any, as [events.Log.ReadAll] does.
func (s *sharedLog) read(ctx context.Context, after events.Position, limit int) ([]events.Recorded, error) {
	s.mu.Lock()
	for _, p := range s.recent {
		if p == nil {
			continue
		}
		if page := p.from(after, limit); page != nil {
			s.mu.Unlock()
			return page, nil
		}
		if p.after == after && p.limit <= limit && !p.isDone() {
			s.mu.Unlock()
			select {
			case <-p.done:
			case <-ctx.Done():
				return nil, domain.Errorf(domain.Unavailable, "projections.read", "nobody waits for the page any more: %w", ctx.Err())
			}
			if page := p.from(after, limit); page != nil {
				return page, nil
			}
			return s.log.ReadAll(ctx, after, limit) // that one failed, or was there before the events
		}
	}
	p := &sharedPage{after: after, limit: limit, done: make(chan struct{})}
	s.recent[s.next] = p
	s.next = (s.next + 1) % sharedPages
	s.mu.Unlock()

	p.page, p.err = s.log.ReadAll(ctx, after, limit)
	p.at = time.Now()
	close(p.done)
	if len(p.page) == 0 {
		s.forget() // whoever asks next asks for what is new
	}
	return p.page, p.err
}

// forget lets go of the pages that are read.
func (s *sharedLog) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.recent {
		if p != nil && p.isDone() {
			s.recent[i] = nil
		}
	}
}

func (p *sharedPage) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// from returns what a page has after a position, up to limit; nil for nothing. Positions have no gaps, so the place of an
// event in the page follows from its position.
func (p *sharedPage) from(after events.Position, limit int) []events.Recorded {
	if !p.isDone() || p.err != nil || len(p.page) == 0 || time.Since(p.at) > sharedFor {
		return nil
	}
	skip := int(after + 1 - p.page[0].Position)
	if skip < 0 || skip >= len(p.page) {
		return nil
	}
	return p.page[skip:min(skip+limit, len(p.page)):min(skip+limit, len(p.page))]
}
