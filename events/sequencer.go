package events

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
)

// Limits of patience.
const (
	// AskTimeout is how long one append's Ask may take, and PostgreSQL over one statement of it.
	AskTimeout = 5 * time.Second
	// flushPatience is how long a flush is tried again while the database is away. It outlasts a restart.
	flushPatience = 30 * time.Second
	// outcomePatience is the same once a commit was sent and its answer got lost: then the callers need the truth more
	// than they need it soon.
	outcomePatience = 2 * time.Minute
	firstRetry      = 20 * time.Millisecond
	longestRetry    = time.Second
	connectPatience = 5 * time.Second
)

// ErrUnknownOutcome is the cause of the error of an append of which nobody can tell whether it is recorded: the database
// went away during its commit and did not come back. Append the events again under the same ids to learn.
var ErrUnknownOutcome = errors.New("whether the events are recorded is not known")

// errAmbiguous marks an error that came while a commit was under way, errLost one that came with the connection's loss.
var (
	errAmbiguous = errors.New("the commit's answer was lost")
	errLost      = errors.New("there is no connection")
)

// sequencer is a node's one writer. It takes what waits in the queue, flushes it, and tells each caller.
type sequencer struct {
	queue    *queue
	tail     *tail
	connect  func(ctx context.Context, parameters map[string]string) (*pgx.Conn, error)
	options  Options
	archives *archives
	ended    chan struct{} // closed when the queue is closed and empty

	conn          *pgx.Conn // nil, or the connection of the last flush
	partitionSize Position  // 0: not read yet
	partitions    int64     // up to which number partitions are known to have been made
	aheadAgain    time.Time // before it, no partition is made ahead: the last attempt got no lock
}

func newSequencer(q *queue, t *tail, connect func(context.Context, map[string]string) (*pgx.Conn, error), a *archives, o Options) *sequencer {
	return &sequencer{queue: q, tail: t, connect: connect, archives: a, options: o, ended: make(chan struct{})}
}

// run flushes until the queue is closed and empty.
func (s *sequencer) run() {
	defer close(s.ended)
	defer func() { s.disconnect() }()
	for {
		waiting := s.queue.take()
		if len(waiting) == 0 {
			if s.queue.isClosed() {
				return
			}
			<-s.queue.wake
			continue
		}
		batch := waiting[:0]
		for _, p := range waiting {
			if p.state.CompareAndSwap(queued, taken) {
				batch = append(batch, p)
			}
		}
		s.flushAll(batch)
		// Callers that were just told, and have more, are let in before the next flush: it costs the same for all as for
		// one. Where nobody else wants to run, this takes no time.
		runtime.Gosched()
	}
}

// flushAll brings every append of the batch to an outcome.
func (s *sequencer) flushAll(batch []*pending) {
	ctx := context.Background() // an append that was taken is no longer its caller's to cancel
	first, wait, ambiguous := time.Now(), firstRetry, false
	for attempt := 0; ; attempt++ {
		if batch = undone(batch); len(batch) == 0 {
			return
		}
		err := s.flush(ctx, batch, attempt > 0)
		if err == nil {
			continue
		}
		ambiguous = ambiguous || errors.Is(err, errAmbiguous)
		if !retryable(err) {
			s.isolate(ctx, batch, err)
			continue
		}
		s.options.Logger.Warn("events: a flush failed and is tried again", "attempt", attempt+1, "appends", len(batch), "error", err)
		s.disconnect()
		if patience := time.Since(first); ambiguous && patience > outcomePatience || !ambiguous && patience > flushPatience {
			giveUp(batch, err, ambiguous)
			return
		}
		time.Sleep(wait)
		wait = min(2*wait, longestRetry)
	}
}

// isolate deals with an error that will come again: it is one append's fault, and must stay its alone.
func (s *sequencer) isolate(ctx context.Context, batch []*pending, err error) {
	if len(batch) == 1 {
		if !errors.As(err, new(*domain.Error)) {
			err = domain.Errorf(domain.Internal, "events.Append", "PostgreSQL refuses the events: %w", err)
		}
		batch[0].finish(Result{}, err)
		return
	}
	s.options.Logger.Warn("events: a flush failed; its appends are flushed one by one", "appends", len(batch), "error", err)
	for _, p := range batch {
		if !p.done {
			s.flushAll([]*pending{p})
		}
	}
}

func giveUp(batch []*pending, err error, ambiguous bool) {
	const op = "events.Append"
	for _, p := range batch {
		if ambiguous {
			p.finish(Result{}, domain.Errorf(domain.Internal, op, "the database went away during the commit: %w", errors.Join(ErrUnknownOutcome, err)).
				WithHint("append the events again under the same ids to learn whether they are recorded"))
			continue
		}
		p.finish(Result{}, domain.Errorf(domain.Unavailable, op, "the database is away; nothing was appended: %w", err))
	}
}

func undone(batch []*pending) []*pending {
	left := batch[:0:0]
	for _, p := range batch {
		if !p.done {
			left = append(left, p)
		}
	}
	return left
}

// retryable reports whether the same flush may succeed later: the connection was lost, the server is stopping or
// starting, or the transaction got in another's way. (Codes: PostgreSQL documentation, appendix A.)
func retryable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		switch pg.Code[:2] {
		case "08", "40", "53", "57", "58": // connection, rollback, resources, operator, system
			return true
		}
		return pg.Code == "55P03" || pg.Severity == "FATAL" || pg.Code == "25P03" // lock not available; idle too long
	}
	return errors.Is(err, errAmbiguous) || errors.Is(err, errLost)
}

// connection returns the sequencer's connection, made anew if it was lost.
func (s *sequencer) connection(ctx context.Context) (*pgx.Conn, error) {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn, nil
	}
	s.conn = nil
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	conn, err := s.connect(ctx, map[string]string{
		"application_name": "crossbill sequencer",
		// Statements here find rows by key. A plan made while the tables were empty must not go on reading all of them
		// when they have grown.
		"enable_seqscan":  "off",
		"plan_cache_mode": "force_generic_plan",
		"jit":             "off",
		// A process that hangs with the head locked would stop every node.
		"idle_in_transaction_session_timeout": "20s",
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if s.partitionSize == 0 {
		if err := conn.QueryRow(ctx, `SELECT events_partition_size()`).Scan(&s.partitionSize); err != nil {
			conn.Close(ctx)
			return nil, fmt.Errorf("read the size of a partition: %w", err)
		}
	}
	s.conn = conn
	return conn, nil
}

// disconnect drops the connection and with it whatever it had open.
func (s *sequencer) disconnect() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx)
	s.conn = nil
}
