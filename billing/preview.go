package billing

import (
	"context"
	"slices"
	"time"

	"crossbill/billing/rating"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/events"
)

// MaxPreview is how many connections one preview can be of: each costs the 31 rows of its month, which are in memory at once.
const MaxPreview = 500

// PreviewRequest asks what a period comes to while it is still open.
type PreviewRequest struct {
	Period        Period    // one that a run could close later
	ConnectionIDs []string  // of one customer or of many; at most [MaxPreview]
	At            time.Time // now
	// Forecast goes on to the period's end: what is in force stays so (a termination that is scheduled takes effect), and
	// the usage of the rest has the mean rate of what is past.
	Forecast bool
}

// Preview is what invoices would say.
type Preview struct {
	Period      Period
	At          time.Time
	Position    events.Position    // it was computed from the log up to here
	Connections []connection.State // those that are billable in the period
	Lines       []invoice.Line     // of all connections, as their invoices would have them, without numbers
}

// PreviewOf computes what the invoices over [Period.From, At) would say, or, as a forecast, those over the whole period: of
// the days in the usage store, by [Compute], as a run does, as if every connection that goes on ended at At, or used until the
// period's end what its mean rate comes to. Nothing is appended. For a period that is over it is what a run would say.
//
// What was counted in the 5 minutes that At is in counts as a whole: At is now, and nothing after it is counted yet.
//
// It returns an Invalid error for a period that has not begun or for too many connections, and NotFound for a connection
// that does not exist.
func PreviewOf(ctx context.Context, log Log, meters Meters, r PreviewRequest) (Preview, error) {
	const op = "billing.PreviewOf"
	at := r.At.UTC().Truncate(time.Second)
	if len(r.ConnectionIDs) > MaxPreview {
		return Preview{}, domain.Errorf(domain.Invalid, op, "a preview of %d connections; the limit is %d", len(r.ConnectionIDs), MaxPreview).
			WithHint("ask for fewer at a time")
	}
	if r.Period.Empty() || r.Period.To.Sub(r.Period.From) > MaxPeriod || at.Before(r.Period.From) {
		return Preview{}, domain.Errorf(domain.Invalid, op, "the period %s can't be looked at on %s", r.Period, at.Format(time.RFC3339)).
			WithHint("ask for the present month or one that is over")
	}
	head, err := log.Head(ctx)
	if err != nil {
		return Preview{}, err
	}
	if err := meters.CatchUp(ctx, head.Position); err != nil {
		return Preview{}, err
	}
	known, err := meters.Known(ctx, r.ConnectionIDs)
	if err != nil {
		return Preview{}, err
	}
	s, err := openStock(ctx, log, meters, r.Period, known)
	if err != nil {
		return Preview{}, err
	}
	defer s.Close(ctx)
	all := Preview{Period: r.Period, At: at, Position: s.upTo}
	var facts []Facts
	for _, id := range r.ConnectionIDs {
		if !slices.ContainsFunc(known, func(b usage.Billable) bool { return b.ConnectionID == id }) {
			return Preview{}, domain.Missing(op, "connection")
		}
		f, err := s.asIf(ctx, id, at, r.Forecast && at.Before(r.Period.To))
		if err != nil {
			return Preview{}, err
		}
		if !f.Billable.Empty() {
			facts, all.Connections = append(facts, f), append(all.Connections, f.Connection)
		}
	}
	invoices, err := drafts(facts)
	if err != nil {
		return Preview{}, err
	}
	for _, i := range invoices {
		all.Lines = append(all.Lines, i.Lines...)
	}
	return all, nil
}

