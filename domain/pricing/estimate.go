package pricing

import (
	"math/big"

	"crossbill/domain"
)

// Expected is what a connection is thought to be in a full month.
type Expected struct {
	BandwidthMbps int
	Bytes         *big.Int       // taken by every usage charge for its own metric
	Mbps          domain.Decimal // the 95th percentile, taken by every percentile charge
	Running       bool           // the connection is in production and only changed: nothing is charged once
}

// EstimateLine is what a charge, or a part of it, comes to under what is expected.
type EstimateLine struct {
	ChargeID    string
	Part        string // of a percentile charge; "" of all others
	Description string
	OneTime     bool
	Amount      domain.Money
}

// Estimate returns the lines of a full month, in the plan's order, each computed exactly and rounded once; and those that
// are charged once, when the connection is put into production. The plan must be valid. It returns an Invalid error for a
// bandwidth that the plan has no amount for, and for an amount past the range of money.
func (p Plan) Estimate(e Expected) ([]EstimateLine, error) {
	at, err := p.For(e.BandwidthMbps)
	if err != nil {
		return nil, err
	}
	month := domain.DecimalFromInt(1)
	usage := domain.Money{Currency: p.Currency}
	lines := make([]EstimateLine, 0, len(at.Charges))
	minimum := -1 // the line of the plan's minimum
	for _, c := range at.Charges {
		if c.Kind == KindOneTime && e.Running {
			continue
		}
		add := func(part, description string, exact domain.Decimal) error {
			amount, err := domain.RoundMoney(exact, p.Currency)
			if err == nil && c.Kind == KindUsage {
				usage, err = usage.Add(amount)
			}
			lines = append(lines, EstimateLine{c.ID, part, description, c.Kind == KindOneTime, amount})
			return err
		}
		switch c.Kind {
		case KindUsage:
			exact, _ := c.Rate(c.Quantity(e.Bytes))
			err = add("", c.Description, exact)
		case KindPercentile:
			for _, part := range c.Parts() {
				quantity := c.Committed()
				if part == PartOverage {
					quantity = c.Above(e.Mbps)
				}
				exact, _ := c.RatePart(part, quantity)
				if err = add(part, c.Describe(part), exact); err != nil {
					break
				}
			}
		case KindMinimum:
			minimum = len(lines)
			err = add("", c.Description, domain.Decimal{}) // known once every usage charge is
		default:
			exact, _ := c.Rate(month)
			err = add("", c.Description, exact)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, c := range at.Charges {
		if c.Kind == KindMinimum {
			exact, _ := c.TrueUp(month, usage)
			if lines[minimum].Amount, err = domain.RoundMoney(exact, p.Currency); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// Parts returns the parts of a percentile charge that are lines. One that commits to nothing has no line for it.
func (c Charge) Parts() []string {
	if c.CommitMbps == 0 {
		return []string{PartOverage}
	}
	return []string{PartCommit, PartOverage}
}

// Describe returns the description of a part's line.
func (c Charge) Describe(part string) string {
	if part == PartCommit {
		return c.Description + ", commitment"
	}
	return c.Description + ", above the commitment"
}

// Committed returns the bandwidth that a percentile charge commits to, in Mbps.
func (c Charge) Committed() domain.Decimal { return domain.DecimalFromInt(int64(c.CommitMbps)) }

// Above returns how far a bandwidth is above what a percentile charge commits to, in Mbps; zero if it is not.
func (c Charge) Above(mbps domain.Decimal) domain.Decimal {
	if above := mbps.Sub(c.Committed()); above.Sign() > 0 {
		return above
	}
	return domain.DecimalFromInt(0)
}
