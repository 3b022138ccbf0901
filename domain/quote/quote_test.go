package quote

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
)

var (
	quoteID   = scenario.ID(domain.PrefixQuote, 1)
	orderID   = scenario.ID(domain.PrefixOrder, 1)
	customer  = scenario.ID(domain.PrefixOrganisation, 1)
	provider  = scenario.ID(domain.PrefixOrganisation, 2)
	listingID = scenario.ID(domain.PrefixListing, 1)
	fee       = feeschedule.Version{FeeScheduleID: scenario.ID(domain.PrefixFeeSchedule, 1), Version: 4, BasisPoints: 300, EffectiveFrom: scenario.Noon}
)

func dec(s string) domain.Decimal { return domain.MustDecimal(s) }

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// offered is a listing whose second version has the plan of rebill.md's worked example A.
func offered() listing.State {
	first, second := dec("1000"), dec("10000")
	old := listing.Terms{Title: "Old", BandwidthsMbps: []int{10}}
	return listing.State{ID: listingID, ProviderID: provider, State: listing.StatePublished, Version: 2, Versions: []listing.Terms{old, {
		Title: "Private Connect", BandwidthsMbps: []int{100, 1000},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
			{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: dec("400.00")},
			{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
				Model: pricing.ModelGraduated, Tiers: []pricing.Tier{{UpTo: &first, Price: dec("0.05")}, {UpTo: &second, Price: dec("0.03")}, {Price: dec("0.01")}}},
		}},
	}}}
}

func issue() Issue {
	return Issue{QuoteID: quoteID, CustomerID: customer, Listing: offered(), BandwidthMbps: 100, EstimatedGB: dec("12345.678901234"), Fee: fee,
		ValidFor: time.Hour, At: scenario.Noon}
}

func issued(t *testing.T, c Issue) Issued {
	t.Helper()
	got, err := Decide(State{}, c)
	if err != nil {
		t.Fatal(err)
	}
	return got[0].(Issued)
}

// The whole month of worked example A: 400.00 and 343.46, then 3 % of 743.46.
func TestPrice(t *testing.T) {
	t.Parallel()
	q := issued(t, issue())
	want := []Line{
		{ChargeID: "port", Kind: LinePassthrough, Description: "Port", Amount: usd(40000)},
		{ChargeID: "traffic", Kind: LinePassthrough, Description: "Traffic", Amount: usd(34346)},
		{ChargeID: pricing.FeeChargeID, Kind: LineFee, Description: "Platform fee, 3 % of the provider's price", Amount: usd(2230)}, // 22.3038
	}
	if !reflect.DeepEqual(q.Lines, want) || q.Passthrough != usd(74346) || q.Fee != usd(2230) || q.Total != usd(76576) {
		t.Errorf("got %+v: %s + %s = %s", q.Lines, q.Passthrough, q.Fee, q.Total)
	}
	if q.ProviderID != provider || q.ListingVersion != 2 || q.FeeScheduleVersion != 4 || q.BasisPoints != 300 || !q.ValidUntil.Equal(scenario.After(3600)) {
		t.Errorf("the quote is %+v", q)
	}
}

// An estimate is in GB whatever the charge's unit is.
func TestPriceInGiB(t *testing.T) {
	t.Parallel()
	c := issue()
	charge := &c.Listing.Versions[1].Plan.Charges[1]
	*charge = pricing.Charge{ID: "traffic", Kind: pricing.KindUsage, Metric: pricing.MetricBytesIn, Unit: pricing.UnitGiB, Model: pricing.ModelPerUnit, UnitPrice: dec("1")}
	c.EstimatedGB = dec("1073.741824") // 1000 GiB
	if got := issued(t, c).Lines[1].Amount; got != usd(100000) {
		t.Errorf("1000 GiB at 1.00 cost %s", got)
	}
}

