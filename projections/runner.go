package projections

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
)

// Limits.
const (
	maxBatch        = 2000                  // events in one transaction
	firstRetry      = 50 * time.Millisecond // after an error; doubled each time
	longestRetry    = 30 * time.Second      //
	standbyPoll     = 50 * time.Millisecond // how soon a dead owner is noticed, and what a live one has passed over
	foreignPoll     = 20 * time.Millisecond // how often WaitFor looks at a checkpoint that another process moves
	idlePoll        = 5 * time.Second       // how long the log may be silent before the checkpoint is looked at again
	passFor         = time.Second           // how long events may be passed over before the checkpoint is moved past them
	noteErrorWithin = 2 * time.Second
)

// RunnerOptions are what a runner needs.
type RunnerOptions struct {
	Pool        *pgxpool.Pool
	Log         *events.Log
	Logger      *slog.Logger // nil: slog.Default
	Projections []Projection
}

// Runner runs projections, each at its own pace. Any number of processes may run the same ones: the row lock on its
// checkpoint lets one of them at a time work on a projection, and when that one dies another goes on.
type Runner struct {
	pool     *pgxpool.Pool
	log      *events.Log
	shared   *sharedLog
	logger   *slog.Logger
	followed []*follower
	byName   map[string]*follower
}

// NewRunner makes a runner. It returns an Invalid error for a projection without a name or function, or of a name that
// another has.
func NewRunner(o RunnerOptions) (*Runner, error) {
	const op = "projections.NewRunner"
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	r := &Runner{pool: o.Pool, log: o.Log, shared: &sharedLog{log: o.Log}, logger: o.Logger, byName: make(map[string]*follower)}
	for _, p := range o.Projections {
		if p.Name == "" || p.Apply == nil {
			return nil, domain.Errorf(domain.Invalid, op, "the projection %q has no name or does nothing", p.Name)
		}
		if r.byName[p.Name] != nil {
			return nil, domain.Errorf(domain.Invalid, op, "two projections are called %s", p.Name)
		}
		f := &follower{Projection: p, runner: r, logger: o.Logger.With("projection", p.Name), moved: make(chan struct{})}
		f.status = Status{Name: p.Name, State: Starting, Since: time.Now().UTC()}
		r.followed, r.byName[p.Name] = append(r.followed, f), f
	}
	return r, nil
}

// Run runs all projections until ctx ends, and then returns nil. It does not return for an error of a projection:
// [Runner.Status] tells.
func (r *Runner) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, f := range r.followed {
		running.Go(func() { f.run(ctx) })
	}
	running.Wait()
	return nil
}

// State says what a projection does in this process.
type State string

// The states of a projection.
const (
	Starting State = "starting"
	Running  State = "running"  // it follows the log
	Standby  State = "standby"  // another process works on it
	Retrying State = "retrying" // its last attempt failed; it tries again
	Stopped  State = "stopped"  // the next event can't be decoded by this version of the program
)

// Status is how a projection is doing in this process.
type Status struct {
	Name     string
	State    State
	Position events.Position // as far as this process knows
	Attempts int             // failed in a row
	Err      error           // of the last attempt; nil when it succeeded
	Since    time.Time       // when State began
}

// Status returns how the projections are doing, in the order they were given.
func (r *Runner) Status() []Status {
	all := make([]Status, len(r.followed))
	for i, f := range r.followed {
		all[i], _ = f.now()
	}
	return all
}

// WaitFor returns when the named projections (all, if none is named) have applied the log up to the position: at once
// if they have, and within a moment otherwise, also when another process runs them.
//
// Errors: NotFound for a name this runner does not have; Unavailable when ctx ends first or a projection has stopped,
// with what keeps it.
func (r *Runner) WaitFor(ctx context.Context, position events.Position, names ...string) error {
	const op = "projections.WaitFor"
	wanted := r.followed
	if len(names) > 0 {
		wanted = nil
		for _, name := range names {
			f := r.byName[name]
			if f == nil {
				return domain.Errorf(domain.NotFound, op, "there is no projection %q", name)
			}
			wanted = append(wanted, f)
		}
	}
	for _, f := range wanted {
		if err := f.waitFor(ctx, position); err != nil {
			return err
		}
	}
	return nil
}

// follower runs one projection in this process.
type follower struct {
	Projection
	runner *Runner
	logger *slog.Logger

	ahead chan pageRead // of the events after those being applied; nil if none is on its way

	// Pages with nothing for the projection are passed over without a transaction, so the checkpoint may be behind: all
	// after stored and up to the follower's position concerned nothing, and is passed over again if the process dies.
	stored events.Position // what the checkpoint is, unless another process has moved it
	passed time.Time       // when the position went past stored; zero if it has not

	mu     sync.Mutex
	status Status
	moved  chan struct{} // closed when status changes
}

// pageRead is a page of the log and where it begins. A page that was read stays right for good: the log never changes.
type pageRead struct {
	after events.Position
	page  []events.Recorded
	err   error
}

