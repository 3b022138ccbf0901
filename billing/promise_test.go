package billing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/quote"
	"crossbill/events"
	"crossbill/projections"
)

// promise is an SLA of 99.95 percent with credits of 10 percent below 99.9 and 25 percent below 99.0.
func promise() *listing.SLA {
	return &listing.SLA{Availability: domain.MustDecimal("99.95"), Credits: []listing.Credit{
		{Below: domain.MustDecimal("99.9"), Percent: domain.MustDecimal("10")}, {Below: domain.MustDecimal("99.0"), Percent: domain.MustDecimal("25")}}}
}

// outages runs the read model that availability is measured by.
func (w *world) outages() projections.Queries {
	w.t.Helper()
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: w.pool, Log: w.Log,
		Projections: slices.DeleteFunc(projections.All(), func(p projections.Projection) bool { return p.Name != "availability" })})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { runner.Run(ctx); close(done) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return projections.Queries{DB: w.pool}
}

// down has the provider's session of a connection lost for a time.
func (w *world) down(connectionID string, from time.Time, lasting time.Duration) {
	session := func(state string, since time.Time) connection.SessionChanged {
		return connection.SessionChanged{ConnectionID: connectionID, Side: connection.SideZ, State: state, Since: since, At: since}
	}
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(connectionID),
		session(connection.SessionIdle, from), session(connection.SessionEstablished, from.Add(lasting)))}})
}

