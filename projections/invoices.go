package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/events"
)

var invoices = folder[invoice.State]{
	family: familyOf("invoice", invoice.Events(), invoice.NumberTaken{}), // that one has a stream of its own
	evolve: invoice.Evolve,
	load:   `SELECT invoice_id, position, version, doc FROM read_invoices WHERE invoice_id = ANY($1)`,
}

func applyInvoices(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := invoices.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_invoices (invoice_id, position, version, customer_id, period_start, currency, state, billing_account_id, doc)
		SELECT id, position, version, customer_id, period_start, currency, state, nullif(billing_account_id, ''), doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[])
			AS t (id, position, version, customer_id, period_start, currency, state, billing_account_id, doc)
		ON CONFLICT (invoice_id) DO UPDATE SET version = EXCLUDED.version, state = EXCLUDED.state, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s invoice.State) string { return s.CustomerID }),
		each(rows, func(s invoice.State) time.Time { return s.PeriodStart }),
		each(rows, func(s invoice.State) string { return string(s.Currency) }),
		each(rows, func(s invoice.State) string { return s.State }),
		each(rows, func(s invoice.State) string { return s.BillingAccountID }),
		c.docs)
	return err
}

// BookSearch narrows a list of invoices or settlements; what is "" or zero does not.
type BookSearch struct {
	From, To         time.Time // the period begins in [From, To)
	Currency         domain.Currency
	State            string // invoices only
	BillingAccountID string // invoices only
	Limit            int
	PageToken        string
}

func (s BookSearch) list(name string, viewer Viewer) list {
	return listOf(name, viewer.key(), stampOf(s.From), stampOf(s.To), string(s.Currency), s.State, s.BillingAccountID)
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// timeOrNull is how a time that may be missing stands in a query.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// InvoicesOf returns a page of the invoices to the viewer, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) InvoicesOf(ctx context.Context, viewer Viewer, s BookSearch) ([]invoice.State, string, error) {
	const op = "projections.InvoicesOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := s.list("invoices", viewer).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[invoice.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_invoices -- read_invoices_customer, or read_invoices_position_key for an operator
		WHERE `+whose(viewer, "customer_id")+` AND position < $2 AND ($3::timestamptz IS NULL OR period_start >= $3)
		  AND ($4::timestamptz IS NULL OR period_start < $4) AND ($5 = '' OR currency = $5) AND ($6 = '' OR state = $6)
		  AND ($7 = '' OR billing_account_id = $7)
		ORDER BY position DESC LIMIT $8`,
		viewer.organisation, p.place, timeOrNull(s.From), timeOrNull(s.To), string(s.Currency), s.State, s.BillingAccountID, p.ask())
}

// InvoicesByID returns those of the named invoices that are the viewer's, in no order.
func (q Queries) InvoicesByID(ctx context.Context, viewer Viewer, ids []string) ([]invoice.State, error) {
	return docsByID[invoice.State](ctx, q.DB, "projections.InvoicesByID", viewer, `
		SELECT position, doc FROM read_invoices -- primary key
		WHERE `+whose(viewer, "customer_id")+` AND invoice_id = ANY($2)`, ids)
}

// docsByID runs a query of $1, the viewer's organisation, and $2, ids.
func docsByID[S any](ctx context.Context, db Database, op string, viewer Viewer, sql string, ids []string) ([]S, error) {
	if err := viewer.check(op); err != nil {
		return nil, err
	}
	found, err := selectDocs[S](ctx, db, op, sql, viewer.organisation, ids)
	docs := make([]S, len(found))
	for i, s := range found {
		docs[i] = s.doc
	}
	return docs, err
}

// whose is the condition that rows are the viewer's, who is $1. It is a text of its own for an operator, so that the planner
// knows which index serves.
func whose(viewer Viewer, column string) string {
	if viewer.operator {
		return "$1 = ''"
	}
	return column + " = $1"
}
