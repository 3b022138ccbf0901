package rating

import (
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UTC()
}

func decimal(s string) *domain.Decimal { d := domain.MustDecimal(s); return &d }

var march = Interval{date(2026, 3, 1), date(2026, 4, 1)}

// planA is the plan of the rebill document's worked example A.
func planA() pricing.Plan {
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400.00")},
		{
			ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
			Model: pricing.ModelGraduated, Tiers: []pricing.Tier{
				{UpTo: decimal("1000"), Price: domain.MustDecimal("0.05")},
				{UpTo: decimal("10000"), Price: domain.MustDecimal("0.03")},
				{Price: domain.MustDecimal("0.01")},
			},
		},
	}}
}

func plan(c domain.Currency, charges ...pricing.Charge) pricing.Plan {
	return pricing.Plan{Currency: c, Charges: charges}
}

func recurring(amount string) pricing.Charge {
	return pricing.Charge{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal(amount)}
}

func perUnit(metric, unit, price, included string) pricing.Charge {
	c := pricing.Charge{
		ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: metric, Unit: unit,
		Model: pricing.ModelPerUnit, UnitPrice: domain.MustDecimal(price),
	}
	if included != "" {
		c.Included = domain.MustDecimal(included)
	}
	return c
}

func input(p pricing.Plan, billable Interval, in, out int64) Input {
	i := Input{ConnectionID: "con_test", Plan: p, Period: march, Billable: billable}
	i.Usage.Add(Reading{billable, in, out}, billable)
	return i
}

// TestExampleA is the rebill document's worked example A, digit for digit.
func TestExampleA(t *testing.T) {
	t.Parallel()
	in := input(planA(), Interval{date(2026, 3, 11), march.To}, 12_000_678_901_234, 345_000_000_000)
	items, err := Rate(in)
	if err != nil {
		t.Fatal(err)
	}
	fee, err := Fee([]Rated{{in, pricing.FeeSchedule{BasisPoints: 300}, items}}, pricing.FreeUse{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		item                          Item
		charge, quantity, unit, exact string
		minor                         int64
		steps                         []string
	}{
		{items[0], "port", "0.677419354838709677…", "month", "270.967741935483870967…", 270_97, []string{
			"1814400 of the period's 2678400 seconds = 0.677419354838709677… month",
			"0.677419354838709677… month × 400 = 270.967741935483870967…",
			"rounded once, half away from zero: 270.97 USD",
		}},
		{items[1], "traffic", "12345.678901234", "GB", "343.45678901234", 343_46, []string{
			"12000678901234 bytes in + 345000000000 bytes out = 12345.678901234 GB",
			"1000 GB × 0.05 = 50", "9000 GB × 0.03 = 270", "2345.678901234 GB × 0.01 = 23.45678901234",
			"50 + 270 + 23.45678901234 = 343.45678901234",
			"rounded once, half away from zero: 343.46 USD",
		}},
		{fee, "platform_fee", "614.43", "USD", "18.4329", 18_43, []string{
			"270.97 + 343.46 = 614.43 passthrough", "614.43 × 3 % = 18.4329", "rounded once, half away from zero: 18.43 USD",
		}},
	} {
		if want.item.ChargeID != want.charge || want.item.Quantity.String() != want.quantity || want.item.Unit != want.unit ||
			want.item.Exact.String() != want.exact || want.item.Amount != (domain.Money{Minor: want.minor, Currency: "USD"}) {
			t.Errorf("%s: %s %s, exactly %s, billed %s", want.item.ChargeID, want.item.Quantity, want.item.Unit, want.item.Exact, want.item.Amount)
		}
		if !reflect.DeepEqual(want.item.Steps, want.steps) {
			t.Errorf("%s: the steps are\n%s\nnot\n%s", want.charge, strings.Join(want.item.Steps, "\n"), strings.Join(want.steps, "\n"))
		}
		if !domain.ValidID(prefixItem, want.item.ID) {
			t.Errorf("%s: the id is %q", want.charge, want.item.ID)
		}
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	whole := march
	tests := []struct {
		name     string
		plan     pricing.Plan
		billable Interval
		in, out  int64
		exact    string
		amount   string
	}{
		{"a whole month", plan("USD", recurring("400.00")), whole, 0, 0, "400", "400.00 USD"},
		{"one second of a month", plan("USD", recurring("400.00")), Interval{march.From, march.From.Add(time.Second)}, 0, 0, "0.000149342891278375…", "0.00 USD"},
		{"half a cent away from zero", plan("USD", recurring("0.005")), whole, 0, 0, "0.005", "0.01 USD"},
		{"under half a cent", plan("USD", recurring("0.004999999")), whole, 0, 0, "0.004999999", "0.00 USD"},
		{"no minor unit", plan("JPY", recurring("1000.5")), whole, 0, 0, "1000.5", "1001 JPY"},
		{"three digits", plan("BHD", recurring("1.0005")), whole, 0, 0, "1.0005", "1.001 BHD"},
		{"for nothing", plan("USD", recurring("0")), whole, 0, 0, "0", "0.00 USD"},
		{"no usage", plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "0.05", "")), whole, 0, 0, "0", "0.00 USD"},
		{"bytes in only", plan("USD", perUnit(pricing.MetricBytesIn, pricing.UnitGB, "1", "")), whole, 7_000_000_000, 1, "7", "7.00 USD"},
		{"bytes out only", plan("USD", perUnit(pricing.MetricBytesOut, pricing.UnitGB, "1", "")), whole, 1, 7_000_000_000, "7", "7.00 USD"},
		{"both", plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "")), whole, 3_000_000_000, 4_000_000_000, "7", "7.00 USD"},
		{"GiB", plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGiB, "0.50", "")), whole, 3 << 30, 0, "1.5", "1.50 USD"},
		{"within the allowance", plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "5")), whole, 5_000_000_000, 0, "0", "0.00 USD"},
		{"a byte past the allowance", plan("USD", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "5")), whole, 5_000_000_001, 0, "0.000000001", "0.00 USD"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			items, err := Rate(input(test.plan, test.billable, test.in, test.out))
			if err != nil {
				t.Fatal(err)
			}
			if len(items) != 1 || items[0].Exact.String() != test.exact || items[0].Amount.String() != test.amount {
				t.Errorf("%s, billed %s; want %s, billed %s", items[0].Exact, items[0].Amount, test.exact, test.amount)
			}
			if len(items[0].Steps) == 0 {
				t.Error("there is no arithmetic")
			}
		})
	}
}

