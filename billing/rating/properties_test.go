package rating

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

func FuzzSplitSums(f *testing.F)   { fuzz(f, splitSums) }
func FuzzEvenUsage(f *testing.F)   { fuzz(f, evenUsage) }
func FuzzAnyOrder(f *testing.F)    { fuzz(f, anyOrder) }
func FuzzMoreUsage(f *testing.F)   { fuzz(f, moreUsage) }
func FuzzModels(f *testing.F)      { fuzz(f, models) }
func FuzzMinimumKept(f *testing.F) { fuzz(f, minimumKept) }
func FuzzFeeOfTheSum(f *testing.F) { fuzz(f, feeOfTheSum) }
func FuzzRanked(f *testing.F)      { fuzz(f, ranked) }

// shape is how a charge's price goes with what it is a price of.
type shape int

const (
	linear  shape = iota // in time or in usage
	rising               // the more, the dearer the next unit: an allowance before a price, tiers that rise
	falling              // tiers that fall, without an allowance
	once                 // charged at the activation alone
	blocks
	other // volume tiers, tiers that rise and fall, a minimum
)

func shapeOf(c pricing.Charge) shape {
	switch c.Kind {
	case pricing.KindOneTime:
		return once
	case pricing.KindRecurring, pricing.KindPercentile:
		return linear
	case pricing.KindMinimum:
		return other
	}
	free := c.Included.Sign() > 0
	switch c.Model {
	case pricing.ModelPackage:
		return blocks
	case pricing.ModelPerUnit:
		if free {
			return rising
		}
		return linear
	case pricing.ModelGraduated:
		up := slices.IsSortedFunc(c.Tiers, func(a, b pricing.Tier) int { return a.Price.Cmp(b.Price) })
		down := slices.IsSortedFunc(c.Tiers, func(a, b pricing.Tier) int { return b.Price.Cmp(a.Price) })
		switch {
		case up && down && !free:
			return linear
		case up:
			return rising
		case down && !free:
			return falling
		}
	}
	return other
}

func (s sale) chargeOf(i Item) pricing.Charge {
	return s.plan.Charges[slices.IndexFunc(s.plan.Charges, func(c pricing.Charge) bool { return c.ID == i.ChargeID })]
}

// key names an item whatever part of the month it is of.
func key(i Item) string { return i.ChargeID + " " + i.Part }

// sums adds up the items of the parts.
func sums(t *testing.T, parts [][]Item) (exact map[string]domain.Decimal, minor map[string]int64) {
	t.Helper()
	exact, minor = make(map[string]domain.Decimal), make(map[string]int64)
	ids := make(map[string]bool)
	for _, items := range parts {
		for _, i := range items {
			exact[key(i)] = exact[key(i)].Add(i.Exact)
			minor[key(i)] += i.Amount.Minor
			if ids[i.ID] {
				t.Fatalf("two parts have an item %s", i.ID)
			}
			ids[i.ID] = true
		}
	}
	return exact, minor
}