func TestPriceWithoutEstimate(t *testing.T) {
	t.Parallel()
	c := issue()
	c.EstimatedGB = domain.Decimal{}
	if q := issued(t, c); q.Total != usd(41200) {
		t.Errorf("the total is %s, want 400.00 and 3 %%", q.Total)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	q := issued(t, issue())
	// A change of this value means that quotes in old logs no longer match their hash.
	if want := "36c9963ff129b47e67acb0ca59f15c807c23936486d3a94443a08c901c102867"; q.Hash != want {
		t.Errorf("the hash is %s, want %s", q.Hash, want)
	}
	data, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var back Issued
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if Hash(back) != q.Hash {
		t.Error("the hash is another after reading the quote back")
	}
	// Whatever a customer reads is under the hash.
	for name, change := range map[string]func(*Issued){
		"bandwidth": func(q *Issued) { q.BandwidthMbps++ },
		"line":      func(q *Issued) { q.Lines[0].Amount.Minor++ },
		"plan":      func(q *Issued) { q.Plan.Charges[1].Tiers[2].Price = dec("0.02") },
		"validity":  func(q *Issued) { q.ValidUntil = q.ValidUntil.Add(time.Microsecond) },
		"fee":       func(q *Issued) { q.BasisPoints++ },
	} {
		changed := issued(t, issue())
		change(&changed)
		if Hash(changed) == q.Hash {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	with := func(change func(*Issue)) Issue {
		c := issue()
		change(&c)
		return c
	}
	q := issued(t, issue())
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "issued", When: issue(), Then: []domain.Event{q}},
		{Name: "exists", Given: []domain.Event{q}, When: issue(), Code: domain.Conflict},
		{Name: "no listing", When: with(func(c *Issue) { c.Listing = listing.State{} }), Code: domain.NotFound},
		{Name: "draft", When: with(func(c *Issue) { c.Listing.State = listing.StateDraft }), Code: domain.NotFound},
		{Name: "retired", When: with(func(c *Issue) { c.Listing.State = listing.StateRetired }), Code: domain.NotFound},
		{Name: "not in force yet", When: with(func(c *Issue) {
			c.Listing.EffectiveFrom = []time.Time{scenario.After(3600), scenario.After(3600)}
		}), Code: domain.NotFound},
		{Name: "offered to others", When: with(func(c *Issue) { c.Listing.Versions[1].OfferedTo = []string{provider} }), Code: domain.NotFound},
		{Name: "nothing else given", When: Issue{Listing: offered()}, Code: domain.Invalid,
			Fields: []string{"/quote_id", "/customer_id", "/bandwidth_mbps", "/valid_for", "/at", "/fee_schedule_id"}},
		{Name: "a bandwidth of the version before", When: with(func(c *Issue) { c.BandwidthMbps = 10 }), Code: domain.Invalid, Fields: []string{"/bandwidth_mbps"}},
		{Name: "negative estimate", When: with(func(c *Issue) { c.EstimatedGB = dec("-0.000000001") }), Code: domain.Invalid, Fields: []string{"/estimated_gb"}},
		{Name: "estimate finer than a byte", When: with(func(c *Issue) { c.EstimatedGB = dec("0.0000000001") }), Code: domain.Invalid, Fields: []string{"/estimated_gb"}},
		{Name: "too large an estimate", When: with(func(c *Issue) { c.EstimatedGB = dec("1000000000.1") }), Code: domain.Invalid, Fields: []string{"/estimated_gb"}},
		{Name: "negative bandwidth estimate", When: with(func(c *Issue) { c.EstimatedMbps = dec("-1") }), Code: domain.Invalid, Fields: []string{"/estimated_mbps"}},
		{Name: "too large a bandwidth estimate", When: with(func(c *Issue) { c.EstimatedMbps = dec("800000.1") }), Code: domain.Invalid, Fields: []string{"/estimated_mbps"}},
		{Name: "a bandwidth without a price", When: with(func(c *Issue) {
			c.Listing.Versions[1].Plan.Charges[0] = pricing.Charge{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 1000, Amount: dec("1")}}}
		}), Code: domain.Invalid, Fields: []string{"/bandwidth_mbps"}},
		{Name: "validity", When: with(func(c *Issue) { c.ValidFor = MaxValidity + 1 }), Code: domain.Invalid, Fields: []string{"/valid_for"}},
		{Name: "a fee of tomorrow", When: with(func(c *Issue) { c.Fee.EffectiveFrom = scenario.After(1) }), Code: domain.Invalid, Fields: []string{"/fee_schedule_id"}},
		{Name: "more than can be billed", When: with(func(c *Issue) {
			plan := &c.Listing.Versions[1].Plan
			plan.Currency = "BHD"
			for range 11 {
				plan.Charges = append(plan.Charges, pricing.Charge{Kind: pricing.KindUsage, Unit: pricing.UnitGB, Model: pricing.ModelPerUnit, UnitPrice: domain.DecimalFromInt(pricing.MaxUnitPrice)})
			}
			c.EstimatedGB = domain.DecimalFromInt(MaxEstimatedGB)
		}), Code: domain.Invalid, Fields: []string{"/estimated_gb"}},
	})
}

