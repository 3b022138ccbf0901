package billing

import (
	"fmt"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/quote"
	"crossbill/events"
)

func (w *world) preview(r PreviewRequest) Preview {
	w.t.Helper()
	p, err := PreviewOf(w.t.Context(), w, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// amounts are the lines' amounts in order.
func amounts(lines []invoice.Line) string {
	s := ""
	for _, l := range lines {
		s += l.Amount.Amount() + " "
	}
	return s
}

// TestPreviewIsTheInvoice previews a month as it goes on, and at its end, and then bills it: the same lines, to the item.
func TestPreviewIsTheInvoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := exampleA(), exampleA()
	b.name, b.provider, b.from = "b", "other", date(2026, 2, 1)
	w.sell(a, b)
	w.meterA()
	before := w.head()
	ids := []string{a.id(), b.id()}
	at := func(when time.Time) PreviewRequest {
		return PreviewRequest{Period: march, ConnectionIDs: ids, At: when}
	}

	// The morning of the 11th, when a has begun: nothing of it yet, and ten days of b. 400 × 10/31 = 129.032…, its fee 3.87.
	if p := w.preview(at(a.from)); amounts(p.Lines) != "129.03 0.00 3.87 " || len(p.Connections) != 1 {
		t.Errorf("on the 11th: %s", amounts(p.Lines))
	}
	// A day later a is charged 400 / 31 = 12.903…, and the first 24 of its readings: a parts of a second are not.
	p := w.preview(at(a.from.Add(24*time.Hour + 999*time.Millisecond)))
	sums, err := SumBy(p.Lines, func(l invoice.Line) string { return l.ProviderID })
	if err != nil || len(sums) != 2 || len(p.Connections) != 2 {
		t.Fatalf("%+v (%v)", sums, err)
	}
	for _, l := range p.Lines {
		if l.ConnectionID == a.id() && l.ChargeID == "port" && l.Amount.Amount() != "12.90" {
			t.Errorf("a day of a is %s", l.Amount)
		}
	}
	if w.head() != before {
		t.Errorf("a preview appended %d events", w.head()-before)
	}

	end := w.preview(at(march.To.Add(time.Hour)))
	run := w.run(request(march))
	var billed []invoice.Line
	for _, id := range run.Invoices {
		billed = append(billed, w.invoice(id).Lines...)
	}
	if len(billed) != len(end.Lines) {
		t.Fatalf("%d lines are billed, %d were previewed", len(billed), len(end.Lines))
	}
	for n, l := range end.Lines {
		if l.Number = n + 1; fmt.Sprint(l) != fmt.Sprint(billed[n]) {
			t.Errorf("the preview has\n%+v\nand the invoice\n%+v", l, billed[n])
		}
	}
	if again := w.preview(at(march.To.Add(time.Hour))); amounts(again.Lines) != amounts(end.Lines) {
		t.Errorf("once billed, the month is %s", amounts(again.Lines))
	}
	sums, err = SumBy(end.Lines, func(invoice.Line) string { return "" })
	if err != nil || len(sums) != 1 || sums[0].Passthrough.Amount() != "1014.43" || sums[0].Fee.Amount() != "30.43" || sums[0].Total.Amount() != "1044.86" {
		t.Errorf("the month comes to %+v (%v)", sums, err)
	}
}

// TestPreviewEnds: a connection that ends, has ended or is to end.
func TestPreviewEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	over, ending, planned, open := exampleA(), exampleA(), exampleA(), exampleA()
	over.name, over.from, over.to = "over", date(2026, 3, 1), date(2026, 3, 6)
	ending.name, ending.from, ending.to = "ending", date(2026, 3, 1), date(2026, 3, 21) // requested for a later time
	planned.name, planned.from = "planned", date(2026, 3, 1)
	open.name, open.from = "open", date(2026, 3, 1)
	w.sell(over, ending, planned, open)
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(planned.id()), connection.TerminationScheduled{
		ConnectionID: planned.id(), OrderID: id(domain.PrefixOrder, "end"), Reason: "moving", EffectiveAt: date(2026, 3, 26), At: date(2026, 3, 2),
	})}})
	for _, test := range []struct {
		name     string
		s        sold
		at       time.Time
		forecast bool
		want     string // of the recurring line: 400 × days / 31
	}{
		{"over", over, date(2026, 3, 11), false, "64.52"},
		{"over, forecast", over, date(2026, 3, 11), true, "64.52"},
		{"ending", ending, date(2026, 3, 11), false, "129.03"},
		{"ending, forecast", ending, date(2026, 3, 11), true, "258.06"},
		{"planned", planned, date(2026, 3, 11), false, "129.03"},
		{"planned, forecast", planned, date(2026, 3, 11), true, "322.58"},
		{"planned, late", planned, date(2026, 3, 28), true, "348.39"},
		{"open, forecast", open, date(2026, 3, 11), true, "400.00"},
		{"open, forecast of what is over", open, date(2026, 4, 11), true, "400.00"},
	} {
		p := w.preview(PreviewRequest{Period: march, ConnectionIDs: []string{test.s.id()}, At: test.at, Forecast: test.forecast})
		if len(p.Lines) != 3 || p.Lines[0].Amount.Amount() != test.want {
			t.Errorf("%s: %s, not %s", test.name, amounts(p.Lines), test.want)
		}
	}
	if p := w.preview(PreviewRequest{Period: april, ConnectionIDs: []string{over.id()}, At: date(2026, 4, 11)}); len(p.Lines) != 0 {
		t.Errorf("what is over costs %s in April", amounts(p.Lines))
	}
}

