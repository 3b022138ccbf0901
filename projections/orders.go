package projections

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

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
	last, f := make(map[string]int64), orders
	f.step = func(e events.Recorded, _, after order.State) { last[after.ID] = int64(e.Position) }
	rows, err := f.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_orders (order_id, position, version, customer_id, provider_id, state, needs, due, doc, connection_id, last_position)
		SELECT id, position, version, customer_id, provider_id, state, needs, due, doc::json, connection_id, last_position
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[],
				$10::text[], $11::bigint[])
			AS t (id, position, version, customer_id, provider_id, state, needs, due, doc, connection_id, last_position)
		ON CONFLICT (order_id) DO UPDATE SET
			version = EXCLUDED.version, state = EXCLUDED.state, needs = EXCLUDED.needs, due = EXCLUDED.due, doc = EXCLUDED.doc,
			last_position = EXCLUDED.last_position`,
		c.ids, c.positions, c.versions,
		each(rows, func(s order.State) string { return s.CustomerID }),
		each(rows, func(s order.State) string { return s.ProviderID }),
		each(rows, func(s order.State) string { return s.State }),
		each(rows, func(s order.State) string { who, _ := s.Needs(); return who }),
		each(rows, due),
		c.docs,
		each(rows, func(s order.State) string { return s.ConnectionID }),
		each(rows, func(s order.State) int64 { return last[s.ID] }))
	return err
}

// due returns from when on the platform has to move the order on: at once, or when who is asked has not answered; nil at its
// end.
func due(s order.State) *time.Time {
	if s.Final() {
		return nil
	}
	if who, by := s.Needs(); who != order.NeedsNobody {
		return &by
	}
	return &s.Since
}

// OrdersOfConnection returns the ids of the orders for a connection that have events past a position, in the order that they
// were placed in: all that had some before it, and of later ones those that the next limit events can be of.
func (q Queries) OrdersOfConnection(ctx context.Context, connectionID string, after events.Position, limit int) ([]string, error) {
	const op = "projections.OrdersOfConnection"
	rows, err := q.DB.Query(ctx, `
		SELECT order_id FROM (
			SELECT order_id, position FROM read_orders -- read_orders_connection
			 WHERE connection_id = $1 AND position <= $2 AND last_position > $2
			UNION ALL
			(SELECT order_id, position FROM read_orders -- read_orders_connection
			  WHERE connection_id = $1 AND position > $2 ORDER BY position LIMIT $3)
		) AS told ORDER BY position`, connectionID, int64(after), limit)
	if err != nil {
		return nil, unavailable(op, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, unavailable(op, err)
	}
	return ids, nil
}

// OrderFilter narrows a list of orders. Its zero value leaves all in.
type OrderFilter struct {
	State    string // of the order; "" for any
	Needs    string // who has to act; "" for anybody or nobody
	Troubled bool   // only those with which the platform can't go on by itself
}

// conditions returns what the filter adds to a query whose last parameter so far is number n.
func (f OrderFilter) conditions(n int) (sql string, args []any) {
	add := func(condition string, value any) {
		args = append(args, value)
		sql += fmt.Sprintf(condition, n+len(args))
	}
	if f.State != "" {
		add(` AND state = $%d`, f.State) // read_orders_customer_state, read_orders_provider_state
	}
	if f.Needs != "" {
		add(` AND needs = $%d AND needs <> ''`, f.Needs) // read_orders_…needs
	}
	if f.Troubled { // read_connections_trouble, of which there are few; those that are over need nobody: their connection may
		sql += ` AND due IS NOT NULL AND order_id IN (
			SELECT doc -> 'trouble' ->> 'order_id' FROM read_connections WHERE doc -> 'trouble' ->> 'state' = 'operator')`
	}
	return sql, args
}

func (f OrderFilter) key() string {
	return strings.Join([]string{f.State, f.Needs, strconv.FormatBool(f.Troubled)}, "\x00")
}

// OrdersOf returns a page of the orders that the viewer placed or received, newest first, and the token of the next page
// ("" at the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) OrdersOf(ctx context.Context, viewer Viewer, f OrderFilter, limit int, token string) ([]order.State, string, error) {
	return partyPage[order.State](ctx, q.DB, "projections.OrdersOf", "read_orders", viewer, f.key(), f.conditions, limit, token)
}

// OrderObstacle returns in an operator's words why the order could not be carried out; "" if there is no more to say than
// its reason, and for every viewer but an operator.
func (q Queries) OrderObstacle(ctx context.Context, orderID string) (string, error) {
	const op = "projections.OrderObstacle"
	rows, err := q.DB.Query(ctx, `SELECT detail FROM order_obstacles WHERE order_id = $1`, orderID) // primary key
	if err != nil {
		return "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", unavailable(op, err)
	}
	return strings.Join(found, ""), nil
}

// partyPage returns a page of a table whose rows have a customer and a provider, newest first: of those that the viewer is
// either of. filter returns conditions and their parameters, numbered from after the last one that it is given.
func partyPage[S any](ctx context.Context, db Database, op, table string, viewer Viewer, filterKey string, filter func(n int) (string, []any), limit int, token string) ([]S, string, error) {
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf(table, viewer.key(), filterKey).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		where, args := filter(2)
		return docsPage[S](ctx, db, op, p, `
			SELECT position, doc FROM `+table+` AS o -- by position, which is unique, or by an index of the filter's own
			WHERE position < $1`+where+` ORDER BY position DESC LIMIT $2`, append([]any{p.place, p.ask()}, args...)...)
	}
	where, args := filter(3)
	// A party may be both sides; the second arm leaves those to the first.
	return docsPage[S](ctx, db, op, p, `
		SELECT position, doc FROM (
			(SELECT position, doc FROM `+table+` AS o -- index …_customer, or one of the filter's own
			 WHERE customer_id = $1 AND position < $2`+where+` ORDER BY position DESC LIMIT $3)
			UNION ALL
			(SELECT position, doc FROM `+table+` AS o -- index …_provider, likewise
			 WHERE provider_id = $1 AND customer_id <> $1 AND position < $2`+where+` ORDER BY position DESC LIMIT $3)
		) AS mine ORDER BY position DESC LIMIT $3`, append([]any{viewer.organisation, p.place, p.ask()}, args...)...)
}
