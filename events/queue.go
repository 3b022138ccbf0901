package events

import (
	"sync"

	"crossbill/domain"
)

// Limits of the queue in front of the sequencer, and of what it takes at once. A flush holds the head row's lock: it
// has to stay short even when a thousand callers wait.
const (
	MaxQueuedAppends = 4096
	MaxQueuedBytes   = 64 << 20 // payload and metadata
	maxFlushAppends  = 1024
	maxFlushEvents   = 8192 // or one larger append
	maxFlushBytes    = 16 << 20
)

// queue holds the appends that wait for a flush.
type queue struct {
	mu     sync.Mutex
	items  []*pending
	bytes  int
	closed bool
	wake   chan struct{} // of capacity 1
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// push adds an append. It returns an Unavailable error when the queue is full or closed; nothing was done then.
func (q *queue) push(p *pending) error {
	const op = "events.Append"
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return domain.Errorf(domain.Unavailable, op, "the log is closed on this node")
	}
	if len(q.items) >= MaxQueuedAppends || len(q.items) > 0 && q.bytes+p.bytes > MaxQueuedBytes {
		return domain.Errorf(domain.Unavailable, op, "%d appends are waiting, as many as may", len(q.items)).
			WithHint("try again in a second; nothing was appended")
	}
	q.items = append(q.items, p)
	q.bytes += p.bytes
	q.signal()
	return nil
}

// take removes what the next flush may hold, in the order it came. It does not wait; it returns nothing if there is
// nothing.
func (q *queue) take() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, p := range q.items {
		if n == maxFlushAppends || n > 0 && (events+p.events > maxFlushEvents || bytes+p.bytes > maxFlushBytes) {
			break
		}
		n, events, bytes = n+1, events+p.events, bytes+p.bytes
	}
	batch := append([]*pending(nil), q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items, q.bytes = q.items[:rest], q.bytes-bytes
	return batch
}

// close lets nothing more in. What is inside is still to be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
