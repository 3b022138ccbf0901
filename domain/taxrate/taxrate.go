// Package taxrate is what tax a country takes on a category of supplies, as dated events: invoices name the one they used.
//
// It computes no tax and decides on no invoice's category. Start reading at [State], then [Decide].
package taxrate

import (
	"strconv"
	"time"

	"crossbill/domain"
)

// Categories of VAT, the codes of EN 16931 (BT-118, BT-151), which are of UNTDID 5305.
const (
	CategoryStandard       = "S"  // standard or reduced rate
	CategoryZero           = "Z"  // zero rated goods
	CategoryExempt         = "E"  // exempt from tax
	CategoryReverseCharge  = "AE" // VAT reverse charge
	CategoryIntraCommunity = "K"  // exempt for supplies between EEA countries
	CategoryExport         = "G"  // free export item, no tax is charged
	CategoryOutside        = "O"  // outside the scope of tax
)

// Categories are all there are, in the order of the list above.
var Categories = []string{
	CategoryStandard, CategoryZero, CategoryExempt, CategoryReverseCharge, CategoryIntraCommunity, CategoryExport, CategoryOutside,
}

// Set says what rate is in force from a time on.
type Set struct {
	Country       domain.Country `json:"country"`
	Category      string         `json:"category"`
	Version       int            `json:"version"` // counts from 1
	Percent       domain.Decimal `json:"percent"` // of the taxable amount
	Reason        string         `json:"reason,omitempty"`
	EffectiveFrom time.Time      `json:"effective_from"`
	At            time.Time      `json:"at"`
}

// EventType is the name in the log.
func (Set) EventType() string { return "tax_rate.set" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Set{}} }

// Stream names the stream of a country's category.
func Stream(country domain.Country, category string) string {
	return "tax_rate-" + string(country) + "-" + category
}

// Version is a rate and since when it is in force.
type Version struct {
	Version       int            `json:"version"`
	Percent       domain.Decimal `json:"percent"`
	Reason        string         `json:"reason,omitempty"` // BT-120, why no tax is charged
	EffectiveFrom time.Time      `json:"effective_from"`
	At            time.Time      `json:"at"`
}

// State is every rate of a country's category. The zero State has none.
type State struct {
	Country  domain.Country `json:"country"`
	Category string         `json:"category"`
	Versions []Version      `json:"versions"` // version n is element n-1
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
		s.Country, s.Category = e.Country, e.Category
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Versions = append(s.Versions[:len(s.Versions):len(s.Versions)], Version{e.Version, e.Percent, e.Reason, e.EffectiveFrom, e.At})
	}
	return s
}

// Limits on a tax rate.
const (
	MaxPercent       = 100
	MaxPercentDigits = 4   // after the point
	MaxReason        = 200 // characters
	MaxVersions      = 1000
	MaxBackdating    = 31 * 24 * time.Hour // of a rate that follows another
	reasonCategories = "E, AE, K, G and O"
)

// Command is what can be asked of a country's category.
type Command interface{ command() }

// SetRate records a rate. The first may be effective since any time. A later one must be effective after the one that is in
// force, and at most [MaxBackdating] before At: what was in force before that is history. One that is not in force yet is
// replaced by another that is effective at the same time or earlier.
type SetRate struct {
	Country       domain.Country
	Category      string
	Percent       domain.Decimal // above 0 for S; 0 for every other category
	Reason        string         // for E, AE, K, G and O, and for no other
	EffectiveFrom time.Time
	At            time.Time
}

func (SetRate) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, among them an
// effective time that would change what is history. The rate that was recorded last, again, does nothing.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "taxrate.Decide"
	set, ok := c.(SetRate)
	if !ok {
		return nil, domain.UnknownCommand(op, c)
	}
	var p domain.Problems
	p.Country("/country", set.Country)
	p.OneOf("/category", set.Category, Categories...)
	set.checkPercent(&p)
	set.checkReason(&p)
	p.Time("/at", set.At)
	p.Time("/effective_from", set.EffectiveFrom)
	at, from := domain.Instant(set.At), domain.Instant(set.EffectiveFrom)
	e := Set{
		Country: set.Country, Category: set.Category, Version: len(s.Versions) + 1, Percent: set.Percent, Reason: set.Reason,
		EffectiveFrom: from, At: at,
	}
	if n := len(s.Versions); n > 0 {
		last := s.Versions[n-1]
		if len(p) == 0 && last.EffectiveFrom.Equal(from) && last.Percent.Cmp(set.Percent) == 0 && last.Reason == set.Reason {
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
	return []domain.Event{e}, nil
}

// checkPercent holds the rate to its category: EN 16931 rules BR-S-05 and BR-Z-05, BR-E-05, BR-AE-05, BR-IC-05, BR-G-05. An
// invoice shows no rate for O (BR-O-05), which is kept as 0.
func (c SetRate) checkPercent(p *domain.Problems) {
	most := domain.MustDecimal(strconv.Itoa(MaxPercent))
	switch {
	case !c.Percent.Given() || c.Percent.Sign() < 0 || c.Percent.Cmp(most) > 0 || !c.Percent.Fits(MaxPercentDigits):
		p.Add("/percent", "must be 0 to %d with at most %d digits after the point", MaxPercent, MaxPercentDigits)
	case c.Category == CategoryStandard:
		p.Check(c.Percent.Sign() > 0, "/percent", "must be above 0 in the category S")
	default:
		p.Check(c.Percent.Sign() == 0, "/percent", "must be 0 in every category but S")
	}
}

// checkReason: an invoice says why it has no tax (BR-E-10, BR-AE-10, BR-IC-10, BR-G-10, BR-O-10), and only then (BR-S-10,
// BR-Z-10).
func (c SetRate) checkReason(p *domain.Problems) {
	if c.Category == CategoryStandard || c.Category == CategoryZero {
		p.Check(c.Reason == "", "/reason", "is for the categories %s", reasonCategories)
		return
	}
	p.Text("/reason", c.Reason, MaxReason)
}
