package billing

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// TestRunAgain: whoever closes a period again, under the same name, another or none, gets what was issued and adds nothing.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	named := request(march)
	named.RunID = id(domain.PrefixBillingRun, "first")
	first := w.run(named)
	after := w.head()

	other, listed, unnamed := named, named, request(march)
	other.RunID = id(domain.PrefixBillingRun, "second")
	other.At = other.At.Add(time.Hour)
	listed.RunID, listed.ConnectionIDs = "", []string{exampleA().id()}
	for name, r := range map[string]RunRequest{"the same": named, "another name": other, "no name": unnamed, "by connection": listed} {
		again := w.run(r)
		again.Issued = first.Issued
		if !reflect.DeepEqual(again, first) {
			t.Errorf("%s: %+v, not %+v", name, again, first)
		}
	}
	if w.head() != after {
		t.Errorf("running again appended %d events", w.head()-after)
	}
	named.PeriodStart, named.PeriodEnd = april.From, april.To
	if _, err := Run(t.Context(), w, w.meters(), named); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("the run's name for another period: %v", err)
	}
	w.checkBooks()
}

// TestRunBillsWhatCameLater: a connection that the first run could not know of is billed by the next, beside what stands.
func TestRunBillsWhatCameLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	first := w.run(request(march))
	b := exampleA()
	b.name = "b"
	w.sell(b)
	second := w.run(request(march))
	if second.Issued != 1 || len(second.Invoices) != 2 || len(second.Settlements) != 2 || second.RunID == first.RunID {
		t.Errorf("the second run gives %+v after %+v", second, first)
	}
	after := w.head()
	if third := w.run(request(march)); third.Issued != 0 || len(third.Invoices) != 2 || w.head() != after {
		t.Errorf("the third run gives %+v", third)
	}
	invoices, _ := w.checkBooks()
	if len(invoices) != 2 {
		t.Errorf("%d invoices", len(invoices))
	}
}

func TestRunOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	early := exampleA()
	early.name, early.from, early.to = "early", date(2026, 1, 1), date(2026, 2, 1)
	w.sell(early)
	first := w.run(request(march))
	after := w.head()
	if again := w.run(request(march)); len(first.Invoices) != 0 || !reflect.DeepEqual(again, first) || w.head() != after {
		t.Errorf("a run of nothing gives %+v and then %+v", first, again)
	}
	w.recorded(billingrun.Stream(first.RunID))
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	w.run(request(march))
	after := w.head()
	tests := []struct {
		name   string
		change func(*RunRequest)
		code   domain.Code
	}{
		{"an open period", func(r *RunRequest) { r.At = april.To.Add(-time.Microsecond) }, domain.Invalid},
		{"an empty period", func(r *RunRequest) { r.PeriodEnd = r.PeriodStart }, domain.Invalid},
		{"a period backwards", func(r *RunRequest) { r.PeriodStart, r.PeriodEnd = r.PeriodEnd, r.PeriodStart }, domain.Invalid},
		{"no period", func(r *RunRequest) { r.PeriodStart, r.PeriodEnd = time.Time{}, time.Time{} }, domain.Invalid},
		{"parts of a second", func(r *RunRequest) { r.PeriodStart = r.PeriodStart.Add(time.Millisecond) }, domain.Invalid},
		{"more than a month", func(r *RunRequest) { r.PeriodStart = r.PeriodStart.Add(-2 * 24 * time.Hour) }, domain.Invalid},
		{"a wrong run id", func(r *RunRequest) { r.RunID = "run_1" }, domain.Invalid},
		{"an unknown connection", func(r *RunRequest) { r.ConnectionIDs = []string{id(domain.PrefixConnection, "?")} }, domain.NotFound},
		{"time that is billed", func(r *RunRequest) { r.PeriodStart = r.PeriodStart.Add(-time.Second) }, domain.Conflict},
		{"a period that is open for readings under way", func(r *RunRequest) { r.Grace = afterward.Sub(april.To) + time.Microsecond }, domain.Conflict},
	}
	for _, test := range tests {
		r := request(april)
		test.change(&r)
		if _, err := Run(t.Context(), w, w.meters(), r); domain.CodeOf(err) != test.code {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if w.head() != after {
		t.Errorf("a refused run appended %d events", w.head()-after)
	}
}

// TestConcurrentRuns: many runs of one period and its neighbour, under one name, other names and none, bill each
// connection once for each period, and no number is left out.
func TestConcurrentRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 4 {
		s := exampleA()
		s.name, s.customer, s.provider = fmt.Sprint(n), fmt.Sprint("customer", n/2), fmt.Sprint("provider", n%2)
		w.sell(s)
		w.meter(w.reading(s.id(), date(2026, 3, 12), date(2026, 3, 13), 1e12, 5))
	}
	var running sync.WaitGroup
	results := make([]RunResult, 16)
	for n := range results {
		running.Go(func() {
			r := request([]Period{march, april}[n%2])
			r.At = r.At.Add(time.Duration(n) * time.Second)
			switch n % 4 {
			case 0:
				r.RunID = id(domain.PrefixBillingRun, "shared")
			case 2:
				r.RunID = id(domain.PrefixBillingRun, n)
			}
			var err error
			if results[n], err = Run(context.Background(), w, w.meters(), r); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	invoices, settlements := w.checkBooks()
	if len(invoices) != 4 || len(settlements) != 4 {
		t.Errorf("%d invoices and %d settlements", len(invoices), len(settlements))
	}
	for n, r := range results {
		slices.Sort(r.Invoices)
		slices.Sort(results[n%2].Invoices)
		if !slices.Equal(r.Invoices, results[n%2].Invoices) || len(r.Settlements) != 2 {
			t.Errorf("run %d found %+v, run %d %+v", n, r, n%2, results[n%2])
		}
	}
}

// TestDocuments: who gets which document, in which order, with which lines.
func TestDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	yen := pricing.Plan{Currency: "JPY", Charges: []pricing.Charge{{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("10000")}}}
	a := exampleA()
	a.from = date(2026, 2, 1)
	w.sell(
		sold{"one", "x", "p", planA(), 300, a.from, time.Time{}, nil},
		sold{"two", "x", "q", planA(), 0, a.from, time.Time{}, nil},
		sold{"three", "x", "q", yen, 250, a.from, date(2026, 3, 16), nil},
		sold{"four", "y", "q", planA(), 300, a.from, time.Time{}, nil},
		sold{"over", "y", "q", planA(), 300, a.from, date(2026, 2, 20), nil},
		sold{"instant", "y", "q", planA(), 300, date(2026, 3, 5).Add(100 * time.Millisecond), date(2026, 3, 5).Add(900 * time.Millisecond), nil},
	)
	w.run(request(march))
	invoices, settlements := w.checkBooks()
	type document struct{ party, total string }
	var got []document
	for _, i := range invoices {
		got = append(got, document{i.CustomerID, i.Total.String()})
		if _, err := Recompute(t.Context(), w, i); err != nil {
			t.Error(err)
		}
		for _, l := range i.Lines {
			if _, err := Explain(t.Context(), w, invoice.Content(i), l.Number); err != nil {
				t.Error(err)
			}
		}
	}
	for _, s := range settlements {
		got = append(got, document{s.ProviderID, s.Total.String()})
	}
	want := []document{
		{id(domain.PrefixOrganisation, "x"), "4960 JPY"},   // 10000 × 15/31 = 4838.7…, and 2.5 % of 4839 = 120.975
		{id(domain.PrefixOrganisation, "x"), "812.00 USD"}, // 400 + 3 % + 400
		{id(domain.PrefixOrganisation, "y"), "412.00 USD"},
		{id(domain.PrefixOrganisation, "p"), "400.00 USD"},
		{id(domain.PrefixOrganisation, "q"), "4839 JPY"},
		{id(domain.PrefixOrganisation, "q"), "800.00 USD"},
	}
	order := func(a, b document) int { return slices.Compare([]string{a.party, a.total}, []string{b.party, b.total}) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("the documents are\n%v\nnot\n%v", got, want)
	}
}

// failing is a log whose appends fail after some.
type failing struct {
	*world
	left int
}

var errDown = errors.New("down")

func (f *failing) Append(ctx context.Context, a events.Append) (events.Result, error) {
	if f.left--; f.left < 0 {
		return events.Result{}, domain.Errorf(domain.Unavailable, "test", "the log is away: %w", errDown)
	}
	return f.world.Append(ctx, a)
}

// TestLargeClose: a close that does not fit into one append is several, each complete; a crash between them loses and
// doubles nothing.
func TestLargeClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const connections = 600
	all := make([]sold, connections)
	for n := range all {
		all[n] = exampleA()
		all[n].name, all[n].customer, all[n].provider = fmt.Sprint(n), fmt.Sprint("c", n), fmt.Sprint("p", n%3)
	}
	w.sell(all...)
	r := request(march)
	r.RunID = id(domain.PrefixBillingRun, "large")
	if _, err := Run(t.Context(), &failing{w, 1}, w.meters(), r); !errors.Is(err, errDown) {
		t.Fatalf("the crash: %v", err)
	}
	invoices, settlements := w.checkBooks()
	if len(invoices) == 0 || len(invoices) >= connections || len(settlements) != 3 {
		t.Fatalf("%d invoices and %d settlements when it crashed", len(invoices), len(settlements))
	}
	result := w.run(r)
	all2, settlements := w.checkBooks()
	if len(all2) != connections || len(result.Invoices) != connections || result.Issued != connections-len(invoices) || len(result.Settlements) != len(settlements) {
		t.Errorf("%d invoices and %d settlements at last: %d, %d in the result, %d new", len(all2), len(settlements), len(result.Invoices), len(result.Settlements), result.Issued)
	}
	if c := w.recorded(billingrun.Stream(r.RunID)).Event.(billingrun.Completed); !slices.Equal(c.Invoices, result.Invoices) || !slices.Equal(c.Settlements, result.Settlements) {
		t.Errorf("the run's event is %+v, its result %+v", c, result)
	}
}

// TestLargeCustomer: an invoice that would not fit into one event, or not into one append, is cut in two.
func TestLargeCustomer(t *testing.T) {
	t.Parallel()
	small, large := exampleA(), exampleA()
	small.plan.Charges = small.plan.Charges[:1]
	again := large.plan.Charges[1]
	again.ID = "again"
	large.plan.Charges = append(large.plan.Charges, again)
	for _, test := range []struct {
		name     string
		sold     sold
		invoices int
	}{{"by size", large, 3}, {"by connections", small, 2}} {
		s := test.sold
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			all := make([]sold, maxConnections+20)
			for n := range all {
				all[n] = s
				all[n].name = fmt.Sprint(n)
			}
			w.sell(all...)
			result := w.run(request(march))
			invoices, _ := w.checkBooks()
			billed := 0
			for _, i := range invoices {
				n := len(connectionsOf(i))
				if billed += n; n > maxConnections {
					t.Errorf("%d connections are on one invoice", n)
				}
				if _, err := Recompute(t.Context(), w, i); err != nil {
					t.Error(err)
				}
			}
			if len(invoices) != test.invoices || billed != len(all) || len(result.Invoices) != test.invoices {
				t.Errorf("%d invoices with %d connections", len(invoices), billed)
			}
		})
	}
}

