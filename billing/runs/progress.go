package runs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain"
)

// progress is the meters of a run that note how far it is: it asks for its connections in order, page after page.
type progress struct {
	billing.Meters
	runner   *Runner
	request  billing.Requested
	lookedAt int64
	page     []usage.Billable
}

// begin says that the run goes on, and of how many connections. A run that is taken up again looks at all of them again.
func (p *progress) begin(ctx context.Context) error {
	if err := p.CatchUp(ctx, p.request.Position); err != nil { // or it would not know of the newest
		return err
	}
	_, err := p.runner.options.Pool.Exec(ctx, `
		INSERT INTO billing_run_progress (run_id, request, looked_at, of)
		SELECT $1, $2, 0, count(*) FROM billing_connections
		 WHERE billing_from < $4 AND (billing_to IS NULL OR billing_to > $3) OR billed_to IS NOT NULL AND usage_version > billed_version
		ON CONFLICT (run_id) DO UPDATE SET request = excluded.request, looked_at = 0, of = excluded.of, updated_at = now()`,
		p.request.RunID, p.request.Version, p.request.PeriodStart, p.request.PeriodEnd)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "runs.progress", "the progress can't be noted: %w", err)
	}
	return nil
}

// Connections implements [billing.Meters].
func (p *progress) Connections(ctx context.Context, from, to time.Time, after usage.Billable, limit int) ([]usage.Billable, error) {
	if n := slices.Index(p.page, after); n >= 0 {
		p.lookedAt += int64(n + 1)
		p.page = nil
		// That it can't be noted keeps nothing from being billed.
		if _, err := p.runner.options.Pool.Exec(ctx, `UPDATE billing_run_progress SET looked_at = $2, of = greatest(of, $2), updated_at = now() WHERE run_id = $1`,
			p.request.RunID, p.lookedAt); err != nil && ctx.Err() == nil {
			p.runner.options.Logger.WarnContext(ctx, "how far a billing run is could not be noted", "run", p.request.RunID, "error", err)
		}
	}
	page, err := p.Meters.Connections(ctx, from, to, after, limit)
	p.page = page
	return page, err
}

// Progress is how far a run is that goes on.
type Progress struct {
	LookedAt int64 // connections that were billed, or had nothing to bill, or could not be
	Of       int64 // connections there are to look at; it may grow
}

// ProgressOf returns how far the last request for a run is; ok is false if nobody has begun to carry it out.
func ProgressOf(ctx context.Context, pool *pgxpool.Pool, request billing.Requested) (p Progress, ok bool, err error) {
	err = pool.QueryRow(ctx, `SELECT looked_at, of FROM billing_run_progress WHERE run_id = $1 AND request = $2`, // primary key
		request.RunID, request.Version).Scan(&p.LookedAt, &p.Of)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, false, nil
	}
	if err != nil {
		return p, false, domain.Errorf(domain.Unavailable, "runs.ProgressOf", "the progress can't be read: %w", err)
	}
	return p, true, nil
}
