package events

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/vault"
)

// Options are what a log may be given beside its database.
type Options struct {
	Signer *Signer          // signs checkpoints; without one [Log.Checkpoint] returns an error
	Clock  func() time.Time // nil: time.Now
	Random io.Reader        // of salts and event ids; nil: crypto/rand
	Logger *slog.Logger     // nil: slog.Default
	// Vault has the keys of texts about persons. Without one, events with such texts can't be appended, and read with
	// [domain.Unreadable] in their place. Whoever opened it closes it, after the log.
	Vault *vault.Vault
	// ArchiveDir is where [Archive] moved old events to. Nodes that read the whole log all need the same directory.
	// Without one, reading events that are archived returns an Unavailable error; appending needs none.
	ArchiveDir string
}

// Log is one node's access to the log. It is safe for concurrent use. Any number of nodes may have one open on the same
// database. It takes reads from the pool and has two connections of its own beside it, so that an append can't wait for
// a connection that its own caller holds.
type Log struct {
	pool      *pgxpool.Pool
	codec     *Codec
	options   Options
	queue     *queue
	sequencer *sequencer
	tail      *tail
	archives  *archives
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// Open opens the log in a migrated database (see package migrations) and starts its sequencer.
// It returns an Unavailable error if the head can't be read.
func Open(ctx context.Context, pool *pgxpool.Pool, codec *Codec, o Options) (*Log, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	l := &Log{pool: pool, codec: codec, options: o, queue: newQueue(), tail: newTail(), archives: newArchives(pool, o.ArchiveDir)}
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := l.archives.refresh(ctx); err != nil {
		return nil, err
	}
	l.tail.advance(head.Position)
	l.sequencer = newSequencer(l.queue, l.tail, l.ownConnection, l.archives, o)
	running, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.running.Go(l.sequencer.run)
	l.running.Go(func() { l.listen(running) })
	return l, nil
}

// Close lets no more appends in, waits for those that are, and ends the log's connections. Readers that wait get an
// Unavailable error.
func (l *Log) Close() {
	l.queue.close()
	<-l.sequencer.ended
	l.stop()
	l.tail.close()
	l.running.Wait()
}

// ownConnection makes a connection outside the pool, to the same database.
func (l *Log) ownConnection(ctx context.Context, parameters map[string]string) (*pgx.Conn, error) {
	config := l.pool.Config().ConnConfig.Copy()
	for name, value := range parameters {
		config.RuntimeParams[name] = value
	}
	return pgx.ConnectConfig(ctx, config)
}

// Append records events at the end of the log and returns when they are committed. Events get their versions in their
// streams and consecutive positions. Appending events again under the same ids succeeds without recording anything.
//
// Errors:
//   - Invalid for what could never be appended (names, limits);
//   - Conflict if a stream is not at the version expected (the cause is a [VersionConflict]), if an event id stands for
//     another event, if only some of the events are recorded already, or if they are not and have texts about a person
//     who is erased;
//   - what Ask returned: as it is if it is a [domain.Error], else as the cause of an Internal error;
//   - Unavailable if the queue is full, ctx ended while the append was still in it, or the database stayed away:
//     nothing was appended;
//   - Internal with the cause [ErrUnknownOutcome] if the database went away during the commit and stayed away.
//
// Once a flush has taken the append, Append waits for its outcome whatever ctx says, so that the caller always learns it.
func (l *Log) Append(ctx context.Context, a Append) (Result, error) {
	a, erased, err := l.seal(ctx, a)
	if err != nil {
		return Result{}, err
	}
	p, err := prepare(a, l.codec, l.options.Clock(), l.options.Random)
	if err != nil {
		return Result{}, err
	}
	p.withErased(l.codec, erased)
	if err := ctx.Err(); err != nil {
		return Result{}, cancelled(err)
	}
	if err := l.queue.push(p); err != nil {
		return Result{}, err
	}
	select {
	case o := <-p.outcome:
		return o.result, o.err
	case <-ctx.Done():
		if p.state.CompareAndSwap(queued, withdrawn) {
			return Result{}, cancelled(ctx.Err())
		}
	}
	o := <-p.outcome
	return o.result, o.err
}

func cancelled(err error) error {
	return domain.Errorf(domain.Unavailable, "events.Append", "the caller gave up before the append was taken; nothing was appended: %w", err)
}

// Head returns the log's position and root as they are now. It returns an Unavailable error if they can't be read.
func (l *Log) Head(ctx context.Context) (Head, error) {
	var h Head
	var root []byte
	err := l.pool.QueryRow(ctx, `SELECT position, root FROM log_head WHERE log = 'main'`).Scan(&h.Position, &root)
	if err != nil {
		return Head{}, domain.Errorf(domain.Unavailable, "events.Head", "the head of the log can't be read: %w", err)
	}
	if len(root) != len(h.Root) {
		return Head{}, domain.Errorf(domain.Internal, "events.Head", "the root has %d bytes", len(root))
	}
	h.Root = [32]byte(root)
	return h, nil
}
