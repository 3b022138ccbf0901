package pricing

import (
	"slices"

	"crossbill/domain"
)

// Limits on a plan.
const (
	MaxCharges     = 50
	MaxTiers       = 50
	MaxAmounts     = 50  // as many as a listing can have bandwidths
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

// CreditChargeID is the charge id of what a provider gives back of a month that its SLA was not kept in. No plan's charge can
// have it.
const CreditChargeID = "sla_credit"

// Validate returns an Invalid error with everything that is wrong with the plan, by JSON pointer into it.
func (p Plan) Validate() error {
	var problems domain.Problems
	p.Check(&problems, "")
	return problems.Err("pricing.Plan.Validate")
}

// Check records everything that is wrong with the plan that is found at the JSON pointer at.
func (p Plan) Check(problems *domain.Problems, at string) {
	problems.Check(p.Currency.Valid(), at+"/currency", "%.10q is not a currency that Crossbill bills in", string(p.Currency))
	if p.WhileSuspended != "" {
		problems.OneOf(at+"/while_suspended", p.WhileSuspended, SuspendedBilled, SuspendedNotBilled)
	}
	problems.Check(len(p.Charges) >= 1 && len(p.Charges) <= MaxCharges, at+"/charges", "must hold 1 to %d charges", MaxCharges)
	if len(p.Charges) > MaxCharges {
		return
	}
	for i, c := range p.Charges {
		here := domain.Pointer(at+"/charges", i)
		c.check(problems, here)
		problems.Check(!slices.ContainsFunc(p.Charges[:i], func(o Charge) bool { return o.ID == c.ID }), here+"/id",
			"%.40q is the id of an earlier charge", c.ID)
		if c.Kind == KindMinimum {
			problems.Check(!slices.ContainsFunc(p.Charges[:i], func(o Charge) bool { return o.Kind == KindMinimum }), here+"/kind",
				"is the second minimum: a plan has one at most")
			problems.Check(p.Has(KindUsage), here+"/kind", "needs a usage charge in the plan: what is always charged is a recurring charge")
		}
	}
}

// CheckBandwidths records charges with amounts by bandwidth that have none for one of the bandwidths.
func (p Plan) CheckBandwidths(problems *domain.Problems, at string, bandwidths []int) {
	if len(p.Charges) > MaxCharges {
		return
	}
	for i, c := range p.Charges {
		for _, mbps := range bandwidths {
			has := c.Amounts == nil || slices.ContainsFunc(c.Amounts, func(a Amount) bool { return a.BandwidthMbps == mbps })
			problems.Check(has, domain.Pointer(at+"/charges", i)+"/amounts", "has no amount for %d Mbps", mbps)
		}
	}
}

// fields are those of a charge that not every kind has.
func (c Charge) fields() map[string]bool {
	return map[string]bool{
		"amount": c.Amount.Given(), "amounts": c.Amounts != nil, "metric": c.Metric != "", "unit": c.Unit != "", "model": c.Model != "",
		"unit_price": c.UnitPrice.Given(), "tiers": c.Tiers != nil, "included": c.Included.Given(),
		"package_size": c.PackageSize.Given(), "package_price": c.PackagePrice.Given(),
		"commit_mbps": c.CommitMbps != 0, "commit_price": c.CommitPrice.Given(), "overage_price": c.OveragePrice.Given(),
	}
}

// kindFields are the fields that charges of a kind can have, and modelFields those that one of its models needs.
var (
	kindFields = map[string][]string{
		KindOneTime:    {"amount", "amounts"},
		KindRecurring:  {"amount", "amounts"},
		KindUsage:      {"metric", "unit", "model", "unit_price", "tiers", "included", "package_size", "package_price"},
		KindPercentile: {"commit_mbps", "commit_price", "overage_price"},
		KindMinimum:    {"amount"},
	}
	modelFields = map[string][]string{
		ModelPerUnit: {"unit_price"}, ModelGraduated: {"tiers"}, ModelVolume: {"tiers"}, ModelPackage: {"package_size", "package_price"},
	}
	ofModels = []string{"unit_price", "tiers", "package_size", "package_price"}
)

func (c Charge) check(p *domain.Problems, at string) {
	p.Check(validChargeID(c.ID), at+"/id", "must be 1 to %d of a-z, 0-9, _ and -, the first a letter or a digit", MaxChargeID)
	p.Check(c.ID != FeeChargeID && c.ID != CreditChargeID, at+"/id", "%.40s is the platform's own", c.ID)
	p.Text(at+"/description", c.Description, MaxDescription)
	p.OneOf(at+"/kind", c.Kind, KindOneTime, KindRecurring, KindUsage, KindPercentile, KindMinimum)
	own, known := kindFields[c.Kind]
	if !known {
		return
	}
	for field, given := range c.fields() {
		p.Check(!given || slices.Contains(own, field), at+"/"+field, "is not a field of charges of the kind %s", c.Kind)
	}
	switch c.Kind {
	case KindOneTime, KindRecurring:
		c.checkAmount(p, at)
	case KindMinimum:
		checkNumber(p, at+"/amount", c.Amount, MaxAmount)
	case KindUsage:
		c.checkUsage(p, at)
	case KindPercentile:
		c.checkPercentile(p, at)
	}
}

// checkAmount holds a charge to one amount for all bandwidths, or one for each.
func (c Charge) checkAmount(p *domain.Problems, at string) {
	if c.Amounts == nil {
		checkNumber(p, at+"/amount", c.Amount, MaxAmount)
		return
	}
	p.Check(!c.Amount.Given(), at+"/amount", "must be left out: the charge has amounts by bandwidth")
	p.Check(len(c.Amounts) >= 1 && len(c.Amounts) <= MaxAmounts, at+"/amounts", "must hold 1 to %d amounts", MaxAmounts)
	if len(c.Amounts) > MaxAmounts {
		return
	}
	for i, a := range c.Amounts {
		here := domain.Pointer(at+"/amounts", i)
		p.Mbps(here+"/bandwidth_mbps", a.BandwidthMbps)
		p.Check(!slices.ContainsFunc(c.Amounts[:i], func(o Amount) bool { return o.BandwidthMbps == a.BandwidthMbps }), here+"/bandwidth_mbps",
			"%d Mbps has an amount already", a.BandwidthMbps)
		checkNumber(p, here+"/amount", a.Amount, MaxAmount)
	}
}

func (c Charge) checkUsage(p *domain.Problems, at string) {
	p.OneOf(at+"/metric", c.Metric, MetricBytesIn, MetricBytesOut, MetricBytesTotal)
	p.OneOf(at+"/unit", c.Unit, UnitGB, UnitGiB)
	p.OneOf(at+"/model", c.Model, ModelPerUnit, ModelGraduated, ModelVolume, ModelPackage)
	if c.Included.Given() {
		checkNumber(p, at+"/included", c.Included, MaxUnits)
	}
	own, known := modelFields[c.Model]
	if !known {
		return
	}
	given := c.fields()
	for _, field := range ofModels {
		p.Check(!given[field] || slices.Contains(own, field), at+"/"+field, "is not a field of the model %s", c.Model)
	}
	switch c.Model {
	case ModelPerUnit:
		checkNumber(p, at+"/unit_price", c.UnitPrice, MaxUnitPrice)
	case ModelGraduated, ModelVolume:
		checkTiers(p, at+"/tiers", c.Tiers)
	case ModelPackage:
		checkNumber(p, at+"/package_size", c.PackageSize, MaxUnits)
		p.Check(!c.PackageSize.Given() || c.PackageSize.Cmp(domain.DecimalFromInt(1)) >= 0, at+"/package_size", "must be at least 1")
		checkNumber(p, at+"/package_price", c.PackagePrice, MaxUnitPrice)
	}
}

func (c Charge) checkPercentile(p *domain.Problems, at string) {
	p.Check(c.CommitMbps >= 0 && c.CommitMbps <= domain.MaxMbps, at+"/commit_mbps", "must be 0 to %d", domain.MaxMbps)
	if c.CommitMbps == 0 {
		p.Check(!c.CommitPrice.Given(), at+"/commit_price", "must be left out: the charge commits to no bandwidth")
	} else {
		checkNumber(p, at+"/commit_price", c.CommitPrice, MaxUnitPrice)
	}
	checkNumber(p, at+"/overage_price", c.OveragePrice, MaxUnitPrice)
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
		p.Check(i == 0 || t.UpTo.Cmp(below) > 0, here+"/up_to", "overlaps the tier before, which goes up to %s: must be above it", below)
		p.Check(i > 0 || t.UpTo.Sign() > 0, here+"/up_to", "must be above 0")
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