// TestTierBoundaries: a tier "up to 1000" holds units 0 < q ≤ 1000.
func TestTierBoundaries(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{
		0: "0", 1: "0.00000000005", 1_000_000_000_000: "50", 1_000_000_000_001: "50.00000000003",
		10_000_000_000_000: "320", 10_000_000_000_001: "320.00000000001",
	} {
		items, err := Rate(input(planA(), march, bytes, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := items[1].Exact.String(); got != want {
			t.Errorf("%d bytes cost %s, not %s", bytes, got, want)
		}
	}
}

func TestRateRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Input)
	}{
		{"an empty interval", func(i *Input) { i.Billable = Interval{} }},
		{"time before the period", func(i *Input) { i.Billable.From = march.From.Add(-time.Second) }},
		{"time after the period", func(i *Input) { i.Billable.To = march.To.Add(time.Second) }},
		{"parts of a second", func(i *Input) { i.Billable.From = march.From.Add(time.Millisecond) }},
		{"a plan without charges", func(i *Input) { i.Plan.Charges = nil }},
		{"an unknown kind", func(i *Input) { i.Plan.Charges[0].Kind = "discount" }},
		{"an unknown currency", func(i *Input) { i.Plan.Currency = "XXX" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := input(planA(), march, 1, 1)
			test.change(&in)
			if items, err := Rate(in); domain.CodeOf(err) != domain.Internal {
				t.Errorf("%d items and the error %v", len(items), err)
			}
		})
	}
	if _, err := Fee([]Rated{{input(planA(), march, 0, 0), pricing.FeeSchedule{BasisPoints: -1}, nil}}, pricing.FreeUse{}); err == nil {
		t.Error("a negative fee was taken")
	}
}

func TestItemIDs(t *testing.T) {
	t.Parallel()
	id := func(change func(*Input)) string {
		in := input(planA(), march, 1, 1)
		change(&in)
		items, err := Rate(in)
		if err != nil {
			t.Fatal(err)
		}
		return items[0].ID
	}
	first := id(func(*Input) {})
	if again := id(func(i *Input) { i.Usage = Usage{}; i.Billable.To = march.To.Add(-time.Hour) }); again != first {
		t.Error("the id depends on what the item comes to")
	}
	for name, other := range map[string]string{
		"connection": id(func(i *Input) { i.ConnectionID = "con_other" }),
		"part":       id(func(i *Input) { i.Billable.From = march.From.Add(time.Hour) }),
		"period":     id(func(i *Input) { i.Period.To = march.To.Add(time.Hour) }),
		"charge":     id(func(i *Input) { i.Plan.Charges[0].ID = "other" }),
	} {
		if other == first {
			t.Errorf("another %s has the same id", name)
		}
	}
}

// TestSplitPeriodsSumToTheWhole: a linear charge costs the same however the month is cut, before rounding.
func TestSplitPeriodsSumToTheWhole(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	linear := plan("USD", recurring("399.99"), perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "0.017", ""))
	for range 300 {
		reading := Reading{march, random.Int64N(1 << 50), random.Int64N(1 << 50)}
		rate := func(billable Interval) []Item {
			in := Input{ConnectionID: "con_test", Plan: linear, Period: march, Billable: billable}
			in.Usage.Add(reading, billable)
			items, err := Rate(in)
			if err != nil {
				t.Fatal(err)
			}
			return items
		}
		whole := rate(march)
		cut := march.From.Add(time.Duration(1+random.Int64N(march.Seconds()-1)) * time.Second)
		early, late := rate(Interval{march.From, cut}), rate(Interval{cut, march.To})
		for i := range whole {
			if sum := early[i].Exact.Add(late[i].Exact); sum.Cmp(whole[i].Exact) != 0 {
				t.Fatalf("cut at %s, %s costs %s, not %s", cut, whole[i].ChargeID, sum, whole[i].Exact)
			}
		}
	}
}

