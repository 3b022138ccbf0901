package billing

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
)

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

var (
	march     = Period{From: date(2026, 3, 1), To: date(2026, 4, 1)}
	april     = Period{From: date(2026, 4, 1), To: date(2026, 5, 1)}
	afterward = date(2026, 5, 2).Add(123456 * time.Microsecond)
)

// world is a log on a database of the test's own, and a history in it.
type world struct {
	*events.Log
	t    testing.TB
	pool *pgxpool.Pool
	seq  int64
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pool := pgtest.New(t)
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(t.Context(), pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return &world{Log: log, t: t, pool: pool}
}

// meters is the usage store of the world.
func (w *world) meters() usage.Store { return usage.Store{Pool: w.pool, Log: w.Log} }

func id(prefix string, name ...any) string {
	return domain.DeriveID(prefix, date(2026, 1, 1), fmt.Sprint(name...))
}

func decimal(s string) *domain.Decimal { d := domain.MustDecimal(s); return &d }

// planA is the plan of the rebill document's worked example A.
func planA() pricing.Plan {
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port, per month", Amount: domain.MustDecimal("400.00")},
		{
			ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic, both directions", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
			Model: pricing.ModelGraduated, Tiers: []pricing.Tier{
				{UpTo: decimal("1000"), Price: domain.MustDecimal("0.05")},
				{UpTo: decimal("10000"), Price: domain.MustDecimal("0.03")},
				{Price: domain.MustDecimal("0.01")},
			},
		},
	}}
}

// sold is a connection that was sold.
type sold struct {
	name, customer, provider string
	plan                     pricing.Plan
	basisPoints              int
	from                     time.Time
	to                       time.Time // zero: still in production
	sla                      *listing.SLA
}

func exampleA() sold {
	return sold{name: "a", customer: "customer", provider: "provider", plan: planA(), basisPoints: 300, from: date(2026, 3, 11)}
}

func (s sold) id() string { return id(domain.PrefixConnection, s.name) }

// events returns the connection's history, with BGP sessions that came and went in between.
func (s sold) events() (con, quo []domain.Event) {
	con0, quoteID, offer := s.id(), id(domain.PrefixQuote, s.name), id(domain.PrefixListing, s.provider)
	customer, provider := id(domain.PrefixOrganisation, s.customer), id(domain.PrefixOrganisation, s.provider)
	before := s.from.Add(-time.Hour)
	q := quote.Issued{
		QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: offer, ListingVersion: 2, BandwidthMbps: 100,
		Plan: s.plan, FeeScheduleID: id(domain.PrefixFeeSchedule, "fee"), FeeScheduleVersion: 1, BasisPoints: s.basisPoints,
		Passthrough: domain.Money{Currency: s.plan.Currency}, Fee: domain.Money{Currency: s.plan.Currency}, Total: domain.Money{Currency: s.plan.Currency},
		ValidUntil: s.from, At: before, SLA: s.sla,
	}
	q.Hash = quote.Hash(q)
	flap := connection.SessionChanged{ConnectionID: con0, Side: "a", State: "established", Since: before, At: before}
	con = []domain.Event{
		connection.Requested{ConnectionID: con0, OrderID: id(domain.PrefixOrder, s.name), QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: offer, ListingVersion: 2, BandwidthMbps: 100, At: before},
		connection.TestingStarted{ConnectionID: con0, Deadline: s.from, At: before}, flap,
		connection.Activated{ConnectionID: con0, At: s.from}, flap, flap,
	}
	if !s.to.IsZero() {
		con = append(con, connection.DecommissionRequested{ConnectionID: con0, Reason: "test", EffectiveAt: s.to, At: s.to})
	}
	return con, []domain.Event{q, quote.Accepted{QuoteID: quoteID, OrderID: id(domain.PrefixOrder, s.name), At: before}}
}

