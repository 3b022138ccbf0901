package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// BilledSearch asks for connections that are billed for some time of [From, To). One of Customer and Provider is given.
type BilledSearch struct {
	Customer, Provider string // organisations
	From, To           time.Time
	Limit              int
	PageToken          string
}

// placedID is an id and its place in a list.
type placedID struct {
	Place int64
	ID    string
}

// Billed returns a page of connections, oldest first, and the token of the next page ("" at the end). A connection that
// accrues is billed without an end. It returns an Invalid error for a limit or a token that is none.
func (q Queries) Billed(ctx context.Context, s BilledSearch) ([]string, string, error) {
	const op = "projections.Billed"
	p, err := listOf("billed", s.Customer, s.Provider, s.From.UTC().Format(time.RFC3339), s.To.UTC().Format(time.RFC3339)).
		pageOf(op, s.Limit, s.PageToken, 0)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.DB.Query(ctx, `
		SELECT position, connection_id FROM read_connections -- read_connections_customer or read_connections_provider
		WHERE ($1 = '' OR customer_id = $1) AND ($2 = '' OR provider_id = $2) AND $1 <> $2
		  AND position > $3 AND billing_from < $5 AND (billing_to IS NULL OR billing_to > greatest(billing_from, $4))
		ORDER BY position LIMIT $6`, s.Customer, s.Provider, p.place, s.From, s.To, p.ask())
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[placedID])
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, next := cut(p, found, func(f placedID) int64 { return f.Place })
	ids := make([]string, len(found))
	for i, f := range found {
		ids[i] = f.ID
	}
	return ids, next, nil
}
