package rating

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

func setup(amount string) pricing.Charge {
	return pricing.Charge{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: domain.MustDecimal(amount)}
}

func minimum(amount string) pricing.Charge {
	return pricing.Charge{ID: "least", Kind: pricing.KindMinimum, Description: "Minimum", Amount: domain.MustDecimal(amount)}
}

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func amounts(t *testing.T, in Input) (all []string) {
	t.Helper()
	items, err := Rate(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		all = append(all, i.ChargeID+" "+i.Amount.Amount())
	}
	return all
}

func TestKinds(t *testing.T) {
	t.Parallel()
	half := Interval{march.From, march.From.Add(march.To.Sub(march.From) / 2)}
	per := perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "")
	byMbps := pricing.Charge{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{
		{BandwidthMbps: 100, Amount: domain.MustDecimal("400")}, {BandwidthMbps: 1000, Amount: domain.MustDecimal("900")}}}
	noCommit := burst()
	noCommit.Charges[0].CommitMbps, noCommit.Charges[0].CommitPrice = 0, domain.Decimal{}
	notBilled := func(p pricing.Plan) pricing.Plan {
		p.WhileSuspended = pricing.SuspendedNotBilled
		return p
	}
	day := []Interval{{date(2026, 3, 10), date(2026, 3, 11)}}
	fast := Percentile{8928, 8482, bucketBytes(400), bucketBytes(90)}
	for _, test := range []struct {
		name   string
		plan   pricing.Plan
		change func(*Input)
		want   []string
	}{
		{"once, at activation", plan("USD", setup("150"), recurring("400")), func(i *Input) { i.Activation, i.Billable = true, half }, []string{"setup 150.00", "port 200.00"}},
		{"once, and not again", plan("USD", setup("150"), recurring("400")), func(i *Input) {}, []string{"port 400.00"}},
		{"once, and suspended", notBilled(plan("USD", setup("150"))), func(i *Input) { i.Activation, i.Suspended = true, []Interval{march} }, []string{"setup 150.00"}},
		{"by bandwidth", plan("USD", byMbps), func(i *Input) { i.BandwidthMbps = 1000 }, []string{"port 900.00"}},
		{"no usage, so the minimum", plan("USD", per, minimum("100")), func(i *Input) {}, []string{"traffic 0.00", "least 100.00"}},
		{"some usage", plan("USD", minimum("100"), per), func(i *Input) { i.Usage.Add(Reading{march, 30_004_000_000, 0}, march) }, []string{"least 70.00", "traffic 30.00"}},
		{"enough usage", plan("USD", per, minimum("100")), func(i *Input) { i.Usage.Add(Reading{march, 100_000_000_000, 0}, march) }, []string{"traffic 100.00", "least 0.00"}},
		{"half a minimum", plan("USD", per, minimum("100")), func(i *Input) { i.Billable = half }, []string{"traffic 0.00", "least 50.00"}},
		{"a minimum counts no other charge", plan("USD", recurring("400"), per, minimum("100")), func(i *Input) {}, []string{"port 400.00", "traffic 0.00", "least 100.00"}},
		{"overage", burst(), func(i *Input) { i.Percentile = fast }, []string{"burst 200.00", "burst 900.00"}},
		{"half of it", burst(), func(i *Input) { i.Percentile, i.Billable = fast, half }, []string{"burst 100.00", "burst 450.00"}},
		{"no commitment", noCommit, func(i *Input) { i.Percentile = fast }, []string{"burst 1200.00"}},
		{"no buckets", burst(), func(i *Input) { i.Billable = Interval{march.From.Add(time.Second), march.From.Add(2 * time.Second)} }, []string{"burst 0.00", "burst 0.00"}},
		{"suspended, billed", plan("USD", recurring("310"), per, minimum("31")), func(i *Input) { i.Suspended = day }, []string{"port 310.00", "traffic 0.00", "least 31.00"}},
		{"suspended, not billed", notBilled(plan("USD", recurring("310"), per, minimum("31"))), func(i *Input) { i.Suspended = day }, []string{"port 300.00", "traffic 0.00", "least 30.00"}},
		{"suspended all the while", notBilled(plan("USD", recurring("310"))), func(i *Input) { i.Suspended = []Interval{march} }, []string{"port 0.00"}},
		{"JPY", plan("JPY", recurring("1000"), per, minimum("1001")), func(i *Input) { i.Billable = half }, []string{"port 500", "traffic 0", "least 501"}}, // 500.5
		{"BHD", plan("BHD", recurring("0.001"), per, minimum("0.0005")), func(i *Input) { i.Billable = half }, []string{"port 0.001", "traffic 0.000", "least 0.000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := Input{ConnectionID: "con_test", Plan: test.plan, BandwidthMbps: 100, Period: march, Billable: march}
			test.change(&in)
			if got := amounts(t, in); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestRateRefusesWhatIsNoPart(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Input){
		"a month that is smaller":      func(i *Input) { i.Month = Interval{march.From, march.From.Add(time.Hour)} },
		"a month past the period":      func(i *Input) { i.Month = Interval{march.From, march.To.Add(time.Hour)} },
		"suspended before":             func(i *Input) { i.Suspended = []Interval{{march.From.Add(-time.Second), march.To}} },
		"suspended after":              func(i *Input) { i.Suspended = []Interval{{march.From, march.To.Add(time.Second)}} },
		"suspended twice at once":      func(i *Input) { i.Suspended = []Interval{march, march} },
		"suspended for no time":        func(i *Input) { i.Suspended = []Interval{{march.From, march.From}} },
		"suspended in parts of second": func(i *Input) { i.Suspended = []Interval{{march.From.Add(1), march.To}} },
		"a bandwidth without a price": func(i *Input) {
			i.Plan.Charges[0] = pricing.Charge{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 7, Amount: domain.MustDecimal("1")}}}
		},
	} {
		in := input(planA(), march, 1, 1)
		change(&in)
		if items, err := Rate(in); domain.CodeOf(err) != domain.Internal {
			t.Errorf("%s: %d items and the error %v", name, len(items), err)
		}
	}
}

