package billing

import (
	"context"
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

// Facts are what the log, up to a position, says of one connection and one period: all that its lines are computed from.
type Facts struct {
	Position     events.Position // of the log
	Connection   connection.State
	Quote        quote.Content // freezes the plan and the fee
	Period       Period
	Billable     rating.Interval // the part of the period that is charged; empty if none is
	Usage        rating.Usage    // in the billable part
	UsageVersion int64           // of the stream of readings; 0: it has none

	connection, quote, usage ranges // the events that said so
}

// Gather reads a connection's facts for a period from the log up to a position. It returns NotFound for a connection
// that does not exist up to there, and an Internal error for a log that contradicts itself.
//
// Of the connection's own stream, those events are kept as evidence that changed what is billed, or to whom; of the
// readings, those that share time with the billable part.
func Gather(ctx context.Context, log Log, connectionID string, period Period, upTo events.Position) (Facts, error) {
	const op = "billing.Gather"
	f := Facts{Position: upTo, Period: period}
	if err := scan(ctx, log, connection.Stream(connectionID), 1, maxVersion, upTo, f.addConnection); err != nil {
		return Facts{}, err
	}
	if f.Connection.ID == "" {
		return Facts{}, domain.Missing(op, "connection")
	}
	if err := f.setBillable(op); err != nil || f.Billable.Empty() {
		return f, err
	}
	if err := scan(ctx, log, quote.Stream(f.Connection.QuoteID), 1, maxVersion, upTo, f.addQuote); err != nil {
		return Facts{}, err
	}
	if err := f.checkQuote(op); err != nil {
		return Facts{}, err
	}
	return f, scan(ctx, log, reading.Stream(connectionID), 1, maxVersion, upTo, f.addReading)
}

// billed is what of a connection its invoices depend on.
type billed struct {
	quote, customer, provider, listing, billing string
	version                                     int
	from, to                                    time.Time
}

func billedOf(s connection.State) billed {
	b := billed{s.QuoteID, s.CustomerID, s.ProviderID, s.ListingID, s.Billing, s.ListingVersion, time.Time{}, time.Time{}}
	if s.BillingFrom != nil {
		b.from = *s.BillingFrom
	}
	if s.BillingTo != nil {
		b.to = *s.BillingTo
	}
	return b
}

func (f *Facts) addConnection(e events.Recorded) error {
	before := billedOf(f.Connection)
	f.Connection = connection.Evolve(f.Connection, e.Event)
	if billedOf(f.Connection) != before {
		f.connection.add(e)
	}
	return nil
}

// setBillable says when the connection is charged. A connection that never was in production is not.
func (f *Facts) setBillable(op string) error {
	c := f.Connection
	if c.BillingFrom == nil {
		return nil
	}
	if c.BillingTo != nil && c.BillingTo.Before(*c.BillingFrom) {
		return domain.Errorf(domain.Internal, op, "billing of %s stops at %s, before it starts at %s", c.ID, c.BillingTo, c.BillingFrom)
	}
	f.Billable = rating.BillableIn(f.Period, *c.BillingFrom, c.BillingTo)
	return nil
}

func (f *Facts) addQuote(e events.Recorded) error {
	if q, ok := e.Event.(quote.Issued); ok {
		f.Quote = quote.Content(q)
		f.quote.add(e)
	}
	return nil
}

// checkQuote holds the quote to the connection that came of it: a price meant for others is no price.
func (f *Facts) checkQuote(op string) error {
	c, q := f.Connection, f.Quote
	switch {
	case q.QuoteID == "" || q.QuoteID != c.QuoteID:
		return domain.Errorf(domain.Internal, op, "connection %s is priced by the quote %q, which is not in the log", c.ID, c.QuoteID)
	case q.CustomerID != c.CustomerID || q.ProviderID != c.ProviderID || q.ListingID != c.ListingID || q.ListingVersion != c.ListingVersion:
		return domain.Errorf(domain.Internal, op, "quote %s is not for connection %s", q.QuoteID, c.ID)
	case quote.Hash(quote.Issued(q)) != q.Hash:
		return domain.Errorf(domain.Internal, op, "quote %s does not have its hash", q.QuoteID)
	}
	return nil
}

func (f *Facts) addReading(e events.Recorded) error {
	r, err := readingOf(e, f.Connection.ID)
	if err != nil {
		return err
	}
	f.UsageVersion = e.Version
	if f.Usage.Add(r, f.Billable) {
		f.usage.add(e)
	}
	return nil
}

// readingOf returns a recorded reading. It is checked again as it is read: what is wrong here becomes wrong money.
func readingOf(e events.Recorded, connectionID string) (rating.Reading, error) {
	r, ok := e.Event.(reading.Recorded)
	if !ok || r.ConnectionID != connectionID || r.To.Before(r.From) || r.BytesIn < 0 || r.BytesOut < 0 {
		return rating.Reading{}, domain.Errorf(domain.Internal, "billing.readingOf",
			"event %d in stream %s, a %s, is no reading of %s that can be billed", e.Position, e.Stream, e.Type, connectionID)
	}
	return rating.Reading{Interval: rating.Interval{From: r.From.UTC(), To: r.To.UTC()}, BytesIn: r.BytesIn, BytesOut: r.BytesOut}, nil
}

// rate rates the facts: the passthrough items in the plan's order, and the fee.
func (f *Facts) rate() (items []rating.Item, fee rating.Item, err error) {
	in := rating.Input{ConnectionID: f.Connection.ID, Plan: f.Quote.Plan, Period: f.Period, Billable: f.Billable, Usage: f.Usage}
	if items, err = rating.Rate(in); err != nil {
		return nil, fee, err
	}
	fee, err = rating.Fee(in, pricing.FeeSchedule{BasisPoints: f.Quote.BasisPoints}, items)
	return items, fee, err
}

// evidenceOf returns what an item with this charge is computed from. A recurring charge knows no readings; the fee
// follows from every other item, so it has all.
func (f *Facts) evidenceOf(chargeID string) []invoice.Evidence {
	evidence := append(f.connection.evidence(), f.quote.evidence()...)
	for _, c := range f.Quote.Plan.Charges {
		if c.Kind != pricing.KindRecurring && (c.ID == chargeID || chargeID == pricing.FeeChargeID) {
			return append(evidence, f.usage.evidence()...)
		}
	}
	return evidence
}