// read returns the next page, which may have been read already.
func (f *follower) read(ctx context.Context, after events.Position, batch int) ([]events.Recorded, error) {
	if f.ahead != nil {
		r := <-f.ahead
		f.ahead = nil
		if r.after == after && r.err == nil && len(r.page) <= batch {
			return r.page, nil
		}
	}
	return f.runner.shared.read(ctx, after, batch)
}

// readAhead reads the page after a position while another is applied.
func (f *follower) readAhead(ctx context.Context, after events.Position, batch int) {
	ahead := make(chan pageRead, 1)
	f.ahead = ahead
	go func() {
		page, err := f.runner.shared.read(ctx, after, batch)
		ahead <- pageRead{after, page, err}
	}()
}

func (f *follower) now() (Status, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, f.moved
}

// set changes the status and wakes who waits for that.
func (f *follower) set(change func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.status.State
	change(&f.status)
	if f.status.State != before {
		f.status.Since = time.Now().UTC()
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// resume notes where the checkpoint is. After an error that is no success yet.
func (f *follower) resume(position events.Position) {
	f.set(func(s *Status) {
		s.Position = max(s.Position, position)
		if s.State != Retrying {
			s.State = Running
		}
	})
}

// applied notes a success.
func (f *follower) applied(position events.Position) {
	f.set(func(s *Status) {
		s.Position, s.State, s.Attempts, s.Err = max(s.Position, position), Running, 0, nil
	})
}

// errOwned says that another process works on the projection.
var errOwned = errors.New("another process works on it")

// run follows the log until ctx ends or an event can't be decoded.
func (f *follower) run(ctx context.Context) {
	position, known, batch := events.Position(0), false, maxBatch
	defer func() {
		if known && position > f.stored { // or the next process passes over it again
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteErrorWithin)
			defer cancel()
			f.store(ctx, position)
		}
	}()
	for ctx.Err() == nil {
		var err error
		if !known {
			if position, err = f.checkpoint(ctx); err == nil {
				known, f.stored, f.passed = true, position, time.Time{}
				f.resume(position)
			}
		}
		if err == nil {
			position, err = f.step(ctx, position, batch)
		}
		switch {
		case err == nil:
			batch = min(2*batch, maxBatch)
		case ctx.Err() != nil:
			return
		case errors.Is(err, errOwned):
			known = false
			f.set(func(s *Status) { s.State = Standby })
			pause(ctx, standbyPoll)
		case errors.Is(err, events.ErrUndecodable):
			f.fail(ctx, Stopped, err)
			return
		default:
			known, f.ahead = false, nil
			batch = max(1, batch/2) // so that what comes before a bad event is applied, and the bad one found
			pause(ctx, backoff(f.fail(ctx, Retrying, err)))
		}
	}
}

// checkpoint returns the projection's position, making its row if it has none yet.
func (f *follower) checkpoint(ctx context.Context) (position events.Position, err error) {
	const read = `SELECT position FROM subscriptions WHERE name = $1` // primary key
	err = f.runner.pool.QueryRow(ctx, read, f.Name).Scan(&position)
	if !errors.Is(err, pgx.ErrNoRows) {
		return position, err
	}
	const insert = `INSERT INTO subscriptions (name) VALUES ($1) ON CONFLICT DO NOTHING`
	if _, err = f.runner.pool.Exec(ctx, insert, f.Name); err != nil {
		return 0, err
	}
	return position, f.runner.pool.QueryRow(ctx, read, f.Name).Scan(&position)
}

// step applies the next events, waiting for them if there are none, and returns the new position. The events are read
// before the transaction begins: it would otherwise hold one connection of the pool while it waits for another.
func (f *follower) step(ctx context.Context, position events.Position, batch int) (events.Position, error) {
	if !f.runner.log.Reaches(position) { // most often all there is has just been applied, and only asking would show that
		return f.await(ctx, position)
	}
	page, err := f.read(ctx, position, batch)
	if err != nil {
		return position, err
	}
	if len(page) == batch { // there is more, and reading it needs nothing of what applying this one does
		f.readAhead(ctx, page[len(page)-1].Position, batch)
	}
	if len(page) == 0 {
		return f.await(ctx, position)
	}
	touched, err := f.apply(ctx, page)
	if err != nil {
		return position, err
	}
	last := page[len(page)-1].Position
	switch {
	case touched:
		f.stored, f.passed = last, time.Time{}
	case f.passed.IsZero():
		f.passed = time.Now()
	}
	// After an error pages are small until what caused it is found, and an error forgets what is not stored.
	if last > f.stored && (batch < maxBatch || time.Since(f.passed) >= passFor) {
		if err := f.store(ctx, last); err != nil {
			return position, err
		}
	}
	f.applied(last)
	return last, nil
}

// await waits for events past a position, and moves the checkpoint there when it is time to.
func (f *follower) await(ctx context.Context, position events.Position) (events.Position, error) {
	patience := idlePoll
	if !f.passed.IsZero() {
		patience = min(idlePoll, time.Until(f.passed.Add(passFor)))
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f.runner.log.Wait(wait, position)
	if err == nil || ctx.Err() != nil || wait.Err() == nil {
		return position, err
	}
	if !f.passed.IsZero() {
		return position, f.store(ctx, position)
	}
	at, err := f.checkpoint(ctx) // another process may have moved it without this one noticing
	f.stored = at
	return at, err
}

// store moves the checkpoint past events that were passed over. Like apply it does not wait for the disk.
func (f *follower) store(ctx context.Context, position events.Position) error {
	var batch pgx.Batch // one transaction, as tenant.go says
	batch.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	batch.Queue(`UPDATE subscriptions SET position = $3, updated_at = now(), error = NULL WHERE name = $1 AND position = $2`,
		f.Name, f.stored, position)
	results := f.runner.pool.SendBatch(ctx, &batch)
	if _, err := results.Exec(); err != nil {
		results.Close()
		return err
	}
	moved, err := results.Exec()
	if err := errors.Join(err, results.Close()); err != nil {
		return err
	}
	if moved.RowsAffected() == 0 {
		return errOwned
	}
	f.stored, f.passed = position, time.Time{}
	return nil
}

// apply hands a page to the projection. If that touches its transaction, the transaction moves the checkpoint; if it does
// not, there was nothing in the page for it, and nothing is done.
//
// The commit does not wait for the disk. A crash of the server may take back the last moments of a projection, tables,
// jobs and checkpoint together, and then the same events are applied again; nothing that was appended can be lost so.
func (f *follower) apply(ctx context.Context, page []events.Recorded) (touched bool, err error) {
	tx := &lateTx{begin: func(ctx context.Context) (pgx.Tx, error) { return f.begin(ctx, page[len(page)-1].Position) }}
	defer tx.end(context.WithoutCancel(ctx))
	if err := f.call(ctx, tx, page); err != nil {
		return false, errors.Join(err, tx.err)
	}
	if tx.err != nil || tx.begun == nil {
		return false, tx.err
	}
	return true, tx.begun.Commit(ctx)
}

// begin begins the transaction of a page: it makes sure that the events follow on the checkpoint, and moves that past them,
// which locks it until the transaction ends.
func (f *follower) begin(ctx context.Context, to events.Position) (pgx.Tx, error) {
	tx, err := f.runner.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: "begin; set local synchronous_commit = off"})
	if err != nil {
		return nil, err
	}
	moved, err := tx.Exec(ctx, `
		UPDATE subscriptions SET position = $3, updated_at = now(), error = NULL
		 WHERE name = (SELECT name FROM subscriptions WHERE name = $1 AND position = $2 FOR UPDATE SKIP LOCKED) -- primary key
	`, f.Name, f.stored, to)
	if err == nil && moved.RowsAffected() == 0 {
		err = errOwned
	}
	if err != nil {
		tx.Rollback(context.WithoutCancel(ctx))
		return nil, err
	}
	return tx, nil
}

