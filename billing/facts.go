package billing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"crossbill/billing/rating"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/feeallowance"
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
	Period       Period
	Billable     rating.Interval // the part of the period that is charged; empty if none is
	Stretches    []Stretch       // what it was sold as in Billable, one after the other
	Usage        rating.Usage    // in Billable
	UsageVersion int64           // of the stream of readings; 0: it has none

	// FreeBefore is what the customer's invoices before have used of the fee's free tier in the month, if there is one.
	FreeBefore  pricing.FreeUse
	freeVersion int64 // of the stream that says so

	// Settled is what the period's availability came to, if it was settled and a quote in force promises credits.
	Settled *availability.Settled

	Terms       Terms        // of its billing account; zero in a preview
	Adjustments []Adjustment // of periods that were closed before

	rate                  *conversion // of the plan's currency to the invoice's; nil: they are the same
	connection, allowance ranges      // the events that said so
	settled               ranges      // likewise
	usage                 readings
	buckets               *rating.Buckets
}

// Stretch is a part of what is billable in which one quote is in force.
type Stretch struct {
	rating.Interval
	Quote      quote.Content // freezes the plan and the fee
	Suspended  []rating.Interval
	Activation bool // it begins with the connection's production
	Usage      rating.Usage
	Percentile rating.Percentile // if the plan has such a charge

	quoteID string
	quote   ranges
	usage   readings
}

// maxStretches is how many parts the changes of plan or bandwidth can cut a period into: the fee's line names the quote of
// each as evidence, and may need a step for each. A connection refuses to be changed more often within a month, so only a
// longer period can have more.
const maxStretches = connection.MaxChanges + 1

// Gather reads a connection's facts for a period from the log up to a position. It returns NotFound for a connection
// that does not exist up to there, and an Internal error for a log that contradicts itself.
//
// Of the connection's own stream, those events are kept as evidence that changed what is billed, or to whom; of the
// readings, those of the days that they are counted in.
func Gather(ctx context.Context, log Log, connectionID string, period Period, upTo events.Position) (Facts, error) {
	return gather(ctx, log, connectionID, period, upTo, func(f *Facts) error {
		return scan(ctx, log, reading.Stream(connectionID), 1, maxVersion, upTo, f.addReading)
	})
}

// gather is Gather with the readings from elsewhere: meter adds them.
func gather(ctx context.Context, log Log, connectionID string, period Period, upTo events.Position, meter func(*Facts) error) (Facts, error) {
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
	for n := range f.Stretches {
		s := &f.Stretches[n]
		if err := scan(ctx, log, quote.Stream(s.quoteID), 1, maxVersion, upTo, s.addQuote); err != nil {
			return Facts{}, err
		}
		if err := f.checkQuote(op, s); err != nil {
			return Facts{}, err
		}
	}
	if f.hasFreeTier() {
		if err := scan(ctx, log, feeallowance.Stream(f.Connection.CustomerID), 1, maxVersion, upTo, f.addAllowance); err != nil {
			return Facts{}, err
		}
	}
	if f.promisesCredits() {
		if err := scan(ctx, log, availability.Stream(connectionID), 1, maxVersion, upTo, f.addSettled); err != nil {
			return Facts{}, err
		}
	}
	f.openUsage()
	if err := meter(&f); err != nil {
		return Facts{}, err
	}
	f.closeBuckets()
	return f, nil
}

// Currency returns the currency of the connection's plan, which it keeps for good.
func (f *Facts) Currency() domain.Currency {
	if len(f.Stretches) == 0 { // only adjusted
		return f.Adjustments[0].currency
	}
	return f.last().Quote.Plan.Currency
}

// account returns the billing account that the connection is invoiced to.
func (f *Facts) account() string {
	if f.Terms.AccountID != "" {
		return f.Terms.AccountID
	}
	return f.Connection.BillingAccountID
}

// charges reports whether the invoice has lines of the connection.
func (f *Facts) charges() bool { return !f.Billable.Empty() || len(f.Adjustments) > 0 }

// last returns the stretch at the end of what is billable.
func (f *Facts) last() *Stretch { return &f.Stretches[len(f.Stretches)-1] }