// TestLargeSettlement: one that would not fit into one event is cut between connections, never inside one.
func TestLargeSettlement(t *testing.T) {
	t.Parallel()
	const connections, charges = 100, 49
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	i := invoice.Issued{InvoiceID: id(domain.PrefixInvoice, "large"), PeriodStart: march.From, Currency: "USD", Passthrough: usd(connections * charges), Fee: usd(0), Total: usd(connections * charges)}
	for n := range connections * charges {
		i.Lines = append(i.Lines, invoice.Line{
			Kind: invoice.LinePassthrough, ProviderID: id(domain.PrefixOrganisation, "provider"), ItemID: fmt.Sprint("item", n), ConnectionID: fmt.Sprint("con", n/charges), Description: strings.Repeat("x", 200), Amount: usd(1),
		})
	}
	w := newWorld(t)
	settlements, err := settle(t.Context(), newBook(w, w.head(), march), []invoice.Issued{i})
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckNoMargin([]invoice.Issued{i}, settlements); err != nil {
		t.Error(err)
	}
	seen, ids := make(map[string]string), make(map[string]bool)
	for _, s := range settlements {
		if size, err := sizeOf(s); err != nil || size > events.MaxPayload {
			t.Errorf("a settlement has %d bytes (%v)", size, err)
		}
		ids[s.SettlementID] = true
		for _, l := range s.Lines {
			if other, ok := seen[l.ConnectionID]; ok && other != s.SettlementID {
				t.Fatalf("%s is on two settlements", l.ConnectionID)
			}
			seen[l.ConnectionID] = s.SettlementID
		}
	}
	if len(settlements) < 2 || len(ids) != len(settlements) || len(seen) != connections {
		t.Errorf("%d settlements with %d ids and %d connections", len(settlements), len(ids), len(seen))
	}
}

// meanwhile is a log in which something happens just before the first append, after everything was read.
type meanwhile struct {
	*world
	once   sync.Once
	happen func()
}

