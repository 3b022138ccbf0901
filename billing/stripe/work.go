package stripe

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/settlement"
	"crossbill/events"
	"crossbill/projections"
)

// ProjectionName is the name the worker's checkpoint is kept under.
const ProjectionName = "stripe"

const (
	workInterval = 2 * time.Second // between looks at what is due, when nothing was
	workTime     = 4 * time.Minute // for one invoice
	workLease    = 5 * time.Minute // how long others leave it to who is at it

	// reconcileDays is how many of the last days are compared with Stripe every night, from reconcileAt (UTC) on: what Stripe
	// makes of something later (a refund that fails, a dispute) is compared as well.
	reconcileDays = 35
	reconcileAt   = 3 * time.Hour

	reconcileLock = int64(0x63726f7373737472) // "crossstr", an advisory lock that nobody else takes
)

// Worker follows the log and advances the invoices that something happened to, and compares the log with Stripe every
// night. Any number of nodes may run one on the same database.
type Worker struct {
	Mover  *Mover
	Pool   *pgxpool.Pool
	Logger *slog.Logger // default: discard
}

// NewWorker returns a worker whose mover finds settlements in the worker's own tables.
func NewWorker(client *Client, log *events.Log, pool *pgxpool.Pool, logger *slog.Logger) *Worker {
	w := &Worker{Pool: pool, Logger: logger}
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	w.Mover = &Mover{Client: client, Log: log, SettlementsOf: w.settlementsOf}
	return w
}

// Projection follows the log: its write is the work that an event asks for. A replay from the first event asks for all of
// it once more, and finds nothing to do.
func (w *Worker) Projection() projections.Projection {
	return projections.Projection{Name: ProjectionName, Apply: w.apply}
}

func (w *Worker) apply(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	for _, r := range batch {
		var err error
		switch e := r.Event.(type) {
		case settlement.Issued:
			err = addShares(ctx, tx, e)
		case settlement.Credited:
			_, err = tx.Exec(ctx, askFor+`SELECT invoice_id, $1, now() FROM stripe_shares WHERE settlement_id = $2`+askAgain, r.Position, e.SettlementID)
		case connectedaccount.Changed: // what waits for the account is there already
			_, err = tx.Exec(ctx, `
				UPDATE stripe_work SET asked = $1, due_at = now(), failures = 0
				 WHERE invoice_id IN (SELECT invoice_id FROM stripe_shares WHERE provider_id = $2)`, r.Position, e.OrganisationID)
		default:
			if id := concerned(r.Event); id != "" {
				_, err = tx.Exec(ctx, askFor+`VALUES ($2, $1, now())`+askAgain, r.Position, id)
			}
		}
		if err != nil {
			return domain.Errorf(domain.Unavailable, "stripe.apply", "the work could not be noted: %w", err)
		}
	}
	return nil
}

const (
	askFor   = `INSERT INTO stripe_work (invoice_id, asked, due_at) `
	askAgain = ` ON CONFLICT (invoice_id) DO UPDATE SET asked = EXCLUDED.asked, due_at = EXCLUDED.due_at, failures = 0`
)

// concerned returns the invoice that an event gives something to do for; "" for none. What the mover does itself gives it
// nothing to do: it says when to look again.
func concerned(e domain.Event) string {
	switch e := e.(type) {
	case invoice.Paid:
		return e.InvoiceID
	case invoice.Credited:
		return e.InvoiceID
	case invoice.Voided:
		return e.InvoiceID
	case payment.Requested: // it is looked at until it is paid, or can't be any more
		return e.InvoiceID
	case payment.Received:
		return e.InvoiceID
	case payment.RefundFailed:
		if e.Reference != "" { // it came back
			return e.InvoiceID
		}
	case payment.Disputed:
		return e.InvoiceID
	case payment.DisputeClosed:
		return e.InvoiceID
	}
	return ""
}