// TestForecastUsage goes on with the mean rate of what is metered.
func TestForecastUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	steady, paused, dark := exampleA(), exampleA(), exampleA()
	steady.from, paused.name, paused.from, dark.name, dark.from = date(2026, 3, 1), "paused", date(2026, 3, 1), "dark", date(2026, 3, 1)
	w.sell(steady, paused, dark)
	for _, s := range []sold{steady, paused, dark} { // 500 GB over five days, of which half before the month
		w.meter(w.reading(s.id(), date(2026, 3, 1), date(2026, 3, 6), 400e9, 100e9))
	}
	resumed := date(2026, 3, 11)
	w.append(events.Append{Streams: []events.StreamAppend{
		stream(connection.Stream(paused.id()), connection.SuspensionRequested{ConnectionID: paused.id(), Reason: "x", At: date(2026, 3, 6)},
			connection.Suspended{ConnectionID: paused.id(), At: date(2026, 3, 6)}, connection.Resumed{ConnectionID: paused.id(), At: resumed}),
		stream(connection.Stream(dark.id()), connection.SuspensionRequested{ConnectionID: dark.id(), Reason: "x", At: date(2026, 3, 6)},
			connection.Suspended{ConnectionID: dark.id(), At: date(2026, 3, 6)}),
	}})
	for _, test := range []struct {
		name, quantity, amount string
		s                      sold
	}{
		{"steady", "1550", "66.50", steady}, // 500 GB in 10 days are 1 550 in 31: 1 000 at 0.05, 550 at 0.03
		{"paused", "2600", "98.00", paused}, // 500 GB in 5 days, and as much a day for the 21 to come: 2 600
		{"dark", "500", "25.00", dark},      // suspended: nothing is to come
	} {
		p := w.preview(PreviewRequest{Period: march, ConnectionIDs: []string{test.s.id()}, At: date(2026, 3, 11), Forecast: true})
		found := false
		for _, l := range p.Lines {
			if l.ChargeID == "traffic" {
				found = true
				if l.Quantity != test.quantity || l.Amount.Amount() != test.amount {
					t.Errorf("%s: %s GB for %s, not %s for %s", test.name, l.Quantity, l.Amount, test.quantity, test.amount)
				}
			}
		}
		if !found {
			t.Errorf("%s: the lines are %s", test.name, amounts(p.Lines))
		}
	}
}

func TestPreviewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	for name, test := range map[string]struct {
		r    PreviewRequest
		code domain.Code
	}{
		"a month to come":       {PreviewRequest{Period: april, At: march.To.Add(-time.Second)}, domain.Invalid},
		"no period":             {PreviewRequest{At: march.To}, domain.Invalid},
		"more than a month":     {PreviewRequest{Period: Period{From: march.From, To: april.To}, At: march.To}, domain.Invalid},
		"too many":              {PreviewRequest{Period: march, ConnectionIDs: make([]string, MaxPreview+1), At: march.To}, domain.Invalid},
		"an unknown connection": {PreviewRequest{Period: march, ConnectionIDs: []string{exampleA().id(), id(domain.PrefixConnection, "?")}, At: march.To}, domain.NotFound},
	} {
		if _, err := PreviewOf(t.Context(), w, test.r); domain.CodeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&asIf{Log: w}).Append(t.Context(), events.Append{}); domain.CodeOf(err) != domain.Internal {
		t.Errorf("a preview appends: %v", err)
	}
}

// TestSumsKeepCurrenciesApart: what is in two currencies has two sums, and a budget counts its own.
func TestSumsKeepCurrenciesApart(t *testing.T) {
	t.Parallel()
	line := func(kind string, minor int64, c domain.Currency) invoice.Line {
		return invoice.Line{Kind: kind, Amount: domain.Money{Minor: minor, Currency: c}}
	}
	lines := []invoice.Line{line(invoice.LinePassthrough, 100, "USD"), line(invoice.LineFee, 3, "USD"), line(invoice.LinePassthrough, 100, "JPY")}
	sums, err := SumBy(lines, func(invoice.Line) string { return "" })
	if err != nil || len(sums) != 2 || sums[0].Total.String() != "100 JPY" || sums[1].Total.String() != "1.03 USD" || sums[1].Fee.String() != "0.03 USD" {
		t.Errorf("%+v (%v)", sums, err)
	}
	if _, err := SumBy([]invoice.Line{line(invoice.LineFee, 1<<62, "USD"), line(invoice.LineFee, 1<<62, "USD")}, func(invoice.Line) string { return "" }); domain.CodeOf(err) != domain.Internal {
		t.Errorf("a sum past the range of money: %v", err)
	}
}

func TestParseMonth(t *testing.T) {
	t.Parallel()
	if p, err := ParseMonth("2026-12"); err != nil || !p.Equal(Period{From: date(2026, 12, 1), To: date(2027, 1, 1)}) {
		t.Errorf("%v (%v)", p, err)
	}
	for _, bad := range []string{"", "2026", "2026-13", "2026-1", "2026-01-01", "x", "0000-01"} {
		if p, err := ParseMonth(bad); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%q is %v (%v)", bad, p, err)
		}
	}
}

// TestBillingAccountsApart: connections whose orders named different billing accounts stand on different invoices, and on
// one settlement.
func TestBillingAccountsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	accounts := []string{"", id(domain.PrefixBillingAccount, 1), id(domain.PrefixBillingAccount, 2), id(domain.PrefixBillingAccount, 1)}
	for n, account := range accounts {
		s := exampleA()
		s.name = fmt.Sprint(n)
		con, quo := s.events()
		requested := con[0].(connection.Requested)
		requested.BillingAccountID = account
		con[0] = requested
		w.append(events.Append{Streams: []events.StreamAppend{stream(quote.Stream(id(domain.PrefixQuote, s.name)), quo...), stream(connection.Stream(s.id()), con...)}})
	}
	w.run(request(march))
	invoices, settlements := w.checkBooks()
	billed := make(map[string]int)
	for _, i := range invoices {
		billed[i.BillingAccountID] = len(connectionsOf(i))
		if _, err := Recompute(t.Context(), w, i); err != nil {
			t.Error(err)
		}
	}
	if len(invoices) != 3 || len(settlements) != 1 || billed[accounts[1]] != 2 || billed[accounts[2]] != 1 || billed[""] != 1 {
		t.Errorf("%d invoices with %v, %d settlements", len(invoices), billed, len(settlements))
	}
}
