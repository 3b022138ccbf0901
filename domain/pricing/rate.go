package pricing

import (
	"math/big"
	"slices"
	"strconv"
	"strings"

	"crossbill/domain"
)

// Bytes of a unit.
const (
	bytesPerGB  = 1_000_000_000
	bytesPerGiB = 1 << 30
)

// Quantity returns a number of bytes in the charge's unit, exactly. It panics on a charge that has no unit of bytes: such
// a charge is not metered, or the plan was never validated.
func (c Charge) Quantity(bytes *big.Int) domain.Decimal {
	switch c.Unit {
	case UnitGB:
		return domain.DecimalFromBig(bytes).Quo(domain.DecimalFromInt(bytesPerGB))
	case UnitGiB:
		return domain.DecimalFromBig(bytes).Quo(domain.DecimalFromInt(bytesPerGiB))
	}
	panic("pricing: the charge " + c.ID + " has no unit of bytes")
}

// QuantityUnit returns the unit that [Charge.Rate] takes a quantity in.
func (c Charge) QuantityUnit() string {
	switch c.Kind {
	case KindOneTime:
		return UnitOnce
	case KindRecurring, KindMinimum:
		return UnitMonth
	case KindPercentile:
		return UnitMbpsMonth
	}
	return c.Unit
}

// Rate returns the exact amount, in major units of the plan's currency, that a quantity costs, and the arithmetic that
// leads to it, a step a line, for people to follow.
//
// The quantity of a usage charge is in its unit. Of it the included allowance is free and comes first; tiers and blocks
// count from after the allowance: with 100 included and a first tier up to 1000, units 101 to 1100 are the first tier's.
// The quantity of a recurring charge and of a minimum is in months, 1 for a whole one; that of a one-time charge is 1.
//
// The charge must be of a validated plan, at a bandwidth ([Plan.For]), and not a percentile, which has two prices
// ([Charge.RatePart]); the quantity must not be negative. Anything else panics, as wrong money must stop a computation.
func (c Charge) Rate(quantity domain.Decimal) (amount domain.Decimal, steps []string) {
	if quantity.Sign() < 0 {
		panic("pricing: a negative quantity for the charge " + c.ID)
	}
	switch {
	case c.Amounts != nil:
		panic("pricing: the charge " + c.ID + " is rated at no bandwidth")
	case c.Kind == KindOneTime || c.Kind == KindRecurring || c.Kind == KindMinimum:
		return product(quantity, c.QuantityUnit(), c.Amount)
	case c.Kind == KindUsage:
		billable, steps := c.billable(quantity)
		amount, more := c.model(billable)
		return amount, append(steps, more...)
	}
	panic("pricing: the charge " + c.ID + " has a kind without a rule")
}

// RatePart is [Charge.Rate] for a part of a percentile charge; the quantity is in Mbps-months.
func (c Charge) RatePart(part string, quantity domain.Decimal) (amount domain.Decimal, steps []string) {
	if c.Kind != KindPercentile || quantity.Sign() < 0 {
		panic("pricing: the charge " + c.ID + " has no part " + part + " of this quantity")
	}
	switch part {
	case PartCommit:
		return product(quantity, UnitMbpsMonth, c.CommitPrice)
	case PartOverage:
		return product(quantity, UnitMbpsMonth, c.OveragePrice)
	}
	panic("pricing: a percentile charge has no part " + part)
}

// model prices a quantity of which the allowance is taken off.
func (c Charge) model(quantity domain.Decimal) (domain.Decimal, []string) {
	switch c.Model {
	case ModelPerUnit:
		return product(quantity, c.Unit, c.UnitPrice)
	case ModelGraduated:
		return c.graduated(quantity)
	case ModelVolume:
		return c.volume(quantity)
	case ModelPackage:
		return c.packages(quantity)
	}
	panic("pricing: the charge " + c.ID + " has a model without a rule")
}