func (w *world) append(a events.Append) events.Result {
	w.t.Helper()
	r, err := w.Append(context.Background(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func stream(name string, all ...domain.Event) events.StreamAppend {
	s := events.StreamAppend{Stream: name, Expected: events.Any}
	for _, e := range all {
		s.Events = append(s.Events, events.NewEvent{Event: e})
	}
	return s
}

// sell appends connections, many at once.
func (w *world) sell(all ...sold) {
	w.t.Helper()
	for some := range slices.Chunk(all, 400) {
		var a events.Append
		for _, s := range some {
			con, quo := s.events()
			a.Streams = append(a.Streams, stream(quote.Stream(id(domain.PrefixQuote, s.name)), quo...), stream(connection.Stream(s.id()), con...))
		}
		w.append(a)
	}
}

func (w *world) reading(connectionID string, from, to time.Time, in, out int64) reading.Recorded {
	w.seq++
	return reading.Recorded{
		EdgeNodeID: id(domain.PrefixEdgeNode, "edge"), ConnectionID: connectionID, Epoch: 1, Sequence: w.seq, From: from, To: to,
		BytesIn: in, BytesOut: out, Source: reading.SourceSoftware,
	}
}

// meter appends readings of a connection.
func (w *world) meter(readings ...reading.Recorded) {
	w.t.Helper()
	for some := range slices.Chunk(readings, 1000) {
		all := make([]domain.Event, len(some))
		for i, r := range some {
			all[i] = r
		}
		w.append(events.Append{Streams: []events.StreamAppend{stream(reading.Stream(some[0].ConnectionID), all...)}})
	}
}

// meterA appends example A's 12 345 678 901 234 bytes, as readings over the billable days of March, out of order.
func (w *world) meterA() {
	w.t.Helper()
	con := exampleA().id()
	var all []reading.Recorded
	rest := int64(12_345_678_901_234)
	for from := date(2026, 3, 11); from.Before(march.To); from = from.Add(time.Hour) {
		in, out := rest/300, rest/700
		if from.Add(time.Hour).Equal(march.To) {
			in, out = rest, 0
		}
		all = append(all, w.reading(con, from, from.Add(time.Hour), in, out))
		rest -= in + out
	}
	all[100], all[101] = all[101], all[100]
	w.meter(all...)
}

func (w *world) head() events.Position {
	w.t.Helper()
	h, err := w.Head(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return h.Position
}

func request(p Period) RunRequest {
	return RunRequest{PeriodStart: p.From, PeriodEnd: p.To, At: afterward, Metadata: events.Metadata{Actor: "operator"}}
}

func (w *world) run(r RunRequest) RunResult {
	w.t.Helper()
	result, err := Run(context.Background(), w, w.meters(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// recorded returns the one event of a stream.
func (w *world) recorded(stream string) events.Recorded {
	w.t.Helper()
	all, err := w.ReadStream(context.Background(), stream, 0, 2)
	if err != nil || len(all) != 1 {
		w.t.Fatalf("%s has %d events (%v)", stream, len(all), err)
	}
	return all[0]
}

func (w *world) invoice(id string) invoice.Issued {
	w.t.Helper()
	return w.recorded(invoice.Stream(id)).Event.(invoice.Issued)
}

func (w *world) settlement(id string) settlement.Issued {
	w.t.Helper()
	return w.recorded(settlement.Stream(id)).Event.(settlement.Issued)
}

// books returns every invoice and settlement of the log, in order.
func (w *world) books() (invoices []invoice.Issued, settlements []settlement.Issued) {
	w.t.Helper()
	for after := events.Position(0); ; {
		page, err := w.ReadAll(context.Background(), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			return invoices, settlements
		}
		for _, e := range page {
			after = e.Position
			switch e := e.Event.(type) {
			case invoice.Issued:
				invoices = append(invoices, e)
			case settlement.Issued:
				settlements = append(settlements, e)
			}
		}
	}
}

// checkBooks holds the whole log to what must be true of it at any time: no margin, nothing billed twice, no gap between numbers.
func (w *world) checkBooks() (invoices []invoice.Issued, settlements []settlement.Issued) {
	w.t.Helper()
	invoices, settlements = w.books()
	if err := CheckNoMargin(invoices, settlements); err != nil {
		w.t.Error(err)
	}
	for n, i := range invoices {
		if want := fmt.Sprintf("CB-2026-%06d", n+1); i.Number != want {
			w.t.Errorf("the number after %d invoices is %s, not %s", n, i.Number, want)
		}
	}
	return invoices, settlements
}
