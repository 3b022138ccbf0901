package pricing

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func dec(s string) domain.Decimal { return domain.MustDecimal(s) }

func top(s string) *domain.Decimal {
	d := dec(s)
	return &d
}

// exampleA is the plan of rebill.md's worked example A.
func exampleA() Plan {
	return Plan{Currency: "USD", Charges: []Charge{
		{ID: "port", Kind: KindRecurring, Description: "Port", Amount: dec("400.00")},
		{ID: "traffic", Kind: KindUsage, Description: "Traffic", Metric: MetricBytesTotal, Unit: UnitGB, Model: ModelGraduated,
			Tiers: []Tier{{top("1000"), dec("0.05")}, {top("10000"), dec("0.03")}, {nil, dec("0.01")}}},
	}}
}

func TestRate(t *testing.T) {
	t.Parallel()
	port, traffic := exampleA().Charges[0], exampleA().Charges[1]
	allowed := traffic
	allowed.Included = dec("100")
	perUnit := Charge{ID: "t", Kind: KindUsage, Metric: MetricBytesIn, Unit: UnitGiB, Model: ModelPerUnit, UnitPrice: dec("0.05")}
	perUnitAllowed := perUnit
	perUnitAllowed.Included = dec("10.5")
	for _, c := range []struct {
		name     string
		charge   Charge
		quantity domain.Decimal
		amount   string
		steps    []string
	}{
		{"example A", traffic, traffic.Quantity(big.NewInt(12_345_678_901_234)), "343.45678901234", []string{
			"1000 GB × 0.05 = 50", "9000 GB × 0.03 = 270", "2345.678901234 GB × 0.01 = 23.45678901234",
			"50 + 270 + 23.45678901234 = 343.45678901234"}},
		{"nothing", traffic, dec("0"), "0", []string{"0 GB × 0.05 = 0"}},
		{"a tier holds its top", traffic, dec("1000"), "50", []string{"1000 GB × 0.05 = 50"}},
		{"past the top", traffic, dec("1000.000000001"), "50.00000000003", []string{
			"1000 GB × 0.05 = 50", "0.000000001 GB × 0.03 = 0.00000000003", "50 + 0.00000000003 = 50.00000000003"}},
		{"the second top", traffic, dec("10000"), "320", []string{"1000 GB × 0.05 = 50", "9000 GB × 0.03 = 270", "50 + 270 = 320"}},
		{"all of it included", allowed, dec("99"), "0", []string{"99 GB − 99 GB included = 0 GB", "0 GB × 0.05 = 0"}},
		{"just the allowance", allowed, dec("100"), "0", []string{"100 GB − 100 GB included = 0 GB", "0 GB × 0.05 = 0"}},
		{"tiers count from after the allowance", allowed, dec("1100"), "50", []string{"1100 GB − 100 GB included = 1000 GB", "1000 GB × 0.05 = 50"}},
		{"per unit", perUnit, perUnit.Quantity(big.NewInt(3 << 29)), "0.075", []string{"1.5 GiB × 0.05 = 0.075"}},
		{"per unit after an allowance", perUnitAllowed, dec("12"), "0.075", []string{"12 GiB − 10.5 GiB included = 1.5 GiB", "1.5 GiB × 0.05 = 0.075"}},
		{"a month", port, dec("1"), "400", []string{"1 month × 400 = 400"}},
		{"21 of 31 days", port, dec("21").Quo(dec("31")), "270.967741935483870967…", []string{"0.677419354838709677… month × 400 = 270.967741935483870967…"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			amount, steps := c.charge.Rate(c.quantity)
			if amount.String() != c.amount || !slices.Equal(steps, c.steps) {
				t.Errorf("got %s by %q, want %s by %q", amount, steps, c.amount, c.steps)
			}
		})
	}
	if got := [2]string{port.QuantityUnit(), traffic.QuantityUnit()}; got != [2]string{"month", "GB"} {
		t.Errorf("the units are %v", got)
	}
}

// One byte is 2⁻³⁰ GiB, which has thirty digits: shown cut, rated exactly.
func TestRateOfOneByteInGiB(t *testing.T) {
	t.Parallel()
	c := Charge{ID: "t", Kind: KindUsage, Metric: MetricBytesIn, Unit: UnitGiB, Model: ModelPerUnit, UnitPrice: dec("1")}
	amount, _ := c.Rate(c.Quantity(big.NewInt(1)))
	if amount.Mul(domain.DecimalFromInt(1<<30)).Cmp(dec("1")) != 0 {
		t.Errorf("2³⁰ times a byte costs %s, want 1", amount.Mul(domain.DecimalFromInt(1<<30)))
	}
}

func TestFee(t *testing.T) {
	t.Parallel()
	amount, steps := FeeSchedule{BasisPoints: 300}.Rate(domain.Money{Minor: 61443, Currency: "USD"})
	if amount.String() != "18.4329" || !slices.Equal(steps, []string{"614.43 × 3 % = 18.4329"}) {
		t.Errorf("got %s by %q", amount, steps)
	}
	if got := (FeeSchedule{BasisPoints: 325}).Percent(); got != "3.25 %" {
		t.Errorf("325 basis points are %s", got)
	}
}

