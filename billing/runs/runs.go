// Package runs carries out billing runs that were asked for, as River jobs, and asks for the month's by itself.
//
// A request for a run is an event (billing_run.requested). The process manager ([Runner.Projection]) makes a job of it, in
// the transaction that moves its checkpoint. The job calls [billing.Run], which may be killed at any moment and goes on
// where it was, and appends how the run ended. Nothing else is remembered: a job that runs twice finds the request ended, and
// two of one run at a time bill nothing twice.
//
// A run may take hours, and River knows a dead job by nothing but its age. So who works at a run holds an advisory lock on
// a connection of its own, which PostgreSQL gives up when the process is gone. Once a minute a tick, a periodic job of
// whichever node leads, takes up the jobs whose lock is free, and asks for the months that are due (monthly.go).
//
// It computes nothing: what a run bills is billing's. Start reading at [New], then Work in worker.go.
package runs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
	"crossbill/projections"
)

// ProjectionName is the name the process manager's checkpoint is kept under.
const ProjectionName = "billing_runs"

// Schema is where River's tables for billing runs are. Of River's clients on one schema one leads, and it alone starts
// periodic jobs and rescues, those that it knows: so these are not where the sagas' are.
const Schema = "river_billing"

// migrationLock is the advisory lock of [Migrate]: "crossbrn", a number nobody else locks.
const migrationLock = int64(0x63726f736262726e)

// Limits of the jobs.
const (
	queue         = "billing"
	workers       = 2                // runs at once on a node, of different periods; the tick is beside them
	maxAttempts   = 25               // of a run that fails for now; with back-off about an hour and a half
	firstBackOff  = time.Second      // doubled with each attempt …
	maxBackOff    = 5 * time.Minute  // … up to this
	busyPause     = 10 * time.Second // until it is looked again whether another node still works at the run
	fetchCooldown = 100 * time.Millisecond
	fetchPoll     = time.Second
	DefaultTick   = time.Minute
	stopGrace     = 5 * time.Second // for a run to notice that it is cancelled
)

// Options are what a [Runner] is made of. Pool and Log are required.
type Options struct {
	Pool   *pgxpool.Pool
	Log    *events.Log
	Clock  func() time.Time // default time.Now
	Logger *slog.Logger     // default: discard
	Tick   time.Duration    // default [DefaultTick]
}

// Runner carries runs out. Any number of nodes may have one on the same database.
type Runner struct {
	options Options
	meters  billing.Meters
	client  *river.Client[pgx.Tx]
}

// Migrate brings River's tables for billing runs to the version this build needs. It is safe to call from several nodes at once.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	const op = "runs.Migrate"
	conn, err := pool.Acquire(ctx) // River's migrator takes no lock, and a session lock needs one connection for all calls
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "no connection: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the migration lock could not be taken: %w", err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, migrationLock) }()
	const hint = "the database user needs the right to create schemas"
	if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+Schema); err != nil {
		return domain.Errorf(domain.Internal, op, "the schema %s could not be made: %w", Schema, err).WithHint(hint)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler), Schema: Schema})
	if err != nil {
		return domain.Errorf(domain.Internal, op, "River's migrations can't be read: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return domain.Errorf(domain.Internal, op, "River's tables could not be migrated: %w", err).WithHint(hint)
	}
	return nil
}

// New returns a runner that is not yet started. Its projection may be run before, after or without Start.
func New(o Options) (*Runner, error) {
	const op = "runs.New"
	if o.Pool == nil || o.Log == nil {
		return nil, domain.Errorf(domain.Internal, op, "Pool and Log are required")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Tick == 0 {
		o.Tick = DefaultTick
	}
	r := &Runner{options: o, meters: usage.Store{Pool: o.Pool, Log: o.Log}}
	registered := river.NewWorkers()
	river.AddWorker(registered, &worker{runner: r})
	river.AddWorker(registered, &ticker{runner: r})
	client, err := river.NewClient(riverpgxv5.New(o.Pool), &river.Config{
		Schema:            Schema,
		Queues:            map[string]river.QueueConfig{queue: {MaxWorkers: workers}, tickQueue: {MaxWorkers: 1}},
		Workers:           registered,
		FetchCooldown:     fetchCooldown,
		FetchPollInterval: fetchPoll,
		JobTimeout:        -1, // a run takes as long as it takes
		MaxAttempts:       maxAttempts,
		PeriodicJobs: []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(o.Tick), func() (river.JobArgs, *river.InsertOpts) {
			return TickArgs{}, &river.InsertOpts{Queue: tickQueue, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: o.Tick}}
		}, nil)},
		Logger: slog.New(warnings{o.Logger.Handler()}),
	})
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the job client could not be made: %w", err)
	}
	r.client = client
	return r, nil
}

// Start takes up the runs that a killed process left, and begins to work jobs.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.takeUp(ctx, 0); err != nil {
		return err
	}
	if err := r.client.Start(context.WithoutCancel(ctx)); err != nil {
		return domain.Errorf(domain.Unavailable, "runs.Start", "the job client did not start: %w", err)
	}
	return nil
}

// Stop cancels the runs that are going on, which stay in the queue, and waits until they have noticed.
func (r *Runner) Stop(ctx context.Context) error {
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := r.client.StopAndCancel(hard); err != nil {
		return domain.Errorf(domain.Unavailable, "runs.Stop", "runs were still going on: %w", err)
	}
	return nil
}

func (r *Runner) now() time.Time { return domain.Instant(r.options.Clock()) }

// Projection returns the process manager: a projection whose write is the insertion of jobs. A replay from the first event
// makes a job for each request, which finds it ended.
func (r *Runner) Projection() projections.Projection {
	return projections.Projection{Name: ProjectionName, Apply: r.enqueue}
}

func (r *Runner) enqueue(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var jobs []river.InsertManyParams
	for _, e := range batch {
		if asked, ok := e.Event.(billingrun.Requested); ok {
			jobs = append(jobs, river.InsertManyParams{Args: RunArgs{RunID: asked.RunID}, InsertOpts: &river.InsertOpts{Queue: queue}})
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	if _, err := r.client.InsertManyFastTx(ctx, tx, jobs); err != nil {
		return domain.Errorf(domain.Unavailable, "runs.enqueue", "the jobs could not be queued: %w", err).
			WithHint("run the migrations first: the tables are made by runs.Migrate")
	}
	return nil
}

// warnings passes on what River's own machinery warns of; that a run began or ended is logged here.
type warnings struct{ slog.Handler }

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}
