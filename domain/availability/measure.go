package availability

import (
	"cmp"
	"slices"
	"time"

	"crossbill/domain"
)

// Month is a calendar month in UTC, [From, To).
type Month struct{ From, To time.Time }

func (m Month) String() string { return m.From.Format("2006-01") }

// Calendar reports whether it is a whole calendar month.
func (m Month) Calendar() bool {
	from := m.From.UTC()
	return from.Equal(time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)) && m.To.Equal(from.AddDate(0, 1, 0))
}

// Span is a time of one kind, [From, To), whole seconds.
type Span struct {
	From   time.Time
	To     time.Time
	Causes []string // all that held in it, in alphabetical order
}

// Report is a connection's month, in whole seconds. Instants are cut to the second that they fall in, as billing cuts them.
type Report struct {
	Month      Month
	From, To   time.Time // what was measured: the part of the month in production, up to when it was asked for; equal if there is none
	InScope    int64     // seconds, of which
	Down       int64     // so many the connection was down
	Excluded   int64     // seconds of [From, To) that are out of scope
	Outages    []Span    // that make Down
	Exclusions []Span    // that make Excluded
}

// PercentDigits is how many digits after the point an availability is shown with: a ten-thousandth of a percent of a month is
// under three seconds.
const PercentDigits = 4

// Percent returns the availability in percent, cut and never rounded up; ok is false when no time is in scope.
func (r Report) Percent() (percent domain.Decimal, ok bool) { return PercentOf(r.InScope, r.Down) }

// PercentOf is [Report.Percent] of seconds.
func PercentOf(inScope, down int64) (percent domain.Decimal, ok bool) {
	if inScope <= 0 {
		return percent, false
	}
	const scale = 1_000_000 // 100 percent with four digits
	cut := (inScope - down) / inScope * scale
	rest := (inScope - down) % inScope
	cut += rest * scale / inScope // a month has under 2²² seconds, so nothing overflows
	return domain.DecimalFromInt(cut).Quo(domain.DecimalFromInt(scale / 100)), true
}

// Measure returns what a month comes to up to a time, from the state and the interruptions that ended: those that meet the
// month, at least.
func (s State) Measure(month Month, ended []Interruption, until time.Time) Report {
	r := Report{Month: month, From: month.From, To: month.From}
	c := s.Connection
	if c.BillingFrom == nil {
		return r
	}
	from, to := later(month.From, second(*c.BillingFrom)), earlier(month.To, second(until))
	if c.BillingTo != nil {
		to = earlier(to, second(*c.BillingTo))
	}
	if !from.Before(to) {
		return r
	}
	r.From, r.To = from, to
	all := slices.Clone(ended)
	for condition, since := range s.Holds {
		all = append(all, Interruption{condition, since, to})
	}
	r.sweep(all)
	return r
}

// edge is where a cause begins or ceases to hold.
type edge struct {
	at    int64 // seconds since 1970
	cause string
	by    int // 1 or −1
}

// sweep cuts the measured time where anything changes and adds the parts up.
func (r *Report) sweep(all []Interruption) {
	var edges []edge
	for _, i := range all {
		from, to := later(r.From, second(i.From)), earlier(r.To, second(i.To))
		if from.Before(to) {
			edges = append(edges, edge{from.Unix(), causeOf(i.Condition), 1}, edge{to.Unix(), causeOf(i.Condition), -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	holds := make(map[string]int, 4)
	at := r.From.Unix()
	part := func(to int64) {
		if at == to {
			return
		}
		switch {
		case holds[CauseSuspension] > 0:
			r.Excluded += to - at
			r.Exclusions = extended(r.Exclusions, at, to, CauseSuspension)
		case holds[CauseChange] > 0:
			r.Excluded += to - at
			r.Exclusions = extended(r.Exclusions, at, to, CauseChange)
		case holds[CauseProviderSession] > 0 || holds[CauseEdgeNode] > 0 || holds[CauseMove] > 0:
			r.InScope, r.Down = r.InScope+to-at, r.Down+to-at
			for _, cause := range []string{CauseEdgeNode, CauseMove, CauseProviderSession} {
				if holds[cause] > 0 {
					r.Outages = extended(r.Outages, at, to, cause)
				}
			}
		case holds[CauseCustomerSession] > 0:
			r.Excluded += to - at
			r.Exclusions = extended(r.Exclusions, at, to, CauseCustomerSession)
		default:
			r.InScope += to - at
		}
		at = to
	}
	for _, e := range edges {
		part(e.at)
		holds[e.cause] += e.by
	}
	part(r.To.Unix())
}

// extended adds [from, to) to spans in order, as a part of the last one where that ends, or goes on, there.
func extended(spans []Span, from, to int64, cause string) []Span {
	if n := len(spans) - 1; n >= 0 && spans[n].To.Unix() >= from {
		last := &spans[n]
		last.To = time.Unix(to, 0).UTC()
		if at, found := slices.BinarySearch(last.Causes, cause); !found {
			last.Causes = slices.Insert(last.Causes, at, cause)
		}
		return spans
	}
	return append(spans, Span{time.Unix(from, 0).UTC(), time.Unix(to, 0).UTC(), []string{cause}})
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
