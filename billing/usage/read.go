package usage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/events"
)

// Stock is what the store says of some connections, as it was at one position of the log. Whoever is done with it closes it.
type Stock struct {
	Position events.Position
	// Late is, by connection, the first day and the last that have readings which came after the connection was last billed.
	// Most connections have none.
	Late     map[string][2]time.Time
	Versions map[string]int64 // by connection, of its newest reading

	tx          pgx.Tx
	connections []string
	from, to    time.Time
	late        map[string][]Day // by connection: those before from that Late may need
	days        map[string][]Day // of the connections that were read last, in order
	room        room             // of these
	closed      bool
}

// maxStocks is how many are open in a process at most. Each holds a connection to PostgreSQL while whoever has it needs
// another one for what else it reads: a pool must have more than these and what else is held so, a run's lock, or all would
// be held by those that wait for one.
const maxStocks = 2

var stocks = make(chan struct{}, maxStocks)

// Open looks at the days of connections that begin in [from, to), and those before that late readings are in. They are best
// asked for in the order of the connections. It waits while others have as many open as there may be. Its error is
// Unavailable.
func (s Store) Open(ctx context.Context, connections []string, from, to time.Time) (*Stock, error) {
	const op = "usage.Open"
	select {
	case stocks <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable(op, ctx.Err())
	}
	all := &Stock{
		Late: make(map[string][2]time.Time), Versions: make(map[string]int64, len(connections)),
		connections: connections, from: from.UTC(), to: to.UTC(), late: make(map[string][]Day),
	}
	var err error
	if all.tx, err = s.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err == nil {
		err = all.open(ctx)
	}
	if err != nil {
		all.Close(ctx)
		return nil, unavailable(op, err)
	}
	return all, nil
}

// Close gives back what it holds. It may be closed again.
func (s *Stock) Close(ctx context.Context) {
	if s.closed {
		return
	}
	s.closed = true
	if s.tx != nil {
		s.tx.Rollback(context.WithoutCancel(ctx))
	}
	<-stocks
}

func (s *Stock) open(ctx context.Context) error {
	if err := s.tx.QueryRow(ctx, `SELECT coalesce((SELECT position FROM subscriptions WHERE name = $1), 0)`, Name).Scan(&s.Position); err != nil {
		return err
	}
	rows, err := s.tx.Query(ctx, `SELECT connection_id, usage_version FROM billing_connections WHERE connection_id = ANY($1)`, s.connections)
	if err != nil {
		return err
	}
	var id string
	var version int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error { s.Versions[id] = version; return nil }); err != nil {
		return err
	}
	rows, err = s.tx.Query(ctx, `
		SELECT c.connection_id, min(d.day), max(d.day)
		  FROM billing_connections AS c
		  JOIN billing_usage_days AS d ON d.connection_id = c.connection_id AND d.last_version > c.billed_version -- billing_usage_days_last_version
		 WHERE c.connection_id = ANY($1) AND c.billed_to IS NOT NULL AND d.day < c.billed_to AT TIME ZONE 'UTC'
		 GROUP BY c.connection_id`, s.connections)
	if err != nil {
		return err
	}
	var first, last time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &first, &last}, func() error { s.Late[id] = [2]time.Time{first, last}; return nil }); err != nil {
		return err
	}
	for id, days := range s.Late {
		start, end := days[0].Add(-longestPeriod), days[1].Add(longestPeriod)
		if end.After(s.from) {
			end = s.from
		}
		if err := s.read(ctx, s.late, nil, []string{id}, start, end); err != nil {
			return err
		}
	}
	return nil
}

// longestPeriod is how far from a late reading the period that it belongs to begins or ends at most.
const longestPeriod = 32 * 24 * time.Hour

func (s *Stock) read(ctx context.Context, into map[string][]Day, room *room, connections []string, from, to time.Time) error {
	rows, err := s.tx.Query(ctx, `
		SELECT connection_id, day, first_version, last_version, began, carried, digest, bytes_in, bytes_out, buckets
		  FROM billing_usage_days WHERE connection_id = ANY($1) AND day >= $2::date AND day < $3::date -- primary key`,
		connections, from, to)
	if err != nil {
		return err
	}
	err = eachDay(rows, room, func(id string, d Day) error {
		days := into[id]
		if days == nil {
			days = make([]Day, 0, 31)
		}
		into[id] = append(days, d)
		return nil
	})
	for _, days := range into {
		slices.SortFunc(days, func(a, b Day) int { return a.Start.Compare(b.Start) })
	}
	return err
}

// perLook is how many connections' days are read at once. A month of one is 100 000 bytes: a few at a time are still in the
// processor's caches when they are counted.
const perLook = 16

// Between returns the days of a connection that begin in [from, to), in order. They are good until another connection's are
// asked for. Its error is Unavailable.
func (s *Stock) Between(ctx context.Context, connection string, from, to time.Time) ([]Day, error) {
	if _, ok := s.days[connection]; !ok {
		n := max(0, slices.Index(s.connections, connection))
		next := s.connections[n:min(n+perLook, len(s.connections))]
		days := make(map[string][]Day, len(next))
		for _, id := range next {
			days[id] = nil
		}
		s.days, s.room = nil, s.room[:0]
		if err := s.read(ctx, days, &s.room, next, s.from, s.to); err != nil {
			return nil, unavailable("usage.Between", err)
		}
		s.days = days
	}
	days := s.days[connection]
	if late := s.late[connection]; late != nil && from.Before(s.from) {
		days = slices.Concat(late, days)
	}
	at := func(d Day, t time.Time) int { return d.Start.Compare(t) }
	first, _ := slices.BinarySearchFunc(days, from, at)
	end, _ := slices.BinarySearchFunc(days, to, at)
	return days[first:max(first, end)], nil
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