// TestOrderOfReadingsNeverMatters also holds readings that cross the ends of what is billable.
func TestOrderOfReadingsNeverMatters(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	readings := make([]Reading, 200)
	for i := range readings {
		from := march.From.Add(time.Duration(random.Int64N(int64(34*24*time.Hour)) - int64(24*time.Hour)))
		readings[i] = Reading{Interval{from, from.Add(time.Duration(random.Int64N(int64(time.Hour))))}, random.Int64N(1 << 40), random.Int64N(1 << 40)}
	}
	var want []Item
	for range 20 {
		random.Shuffle(len(readings), func(i, j int) { readings[i], readings[j] = readings[j], readings[i] })
		in := Input{ConnectionID: "con_test", Plan: planA(), Period: march, Billable: march}
		for _, r := range readings {
			in.Usage.Add(r, march)
		}
		got, err := Rate(in)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if got[1].Exact.Cmp(want[1].Exact) != 0 || !reflect.DeepEqual(got[1].Steps, want[1].Steps) {
			t.Fatalf("%s in another order, not %s", got[1].Exact, want[1].Exact)
		}
	}
	if want[1].Amount.Minor == 0 {
		t.Fatal("the test measured nothing")
	}
}

func FuzzMoreUsageNeverCostsLess(f *testing.F) {
	f.Add(uint32(50), uint32(30), uint32(10), uint32(1000), uint32(9000), int64(1_000_000_000_000), int64(1))
	f.Add(uint32(0), uint32(30), uint32(0), uint32(1), uint32(1), int64(0), int64(1<<60))
	f.Fuzz(func(t *testing.T, p1, p2, p3, top, step uint32, bytes, more int64) {
		if bytes < 0 || more < 0 || bytes+more < 0 {
			t.Skip()
		}
		price := func(p uint32) domain.Decimal {
			return domain.DecimalFromInt(int64(p)).Quo(domain.DecimalFromInt(1_000_000))
		}
		units := func(n int64) *domain.Decimal { d := domain.DecimalFromInt(1 + n%100_000_000); return &d }
		charge := planA().Charges[1]
		charge.Tiers = []pricing.Tier{
			{UpTo: units(int64(top)), Price: price(p1)},
			{UpTo: func() *domain.Decimal {
				d := units(int64(top)).Add(*units(int64(step)))
				return &d
			}(), Price: price(p2)}, {Price: price(p3)},
		}
		rate := func(n int64) domain.Decimal {
			items, err := Rate(input(plan("USD", charge), march, n, 0))
			if domain.CodeOf(err) == domain.Invalid {
				t.Skip() // more money than there is
			}
			if err != nil {
				t.Fatal(err)
			}
			return items[0].Exact
		}
		if less, larger := rate(bytes), rate(bytes+more); larger.Cmp(less) < 0 {
			t.Errorf("%d bytes cost %s, %d bytes %s", bytes, less, bytes+more, larger)
		}
	})
}

func TestUsageHasNoUpperLimit(t *testing.T) {
	t.Parallel()
	var u Usage
	for range 3 {
		u.Add(Reading{march, 1<<63 - 1, 0}, march)
	}
	want := new(big.Int).Mul(big.NewInt(3), big.NewInt(1<<63-1))
	if u.In().Cmp(want) != 0 || u.Out().Sign() != 0 {
		t.Errorf("in %s, out %s", u.In(), u.Out())
	}
}

// TestUsageAdd: a reading touches a window if it shares time with it, or is an instant in it.
func TestUsageAdd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		from, to time.Duration // after the start of March
		touches  bool
		in       int64
	}{
		{"inside", 0, time.Hour, true, 100},
		{"an instant inside", time.Hour, time.Hour, true, 100},
		{"an instant at the start", 0, 0, true, 100},
		{"before", -time.Hour, 0, false, 0},
		{"an instant before", -1, -1, false, 0},
		{"over the start", -time.Hour, time.Hour, true, 50},
		{"over the start by a nanosecond", -time.Hour, 1, true, 1},
		{"an instant at the end", 31 * 24 * time.Hour, 31 * 24 * time.Hour, false, 0},
		{"after", 31 * 24 * time.Hour, 32 * 24 * time.Hour, false, 0},
		{"around", -31 * 24 * time.Hour, 62 * 24 * time.Hour, true, 33},
	} {
		var u Usage
		r := Reading{Interval{march.From.Add(test.from), march.From.Add(test.to)}, 100, 0}
		if touches := u.Add(r, march); touches != test.touches || u.In().Int64() != test.in {
			t.Errorf("%s: %t with %s bytes", test.name, touches, u.In())
		}
	}
}
