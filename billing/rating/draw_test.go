package rating

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// draw makes what the properties are held over of bytes: those that a fuzzer found, or random ones. When they run out, all
// that is drawn is the least.
type draw struct{ data []byte }

// upTo draws a number of [0, n).
func (d *draw) upTo(n int64) int64 {
	size := 1
	for limit := int64(1 << 8); size < 8 && limit < n; size, limit = size+1, limit<<8 {
	}
	var b [8]byte
	copy(b[8-size:], d.data[:min(size, len(d.data))])
	d.data = d.data[min(size, len(d.data)):]
	return int64(binary.BigEndian.Uint64(b[:]) % uint64(n))
}

func (d *draw) yes() bool { return d.upTo(2) == 1 }

// size draws a number of [0, limit] of any size: as many bits as are drawn first.
func (d *draw) size(limit int64) int64 { return min(limit, d.upTo(int64(1)<<d.upTo(63))) }

// decimal draws a number of [0, limit] with up to nine digits after the point, as a plan may have.
func (d *draw) decimal(limit int64) domain.Decimal {
	places := d.upTo(pricing.MaxFraction + 1)
	scale := domain.DecimalFromInt(int64(pow(10, places)))
	n := domain.DecimalFromInt(d.size(int64(1) << 40)).Quo(scale)
	if most := domain.DecimalFromInt(limit); n.Cmp(most) > 0 {
		return most
	}
	return n
}

func pow(base, n int64) int64 {
	v := int64(1)
	for range n {
		v *= base
	}
	return v
}

// currencies have 0, 2 and 3 digits.
var currencies = []domain.Currency{"JPY", "USD", "BHD"}

func (d *draw) currency() domain.Currency { return currencies[d.upTo(3)] }

// month draws a billing period: a month of 28 to 31 days.
func (d *draw) month() Interval {
	from := date(2024, time.January+time.Month(d.upTo(36)), 1)
	return Interval{from, from.AddDate(0, 1, 0)}
}

// within draws a part of an interval, whole seconds, or all of it.
func (d *draw) within(i Interval) Interval {
	if d.yes() {
		return i
	}
	from := i.From.Add(time.Duration(d.upTo(i.Seconds())) * time.Second)
	return Interval{from, from.Add(time.Duration(1+d.upTo(int64(i.To.Sub(from)/time.Second))) * time.Second)}
}

// parts cuts an interval into at most n.
func (d *draw) parts(i Interval, n int64) (all []Interval) {
	cuts := []time.Time{i.From, i.To}
	for range 1 + d.upTo(n-1) {
		cuts = append(cuts, i.From.Add(time.Duration(d.upTo(i.Seconds()))*time.Second))
	}
	slices.SortFunc(cuts, time.Time.Compare)
	cuts = slices.CompactFunc(cuts, time.Time.Equal)
	for k := range cuts[1:] {
		all = append(all, Interval{cuts[k], cuts[k+1]})
	}
	return all
}

// readings draws readings of any length around a period, some of them instants, some across its ends.
func (d *draw) readings(period Interval) (all []Reading) {
	for range 1 + d.upTo(12) {
		from := period.From.Add(time.Duration(d.upTo(int64(period.To.Sub(period.From)+48*time.Hour))) - 24*time.Hour)
		length := []time.Duration{0, 1, time.Second, 10 * time.Second, 5 * time.Minute, 7*time.Minute + 1, 26 * time.Hour}[d.upTo(7)]
		all = append(all, Reading{Interval{from, from.Add(length)}, d.size(1 << 50), d.size(1 << 50)})
	}
	return all
}

// charge draws a charge of any kind but the minimum.
func (d *draw) charge(id string) pricing.Charge {
	c := pricing.Charge{ID: id, Description: id}
	switch d.upTo(4) {
	case 0:
		c.Kind, c.Amount = pricing.KindOneTime, d.decimal(pricing.MaxAmount)
	case 1:
		c.Kind, c.Amount = pricing.KindRecurring, d.decimal(pricing.MaxAmount)
		if d.yes() {
			c.Amounts, c.Amount = []pricing.Amount{{BandwidthMbps: 100, Amount: c.Amount}, {BandwidthMbps: 1000, Amount: d.decimal(pricing.MaxAmount)}}, domain.Decimal{}
		}
	case 2:
		c.Kind, c.OveragePrice = pricing.KindPercentile, d.decimal(pricing.MaxUnitPrice)
		if c.CommitMbps = int(d.size(domain.MaxMbps)); c.CommitMbps > 0 {
			c.CommitPrice = d.decimal(pricing.MaxUnitPrice)
		}
	case 3:
		return d.usage(id)
	}
	return c
}

func (d *draw) usage(id string) pricing.Charge {
	c := pricing.Charge{ID: id, Description: id, Kind: pricing.KindUsage}
	c.Metric = []string{pricing.MetricBytesIn, pricing.MetricBytesOut, pricing.MetricBytesTotal}[d.upTo(3)]
	c.Unit = []string{pricing.UnitGB, pricing.UnitGiB}[d.upTo(2)]
	if d.yes() {
		c.Included = d.decimal(pricing.MaxUnits)
	}
	switch d.upTo(4) {
	case 0:
		c.Model, c.UnitPrice = pricing.ModelPerUnit, d.decimal(1000)
	case 1:
		c.Model, c.Tiers = pricing.ModelGraduated, d.tiers()
	case 2:
		c.Model, c.Tiers = pricing.ModelVolume, d.tiers()
	case 3:
		c.Model, c.PackagePrice = pricing.ModelPackage, d.decimal(1000)
		c.PackageSize = domain.DecimalFromInt(1).Add(d.decimal(pricing.MaxUnits / 2))
	}
	return c
}