// splitSums: what is sold by one plan for a while costs the same however that while is cut, whatever the plan before and
// after it.
//
// Before rounding a linear charge costs exactly the same. Each of n parts is rounded by more than −½ and at most ½ of a minor
// unit, and so is the whole: n rounded parts differ from the rounded whole by less than (n+1)/2, which is at most ⌊n/2⌋ minor
// units, and can be as much (TestRoundingBound). Where more is dearer, a cut never makes a charge cheaper, for each part has
// its share of the allowance and of the tiers (Jensen's inequality); where more is cheaper, never dearer. n parts start no
// fewer blocks than the whole and, without an allowance, at most n − 1 more.
func splitSums(t *testing.T, d *draw) {
	s := d.sale(t)
	whole := s.input(t, s.segment)
	items := rated(t, whole)
	var all [][]Item
	for _, part := range s.parts {
		in := s.input(t, part)
		in.Percentile = whole.Percentile // what it is of is no sum
		all = append(all, rated(t, in))
	}
	exact, minor := sums(t, all)
	n := int64(len(s.parts))
	drift := int64(0) // of the usage lines, in minor units
	allLinear := true
	for _, i := range items {
		c, sum := s.chargeOf(i), exact[key(i)]
		compared := sum.Cmp(i.Exact)
		fail := func(rule string) {
			t.Fatalf("%s: %s %s of %+v in %d parts is %s, not %s", rule, i.ChargeID, i.Part, c, n, sum, i.Exact)
		}
		if c.Kind == pricing.KindUsage {
			drift += n / 2
			allLinear = allLinear && shapeOf(c) == linear
		}
		switch shapeOf(c) {
		case linear:
			if compared != 0 {
				fail("linear")
			}
			if off := minor[key(i)] - i.Amount.Minor; off > n/2 || off < -n/2 {
				t.Fatalf("%d parts of %s are %d minor units off", n, i.ChargeID, off)
			}
		case once:
			if compared != 0 || minor[key(i)] != i.Amount.Minor {
				fail("once")
			}
		case rising:
			if compared < 0 {
				fail("rising")
			}
		case falling:
			if compared > 0 {
				fail("falling")
			}
		case blocks:
			most := c.PackagePrice.Mul(domain.DecimalFromInt(n - 1)).Add(i.Exact)
			if compared < 0 || sum.Cmp(most) > 0 && c.Included.Sign() == 0 {
				fail("blocks")
			}
		}
	}
	for _, i := range items { // a minimum is missed in each part or in none of the whole
		slack := domain.Money{Minor: drift, Currency: s.plan.Currency}
		if c := s.chargeOf(i); c.Kind == pricing.KindMinimum && allLinear && exact[key(i)].Add(slack.Decimal()).Cmp(i.Exact) < 0 {
			t.Fatalf("a minimum of %s in %d parts is trued up by %s, not %s", c.Amount, n, exact[key(i)], i.Exact)
		}
	}
}

// TestRoundingBound: the bound on what rounding each part does to a sum is reached, and by no more.
func TestRoundingBound(t *testing.T) {
	t.Parallel()
	day := Interval{date(2026, 3, 1), date(2026, 3, 2)}
	for n := int64(1); n <= 12; n++ {
		in := Input{ConnectionID: "con_test", Plan: plan("JPY", perUnit(pricing.MetricBytesTotal, pricing.UnitGB, "1", "")), Period: march, Billable: day, Month: day}
		in.Usage.AddBytes(n*500_000_000, 0)
		whole := rated(t, in)[0].Amount.Minor
		sum := int64(0)
		for k := range n {
			part := in
			part.Billable = Interval{day.From.Add(time.Duration(k) * time.Hour), day.From.Add(time.Duration(k+1) * time.Hour)}
			part.Usage = Usage{}
			part.Usage.AddBytes(500_000_000, 0) // half a yen
			sum += rated(t, part)[0].Amount.Minor
		}
		if sum-whole != n/2 {
			t.Errorf("%d parts are %d minor units off, and can be %d", n, sum-whole, n/2)
		}
	}
}

// evenUsage: where usage is even in time, a cut changes nothing before rounding, in any model but that of blocks: every part
// reaches in its tiers what the whole reaches in its own.
func evenUsage(t *testing.T, d *draw) {
	s := d.sale(t)
	in, out := d.size(1<<30), d.size(1<<30) // bytes a second
	rate := func(part Interval) []Item {
		i := s.input(t, part)
		i.Usage = Usage{}
		i.Usage.AddBytes(in*part.Seconds(), out*part.Seconds())
		return rated(t, i)
	}
	var all [][]Item
	for _, part := range s.parts {
		all = append(all, rate(part))
	}
	exact, _ := sums(t, all)
	for _, i := range rate(s.segment) {
		if c := s.chargeOf(i); c.Kind == pricing.KindUsage && shapeOf(c) != blocks && exact[key(i)].Cmp(i.Exact) != 0 {
			t.Fatalf("%+v in %d parts is %s, not %s", c, len(s.parts), exact[key(i)], i.Exact)
		}
	}
}