// TestSplitMonth: a change splits the month at its second, the allowance and the tiers by time.
func TestSplitMonth(t *testing.T) {
	t.Parallel()
	cut := march.From.Add(march.To.Sub(march.From) / 4)
	early, late := Interval{march.From, cut}, Interval{cut, march.To}
	p := plan("USD", recurring("400"), perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "100"))
	in := Input{ConnectionID: "con_test", Plan: p, BandwidthMbps: 100, Period: march, Billable: early, Month: march}
	in.Usage.Add(Reading{early, 30_000_000_000, 0}, early)
	items, err := Rate(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"from 2026-03-01T00:00:00Z to 2026-03-08T18:00:00Z, at 100 Mbps", "30000000000 bytes in + 0 bytes out = 30 GB",
		"allowance and tiers for 669600 of the 2678400 seconds billed in the period", "30 GB − 25 GB included = 5 GB", "5 GB × 1 = 5",
	}
	if items[0].Amount != usd(100_00) || items[1].Amount != usd(5_00) || !slices.Equal(items[1].Steps, want) {
		t.Errorf("%s and %s by\n%s", items[0].Amount, items[1].Amount, strings.Join(items[1].Steps, "\n"))
	}
	in.Billable, in.Usage = late, Usage{}
	in.Usage.Add(Reading{late, 75_000_000_000, 0}, late)
	if got := amounts(t, in); !slices.Equal(got, []string{"port 300.00", "traffic 0.00"}) {
		t.Errorf("the later part is %v", got)
	}
}

// A connection that was put into production late in the month has all of the allowance, and a change splits just that.
func TestSplitOfAMonthThatIsNotWhole(t *testing.T) {
	t.Parallel()
	month := Interval{date(2026, 3, 22), march.To} // ten days
	early := Interval{month.From, date(2026, 3, 24)}
	p := plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "100"))
	in := Input{ConnectionID: "con_test", Plan: p, BandwidthMbps: 100, Period: march, Billable: early, Month: month}
	in.Usage.Add(Reading{early, 30_000_000_000, 0}, early)
	if got := amounts(t, in); !slices.Equal(got, []string{"traffic 10.00"}) { // two of ten days: 20 GB are included
		t.Errorf("got %v", got)
	}
}

