package pricing

import (
	"math/big"
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

// QuantityUnit returns the unit that [Charge.Rate] takes a quantity in: GB, GiB or month.
func (c Charge) QuantityUnit() string {
	if c.Kind == KindRecurring {
		return UnitMonth
	}
	return c.Unit
}

// Rate returns the exact amount, in major units of the plan's currency, that a quantity costs, and the arithmetic that
// leads to it, a step a line, for people to follow.
//
// The quantity of a usage charge is in its unit. Of it the included allowance is free and comes first; tiers count from
// after the allowance: with 100 included and a first tier up to 1000, units 101 to 1100 are the first tier's. The quantity
// of a recurring charge is in months, 1 for a whole one.
//
// The charge must be of a validated plan and the quantity not negative: anything else panics, as wrong money must stop a
// computation.
func (c Charge) Rate(quantity domain.Decimal) (amount domain.Decimal, steps []string) {
	if quantity.Sign() < 0 {
		panic("pricing: a negative quantity for the charge " + c.ID)
	}
	switch {
	case c.Kind == KindRecurring:
		return product(quantity, UnitMonth, c.Amount)
	case c.Kind == KindUsage && c.Model == ModelPerUnit:
		billable, steps := c.billable(quantity)
		amount, step := product(billable, c.Unit, c.UnitPrice)
		return amount, append(steps, step...)
	case c.Kind == KindUsage && c.Model == ModelGraduated:
		billable, steps := c.billable(quantity)
		amount, tierSteps := c.graduated(billable)
		return amount, append(steps, tierSteps...)
	}
	panic("pricing: the charge " + c.ID + " has a kind or a model without a rule")
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

func product(quantity domain.Decimal, unit string, price domain.Decimal) (domain.Decimal, []string) {
	amount := quantity.Mul(price)
	return amount, []string{quantity.String() + " " + unit + " × " + price.String() + " = " + amount.String()}
}

// Rate returns the exact fee, in major units, on a passthrough that is rounded already, and the arithmetic that leads to it.
func (f FeeSchedule) Rate(passthrough domain.Money) (amount domain.Decimal, steps []string) {
	share := domain.DecimalFromInt(int64(f.BasisPoints)).Quo(domain.DecimalFromInt(10_000))
	amount = passthrough.Decimal().Mul(share)
	return amount, []string{passthrough.Amount() + " × " + f.Percent() + " = " + amount.String()}
}

// Percent returns the fee's share as people read it: "3 %".
func (f FeeSchedule) Percent() string {
	return domain.DecimalFromInt(int64(f.BasisPoints)).Quo(domain.DecimalFromInt(100)).String() + " %"
}