// anyOrder: the same readings in another order make the same items, to the last word of their arithmetic; and rating them
// changes nothing that it was given.
func anyOrder(t *testing.T, d *draw) {
	s := d.sale(t)
	before := fmt.Sprint(s.plan, s.pauses)
	want := fmt.Sprint(rated(t, s.input(t, s.segment)))
	rand.New(rand.NewPCG(uint64(d.size(1<<62)), 1)).Shuffle(len(s.readings), func(i, j int) { s.readings[i], s.readings[j] = s.readings[j], s.readings[i] })
	if got := fmt.Sprint(rated(t, s.input(t, s.segment))); got != want {
		t.Fatalf("in another order\n%s\nnot\n%s", got, want)
	}
	if after := fmt.Sprint(s.plan, s.pauses); after != before {
		t.Fatalf("rating made of\n%s\nthis\n%s", before, after)
	}
}

// moreUsage: a reading more never makes a charge cheaper, exactly or rounded, but that of volume tiers whose price falls; and
// it changes no charge that is not of usage. A minimum's true-up falls by no more than the usage rises.
func moreUsage(t *testing.T, d *draw) {
	s := d.sale(t)
	less := s.input(t, s.segment)
	s.readings = append(s.readings, d.readings(s.period)...)
	more := s.input(t, s.segment)
	a, b := rated(t, less), rated(t, more)
	if len(a) != len(b) {
		t.Fatalf("%d items became %d", len(a), len(b))
	}
	total := func(items []Item) (minor int64) {
		for _, i := range items {
			if k := s.chargeOf(i).Kind; k == pricing.KindUsage || k == pricing.KindMinimum {
				minor += i.Amount.Minor
			}
		}
		return minor
	}
	cheaper := false
	for n := range a {
		c := s.chargeOf(a[n])
		switch {
		case c.Kind == pricing.KindMinimum:
			continue
		case c.Kind != pricing.KindUsage && a[n].Part != pricing.PartOverage:
			if a[n].Exact.Cmp(b[n].Exact) != 0 {
				t.Fatalf("%s went from %s to %s with usage", c.ID, a[n].Exact, b[n].Exact)
			}
		case b[n].Exact.Cmp(a[n].Exact) < 0:
			cheaper = true
			if c.Model != pricing.ModelVolume || s.tierOf(c, more).Price.Cmp(s.tierOf(c, less).Price) >= 0 {
				t.Fatalf("%+v costs %s for %s and %s for %s", c, a[n].Exact, a[n].Quantity, b[n].Exact, b[n].Quantity)
			}
		case b[n].Amount.Minor < a[n].Amount.Minor:
			t.Fatalf("%s and %s are rounded to %s and %s", a[n].Exact, b[n].Exact, a[n].Amount, b[n].Amount)
		}
	}
	if !cheaper && total(b) < total(a) {
		t.Fatalf("usage and its minimum went from %d to %d minor units", total(a), total(b))
	}
}

// tierOf returns the volume tier that an input's quantity reaches.
func (s sale) tierOf(c pricing.Charge, in Input) pricing.Tier {
	quantity := s.quantity(c, in)
	for _, tier := range c.Tiers {
		if tier.UpTo == nil || quantity.Cmp(tier.UpTo.Mul(s.share(in))) <= 0 {
			return tier
		}
	}
	panic("no tier")
}

// share is the part of the month that an input is of.
func (s sale) share(in Input) domain.Decimal {
	return domain.DecimalFromInt(in.Billable.Seconds()).Quo(domain.DecimalFromInt(s.month.Seconds()))
}

