package events

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
)

// How often the head is looked at when nothing says that it moved. A hot standby can't LISTEN, and a connection may be
// lost at the wrong moment; polling under the notifications bounds what either can cost.
const (
	pollListening = time.Second
	pollDeaf      = 50 * time.Millisecond
	listenRetry   = 50 * time.Millisecond // after the connection was lost; doubled each time
	listenLongest = 2 * time.Second
)

// tail is how far this node knows the log to reach. It only grows.
type tail struct {
	mu       sync.Mutex
	position Position
	closed   bool
	moved    chan struct{} // closed at the next move
}

func newTail() *tail { return &tail{moved: make(chan struct{})} }

func (t *tail) advance(to Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to > t.position && !t.closed {
		t.position = to
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		close(t.moved)
	}
}

func (t *tail) now() (position Position, moved <-chan struct{}, closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.position, t.moved, t.closed
}

// Reaches reports whether this node knows the log to reach past after. If not, there may yet be more, which [Log.Wait] waits for.
func (l *Log) Reaches(after Position) bool {
	position, _, _ := l.tail.now()
	return position > after
}

// Wait returns when the log reaches past after: at once if it does already, within a moment of the commit otherwise,
// whichever node commits. It returns ctx's error when ctx ends first, and an Unavailable error when the log is closed.
func (l *Log) Wait(ctx context.Context, after Position) error {
	for {
		position, moved, closed := l.tail.now()
		if position > after {
			return nil
		}
		if closed {
			return domain.Errorf(domain.Unavailable, "events.Wait", "the log is closed on this node")
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listen moves the tail for what other nodes append, until ctx ends. What this node appends moves it directly.
func (l *Log) listen(ctx context.Context) {
	wait := listenRetry
	for ctx.Err() == nil {
		heard, err := l.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		l.options.Logger.Warn("events: the log's notifications are interrupted", "error", err)
		if heard {
			wait = listenRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, listenLongest)
	}
}

// listenOnce listens on one connection until that is lost. heard says that it came to listen at all.
func (l *Log) listenOnce(ctx context.Context) (heard bool, err error) {
	conn, err := l.ownConnection(ctx, map[string]string{"application_name": "crossbill listener"})
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	poll := pollListening
	if _, err := conn.Exec(ctx, "listen "+notifyChannel); err != nil {
		if conn.IsClosed() {
			return heard, err
		}
		poll = pollDeaf // a hot standby
	}
	for {
		// After LISTEN: what was committed before it is not notified.
		var position Position
		if err := conn.QueryRow(ctx, `SELECT position FROM log_head WHERE log = 'main'`).Scan(&position); err != nil {
			return heard, err
		}
		l.tail.advance(position)
		heard = true
		if err := l.follow(ctx, conn, poll); err != nil {
			return heard, err
		}
	}
}

// follow takes notifications until none has come for as long as poll.
func (l *Log) follow(ctx context.Context, conn *pgx.Conn, poll time.Duration) error {
	for {
		wait, cancel := context.WithTimeout(ctx, poll)
		n, err := conn.WaitForNotification(wait)
		cancel()
		if err != nil {
			if ctx.Err() == nil && pgconn.Timeout(err) && !conn.IsClosed() {
				return nil
			}
			return err
		}
		position, err := strconv.ParseInt(n.Payload, 10, 64)
		if err != nil {
			return fmt.Errorf("a notification on %s says %q: %w", notifyChannel, n.Payload, err)
		}
		l.tail.advance(Position(position))
	}
}