func (w *world) settle(outages Outages, p Period) int {
	w.t.Helper()
	n, err := SettleAvailability(context.Background(), w, outages, p, afterward, events.Metadata{Actor: "operator"})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// linesOf are an invoice's lines, with what each adjusts.
func linesOf(i invoice.Issued) string {
	var all []string
	for _, l := range i.Lines {
		text := l.ChargeID + " " + l.Exact + " = " + l.Amount.Amount()
		if l.Adjusts != nil {
			text = "adjusted " + text
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// explained holds each line of an invoice to its own evidence, and the whole to the log.
func (w *world) explained(i invoice.Issued) {
	w.t.Helper()
	for _, l := range i.Lines {
		e, err := Explain(context.Background(), w, invoice.Content(i), l.Number)
		if err != nil || e.Recomputed != l.Amount {
			w.t.Errorf("line %d (%s) explained: %v, %v", l.Number, l.ChargeID, e.Recomputed, err)
		}
		named := slices.ContainsFunc(e.Events, func(e EvidenceEvent) bool { return e.Type == "availability.settled" })
		if want := l.ChargeID == "sla_credit" || l.ChargeID == "platform_fee" && strings.Contains(linesOf(i), "; sla_credit"); l.Adjusts == nil && named != want {
			w.t.Errorf("line %d (%s) names what its month came to: %t, want %t", l.Number, l.ChargeID, named, want)
		}
	}
	if _, err := Recompute(context.Background(), w, i); err != nil {
		w.t.Error(err)
	}
}

// TestExampleDCredit is the rebill document's example A with two hours without the provider's session: 7 200 of the 1 814 400
// seconds in production are 99.6031 percent, below 99.9. The credit is 10 percent of the 270.97 that are charged by time,
// 27.097, rounded to 27.10; the fee is 3 percent of the 587.33 that are left, 17.6199.
func TestExampleDCredit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := exampleA()
	a.sla = promise()
	w.sell(a, sold{name: "b", customer: "customer", provider: "provider", plan: planA(), basisPoints: 300, from: a.from}) // without a promise
	w.meterA()
	w.down(a.id(), date(2026, 3, 20), 2*time.Hour)
	w.down(id(domain.PrefixConnection, "b"), date(2026, 3, 20), 20*time.Hour)
	outages := w.outages()
	if n := w.settle(outages, march); n != 1 {
		t.Fatalf("%d months are settled", n)
	}
	s := w.recorded(availability.Stream(a.id()))
	if e := s.Event.(availability.Settled); e.InScope != 1_814_400 || e.Down != 7200 || len(e.Credits) != 1 || e.Credits[0].Percent.String() != "10" || len(s.Metadata.Parties) != 2 {
		t.Errorf("March came to %+v, told to %v", e, s.Metadata.Parties)
	}
	// What becomes known later changes nothing, be it before the month is billed or after.
	w.down(a.id(), date(2026, 3, 25), 24*time.Hour)
	if n := w.settle(outages, march); n != 0 {
		t.Errorf("%d months are settled again", n)
	}
	if n := w.settle(outages, Period{From: march.From, To: date(2026, 3, 15)}); n != 0 {
		t.Errorf("%d halves of months are settled", n)
	}

	result := w.run(RunRequest{PeriodStart: march.From, PeriodEnd: march.To, At: afterward, ConnectionIDs: []string{a.id()}, Metadata: events.Metadata{Actor: "operator"}})
	i := w.invoice(result.Invoices[0])
	if got, want := linesOf(i), "port 270.967741935483870967… = 270.97; traffic 343.45678901234 = 343.46; sla_credit -27.097 = -27.10; platform_fee 17.6199 = 17.62"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if steps := strings.Join(i.Lines[2].Steps, "; "); !strings.HasPrefix(steps, "down for 7200 of 1814400 seconds: 99.6031 % available, below 99.9 %; −270.97 × 10 % = -27.097; rounded once") {
		t.Errorf("the credit's steps are %s", steps)
	}
	if i.Passthrough.Amount() != "587.33" || i.Fee.Amount() != "17.62" || i.Total.Amount() != "604.95" {
		t.Errorf("the invoice is over %s and %s, %s", i.Passthrough, i.Fee, i.Total)
	}
	paid := w.settlement(result.Settlements[0])
	if paid.Total.Amount() != "587.33" || len(paid.Lines) != 3 || paid.Lines[2].ItemID != i.Lines[2].ItemID || paid.Lines[2].Amount != i.Lines[2].Amount {
		t.Errorf("the provider is owed %+v", paid)
	}
	w.explained(i)

	// A late reading of March adjusts the traffic and the fee. The credit stays as it was.
	w.meter(w.reading(a.id(), date(2026, 3, 30), date(2026, 3, 30).Add(time.Hour), 1_000_000_000_000, 0))
	if n := w.settle(outages, april); n != 0 {
		t.Errorf("of April, in which all was well, %d months are settled", n)
	}
	next := w.run(RunRequest{PeriodStart: april.From, PeriodEnd: april.To, At: afterward, ConnectionIDs: []string{a.id()}, Metadata: events.Metadata{Actor: "operator"}})
	i = w.invoice(next.Invoices[0])
	if got, want := linesOf(i), "port 400 = 400.00; traffic 0 = 0.00; platform_fee 12 = 12.00; adjusted traffic 9.99678901234 = 10.00; adjusted platform_fee 0.2999 = 0.30"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.explained(i)

	// A credit note over the rest of March takes the negative line back too: nothing is left on either side.
	note, err := Credit(context.Background(), w, CreditRequest{CreditNoteID: id(domain.PrefixCreditNote, 1), InvoiceID: result.Invoices[0], Reason: "goodwill", Everything: true, At: afterward})
	if err != nil || note.CreditNote.Total.Amount() != "604.95" || note.CreditNote.Passthrough.Amount() != "587.33" {
		t.Errorf("a credit note over everything is %+v, %v", note.CreditNote, err)
	}
	w.checkBooks()
}

// TestNoCreditIsSettled is of what gives nothing back: a month that was billed before, whole or in part; a month in which the
// provider was away only while nothing was sold; and, once a month is settled, a part of it that is billed by itself.
func TestNoCreditIsSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := func(name string) sold {
		return sold{name: name, customer: "customer", provider: "provider", plan: planA(), basisPoints: 300, from: date(2026, 2, 1), sla: promise()}
	}
	billed, partly, suspended, settled := at("billed"), at("partly"), at("suspended"), at("settled")
	w.sell(billed, partly, suspended, settled)
	half := Period{From: march.From, To: date(2026, 3, 15)}
	of := func(s sold, p Period) RunRequest {
		r := request(p)
		r.ConnectionIDs = []string{s.id()}
		return r
	}
	w.run(of(billed, march))
	w.run(of(partly, half))
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(suspended.id()),
		connection.Suspended{ConnectionID: suspended.id(), At: date(2026, 3, 20)})}})
	for _, s := range []sold{billed, partly, suspended, settled} {
		w.down(s.id(), date(2026, 3, 20), 20*time.Hour)
	}
	w.append(events.Append{Streams: []events.StreamAppend{stream(connection.Stream(suspended.id()),
		connection.Resumed{ConnectionID: suspended.id(), At: date(2026, 3, 22)})}})
	if n := w.settle(w.outages(), march); n != 1 {
		t.Errorf("%d months are settled", n)
	}
	if e := w.recorded(availability.Stream(settled.id())).Event.(availability.Settled); len(e.Credits) != 1 {
		t.Errorf("the credits are %+v", e.Credits)
	}
	i := w.invoice(w.run(of(settled, half)).Invoices[0])
	if lines := linesOf(i); strings.Contains(lines, "sla_credit") {
		t.Errorf("half of a month that was settled is billed as %s", lines)
	}
	w.explained(i)
}