func TestAfterwards(t *testing.T) {
	t.Parallel()
	q := issued(t, issue())
	accepted := Accepted{quoteID, orderID, scenario.After(60)}
	withdrawn := Withdrawn{quoteID, scenario.After(60)}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "accept", Given: []domain.Event{q}, When: Accept{orderID, scenario.After(60)}, Then: []domain.Event{accepted}},
		{Name: "accept in the last microsecond", Given: []domain.Event{q}, When: Accept{orderID, scenario.After(3600).Add(-time.Microsecond)},
			Then: []domain.Event{Accepted{quoteID, orderID, scenario.After(3600).Add(-time.Microsecond)}}},
		{Name: "accept too late", Given: []domain.Event{q}, When: Accept{orderID, scenario.After(3600)}, Code: domain.Conflict},
		{Name: "accept again", Given: []domain.Event{q, accepted}, When: Accept{orderID, scenario.After(9999)}},
		{Name: "accept by another order", Given: []domain.Event{q, accepted}, When: Accept{scenario.ID(domain.PrefixOrder, 2), scenario.After(61)}, Code: domain.Conflict},
		{Name: "accept what is withdrawn", Given: []domain.Event{q, withdrawn}, When: Accept{orderID, scenario.After(61)}, Code: domain.Conflict},
		{Name: "accept nothing", When: Accept{orderID, scenario.Noon}, Code: domain.NotFound},
		{Name: "accept badly", Given: []domain.Event{q}, When: Accept{}, Code: domain.Invalid, Fields: []string{"/order_id", "/at"}},
		{Name: "withdraw", Given: []domain.Event{q}, When: Withdraw{scenario.After(60)}, Then: []domain.Event{withdrawn}},
		{Name: "withdraw again", Given: []domain.Event{q, withdrawn}, When: Withdraw{scenario.After(61)}},
		{Name: "withdraw what is accepted", Given: []domain.Event{q, accepted}, When: Withdraw{scenario.After(61)}, Code: domain.Conflict},
		{Name: "withdraw at no time", Given: []domain.Event{q}, When: Withdraw{}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "withdraw nothing", When: Withdraw{scenario.Noon}, Code: domain.NotFound},
	})
	s := scenario.Fold(Evolve, domain.Event(q))
	if s.StateAt(scenario.After(3599)) != StateIssued || s.StateAt(scenario.After(3600)) != StateExpired {
		t.Error("a quote is valid until ValidUntil, exclusive")
	}
	if s := Evolve(s, accepted); s.StateAt(scenario.After(9999)) != StateAccepted || s.OrderID != orderID {
		t.Error("an accepted quote does not expire")
	}
}