// quantity is what of an input's bytes a charge is for, in its unit, after its allowance.
func (s sale) quantity(c pricing.Charge, in Input) domain.Decimal {
	bytes := new(big.Int)
	if c.Metric != pricing.MetricBytesOut {
		bytes.Add(bytes, in.Usage.In())
	}
	if c.Metric != pricing.MetricBytesIn {
		bytes.Add(bytes, in.Usage.Out())
	}
	unit := int64(1_000_000_000)
	if c.Unit == pricing.UnitGiB {
		unit = 1 << 30
	}
	rest := domain.DecimalFromBig(bytes).Quo(domain.DecimalFromInt(unit)).Sub(c.Included.Mul(s.share(in)))
	if rest.Sign() < 0 {
		return domain.Decimal{}
	}
	return rest
}

// models: every charge comes to what the rebill document says, computed here another way.
func models(t *testing.T, d *draw) {
	s := d.sale(t)
	in := s.input(t, s.segment)
	active := s.segment.Seconds()
	if s.plan.WhileSuspended == pricing.SuspendedNotBilled {
		for _, p := range s.pauses {
			if p = p.Intersect(s.segment); !p.Empty() {
				active -= p.Seconds()
			}
		}
	}
	months := domain.DecimalFromInt(active).Quo(domain.DecimalFromInt(s.period.Seconds()))
	s.check(t, in, months)
	for _, c := range s.plan.Charges { // and where a tier ends, to the byte
		if c.Unit != pricing.UnitGB || !s.segment.Equal(s.month) {
			continue
		}
		for _, tier := range c.Tiers {
			if tier.UpTo == nil {
				continue
			}
			top := tier.UpTo.Add(c.Included).Round(pricing.MaxFraction).Int64() // in bytes
			for at := top - 1; at <= top+1; at++ {
				in.Usage = Usage{}
				switch c.Metric {
				case pricing.MetricBytesOut:
					in.Usage.AddBytes(0, at)
				default:
					in.Usage.AddBytes(at, 0)
				}
				s.check(t, in, months)
			}
		}
	}
}

// check holds the items of an input to what they come to by another way of computing.
func (s sale) check(t *testing.T, in Input, months domain.Decimal) {
	t.Helper()
	for _, i := range rated(t, in) {
		c := s.chargeOf(i)
		var want domain.Decimal
		switch {
		case c.Kind == pricing.KindMinimum:
			continue
		case c.Kind == pricing.KindOneTime:
			want = amountOf(c, s.mbps)
		case c.Kind == pricing.KindRecurring:
			want = amountOf(c, s.mbps).Mul(months)
		case i.Part == pricing.PartCommit:
			want = domain.DecimalFromInt(int64(c.CommitMbps)).Mul(c.CommitPrice).Mul(months)
		case i.Part == pricing.PartOverage:
			bits := domain.DecimalFromInt(max(in.Percentile.In, in.Percentile.Out)).Mul(domain.DecimalFromInt(8))
			if above := bits.Quo(domain.DecimalFromInt(300_000_000)).Sub(domain.DecimalFromInt(int64(c.CommitMbps))); above.Sign() > 0 {
				want = above.Mul(c.OveragePrice).Mul(months)
			}
		case c.Model == pricing.ModelPerUnit:
			want = s.quantity(c, in).Mul(c.UnitPrice)
		case c.Model == pricing.ModelVolume:
			want = s.quantity(c, in).Mul(s.tierOf(c, in).Price)
		case c.Model == pricing.ModelPackage:
			want = s.quantity(c, in).Quo(c.PackageSize).Ceil().Mul(c.PackagePrice)
		case c.Model == pricing.ModelGraduated:
			// The price of each tier is paid for all that is above the tier before, less that of the tier before.
			var last, below domain.Decimal
			for _, tier := range c.Tiers {
				if above := s.quantity(c, in).Sub(below); above.Sign() > 0 {
					want = want.Add(above.Mul(tier.Price.Sub(last)))
				}
				if last = tier.Price; tier.UpTo != nil {
					below = tier.UpTo.Mul(s.share(in))
				}
			}
		}
		if i.Exact.Cmp(want) != 0 {
			t.Fatalf("%s %s of %+v is %s, not %s", i.ChargeID, i.Part, c, i.Exact, want)
		}
	}
}

