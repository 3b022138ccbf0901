package pricing

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// everyKind is a plan with a charge of every kind and every model.
func everyKind() Plan {
	tiers := []Tier{{top("1000"), dec("0.05")}, {top("10000"), dec("0.03")}, {nil, dec("0.01")}}
	usage := func(id, model string, change func(*Charge)) Charge {
		c := Charge{ID: id, Kind: KindUsage, Description: id, Metric: MetricBytesTotal, Unit: UnitGB, Model: model}
		change(&c)
		return c
	}
	return Plan{Currency: "USD", WhileSuspended: SuspendedNotBilled, Charges: []Charge{
		{ID: "setup", Kind: KindOneTime, Description: "Setup", Amount: dec("150")},
		{ID: "port", Kind: KindRecurring, Description: "Port", Amounts: []Amount{{100, dec("400")}, {1000, dec("900.50")}}},
		usage("each", ModelPerUnit, func(c *Charge) { c.UnitPrice = dec("0.02") }),
		usage("graduated", ModelGraduated, func(c *Charge) { c.Tiers = tiers }),
		usage("volume", ModelVolume, func(c *Charge) { c.Tiers, c.Included = tiers, dec("10") }),
		usage("blocks", ModelPackage, func(c *Charge) { c.PackageSize, c.PackagePrice = dec("500"), dec("3.50") }),
		{ID: "burst", Kind: KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: dec("2.00"), OveragePrice: dec("3.00")},
		{ID: "least", Kind: KindMinimum, Description: "Minimum usage", Amount: dec("500")},
	}}
}

func TestModels(t *testing.T) {
	t.Parallel()
	charges := everyKind().Charges
	volume, blocks := charges[4], charges[5]
	for _, c := range []struct {
		name     string
		charge   Charge
		quantity string
		amount   string
		steps    []string
	}{
		{"volume within the allowance", volume, "10", "0", []string{"10 GB − 10 GB included = 0 GB", "0 GB reach tier 1, up to 1000 GB", "0 GB × 0.05 = 0"}},
		{"volume, the first tier's top", volume, "1010", "50", []string{"1010 GB − 10 GB included = 1000 GB", "1000 GB reach tier 1, up to 1000 GB", "1000 GB × 0.05 = 50"}},
		{"volume, past it, costs less", volume, "1011", "30.03", []string{"1011 GB − 10 GB included = 1001 GB", "1001 GB reach tier 2, up to 10000 GB", "1001 GB × 0.03 = 30.03"}},
		{"volume, the last tier", volume, "20010", "200", []string{"20010 GB − 10 GB included = 20000 GB", "20000 GB reach tier 3", "20000 GB × 0.01 = 200"}},
		{"no block", blocks, "0", "0", []string{"0 GB start 0 blocks of 500 GB", "0 blocks × 3.5 = 0"}},
		{"a byte starts a block", blocks, "0.000000001", "3.5", []string{"0.000000001 GB start 1 blocks of 500 GB", "1 blocks × 3.5 = 3.5"}},
		{"a full block", blocks, "500", "3.5", []string{"500 GB start 1 blocks of 500 GB", "1 blocks × 3.5 = 3.5"}},
		{"a byte past it", blocks, "500.000000001", "7", []string{"500.000000001 GB start 2 blocks of 500 GB", "2 blocks × 3.5 = 7"}},
		{"once", charges[0], "1", "150", []string{"1 once × 150 = 150"}},
	} {
		if amount, steps := c.charge.Rate(dec(c.quantity)); amount.String() != c.amount || !slices.Equal(steps, c.steps) {
			t.Errorf("%s: got %s by %q, want %s by %q", c.name, amount, steps, c.amount, c.steps)
		}
	}
}

func TestTrueUp(t *testing.T) {
	t.Parallel()
	least := Charge{ID: "least", Kind: KindMinimum, Amount: dec("100")}
	for _, c := range []struct {
		months domain.Decimal
		usage  int64
		amount string
	}{
		{dec("1"), 0, "100"}, {dec("1"), 99_99, "0.01"}, {dec("1"), 100_00, "0"}, {dec("1"), 100_01, "0"}, {dec("0.5"), 20_00, "30"},
		{dec("1").Quo(dec("3")), 0, "33.333333333333333333…"},
	} {
		if amount, steps := least.TrueUp(c.months, usd(c.usage)); amount.String() != c.amount || len(steps) != 2 {
			t.Errorf("%s months and %d: %s by %q, want %s", c.months, c.usage, amount, steps, c.amount)
		}
	}
}

