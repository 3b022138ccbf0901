package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

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
		INSERT INTO read_invoices (invoice_id, position, version, customer_id, doc)
		SELECT id, position, version, customer_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
			AS t (id, position, version, customer_id, doc)
		ON CONFLICT (invoice_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, each(rows, func(s invoice.State) string { return s.CustomerID }), c.docs)
	return err
}

// InvoicesOf returns a page of the invoices to the viewer, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) InvoicesOf(ctx context.Context, viewer Viewer, limit int, token string) ([]invoice.State, string, error) {
	const op = "projections.InvoicesOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("invoices", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[invoice.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_invoices -- read_invoices_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[invoice.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_invoices -- read_invoices_customer
		WHERE customer_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}
