package rating

import (
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// What is given back is a share of what is charged for time: recurring charges and commitments. Use, and what is charged once,
// were had.
func TestCredit(t *testing.T) {
	t.Parallel()
	setup := pricing.Charge{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: domain.MustDecimal("99.00")}
	buckets := NewBuckets(april)
	for from := april.From; from.Before(april.To); from = from.Add(BucketLength) {
		if err := buckets.Add(Reading{Interval{from, from.Add(BucketLength)}, bucketBytes(400), 0}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		plan  pricing.Plan
		want  string   // "" for no credit
		steps []string // the first ones
	}{
		{"a port", plan("USD", recurring("400.05")), "-40.01", []string{"why", "−400.05 × 10 % = -40.005"}},
		{"a port and a commitment", plan("USD", recurring("400.00"), burst().Charges[0]), "-60.00",
			[]string{"why", "400.00 + 200.00 = 600.00 charged by time", "−600.00 × 10 % = -60"}},
		{"a commitment, and what is over it", burst(), "-20.00", []string{"why", "−200.00 × 10 % = -20"}},
		{"use and what is charged once", plan("USD", setup, perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "0.05", "")), "", nil},
		{"a port that costs nothing", plan("USD", recurring("0")), "", nil},
	} {
		in := Input{ConnectionID: "con_test", Plan: test.plan, BandwidthMbps: 1000, Period: april, Billable: april, Activation: true, Percentile: buckets.Percentile([]Interval{april})}
		in.Usage.Add(Reading{april, 1_000_000_000_000, 0}, april)
		items, err := Rate(in)
		if err != nil {
			t.Fatal(err)
		}
		credit, ok, err := Credit(in, items, domain.MustDecimal("10"), "why")
		if err != nil || ok != (test.want != "") {
			t.Errorf("%s: %+v, %t, %v", test.name, credit, ok, err)
			continue
		}
		if !ok {
			continue
		}
		if credit.Amount.Amount() != test.want || credit.ChargeID != pricing.CreditChargeID || slices.ContainsFunc(items, func(i Item) bool { return i.ID == credit.ID }) {
			t.Errorf("%s: the credit is %+v, want %s", test.name, credit, test.want)
		}
		if len(credit.Steps) < len(test.steps) || !slices.Equal(credit.Steps[:len(test.steps)], test.steps) {
			t.Errorf("%s: the steps are %q, want %q", test.name, credit.Steps, test.steps)
		}
	}
}