func addShares(ctx context.Context, tx pgx.Tx, s settlement.Issued) error {
	seen := make(map[string]bool)
	var ids []string
	for _, l := range s.Lines {
		if !seen[l.InvoiceID] {
			seen[l.InvoiceID] = true
			ids = append(ids, l.InvoiceID)
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO stripe_shares (invoice_id, settlement_id, provider_id) SELECT unnest($1::text[]), $2, $3
		ON CONFLICT DO NOTHING`, ids, s.SettlementID, s.ProviderID)
	return err
}

func (w *Worker) settlementsOf(ctx context.Context, invoiceID string) ([]string, error) {
	rows, err := w.Pool.Query(ctx, `SELECT settlement_id FROM stripe_shares WHERE invoice_id = $1 ORDER BY 1`, invoiceID) // primary key
	if err == nil {
		var ids []string
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return ids, nil
		}
	}
	return nil, domain.Errorf(domain.Unavailable, "stripe.settlementsOf", "the settlements of an invoice can't be read: %w", err)
}

// Run works until ctx ends, and returns its error.
func (w *Worker) Run(ctx context.Context) error {
	tick := time.NewTicker(workInterval)
	defer tick.Stop()
	compared := nightOf(time.Now())
	for {
		for {
			some, err := w.Once(ctx)
			if err != nil && ctx.Err() == nil {
				w.Logger.Warn("what is to be moved could not be looked up", "error", err)
			}
			if err != nil || !some {
				break
			}
		}
		if night := nightOf(time.Now()); night.After(compared) {
			compared = night
			w.nightly(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// nightOf returns when the last nightly comparison before a time begins. A node that is away then leaves it to the next
// night, which compares the same days.
func nightOf(t time.Time) time.Time {
	return t.UTC().Add(-reconcileAt).Truncate(24 * time.Hour).Add(reconcileAt)
}

// Once advances one invoice that is due, and reports whether there was one.
func (w *Worker) Once(ctx context.Context) (bool, error) {
	const op = "stripe.Worker.Once"
	var id string
	var asked int64
	var failures int
	var leased time.Time
	err := w.Pool.QueryRow(ctx, `
		UPDATE stripe_work SET due_at = now() + $1::interval
		 WHERE invoice_id = (SELECT invoice_id FROM stripe_work WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) -- stripe_work_due
		RETURNING invoice_id, asked, failures, due_at`, workLease).Scan(&id, &asked, &failures, &leased)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, domain.Errorf(domain.Unavailable, op, "the work can't be read: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, workTime)
	again, err := w.Mover.Advance(limited, id)
	cancel()
	if err != nil {
		failures++
		if retry, _ := pause(failures, time.Now()); again.IsZero() || retry.Before(again) {
			again = retry
		}
		w.Logger.Warn("money could not be moved", "invoice", id, "failures", failures, "again", again, "error", err)
	} else {
		failures = 0
	}
	// Who asked meanwhile has set another time, which stays.
	if again.IsZero() {
		_, err = w.Pool.Exec(context.WithoutCancel(ctx), `DELETE FROM stripe_work WHERE invoice_id = $1 AND asked = $2 AND due_at = $3`, id, asked, leased)
	} else {
		_, err = w.Pool.Exec(context.WithoutCancel(ctx), `UPDATE stripe_work SET due_at = $4, failures = $5 WHERE invoice_id = $1 AND asked = $2 AND due_at = $3`,
			id, asked, leased, again, failures)
	}
	if err != nil {
		return false, domain.Errorf(domain.Unavailable, op, "the work can't be noted: %w", err)
	}
	return true, nil
}

// nightly compares the last days, on one node at a time, and logs every difference.
func (w *Worker) nightly(ctx context.Context) {
	conn, err := w.Pool.Acquire(ctx)
	if err != nil {
		return
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, reconcileLock).Scan(&mine); err != nil || !mine {
		return
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, reconcileLock) }()
	to := time.Now()
	r, err := w.Mover.Reconcile(ctx, to.AddDate(0, 0, -reconcileDays), to)
	if err != nil {
		w.Logger.Error("the log could not be compared with Stripe", "error", err)
		return
	}
	for _, f := range r.Findings {
		w.Logger.Error("the log and Stripe differ", "kind", f.Kind, "problem", f.Problem, "id", f.ID, "reference", f.Reference, "here", f.Here, "there", f.There)
	}
	w.Logger.Info("the log was compared with Stripe", "compared", r.Compared, "findings", len(r.Findings))
}
