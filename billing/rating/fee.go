package rating

import (
	"fmt"
	"strings"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// maxTerms is how many terms of a sum a step spells out.
const maxTerms = 12

// Rated is one plan's part of a connection's period, with the fee schedule that its quote froze.
type Rated struct {
	Input Input
	Fees  pricing.FeeSchedule
	Items []Item
}

// Fee rates the platform's fee on a connection's items of a period: each part's share of the sum of its items, the sum
// of the shares held to the schedule's bounds and rounded once. The items are rounded already, so that the fee can be
// checked from the lines that the customer sees. It is an item of its own and no part of any other.
//
// Where the month is split, each part has the percentage that its quote froze, and the last one's bounds and free tier
// hold for the month. A free connection bears no fee, not even the least one; neither does one whose passthrough is free: while any
// of the free amount is left, that is so of a passthrough of nothing as well.
func Fee(parts []Rated, used pricing.FreeUse) (Item, error) {
	const op = "rating.Fee"
	last := parts[len(parts)-1]
	currency := last.Input.Plan.Currency
	schedule := last.Fees
	fee := Item{
		ID: parts[0].Input.itemID(pricing.FeeChargeID, ""), ChargeID: pricing.FeeChargeID, Unit: string(currency),
		Description: "Platform fee, " + schedule.Percent() + " of the provider's price",
	}
	zero := domain.Money{Currency: currency}
	bases := make([]domain.Money, len(parts)) // what each percentage is of
	passthrough := zero
	var terms []string
	for i, p := range parts {
		if p.Fees.BasisPoints < 0 {
			return Item{}, domain.Errorf(domain.Internal, op, "a fee of %d basis points", p.Fees.BasisPoints)
		}
		if p.Fees.BasisPoints != schedule.BasisPoints {
			fee.Description = "Platform fee, percentages of the provider's price"
		}
		bases[i] = zero
		for _, item := range p.Items {
			var err error
			if bases[i], err = bases[i].Add(item.Amount); err != nil {
				return Item{}, err
			}
			terms = append(terms, item.Amount.Amount())
		}
		var err error
		if passthrough, err = passthrough.Add(bases[i]); err != nil {
			return Item{}, err
		}
	}
	if len(terms) > maxTerms {
		fee.Steps = append(fee.Steps, fmt.Sprintf("the sum of %d lines = %s passthrough", len(terms), passthrough.Amount()))
	} else if len(terms) > 1 {
		fee.Steps = append(fee.Steps, strings.Join(terms, " + ")+" = "+passthrough.Amount()+" passthrough")
	}
	if used.Connections < schedule.FreeConnections {
		fee.Quantity = domain.DecimalFromInt(0)
		fee.Steps = append(fee.Steps, fmt.Sprintf("connection %d of the month: the first %d bear no fee", used.Connections+1, schedule.FreeConnections))
		return fee.round(fee.Quantity, currency)
	}
	free, left := fee.takeFree(schedule, used, bases, passthrough)
	base := domain.Money{Minor: passthrough.Minor - free, Currency: currency}
	fee.Quantity = base.Decimal()
	if left > 0 && base.Minor == 0 {
		return fee.round(fee.Quantity, currency)
	}
	exact := shares(&fee, parts, bases, base)
	exact, fee.Steps = schedule.Bound(exact, currency, fee.Steps)
	return fee.round(exact, currency)
}

// takeFree takes what is free off the bases, from the first on, and returns in minor units how much it was, and how much of
// the month's free amount there was to take.
func (fee *Item) takeFree(schedule pricing.FeeSchedule, used pricing.FreeUse, bases []domain.Money, passthrough domain.Money) (free, left int64) {
	amount := schedule.FreeAmount(passthrough.Currency)
	if amount.Minor == 0 {
		return 0, 0
	}
	left = max(0, amount.Minor-used.Passthrough.Minor)
	free = min(left, max(0, passthrough.Minor))
	rest := free
	for i := range bases {
		part := min(rest, max(0, bases[i].Minor))
		bases[i].Minor -= part
		rest -= part
	}
	words := func(minor int64) string { return domain.Money{Minor: minor, Currency: passthrough.Currency}.Amount() }
	fee.Steps = append(fee.Steps, fmt.Sprintf("%s free a month, %s of it used before: %s − %s = %s", amount.Amount(), words(min(amount.Minor, used.Passthrough.Minor)),
		passthrough.Amount(), words(free), words(passthrough.Minor-free)))
	return free, left
}

// shares sums the parts' shares: one product where they all have one percentage.
func shares(fee *Item, parts []Rated, bases []domain.Money, base domain.Money) domain.Decimal {
	one := true
	for _, p := range parts {
		one = one && p.Fees.BasisPoints == parts[0].Fees.BasisPoints
	}
	if one {
		exact, steps := parts[0].Fees.Share(base)
		fee.Steps = append(fee.Steps, steps...)
		return exact
	}
	var sum domain.Decimal
	var terms []string
	for i, p := range parts {
		exact, steps := p.Fees.Share(bases[i])
		sum, terms, fee.Steps = sum.Add(exact), append(terms, exact.String()), append(fee.Steps, steps...)
	}
	if len(terms) <= maxTerms {
		fee.Steps = append(fee.Steps, strings.Join(terms, " + ")+" = "+sum.String())
	}
	return sum
}
