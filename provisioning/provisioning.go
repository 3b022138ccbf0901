// Package provisioning carries an order from its acceptance to a connection in production, and a connection from its
// termination to nothing left behind.
//
// It is a saga in three parts. [Next] is pure: from the states of an order and its connection it says what is to be done
// now. The process manager ([Provisioner.Projection]) turns each event that may change that answer into a River job, in
// the transaction that moves its checkpoint, so every event starts its job exactly once. The job (advance.go) loads both
// states from the log, asks Next, does that one step as one append, and again until Next says wait. Nothing is
// remembered between jobs: one that runs twice, late, or beside another finds the work done, or loses by the expected
// versions of its append and looks again.
//
// It never talks to an edge node. What a node should be follows from the connection's events; what it is comes back
// through [Observe]. It prices and bills nothing. Start reading at [Next].
package provisioning

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"crossbill/domain"
	"crossbill/events"
)

// Defaults of [Options].
const (
	DefaultTestingDeadline = 2 * time.Minute
	DefaultProbeAttempts   = 5
	DefaultProbePause      = time.Second
	DefaultChangeWithin    = 2 * time.Minute
	DefaultEdgeWithin      = 30 * time.Minute // a node delivers its last readings before it removes a connection
	DefaultWorkers         = 8
)

// Limits of the jobs.
const (
	queue            = "provisioning"
	maxAttempts      = 25               // of a job that fails; with back-off about an hour and a half
	firstBackOff     = time.Second      // doubled with each attempt …
	maxBackOff       = 5 * time.Minute  // … up to this
	jobTimeout       = 30 * time.Second // a job is some ten appends at most
	rescueAfter      = 45 * time.Second // River takes a job from a dead process after this; must be over jobTimeout
	fetchCooldown    = 10 * time.Millisecond
	fetchPoll        = 100 * time.Millisecond // River drops a notification that follows another within the cool-down
	maxRescuedAtOnce = 10_000
	stopGrace        = 2 * time.Second // for jobs to notice that they are cancelled
)

// migrationLock is the advisory lock of [Migrate]: "crossriv", a number nobody else locks.
const migrationLock = int64(0x63726f7373726976)

// Options are what a [Provisioner] is made of. Pool and Log are required.
type Options struct {
	Pool            *pgxpool.Pool
	Log             *events.Log
	Clock           func() time.Time // default time.Now
	Logger          *slog.Logger     // default: discard
	TestingDeadline time.Duration    // from the start of testing to production
	ProbeAttempts   int              // test packets before the connection is given up
	ProbePause      time.Duration    // after a failed one, times the number of attempts made
	ChangeWithin    time.Duration    // from the request of a change to the edge node's word
	EdgeWithin      time.Duration    // from a suspension, resumption or removal to the edge node's word; then a person is told
	StepAttempts    int              // of a step that fails, before a person is told; at most those of a job
	Workers         int              // jobs at once on this node
}

// appender is the one effect of a step on the world. Tests put faults around it.
type appender interface {
	Append(ctx context.Context, a events.Append) (events.Result, error)
}

// Provisioner runs the sagas. Any number of nodes may run one on the same database.
type Provisioner struct {
	options  Options
	policy   Policy
	appender appender
	client   *river.Client[pgx.Tx]
	backOff  func(attempt int) time.Duration
	claims   claims
}

func (p *Provisioner) claim() *claim { return &claim{of: &p.claims} }

// Migrate brings River's own tables to the version this build needs. It is safe to call from several nodes at once.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	const op = "provisioning.Migrate"
	// River's migrator takes no lock. A session lock needs one connection for both calls.
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "no connection: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the migration lock could not be taken: %w", err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, migrationLock) }()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return domain.Errorf(domain.Internal, op, "River's migrations can't be read: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return domain.Errorf(domain.Internal, op, "River's tables could not be migrated: %w", err).
			WithHint("the database user needs the right to create tables in the search path's first schema")
	}
	return nil
}

