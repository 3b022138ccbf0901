package usage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/events"
)

// Stock is what the store says of some connections, as it was at one position of the log.
type Stock struct {
	Position events.Position
	Days     map[string][]Day // by connection, in order
	// Late is, by connection, the first day and the last that have readings which came after the connection was last billed.
	// Most connections have none. Days holds what a period that these days are in may need.
	Late     map[string][2]time.Time
	Versions map[string]int64 // by connection, of its newest reading
	room     room
}

// Discard lets others have the room that the days take up. Nobody may look at them any more.
func (s *Stock) Discard() {
	s.Days = nil
	s.room.discard()
}

// Read returns the days of connections that begin in [from, to), and those before that late readings are in. Its error is
// Unavailable.
func (s Store) Read(ctx context.Context, connections []string, from, to time.Time) (all Stock, err error) {
	const op = "usage.Read"
	all = Stock{Days: make(map[string][]Day, len(connections)), Late: make(map[string][2]time.Time), Versions: make(map[string]int64, len(connections))}
	tx, err := s.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return all, unavailable(op, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := tx.QueryRow(ctx, `SELECT coalesce((SELECT position FROM subscriptions WHERE name = $1), 0)`, Name).Scan(&all.Position); err != nil {
		return all, unavailable(op, err)
	}
	rows, err := tx.Query(ctx, `SELECT connection_id, usage_version FROM billing_connections WHERE connection_id = ANY($1)`, connections)
	if err != nil {
		return all, unavailable(op, err)
	}
	var id string
	var version int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error { all.Versions[id] = version; return nil }); err != nil {
		return all, unavailable(op, err)
	}
	rows, err = tx.Query(ctx, `
		SELECT c.connection_id, min(d.day), max(d.day)
		  FROM billing_connections AS c
		  JOIN billing_usage_days AS d ON d.connection_id = c.connection_id AND d.last_version > c.billed_version -- billing_usage_days_last_version
		 WHERE c.connection_id = ANY($1) AND c.billed_to IS NOT NULL AND d.day < c.billed_to AT TIME ZONE 'UTC'
		 GROUP BY c.connection_id`, connections)
	if err != nil {
		return all, unavailable(op, err)
	}
	var first, last time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &first, &last}, func() error { all.Late[id] = [2]time.Time{first, last}; return nil }); err != nil {
		return all, unavailable(op, err)
	}
	if err := all.read(ctx, tx, connections, from, to); err != nil {
		return all, unavailable(op, err)
	}
	for id, days := range all.Late {
		start, end := days[0].Add(-longestPeriod), days[1].Add(longestPeriod)
		if end.After(from) {
			end = from
		}
		if err := all.read(ctx, tx, []string{id}, start, end); err != nil {
			return all, unavailable(op, err)
		}
	}
	for _, days := range all.Days {
		slices.SortFunc(days, func(a, b Day) int { return a.Start.Compare(b.Start) })
	}
	return all, nil
}

// longestPeriod is how far from a late reading the period that it belongs to begins or ends at most.
const longestPeriod = 32 * 24 * time.Hour

func (s *Stock) read(ctx context.Context, tx pgx.Tx, connections []string, from, to time.Time) error {
	rows, err := tx.Query(ctx, `
		SELECT connection_id, day, first_version, last_version, began, carried, digest, bytes_in, bytes_out, buckets
		  FROM billing_usage_days WHERE connection_id = ANY($1) AND day >= $2::date AND day < $3::date -- primary key`,
		connections, from.UTC(), to.UTC())
	if err != nil {
		return err
	}
	return eachDay(rows, &s.room, func(id string, d Day) error {
		days := s.Days[id]
		if days == nil {
			days = make([]Day, 0, 31)
		}
		s.Days[id] = append(days, d)
		return nil
	})
}

// Between returns the days of a connection that begin in [from, to).
func (s *Stock) Between(connection string, from, to time.Time) []Day {
	at := func(d Day, t time.Time) int { return d.Start.Compare(t) }
	days := s.Days[connection]
	first, _ := slices.BinarySearchFunc(days, from, at)
	end, _ := slices.BinarySearchFunc(days, to, at)
	return days[first:max(first, end)]
}

// Billable is a connection that a period may be billed for.
type Billable struct {
	CustomerID   string
	ConnectionID string
}

// Compare orders by customer, then by connection.
func (b Billable) Compare(o Billable) int {
	return cmp.Or(cmp.Compare(b.CustomerID, o.CustomerID), cmp.Compare(b.ConnectionID, o.ConnectionID))
}

// Connections returns the connections that are billable at some time of [from, to), and those with readings that came
// after they were billed, in the order of their customers. Whether the period is closed for one is not looked at. It
// returns at most limit, those that come after another. Its error is Unavailable.
func (s Store) Connections(ctx context.Context, from, to time.Time, after Billable, limit int) ([]Billable, error) {
	const op = "usage.Connections"
	rows, err := s.Pool.Query(ctx, `
		SELECT customer_id, connection_id FROM billing_connections -- billing_connections_customer
		 WHERE (customer_id, connection_id) > ($3, $4) AND billing_from IS NOT NULL
		   AND (billing_from < $2 AND (billing_to IS NULL OR billing_to > $1) OR billed_to IS NOT NULL AND usage_version > billed_version)
		 ORDER BY customer_id, connection_id LIMIT $5`, from.UTC(), to.UTC(), after.CustomerID, after.ConnectionID, limit)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Billable, err error) {
		return b, row.Scan(&b.CustomerID, &b.ConnectionID)
	})
	return found, unavailable(op, err)
}

// Known returns the customers of connections; those that are not in the log are left out. Its error is Unavailable.
func (s Store) Known(ctx context.Context, connections []string) ([]Billable, error) {
	const op = "usage.Known"
	rows, err := s.Pool.Query(ctx, `
		SELECT customer_id, connection_id FROM billing_connections WHERE connection_id = ANY($1) ORDER BY customer_id, connection_id`, connections)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Billable, err error) {
		return b, row.Scan(&b.CustomerID, &b.ConnectionID)
	})
	return found, unavailable(op, err)
}
