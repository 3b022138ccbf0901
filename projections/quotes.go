package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/quote"
	"crossbill/events"
)

var quotes = folder[quote.State]{
	family: familyOf("quote", quote.Events()),
	evolve: quote.Evolve,
	load:   `SELECT quote_id, position, version, doc FROM read_quotes WHERE quote_id = ANY($1)`,
}

func applyQuotes(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := quotes.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_quotes (quote_id, position, version, customer_id, provider_id, state, valid_until, doc)
		SELECT id, position, version, customer_id, provider_id, state, valid_until, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
			AS t (id, position, version, customer_id, provider_id, state, valid_until, doc)
		ON CONFLICT (quote_id) DO UPDATE SET version = EXCLUDED.version, state = EXCLUDED.state, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s quote.State) string { return s.CustomerID }),
		each(rows, func(s quote.State) string { return s.ProviderID }),
		each(rows, func(s quote.State) string { return s.State }),
		each(rows, func(s quote.State) time.Time { return s.ValidUntil }),
		c.docs)
	return err
}

// QuotesOf returns a page of the quotes that were made for the viewer or over its listings, newest first, and the token of
// the next page ("" at the end). state narrows it to quotes that are in a state now; "" leaves all in.
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) QuotesOf(ctx context.Context, viewer Viewer, state string, now time.Time, limit int, token string) ([]quote.State, string, error) {
	return partyPage[quote.State](ctx, q.DB, "projections.QuotesOf", "read_quotes", viewer, state, func(n int) (string, []any) {
		switch state {
		case "":
			return "", nil
		case quote.StateIssued:
			return fmt.Sprintf(` AND state = $%d AND valid_until > $%d`, n+1, n+2), []any{quote.StateIssued, now}
		case quote.StateExpired:
			return fmt.Sprintf(` AND state = $%d AND valid_until <= $%d`, n+1, n+2), []any{quote.StateIssued, now}
		}
		return fmt.Sprintf(` AND state = $%d`, n+1), []any{state}
	}, limit, token)
}

// QuotesByID returns those of the named quotes that the viewer is a party of, in no order.
func (q Queries) QuotesByID(ctx context.Context, viewer Viewer, ids []string) ([]quote.State, error) {
	return docsByID[quote.State](ctx, q.DB, "projections.QuotesByID", viewer, `
		SELECT position, doc FROM read_quotes -- primary key
		WHERE ($1 = '' OR customer_id = $1 OR provider_id = $1) AND quote_id = ANY($2)`, ids)
}