// New returns a provisioner that is not yet started. Its projection may be run before, after or without Start.
func New(o Options) (*Provisioner, error) {
	const op = "provisioning.New"
	if o.Pool == nil || o.Log == nil {
		return nil, domain.Errorf(domain.Internal, op, "Pool and Log are required")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.TestingDeadline = defaulted(o.TestingDeadline, DefaultTestingDeadline)
	o.ProbeAttempts = defaulted(o.ProbeAttempts, DefaultProbeAttempts)
	o.ProbePause = defaulted(o.ProbePause, DefaultProbePause)
	o.ChangeWithin = defaulted(o.ChangeWithin, DefaultChangeWithin)
	o.EdgeWithin = defaulted(o.EdgeWithin, DefaultEdgeWithin)
	o.StepAttempts = min(defaulted(o.StepAttempts, maxAttempts), maxAttempts)
	o.Workers = defaulted(o.Workers, DefaultWorkers)

	p := &Provisioner{options: o, appender: o.Log, backOff: backOff, claims: claims{held: map[number]*claim{}}, policy: Policy{
		ProbeAttempts: o.ProbeAttempts,
		ProbePause:    o.ProbePause,
		ChangeWithin:  o.ChangeWithin,
		EdgeWithin:    o.EdgeWithin,
		StepAttempts:  o.StepAttempts,
	}}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{provisioner: p}); err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the worker could not be registered: %w", err)
	}
	client, err := river.NewClient(riverpgxv5.New(o.Pool), &river.Config{
		Queues:               map[string]river.QueueConfig{queue: {MaxWorkers: o.Workers}},
		Workers:              workers,
		ErrorHandler:         &errorHandler{logger: o.Logger},
		FetchCooldown:        fetchCooldown,
		FetchPollInterval:    fetchPoll,
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: rescueAfter,
		MaxAttempts:          maxAttempts,
		Logger:               slog.New(warnings{o.Logger.Handler()}),
	})
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the job client could not be made: %w", err)
	}
	p.client = client
	return p, nil
}

func defaulted[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Start begins to work jobs, first those that a killed process left running or that were given up: at worst another
// node is still at them, and then the second run finds nothing to do.
func (p *Provisioner) Start(ctx context.Context) error {
	const op = "provisioning.Start"
	rows, err := p.options.Pool.Query(ctx, `
		SELECT DISTINCT args ->> 'order_id', args ->> 'connection_id' FROM river_job
		WHERE kind = $1 AND state IN ('running', 'discarded') -- index river_job_state_and_finalized_at_index
		LIMIT $2`, AdvanceArgs{}.Kind(), maxRescuedAtOnce)
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "the unfinished jobs could not be read: %w", err).
			WithHint("run the migrations first: the table river_job is made by provisioning.Migrate")
	}
	unfinished, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (river.InsertManyParams, error) {
		var orderID, connectionID *string
		err := row.Scan(&orderID, &connectionID)
		args := AdvanceArgs{Cause: "start"}
		if orderID != nil {
			args.OrderID = *orderID
		}
		if connectionID != nil {
			args.ConnectionID = *connectionID
		}
		return river.InsertManyParams{Args: args, InsertOpts: insertOpts(time.Time{})}, err
	})
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "the unfinished jobs could not be read: %w", err)
	}
	if len(unfinished) > 0 {
		if _, err := p.client.InsertManyFast(ctx, unfinished); err != nil {
			return domain.Errorf(domain.Unavailable, op, "the unfinished jobs could not be taken up: %w", err)
		}
	}
	if err := p.client.Start(ctx); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the job client did not start: %w", err)
	}
	return nil
}

// Stop waits for the running jobs until ctx ends, then cancels them; what they had not done stays in the queue.
func (p *Provisioner) Stop(ctx context.Context) error {
	if err := p.client.Stop(ctx); err == nil {
		return nil
	}
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := p.client.StopAndCancel(hard); err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.Stop", "jobs were still running: %w", err)
	}
	return nil
}

// now is the instant of a decision, as exact as the log stores it.
func (p *Provisioner) now() time.Time { return p.options.Clock().UTC().Truncate(time.Microsecond) }

func backOff(attempt int) time.Duration {
	wait := firstBackOff
	for range attempt - 1 {
		if wait *= 2; wait >= maxBackOff {
			return maxBackOff
		}
	}
	return wait
}

// warnings passes on what River's own machinery warns of; that a job began or ended is in the events.
type warnings struct{ slog.Handler }

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}