// fail notes an error, here and where other processes see it, and returns how many there were in a row.
func (f *follower) fail(ctx context.Context, state State, err error) (attempts int) {
	f.set(func(s *Status) {
		s.State, s.Err = state, err
		s.Attempts++
		attempts = s.Attempts
	})
	f.logger.Error("projections: a projection does not go on", "state", state, "attempts", attempts, "error", err)
	ctx, cancel := context.WithTimeout(ctx, noteErrorWithin)
	defer cancel()
	// Whoever has the row's lock is getting on, and would only be held up by an error that is not its own.
	_, noteErr := f.runner.pool.Exec(ctx, `
		UPDATE subscriptions SET error = $2
		 WHERE name = (SELECT name FROM subscriptions WHERE name = $1 FOR UPDATE SKIP LOCKED)
	`, f.Name, noteOf(state, err))
	if noteErr != nil && ctx.Err() == nil {
		f.logger.Warn("projections: the error could not be noted", "error", noteErr)
	}
	return attempts
}

// waitFor waits for one projection. What this process applies wakes it; what another one does is found by looking.
func (f *follower) waitFor(ctx context.Context, position events.Position) error {
	const op = "projections.WaitFor"
	for {
		status, moved := f.now()
		if status.Position >= position {
			return nil
		}
		poll := idlePoll
		if status.State != Running {
			poll = foreignPoll
			var at events.Position
			err := f.runner.pool.QueryRow(ctx, `SELECT position FROM subscriptions WHERE name = $1`, f.Name).Scan(&at)
			if err == nil && at >= position {
				return nil
			}
			if err == nil && status.State == Stopped {
				return domain.Errorf(domain.Unavailable, op, "the projection %s has stopped at position %d: %w", f.Name, at, status.Err)
			}
		}
		select {
		case <-moved:
		case <-time.After(poll):
		case <-ctx.Done():
			status, _ := f.now()
			return domain.Errorf(domain.Unavailable, op, "the projection %s (%s) is at position %d and has not reached %d: %w",
				f.Name, status.State, status.Position, position, errors.Join(ctx.Err(), status.Err)).WithHint("try again in a moment")
		}
	}
}

func backoff(attempts int) time.Duration {
	return min(firstRetry<<min(attempts-1, 10), longestRetry)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
