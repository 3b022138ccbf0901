package billing

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/billing/rating"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/events"
)

// burst is the plan of the rebill document's worked example B.
func burst() pricing.Plan {
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst",
		CommitMbps: 100, CommitPrice: domain.MustDecimal("2.00"), OveragePrice: domain.MustDecimal("3.00")}}}
}

// change appends a change of a connection to another plan and bandwidth.
func (w *world) change(s sold, name string, plan pricing.Plan, mbps int, at time.Time, terms *pricing.FeeTerms) {
	w.t.Helper()
	con, quo := s.events()
	before, q := con[0].(connection.Requested), quo[0].(quote.Issued)
	q.QuoteID, q.Plan, q.BandwidthMbps, q.ListingVersion, q.FeeTerms = id(domain.PrefixQuote, name), plan, mbps, 3, terms
	q.Hash = quote.Hash(q)
	order := id(domain.PrefixOrder, name)
	w.append(events.Append{Streams: []events.StreamAppend{
		stream(quote.Stream(q.QuoteID), q),
		stream(connection.Stream(s.id()),
			connection.ChangeRequested{ConnectionID: s.id(), OrderID: order, QuoteID: q.QuoteID, ListingVersion: 3, BandwidthMbps: mbps, InPlace: true, At: before.At},
			connection.Changed{ConnectionID: s.id(), OrderID: order, QuoteID: q.QuoteID, ListingVersion: 3, BandwidthMbps: mbps, At: at}),
	}})
}

// suspend appends a time in which the gate was closed; zero until: it still is.
func (w *world) suspend(s sold, from, until time.Time) {
	w.t.Helper()
	all := []domain.Event{
		connection.SuspensionRequested{ConnectionID: s.id(), Reason: "test", At: from}, connection.Suspended{ConnectionID: s.id(), At: from},
	}
	if !until.IsZero() {
		all = append(all, connection.ResumptionRequested{ConnectionID: s.id(), At: until}, connection.Resumed{ConnectionID: s.id(), At: until})
	}
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(s.id()), all...)}})
}

// checkLines holds an invoice's lines to "charge part amount", each explained and the whole computed again.
func (w *world) checkLines(i invoice.Issued, want ...string) {
	w.t.Helper()
	var got []string
	for _, l := range i.Lines {
		got = append(got, strings.Join(strings.Fields(l.ChargeID+" "+l.Part+" "+l.Amount.Amount()), " "))
		e, err := Explain(w.t.Context(), w, invoice.Content(i), l.Number)
		if err != nil {
			w.t.Errorf("line %d: %v", l.Number, err)
			continue
		}
		if e.Recomputed != l.Amount || len(e.Events) != countOf(l.Evidence) {
			w.t.Errorf("line %d is explained by %d events as %s", l.Number, len(e.Events), e.Recomputed)
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("the lines are\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := Recompute(w.t.Context(), w, i); err != nil {
		w.t.Error(err)
	}
	w.checkBooks()
}

func countOf(evidence []invoice.Evidence) (n int) {
	for _, e := range evidence {
		n += e.Count
	}
	return n
}

// TestExampleB is the rebill document's worked example B on a real log, digit for digit: 433 buckets at 400 Mbps, or 432.
// A reading covers three buckets of one rate, or the one that is left over.
func TestExampleB(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		high int
		want []string
	}{
		{433, []string{"burst commit 200.00", "burst overage 900.00", "platform_fee 33.00"}},
		{432, []string{"burst commit 200.00", "burst overage 0.00", "platform_fee 6.00"}},
	} {
		w := newWorld(t)
		s := sold{name: "b", customer: "customer", provider: "provider", plan: burst(), basisPoints: 300, from: date(2026, 3, 20)}
		w.sell(s)
		rate := func(n int) int64 {
			if n < test.high {
				return 400
			}
			return 80
		}
		var all []reading.Recorded
		for n := 0; n < 8640; {
			length := 1
			for length < 3 && n+length < 8640 && rate(n+length) == rate(n) {
				length++
			}
			from := april.From.Add(time.Duration(n) * rating.BucketLength)
			bytes := int64(length) * 1_000_000 * 300 / 8
			all = append(all, w.reading(s.id(), from, from.Add(time.Duration(length)*rating.BucketLength), rate(n)*bytes, 90*bytes))
			n += length
		}
		w.meter(all...)
		i := w.invoice(w.run(request(april)).Invoices[0])
		w.checkLines(i, test.want...)
		if l := i.Lines[1]; test.high == 433 && (l.Quantity != "300" || l.Unit != pricing.UnitMbpsMonth || len(i.Lines[0].Evidence) >= len(l.Evidence)) {
			t.Errorf("the overage is %+v", l)
		}
	}
}

// TestOneTimeIsChargedOnce: in the period that the activation falls in, however periods are cut, and never again.
func TestOneTimeIsChargedOnce(t *testing.T) {
	t.Parallel()
	plan := pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: domain.MustDecimal("150")},
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("310")},
	}}
	from := date(2026, 3, 11).Add(999 * time.Millisecond)
	for name, periods := range map[string][]Period{
		"months":                    {march, april},
		"one that begins there":     {{From: date(2026, 3, 1), To: date(2026, 3, 11)}, {From: date(2026, 3, 11), To: date(2026, 4, 1)}, april},
		"one that ends after it":    {{From: date(2026, 3, 1), To: date(2026, 3, 11).Add(time.Second)}, {From: date(2026, 3, 11).Add(time.Second), To: date(2026, 4, 1)}},
		"the later period is first": {april, march},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := sold{name: "once", customer: "customer", provider: "provider", plan: plan, from: from}
			w.sell(s)
			for _, p := range periods {
				w.run(request(p))
			}
			w.change(s, "more", plan, 1000, date(2026, 4, 20), nil) // and a change is no activation
			invoices, _ := w.checkBooks()
			once := 0
			for _, i := range invoices {
				for _, l := range i.Lines {
					if l.ChargeID == "setup" {
						once++
						if l.Amount.Minor != 150_00 || l.Quantity != "1" || l.Unit != pricing.UnitOnce {
							t.Errorf("the line is %+v", l)
						}
					}
				}
				if _, err := Recompute(t.Context(), w, i); err != nil { // at its own position: before the change
					t.Error(err)
				}
			}
			if once != 1 {
				t.Errorf("it was charged %d times", once)
			}
		})
	}
}

