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

var april = Interval{date(2026, 4, 1), date(2026, 5, 1)}

// burst is the plan of the rebill document's worked example B.
func burst() pricing.Plan {
	return plan("USD", pricing.Charge{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100,
		CommitPrice: domain.MustDecimal("2.00"), OveragePrice: domain.MustDecimal("3.00")})
}

// bucketBytes returns the bytes of a bucket at a rate in Mbps.
func bucketBytes(mbps int64) int64 { return mbps * 1_000_000 * 300 / 8 }

// TestExampleB is the rebill document's worked example B, digit for digit, with the buckets in any order.
func TestExampleB(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		high                       int // buckets at 400 Mbps
		rate, commit, over, detail string
	}{
		{433, "400", "200.00 USD", "900.00 USD", "the larger, 400 Mbps − 100 Mbps committed = 300 Mbps"},
		{432, "80", "200.00 USD", "0.00 USD", "the larger, 90 Mbps, is not above the committed 100 Mbps"},
	} {
		in := make([]int64, 8640)
		for n := range in {
			in[n] = bucketBytes(80)
			if n < test.high {
				in[n] = bucketBytes(400)
			}
		}
		rand.New(rand.NewPCG(7, 8)).Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
		buckets := NewBuckets(april)
		for n, bytes := range in {
			from := april.From.Add(time.Duration(n) * BucketLength)
			if err := buckets.Add(Reading{Interval{from, from.Add(BucketLength)}, bytes, bucketBytes(90)}); err != nil {
				t.Fatal(err)
			}
		}
		p := buckets.Percentile([]Interval{april})
		if p.Buckets != 8640 || p.Rank != 8208 || mbps(p.In).String() != test.rate || mbps(p.Out).String() != "90" {
			t.Errorf("%+v is %s and %s Mbps", p, mbps(p.In), mbps(p.Out))
		}
		items, err := Rate(Input{ConnectionID: "con_test", Plan: burst(), BandwidthMbps: 1000, Period: april, Billable: april, Percentile: p})
		if err != nil || len(items) != 2 {
			t.Fatalf("%d items (%v)", len(items), err)
		}
		if items[0].Part != pricing.PartCommit || items[0].Amount.String() != test.commit || items[1].Part != pricing.PartOverage || items[1].Amount.String() != test.over {
			t.Errorf("%s and %s", items[0].Amount, items[1].Amount)
		}
		if items[0].ID == items[1].ID || !slices.Contains(items[1].Steps, test.detail) ||
			items[1].Steps[0] != "95th percentile of 8640 buckets of 5 minutes is number 8208 in ascending order" {
			t.Errorf("the steps are\n%s", strings.Join(items[1].Steps, "\n"))
		}
	}
}

