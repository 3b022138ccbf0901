package quote

import (
	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Priced is what a plan and a fee schedule come to, apart.
type Priced struct {
	Lines       []Line // the provider's, then the fee
	Passthrough domain.Money
	Fee         domain.Money
	Total       domain.Money
	OneTime     *OneTime // nil if nothing is charged once
}

// Price computes what a full month costs under what is expected, and what comes on top of it once: each charge exactly and
// rounded once, then the fee on the sums of what was rounded. What is free of the fee is not taken off, for it depends on
// the customer's other connections.
//
// The fee on what is charged once is what it adds to the fee of a full month, so that a first month that is full costs
// both together to the minor unit, whatever the fee's bounds.
//
// It returns an Invalid error for a bandwidth that the plan has no amount for, and for more money than can be billed.
func Price(plan pricing.Plan, fees pricing.FeeSchedule, expected pricing.Expected) (Priced, error) {
	estimate, err := plan.Estimate(expected)
	if err != nil {
		return Priced{}, err
	}
	zero := domain.Money{Currency: plan.Currency}
	q := Priced{Passthrough: zero}
	once, charged := zero, false
	for _, l := range estimate {
		q.Lines = append(q.Lines, Line{ChargeID: l.ChargeID, Kind: LinePassthrough, Description: l.Description, Amount: l.Amount, Part: l.Part, OneTime: l.OneTime})
		sum := &q.Passthrough
		if l.OneTime {
			sum, charged = &once, true
		}
		if *sum, err = sum.Add(l.Amount); err != nil {
			return Priced{}, err
		}
	}
	if q.Fee, err = roundedFee(fees, q.Passthrough); err != nil {
		return Priced{}, err
	}
	if q.Total, err = q.Passthrough.Add(q.Fee); err != nil {
		return Priced{}, err
	}
	words := "Platform fee, " + fees.Percent() + " of the provider's price"
	q.Lines = append(q.Lines, Line{ChargeID: pricing.FeeChargeID, Kind: LineFee, Description: words, Amount: q.Fee})
	if !charged {
		return q, nil
	}
	first, err := q.Passthrough.Add(once)
	if err != nil {
		return Priced{}, err
	}
	fee, err := roundedFee(fees, first)
	if err != nil {
		return Priced{}, err
	}
	if fee, err = fee.Add(q.Fee.Neg()); err != nil {
		return Priced{}, err
	}
	total, err := once.Add(fee)
	if err != nil {
		return Priced{}, err
	}
	q.OneTime = &OneTime{once, fee, total}
	q.Lines = append(q.Lines, Line{ChargeID: pricing.FeeChargeID, Kind: LineFee, Description: words, Amount: fee, OneTime: true})
	return q, nil
}

func roundedFee(fees pricing.FeeSchedule, passthrough domain.Money) (domain.Money, error) {
	exact, _ := fees.Rate(passthrough)
	return domain.RoundMoney(exact, passthrough.Currency)
}

// checkEstimatedMbps records a bandwidth that no 95th percentile can be.
func checkEstimatedMbps(p *domain.Problems, mbps domain.Decimal) {
	p.Check(mbps.Sign() >= 0, "/estimated_mbps", "must not be negative")
	p.Check(mbps.Cmp(domain.DecimalFromInt(domain.MaxMbps)) <= 0, "/estimated_mbps", "must be at most %d", domain.MaxMbps)
	p.Check(mbps.Fits(estimateDigits), "/estimated_mbps", "must have at most %d digits after the point", estimateDigits)
}
