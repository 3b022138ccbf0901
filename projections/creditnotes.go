package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/creditnote"
	"crossbill/events"
)

var creditNotes = folder[creditnote.State]{
	family: familyOf("credit_note", creditnote.Events()),
	evolve: creditnote.Evolve,
	load:   `SELECT credit_note_id, position, version, doc FROM read_credit_notes WHERE credit_note_id = ANY($1)`,
}

func applyCreditNotes(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := creditNotes.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_credit_notes (credit_note_id, position, version, customer_id, invoice_id, issued_at, currency, doc)
		SELECT id, position, version, customer_id, invoice_id, issued_at, currency, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[])
			AS t (id, position, version, customer_id, invoice_id, issued_at, currency, doc)
		ON CONFLICT (credit_note_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s creditnote.State) string { return s.CustomerID }),
		each(rows, func(s creditnote.State) string { return s.InvoiceID }),
		each(rows, func(s creditnote.State) time.Time { return s.At }),
		each(rows, func(s creditnote.State) string { return string(s.Currency) }),
		c.docs)
	return err
}

// CreditNotesOf returns a page of the credit notes to the viewer, newest first, and the token of the next page ("" at the
// end). From and To of the search are of the time that they were issued at, and only they and Currency narrow it. It returns
// an Invalid error for a limit or a token that is none.
func (q Queries) CreditNotesOf(ctx context.Context, viewer Viewer, s BookSearch) ([]creditnote.State, string, error) {
	const op = "projections.CreditNotesOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := s.list("credit_notes", viewer).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[creditnote.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_credit_notes -- read_credit_notes_customer, or read_credit_notes_position_key for an operator
		WHERE `+whose(viewer, "customer_id")+` AND position < $2 AND ($3::timestamptz IS NULL OR issued_at >= $3)
		  AND ($4::timestamptz IS NULL OR issued_at < $4) AND ($5 = '' OR currency = $5)
		ORDER BY position DESC LIMIT $6`,
		viewer.organisation, p.place, timeOrNull(s.From), timeOrNull(s.To), string(s.Currency), p.ask())
}
