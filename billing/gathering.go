package billing

import (
	"context"
	"time"

	"crossbill/billing/usage"
	"crossbill/domain/availability"
	"crossbill/domain/billingaccount"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/feeallowance"
	"crossbill/domain/quote"
	"crossbill/events"
)

// gathering reads what invoices of one period are computed from, as it was at one position of the log.
type gathering struct {
	log    Log
	period Period
	upTo   events.Position
	book   *book
}

// gatherer reads a connection's facts for one of its closed periods.
type gatherer func(ctx context.Context, connectionID string, period Period) (Facts, error)

// gatherRaw is a gatherer that reads the readings themselves.
func (g *gathering) gatherRaw(ctx context.Context, connectionID string, period Period) (Facts, error) {
	return Gather(ctx, g.log, connectionID, period, g.upTo)
}

// complete adds to a connection's facts the terms of its account and what adjusts its closed periods.
func (g *gathering) complete(ctx context.Context, f *Facts, periods billingrun.PeriodState, closedPeriod gatherer) error {
	terms, err := g.book.customer(ctx, f.Connection.CustomerID, f.Connection.BillingAccountID)
	if err != nil {
		return err
	}
	f.Terms = terms
	for _, closed := range periods.Closed {
		if ofPeriod(closed).Equal(g.period) {
			continue
		}
		again, err := closedPeriod(ctx, f.Connection.ID, ofPeriod(closed))
		if err != nil {
			return err
		}
		if again.Billable.Empty() || !isLate(periods, closed, again.usage.newest()) {
			continue
		}
		again.Terms = terms
		if err := g.convert(ctx, &again); err != nil {
			return err
		}
		a, ok, err := adjust(ctx, g.log, again, periods, closed)
		if err != nil {
			return err
		}
		if ok {
			f.Adjustments = append(f.Adjustments, a)
		}
	}
	if !f.charges() || f.Billable.Empty() {
		return nil
	}
	return g.convert(ctx, f)
}

// convert finds the rate between the plan's currency and the invoice's.
func (g *gathering) convert(ctx context.Context, f *Facts) (err error) {
	if to := f.Terms.invoiced(f.Currency()); to != f.Currency() {
		f.rate, err = g.book.rate(ctx, f.Currency(), to)
	}
	return err
}

// preloaded is a log of which some streams, whole up to a position, were read together.
type preloaded struct {
	Log
	upTo    events.Position
	streams map[string][]events.Recorded
}

// manyStreams is what reads them; [events.Log] does.
type manyStreams interface {
	ReadStreams(ctx context.Context, streams []string, upTo events.Position) (map[string][]events.Recorded, error)
}

// preload reads streams together, if the log can; others are read when they are asked for.
func preload(log Log, upTo events.Position) *preloaded {
	return &preloaded{Log: log, upTo: upTo, streams: make(map[string][]events.Recorded)}
}

func (p *preloaded) add(ctx context.Context, streams []string) error {
	many, ok := p.Log.(manyStreams)
	if !ok {
		return nil
	}
	var missing []string
	for _, s := range streams {
		if _, known := p.streams[s]; !known {
			missing = append(missing, s)
			p.streams[s] = nil
		}
	}
	for len(missing) > 0 {
		n := min(len(missing), events.MaxReadStreams)
		found, err := many.ReadStreams(ctx, missing[:n], p.upTo)
		if err != nil {
			return err
		}
		for s, all := range found {
			p.streams[s] = all
		}
		missing = missing[n:]
	}
	return nil
}

// ReadStream answers from what was read. Nobody asks it for what is past its position.
func (p *preloaded) ReadStream(ctx context.Context, stream string, after int64, limit int) ([]events.Recorded, error) {
	all, ok := p.streams[stream]
	if !ok {
		return p.Log.ReadStream(ctx, stream, after, limit)
	}
	after = min(max(after, 0), int64(len(all)))
	return all[after:min(after+int64(limit), int64(len(all)))], nil
}

// stock is what a batch of connections is billed from: their streams and their days.
type stock struct {
	gathering
	*usage.Stock
}

