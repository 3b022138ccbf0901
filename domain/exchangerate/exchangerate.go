// Package exchangerate is what a currency is worth in another, as dated events: invoices name the one they used.
//
// Rates have a direction, and no rate is made of others: the inverse of a rounded rate is another number than the rate of
// the other direction. Start reading at [State], then [Decide].
package exchangerate

import (
	"time"

	"crossbill/domain"
)

// Set says what one unit of a currency is worth in another from a time on.
type Set struct {
	Base          domain.Currency `json:"base"`
	Quote         domain.Currency `json:"quote"`
	Version       int             `json:"version"` // counts from 1
	Rate          domain.Decimal  `json:"rate"`    // units of Quote for one of Base
	Source        string          `json:"source"`  // who says so
	EffectiveFrom time.Time       `json:"effective_from"`
	At            time.Time       `json:"at"`
}

// EventType is the name in the log.
func (Set) EventType() string { return "exchange_rate.set" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Set{}} }

// Stream names the stream of a pair.
func Stream(base, quote domain.Currency) string {
	return "exchange_rate-" + string(base) + "-" + string(quote)
}

// Version is a rate and since when it is in force.
type Version struct {
	Version       int            `json:"version"`
	Rate          domain.Decimal `json:"rate"`
	Source        string         `json:"source"`
	EffectiveFrom time.Time      `json:"effective_from"`
	At            time.Time      `json:"at"`
}

// Convert returns what an exact amount of Base is in Quote, exactly: who needs money of it rounds once.
func (v Version) Convert(amount domain.Decimal) domain.Decimal { return amount.Mul(v.Rate) }

// State is every rate of a pair. The zero State has none.
type State struct {
	Base     domain.Currency `json:"base"`
	Quote    domain.Currency `json:"quote"`
	Versions []Version       `json:"versions"` // version n is element n-1
}

// InForce returns the version that is in force at a time: of those that are effective by then the one recorded last.
func (s State) InForce(at time.Time) (Version, bool) {
	for i := len(s.Versions) - 1; i >= 0; i-- {
		if !s.Versions[i].EffectiveFrom.After(at) {
			return s.Versions[i], true
		}
	}
	return Version{}, false
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Set); ok {
		s.Base, s.Quote = e.Base, e.Quote
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Versions = append(s.Versions[:len(s.Versions):len(s.Versions)], Version{e.Version, e.Rate, e.Source, e.EffectiveFrom, e.At})
	}
	return s
}

// Limits on an exchange rate.
const (
	MaxRateDigits = 12                  // after the point
	MaxSource     = 120                 // characters
	MaxVersions   = 20_000              // of one pair: daily rates of half a century
	MaxBackdating = 31 * 24 * time.Hour // of a rate that follows another
)

// maxRate keeps products within a few dozen digits; no currency is worth that much of another.
var maxRate = domain.MustDecimal("1000000000")

// Command is what can be asked of a pair.
type Command interface{ command() }

// SetRate records a rate. The first may be effective since any time. A later one must be effective after the one that is in
// force, and at most [MaxBackdating] before At: what was in force before that is history. One that is not in force yet is
// replaced by another that is effective at the same time or earlier.
type SetRate struct {
	Base          domain.Currency
	Quote         domain.Currency
	Rate          domain.Decimal
	Source        string
	EffectiveFrom time.Time
	At            time.Time
}

func (SetRate) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, among them an
// effective time that would change what is history. The rate that was recorded last, again, does nothing.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "exchangerate.Decide"
	set, ok := c.(SetRate)
	if !ok {
		return nil, domain.UnknownCommand(op, c)
	}
	var p domain.Problems
	p.Check(set.Base.Valid(), "/base", "%.10q is not a currency that is billed in", string(set.Base))
	p.Check(set.Quote.Valid(), "/quote", "%.10q is not a currency that is billed in", string(set.Quote))
	p.Check(set.Base != set.Quote, "/quote", "must be another currency than base")
	p.Check(set.Rate.Sign() > 0 && set.Rate.Cmp(maxRate) <= 0 && set.Rate.Fits(MaxRateDigits), "/rate",
		"must be above 0, at most %s, with at most %d digits after the point", maxRate, MaxRateDigits)
	p.Text("/source", set.Source, MaxSource)
	p.Time("/at", set.At)
	p.Time("/effective_from", set.EffectiveFrom)
	at, from := domain.Instant(set.At), domain.Instant(set.EffectiveFrom)
	if n := len(s.Versions); n > 0 {
		last := s.Versions[n-1]
		if len(p) == 0 && last.EffectiveFrom.Equal(from) && last.Rate.Cmp(set.Rate) == 0 && last.Source == set.Source {
			return nil, nil
		}
		p.Check(!from.Before(at.Add(-MaxBackdating)), "/effective_from", "must be at most %d days ago", int(MaxBackdating/(24*time.Hour)))
		if now, ok := s.InForce(at); ok {
			p.Check(from.After(now.EffectiveFrom), "/effective_from", "must be after %s, since when version %d is in force",
				now.EffectiveFrom.Format(time.RFC3339), now.Version)
		}
		p.Check(n < MaxVersions, "/effective_from", "there are %d versions already", MaxVersions)
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Set{
		Base: set.Base, Quote: set.Quote, Version: len(s.Versions) + 1, Rate: set.Rate, Source: set.Source, EffectiveFrom: from, At: at,
	}}, nil
}
