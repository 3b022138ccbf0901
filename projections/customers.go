package projections

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Customer is an organisation as one of its providers knows it.
type Customer struct {
	ID           string
	Orders       int
	FirstOrderAt time.Time
	LastOrderAt  time.Time
	Connections  map[string]int // by state; none of a state that none is in

	place int64 // of its first order
}

// CustomersOf returns a page of the organisations that ever ordered of a provider, in the order of their first orders, and
// the token of the next page ("" at the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) CustomersOf(ctx context.Context, provider string, limit int, token string) ([]Customer, string, error) {
	const op = "projections.CustomersOf"
	p, err := listOf("customers", provider).pageOf(op, limit, token, 0)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.DB.Query(ctx, `
		WITH page AS (
			SELECT customer_id, count(*) AS orders, min(position) AS first, max(position) AS last
			  FROM read_orders -- read_orders_provider
			 WHERE provider_id = $1 GROUP BY customer_id HAVING min(position) > $2 ORDER BY first LIMIT $3
		)
		SELECT p.customer_id, p.orders, p.first,
			(SELECT doc ->> 'placed_at' FROM read_orders WHERE position = p.first), -- read_orders_position_key
			(SELECT doc ->> 'placed_at' FROM read_orders WHERE position = p.last),
			coalesce((SELECT json_object_agg(state, n) FROM (
				SELECT doc ->> 'state' AS state, count(*) AS n FROM read_connections -- read_connections_customer
				 WHERE provider_id = $1 AND customer_id = p.customer_id GROUP BY 1
			) AS states), '{}')::text
		  FROM page AS p ORDER BY p.first`, provider, p.place, p.ask())
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Customer, err error) {
		var first, last, states string
		if err := row.Scan(&c.ID, &c.Orders, &c.place, &first, &last, &states); err != nil {
			return c, err
		}
		if c.FirstOrderAt, err = time.Parse(time.RFC3339Nano, first); err != nil {
			return c, err
		}
		if c.LastOrderAt, err = time.Parse(time.RFC3339Nano, last); err != nil {
			return c, err
		}
		return c, json.Unmarshal([]byte(states), &c.Connections)
	})
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, token = cut(p, found, func(c Customer) int64 { return c.place })
	return found, token, nil
}

// OrganisationNames returns the names of organisations; those that are not known are left out. Its error is Unavailable.
func (q Queries) OrganisationNames(ctx context.Context, ids []string) (map[string]string, error) {
	const op = "projections.OrganisationNames"
	rows, err := q.DB.Query(ctx, `SELECT organisation_id, doc ->> 'name' FROM read_organisations WHERE organisation_id = ANY($1)`, ids) // primary key
	if err != nil {
		return nil, unavailable(op, err)
	}
	names := make(map[string]string, len(ids))
	var id, name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil }); err != nil {
		return nil, unavailable(op, err)
	}
	return names, nil
}