// For any plan and quantities: graduated agrees with adding up tiny pieces each at the price of its place, more never
// costs less, and one tier is the same as per unit.
func TestRateProperties(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var tiers []Tier
		at := int64(0)
		for range rng.IntN(4) {
			at += 1 + rng.Int64N(20)
			tiers = append(tiers, Tier{top(domain.DecimalFromInt(at).String()), domain.DecimalFromInt(rng.Int64N(50)).Quo(dec("100"))})
		}
		tiers = append(tiers, Tier{nil, domain.DecimalFromInt(rng.Int64N(50)).Quo(dec("100"))})
		c := Charge{ID: "t", Kind: KindUsage, Description: "t", Metric: MetricBytesIn, Unit: UnitGB, Model: ModelGraduated, Tiers: tiers,
			Included: domain.DecimalFromInt(rng.Int64N(10))}
		if err := (Plan{Currency: "USD", Charges: []Charge{c}}).Validate(); err != nil {
			t.Fatal(err)
		}
		var slow, before domain.Decimal
		for q := int64(0); q < 80; q++ {
			amount, _ := c.Rate(domain.DecimalFromInt(q))
			if amount.Cmp(slow) != 0 {
				t.Fatalf("%d units of %+v cost %s, unit by unit %s", q, c, amount, slow)
			}
			if amount.Cmp(before) < 0 {
				t.Fatalf("%d units of %+v cost less than one fewer", q, c)
			}
			before = amount
			// The unit from q to q+1 lies in the first tier whose top is at least q+1, after the allowance.
			if next := domain.DecimalFromInt(q + 1).Sub(c.Included); next.Sign() > 0 {
				i := slices.IndexFunc(tiers, func(t Tier) bool { return t.UpTo == nil || next.Cmp(*t.UpTo) <= 0 })
				slow = slow.Add(tiers[i].Price)
			}
		}
	}
}