// billable takes the included allowance off a quantity.
func (c Charge) billable(quantity domain.Decimal) (rest domain.Decimal, steps []string) {
	if c.Included.Sign() == 0 {
		return quantity, nil
	}
	if rest = quantity.Sub(c.Included); rest.Sign() < 0 {
		rest = domain.Decimal{}
	}
	free := quantity.Sub(rest)
	return rest, []string{quantity.String() + " " + c.Unit + " − " + free.String() + " " + c.Unit + " included = " +
		rest.String() + " " + c.Unit}
}

// graduated prices each tier's part of a quantity at the tier's price.
func (c Charge) graduated(quantity domain.Decimal) (sum domain.Decimal, steps []string) {
	var below domain.Decimal // the top of the tier before
	var parts []string
	for i, t := range c.Tiers {
		part := quantity.Sub(below)
		if i > 0 && part.Sign() <= 0 { // the first tier shows even a quantity of nothing
			break
		}
		if t.UpTo != nil {
			if size := t.UpTo.Sub(below); part.Cmp(size) > 0 {
				part = size
			}
			below = *t.UpTo
		}
		amount, step := product(part, c.Unit, t.Price)
		sum, steps, parts = sum.Add(amount), append(steps, step...), append(parts, amount.String())
		if t.UpTo == nil {
			break
		}
	}
	if len(parts) > 1 {
		steps = append(steps, strings.Join(parts, " + ")+" = "+sum.String())
	}
	return sum, steps
}

// volume prices all of a quantity at the price of the tier that it reaches.
func (c Charge) volume(quantity domain.Decimal) (domain.Decimal, []string) {
	n := slices.IndexFunc(c.Tiers, func(t Tier) bool { return t.UpTo == nil || quantity.Cmp(*t.UpTo) <= 0 })
	words := quantity.String() + " " + c.Unit + " reach tier " + strconv.Itoa(n+1)
	if top := c.Tiers[n].UpTo; top != nil {
		words += ", up to " + top.String() + " " + c.Unit
	}
	amount, step := product(quantity, c.Unit, c.Tiers[n].Price)
	return amount, append([]string{words}, step...)
}

// packages prices each block of a quantity that is started.
func (c Charge) packages(quantity domain.Decimal) (domain.Decimal, []string) {
	blocks := quantity.Quo(c.PackageSize).Ceil()
	amount := blocks.Mul(c.PackagePrice)
	return amount, []string{
		quantity.String() + " " + c.Unit + " start " + blocks.String() + " blocks of " + c.PackageSize.String() + " " + c.Unit,
		blocks.String() + " blocks × " + c.PackagePrice.String() + " = " + amount.String(),
	}
}

func product(quantity domain.Decimal, unit string, price domain.Decimal) (domain.Decimal, []string) {
	amount := quantity.Mul(price)
	return amount, []string{quantity.String() + " " + unit + " × " + price.String() + " = " + amount.String()}
}

// Shared returns the usage charge with a share, above 0 and at most 1, of what it grants a month: its allowance and the
// tops of its tiers. Where a change of plan or bandwidth splits a month, each part has its share by time; or a customer
// who changes often would have many allowances, and one who changes once would climb the tiers twice.
func (c Charge) Shared(share domain.Decimal) Charge {
	if c.Included.Given() {
		c.Included = c.Included.Mul(share)
	}
	c.Tiers = slices.Clone(c.Tiers)
	for i, t := range c.Tiers {
		if t.UpTo != nil {
			top := t.UpTo.Mul(share)
			c.Tiers[i].UpTo = &top
		}
	}
	return c
}

// TrueUp returns the exact amount that is missing to a minimum over a number of months, given what the usage lines came
// to. These are rounded already: so they and the true-up sum to the minimum to the minor unit.
func (c Charge) TrueUp(months domain.Decimal, usage domain.Money) (amount domain.Decimal, steps []string) {
	least, steps := c.Rate(months)
	if amount = least.Sub(usage.Decimal()); amount.Sign() < 0 {
		return domain.DecimalFromInt(0), append(steps, "usage of "+usage.Amount()+" is not less")
	}
	return amount, append(steps, least.String()+" − "+usage.Amount()+" usage = "+amount.String())
}
