package billing

import (
	"context"
	"slices"
	"sync"
	"time"

	"crossbill/billing/rating"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/reading"
	"crossbill/events"
)

// MaxPreview is how many connections one preview can be of: each costs the reading of all its readings, up to the last.
const MaxPreview = 500

// previewWorkers is how many connections of one preview are read at a time.
const previewWorkers = 4

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

// PreviewOf computes what the invoices over [Period.From, At) would say, or, as a forecast, those over the whole period: by
// [Gather] and [Compute] as a run does, over a log in which every connection that goes on ends at At, or has used until the
// period's end what its mean rate comes to. Nothing is appended. For a period that is over it is what a run would say.
//
// It returns an Invalid error for a period that has not begun or for too many connections, and NotFound for a connection
// that does not exist.
func PreviewOf(ctx context.Context, log Log, r PreviewRequest) (Preview, error) {
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
	all := Preview{Period: r.Period, At: at, Position: head.Position}
	facts, err := gatherAll(ctx, log, r, at, head.Position)
	if err != nil {
		return Preview{}, err
	}
	for _, f := range facts {
		all.Connections = append(all.Connections, f.Connection)
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

// gatherAll gathers the connections that are billable, in the order they are asked for.
func gatherAll(ctx context.Context, log Log, r PreviewRequest, at time.Time, upTo events.Position) ([]Facts, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	found := make([]*Facts, len(r.ConnectionIDs))
	var workers sync.WaitGroup
	for w := range min(previewWorkers, len(r.ConnectionIDs)) {
		workers.Go(func() {
			for n := w; n < len(r.ConnectionIDs) && ctx.Err() == nil; n += previewWorkers {
				f, err := gatherAsIf(ctx, log, r, r.ConnectionIDs[n], at, upTo)
				if err != nil {
					cancel(err)
					return
				}
				found[n] = f
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var all []Facts
	for _, f := range found {
		if f != nil {
			all = append(all, *f)
		}
	}
	return all, nil
}

// gatherAsIf gathers one connection's facts; nil if it is not billable.
func gatherAsIf(ctx context.Context, log Log, r PreviewRequest, id string, at time.Time, upTo events.Position) (*Facts, error) {
	v := &asIf{Log: log, period: r.Period, at: at, upTo: upTo, forecast: r.Forecast && at.Before(r.Period.To)}
	if err := v.readConnection(ctx, id); err != nil {
		return nil, err
	}
	if v.state.ID == "" {
		return nil, domain.Missing("billing.PreviewOf", "connection")
	}
	if v.state.BillingFrom == nil || !v.state.BillingFrom.Before(v.end()) {
		return nil, nil
	}
	f, err := Gather(ctx, v, id, r.Period, upTo)
	if err != nil || f.Billable.Empty() {
		return nil, err
	}
	return &f, nil
}

// asIf is the log with one connection's future in it: an event more in the connection's stream and one more in that of its
// readings, each after all that there are; and without what invoices used of a free tier. Everything else passes through.
// It serves one Gather.
type asIf struct {
	Log
	period   Period
	at       time.Time // whole seconds
	upTo     events.Position
	forecast bool

	state      connection.State
	connection []events.Recorded // the connection's stream, with what is to come
	readings   usageSoFar
}

// usageSoFar is what passed of the stream of readings, each once.
type usageSoFar struct {
	version           int64 // of the last
	bytesIn, bytesOut domain.Decimal
}

// Append refuses: what is read here did not all happen.
func (v *asIf) Append(context.Context, events.Append) (events.Result, error) {
	return events.Result{}, domain.Errorf(domain.Internal, "billing.asIf", "a preview appends nothing")
}

// end is when the connection stops being billed in this view, or the period's end if it goes on.
func (v *asIf) end() time.Time {
	if v.state.BillingTo != nil && v.state.BillingTo.Before(v.period.To) {
		return *v.state.BillingTo
	}
	return v.period.To
}

// readConnection reads the connection's stream and adds how it goes on.
func (v *asIf) readConnection(ctx context.Context, id string) error {
	err := scan(ctx, v.Log, connection.Stream(id), 1, maxVersion, v.upTo, func(e events.Recorded) error {
		v.connection, v.state = append(v.connection, e), connection.Evolve(v.state, e.Event)
		return nil
	})
	if err != nil || len(v.connection) == 0 || v.state.BillingFrom == nil {
		return err
	}
	var stop time.Time
	switch planned := v.state.Termination; {
	case !v.forecast && v.at.Before(v.period.To):
		stop = v.at
	case planned != nil && planned.EffectiveAt.Before(v.period.To):
		stop = later(planned.EffectiveAt, v.at)
	}
	if stop.IsZero() || v.state.BillingTo != nil && !v.state.BillingTo.After(stop) || stop.Before(*v.state.BillingFrom) {
		if !stop.IsZero() && stop.Before(*v.state.BillingFrom) { // it starts later than this view looks
			v.state.BillingFrom = nil
		}
		return nil
	}
	last := v.connection[len(v.connection)-1]
	ends := connection.DecommissionRequested{ConnectionID: id, Reason: "preview", EffectiveAt: stop, At: stop}
	v.connection = append(v.connection, events.Recorded{
		Position: last.Position, Stream: last.Stream, Version: last.Version + 1, Type: ends.EventType(), Event: ends,
	})
	v.state = connection.Evolve(v.state, ends)
	return nil
}

// ReadStream reads the connection as it goes on, its readings with those to come, and anything else as it is.
func (v *asIf) ReadStream(ctx context.Context, stream string, after int64, limit int) ([]events.Recorded, error) {
	switch stream {
	case connection.Stream(v.state.ID):
		from := min(max(after, 0), int64(len(v.connection)))
		return slices.Clone(v.connection[from:min(from+int64(limit), int64(len(v.connection)))]), nil
	case reading.Stream(v.state.ID):
		return v.readReadings(ctx, stream, after, limit)
	case feeallowance.Stream(v.state.CustomerID):
		return nil, nil // the month is looked at as a whole: what invoices of it used of a free tier is there to be used again
	}
	return v.Log.ReadStream(ctx, stream, after, limit)
}

func (v *asIf) readReadings(ctx context.Context, stream string, after int64, limit int) ([]events.Recorded, error) {
	page, err := v.Log.ReadStream(ctx, stream, after, limit)
	if err != nil || !v.forecast {
		return page, err
	}
	if n := slices.IndexFunc(page, func(e events.Recorded) bool { return e.Position > v.upTo }); n >= 0 {
		page = page[:n]
	}
	past := Period{From: later(v.period.From, v.state.BillingFrom.Truncate(time.Second)), To: v.at}
	for _, e := range page {
		if e.Version <= v.readings.version {
			continue
		}
		r, err := readingOf(e, v.state.ID)
		if err != nil {
			return nil, err
		}
		v.readings.version = e.Version
		v.readings.bytesIn = v.readings.bytesIn.Add(domain.DecimalFromInt(rating.Share(r.BytesIn, r.Interval, past)))
		v.readings.bytesOut = v.readings.bytesOut.Add(domain.DecimalFromInt(rating.Share(r.BytesOut, r.Interval, past)))
	}
	if len(page) > 0 || after != v.readings.version {
		return page, nil
	}
	if e, ok := v.rest(stream, past); ok {
		return []events.Recorded{e}, nil
	}
	return nil, nil
}

// rest is the reading of the time from now until the connection stops or the period ends: the mean rate of the past times
// that time, rounded to the byte. A suspension is time in which nothing is used: one of the past does not make the mean lower,
// and one that lasts is taken to last. There is none where nothing is known or nothing is to come.
func (v *asIf) rest(stream string, past Period) (events.Recorded, bool) {
	coming := Period{From: v.at, To: v.end().UTC().Truncate(time.Second)}
	seconds := past.Seconds()
	for _, s := range v.state.Suspensions {
		if s.To == nil {
			return events.Recorded{}, false
		}
		if closed := (Period{From: s.From, To: *s.To}).Intersect(past); !closed.Empty() {
			seconds -= closed.Seconds()
		}
	}
	if past.Empty() || coming.Empty() || seconds <= 0 {
		return events.Recorded{}, false
	}
	ratio := domain.DecimalFromInt(coming.Seconds()).Quo(domain.DecimalFromInt(seconds))
	bytesIn, fitsIn := wholeBytes(v.readings.bytesIn.Mul(ratio))
	bytesOut, fitsOut := wholeBytes(v.readings.bytesOut.Mul(ratio))
	if !fitsIn || !fitsOut || bytesIn+bytesOut == 0 {
		return events.Recorded{}, false
	}
	r := reading.Recorded{
		EdgeNodeID: v.state.EdgeNodeID, ConnectionID: v.state.ID, Epoch: 1, Sequence: 1, From: coming.From, To: coming.To,
		BytesIn: bytesIn, BytesOut: bytesOut, Source: reading.SourceSoftware,
	}
	return events.Recorded{Position: v.upTo, Stream: stream, Version: v.readings.version + 1, Type: r.EventType(), Event: r}, true
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