func amountOf(c pricing.Charge, mbps int) domain.Decimal {
	for _, a := range c.Amounts {
		if a.BandwidthMbps == mbps {
			return a.Amount
		}
	}
	return c.Amount
}

// ranked: 95 of 100 buckets, rounded up, are not above the percentile, and it is the least of which that is so.
func ranked(t *testing.T, d *draw) {
	start := date(2026, 3, 1).Add(time.Duration(d.upTo(86400)) * time.Second)
	window := Interval{start, start.Add(time.Duration(1+d.upTo(36*300)) * time.Second)}
	buckets := NewBuckets(window)
	var all []Reading
	for range 1 + d.upTo(30) {
		from := start.Add(time.Duration(d.upTo(36*300)) * time.Second)
		r := Reading{Interval{from, from.Add(time.Duration(d.upTo(1200)) * time.Second)}, d.size(1 << 40), d.size(1 << 40)}
		if all = append(all, r); buckets.Add(r) != nil {
			t.Fatal("it can't be counted")
		}
	}
	active := []Interval{window}
	if cuts := d.parts(window, 3); len(cuts) == 3 {
		active = []Interval{cuts[0], cuts[2]}
	}
	var in, out []int64
	first := window.From.Truncate(BucketLength)
	for from := first; from.Before(window.To); from = from.Add(BucketLength) {
		if !slices.ContainsFunc(active, func(a Interval) bool { return !from.Before(a.From) && from.Before(a.To) }) {
			continue
		}
		var u Usage
		for _, r := range all {
			u.Add(r, Interval{from, from.Add(BucketLength)}.Intersect(window))
		}
		in, out = append(in, u.In().Int64()), append(out, u.Out().Int64())
	}
	p := buckets.Percentile(active)
	if p.Buckets != len(in) {
		t.Fatalf("%d buckets, not %d", p.Buckets, len(in))
	}
	for _, of := range []struct {
		buckets []int64
		at      int64
	}{{in, p.In}, {out, p.Out}} {
		below, upTo := 0, 0
		for _, b := range of.buckets {
			if b < of.at {
				below++
			}
			if b <= of.at {
				upTo++
			}
		}
		if len(of.buckets) > 0 && (100*upTo < 95*len(of.buckets) || 100*below >= 95*len(of.buckets)) {
			t.Fatalf("%d of %d buckets are up to the percentile %d, and %d below: %v", upTo, len(of.buckets), of.at, below, of.buckets)
		}
	}
}

// minimumKept: usage, rounded line by line, and its true-up come to the minimum of the time, rounded, or to the usage if that
// is more: to the minor unit.
func minimumKept(t *testing.T, d *draw) {
	s := d.sale(t)
	s.plan.Charges = append(slices.DeleteFunc(s.plan.Charges, func(c pricing.Charge) bool { return c.Kind == pricing.KindMinimum }),
		d.usage("more"), pricing.Charge{ID: "least", Kind: pricing.KindMinimum, Description: "least", Amount: d.decimal(pricing.MaxAmount)})
	in := s.input(t, s.segment)
	months, _ := in.months()
	least, err := domain.RoundMoney(s.plan.Charges[len(s.plan.Charges)-1].Amount.Mul(months), s.plan.Currency)
	if err != nil {
		t.Fatal(err)
	}
	usage, trueUp := int64(0), int64(0)
	for _, i := range rated(t, in) {
		switch s.chargeOf(i).Kind {
		case pricing.KindUsage:
			usage += i.Amount.Minor
		case pricing.KindMinimum:
			trueUp = i.Amount.Minor
		}
	}
	if usage+trueUp != max(usage, least.Minor) {
		t.Fatalf("%d minor units of usage and %d more are not the larger of the usage and %d", usage, trueUp, least.Minor)
	}
}

