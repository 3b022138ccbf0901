package pricing

import (
	"slices"

	"crossbill/domain"
)

// Limits on a plan.
const (
	MaxCharges     = 50
	MaxTiers       = 50
	MaxChargeID    = 40  // characters
	MaxDescription = 200 // characters

	// MaxFraction is how many digits after the point a price, an allowance or a tier's top may have. With the nine that
	// bytes have in GB it makes at most 18, so that a usage line in GB always has an exact decimal form to show.
	MaxFraction = 9

	// MaxAmount, MaxUnitPrice and MaxUnits (major units; major units per unit; units) keep a line of the largest charge
	// at the largest quantity, 10^18 minor units of a currency with three digits, inside the 63 bits of domain.Money.
	MaxAmount    = 1_000_000_000
	MaxUnitPrice = 1_000_000
	MaxUnits     = 1_000_000_000
)

// FeeChargeID is the charge id of the platform's fee on quotes and invoices. No plan's charge can have it.
const FeeChargeID = "platform_fee"

// Validate returns an Invalid error with everything that is wrong with the plan, by JSON pointer into it.
func (p Plan) Validate() error {
	var problems domain.Problems
	p.Check(&problems, "")
	return problems.Err("pricing.Plan.Validate")
}

// Check records everything that is wrong with the plan that is found at the JSON pointer at.
func (p Plan) Check(problems *domain.Problems, at string) {
	problems.Check(p.Currency.Valid(), at+"/currency", "%.10q is not a currency that Crossbill bills in", string(p.Currency))
	problems.Check(len(p.Charges) >= 1 && len(p.Charges) <= MaxCharges, at+"/charges", "must hold 1 to %d charges", MaxCharges)
	if len(p.Charges) > MaxCharges {
		return
	}
	for i, c := range p.Charges {
		here := domain.Pointer(at+"/charges", i)
		c.check(problems, here)
		problems.Check(!slices.ContainsFunc(p.Charges[:i], func(o Charge) bool { return o.ID == c.ID }), here+"/id",
			"%.40q is the id of an earlier charge", c.ID)
	}
}

func (c Charge) check(p *domain.Problems, at string) {
	p.Check(validChargeID(c.ID), at+"/id", "must be 1 to %d of a-z, 0-9, _ and -, the first a letter or a digit", MaxChargeID)
	p.Check(c.ID != FeeChargeID, at+"/id", "%s is the platform's own", FeeChargeID)
	p.Text(at+"/description", c.Description, MaxDescription)
	p.OneOf(at+"/kind", c.Kind, KindRecurring, KindUsage)
	switch c.Kind {
	case KindRecurring:
		checkNumber(p, at+"/amount", c.Amount, MaxAmount)
		const foreign = "is not a field of recurring charges"
		p.Check(c.Metric == "", at+"/metric", foreign)
		p.Check(c.Unit == "", at+"/unit", foreign)
		p.Check(c.Model == "", at+"/model", foreign)
		p.Check(!c.UnitPrice.Given(), at+"/unit_price", foreign)
		p.Check(c.Tiers == nil, at+"/tiers", foreign)
		p.Check(!c.Included.Given(), at+"/included", foreign)
	case KindUsage:
		p.Check(!c.Amount.Given(), at+"/amount", "is not a field of usage charges")
		c.checkUsage(p, at)
	}
}

func (c Charge) checkUsage(p *domain.Problems, at string) {
	p.OneOf(at+"/metric", c.Metric, MetricBytesIn, MetricBytesOut, MetricBytesTotal)
	p.OneOf(at+"/unit", c.Unit, UnitGB, UnitGiB)
	p.OneOf(at+"/model", c.Model, ModelPerUnit, ModelGraduated)
	if c.Included.Given() {
		checkNumber(p, at+"/included", c.Included, MaxUnits)
	}
	switch c.Model {
	case ModelPerUnit:
		checkNumber(p, at+"/unit_price", c.UnitPrice, MaxUnitPrice)
		p.Check(c.Tiers == nil, at+"/tiers", "is not a field of the model per_unit")
	case ModelGraduated:
		p.Check(!c.UnitPrice.Given(), at+"/unit_price", "is not a field of the model graduated")
		checkTiers(p, at+"/tiers", c.Tiers)
	}
}

// checkTiers holds tiers to a partition of all quantities: tops that rise, and a last tier without one, or a quantity
// past the last top would have no price.
func checkTiers(p *domain.Problems, at string, tiers []Tier) {
	p.Check(len(tiers) >= 1 && len(tiers) <= MaxTiers, at, "must hold 1 to %d tiers", MaxTiers)
	if len(tiers) > MaxTiers {
		return
	}
	var below domain.Decimal // the top of the tier before
	for i, t := range tiers {
		here := domain.Pointer(at, i)
		checkNumber(p, here+"/price", t.Price, MaxUnitPrice)
		last := i == len(tiers)-1
		switch {
		case t.UpTo == nil:
			p.Check(last, here+"/up_to", "must be given: only the last tier has no top")
			continue
		case last:
			p.Add(here+"/up_to", "must be left out: the last tier has no top, or usage above it would have no price")
		}
		checkNumber(p, here+"/up_to", *t.UpTo, MaxUnits)
		p.Check(t.UpTo.Cmp(below) > 0, here+"/up_to", "must be above %s, the top of the tier before", below)
		below = *t.UpTo
	}
}

// checkNumber records a number that is missing, negative, above limit, or finer than [MaxFraction] digits.
func checkNumber(p *domain.Problems, at string, d domain.Decimal, limit int64) {
	if !d.Given() {
		p.Add(at, "must be given")
		return
	}
	p.Check(d.Sign() >= 0, at, "must not be negative")
	p.Check(d.Cmp(domain.DecimalFromInt(limit)) <= 0, at, "must be at most %d", limit)
	p.Check(d.Fits(MaxFraction), at, "must have at most %d digits after the point", MaxFraction)
}

func validChargeID(id string) bool {
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= MaxChargeID
}