// Usage and its true-up sum to the minimum to the minor unit, however the minimum falls between two.
func TestTrueUpSumsToTheMinimum(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		least := Charge{ID: "least", Kind: KindMinimum, Amount: domain.DecimalFromInt(rng.Int64N(100_000)).Quo(dec("1000"))}
		months := domain.DecimalFromInt(1 + rng.Int64N(2_678_400)).Quo(dec("2678400"))
		used := usd(rng.Int64N(10_000))
		exact, _ := least.TrueUp(months, used)
		up, err := domain.RoundMoney(exact, "USD")
		if err != nil {
			t.Fatal(err)
		}
		want, err := domain.RoundMoney(least.Amount.Mul(months), "USD")
		if err != nil {
			t.Fatal(err)
		}
		if sum := used.Minor + up.Minor; sum != max(want.Minor, used.Minor) || up.Minor < 0 {
			t.Fatalf("%s and a true-up of %s to %s", used, up, want)
		}
	}
}

// Shares of a month's grants sum to the grants.
func TestShared(t *testing.T) {
	t.Parallel()
	c := everyKind().Charges[4]
	third, rest := c.Shared(dec("1").Quo(dec("3"))), c.Shared(dec("2").Quo(dec("3")))
	if third.Included.Add(rest.Included).Cmp(c.Included) != 0 || third.Tiers[1].UpTo.Add(*rest.Tiers[1].UpTo).Cmp(*c.Tiers[1].UpTo) != 0 {
		t.Errorf("%v and %v", third, rest)
	}
	if third.Tiers[2].UpTo != nil || c.Tiers[0].UpTo.String() != "1000" {
		t.Error("the charge itself was changed")
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	p := everyKind()
	at, err := p.For(1000)
	if err != nil || at.Charges[1].Amount.String() != "900.5" || at.Charges[1].Amounts != nil || p.Charges[1].Amounts == nil {
		t.Errorf("%+v (%v)", at.Charges[1], err)
	}
	if err := at.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := p.For(200); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("200 Mbps: %v", err)
	}
	var problems domain.Problems
	p.CheckBandwidths(&problems, "/plan", []int{100, 200, 1000})
	scenario.CheckError(t, problems.Err("test"), domain.Invalid, "/plan/charges/1/amounts")
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	lines, err := everyKind().Estimate(Expected{1000, big.NewInt(2_000_000_000_000), dec("130.5"), false})
	if err != nil {
		t.Fatal(err)
	}
	want := []EstimateLine{
		{"setup", "", "Setup", true, usd(150_00)},
		{"port", "", "Port", false, usd(900_50)},
		{"each", "", "each", false, usd(40_00)},
		{"graduated", "", "graduated", false, usd(80_00)},
		{"volume", "", "volume", false, usd(59_70)},
		{"blocks", "", "blocks", false, usd(14_00)},
		{"burst", PartCommit, "Burst, commitment", false, usd(200_00)},
		{"burst", PartOverage, "Burst, above the commitment", false, usd(91_50)},
		{"least", "", "Minimum usage", false, usd(306_30)}, // 500 − 193.70
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%v\nwant\n%v", lines, want)
	}
	if _, err := everyKind().Estimate(Expected{200, new(big.Int), dec("0"), false}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a bandwidth without an amount: %v", err)
	}
}

