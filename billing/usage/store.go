package usage

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing/rating"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/reading"
	"crossbill/events"
	"crossbill/projections"
)

// Name is what the store's checkpoint is kept under.
const Name = "usage_days"

// Limits of one step, which is one transaction. A row is written once a step however many readings it got, so that steps
// are few and large: a page of events is not one.
const (
	pageSize    = 5000
	maxReadings = 100_000          // of one step
	maxDays     = 5_000            // rows of one step; each has some 5 kB in memory
	Pause       = 30 * time.Second // between steps, unless somebody asks for what is newer
	firstRetry  = time.Second
	lastRetry   = time.Minute
)

// Store follows the log. It is safe for concurrent use, and any number of processes may have one: a row lock lets one at a
// time work.
type Store struct {
	Pool *pgxpool.Pool
	Log  *events.Log
}

// Projection is the store as something that `crossbill projections rebuild` can make anew.
func Projection() projections.Projection {
	return projections.Projection{Name: Name, Apply: apply, Tables: []string{"billing_usage_days", "billing_connections"}}
}

// Run keeps the store up to date until ctx ends, and then returns nil.
func (s Store) Run(ctx context.Context, logger *slog.Logger) error {
	retry := firstRetry
	for ctx.Err() == nil {
		wait := Pause
		head, err := s.Log.Head(ctx)
		if err == nil {
			err = s.CatchUp(ctx, head.Position)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			logger.Error("the usage store does not go on", "error", err, "retry", retry)
			wait, retry = retry, min(2*retry, lastRetry)
		default:
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// CatchUp brings the store to a position, or further. Its errors are those of reading the log and Unavailable.
func (s Store) CatchUp(ctx context.Context, position events.Position) error {
	for {
		at, err := s.step(ctx, position)
		if err != nil || at >= position {
			return err
		}
	}
}

// step applies the next events, as many as one transaction takes, and returns the position that the store is at.
func (s Store) step(ctx context.Context, target events.Position) (at events.Position, err error) {
	const op = "usage.Store"
	if err := s.Pool.QueryRow(ctx, `SELECT coalesce((SELECT position FROM subscriptions WHERE name = $1), 0)`, Name).Scan(&at); err != nil {
		return 0, unavailable(op, err)
	}
	if at >= target {
		return at, nil
	}
	// The log is read before the transaction begins, which would hold one connection of the pool while it waits for another.
	b, from := newBatch(), at
	for b.readings < maxReadings && len(b.days) < maxDays {
		page, err := s.Log.ReadAll(ctx, at, pageSize)
		if err != nil {
			return from, err
		}
		for _, e := range page {
			if err := b.add(e); err != nil {
				return from, err
			}
			at = e.Position
		}
		if len(page) == 0 || at >= target {
			break
		}
	}
	tx, err := s.Pool.Begin(ctx)
	if err != nil {
		return from, unavailable(op, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `INSERT INTO subscriptions (name) VALUES ($1) ON CONFLICT DO NOTHING`, Name); err != nil {
		return from, unavailable(op, err)
	}
	var now events.Position
	if err := tx.QueryRow(ctx, `SELECT position FROM subscriptions WHERE name = $1 FOR UPDATE`, Name).Scan(&now); err != nil || now != from {
		return now, unavailable(op, err) // somebody else came first
	}
	if err := b.write(ctx, tx); err != nil {
		return from, unavailable(op, err)
	}
	if _, err := tx.Exec(ctx, `UPDATE subscriptions SET position = $2, updated_at = now(), error = NULL WHERE name = $1`, Name, at); err != nil {
		return from, unavailable(op, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return from, unavailable(op, err)
	}
	return at, nil
}

func apply(ctx context.Context, tx pgx.Tx, page []events.Recorded) error {
	b := newBatch()
	for _, e := range page {
		if err := b.add(e); err != nil {
			return err
		}
	}
	return b.write(ctx, tx)
}

// unavailable makes an error of the database the store's own, and leaves others as they are.
func unavailable(op string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.As(err, new(*domain.Error)) {
		return err
	}
	return domain.Errorf(domain.Unavailable, op, "the usage store can't be used: %w", err)
}

// batch is what a step comes to before it is written.
type batch struct {
	readings int
	days     map[dayKey][]counted
	newest   map[string]int64 // by connection, the version of its newest reading
	changes  []change
}

type dayKey struct {
	connection string
	day        int64 // its midnight, in seconds since 1970
}

// counted is a reading that touches a day.
type counted struct {
	rating.Reading
	version int64
	leaf    [32]byte
}

// change is what an event says of a connection that is billed, in the order of the log.
type change struct {
	sql  string
	args []any
}

func newBatch() *batch {
	return &batch{days: make(map[dayKey][]counted), newest: make(map[string]int64)}
}

func (b *batch) add(e events.Recorded) error {
	note := func(sql string, args ...any) { b.changes = append(b.changes, change{sql, args}) }
	switch v := e.Event.(type) {
	case reading.Recorded:
		if v.To.Before(v.From) || v.BytesIn < 0 || v.BytesOut < 0 || e.Version < 1 {
			return domain.Errorf(domain.Internal, "usage.add", "the reading at position %d can't be counted", e.Position)
		}
		r := counted{rating.Reading{Interval: rating.Interval{From: v.From.UTC(), To: v.To.UTC()}, BytesIn: v.BytesIn, BytesOut: v.BytesOut}, e.Version, e.LeafHash}
		Days(r.Interval, func(day time.Time) {
			key := dayKey{v.ConnectionID, day.Unix()}
			b.days[key] = append(b.days[key], r)
		})
		b.newest[v.ConnectionID] = e.Version
		b.readings++
	case connection.Requested:
		note(`INSERT INTO billing_connections (connection_id, customer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, v.ConnectionID, v.CustomerID)
	case connection.Activated:
		note(`UPDATE billing_connections SET billing_from = $2 WHERE connection_id = $1`, v.ConnectionID, v.At)
	case connection.DecommissionRequested:
		note(`UPDATE billing_connections SET billing_to = $2 WHERE connection_id = $1`, v.ConnectionID, v.EffectiveAt)
	case billingrun.PeriodClosed:
		note(`UPDATE billing_connections SET billed_to = greatest(billed_to, $2), billed_version = $3 WHERE connection_id = $1`,
			v.ConnectionID, v.PeriodEnd, v.UsageVersion)
	case billingrun.PeriodAdjusted:
		note(`UPDATE billing_connections SET billed_version = greatest(billed_version, $2) WHERE connection_id = $1`, v.ConnectionID, v.UsageVersion)
	case billingrun.PeriodReopened: // which of its periods are closed is read from its stream, when they are billed
		note(`UPDATE billing_connections SET billed_version = 0 WHERE connection_id = $1`, v.ConnectionID)
	}
	return nil
}

// write adds the batch to what the rows hold.
func (b *batch) write(ctx context.Context, tx pgx.Tx) error {
	if err := b.writeDays(ctx, tx); err != nil {
		return err
	}
	todo := &pgx.Batch{}
	for _, c := range b.changes {
		todo.Queue(c.sql, c.args...)
	}
	if len(b.newest) > 0 {
		var ids []string
		var versions []int64
		for id, version := range b.newest {
			ids, versions = append(ids, id), append(versions, version)
		}
		todo.Queue(`
			UPDATE billing_connections AS c SET usage_version = n.version
			  FROM unnest($1::text[], $2::bigint[]) AS n (id, version) WHERE c.connection_id = n.id`, ids, versions)
	}
	if todo.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, todo).Close()
}

func (b *batch) writeDays(ctx context.Context, tx pgx.Tx) error {
	if len(b.days) == 0 {
		return nil
	}
	keys := make([]dayKey, 0, len(b.days))
	for key := range b.days {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b dayKey) int {
		return cmp.Or(cmp.Compare(a.connection, b.connection), cmp.Compare(a.day, b.day))
	})
	for some := range slices.Chunk(keys, 500) {
		if err := b.writeSome(ctx, tx, some); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) writeSome(ctx context.Context, tx pgx.Tx, keys []dayKey) error {
	ids, days := make([]string, len(keys)), make([]time.Time, len(keys))
	for n, key := range keys {
		ids[n], days[n] = key.connection, time.Unix(key.day, 0).UTC()
	}
	rows, err := tx.Query(ctx, `
		SELECT d.connection_id, d.day, d.first_version, d.last_version, d.began, d.carried, d.digest, d.bytes_in, d.bytes_out, d.buckets
		  FROM unnest($1::text[], $2::date[]) AS k (id, day)
		  JOIN billing_usage_days AS d ON d.connection_id = k.id AND d.day = k.day -- primary key`, ids, days)
	if err != nil {
		return err
	}
	before := make(map[dayKey]Day, len(keys))
	if err := eachDay(rows, nil, func(id string, d Day) error {
		before[dayKey{id, d.Start.Unix()}] = d
		return nil
	}); err != nil {
		return err
	}
	var first, last, in, out []int64
	var began, carried []int32
	var digests, buckets [][]byte
	for _, key := range keys {
		a := adding{Day: before[key]}
		a.Start = time.Unix(key.day, 0).UTC()
		if err := a.Buckets(func(n int, b Bucket) error { a.sums[n] = b; return nil }); err != nil {
			return err
		}
		for _, r := range b.days[key] {
			if r.version <= a.Last {
				return domain.Errorf(domain.Internal, "usage.write", "reading %d of %s is counted already", r.version, key.connection).
					WithHint("build the usage store again: crossbill projections rebuild usage_days")
			}
			a.add(r.Reading, r.version, r.leaf)
		}
		first, last, in, out = append(first, a.First), append(last, a.Last), append(in, a.In), append(out, a.Out)
		began, carried = append(began, int32(a.Began)), append(carried, int32(a.Carried))
		digests, buckets = append(digests, a.Digest[:]), append(buckets, a.encode())
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO billing_usage_days (connection_id, day, first_version, last_version, began, carried, digest, bytes_in, bytes_out, buckets)
		SELECT * FROM unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::int[], $6::int[], $7::bytea[], $8::bigint[], $9::bigint[], $10::bytea[])
		ON CONFLICT (connection_id, day) DO UPDATE SET
			last_version = EXCLUDED.last_version, began = EXCLUDED.began, carried = EXCLUDED.carried, digest = EXCLUDED.digest,
			bytes_in = EXCLUDED.bytes_in, bytes_out = EXCLUDED.bytes_out, buckets = EXCLUDED.buckets`,
		ids, days, first, last, began, carried, digests, in, out, buckets)
	return err
}

// eachDay calls visit with each row. What it holds of the row's buckets is the room's.
func eachDay(rows pgx.Rows, room *room, visit func(id string, d Day) error) error {
	var id string
	var d Day
	var name, digest, buckets pgtype.DriverBytes // of the row, until the next
	_, err := pgx.ForEachRow(rows, []any{&name, &d.Start, &d.First, &d.Last, &d.Began, &d.Carried, &digest, &d.In, &d.Out, &buckets}, func() error {
		if string(name) != id { // many rows in a row are of one connection
			id = string(name)
		}
		if copy(d.Digest[:], digest) != len(d.Digest) {
			return domain.Errorf(domain.Internal, "usage.eachDay", "a day of %s has a digest of %d bytes", id, len(digest))
		}
		d.buckets = room.keep(buckets)
		return visit(id, d)
	})
	return err
}

// room is where the buckets of many days are kept. A nil one is for few.
type room []byte

// keep returns a copy of a row's buckets. What it returned before stays where it is when there is more to keep.
func (r *room) keep(row []byte) []byte {
	if r == nil {
		return slices.Clone(row)
	}
	first := len(*r)
	*r = append(*r, row...)
	return (*r)[first:len(*r):len(*r)]
}
