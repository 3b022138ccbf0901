package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/reading"
	"crossbill/events"
)

// TestTheStoreIsTheReadings gathers random histories from the usage store and from the readings themselves: readings of any
// length in any order, some instants, some across midnight, the store caught up at random; connections that begin, change and
// end at any second. What is billed, and its evidence, is the same.
func TestTheStoreIsTheReadings(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			s := exampleA()
			s.from = march.From.Add(time.Duration(r.IntN(20*86400)) * time.Second)
			s.to = s.from.Add(time.Duration(1+r.IntN(12*86400)) * time.Second)
			if seed%2 == 0 {
				s.plan = burst()
			}
			w.sell(s)
			meters := w.meters()
			for range 4 {
				var some []reading.Recorded
				for range 150 {
					from := s.from.Add(time.Duration(r.Int64N(int64(14*24*time.Hour))) - 24*time.Hour)
					length := []time.Duration{0, time.Second, 10 * time.Second, 7 * time.Minute, 26 * time.Hour}[r.IntN(5)]
					some = append(some, w.reading(s.id(), from, from.Add(length), r.Int64N(1e12), r.Int64N(1e6)))
				}
				w.meter(some...)
				if r.IntN(2) == 0 {
					must(t, meters.CatchUp(t.Context(), w.head()))
				}
			}
			must(t, meters.CatchUp(t.Context(), w.head()))
			for _, period := range []Period{march, april, {From: s.from.Add(-time.Hour), To: s.from.Add(5*time.Hour + 17*time.Second)}} {
				raw, err := Gather(t.Context(), w, s.id(), period, w.head())
				must(t, err)
				stock, err := openStock(t.Context(), w, meters, period, []usage.Billable{{CustomerID: raw.Connection.CustomerID, ConnectionID: s.id()}})
				must(t, err)
				kept, _, _, err := stock.facts(t.Context(), s.id())
				stock.Close(t.Context())
				must(t, err)
				if raw.Billable.Empty() {
					continue
				}
				a, b := w.linesOf(raw), w.linesOf(kept)
				if a != b || kept.UsageVersion != raw.UsageVersion {
					t.Errorf("%s: from the store\n%s\nand from the readings\n%s", period, b, a)
				}
			}
		})
	}
}

// TestStockOfManyConnections: of more connections than the store reads at once each has its own days, in whatever order they
// are asked for.
func TestStockOfManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []sold
	var some []usage.Billable
	for n := range 40 {
		s := sold{name: fmt.Sprint("c", n), customer: "customer", provider: "provider", plan: planA(), basisPoints: 300, from: date(2026, 3, 11)}
		all = append(all, s)
		some = append(some, usage.Billable{CustomerID: id(domain.PrefixOrganisation, "customer"), ConnectionID: s.id()})
	}
	w.sell(all...)
	for n, s := range all {
		if n%7 == 6 {
			continue // has no days
		}
		w.meter(w.reading(s.id(), date(2026, 3, 12), date(2026, 3, 14), int64(n+1)*1e9, 0))
	}
	meters := w.meters()
	must(t, meters.CatchUp(t.Context(), w.head()))
	stock, err := openStock(t.Context(), w, meters, march, some)
	must(t, err)
	defer stock.Close(t.Context())
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(all))
	for _, n := range append(order, 0, 1, 38, 39, 2, 17) {
		raw, err := Gather(t.Context(), w, all[n].id(), march, w.head())
		must(t, err)
		kept, _, _, err := stock.facts(t.Context(), all[n].id())
		must(t, err)
		if a, b := w.linesOf(raw), w.linesOf(kept); a != b || kept.UsageVersion != raw.UsageVersion {
			t.Errorf("%d: from the store\n%s\nand from the readings\n%s", n, b, a)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) linesOf(f Facts) string {
	w.t.Helper()
	i, err := Compute([]Facts{f})
	must(w.t, err)
	data, err := json.MarshalIndent(i, "", " ")
	must(w.t, err)
	return string(data)
}

// TestTheStoreIsBuiltAgain: however the log is cut into steps, the rows are the same.
func TestTheStoreIsBuiltAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	w.sell(s)
	w.meterA()
	meters := w.meters()
	rows := func() (all string) {
		must(t, w.pool.QueryRow(t.Context(), `
			SELECT json_agg(d ORDER BY day)::text || (SELECT json_agg(c)::text FROM billing_connections AS c) FROM billing_usage_days AS d`).Scan(&all))
		return all
	}
	for at := events.Position(1); at <= w.head(); at++ {
		if at%97 == 0 || at == w.head() {
			must(t, meters.CatchUp(t.Context(), at))
		}
	}
	before := rows()
	_, err := w.pool.Exec(t.Context(), `TRUNCATE billing_usage_days, billing_connections; DELETE FROM subscriptions WHERE name = 'usage_days'`)
	must(t, err)
	must(t, meters.CatchUp(t.Context(), w.head()))
	if again := rows(); again != before || len(before) < 1000 {
		t.Errorf("built again it is\n%.500s\nand was\n%.500s", again, before)
	}
}