// TestBuckets holds readings to the buckets that they are split over.
func TestBuckets(t *testing.T) {
	t.Parallel()
	midnight := april.From
	type bucket struct {
		n       int
		in, out int64
	}
	for _, test := range []struct {
		name     string
		window   Interval
		from, to time.Duration // after midnight
		in, out  int64
		want     []bucket
	}{
		{"one bucket", april, 0, BucketLength, 10, 20, []bucket{{0, 10, 20}}},
		{"an instant", april, BucketLength, BucketLength, 10, 20, []bucket{{1, 10, 20}}},
		{"halves, the odd byte to the later", april, 4 * time.Minute, 6 * time.Minute, 11, 1, []bucket{{0, 5, 0}, {1, 6, 1}}},
		{"thirds over three", april, 4 * time.Minute, 11 * time.Minute, 100, 0, []bucket{{0, 14, 0}, {1, 71, 0}, {2, 15, 0}}}, // 1, 5 and 1 minutes: 14.28, 85.71
		{"from the month before", april, -time.Minute, time.Minute, 3, 0, []bucket{{0, 2, 0}}},
		{"before", april, -time.Minute, 0, 3, 3, nil},
		{"to the month after", april, 30*24*time.Hour - time.Minute, 30*24*time.Hour + time.Minute, 3, 1, []bucket{{8639, 1, 0}}},
		{"a window inside a bucket", Interval{midnight.Add(time.Minute), midnight.Add(2 * time.Minute)}, 0, 4 * time.Minute, 100, 4, []bucket{{0, 25, 1}}},
	} {
		b := NewBuckets(test.window)
		if err := b.Add(Reading{Interval{midnight.Add(test.from), midnight.Add(test.to)}, test.in, test.out}); err != nil {
			t.Fatal(err)
		}
		var got []bucket
		for n := range b.in {
			if b.in[n] != 0 || b.out[n] != 0 {
				got = append(got, bucket{n, b.in[n], b.out[n]})
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	b := NewBuckets(april)
	full := Reading{Interval{midnight, midnight.Add(time.Minute)}, 1<<63 - 1, 0}
	if err := b.Add(full); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(full); domain.CodeOf(err) != domain.Internal {
		t.Errorf("more than can be counted: %v", err)
	}
}

// TestPercentileCounts: N are the buckets that begin in the time asked for, and the rank is ceil(0.95 × N).
func TestPercentileCounts(t *testing.T) {
	t.Parallel()
	minutes := func(from, to float64) Interval { // of the first of April
		at := func(m float64) time.Time { return april.From.Add(time.Duration(m * float64(time.Minute))) }
		return Interval{at(from), at(to)}
	}
	for _, test := range []struct {
		name          string
		active        []Interval
		buckets, rank int
		in            int64
	}{
		{"the whole month", []Interval{april}, 8640, 8208, 0},
		{"an hour from a bucket's start", []Interval{minutes(0, 60)}, 12, 12, 11},
		{"one that ends in a bucket has all of it", []Interval{minutes(0, 61)}, 13, 13, 12},
		{"one that begins in a bucket has nothing of it", []Interval{minutes(1, 60)}, 11, 11, 11},
		{"inside one bucket", []Interval{minutes(1, 5)}, 0, 0, 0},
		{"one bucket", []Interval{minutes(0, 1)}, 1, 1, 0},
		{"twenty", []Interval{minutes(0, 100)}, 20, 19, 18},
		{"twenty-one", []Interval{minutes(0, 105)}, 21, 20, 19},
		{"with a hole", []Interval{minutes(0, 50), minutes(60, 110)}, 20, 19, 20},
		{"with a hole inside a bucket", []Interval{minutes(0, 51), minutes(54, 60)}, 12, 12, 11},
		{"nothing", nil, 0, 0, 0},
	} {
		b := NewBuckets(april)
		for n := range 30 { // the nth bucket has n bytes, from the first on
			b.in[n] = int64(n)
		}
		if p := b.Percentile(test.active); p != (Percentile{test.buckets, test.rank, test.in, 0}) {
			t.Errorf("%s: %+v", test.name, p)
		}
	}
}

// Readings cut up anywhere, in any order, fill the buckets with the same sums; no byte is lost.
func FuzzBuckets(f *testing.F) {
	f.Add(uint64(1), int64(1<<40), uint32(1000), uint32(86_400))
	f.Fuzz(func(t *testing.T, seed uint64, bytes int64, from, length uint32) {
		if bytes < 0 {
			t.Skip()
		}
		start := april.From.Add(time.Duration(from%2_000_000) * time.Second)
		whole := Reading{Interval{start, start.Add(time.Duration(1+length%500_000) * time.Second)}, bytes, bytes / 3}
		rng := rand.New(rand.NewPCG(seed, 1))
		cut := whole.From.Add(time.Duration(rng.Int64N(int64(whole.To.Sub(whole.From)))))
		early, late := Interval{whole.From, cut}, Interval{cut, whole.To}
		parts := []Reading{
			{early, Share(whole.BytesIn, whole.Interval, early), Share(whole.BytesOut, whole.Interval, early)},
			{late, Share(whole.BytesIn, whole.Interval, late), Share(whole.BytesOut, whole.Interval, late)},
		}
		fill := func(readings ...Reading) (in, out int64) {
			b := NewBuckets(april)
			for _, r := range readings {
				if err := b.Add(r); err != nil {
					t.Fatal(err)
				}
			}
			for n := range b.in {
				in, out = in+b.in[n], out+b.out[n]
			}
			return in, out
		}
		in, out := fill(whole)
		if in != whole.BytesIn || out != whole.BytesOut { // all of it is in April
			t.Errorf("%d and %d bytes of %d and %d", in, out, whole.BytesIn, whole.BytesOut)
		}
		in1, out1 := fill(parts...)
		in2, out2 := fill(parts[1], parts[0])
		if in1 != in || out1 != out || in2 != in || out2 != out {
			t.Errorf("in parts %d and %d, or %d and %d", in1, out1, in2, out2)
		}
	})
}

// The order of readings never matters to a percentile, and more traffic never makes it smaller.
func TestPercentileProperties(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 10))
	for range 30 {
		readings := make([]Reading, 300)
		for i := range readings {
			from := april.From.Add(time.Duration(rng.Int64N(int64(2 * time.Hour))))
			readings[i] = Reading{Interval{from, from.Add(time.Duration(1 + rng.Int64N(int64(20*time.Minute))))}, rng.Int64N(1 << 40), rng.Int64N(1 << 40)}
		}
		active := []Interval{{april.From, april.From.Add(150 * time.Minute)}}
		fill := func(readings []Reading) Percentile {
			b := NewBuckets(april)
			for _, r := range readings {
				if err := b.Add(r); err != nil {
					t.Fatal(err)
				}
			}
			return b.Percentile(active)
		}
		want := fill(readings)
		fewer := fill(readings[:200])
		rng.Shuffle(len(readings), func(i, j int) { readings[i], readings[j] = readings[j], readings[i] })
		if got := fill(readings); got != want || want.In == 0 {
			t.Fatalf("%+v in another order, not %+v", got, want)
		}
		if fewer.In > want.In || fewer.Out > want.Out {
			t.Fatalf("%+v with less, %+v with more", fewer, want)
		}
	}
}

// TestSmallest holds the choice of an element to sorting, on numbers that quicksort finds easy and hard.
func TestSmallest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(95, 100))
	for name, at := range map[string]func(n, of int) int64{
		"random": func(int, int) int64 { return random.Int64() },
		"few":    func(int, int) int64 { return random.Int64N(3) },
		"equal":  func(int, int) int64 { return 7 },
		"up":     func(n, _ int) int64 { return int64(n) },
		"down":   func(n, _ int) int64 { return -int64(n) },
		"pipe":   func(n, of int) int64 { return int64(min(n, of-n)) },
		"saw":    func(n, _ int) int64 { return int64(n % 17) },
	} {
		for _, of := range []int{1, 2, 16, 17, 18, 100, 999, 8640} {
			all := make([]int64, of)
			for n := range all {
				all[n] = at(n, of)
			}
			sorted := slices.Sorted(slices.Values(all))
			for _, rank := range []int{1, (of + 1) / 2, (95*of + 99) / 100, of} {
				if got := smallest(slices.Clone(all), rank); got != sorted[rank-1] {
					t.Errorf("%s: number %d of %d is %d, and should be %d", name, rank, of, got, sorted[rank-1])
				}
			}
		}
	}
}

// TestDiscardedBuckets: whoever gets what another has discarded finds nothing in it.
func TestDiscardedBuckets(t *testing.T) {
	t.Parallel()
	for range 100 {
		b := NewBuckets(april)
		if b.in[7] != 0 || b.out[7] != 0 {
			t.Fatalf("new buckets hold %d and %d bytes", b.in[7], b.out[7])
		}
		if err := b.AddBucket(7, 1, 2); err != nil {
			t.Fatal(err)
		}
		b.Discard()
	}
}