// feeOfTheSum: a fee is one share of the sum of the lines, whatever their order and however a month was cut; it is held to
// its bounds, grows with the sum, and is nothing where all that is charged is free.
func feeOfTheSum(t *testing.T, d *draw) {
	currency := d.currency()
	amount := func(limit int64) domain.Money { return domain.Money{Minor: d.size(limit), Currency: currency} }
	schedule := pricing.FeeSchedule{BasisPoints: int(d.size(pricing.MaxBasisPoints))}
	floor, most := amount(1<<40), domain.Money{Minor: 1 << 62, Currency: currency}
	if d.yes() {
		schedule.Floors = []domain.Money{floor}
		if d.yes() {
			most.Minor = floor.Minor + d.size(1<<40)
			schedule.Caps = []domain.Money{most}
		}
	} else {
		floor.Minor = 0
	}
	if d.yes() {
		schedule.FreePassthrough = []domain.Money{amount(1 << 40)}
	}
	used := pricing.FreeUse{Connections: 1, Passthrough: amount(1 << 40)}
	var lines []Item
	for range 1 + d.upTo(6) {
		lines = append(lines, Item{Amount: amount(1 << 50)})
	}
	in := Input{ConnectionID: "con_test", Plan: pricing.Plan{Currency: currency}, Period: march, Billable: march}
	fee := func(parts ...[]Item) Item {
		var all []Rated
		for _, p := range parts {
			all = append(all, Rated{in, schedule, p})
		}
		f, err := Fee(all, used)
		if err != nil {
			t.Fatal(err)
		}
		checkRounded(t, f)
		return f
	}
	whole := fee(lines)
	passthrough := int64(0)
	for _, l := range lines {
		passthrough += l.Amount.Minor
	}
	left := int64(0)
	if schedule.FreePassthrough != nil {
		left = max(0, schedule.FreePassthrough[0].Minor-used.Passthrough.Minor)
	}
	switch {
	case left > 0 && passthrough <= left:
		if whole.Amount.Minor != 0 {
			t.Fatalf("all of %d is free, and bears a fee of %s", passthrough, whole.Amount)
		}
	case whole.Amount.Minor < floor.Minor || whole.Amount.Minor > most.Minor:
		t.Fatalf("a fee of %s, held to %s and %s", whole.Amount, floor, most)
	default:
		share := domain.Money{Minor: passthrough - min(left, passthrough), Currency: currency}.Decimal().
			Mul(domain.DecimalFromInt(int64(schedule.BasisPoints))).Quo(domain.DecimalFromInt(10_000))
		if share.Cmp(floor.Decimal()) >= 0 && share.Cmp(most.Decimal()) <= 0 && share.Cmp(whole.Exact) != 0 {
			t.Fatalf("a fee of %s, not %s", whole.Exact, share)
		}
	}
	cut := int(d.upTo(int64(len(lines) + 1)))
	if split := fee(lines[:cut], lines[cut:]); split.Exact.Cmp(whole.Exact) != 0 {
		t.Fatalf("in two parts %s, not %s", split.Exact, whole.Exact)
	}
	reversed := slices.Clone(lines)
	slices.Reverse(reversed)
	if other := fee(reversed); other.Exact.Cmp(whole.Exact) != 0 {
		t.Fatalf("in another order %s, not %s", other.Exact, whole.Exact)
	}
	if larger := fee(append(lines, Item{Amount: amount(1 << 50)})); larger.Amount.Minor < whole.Amount.Minor {
		t.Fatalf("%s with a line more, and %s without", larger.Amount, whole.Amount)
	}
}