// tiers draws tiers whose prices rise, fall or do as they like.
func (d *draw) tiers() (all []pricing.Tier) {
	order, last := d.upTo(3), domain.Decimal{}
	for range d.upTo(5) {
		top := last.Add(domain.MustDecimal("0.000000001")).Add(d.decimal(10_000_000))
		all, last = append(all, pricing.Tier{UpTo: &top}), top
	}
	all = append(all, pricing.Tier{})
	prices := make([]domain.Decimal, len(all))
	for n := range prices {
		prices[n] = d.decimal(1000)
	}
	if order > 0 {
		slices.SortFunc(prices, domain.Decimal.Cmp)
	}
	if order > 1 {
		slices.Reverse(prices)
	}
	for n := range all {
		all[n].Price = prices[n]
	}
	return all
}

// plan draws a valid plan.
func (d *draw) plan(t testing.TB) pricing.Plan {
	p := pricing.Plan{Currency: d.currency()}
	if d.yes() {
		p.WhileSuspended = pricing.SuspendedNotBilled
	}
	for n := range 1 + d.upTo(4) {
		p.Charges = append(p.Charges, d.charge(fmt.Sprintf("c%d", n)))
	}
	if p.Has(pricing.KindUsage) && d.yes() {
		least := pricing.Charge{ID: "least", Kind: pricing.KindMinimum, Description: "least", Amount: d.decimal(pricing.MaxAmount)}
		p.Charges = slices.Insert(p.Charges, int(d.upTo(int64(len(p.Charges)+1))), least)
	}
	if err := p.Validate(); err != nil {
		t.Fatalf("the plan that was drawn is not valid: %v", err)
	}
	return p
}

// sale is a connection in a period: what it is sold as, when it was suspended, and what was counted.
type sale struct {
	plan       pricing.Plan
	mbps       int
	period     Interval
	month      Interval // what is charged of the period
	segment    Interval // what of the month is charged by the plan; the rest is another's
	parts      []Interval
	pauses     []Interval
	readings   []Reading
	activation bool
}

func (d *draw) sale(t testing.TB) sale {
	s := sale{plan: d.plan(t), period: d.month(), mbps: []int{100, 1000}[d.upTo(2)], activation: d.yes()}
	s.month = d.within(s.period)
	s.segment = d.within(s.month)
	s.parts = d.parts(s.segment, 6)
	for n, part := range d.parts(s.period, 6) {
		if n%2 == 1 {
			s.pauses = append(s.pauses, part)
		}
	}
	s.readings = d.readings(s.period)
	return s
}

// input is what a part of the segment is rated by.
func (s sale) input(t testing.TB, part Interval) Input {
	t.Helper()
	in := Input{
		ConnectionID: "con_test", Plan: s.plan, BandwidthMbps: s.mbps, Period: s.period, Billable: part, Month: s.month,
		Activation: s.activation && part.From.Equal(s.segment.From),
	}
	for _, pause := range s.pauses {
		if p := pause.Intersect(part); !p.Empty() {
			in.Suspended = append(in.Suspended, p)
		}
	}
	buckets := NewBuckets(part)
	for _, r := range s.readings {
		in.Usage.Add(r, part)
		if err := buckets.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	in.Percentile = buckets.Percentile(Active(part, in.paused()))
	return in
}

// rated rates it, and holds every item to its one rounding. It skips what is past the range of money.
func rated(t testing.TB, in Input) []Item {
	t.Helper()
	items, err := Rate(in)
	if domain.CodeOf(err) == domain.Invalid {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		checkRounded(t, i)
	}
	return items
}

// checkRounded holds an amount to the whole number of minor units that is nearest to the exact one, and of two that are as
// near to that further from zero.
func checkRounded(t testing.TB, i Item) {
	t.Helper()
	minor := domain.DecimalFromInt(pow(10, int64(i.Amount.Currency.Digits())))
	off := i.Amount.Decimal().Sub(i.Exact).Mul(minor).Mul(domain.DecimalFromInt(2))
	if one := domain.DecimalFromInt(1); i.Exact.Sign() < 0 || off.Cmp(domain.DecimalFromInt(-1)) <= 0 || off.Cmp(one) > 0 {
		t.Fatalf("%s is %s exactly and billed %s", i.ChargeID, i.Exact, i.Amount)
	}
}

// seed is that of the random sales of this run; one that fails is held again with -seed.
var seed = flag.Uint64("seed", 0, "of the random properties; 0: a new one each run")

// properties are what every sale is held to, by name.
var properties = map[string]func(t *testing.T, d *draw){
	"a split sums to the whole":                       splitSums,
	"even usage is split without a trace":             evenUsage,
	"the order of readings never matters":             anyOrder,
	"more usage never costs less":                     moreUsage,
	"models are what they say":                        models,
	"a minimum is kept to the minor unit":             minimumKept,
	"a fee is of the sum, whatever its parts":         feeOfTheSum,
	"the percentile is the least that 95 % are up to": ranked,
}

// TestProperties holds every property over random sales, new ones each run.
func TestProperties(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for name, check := range properties {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range uint64(100) {
				ok := t.Run(fmt.Sprint("seed ", first+n), func(t *testing.T) { check(t, &draw{random(first + n)}) })
				if !ok {
					t.Fatalf("go test ./billing/rating -run TestProperties -seed %d", first+n)
				}
			}
		})
	}
}

// fuzz is the same for a fuzzer, from a few fixed seeds.
func fuzz(f *testing.F, check func(t *testing.T, d *draw)) {
	f.Helper()
	for seed := range uint64(20) {
		f.Add(random(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, &draw{data}) })
}

func random(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 600)
	for n := range b {
		b[n] = byte(rng.Uint32())
	}
	return b
}