// openStock reads what connections of a few customers are billed from, in a handful of looks at the database.
func openStock(ctx context.Context, log Log, meters Meters, period Period, connections []usage.Billable) (*stock, error) {
	var ids, streams []string
	customers := make(map[string]bool)
	for _, c := range connections {
		ids = append(ids, c.ConnectionID)
		streams = append(streams, connection.Stream(c.ConnectionID), billingrun.PeriodStream(c.ConnectionID))
		if !customers[c.CustomerID] {
			customers[c.CustomerID] = true
			streams = append(streams, billingaccount.DefaultStream(c.CustomerID), feeallowance.Stream(c.CustomerID))
		}
	}
	found, err := meters.Open(ctx, ids, usage.DayOf(period.From), dayAfter(period.To))
	if err != nil {
		return nil, err
	}
	read := preload(log, found.Position)
	s := &stock{Stock: found, gathering: gathering{log: read, period: period, upTo: found.Position, book: newBook(read, found.Position, period)}}
	if err := s.preload(ctx, read, streams); err != nil {
		s.Close(ctx)
		return nil, err
	}
	return s, nil
}

// preload reads the streams of connections and their customers, and those that they name.
func (s *stock) preload(ctx context.Context, read *preloaded, streams []string) error {
	if err := read.add(ctx, streams); err != nil {
		return err
	}
	var more []string
	for _, e := range read.streams {
		for _, r := range e {
			switch v := r.Event.(type) {
			case connection.Requested:
				more = append(more, quote.Stream(v.QuoteID))
				if v.BillingAccountID != "" {
					more = append(more, billingaccount.Stream(v.BillingAccountID))
				}
			case billingaccount.DefaultSet:
				more = append(more, billingaccount.Stream(v.BillingAccountID))
			}
		}
	}
	if err := read.add(ctx, more); err != nil {
		return err
	}
	return read.add(ctx, read.promised())
}

// promised are the streams of what the availability of connections came to whose first quote promises credits. Others, of
// which a later quote does, are read when they are asked for.
func (p *preloaded) promised() (streams []string) {
	for _, e := range p.streams {
		if len(e) == 0 {
			continue
		}
		requested, ok := e[0].Event.(connection.Requested)
		if !ok {
			continue
		}
		if quoted := p.streams[quote.Stream(requested.QuoteID)]; len(quoted) > 0 {
			if q, ok := quoted[0].Event.(quote.Issued); ok && q.SLA != nil && len(q.SLA.Credits) > 0 {
				streams = append(streams, availability.Stream(requested.ConnectionID))
			}
		}
	}
	return streams
}

// dayAfter returns the first midnight that is not before a time.
func dayAfter(t time.Time) time.Time {
	day := usage.DayOf(t)
	if day.Before(t) {
		day = day.Add(24 * time.Hour)
	}
	return day
}

// facts gathers a connection. It returns NotFound for one that is not in the log.
func (s *stock) facts(ctx context.Context, id string) (f Facts, periods billingrun.PeriodState, version int64, err error) {
	if periods, version, err = load(ctx, s.log, billingrun.PeriodStream(id), s.upTo, billingrun.EvolvePeriod); err != nil {
		return f, periods, version, err
	}
	f, err = gather(ctx, s.log, id, s.period, s.upTo, func(f *Facts) error { return s.count(ctx, f) })
	f.UsageVersion = s.Versions[id]
	return f, periods, version, err
}

// closedPeriod is a gatherer: it reads the days of periods that late readings may be in, and passes over the others.
func (s *stock) closedPeriod(ctx context.Context, id string, period Period) (Facts, error) {
	late, ok := s.Late[id]
	if !ok || !period.From.Before(late[1].Add(24*time.Hour)) || !late[0].Before(period.To) {
		return Facts{}, nil
	}
	f, err := gather(ctx, s.log, id, period, s.upTo, func(f *Facts) error { return s.count(ctx, f) })
	f.UsageVersion = s.Versions[id]
	return f, err
}

// count adds the days of the facts' period.
func (s *stock) count(ctx context.Context, f *Facts) error {
	days, err := s.Between(ctx, f.Connection.ID, usage.DayOf(f.Period.From), dayAfter(f.Period.To))
	if err != nil {
		return err
	}
	return f.addDays(ctx, s.log, days)
}
