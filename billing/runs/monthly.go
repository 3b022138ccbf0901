package runs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
)

// Actor is who asks for the months, and who says how runs ended, in their events' metadata.
const Actor = "billing_runs"

const (
	tickQueue   = "billing_tick"
	retryAfter  = 24 * time.Hour   // a run that left something undone is asked for again
	monthsBack  = 12               // how long a month is closed late, and its problems are taken up again
	takeUpAfter = 10 * time.Second // a job that has just begun may not have its lock yet
	maxTakeUp   = 1000             // jobs a tick takes up
	tickTimeout = 2 * time.Minute
)

// TickArgs are those of the periodic job.
type TickArgs struct{}

// Kind implements river.JobArgs. It is stored with each job and never changes.
func (TickArgs) Kind() string { return "billing_tick" }

type ticker struct {
	river.WorkerDefaults[TickArgs]
	runner *Runner
}

// Timeout implements river.Worker.
func (t *ticker) Timeout(*river.Job[TickArgs]) time.Duration { return tickTimeout }

// Work takes up what a killed process left, and asks for the months that are due. The next tick does what this one could not.
func (t *ticker) Work(ctx context.Context, _ *river.Job[TickArgs]) error {
	err := t.runner.takeUp(ctx, takeUpAfter)
	if err == nil {
		err = t.runner.askForMonths(ctx)
	}
	if err != nil && ctx.Err() == nil {
		t.runner.options.Logger.WarnContext(ctx, "billing runs could not be looked after", "error", err)
	}
	return err
}

// askForMonths asks for the run of each calendar month (UTC) that is over, and its grace, since the log began; and again, a day
// after it ended, for one that had problems or failed. Who asks at the same time meets in the run's stream, and one is first.
func (r *Runner) askForMonths(ctx context.Context) error {
	first, err := r.options.Log.ReadAll(ctx, 0, 1)
	if err != nil || len(first) == 0 {
		return err
	}
	now := r.now()
	last := billing.MonthOf(now)
	month := billing.MonthOf(last.From.AddDate(0, -monthsBack, 0))
	if began := billing.MonthOf(first[0].RecordedAt); began.From.After(month.From) {
		month = began
	}
	for ; month.From.Before(last.From); month = billing.MonthOf(month.To) {
		if month.To.Add(billing.DefaultGrace).After(now) {
			return nil
		}
		if err := r.askFor(ctx, month, now); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) askFor(ctx context.Context, month billing.Period, now time.Time) error {
	runID := billing.RunID(month)
	request, err := billing.LoadRequest(ctx, r.options.Log, runID)
	if err != nil || request.Open() {
		return err
	}
	if again, ended := request.Again(); request.Requests > 0 && (!again || ended.Add(retryAfter).After(now)) {
		return nil
	}
	command, err := billing.Request(month, billing.DefaultGrace, now)
	if err != nil {
		return err
	}
	decided, err := billingrun.DecideRequest(request.RequestState, command)
	if err != nil {
		return err
	}
	err = r.append(ctx, request, runID, decided[0], events.Metadata{Actor: Actor})
	if domain.CodeOf(err) == domain.Conflict { // somebody else asked first
		return nil
	}
	if err == nil {
		r.options.Logger.InfoContext(ctx, "a month is to be closed", "month", month.From.Format("2006-01"), "run", runID, "requests", request.Requests+1)
	}
	return err
}

// takeUp makes jobs available again that are said to be running for some time, and have nobody who works at them.
func (r *Runner) takeUp(ctx context.Context, running time.Duration) error {
	const op = "runs.takeUp"
	rows, err := r.options.Pool.Query(ctx, fmt.Sprintf(`
		SELECT id, args ->> 'run_id' FROM %s.river_job
		 WHERE kind = $1 AND state = 'running' AND attempted_at < now() - $2::interval ORDER BY id LIMIT $3`, Schema), // river_job_kind
		RunArgs{}.Kind(), running, maxTakeUp)
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "the jobs can't be read: %w", err)
	}
	type job struct {
		ID    int64
		RunID string
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "the jobs can't be read: %w", err).
			WithHint("run the migrations first: the tables are made by runs.Migrate")
	}
	for _, j := range jobs {
		mine, release, err := r.lock(ctx, j.RunID)
		if err != nil {
			return err
		}
		if !mine {
			continue
		}
		// A job that ends at this moment is run once more and finds nothing to do.
		_, err = r.options.Pool.Exec(ctx, fmt.Sprintf(`UPDATE %s.river_job SET state = 'available', scheduled_at = now() WHERE id = $1 AND state = 'running'`, Schema), j.ID)
		release()
		if err != nil {
			return domain.Errorf(domain.Unavailable, op, "job %d can't be taken up: %w", j.ID, err)
		}
		r.options.Logger.WarnContext(ctx, "a billing run that nobody works at is taken up", "run", j.RunID, "job", j.ID)
	}
	return nil
}