// asIf gathers a connection as it would be if it went on as a preview looks at it; with nothing billable if it does not. The
// month is looked at as a whole: what invoices of it used of a free tier is there to be used again.
func (s *stock) asIf(ctx context.Context, id string, at time.Time, forecast bool) (Facts, error) {
	read := preload(s.log, s.upTo)
	stream := connection.Stream(id)
	var state connection.State
	var all []events.Recorded
	err := scan(ctx, s.log, stream, 1, maxVersion, s.upTo, func(e events.Recorded) error {
		all, state = append(all, e), connection.Evolve(state, e.Event)
		return nil
	})
	if err != nil || state.BillingFrom == nil {
		return Facts{}, err
	}
	if stop := stopOf(state, s.period, at, forecast); !stop.IsZero() {
		if stop.Before(*state.BillingFrom) { // it starts later than this looks
			return Facts{}, nil
		}
		last := all[len(all)-1]
		ends := connection.DecommissionRequested{ConnectionID: id, Reason: "preview", EffectiveAt: stop, At: stop}
		all = append(all, events.Recorded{Position: last.Position, Stream: stream, Version: last.Version + 1, Type: ends.EventType(), Event: ends})
	}
	read.streams[stream] = all
	read.streams[feeallowance.Stream(state.CustomerID)] = nil
	f, err := gather(ctx, read, id, s.period, s.upTo, func(f *Facts) error {
		days, err := s.Between(ctx, id, usage.DayOf(s.period.From), dayAfter(s.period.To))
		if err != nil {
			return err
		}
		if err := f.addOpenDays(ctx, read, days, at); err != nil || !forecast {
			return err
		}
		if rest, ok := f.rest(at); ok {
			return f.count(rest)
		}
		return nil
	})
	f.UsageVersion = s.Versions[id]
	return f, err
}

// stopOf returns when a connection that goes on ends as a preview looks at it; zero if it doesn't, or has ended by itself.
func stopOf(c connection.State, period Period, at time.Time, forecast bool) (stop time.Time) {
	switch planned := c.Termination; {
	case !forecast && at.Before(period.To):
		stop = at
	case planned != nil && planned.EffectiveAt.Before(period.To):
		stop = later(planned.EffectiveAt, at)
	}
	if c.BillingTo != nil && !c.BillingTo.After(stop) {
		return time.Time{}
	}
	return stop
}

// addOpenDays is [Facts.addDays] for a connection of which no more than what is counted can be: where what is billable ends
// now, the bucket of now counts as a whole, and no reading is read for it.
func (f *Facts) addOpenDays(ctx context.Context, log Log, days []usage.Day, now time.Time) error {
	if end := f.Billable.To; end.Equal(now) {
		whole := rating.Reach(f.Billable).To
		f.Billable.To, f.last().To = whole, whole
		defer func() { f.Billable.To, f.last().To = end, end }()
	}
	return f.addDays(ctx, log, days)
}

// rest is the reading of the time from now until the connection stops or the period ends: the mean rate of the past times
// that time, rounded to the byte. A suspension is time in which nothing is used: one of the past does not make the mean lower,
// and one that lasts is taken to last. There is none where nothing is known or nothing is to come.
func (f *Facts) rest(now time.Time) (r rating.Reading, ok bool) {
	past, coming := Period{From: f.Billable.From, To: now}, Period{From: now, To: f.Billable.To}
	seconds := past.Seconds()
	for _, s := range f.Connection.Suspensions {
		if s.To == nil {
			return r, false
		}
		if closed := (Period{From: s.From, To: *s.To}).Intersect(past); !closed.Empty() {
			seconds -= closed.Seconds()
		}
	}
	if past.Empty() || coming.Empty() || seconds <= 0 {
		return r, false
	}
	ratio := domain.DecimalFromInt(coming.Seconds()).Quo(domain.DecimalFromInt(seconds))
	bytesIn, fitsIn := wholeBytes(domain.DecimalFromBig(f.Usage.In()).Mul(ratio))
	bytesOut, fitsOut := wholeBytes(domain.DecimalFromBig(f.Usage.Out()).Mul(ratio))
	return rating.Reading{Interval: coming, BytesIn: bytesIn, BytesOut: bytesOut}, fitsIn && fitsOut
}

// wholeBytes rounds to whole bytes; ok is false for a number that a reading can't hold.
func wholeBytes(exact domain.Decimal) (bytes int64, ok bool) {
	n := exact.Round(0)
	return n.Int64(), n.IsInt64()
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// MonthOf returns the calendar month (UTC) that an instant is in: a billing period.
func MonthOf(t time.Time) Period {
	t = t.UTC()
	from := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Period{From: from, To: from.AddDate(0, 1, 0)}
}

// ParseMonth reads "2026-03". It returns an Invalid error for anything else.
func ParseMonth(s string) (Period, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 1 {
		return Period{}, domain.Errorf(domain.Invalid, "billing.ParseMonth", "%.20q is no month", s).WithHint(`write it as "2026-03"`)
	}
	return MonthOf(t), nil
}
