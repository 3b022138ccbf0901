package billing

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

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
	if _, err := Run(t.Context(), w, named); domain.CodeOf(err) != domain.Conflict {
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
		{"a lister that fails", func(r *RunRequest) {
			r.Connections = func(context.Context) ([]string, error) {
				return nil, domain.Errorf(domain.Unavailable, "test", "no list")
			}
		}, domain.Unavailable},
	}
	for _, test := range tests {
		r := request(april)
		test.change(&r)
		if _, err := Run(t.Context(), w, r); domain.CodeOf(err) != test.code {
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
			if results[n], err = Run(context.Background(), w, r); err != nil {
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
		sold{"one", "x", "p", planA(), 300, a.from, time.Time{}},
		sold{"two", "x", "q", planA(), 0, a.from, time.Time{}},
		sold{"three", "x", "q", yen, 250, a.from, date(2026, 3, 16)},
		sold{"four", "y", "q", planA(), 300, a.from, time.Time{}},
		sold{"over", "y", "q", planA(), 300, a.from, date(2026, 2, 20)},
		sold{"instant", "y", "q", planA(), 300, date(2026, 3, 5).Add(100 * time.Millisecond), date(2026, 3, 5).Add(900 * time.Millisecond)},
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
	if _, err := Run(t.Context(), &failing{w, 1}, r); !errors.Is(err, errDown) {
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

// TestLargeCustomer: an invoice and a settlement that would not fit into one event are cut in two.
func TestLargeCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := make([]sold, maxConnections+1)
	for n := range all {
		all[n] = exampleA()
		all[n].name = fmt.Sprint(n)
	}
	w.sell(all...)
	result := w.run(request(march))
	invoices, _ := w.checkBooks()
	lines := 0
	for _, i := range invoices {
		lines += len(i.Lines)
		if _, err := Recompute(t.Context(), w, i); err != nil {
			t.Error(err)
		}
	}
	if len(invoices) < 2 || lines != 3*len(all) || len(result.Invoices) != len(invoices) {
		t.Errorf("%d invoices with %d lines", len(invoices), lines)
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
	}}, request(march))
	if domain.CodeOf(err) != domain.Internal {
		t.Errorf("a provider that is owed a cent less: %v", err)
	}
}