func TestValidateKinds(t *testing.T) {
	t.Parallel()
	with := func(n int, change func(*Charge)) Plan {
		p := everyKind()
		change(&p.Charges[n])
		return p
	}
	only := func(charges ...int) Plan {
		p := everyKind()
		all := p.Charges
		p.Charges = nil
		for _, n := range charges {
			p.Charges = append(p.Charges, all[n])
		}
		return p
	}
	for _, c := range []struct {
		name   string
		plan   Plan
		fields []string // none: valid
	}{
		{"every kind", everyKind(), nil},
		{"while suspended", Plan{Currency: "USD", WhileSuspended: "halved", Charges: exampleA().Charges}, []string{"/while_suspended"}},
		{"amount and amounts", with(1, func(c *Charge) { c.Amount = dec("1") }), []string{"/charges/1/amount"}},
		{"no amounts", with(1, func(c *Charge) { c.Amounts = []Amount{} }), []string{"/charges/1/amounts"}},
		{"too many amounts", with(1, func(c *Charge) { c.Amounts = make([]Amount, MaxAmounts+1) }), []string{"/charges/1/amounts"}},
		{"a bandwidth twice", with(1, func(c *Charge) { c.Amounts[1].BandwidthMbps = 100 }), []string{"/charges/1/amounts/1/bandwidth_mbps"}},
		{"no bandwidth", with(1, func(c *Charge) { c.Amounts[1].BandwidthMbps = 0 }), []string{"/charges/1/amounts/1/bandwidth_mbps"}},
		{"a negative amount of a bandwidth", with(1, func(c *Charge) { c.Amounts[1].Amount = dec("-1") }), []string{"/charges/1/amounts/1/amount"}},
		{"setup by bandwidth", with(0, func(c *Charge) { c.Amount, c.Amounts = domain.Decimal{}, []Amount{{100, dec("1")}} }), nil},
		{"usage with amounts", with(2, func(c *Charge) { c.Amounts = []Amount{{100, dec("1")}} }), []string{"/charges/2/amounts"}},
		{"volume without tiers", with(4, func(c *Charge) { c.Tiers = nil }), []string{"/charges/4/tiers"}},
		{"overlapping volume tiers", with(4, func(c *Charge) { c.Tiers = []Tier{{top("10"), dec("1")}, {top("5"), dec("1")}, {nil, dec("1")}} }), []string{"/charges/4/tiers/1/up_to"}},
		{"volume with a unit price", with(4, func(c *Charge) { c.UnitPrice = dec("1") }), []string{"/charges/4/unit_price"}},
		{"blocks of nothing", with(5, func(c *Charge) { c.PackageSize = dec("0") }), []string{"/charges/5/package_size"}},
		{"blocks without a size", with(5, func(c *Charge) { c.PackageSize = domain.Decimal{} }), []string{"/charges/5/package_size"}},
		{"blocks without a price", with(5, func(c *Charge) { c.PackagePrice = domain.Decimal{} }), []string{"/charges/5/package_price"}},
		{"blocks with tiers", with(5, func(c *Charge) { c.Tiers = []Tier{{nil, dec("1")}} }), []string{"/charges/5/tiers"}},
		{"a block price per unit", with(2, func(c *Charge) { c.PackagePrice = dec("1") }), []string{"/charges/2/package_price"}},
		{"no commitment", with(6, func(c *Charge) { c.CommitMbps, c.CommitPrice = 0, domain.Decimal{} }), nil},
		{"a price of no commitment", with(6, func(c *Charge) { c.CommitMbps = 0 }), []string{"/charges/6/commit_price"}},
		{"a commitment without a price", with(6, func(c *Charge) { c.CommitPrice = domain.Decimal{} }), []string{"/charges/6/commit_price"}},
		{"a negative commitment", with(6, func(c *Charge) { c.CommitMbps = -1 }), []string{"/charges/6/commit_mbps"}},
		{"a commitment past any port", with(6, func(c *Charge) { c.CommitMbps = domain.MaxMbps + 1 }), []string{"/charges/6/commit_mbps"}},
		{"no overage price", with(6, func(c *Charge) { c.OveragePrice = domain.Decimal{} }), []string{"/charges/6/overage_price"}},
		{"a percentile with a metric", with(6, func(c *Charge) { c.Metric = MetricBytesIn }), []string{"/charges/6/metric"}},
		{"a minimum by bandwidth", with(7, func(c *Charge) { c.Amounts = []Amount{{100, dec("1")}} }), []string{"/charges/7/amounts"}},
		{"a minimum of nothing said", with(7, func(c *Charge) { c.Amount = domain.Decimal{} }), []string{"/charges/7/amount"}},
		{"two minimums", func() Plan {
			p := everyKind()
			p.Charges = append(p.Charges, p.Charges[7])
			p.Charges[8].ID = "more"
			return p
		}(), []string{"/charges/8/kind"}},
		{"a minimum of no usage", only(0, 1, 6, 7), []string{"/charges/3/kind"}},
		{"percentile alone", only(6), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code := domain.Invalid
			if c.fields == nil {
				code = ""
			}
			scenario.CheckError(t, c.plan.Validate(), code, c.fields...)
		})
	}
}

// The largest percentile line that limits allow fits a currency with three digits.
func TestPercentileFitsMoney(t *testing.T) {
	t.Parallel()
	c := Charge{ID: "t", Kind: KindPercentile, CommitMbps: domain.MaxMbps, CommitPrice: domain.DecimalFromInt(MaxUnitPrice)}
	amount, _ := c.RatePart(PartCommit, c.Committed())
	if _, err := domain.RoundMoney(amount, "BHD"); err != nil {
		t.Error(err)
	}
}

