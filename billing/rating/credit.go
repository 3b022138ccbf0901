package rating

import (
	"fmt"
	"strings"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Credit rates what a provider gives back of items that it rated: a percentage of what is charged by time, which are recurring
// charges and commitments, as they were rounded. It is an item of its own, below zero, rounded once. why are the steps that
// lead to the percentage. ok is false where nothing was charged by time.
func Credit(in Input, items []Item, percent domain.Decimal, why ...string) (credit Item, ok bool, err error) {
	base := domain.Money{Currency: in.Plan.Currency}
	var terms []string
	for _, i := range items {
		if !in.byTime(i) {
			continue
		}
		if base, err = base.Add(i.Amount); err != nil {
			return Item{}, false, err
		}
		terms = append(terms, i.Amount.Amount())
	}
	if base.Minor <= 0 {
		return Item{}, false, nil
	}
	credit = in.item(pricing.Charge{ID: pricing.CreditChargeID, Kind: pricing.KindOneTime}, "")
	credit.Description = "Credit for availability, " + percent.String() + " % of what is charged by time"
	credit.Quantity = domain.DecimalFromInt(1)
	credit.Steps = append(credit.Steps, why...)
	if len(terms) > maxTerms {
		credit.Steps = append(credit.Steps, fmt.Sprintf("the sum of %d lines = %s charged by time", len(terms), base.Amount()))
	} else if len(terms) > 1 {
		credit.Steps = append(credit.Steps, strings.Join(terms, " + ")+" = "+base.Amount()+" charged by time")
	}
	exact := domain.Decimal{}.Sub(base.Decimal().Mul(percent).Quo(domain.DecimalFromInt(100)))
	credit.Steps = append(credit.Steps, fmt.Sprintf("−%s × %s %% = %s", base.Amount(), percent, exact))
	credit, err = credit.round(exact, in.Plan.Currency)
	return credit, err == nil, err
}

// byTime reports whether an item is charged for time and not for use, or once.
func (in Input) byTime(i Item) bool {
	for _, c := range in.Plan.Charges {
		if c.ID == i.ChargeID {
			return c.Kind == pricing.KindRecurring || c.Kind == pricing.KindPercentile && i.Part == pricing.PartCommit
		}
	}
	return false
}
