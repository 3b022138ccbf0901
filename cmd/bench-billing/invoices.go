package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/cmd/internal/bench"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/vocabulary"
	"crossbill/events"
)

// asRun holds the database of which a process that this program starts of itself is to bill April.
const asRun = "CROSSBILL_BENCH_BILLING_RUN"

const (
	memoryLimit = 300 // MB of 10⁶ bytes, that a run may have resident at most
	perCustomer = 10  // connections
	perLoop     = 300 // connections that the bare loop reads at once, as many as a run does
)

// billed is what such a process says.
type billed struct {
	Connections int     `json:"connections"`
	Invoices    int     `json:"invoices"`
	Seconds     float64 `json:"seconds"`
	PeakKB      int64   `json:"peak_kb"`
}

func (b billed) perSecond() float64 { return float64(b.Connections) / b.Seconds }

// invoiceRun bills connections that each have a full month of buckets, against a loop that reads the same rows and inserts
// the same invoices and does nothing with either.
func invoiceRun(ctx context.Context, b *run) ([]bench.Figure, error) {
	if err := b.fill(ctx, "invoice_run", b.connections, 288); err != nil {
		return nil, err
	}
	var peaks []float64
	var last string
	rounds := 0
	f, err := bench.Alternate(bench.Figure{Bench: "invoice_run", Unit: "connections/s", Floor: 0.5}, b.rounds, func() (float64, error) {
		if last != "" {
			if err := b.Drop(ctx, last); err != nil {
				return 0, err
			}
		}
		rounds++
		last = fmt.Sprint("invoice_run_", rounds)
		said, err := b.bill(ctx, "invoice_run", last, b.connections)
		peaks = append(peaks, float64(said.PeakKB)*1024/1e6)
		return said.perSecond(), err
	}, func() (float64, error) { return b.bare(ctx, "invoice_run", last) })
	if err != nil {
		return nil, err
	}
	memory := bench.Figure{Bench: "invoice_memory", Unit: "MB", Ceiling: 1}
	for _, p := range peaks {
		memory.Ours, memory.Limit = append(memory.Ours, p), append(memory.Limit, memoryLimit)
	}
	return []bench.Figure{f, memory}, b.Drop(ctx, last)
}

// invoiceGrowth bills many connections, against few: what one costs must not grow with how many there are.
func invoiceGrowth(ctx context.Context, b *run) ([]bench.Figure, error) {
	for name, n := range map[string]int{"growth_few": b.few, "growth_many": b.many} {
		if err := b.fill(ctx, name, n, 24); err != nil {
			return nil, err
		}
	}
	cost := func(name string, n int, peaks *[]float64) func() (float64, error) {
		return func() (float64, error) {
			said, err := b.bill(ctx, name, name+"_copy", n)
			if err != nil {
				return 0, err
			}
			if peaks != nil {
				*peaks = append(*peaks, float64(said.PeakKB)*1024/1e6)
			}
			return said.Seconds / float64(said.Connections) * 1e6, b.Drop(ctx, name+"_copy")
		}
	}
	var peaks []float64
	f, err := bench.Alternate(bench.Figure{Bench: "invoice_growth", Unit: "µs/connection", Ceiling: 1.2}, b.rounds,
		cost("growth_many", b.many, &peaks), cost("growth_few", b.few, nil))
	if err != nil {
		return nil, err
	}
	memory := bench.Figure{Bench: "growth_memory", Unit: "MB", Ceiling: 1}
	for _, p := range peaks {
		memory.Ours, memory.Limit = append(memory.Ours, p), append(memory.Limit, memoryLimit)
	}
	return []bench.Figure{f, memory}, nil
}