func TestRatePanicsOnWhatWasNeverValidated(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"negative quantity": func() { exampleA().Charges[0].Rate(dec("-1")) },
		"unknown kind":      func() { Charge{Kind: "discount"}.Rate(dec("1")) },
		"unknown model":     func() { Charge{Kind: KindUsage, Model: "stairstep"}.Rate(dec("1")) },
		"no bandwidth":      func() { Charge{Kind: KindRecurring, Amounts: []Amount{}}.Rate(dec("1")) },
		"two prices":        func() { Charge{Kind: KindPercentile}.Rate(dec("1")) },
		"no such part":      func() { Charge{Kind: KindPercentile}.RatePart("burst", dec("1")) },
		"a part of another": func() { Charge{Kind: KindUsage}.RatePart(PartCommit, dec("1")) },
		"no unit":           func() { exampleA().Charges[0].Quantity(big.NewInt(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it went on")
				}
			}()
			f()
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	usage := func(change func(*Charge)) Plan {
		p := exampleA()
		change(&p.Charges[1])
		return p
	}
	recurring := func(change func(*Charge)) Plan {
		p := exampleA()
		change(&p.Charges[0])
		return p
	}
	perUnit := func(change func(*Charge)) Plan {
		return usage(func(c *Charge) {
			c.Model, c.Tiers, c.UnitPrice = ModelPerUnit, nil, dec("0.05")
			change(c)
		})
	}
	for _, c := range []struct {
		name   string
		plan   Plan
		fields []string // none: valid
	}{
		{"example A", exampleA(), nil},
		{"per unit", perUnit(func(*Charge) {}), nil},
		{"free", recurring(func(c *Charge) { c.Amount = dec("0") }), nil},
		{"nothing", Plan{}, []string{"/currency", "/charges"}},
		{"currency", Plan{Currency: "XXX", Charges: exampleA().Charges}, []string{"/currency"}},
		{"too many charges", Plan{Currency: "USD", Charges: make([]Charge, MaxCharges+1)}, []string{"/charges"}},
		{"an empty charge", Plan{Currency: "USD", Charges: []Charge{{}}}, []string{"/charges/0/id", "/charges/0/description", "/charges/0/kind"}},
		{"id", recurring(func(c *Charge) { c.ID = "-a" }), []string{"/charges/0/id"}},
		{"the platform's id", recurring(func(c *Charge) { c.ID = FeeChargeID }), []string{"/charges/0/id"}},
		{"id twice", usage(func(c *Charge) { c.ID = "port" }), []string{"/charges/1/id"}},
		{"long id", recurring(func(c *Charge) { c.ID = strings.Repeat("a", MaxChargeID+1) }), []string{"/charges/0/id"}},
		{"kind", recurring(func(c *Charge) { c.Kind = "discount" }), []string{"/charges/0/kind"}},
		{"no amount", recurring(func(c *Charge) { c.Amount = domain.Decimal{} }), []string{"/charges/0/amount"}},
		{"negative amount", recurring(func(c *Charge) { c.Amount = dec("-0.01") }), []string{"/charges/0/amount"}},
		{"largest amount", recurring(func(c *Charge) { c.Amount = domain.DecimalFromInt(MaxAmount) }), nil},
		{"larger amount", recurring(func(c *Charge) { c.Amount = domain.DecimalFromInt(MaxAmount + 1) }), []string{"/charges/0/amount"}},
		{"finer amount", recurring(func(c *Charge) { c.Amount = dec("0.0000000001") }), []string{"/charges/0/amount"}},
		{"fields of the other kind", recurring(func(c *Charge) {
			c.Metric, c.Unit, c.Model, c.UnitPrice, c.Tiers, c.Included = MetricBytesIn, UnitGB, ModelPerUnit, dec("0"), []Tier{}, dec("0")
		}), []string{"/charges/0/metric", "/charges/0/unit", "/charges/0/model", "/charges/0/unit_price", "/charges/0/tiers", "/charges/0/included"}},
		{"amount of usage", usage(func(c *Charge) { c.Amount = dec("1") }), []string{"/charges/1/amount"}},
		{"metric, unit, model", usage(func(c *Charge) { c.Metric, c.Unit, c.Model = "packets", "MB", "stairstep" }),
			[]string{"/charges/1/metric", "/charges/1/unit", "/charges/1/model"}},
		{"negative allowance", usage(func(c *Charge) { c.Included = dec("-1") }), []string{"/charges/1/included"}},
		{"no unit price", perUnit(func(c *Charge) { c.UnitPrice = domain.Decimal{} }), []string{"/charges/1/unit_price"}},
		{"negative unit price", perUnit(func(c *Charge) { c.UnitPrice = dec("-1") }), []string{"/charges/1/unit_price"}},
		{"tiers per unit", perUnit(func(c *Charge) { c.Tiers = []Tier{{nil, dec("1")}} }), []string{"/charges/1/tiers"}},
		{"unit price of tiers", usage(func(c *Charge) { c.UnitPrice = dec("1") }), []string{"/charges/1/unit_price"}},
		{"no tiers", usage(func(c *Charge) { c.Tiers = nil }), []string{"/charges/1/tiers"}},
		{"too many tiers", usage(func(c *Charge) { c.Tiers = make([]Tier, MaxTiers+1) }), []string{"/charges/1/tiers"}},
		{"one tier", usage(func(c *Charge) { c.Tiers = c.Tiers[2:] }), nil},
		{"no top tier", usage(func(c *Charge) { c.Tiers = c.Tiers[:2] }), []string{"/charges/1/tiers/1/up_to"}},
		{"a top tier in the middle", usage(func(c *Charge) { c.Tiers[1].UpTo = nil }), []string{"/charges/1/tiers/1/up_to"}},
		{"tiers out of order", usage(func(c *Charge) { c.Tiers[0], c.Tiers[1] = c.Tiers[1], c.Tiers[0] }), []string{"/charges/1/tiers/1/up_to"}},
		{"the same top twice", usage(func(c *Charge) { c.Tiers[1].UpTo = c.Tiers[0].UpTo }), []string{"/charges/1/tiers/1/up_to"}},
		{"a tier of nothing", usage(func(c *Charge) { c.Tiers[0].UpTo = top("0") }), []string{"/charges/1/tiers/0/up_to"}},
		{"no price of a tier", usage(func(c *Charge) { c.Tiers[2].Price = domain.Decimal{} }), []string{"/charges/1/tiers/2/price"}},
		{"negative price of a tier", usage(func(c *Charge) { c.Tiers[2].Price = dec("-0.01") }), []string{"/charges/1/tiers/2/price"}},
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

// The largest line that limits allow fits a currency with three digits.
func TestLimitsFitMoney(t *testing.T) {
	t.Parallel()
	c := Charge{ID: "t", Kind: KindUsage, Unit: UnitGB, Model: ModelPerUnit, UnitPrice: domain.DecimalFromInt(MaxUnitPrice)}
	amount, _ := c.Rate(domain.DecimalFromInt(MaxUnits))
	if _, err := domain.RoundMoney(amount, "BHD"); err != nil {
		t.Error(err)
	}
}

func TestPlanJSON(t *testing.T) {
	t.Parallel()
	want := `{"currency":"USD","charges":[{"id":"port","kind":"recurring","description":"Port","amount":"400"},` +
		`{"id":"traffic","kind":"usage","description":"Traffic","metric":"bytes_total","unit":"GB","model":"graduated",` +
		`"tiers":[{"up_to":"1000","price":"0.05"},{"up_to":"10000","price":"0.03"},{"price":"0.01"}]}]}`
	if got := scenario.JSON(t, exampleA()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var back Plan
	if err := json.Unmarshal([]byte(want), &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Validate(); err != nil {
		t.Errorf("what was missing in JSON came back as given: %v", err)
	}
}
