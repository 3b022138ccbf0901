package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/order"
	"crossbill/events"
)

var orders = folder[order.State]{
	family: familyOf("order", order.Events()),
	evolve: order.Evolve,
	load:   `SELECT order_id, position, version, doc FROM read_orders WHERE order_id = ANY($1)`,
}

func applyOrders(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := orders.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_orders (order_id, position, version, customer_id, provider_id, doc)
		SELECT id, position, version, customer_id, provider_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
			AS t (id, position, version, customer_id, provider_id, doc)
		ON CONFLICT (order_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s order.State) string { return s.CustomerID }),
		each(rows, func(s order.State) string { return s.ProviderID }),
		c.docs)
	return err
}

// OrdersOf returns a page of the orders that the viewer placed or received, newest first, and the token of the next page
// ("" at the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) OrdersOf(ctx context.Context, viewer Viewer, limit int, token string) ([]order.State, string, error) {
	const op = "projections.OrdersOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("orders", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[order.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_orders -- read_orders_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	// A party may be both sides of an order; the second arm leaves those to the first.
	return docsPage[order.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM (
			(SELECT position, doc FROM read_orders -- read_orders_customer
			 WHERE customer_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3)
			UNION ALL
			(SELECT position, doc FROM read_orders -- read_orders_provider
			 WHERE provider_id = $1 AND customer_id <> $1 AND position < $2 ORDER BY position DESC LIMIT $3)
		) AS mine ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}