// billed is what of a connection its invoices depend on.
type billed struct {
	quote, customer, provider, listing, billing string
	version, spans, suspensions                 int
	from, to, resumed                           time.Time
}

func billedOf(s connection.State) billed {
	b := billed{
		quote: s.QuoteID, customer: s.CustomerID, provider: s.ProviderID, listing: s.ListingID, billing: s.Billing, version: s.ListingVersion,
		spans: len(s.Spans), suspensions: len(s.Suspensions),
	}
	if s.BillingFrom != nil {
		b.from = *s.BillingFrom
	}
	if s.BillingTo != nil {
		b.to = *s.BillingTo
	}
	if n := len(s.Suspensions); n > 0 && s.Suspensions[n-1].To != nil {
		b.resumed = *s.Suspensions[n-1].To
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

// setBillable says when the connection is charged, and as what. A connection that never was in production is not.
func (f *Facts) setBillable(op string) error {
	c := f.Connection
	if c.BillingFrom == nil {
		return nil
	}
	if c.BillingTo != nil && c.BillingTo.Before(*c.BillingFrom) {
		return domain.Errorf(domain.Internal, op, "billing of %s stops at %s, before it starts at %s", c.ID, c.BillingTo, c.BillingFrom)
	}
	f.Billable = rating.BillableIn(f.Period, *c.BillingFrom, c.BillingTo)
	if f.Billable.Empty() {
		return nil
	}
	suspended := f.suspended()
	for n, span := range c.Spans {
		var until *time.Time
		if n+1 < len(c.Spans) {
			until = &c.Spans[n+1].From
		}
		in := rating.BillableIn(f.Billable, span.From, until)
		if in.Empty() { // of another period, or changed again within a second
			continue
		}
		s := Stretch{Interval: in, quoteID: span.QuoteID}
		// Changes within the first second leave the first span empty; what is charged once is then the next one's to charge.
		s.Activation = in.From.Equal(c.BillingFrom.UTC().Truncate(time.Second))
		for _, pause := range suspended {
			if part := pause.Intersect(in); !part.Empty() {
				s.Suspended = append(s.Suspended, part)
			}
		}
		f.Stretches = append(f.Stretches, s)
	}
	switch n := len(f.Stretches); {
	case n == 0 || !f.Stretches[0].From.Equal(f.Billable.From) || !f.last().To.Equal(f.Billable.To):
		return domain.Errorf(domain.Internal, op, "what %s is sold as does not cover when it is billed, %s", c.ID, f.Billable)
	case n > maxStretches:
		return domain.Errorf(domain.Internal, op, "%s changed %d times in one period; the limit is %d", c.ID, n-1, maxStretches-1).
			WithHint("bill the period in parts")
	}
	return nil
}

// suspended returns when the gate was closed in what is billable, in whole seconds, apart and in order.
func (f *Facts) suspended() []rating.Interval {
	var all []rating.Interval
	for _, s := range f.Connection.Suspensions {
		pause := rating.BillableIn(f.Billable, s.From, s.To)
		if pause.Empty() {
			continue
		}
		if n := len(all); n > 0 && !all[n-1].To.Before(pause.From) { // one that began before the last had ended
			pause.From = all[n-1].From
			if pause.To.Before(all[n-1].To) {
				pause.To = all[n-1].To
			}
			all = all[:n-1]
		}
		all = append(all, pause)
	}
	return all
}

func (s *Stretch) addQuote(e events.Recorded) error {
	if q, ok := e.Event.(quote.Issued); ok {
		s.Quote = quote.Content(q)
		s.quote.add(e)
	}
	return nil
}

// checkQuote holds a quote to the connection that came of it: a price meant for others is no price.
func (f *Facts) checkQuote(op string, s *Stretch) error {
	c, q := f.Connection, s.Quote
	span := c.Spans[slices.IndexFunc(c.Spans, func(span connection.Span) bool { return span.QuoteID == s.quoteID })]
	switch {
	case q.QuoteID == "" || q.QuoteID != s.quoteID:
		return domain.Errorf(domain.Internal, op, "connection %s is priced by the quote %q, which is not in the log", c.ID, s.quoteID)
	case q.CustomerID != c.CustomerID || q.ProviderID != c.ProviderID || q.ListingID != c.ListingID || q.ListingVersion != span.ListingVersion ||
		q.BandwidthMbps != span.BandwidthMbps:
		return domain.Errorf(domain.Internal, op, "quote %s is not for connection %s", q.QuoteID, c.ID)
	case quote.Hash(quote.Issued(q)) != q.Hash:
		return domain.Errorf(domain.Internal, op, "quote %s does not have its hash", q.QuoteID)
	}
	for _, o := range f.Stretches {
		if o.Quote.QuoteID != "" && o.Quote.Plan.Currency != q.Plan.Currency {
			return domain.Errorf(domain.Internal, op, "connection %s changed from %s to %s inside a period", c.ID, o.Quote.Plan.Currency, q.Plan.Currency).
				WithHint("a connection keeps its currency: this change should have been refused")
		}
	}
	return nil
}

// hasFreeTier reports whether anything may be free of the connection's fee.
func (f *Facts) hasFreeTier() bool {
	return len(f.Stretches) > 0 && f.last().priced() && f.last().Quote.Fees().HasFreeTier()
}

// promisesCredits reports whether a quote that is in force in the period gives something back of a month that falls short.
func (f *Facts) promisesCredits() bool {
	return slices.ContainsFunc(f.Stretches, func(s Stretch) bool { return s.Quote.SLA != nil && len(s.Quote.SLA.Credits) > 0 })
}

func (f *Facts) addSettled(e events.Recorded) error {
	if s, ok := e.Event.(availability.Settled); ok && s.PeriodStart.Equal(f.Period.From) && s.PeriodEnd.Equal(f.Period.To) {
		f.Settled = &s
		f.settled.add(e)
	}
	return nil
}

// credit rates what is given back of a stretch's items; ok is false if nothing is.
func (f *Facts) credit(s *Stretch, in rating.Input, rated []rating.Item) (rating.Item, bool, error) {
	if f.Settled == nil {
		return rating.Item{}, false, nil
	}
	n := slices.IndexFunc(f.Settled.Credits, func(c availability.Credit) bool { return c.QuoteID == s.Quote.QuoteID })
	if n < 0 {
		return rating.Item{}, false, nil
	}
	due := f.Settled.Credits[n]
	percent, _ := availability.PercentOf(f.Settled.InScope, f.Settled.Down)
	return rating.Credit(in, rated, due.Percent, fmt.Sprintf("down for %d of %d seconds: %s %% available, below %s %%", f.Settled.Down, f.Settled.InScope, percent, due.Below))
}

func (f *Facts) addAllowance(e events.Recorded) (err error) {
	f.freeVersion = e.Version
	switch u := e.Event.(type) {
	case feeallowance.Used:
		if u.Counts(f.Period.From, f.Currency()) {
			f.allowance.add(e)
			f.FreeBefore, err = f.FreeBefore.Add(u.Connections, u.Passthrough)
		}
	case feeallowance.Released:
		if u.Counts(f.Period.From, f.Currency()) {
			f.allowance.add(e)
			f.FreeBefore, err = f.FreeBefore.Add(-u.Connections, u.Passthrough.Neg())
		}
	}
	return err
}

// priced reports whether the stretch's quote was read: to explain one line, only its own is.
func (s *Stretch) priced() bool { return s.Quote.QuoteID != "" }

func (s *Stretch) bursts() bool { return s.priced() && s.Quote.Plan.Has(pricing.KindPercentile) }

// reach returns the time whose readings the stretch is rated by. The last bucket that begins in it may end after it.
func (s *Stretch) reach(billable rating.Interval) rating.Interval {
	if !s.bursts() {
		return s.Interval
	}
	return rating.Reach(s.Interval).Intersect(billable)
}

// openUsage makes room for the readings: evidence of every day that counts, and buckets if a plan needs them.
func (f *Facts) openUsage() {
	f.usage.over(f.Connection.ID, f.Billable)
	for n := range f.Stretches {
		s := &f.Stretches[n]
		s.usage.over(f.Connection.ID, s.reach(f.Billable))
	}
	for n := range f.Stretches {
		if f.Stretches[n].bursts() && f.buckets == nil {
			f.buckets = rating.NewBuckets(f.Billable)
		}
	}
}

// closeBuckets takes the percentiles and forgets the buckets, which are large.
func (f *Facts) closeBuckets() {
	for n := range f.Stretches {
		s := &f.Stretches[n]
		if !s.bursts() {
			continue
		}
		active := []rating.Interval{s.Interval}
		if !s.Quote.Plan.BilledWhileSuspended() {
			active = rating.Active(s.Interval, s.Suspended)
		}
		s.Percentile = f.buckets.Percentile(active)
	}
	if f.buckets != nil {
		f.buckets.Discard()
		f.buckets = nil
	}
}

func (f *Facts) addReading(e events.Recorded) error {
	r, err := readingOf(e, f.Connection.ID)
	if err != nil {
		return err
	}
	f.UsageVersion = e.Version
	f.usage.add(e, r.Interval)
	for n := range f.Stretches {
		f.Stretches[n].usage.add(e, r.Interval)
	}
	return f.count(r)
}

// count adds the bytes of a reading.
func (f *Facts) count(r rating.Reading) error {
	if !f.Usage.Add(r, f.Billable) {
		return nil
	}
	for n := range f.Stretches {
		s := &f.Stretches[n]
		s.Usage.Add(r, s.Interval)
	}
	if f.buckets != nil {
		return f.buckets.Add(r)
	}
	return nil
}

// addDays adds days of the usage store: whole days where nothing cuts them, whole buckets else, and of a bucket that the
// start or the end of a stretch cuts the readings themselves. What comes out is what [Facts.addReading] makes of all of them.
func (f *Facts) addDays(ctx context.Context, log Log, days []usage.Day) error {
	f.usage.addDays(days)
	for n := range f.Stretches {
		if s := &f.Stretches[n]; s.usage.window.Equal(f.usage.window) { // nearly always
			s.usage = f.usage
		} else {
			s.usage.addDays(days)
		}
	}
	for _, d := range days {
		if err := d.Check(); err != nil {
			return err
		}
		if s := f.holding(d.Interval()); s != nil { // nearly all are
			s.Usage.AddBytes(d.In, d.Out)
			f.Usage.AddBytes(d.In, d.Out)
			if f.buckets == nil {
				continue
			}
			if err := d.AddTo(f.buckets.Span(f.buckets.Number(d.Start), usage.PerDay)); err != nil {
				return err
			}
			continue
		}
		cut := f.cutBuckets(d.Interval())
		err := d.Buckets(func(n int, b usage.Bucket) error {
			from := d.Start.Add(time.Duration(n) * rating.BucketLength)
			whole := rating.Interval{From: from, To: from.Add(rating.BucketLength)}
			s := f.holding(whole)
			if s != nil {
				s.Usage.AddBytes(b.In, b.Out)
			} else if slices.ContainsFunc(cut, whole.Equal) || f.Billable.Intersect(whole).Empty() {
				return nil
			}
			f.Usage.AddBytes(b.In, b.Out)
			if f.buckets == nil {
				return nil
			}
			return f.buckets.AddBucket(f.buckets.Number(from), b.In, b.Out)
		})
		if err != nil {
			return err
		}
		if len(cut) == 0 {
			continue
		}
		err = scan(ctx, log, reading.Stream(f.Connection.ID), d.First, d.Last, f.Position, func(e events.Recorded) error {
			r, err := readingOf(e, f.Connection.ID)
			if err != nil {
				return err
			}
			return f.addParts(r, cut)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// holding returns the stretch that an interval is in as a whole, if there is one.
func (f *Facts) holding(i rating.Interval) *Stretch {
	n := slices.IndexFunc(f.Stretches, func(s Stretch) bool { return s.Intersect(i).Equal(i) })
	if n < 0 {
		return nil
	}
	return &f.Stretches[n]
}

// cutBuckets returns the buckets of a day that a stretch begins or ends in the middle of.
func (f *Facts) cutBuckets(day rating.Interval) (cut []rating.Interval) {
	for _, s := range f.Stretches {
		for _, at := range []time.Time{s.From, s.To} {
			from := at.Truncate(rating.BucketLength)
			b := rating.Interval{From: from, To: from.Add(rating.BucketLength)}
			if from.Before(at) && b.Intersect(day).Equal(b) && !slices.ContainsFunc(cut, b.Equal) {
				cut = append(cut, b)
			}
		}
	}
	return cut
}

// addParts adds the parts of a reading that fall in buckets.
func (f *Facts) addParts(r rating.Reading, buckets []rating.Interval) error {
	for _, b := range buckets {
		billable := b.Intersect(f.Billable)
		if !rating.Touches(r, billable) {
			continue
		}
		f.Usage.Add(r, billable)
		for n := range f.Stretches {
			s := &f.Stretches[n]
			s.Usage.Add(r, s.Intersect(b))
		}
		if f.buckets == nil {
			continue
		}
		if err := f.buckets.AddBucket(f.buckets.Number(b.From), rating.Share(r.BytesIn, r.Interval, billable), rating.Share(r.BytesOut, r.Interval, billable)); err != nil {
			return err
		}
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

// item is a rated item and the stretch that it is of; nil for the fee, which is of all.
type item struct {
	rating.Item
	stretch *Stretch
}

// rateItems rates the facts, as far as their quotes are known: the passthrough items, a stretch after the other, each in its
// plan's order; and the fee, given what the customer's connections before have used of its free tier.
func (f *Facts) rateItems(used pricing.FreeUse) (items []item, fee item, err error) {
	var parts []rating.Rated
	for n := range f.Stretches {
		s := &f.Stretches[n]
		if !s.priced() {
			continue
		}
		in := rating.Input{
			ConnectionID: f.Connection.ID, Plan: s.Quote.Plan, BandwidthMbps: s.Quote.BandwidthMbps, Period: f.Period, Billable: s.Interval,
			Month: f.Billable, Suspended: s.Suspended, Activation: s.Activation, Usage: s.Usage, Percentile: s.Percentile,
		}
		rated, err := rating.Rate(in)
		if err != nil {
			return nil, fee, err
		}
		credit, due, err := f.credit(s, in, rated)
		if err != nil {
			return nil, fee, err
		}
		if due {
			rated = append(rated, credit)
		}
		for _, i := range rated {
			items = append(items, item{i, s})
		}
		parts = append(parts, rating.Rated{Input: in, Fees: s.Quote.Fees(), Items: rated})
	}
	if len(parts) == 0 {
		return nil, fee, domain.Errorf(domain.Internal, "billing.Facts.rateItems", "nothing says what %s costs", f.Connection.ID)
	}
	fee.Item, err = rating.Fee(parts, used)
	return items, fee, err
}

// metered reports whether a plan's charge, or the part of it, is rated by readings.
func metered(c pricing.Charge, part string) bool {
	switch c.Kind {
	case pricing.KindUsage, pricing.KindMinimum:
		return true
	case pricing.KindPercentile:
		return part == pricing.PartOverage
	}
	return false
}

// evidenceOf returns what an item is computed from. A charge by time knows no readings; the fee follows from every other
// item, so it has all.
func (f *Facts) evidenceOf(i item) []invoice.Evidence {
	evidence := f.connection.evidence()
	if s := i.stretch; s != nil {
		evidence = append(evidence, s.quote.evidence()...)
		if i.ChargeID == pricing.CreditChargeID {
			evidence = append(evidence, f.settled.evidence()...)
		}
		for _, c := range s.Quote.Plan.Charges {
			if c.ID == i.ChargeID && metered(c, i.Part) {
				evidence = append(evidence, s.usage.evidence()...)
			}
		}
		return append(evidence, f.rateEvidence()...)
	}
	usage := false
	for n := range f.Stretches {
		s := &f.Stretches[n]
		evidence = append(evidence, s.quote.evidence()...)
		usage = usage || slices.ContainsFunc(s.Quote.Plan.Charges, func(c pricing.Charge) bool { return metered(c, pricing.PartOverage) })
	}
	if usage {
		evidence = append(evidence, f.usage.evidence()...)
	}
	evidence = append(append(evidence, f.settled.evidence()...), f.allowance.evidence()...)
	return append(evidence, f.rateEvidence()...)
}

func (f *Facts) rateEvidence() []invoice.Evidence {
	if f.rate == nil {
		return nil
	}
	return f.rate.said.evidence()
}
