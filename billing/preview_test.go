package billing

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/events"
)

func (w *world) preview(r PreviewRequest) Preview {
	w.t.Helper()
	p, err := PreviewOf(w.t.Context(), w, w.meters(), r)
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

// readingless is a log of which no reading is read.
type readingless struct {
	*world
	read *int // how often one was asked for
}

func (l readingless) ReadStream(ctx context.Context, stream string, after int64, limit int) ([]events.Recorded, error) {
	if strings.HasPrefix(stream, "usage-") {
		*l.read++
	}
	return l.world.ReadStream(ctx, stream, after, limit)
}

// TestPreviewReadsNoReadings: in the middle of a bucket, with usage up to then, a preview and a forecast read the days of the
// store, and say what the readings themselves come to.
func TestPreviewReadsNoReadings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	s.from = date(2026, 2, 10)
	w.sell(s)
	now := date(2026, 3, 11).Add(7*time.Hour + 123*time.Second)
	for from := date(2026, 3, 9); from.Before(now); from = from.Add(97 * time.Minute) {
		to := from.Add(97 * time.Minute)
		if to.After(now) {
			to = now
		}
		w.meter(w.reading(s.id(), from, to, 10_000_000_007, 5_000_000_003))
	}
	raw, err := Gather(t.Context(), w, s.id(), Period{From: march.From, To: now}, w.head())
	must(t, err)
	var read int
	for _, forecast := range []bool{false, true} {
		p, err := PreviewOf(t.Context(), readingless{w, &read}, w.meters(), PreviewRequest{Period: march, ConnectionIDs: []string{s.id()}, At: now, Forecast: forecast})
		must(t, err)
		bytes := new(big.Int).Add(raw.Usage.In(), raw.Usage.Out())
		want := domain.DecimalFromBig(bytes)
		if forecast {
			ratio := domain.DecimalFromInt(march.Seconds()).Quo(domain.DecimalFromInt(Period{From: march.From, To: now}.Seconds()))
			want = want.Mul(ratio)
		}
		got, err := domain.ParseDecimal(p.Lines[1].Quantity)
		must(t, err)
		if off := got.Mul(domain.DecimalFromInt(1_000_000_000)).Sub(want); off.Round(0).CmpAbs(big.NewInt(1)) > 0 { // in and out are rounded to the byte
			t.Errorf("forecast %t: %s GB, which is %s bytes off", forecast, got, off)
		}
	}
	if read != 0 {
		t.Errorf("readings were read %d times", read)
	}
}

// TestPreviewOfAnyMonthIsItsInvoice: connections that begin, change, are suspended and end at any second, with readings of any
// length, are previewed at the month's end and billed after: the same lines, to the item and its evidence.
func TestPreviewOfAnyMonthIsItsInvoice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 11))
			w := newWorld(t)
			second := func(days int) time.Duration { return time.Duration(r.IntN(days*86400)) * time.Second }
			s := exampleA()
			if seed%2 == 0 {
				s.plan = burst()
				s.plan.WhileSuspended = pricing.SuspendedNotBilled
			}
			s.from = march.From.Add(second(10))
			changed := s.from.Add(time.Hour + second(5))
			if seed%3 == 0 {
				s.to = changed.Add(10*24*time.Hour + second(3))
			}
			w.sell(s)
			w.change(s, "more", s.plan, 1000, changed, nil)
			paused := changed.Add(time.Hour + second(3))
			w.suspend(s, paused, paused.Add(time.Hour+second(1)))
			var all []reading.Recorded
			for range 200 {
				from := s.from.Add(time.Duration(r.Int64N(int64(21 * 24 * time.Hour))))
				length := []time.Duration{time.Second, 10 * time.Second, 7 * time.Minute, 26 * time.Hour}[r.IntN(4)]
				all = append(all, w.reading(s.id(), from, from.Add(length), r.Int64N(1e12), r.Int64N(1e6)))
			}
			w.meter(all...)
			p := w.preview(PreviewRequest{Period: march, ConnectionIDs: []string{s.id()}, At: march.To})
			i := w.invoice(w.run(request(march)).Invoices[0])
			for n := range p.Lines {
				p.Lines[n].Number = n + 1
			}
			if got, want := fmt.Sprint(p.Lines), fmt.Sprint(i.Lines); len(p.Lines) < 4 || got != want {
				t.Errorf("the preview is\n%s\nand the invoice\n%s", got, want)
			}
		})
	}
}

// BenchmarkPreview previews a connection with a month of 5-minute readings, in the middle of a bucket.
func BenchmarkPreview(b *testing.B) {
	w := newWorld(b)
	s := exampleA()
	s.from = date(2026, 2, 10)
	w.sell(s)
	var all []reading.Recorded
	now := march.To.Add(-123 * time.Second)
	for from := march.From; from.Add(5 * time.Minute).Before(now); from = from.Add(5 * time.Minute) {
		all = append(all, w.reading(s.id(), from, from.Add(5*time.Minute), 1e9, 2e9))
	}
	w.meter(all...)
	w.preview(PreviewRequest{Period: march, ConnectionIDs: []string{s.id()}, At: now})
	for b.Loop() {
		w.preview(PreviewRequest{Period: march, ConnectionIDs: []string{s.id()}, At: now})
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
		if _, err := PreviewOf(t.Context(), w, w.meters(), test.r); domain.CodeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
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
