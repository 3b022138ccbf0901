package rating

import (
	"fmt"
	"strings"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// maxTerms is how many terms of a sum a step spells out.
const maxTerms = 12

// Fee rates the platform's fee on a connection's items of a period: basis points of their sum, rounded once. The items
// are rounded already, so that the fee can be checked from the lines that the customer sees. It is an item of its own
// and no part of any other.
func Fee(in Input, schedule pricing.FeeSchedule, items []Item) (Item, error) {
	const op = "rating.Fee"
	if schedule.BasisPoints < 0 {
		return Item{}, domain.Errorf(domain.Internal, op, "a fee of %d basis points", schedule.BasisPoints)
	}
	passthrough := domain.Money{Currency: in.Plan.Currency}
	terms := make([]string, len(items))
	for i, item := range items {
		var err error
		if passthrough, err = passthrough.Add(item.Amount); err != nil {
			return Item{}, err
		}
		terms[i] = item.Amount.Amount()
	}
	fee := Item{
		ID: in.itemID(pricing.FeeChargeID), ChargeID: pricing.FeeChargeID,
		Description: "Platform fee, " + schedule.Percent() + " of the provider's price",
		Quantity:    passthrough.Decimal(), Unit: string(in.Plan.Currency),
	}
	if len(items) > maxTerms {
		fee.Steps = append(fee.Steps, fmt.Sprintf("the sum of %d lines = %s passthrough", len(items), passthrough.Amount()))
	} else if len(items) > 1 {
		fee.Steps = append(fee.Steps, strings.Join(terms, " + ")+" = "+passthrough.Amount()+" passthrough")
	}
	exact, steps := schedule.Rate(passthrough)
	fee.Steps = append(fee.Steps, steps...)
	return fee.round(exact, in.Plan.Currency)
}
