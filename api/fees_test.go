package api_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/pricing"
)

func init() { operationLists = append(operationLists, feeOperations) }

func feeOperations(m *market) []operation {
	return []operation{{"listFeeSchedules", "GET", "/v1/fee-schedules", m.customerKey, nil}}
}

// A fee with bounds is published, seen by everybody, frozen by the next quote, and refused where its bounds cross. One
// that is to come changes no quote before.
func TestFeeSchedules(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	usd := func(minor int64) *[]domain.Money { return &[]domain.Money{{Minor: minor, Currency: "USD"}} }
	free := 2
	published, _, err := client.Decode[client.FeeSchedule](m.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{
		BasisPoints: 250, Floors: usd(1_00), Caps: usd(9_00), FreeConnections: &free, FreePassthrough: usd(50_00),
	}))
	must(t, err)
	later := time.Now().UTC().Add(24 * time.Hour).Truncate(time.Second)
	to, position, err := client.Decode[client.FeeSchedule](m.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{BasisPoints: 1000, EffectiveFrom: &later}))
	must(t, err)
	if to.Version != published.Version+1 || !to.EffectiveFrom.Equal(later) || to.Floors != nil {
		t.Errorf("the next version is %+v", to)
	}
	page, _, err := client.Decode[client.FeeSchedulePage](m.customer.ListFeeSchedules(ctx, &client.ListFeeSchedulesParams{AtPosition: &position}))
	must(t, err)
	if len(page.Items) != to.Version || page.Items[0].BasisPoints != 1000 || (*page.Items[1].Caps)[0] != (*usd(9_00))[0] || *page.Items[1].FreeConnections != 2 {
		t.Errorf("the page is %+v", page)
	}
	quote, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, m.newQuote()))
	must(t, err)
	if quote.FeeBasisPoints != 250 || quote.FeeTerms == nil || quote.FeeTerms.FreeConnections != 2 || quote.Fee != (*usd(9_00))[0] {
		t.Errorf("the quote's fee is %s under %+v", quote.Fee, quote.FeeTerms)
	}
	_, _, err = client.Decode[client.FeeSchedule](m.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{BasisPoints: 250, Floors: usd(2), Caps: usd(1)}))
	if !refusedAs(err, "invalid") {
		t.Errorf("a cap below the floor: %v", err)
	}
}

// A listing with every kind of charge is published over the contract, and a quote shows what is charged once apart.
func TestEveryKindOfCharge(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	dec := domain.MustDecimal
	terms := m.terms()
	top := dec("1000")
	terms.Plan = pricing.Plan{Currency: "USD", WhileSuspended: pricing.SuspendedNotBilled, Charges: []pricing.Charge{
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150")},
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{}},
		{ID: "volume", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB, Model: pricing.ModelVolume,
			Included: dec("10"), Tiers: []pricing.Tier{{UpTo: &top, Price: dec("0.05")}, {Price: dec("0.03")}}},
		{ID: "blocks", Kind: pricing.KindUsage, Description: "Blocks", Metric: pricing.MetricBytesOut, Unit: pricing.UnitGiB, Model: pricing.ModelPackage,
			PackageSize: dec("500"), PackagePrice: dec("3.5")},
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: dec("2"), OveragePrice: dec("3")},
		{ID: "least", Kind: pricing.KindMinimum, Description: "Minimum usage", Amount: dec("100")},
	}}
	for _, mbps := range terms.BandwidthsMbps {
		terms.Plan.Charges[1].Amounts = append(terms.Plan.Charges[1].Amounts, pricing.Amount{BandwidthMbps: mbps, Amount: dec("400")})
	}
	listing, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms))
	must(t, err)
	_, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, listing.Id, nil))
	must(t, err)
	gb, mbps := dec("110"), dec("150")
	quote, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, client.NewQuote{
		ListingId: listing.Id, BandwidthMbps: terms.BandwidthsMbps[0], EstimatedGb: &gb, EstimatedMbps: &mbps,
	}))
	must(t, err)
	// 400 + 100 GB × 0.05 + 1 block × 3.5 + 100 × 2 + 50 × 3, and 91.50 up to the minimum of 100
	if quote.Passthrough.Minor != 850_00 || quote.OneTime == nil || quote.OneTime.Passthrough.Minor != 150_00 || quote.OneTime.Fee.Minor != 4_50 {
		t.Errorf("a month is %s, and once %+v", quote.Passthrough, quote.OneTime)
	}
	terms.Plan.Charges[1].Amounts = terms.Plan.Charges[1].Amounts[1:]
	if _, _, err = client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms)); !refusedAs(err, "invalid") {
		t.Errorf("a bandwidth without an amount: %v", err)
	}
}

func refusedAs(err error, code string) bool {
	var problem *client.ProblemError
	return errors.As(err, &problem) && string(problem.Problem.Code) == code
}