// TestChangesSplitTheMonth: each part is billed as what was sold, from its second on, with its own price, its own share of
// allowance and tiers, and evidence of its own readings; the fee is one.
func TestChangesSplitTheMonth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := planA()
	first.Charges[1].Included = domain.MustDecimal("310")
	s := sold{name: "c", customer: "customer", provider: "provider", plan: first, basisPoints: 300, from: date(2026, 2, 10)}
	w.sell(s)
	second := pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 1000, Amount: domain.MustDecimal("930")}}},
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: domain.MustDecimal("150")},
		burst().Charges[0],
	}}
	at := date(2026, 3, 11).Add(3*time.Minute + 500*time.Millisecond) // inside a bucket, and inside a second
	w.change(s, "c2", second, 1000, at, nil)
	w.change(s, "c3", second, 1000, date(2026, 4, 5), nil) // of no interest to March
	cut := date(2026, 3, 11).Add(3 * time.Minute)
	w.meter(
		w.reading(s.id(), date(2026, 3, 2), date(2026, 3, 3), 150_000_000_000, 0),
		w.reading(s.id(), cut.Add(-time.Minute), cut.Add(time.Minute), 20_000_000_001, 1_000), // half of it before the change
		w.reading(s.id(), date(2026, 3, 12), date(2026, 3, 13), 1_000_000_000_000, 0),
	)
	i := w.invoice(w.run(request(march)).Invoices[0])
	// The first part is 864180 seconds of 2678400, 0.322…, with 100.02083… GB of the allowance; it used 160.0000005 GB.
	// The second is 1814220 seconds, 0.677…: 629.9375; commit 135.4704; its 95th percentile is nothing.
	w.checkLines(i, "port 129.06", "traffic 3.00", "port 629.94", "burst commit 135.47", "burst overage 0.00", "platform_fee 26.92")
	if l := i.Lines[0]; l.From == nil || !l.From.Equal(march.From) || !l.To.Equal(cut) || l.QuoteID != id(domain.PrefixQuote, "c") || l.Plan.Version != 2 {
		t.Errorf("the first line is %+v", l)
	}
	if l := i.Lines[2]; !l.From.Equal(cut) || !l.To.Equal(march.To) || l.QuoteID != id(domain.PrefixQuote, "c2") || l.Plan.Version != 3 {
		t.Errorf("the third line is %+v", l)
	}
	usage := func(n int) int {
		evidence := i.Lines[n].Evidence
		return evidence[len(evidence)-1].Count
	}
	if usage(1) != 2 || usage(4) != 2 || usage(5) != 3 || i.Lines[5].From != nil || i.Lines[5].QuoteID != id(domain.PrefixQuote, "c2") {
		t.Errorf("%d, %d and %d readings are evidence", usage(1), usage(4), usage(5))
	}
	if i = w.invoice(w.run(request(april)).Invoices[0]); len(i.Lines) != 7 {
		t.Errorf("April has %d lines", len(i.Lines))
	}
	w.checkLines(i, "port 124.00", "burst commit 26.67", "burst overage 0.00", "port 806.00", "burst commit 173.33", "burst overage 0.00", "platform_fee 33.90")
}