// fill makes a database with connections that are in production all of April, and their usage: of each day so many buckets.
// The log has the connections; of their usage it has one connection's day, and the others' rows are copies of that one's.
func (b *run) fill(ctx context.Context, name string, connections, buckets int) error {
	pool, err := b.Database(ctx, name)
	if err != nil {
		return err
	}
	defer pool.Close()
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		return err
	}
	defer log.Close()
	begun := time.Now()
	for first := 0; first < connections; first += 400 {
		var a events.Append
		for n := first; n < min(first+400, connections); n++ {
			a.Streams = append(a.Streams, sold(n)...)
		}
		if _, err := log.Append(ctx, a); err != nil {
			return err
		}
	}
	day := events.StreamAppend{Stream: reading.Stream(connectionOf(0)), Expected: events.Any}
	for n := range buckets {
		from := april.From.Add(time.Duration(n*288/buckets) * 5 * time.Minute)
		day.Events = append(day.Events, events.NewEvent{Event: reading.Recorded{
			EdgeNodeID: id(domain.PrefixEdgeNode, "edge"), ConnectionID: connectionOf(0), Epoch: 1, Sequence: int64(n + 1), From: from, To: from.Add(5 * time.Minute),
			BytesIn: 3_000_000_000 + int64(n*n)*50_000, BytesOut: 2_000_000_000 + int64(n)*999_983, Source: reading.SourceEBPF,
		}})
	}
	if _, err := log.Append(ctx, events.Append{Streams: []events.StreamAppend{day}}); err != nil {
		return err
	}
	head, err := log.Head(ctx)
	if err != nil {
		return err
	}
	if err := (usage.Store{Pool: pool, Log: log}).CatchUp(ctx, head.Position); err != nil {
		return err
	}
	// Written by the connection, as a store that was rebuilt is.
	_, err = pool.Exec(ctx, `
		INSERT INTO billing_usage_days
		SELECT c.connection_id, d.day + n, first_version + n * $1, last_version + n * $1, began, carried, digest, bytes_in, bytes_out, buckets
		  FROM billing_connections AS c CROSS JOIN generate_series(0, 29) AS n CROSS JOIN (SELECT * FROM billing_usage_days LIMIT 1) AS d
		 ORDER BY c.connection_id, n ON CONFLICT DO NOTHING`, buckets)
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `UPDATE billing_connections SET usage_version = $1`, 30*buckets); err != nil {
		return err
	}
	b.Say("%s: %d connections with 30 days of %d buckets in %.0f s, load %s", name, connections, buckets, time.Since(begun).Seconds(), bench.Load())
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `CHECKPOINT`)
	return err
}

func id(prefix string, of ...any) string {
	return domain.DeriveID(prefix, april.From, fmt.Sprint(of...))
}

func connectionOf(n int) string { return id(domain.PrefixConnection, n) }

// sold is the history of a connection.
func sold(n int) []events.StreamAppend {
	at := april.From.AddDate(0, -1, 0)
	customer, provider, listing := id(domain.PrefixOrganisation, "customer", n/perCustomer), id(domain.PrefixOrganisation, "provider", n%7), id(domain.PrefixListing, n%7)
	q := quote.Issued{
		QuoteID: id(domain.PrefixQuote, n), CustomerID: customer, ProviderID: provider, ListingID: listing, ListingVersion: 1, BandwidthMbps: 100,
		Plan: burst(), FeeScheduleID: id(domain.PrefixFeeSchedule, "fee"), FeeScheduleVersion: 1, BasisPoints: 300,
		Passthrough: domain.Money{Currency: "USD"}, Fee: domain.Money{Currency: "USD"}, Total: domain.Money{Currency: "USD"}, ValidUntil: at, At: at,
	}
	q.Hash = quote.Hash(q)
	order, con := id(domain.PrefixOrder, n), connectionOf(n)
	s := func(name string, all ...domain.Event) events.StreamAppend {
		a := events.StreamAppend{Stream: name, Expected: events.NoStream}
		for _, e := range all {
			a.Events = append(a.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Parties: []string{customer, provider}}})
		}
		return a
	}
	return []events.StreamAppend{
		s(quote.Stream(q.QuoteID), q, quote.Accepted{QuoteID: q.QuoteID, OrderID: order, At: at}),
		s(connection.Stream(con),
			connection.Requested{ConnectionID: con, OrderID: order, QuoteID: q.QuoteID, CustomerID: customer, ProviderID: provider, ListingID: listing, ListingVersion: 1, BandwidthMbps: 100, At: at},
			connection.TestingStarted{ConnectionID: con, Deadline: at, At: at},
			connection.SessionChanged{ConnectionID: con, Side: "a", State: "established", Since: at, At: at},
			connection.Activated{ConnectionID: con, At: at}),
	}
}

// bill bills April on a copy of a database, in a process of its own.
func (b *run) bill(ctx context.Context, of, name string, connections int) (billed, error) {
	if err := b.Copy(ctx, name, of); err != nil {
		return billed{}, err
	}
	said, err := bench.Self[billed](ctx, asRun, b.URLFor(name))
	if err == nil && said.Connections != connections {
		err = fmt.Errorf("%d of %d connections were billed", said.Connections, connections)
	}
	b.Say("%s: %d connections, %d invoices in %.1f s, peak resident memory %.0f MB, load %s", name, said.Connections, said.Invoices, said.Seconds,
		float64(said.PeakKB)*1024/1e6, bench.Load())
	return said, err
}

