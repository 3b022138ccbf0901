package quote

import (
	"math/big"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/pricing"
)

// What is charged once stands apart from a month's price, and its fee is what it adds to a month's fee.
func TestPriceOfOneTimeCharges(t *testing.T) {
	t.Parallel()
	plan := pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150.10")},
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 100, Amount: dec("400.15")}, {BandwidthMbps: 1000, Amount: dec("900")}}},
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: dec("2"), OveragePrice: dec("3")},
	}}
	expected := pricing.Expected{BandwidthMbps: 100, Bytes: new(big.Int), Mbps: dec("120")}
	for _, c := range []struct {
		name                         string
		fees                         pricing.FeeSchedule
		fee, onceFee, total, onceAll int64
	}{
		// 660.15 a month, 810.25 with what is charged once: 19.8045 and 24.3075
		{"a share", pricing.FeeSchedule{BasisPoints: 300}, 19_80, 4_51, 679_95, 154_61},
		{"a floor", pricing.FeeSchedule{BasisPoints: 300, FeeTerms: pricing.FeeTerms{Floors: []domain.Money{usd(20_00)}}}, 20_00, 4_31, 680_15, 154_41},
		{"a cap", pricing.FeeSchedule{BasisPoints: 300, FeeTerms: pricing.FeeTerms{Caps: []domain.Money{usd(20_00)}}}, 19_80, 20, 679_95, 150_30},
	} {
		q, err := Price(plan, c.fees, expected)
		if err != nil {
			t.Fatal(err)
		}
		if q.Passthrough != usd(660_15) || q.Fee != usd(c.fee) || q.Total != usd(c.total) || q.OneTime == nil ||
			*q.OneTime != (OneTime{usd(150_10), usd(c.onceFee), usd(c.onceAll)}) {
			t.Errorf("%s: %s + %s = %s, and once %+v", c.name, q.Passthrough, q.Fee, q.Total, q.OneTime)
		}
		sum, once := usd(0), usd(0)
		for _, l := range q.Lines {
			if l.OneTime {
				once.Minor += l.Amount.Minor
			} else {
				sum.Minor += l.Amount.Minor
			}
		}
		if len(q.Lines) != 6 || sum != q.Total || once != q.OneTime.Total {
			t.Errorf("%s: the lines come to %s and %s", c.name, sum, once)
		}
	}
	if _, err := Price(plan, pricing.FeeSchedule{}, pricing.Expected{BandwidthMbps: 200, Bytes: new(big.Int)}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a bandwidth without an amount: %v", err)
	}
}

// A connection that is changed pays nothing once.
func TestPriceOfAChange(t *testing.T) {
	t.Parallel()
	plan := pricing.Plan{Currency: "USD", Charges: []pricing.Charge{{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150")}}}
	q, err := Price(plan, pricing.FeeSchedule{BasisPoints: 300}, pricing.Expected{BandwidthMbps: 100, Bytes: new(big.Int), Running: true})
	if err != nil || q.OneTime != nil || len(q.Lines) != 1 || q.Total != usd(0) {
		t.Errorf("%+v (%v)", q, err)
	}
}

// A quote for a change has no line for what is charged once, and none in another currency is made.
func TestQuoteOfAChange(t *testing.T) {
	t.Parallel()
	c := issue()
	from := scenario.Noon
	c.Connection = &connection.State{ID: scenario.ID(domain.PrefixConnection, 1), CustomerID: customer, ListingID: listingID, ListingVersion: 1,
		State: connection.StateProduction, BandwidthMbps: 10, QuoteID: scenario.ID(domain.PrefixQuote, 9), BillingFrom: &from}
	c.Listing.Versions[0].Plan.Currency = "USD"
	c.Listing.Versions[1].Plan.Charges = append(c.Listing.Versions[1].Plan.Charges, pricing.Charge{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150")})
	q := issued(t, c)
	if q.OneTime != nil || len(q.Lines) != 3 || q.Total != usd(76576) {
		t.Errorf("the lines are %+v, and once %+v", q.Lines, q.OneTime)
	}
	c.Listing.Versions[0].Plan.Currency = "EUR"
	if _, err := Decide(State{}, c); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a change to another currency: %v", err)
	}
}