func TestFeeBounds(t *testing.T) {
	t.Parallel()
	f := FeeSchedule{300, FeeTerms{Floors: []domain.Money{usd(5_00), {Minor: 400, Currency: "JPY"}}, Caps: []domain.Money{usd(20_00)}}}
	for _, c := range []struct {
		passthrough domain.Money
		amount      string
		steps       int
	}{
		{usd(0), "5", 2}, {usd(166_66), "5", 2}, {usd(166_67), "5.0001", 1}, {usd(614_43), "18.4329", 1}, {usd(666_67), "20", 2}, {usd(1_000_000_00), "20", 2},
		{domain.Money{Minor: 1_000_000, Currency: "JPY"}, "30000", 1}, {domain.Money{Minor: 1, Currency: "JPY"}, "400", 2}, {domain.Money{Currency: "EUR"}, "0", 1},
	} {
		if amount, steps := f.Rate(c.passthrough); amount.String() != c.amount || len(steps) != c.steps {
			t.Errorf("%s: %s by %q, want %s", c.passthrough, amount, steps, c.amount)
		}
	}
}

func TestFeeCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fee    FeeSchedule
		fields []string
	}{
		{"all", FeeSchedule{300, FeeTerms{[]domain.Money{usd(1)}, []domain.Money{usd(1)}, 5, []domain.Money{usd(100), {Minor: 0, Currency: "JPY"}}}}, nil},
		{"basis points", FeeSchedule{BasisPoints: 10_001}, []string{"/basis_points"}},
		{"a cap below the floor", FeeSchedule{1, FeeTerms{Floors: []domain.Money{usd(2)}, Caps: []domain.Money{usd(1)}}}, []string{"/caps/0"}},
		{"negative", FeeSchedule{1, FeeTerms{Floors: []domain.Money{usd(-1)}}}, []string{"/floors/0/amount"}},
		{"too large", FeeSchedule{1, FeeTerms{FreePassthrough: []domain.Money{usd(1_000_000_000_01)}}}, []string{"/free_passthrough/0/amount"}},
		{"a currency twice", FeeSchedule{1, FeeTerms{Caps: []domain.Money{usd(1), usd(2)}}}, []string{"/caps/1/currency"}},
		{"no currency", FeeSchedule{1, FeeTerms{Caps: []domain.Money{{}}}}, []string{"/caps/0/currency"}},
		{"free connections", FeeSchedule{1, FeeTerms{FreeConnections: MaxFreeConnections + 1}}, []string{"/free_connections"}},
	} {
		var p domain.Problems
		c.fee.Check(&p, "")
		code := domain.Invalid
		if c.fields == nil {
			code = ""
		}
		t.Run(c.name, func(t *testing.T) { scenario.CheckError(t, p.Err("test"), code, c.fields...) })
	}
}

// More usage never costs less under any model but volume, and there only where a tier's price is lower than that before.
func FuzzMoreUsageNeverCostsLess(f *testing.F) {
	f.Add(uint8(2), uint32(50), uint32(30), uint32(1000), uint32(10), int64(999_000_000_000), int64(2_000_000_000))
	f.Add(uint8(3), uint32(50), uint32(30), uint32(7), uint32(0), int64(6_999_999_999), int64(1))
	f.Fuzz(func(t *testing.T, model uint8, low, high, bound, included uint32, bytes, more int64) {
		if bytes < 0 || more < 0 || bytes+more < 0 {
			t.Skip()
		}
		c := Charge{ID: "t", Kind: KindUsage, Description: "t", Metric: MetricBytesIn, Unit: UnitGB, Included: domain.DecimalFromInt(int64(included) % MaxUnits)}
		price := func(n uint32) domain.Decimal { return domain.DecimalFromInt(int64(n)).Quo(dec("1000000")) }
		size := domain.DecimalFromInt(1 + int64(bound)%(MaxUnits-1))
		switch c.Model = []string{ModelPerUnit, ModelGraduated, ModelVolume, ModelPackage}[model%4]; c.Model {
		case ModelPerUnit:
			c.UnitPrice = price(low)
		case ModelPackage:
			c.PackageSize, c.PackagePrice = size, price(high)
		default:
			c.Tiers = []Tier{{&size, price(low)}, {nil, price(high)}}
		}
		if err := (Plan{Currency: "USD", Charges: []Charge{c}}).Validate(); err != nil {
			t.Fatal(err)
		}
		less, _ := c.Rate(c.Quantity(big.NewInt(bytes)))
		larger, _ := c.Rate(c.Quantity(big.NewInt(bytes + more)))
		if larger.Cmp(less) < 0 && (c.Model != ModelVolume || high >= low) {
			t.Errorf("%+v: %d bytes cost %s, %d bytes %s", c, bytes, less, bytes+more, larger)
		}
	})
}