// TestABucketBelongsToWhereItBegins: the bucket in which a plan changes is ranked under the plan before, all of it.
func TestABucketBelongsToWhereItBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := april.To.Add(-10 * time.Minute)
	s := sold{name: "e", customer: "customer", provider: "provider", plan: burst(), basisPoints: 300, from: from}
	w.sell(s)
	w.change(s, "e2", burst(), 1000, from.Add(7*time.Minute), nil)
	w.meter(
		w.reading(s.id(), from.Add(5*time.Minute), from.Add(7*time.Minute), 100*1_000_000*300/8, 0),
		w.reading(s.id(), from.Add(8*time.Minute), from.Add(10*time.Minute), 300*1_000_000*300/8, 0),
	)
	i := w.invoice(w.run(request(april)).Invoices[0])
	// 420 seconds and 180 of 2592000, 100 Mbps at 2.00 and 300 Mbps above at 3.00
	w.checkLines(i, "burst commit 0.03", "burst overage 0.15", "burst commit 0.01", "burst overage 0.00", "platform_fee 0.01")
	if !strings.Contains(strings.Join(i.Lines[1].Steps, "\n"), "of 2 buckets") || !strings.Contains(strings.Join(i.Lines[3].Steps, "\n"), "no bucket") {
		t.Errorf("the steps are %q and %q", i.Lines[1].Steps, i.Lines[3].Steps)
	}
}

// TestAPriceForAnotherBandwidth: a change is billed by a quote for what it changed to, or not at all.
func TestAPriceForAnotherBandwidth(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*connection.Changed){
		"bandwidth": func(c *connection.Changed) { c.BandwidthMbps = 100 },
		"version":   func(c *connection.Changed) { c.ListingVersion = 2 },
		"quote":     func(c *connection.Changed) { c.QuoteID = id(domain.PrefixQuote, "none") },
	} {
		w := newWorld(t)
		s := exampleA()
		w.sell(s)
		w.change(s, "other", burst(), 1000, date(2026, 3, 20), nil)
		spoiled := tampering{w, func(e *events.Recorded) {
			if c, ok := e.Event.(connection.Changed); ok {
				spoil(&c)
				e.Event = c
			}
		}}
		if _, err := Gather(t.Context(), spoiled, s.id(), march, w.head()); domain.CodeOf(err) != domain.Internal {
			t.Errorf("another %s: %v", name, err)
		}
		if _, err := Gather(t.Context(), w, s.id(), march, w.head()); err != nil {
			t.Error(err)
		}
	}
}