// TestCreditOfChangedPlan has the plan change within the month, from one that promises 10 percent to one that promises nothing
// but everything: each part gives back by its own promise, for what the whole month came to.
func TestCreditOfChangedPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := sold{name: "a", customer: "customer", provider: "provider", plan: planA(), basisPoints: 300, from: date(2026, 2, 1), sla: promise()}
	w.sell(a)
	first := w.quoteOf(a)
	second := first
	second.QuoteID, second.BandwidthMbps = id(domain.PrefixQuote, "second"), 200
	second.SLA = &listing.SLA{Availability: domain.MustDecimal("100"), Credits: []listing.Credit{{Below: domain.MustDecimal("100"), Percent: domain.MustDecimal("100")}}}
	second.Hash = quote.Hash(second)
	w.append(events.Append{Streams: []events.StreamAppend{stream(quote.Stream(second.QuoteID), second), stream(connection.Stream(a.id()), connection.Changed{
		ConnectionID: a.id(), OrderID: id(domain.PrefixOrder, "change"), QuoteID: second.QuoteID, ListingVersion: second.ListingVersion, BandwidthMbps: 200, At: date(2026, 3, 11)})}})
	w.down(a.id(), date(2026, 3, 1), 31*time.Hour) // of 744: 95.8333 percent
	if n := w.settle(w.outages(), march); n != 1 {
		t.Fatalf("%d months are settled", n)
	}
	i := w.invoice(w.run(request(march)).Invoices[0])
	// 10/31 of 400.00 are 129.03, a quarter of which is 32.2575; 21/31 are 270.97, all of it.
	want := "port 129.032258064516129032… = 129.03; traffic 0 = 0.00; sla_credit -32.2575 = -32.26; port 270.967741935483870967… = 270.97; traffic 0 = 0.00; " +
		"sla_credit -270.97 = -270.97; platform_fee 2.9031 = 2.90"
	if got := linesOf(i); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.explained(i)
	w.checkBooks()
}

func (w *world) quoteOf(s sold) quote.Issued {
	w.t.Helper()
	page, err := w.ReadStream(context.Background(), quote.Stream(id(domain.PrefixQuote, s.name)), 0, 1)
	if err != nil || len(page) != 1 {
		w.t.Fatal(fmt.Sprint(len(page), err))
	}
	return page[0].Event.(quote.Issued)
}
