package availability

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Credit is what a month gives back under one quote.
type Credit struct {
	QuoteID string         `json:"quote_id"`
	Below   domain.Decimal `json:"below"`   // the bound that the availability was below, in percent
	Percent domain.Decimal `json:"percent"` // of what the provider charges by time under the quote
}

// Settled says what a connection's month came to, and what is given back for it. It is said once, before the month is billed,
// and only of a month in which the connection was down and a promise with credits was in force: what becomes known later
// changes nothing.
type Settled struct {
	ConnectionID string    `json:"connection_id"`
	PeriodStart  time.Time `json:"period_start"` // of a calendar month, UTC
	PeriodEnd    time.Time `json:"period_end"`
	InScope      int64     `json:"seconds_in_scope"`
	Down         int64     `json:"seconds_down"`
	Credits      []Credit  `json:"credits"`      // by quote, in the order that they were in force; none: the promises were kept
	LogPosition  int64     `json:"log_position"` // it follows from the log up to here
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (Settled) EventType() string { return "availability.settled" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Settled{}} }

// Stream names the stream of a connection's settled months.
func Stream(connectionID string) string { return "availability-" + connectionID }

// Months are the settled months of one connection, in the order that they were settled.
type Months struct{ Settled []Settled }

// EvolveMonths returns the state after the event.
func EvolveMonths(m Months, e domain.Event) Months {
	if e, ok := e.(Settled); ok {
		m.Settled = append(slices.Clip(m.Settled), e)
	}
	return m
}

// Of returns what was settled of a period; ok is false if nothing was.
func (m Months) Of(start, end time.Time) (s Settled, ok bool) {
	n := slices.IndexFunc(m.Settled, func(s Settled) bool { return s.PeriodStart.Equal(start) && s.PeriodEnd.Equal(end) })
	if n < 0 {
		return Settled{}, false
	}
	return m.Settled[n], true
}

// Settle says what a month came to. Once it is settled, nothing more happens.
type Settle struct{ Settled Settled }

// DecideMonths returns the events that a command makes of a state. It returns an Invalid error for wrong fields.
func DecideMonths(m Months, c Settle) ([]domain.Event, error) {
	s := c.Settled
	if _, done := m.Of(s.PeriodStart, s.PeriodEnd); done {
		return nil, nil
	}
	s.At, s.Credits = domain.Instant(s.At), append([]Credit{}, s.Credits...)
	var p domain.Problems
	p.ID("/connection_id", domain.PrefixConnection, s.ConnectionID)
	month := Month{s.PeriodStart, s.PeriodEnd}
	p.Check(month.Calendar(), "/period_start", "must be that of a calendar month, with its end")
	p.Check(s.Down >= 0 && s.Down <= s.InScope, "/seconds_down", "must be between 0 and the seconds in scope")
	p.Check(s.LogPosition >= 1, "/log_position", "must be at least 1")
	p.Time("/at", s.At)
	p.Check(!s.At.Before(s.PeriodEnd), "/at", "must not be before the month ends")
	hundred := domain.DecimalFromInt(100)
	for n, credit := range s.Credits {
		at := domain.Pointer("/credits", n)
		p.ID(at+"/quote_id", domain.PrefixQuote, credit.QuoteID)
		p.Check(credit.Percent.Sign() > 0 && credit.Percent.Cmp(hundred) <= 0, at+"/percent", "must be above 0 and at most 100")
		p.Check(!slices.ContainsFunc(s.Credits[:n], func(o Credit) bool { return o.QuoteID == credit.QuoteID }), at+"/quote_id", "is that of an earlier credit")
	}
	if err := p.Err("availability.DecideMonths"); err != nil {
		return nil, err
	}
	return []domain.Event{s}, nil
}