// TestSuspensions: not billed where the plan says so, buckets of that time left out.
func TestSuspensions(t *testing.T) {
	t.Parallel()
	plan := pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("300")}, burst().Charges[0],
	}}
	free := plan
	free.WhileSuspended = pricing.SuspendedNotBilled
	for _, test := range []struct {
		name  string
		plan  pricing.Plan
		to    time.Time // of the last suspension; zero: it lasts
		lines []string
	}{
		// Two days are suspended, and 28 of 30 billed: one at 400 Mbps is less than a twentieth of them. Of nine it is more.
		{"billed", plan, date(2026, 4, 12), []string{"port 300.00", "burst commit 200.00", "burst overage 0.00", "platform_fee 15.00"}},
		{"not billed", free, date(2026, 4, 12), []string{"port 280.00", "burst commit 186.67", "burst overage 0.00", "platform_fee 14.00"}},
		{"not billed, to the end", free, time.Time{}, []string{"port 90.00", "burst commit 60.00", "burst overage 270.00", "platform_fee 12.60"}},
	} {
		w := newWorld(t)
		s := sold{name: "s", customer: "customer", provider: "provider", plan: test.plan, basisPoints: 300, from: date(2026, 3, 1)}
		w.sell(s)
		w.suspend(s, date(2026, 4, 10).Add(400*time.Millisecond), date(2026, 4, 11).Add(100*time.Millisecond))
		w.suspend(s, date(2026, 4, 11).Add(100*time.Millisecond), test.to)
		w.meter(w.reading(s.id(), date(2026, 4, 2), date(2026, 4, 3), 400*1_000_000*86_400/8, 0))
		i := w.invoice(w.run(request(april)).Invoices[0])
		w.checkLines(i, test.lines...)
	}
}

// TestMinimumAndModels on a log: every model, a minimum above them, in a currency of three digits.
func TestMinimumAndModels(t *testing.T) {
	t.Parallel()
	usage := func(id, model string, change func(*pricing.Charge)) pricing.Charge {
		c := pricing.Charge{ID: id, Kind: pricing.KindUsage, Description: id, Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB, Model: model}
		change(&c)
		return c
	}
	tiers := []pricing.Tier{{UpTo: decimal("100"), Price: domain.MustDecimal("0.05")}, {Price: domain.MustDecimal("0.03")}}
	plan := pricing.Plan{Currency: "BHD", Charges: []pricing.Charge{
		usage("volume", pricing.ModelVolume, func(c *pricing.Charge) { c.Tiers = tiers }),
		usage("blocks", pricing.ModelPackage, func(c *pricing.Charge) {
			c.PackageSize, c.PackagePrice = domain.MustDecimal("50"), domain.MustDecimal("1.0005")
		}),
		{ID: "least", Kind: pricing.KindMinimum, Description: "Minimum", Amount: domain.MustDecimal("31")},
	}}
	w := newWorld(t)
	s := sold{name: "m", customer: "customer", provider: "provider", plan: plan, basisPoints: 250, from: date(2026, 3, 11)}
	w.sell(s)
	w.meter(w.reading(s.id(), date(2026, 3, 12), date(2026, 3, 13), 100_000_000_001, 0))
	i := w.invoice(w.run(request(march)).Invoices[0])
	// 100.000000001 × 0.03, three blocks, and 21 of 31 days of the minimum: 21 − 3.000 − 3.002
	w.checkLines(i, "volume 3.000", "blocks 3.002", "least 14.998", "platform_fee 0.525")
}

// TestManyChanges: as many parts as a period may have fit on an invoice, and one more is refused with its reason.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	w.sell(s)
	terms := pricing.FeeTerms{Caps: []domain.Money{{Minor: 1, Currency: "USD"}}}
	for n := range maxStretches - 1 {
		w.change(s, fmt.Sprint("many", n), planA(), 100+n, date(2026, 3, 12).Add(time.Duration(n)*time.Hour), &terms)
	}
	w.meter(w.reading(s.id(), date(2026, 3, 11), march.To, 1e12, 1e12))
	i := w.invoice(w.run(request(march)).Invoices[0])
	if len(i.Lines) != 2*maxStretches+1 || i.Fee.Minor != 1 {
		t.Errorf("%d lines and a fee of %s", len(i.Lines), i.Fee)
	}
	sum := int64(0)
	for _, l := range i.Lines {
		if l.ChargeID == "port" {
			sum += l.Amount.Minor
		}
	}
	if whole := int64(270_97); sum < whole-maxStretches/2 || sum > whole+maxStretches/2 { // each part is rounded
		t.Errorf("the parts of the port come to %d", sum)
	}
	if _, err := Explain(t.Context(), w, invoice.Content(i), len(i.Lines)); err != nil {
		t.Error(err)
	}
	w.change(s, "more", planA(), 50, date(2026, 3, 30), &terms)
	if _, err := Gather(t.Context(), w, s.id(), march, w.head()); domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "changed 100 times in one period; the limit is 99") {
		t.Errorf("one more: %v", err)
	}
}