func (m *meanwhile) Append(ctx context.Context, a events.Append) (events.Result, error) {
	m.once.Do(m.happen)
	return m.world.Append(ctx, a)
}

// TestAnotherRunComesFirst: a run that was overtaken after it read everything takes the next numbers.
func TestAnotherRunComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := exampleA(), exampleA()
	b.name = "b"
	w.sell(a, b)
	ra, rb := request(march), request(march)
	ra.ConnectionIDs, rb.ConnectionIDs = []string{a.id()}, []string{b.id()}
	result, err := Run(t.Context(), &meanwhile{world: w, happen: func() { w.run(rb) }}, w.meters(), ra)
	if err != nil || result.Issued != 1 || len(result.Invoices) != 1 {
		t.Errorf("%+v (%v)", result, err)
	}
	if invoices, _ := w.checkBooks(); len(invoices) != 2 || invoices[1].InvoiceID != result.Invoices[0] {
		t.Errorf("the invoices are %+v", invoices)
	}
}

// TestThePeriodIsClosedMeanwhile: what closed a connection's period after it was read keeps it from being billed, even
// if no invoice number tells of it.
func TestThePeriodIsClosedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	closed := billingrun.PeriodClosed{
		ConnectionID: exampleA().id(), PeriodStart: march.From, PeriodEnd: march.From.Add(12 * 24 * time.Hour), InvoiceID: id(domain.PrefixInvoice, "other"),
		SettlementID: id(domain.PrefixSettlement, "other"), RunID: id(domain.PrefixBillingRun, "other"), At: afterward,
	}
	_, err := Run(t.Context(), &meanwhile{world: w, happen: func() {
		w.append(events.Append{Streams: []events.StreamAppend{stream(billingrun.PeriodStream(closed.ConnectionID), closed)}})
	}}, w.meters(), request(march))
	if invoices, _ := w.books(); domain.CodeOf(err) != domain.Conflict || len(invoices) != 0 {
		t.Errorf("%d invoices (%v)", len(invoices), err)
	}
}

// TestNothingIsIssuedWithAMargin tampers with a close between its making and its append.
func TestNothingIsIssuedWithAMargin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	before := w.head()
	meters := w.meters()
	if err := meters.CatchUp(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	r := run{log: w, meters: meters, request: request(march), id: id(domain.PrefixBillingRun, "r"), upTo: before}
	r.request.batch = maxBatch
	s := r.survey(t.Context(), usage.Billable{})
	if s.err != nil || !s.last || len(s.open) != 1 {
		t.Fatalf("%+v", s)
	}
	b := s.batch
	invoices, err := b.invoices()
	if err != nil {
		t.Fatal(err)
	}
	c := closing{batch: b, invoices: []invoice.Issued{invoices[0].Issued}, numbers: new(series)}
	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.settlements[0].Lines[0].Amount.Minor--
	c.settlements[0].Total.Minor--
	if _, err := c.issue(t.Context()); domain.CodeOf(err) != domain.Internal || w.head() != before {
		t.Fatalf("a margin of a cent: %v, %d events", err, w.head()-before)
	}
	c.settlements[0].Lines[0].Amount.Minor++
	c.settlements[0].Total.Minor++
	if _, err := c.issue(t.Context()); err != nil {
		t.Errorf("without the margin: %v", err)
	}
}

// tampering is a log that changes events as they are read.
type tampering struct {
	*world
	change func(*events.Recorded)
}

func (l tampering) ReadStream(ctx context.Context, stream string, after int64, limit int) ([]events.Recorded, error) {
	page, err := l.world.ReadStream(ctx, stream, after, limit)
	for i := range page {
		l.change(&page[i])
	}
	return page, err
}

func (l tampering) ReadStreams(ctx context.Context, streams []string, upTo events.Position) (map[string][]events.Recorded, error) {
	all, err := l.world.ReadStreams(ctx, streams, upTo)
	for _, page := range all {
		for i := range page {
			l.change(&page[i])
		}
	}
	return all, err
}

// TestRunReadsBack: the run notices that the log does not hold what it issued.
func TestRunReadsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	_, err := Run(t.Context(), tampering{w, func(e *events.Recorded) {
		if s, ok := e.Event.(settlement.Issued); ok {
			s.Lines = slices.Clone(s.Lines)
			s.Lines[0].Amount.Minor--
			s.Total.Minor--
			e.Event = s
		}
	}}, w.meters(), request(march))
	if domain.CodeOf(err) != domain.Internal {
		t.Errorf("a provider that is owed a cent less: %v", err)
	}
}