// TestExampleC is what rating has to do with the rebill document's worked example C: a late reading costs what the month
// costs with it and without it less, and a credit of half the recurring line returns its fee.
func TestExampleC(t *testing.T) {
	t.Parallel()
	rate := func(bytes int64) []Item {
		items, err := Rate(input(planA(), Interval{date(2026, 3, 11), march.To}, bytes, 0))
		if err != nil {
			t.Fatal(err)
		}
		return items
	}
	before, after := rate(12_345_678_901_234), rate(12_345_678_901_234+1_000_000_000_000)
	if late := after[1].Exact.Sub(before[1].Exact); late.String() != "10" || after[0].Exact.Cmp(before[0].Exact) != 0 {
		t.Errorf("the late reading costs %s", late)
	}
	fee := func(minor int64) (domain.Decimal, domain.Money) {
		f, err := Fee([]Rated{{Input{ConnectionID: "con_test", Plan: planA(), Period: march, Billable: march}, pricing.FeeSchedule{BasisPoints: 300}, []Item{{Amount: usd(minor)}}}}, pricing.FreeUse{})
		if err != nil {
			t.Fatal(err)
		}
		return f.Exact, f.Amount
	}
	if _, amount := fee(10_00); amount != usd(30) {
		t.Errorf("its fee is %s", amount)
	}
	half, err := domain.RoundMoney(before[0].Amount.Decimal().Quo(domain.DecimalFromInt(2)), "USD")
	if err != nil || half != usd(135_49) { // 135.485
		t.Errorf("half of the recurring line is %s (%v)", half, err)
	}
	if exact, amount := fee(half.Minor); exact.String() != "4.0647" || amount != usd(4_06) {
		t.Errorf("its fee is %s, %s", exact, amount)
	}
}

// Linear charges cost the same however a month is cut into plans' parts, in every kind that is linear in time or usage.
func TestSplitMonthSumsToTheWhole(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 12))
	linear := plan("USD", recurring("399.99"), perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "0.017", ""), burst().Charges[0])
	linear.WhileSuspended = pricing.SuspendedNotBilled
	for range 200 {
		month := Interval{march.From.Add(time.Duration(rng.Int64N(1_000_000)) * time.Second), march.To.Add(-time.Duration(rng.Int64N(1_000_000)) * time.Second)}
		reading := Reading{month, rng.Int64N(1 << 50), rng.Int64N(1 << 50)}
		pauseFrom := month.From.Add(time.Duration(rng.Int64N(month.Seconds()-1)) * time.Second)
		pause := Interval{pauseFrom, pauseFrom.Add(time.Second + time.Duration(rng.Int64N(int64(month.To.Sub(pauseFrom)/time.Second)))*time.Second)}.Intersect(month)
		rate := func(billable Interval) []Item {
			in := Input{ConnectionID: "con_test", Plan: linear, Period: march, Billable: billable, Month: month, Percentile: Percentile{1, 1, bucketBytes(333), 0}}
			if part := pause.Intersect(billable); !part.Empty() {
				in.Suspended = []Interval{part}
			}
			in.Usage.Add(reading, billable)
			items, err := Rate(in)
			if err != nil {
				t.Fatal(err)
			}
			return items
		}
		cut := month.From.Add(time.Duration(1+rng.Int64N(month.Seconds()-1)) * time.Second)
		whole, early, late := rate(month), rate(Interval{month.From, cut}), rate(Interval{cut, month.To})
		for i := range whole {
			if sum := early[i].Exact.Add(late[i].Exact); sum.Cmp(whole[i].Exact) != 0 {
				t.Fatalf("cut at %s, %s costs %s, not %s", cut, whole[i].ChargeID, sum, whole[i].Exact)
			}
		}
	}
}

