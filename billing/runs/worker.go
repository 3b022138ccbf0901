package runs

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
	"crossbill/projections"
)

// RunArgs name the run that a job is to carry out.
type RunArgs struct {
	RunID string `json:"run_id"`
}

// Kind implements river.JobArgs. It is stored with each job and never changes.
func (RunArgs) Kind() string { return "billing_run" }

type worker struct {
	river.WorkerDefaults[RunArgs]
	runner *Runner
}

// Work carries out a run, unless another process is at it: then it looks again a little later.
func (w *worker) Work(ctx context.Context, job *river.Job[RunArgs]) error {
	mine, release, err := w.runner.lock(ctx, job.Args.RunID)
	if err != nil {
		return err
	}
	if !mine {
		return river.JobSnooze(busyPause)
	}
	defer release()
	err = w.runner.carryOut(ctx, job.Args.RunID, job.Attempt >= job.MaxAttempts)
	if ctx.Err() != nil { // the node stops: the next one that starts goes on
		return river.JobSnooze(0)
	}
	return err
}

// NextRetry implements river.Worker.
func (w *worker) NextRetry(job *river.Job[RunArgs]) time.Time {
	wait := firstBackOff
	for range job.Attempt - 1 {
		if wait *= 2; wait >= maxBackOff {
			wait = maxBackOff
			break
		}
	}
	return time.Now().Add(wait)
}

// lock takes the lock of whoever works at a run, on a connection that is held until release is called.
func (r *Runner) lock(ctx context.Context, runID string) (mine bool, release func(), err error) {
	conn, err := r.options.Pool.Acquire(ctx)
	if err != nil {
		return false, nil, domain.Errorf(domain.Unavailable, "runs.lock", "no connection: %w", err)
	}
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, lockName(runID)).Scan(&mine)
	if err != nil || !mine {
		conn.Release()
		if err != nil {
			err = domain.Errorf(domain.Unavailable, "runs.lock", "the lock of run %s can't be asked for: %w", runID, err)
		}
		return false, nil, err
	}
	return true, func() { unlock(context.WithoutCancel(ctx), conn, runID) }, nil
}

// unlock gives the lock up, with the connection if it has to.
func unlock(ctx context.Context, conn *pgxpool.Conn, runID string) {
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(hashtextextended($1, 0))`, lockName(runID)); err != nil {
		conn.Conn().Close(ctx)
	}
	conn.Release()
}

func lockName(runID string) string { return "billing run " + runID }

// run settles what the month's availability gives back, and bills it.
func (r *Runner) run(ctx context.Context, watch *progress, request billing.Requested) (billing.RunResult, error) {
	metadata := events.Metadata{
		Actor: request.Metadata.Actor, Correlation: request.Metadata.Correlation, Traceparent: request.Metadata.Traceparent,
		OnBehalfOf: request.Metadata.OnBehalfOf, Reason: request.Metadata.Reason,
	}
	at, period := r.now(), billing.Period{From: request.PeriodStart.UTC(), To: request.PeriodEnd.UTC()}
	grace := time.Duration(request.GraceSeconds) * time.Second
	if !period.To.Add(grace).After(at) { // while it is open it is not billed either
		if _, err := billing.SettleAvailability(ctx, r.options.Log, projections.Queries{DB: r.options.Pool}, period, at, metadata); err != nil {
			return billing.RunResult{}, err
		}
	}
	return billing.Run(ctx, r.options.Log, watch, billing.RunRequest{
		PeriodStart: request.PeriodStart, PeriodEnd: request.PeriodEnd, Grace: grace, At: at, Metadata: metadata,
	})
}

// carryOut bills what is asked for and appends how that ended. An error that it returns is one to try again for; last says
// that it is not going to be.
func (r *Runner) carryOut(ctx context.Context, runID string, last bool) error {
	request, err := billing.LoadRequest(ctx, r.options.Log, runID)
	if err != nil || !request.Open() {
		return err
	}
	logger := r.options.Logger.With("run", runID, "from", request.PeriodStart, "to", request.PeriodEnd)
	watch := &progress{Meters: r.meters, runner: r, request: request}
	if err := watch.begin(ctx); err != nil {
		return err
	}
	result, err := r.run(ctx, watch, request)
	var command billingrun.RequestCommand
	switch code := domain.CodeOf(err); {
	case err == nil, len(result.Problems) > 0: // nothing but problems is an end, too
		logger.InfoContext(ctx, "billing run ended", "issued", result.Issued, "problems", len(result.Problems))
		command = endOf(result, r.now())
	case ctx.Err() != nil:
		return err
	case last, code == domain.Conflict, code == domain.Invalid, code == domain.NotFound:
		logger.ErrorContext(ctx, "billing run failed", "error", err)
		fail := billingrun.Fail{Code: code, Detail: err.Error(), At: r.now()}
		if e := (*domain.Error)(nil); errors.As(err, &e) {
			fail.Hint = e.Hint
		}
		command = fail
	default:
		logger.WarnContext(ctx, "billing run failed, will be tried again", "error", err)
		return err
	}
	return r.end(ctx, request, command)
}

func endOf(result billing.RunResult, at time.Time) billingrun.End {
	end := billingrun.End{LogPosition: result.LogPosition, Issued: result.Issued, Invoices: result.Invoices, Settlements: result.Settlements, At: at}
	for _, p := range result.Problems {
		problem := billingrun.Problem{ConnectionID: p.ConnectionID, Code: domain.CodeOf(p.Err), Detail: p.Err.Error()}
		if e := (*domain.Error)(nil); errors.As(p.Err, &e) {
			problem.Hint = e.Hint
		}
		end.Problems = append(end.Problems, problem)
	}
	return end
}

// end appends how the request ended, unless another process has.
func (r *Runner) end(ctx context.Context, request billing.Requested, command billingrun.RequestCommand) error {
	decided, err := billingrun.DecideRequest(request.RequestState, command)
	if err != nil {
		return err
	}
	err = r.append(ctx, request, request.RunID, decided[0], events.Metadata{Actor: Actor, Correlation: request.Metadata.Correlation})
	if domain.CodeOf(err) == domain.Conflict {
		return nil
	}
	return err
}

// append adds an event to what was asked of a run, if nothing was added since that was read.
func (r *Runner) append(ctx context.Context, request billing.Requested, runID string, e domain.Event, metadata events.Metadata) error {
	_, err := r.options.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{{
		Stream: billingrun.RequestStream(runID), Expected: events.ExpectedVersion(request.Version),
		Events: []events.NewEvent{{Event: e, Metadata: metadata}},
	}}})
	return err
}