// TestExampleC is the rebill document's: a reading of March that arrives when March is closed is on April's invoice, and it
// and its fee are what March comes to now less what was billed.
func TestExampleC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	w.sell(s)
	w.meterA()
	w.run(request(march))
	w.meter(w.reading(s.id(), date(2026, 3, 30), date(2026, 3, 31), 1_000_000_000_000, 0))
	result := w.run(request(april))
	i := w.invoice(result.Invoices[0])
	got := ""
	for _, l := range i.Lines {
		got += fmt.Sprintf("%s %s %v %s\n", l.Kind, l.Amount, l.Adjusts != nil, l.Quantity)
	}
	if want := "passthrough 400.00 USD false 1\npassthrough 0.00 USD false 0\nfee 12.00 USD false 400\n" +
		"passthrough 10.00 USD true 1000\nfee 0.30 USD true 10\n"; got != want {
		t.Errorf("April's invoice is\n%swant\n%s", got, want)
	}
	for n, l := range i.Lines {
		if l.Adjusts == nil {
			continue
		}
		if !l.Adjusts.PeriodStart.Equal(march.From) || !l.Adjusts.PeriodEnd.Equal(march.To) {
			t.Errorf("line %d adjusts %+v", n+1, l.Adjusts)
		}
	}
	settled := w.settlement(result.Settlements[0])
	if n := len(settled.Lines); n != 3 || settled.Lines[2].Adjusts == nil || settled.Total.Minor != 410_00 || settled.Lines[2].ItemID != i.Lines[3].ItemID {
		t.Errorf("the settlement is %+v", settled)
	}
	w.checkEvery(i)
	w.checkBooks()

	// Once billed, it is not billed again; and after the connection's end there is an invoice for what is late alone.
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(s.id()),
		connection.DecommissionRequested{ConnectionID: s.id(), Reason: "test", EffectiveAt: april.To, At: april.To})}})
	may := Period{From: april.To, To: date(2026, 6, 1)}
	r := request(may)
	r.At = date(2026, 6, 3)
	if result := w.run(r); len(result.Invoices) != 0 {
		t.Fatalf("May has invoices: %+v", result)
	}
	w.meter(w.reading(s.id(), date(2026, 3, 29), date(2026, 3, 30), 500_000_000_000, 0), w.reading(s.id(), date(2026, 4, 29), date(2026, 4, 30), 1_000_000_000, 0))
	r.At = date(2026, 6, 4)
	result = w.run(r)
	if len(result.Invoices) != 1 {
		t.Fatalf("the run is %+v", result)
	}
	i = w.invoice(result.Invoices[0])
	got = ""
	for _, l := range i.Lines {
		got += fmt.Sprintf("%s %s %s\n", l.Kind, l.Amount, l.Adjusts.PeriodStart.Format(time.DateOnly))
	}
	// 500 GB at 0.01, of March; 1 GB at 0.05, of April, whose fee comes to 12.0015, which is 12.00.
	if want := "passthrough 5.00 USD 2026-03-01\nfee 0.15 USD 2026-03-01\npassthrough 0.05 USD 2026-04-01\n"; got != want {
		t.Errorf("the invoice of what was late is\n%swant\n%s", got, want)
	}
	w.checkEvery(i)
	w.checkBooks()
	if late, err := LateReadings(t.Context(), w, s.id()); err != nil || len(late) != 0 {
		t.Errorf("late readings that no invoice has: %v (%v)", late, err)
	}
	r.At = r.At.Add(time.Hour)
	if again := w.run(r); again.Issued != 0 {
		t.Errorf("run again: %+v", again)
	}
}

// checkEvery explains every line of an invoice and computes the invoice again.
func (w *world) checkEvery(i invoice.Issued) {
	w.t.Helper()
	for _, l := range i.Lines {
		e, err := Explain(context.Background(), w, invoice.Content(i), l.Number)
		if err != nil {
			w.t.Errorf("line %d: %v", l.Number, err)
		} else if e.Recomputed != l.Amount {
			w.t.Errorf("line %d is %s and comes to %s", l.Number, l.Amount, e.Recomputed)
		} else {
			w.checkHeld(i, l.Number, e.Events)
		}
	}
	if _, err := Recompute(context.Background(), w, i); err != nil {
		w.t.Error(err)
	}
}

// checkHeld: what a line is explained from is the whole of its evidence, for whoever has nothing but these events; the events
// of a period without the last of them are not.
func (w *world) checkHeld(i invoice.Issued, line int, named []EvidenceEvent) {
	w.t.Helper()
	var all []events.Recorded
	for _, e := range named {
		page, err := w.ReadStream(context.Background(), e.Stream, e.Version-1, 1)
		if err != nil || len(page) != 1 {
			w.t.Fatalf("version %d of %s: %v", e.Version, e.Stream, err)
		}
		all = append(all, page[0])
	}
	slices.SortFunc(all, func(a, b events.Recorded) int { return int(a.Position - b.Position) })
	if held := EvidenceIn(invoice.Content(i), all)[line-1]; !held.Whole || held.Held != held.Named {
		w.t.Errorf("line %d has %d of %d events of its evidence", line, held.Held, held.Named)
	}
	if held := EvidenceIn(invoice.Content(i), all[:len(all)-1])[line-1]; held.Whole || held.Held >= held.Named {
		w.t.Errorf("line %d has the whole of its evidence without its last event", line)
	}
}

// TestDaysAreUTC closes a part of a day on a server that lives in New York: what comes late for it is billed all the same.
func TestDaysAreUTC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := w.pool.Config()
	config.ConnConfig.RuntimeParams["timezone"] = "America/New_York"
	there, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	defer there.Close()
	s := exampleA()
	w.sell(s)
	night := Period{From: date(2026, 3, 15), To: date(2026, 3, 15).Add(3 * time.Hour)}
	rest := Period{From: night.To, To: date(2026, 3, 16)}
	store := usage.Store{Pool: there, Log: w.Log}
	_, err = Run(t.Context(), w, store, request(night))
	must(t, err)
	w.meter(w.reading(s.id(), night.From, night.To, 100_000_000_000, 0))
	result, err := Run(t.Context(), w, store, request(rest))
	must(t, err)
	i := w.invoice(result.Invoices[0])
	if n := len(i.Lines); n != 5 || i.Lines[3].Adjusts == nil || i.Lines[3].Amount.Minor != 5_00 {
		t.Errorf("%d lines: %+v", n, i.Lines)
	}
}