func TestFee(t *testing.T) {
	t.Parallel()
	part := func(points int, terms pricing.FeeTerms, minor ...int64) Rated {
		r := Rated{Input: Input{ConnectionID: "con_test", Plan: plan("USD"), Period: march, Billable: march}, Fees: pricing.FeeSchedule{BasisPoints: points, FeeTerms: terms}}
		for _, m := range minor {
			r.Items = append(r.Items, Item{Amount: usd(m)})
		}
		return r
	}
	none := pricing.FeeTerms{}
	bounds := pricing.FeeTerms{Floors: []domain.Money{usd(5_00)}, Caps: []domain.Money{usd(20_00)}}
	connections := pricing.FeeTerms{FreeConnections: 2, Floors: []domain.Money{usd(5_00)}}
	amount := pricing.FeeTerms{FreePassthrough: []domain.Money{usd(100_00)}, Floors: []domain.Money{usd(1_00)}}
	for _, test := range []struct {
		name   string
		parts  []Rated
		used   pricing.FreeUse
		amount string
		step   string
	}{
		{"example A", []Rated{part(300, none, 270_97, 343_46)}, pricing.FreeUse{}, "18.43", "614.43 × 3 % = 18.4329"},
		{"two parts of one schedule are rounded once", []Rated{part(300, none, 50), part(300, none, 50)}, pricing.FreeUse{}, "0.03", "1.00 × 3 % = 0.03"},
		{"two percentages", []Rated{part(300, none, 100_00), part(250, none, 100_10)}, pricing.FreeUse{}, "5.50", "3 + 2.5025 = 5.5025"},
		{"the floor", []Rated{part(300, bounds, 1_00)}, pricing.FreeUse{}, "5.00", "at least 5.00"},
		{"the floor of nothing", []Rated{part(300, bounds, 0)}, pricing.FreeUse{}, "5.00", "at least 5.00"},
		{"the cap", []Rated{part(300, bounds, 1_000_00)}, pricing.FreeUse{}, "20.00", "at most 20.00"},
		{"the last part's bounds hold", []Rated{part(300, bounds, 500_00), part(300, none, 500_00)}, pricing.FreeUse{}, "30.00", "1000.00 × 3 % = 30"},
		{"the first connection", []Rated{part(300, connections, 100_00)}, pricing.FreeUse{}, "0.00", "connection 1 of the month: the first 2 bear no fee"},
		{"the second", []Rated{part(300, connections, 100_00)}, pricing.FreeUse{Connections: 1, Passthrough: usd(1)}, "0.00", "connection 2 of the month: the first 2 bear no fee"},
		{"the third", []Rated{part(300, connections, 1000_00)}, pricing.FreeUse{Connections: 2, Passthrough: usd(1)}, "30.00", "1000.00 × 3 % = 30"},
		{"all of a free amount", []Rated{part(300, amount, 99_00)}, pricing.FreeUse{}, "0.00", "100.00 free a month, 0.00 of it used before: 99.00 − 99.00 = 0.00"},
		{"nothing while some is free", []Rated{part(300, amount, 0)}, pricing.FreeUse{}, "0.00", "100.00 free a month, 0.00 of it used before: 0.00 − 0.00 = 0.00"},
		{"past it", []Rated{part(300, amount, 160_00)}, pricing.FreeUse{}, "1.80", "100.00 free a month, 0.00 of it used before: 160.00 − 100.00 = 60.00"},
		{"what is left of it", []Rated{part(300, amount, 160_00)}, pricing.FreeUse{Connections: 1, Passthrough: usd(30_00)}, "2.70", "100.00 free a month, 30.00 of it used before: 160.00 − 70.00 = 90.00"},
		{"nothing is left", []Rated{part(300, amount, 10_00)}, pricing.FreeUse{Connections: 1, Passthrough: usd(300_00)}, "1.00", "100.00 free a month, 100.00 of it used before: 10.00 − 0.00 = 10.00"},
		{"free in the first part", []Rated{part(1000, none, 60_00), part(300, amount, 60_00)}, pricing.FreeUse{}, "1.00", "0 + 0.6 = 0.6"},
	} {
		fee, err := Fee(test.parts, test.used)
		if err != nil || fee.Amount.Amount() != test.amount || !slices.Contains(fee.Steps, test.step) {
			t.Errorf("%s: %s by %q (%v)", test.name, fee.Amount, fee.Steps, err)
		}
	}
}

// A customer's month costs the same free amount in any order of its connections, but for the rounding of each.
func TestFreeAmountIsUsedOnce(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(13, 14))
	schedule := pricing.FeeSchedule{BasisPoints: 1000, FeeTerms: pricing.FeeTerms{FreePassthrough: []domain.Money{usd(1000_00)}}}
	for range 300 {
		var used pricing.FreeUse
		total, billed := int64(0), int64(0)
		for range 1 + rng.IntN(8) {
			minor := rng.Int64N(400_00) * 10
			fee, err := Fee([]Rated{{Input{ConnectionID: "con_test", Plan: plan("USD"), Period: march, Billable: march}, schedule, []Item{{Amount: usd(minor)}}}}, used)
			if err != nil {
				t.Fatal(err)
			}
			if used, err = used.Add(1, usd(minor)); err != nil {
				t.Fatal(err)
			}
			total, billed = total+minor, billed+fee.Amount.Minor
		}
		if want := max(0, total-1000_00) / 10; billed != want { // every amount is a multiple of ten
			t.Fatalf("%d of fees on %d, want %d", billed, total, want)
		}
	}
}
