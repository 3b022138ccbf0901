package quote

import (
	"math/big"
	"testing"

	"crossbill/domain"
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