// runHere is the process that bills.
func runHere(ctx context.Context, url string) (said billed, err error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return said, err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return said, err
	}
	defer pool.Close()
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		return said, err
	}
	defer log.Close()
	begun := time.Now()
	result, err := billing.Run(ctx, log, usage.Store{Pool: pool, Log: log}, billing.RunRequest{PeriodStart: april.From, PeriodEnd: april.To, At: april.To.AddDate(0, 0, 3)})
	if err != nil {
		return said, err
	}
	said.Invoices, said.Seconds = len(result.Invoices), time.Since(begun).Seconds()
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM events WHERE type = 'billed_period.closed'`).Scan(&said.Connections); err != nil {
		return said, err
	}
	said.PeakKB, err = bench.PeakResident()
	return said, err
}

// bare reads, for some hundred connections at a time, the rows that a run reads, and inserts the rows of the invoices that
// one issued, each batch in a transaction.
func (b *run) bare(ctx context.Context, of, billed string) (float64, error) {
	const name = "bare"
	if err := b.Copy(ctx, name, of); err != nil {
		return 0, err
	}
	issued, err := b.issued(ctx, billed)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.Connect(ctx, b.URLFor(name))
	if err != nil {
		return 0, err
	}
	rate, err := loop(ctx, conn, issued)
	conn.Close(ctx)
	if err != nil {
		return 0, err
	}
	return rate, b.Drop(ctx, name)
}

// issued returns the rows of the invoices of a run, in order.
func (b *run) issued(ctx context.Context, name string) (rows [][]any, err error) {
	conn, err := pgx.Connect(ctx, b.URLFor(name))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	found, err := conn.Query(ctx, `SELECT `+bench.Columns+` FROM events WHERE type = 'invoice.issued' ORDER BY position`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
}

func loop(ctx context.Context, conn *pgx.Conn, issued [][]any) (float64, error) {
	columns := []string{"position", "version", "recorded_at", "event_id", "schema", "stream", "type", "salt", "leaf_hash", "metadata", "payload"}
	begun := time.Now()
	total, done := 0, 0
	for after := ""; ; {
		rows, err := conn.Query(ctx, `SELECT connection_id FROM billing_connections WHERE connection_id > $1 ORDER BY connection_id LIMIT $2`, after, perLoop)
		if err != nil {
			return 0, err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return 0, err
		}
		if len(ids) == 0 {
			break
		}
		after = ids[len(ids)-1]
		if err := readAll(ctx, conn, `
			SELECT connection_id, day, first_version, last_version, began, carried, digest, bytes_in, bytes_out, buckets
			  FROM billing_usage_days WHERE connection_id = ANY($1)`, ids); err != nil {
			return 0, err
		}
		streams := make([]string, 0, 2*len(ids))
		for _, id := range ids {
			streams = append(streams, connection.Stream(id))
		}
		quotes, err := conn.Query(ctx, `SELECT convert_from(payload, 'UTF8')::json ->> 'quote_id' FROM events WHERE stream = ANY($1) AND version = 1`, streams)
		if err != nil {
			return 0, err
		}
		named, err := pgx.CollectRows(quotes, pgx.RowTo[string])
		if err != nil {
			return 0, err
		}
		for _, id := range named {
			streams = append(streams, quote.Stream(id))
		}
		if err := readAll(ctx, conn, `SELECT `+bench.Columns+` FROM events WHERE stream = ANY($1) ORDER BY stream, version`, streams); err != nil {
			return 0, err
		}
		total += len(ids)
		end := len(issued)
		if len(ids) == perLoop {
			end = min(done+perLoop/perCustomer, len(issued))
		}
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"events"}, columns, pgx.CopyFromRows(issued[done:end])); err != nil {
			return 0, err
		}
		done = end
	}
	if done != len(issued) {
		return 0, fmt.Errorf("%d of %d invoices were inserted", done, len(issued))
	}
	return bench.PerSecond(total, begun), nil
}

func readAll(ctx context.Context, conn *pgx.Conn, query string, ids []string) error {
	rows, err := conn.Query(ctx, query, ids)
	if err != nil {
		return err
	}
	for rows.Next() {
		rows.RawValues()
	}
	return rows.Err()
}
