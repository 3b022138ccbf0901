package rating

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Buckets are aligned to UTC: the first of a day begins at midnight.
const (
	BucketLength  = 5 * time.Minute
	bucketSeconds = int64(BucketLength / time.Second)
)

// Buckets are the bytes of a connection by 5 minutes, in each direction.
type Buckets struct {
	window  Interval
	first   int64   // the number of the first bucket, counted from 1970
	in, out []int64 // bytes
}

// spare are Buckets of nobody. Those of a month have 140 kB, and a run needs them for one connection after the other.
var spare = sync.Pool{New: func() any { return new(Buckets) }}

// NewBuckets returns the empty buckets of a window. The part of a bucket that is outside of the window stays empty.
func NewBuckets(window Interval) *Buckets {
	b := spare.Get().(*Buckets)
	b.window, b.first = window, floorDiv(window.From.Unix(), bucketSeconds)
	n := int(ceilDiv(window.To.Unix(), bucketSeconds) - b.first)
	b.in, b.out = slices.Grow(b.in[:0], n)[:n], slices.Grow(b.out[:0], n)[:n]
	clear(b.in)
	clear(b.out)
	return b
}

// Discard makes room for other buckets. Nobody may use these any more.
func (b *Buckets) Discard() { spare.Put(b) }

// Add adds a reading, split over the buckets that it crosses in proportion to time, as [Share] does. The order in which
// readings are added never matters. It returns an Internal error for a bucket with more bytes than can be counted.
func (b *Buckets) Add(r Reading) error {
	touched := r.Interval.Intersect(b.window)
	if r.Interval.Empty() { // an instant
		if !within(r, b.window) {
			return nil
		}
		touched = r.Interval
	}
	if touched == (Interval{}) {
		return nil
	}
	inBefore, outBefore := before(r.BytesIn, r.Interval, touched.From), before(r.BytesOut, r.Interval, touched.From)
	for n := floorDiv(touched.From.Unix(), bucketSeconds); ; n++ {
		cut := time.Unix((n+1)*bucketSeconds, 0)
		if !cut.Before(touched.To) {
			cut = touched.To
		}
		in, out := before(r.BytesIn, r.Interval, cut), before(r.BytesOut, r.Interval, cut)
		if r.Interval.Empty() {
			in, out = r.BytesIn, r.BytesOut
		}
		i := n - b.first
		if b.in[i] > math.MaxInt64-(in-inBefore) || b.out[i] > math.MaxInt64-(out-outBefore) {
			return domain.Errorf(domain.Internal, "rating.Buckets.Add", "the 5 minutes from %s have more than 2⁶³ bytes", stamp(time.Unix(n*bucketSeconds, 0))).
				WithHint("look at the readings of that time: no port is so fast")
		}
		b.in[i], b.out[i] = b.in[i]+in-inBefore, b.out[i]+out-outBefore
		inBefore, outBefore = in, out
		if !cut.Before(touched.To) {
			return nil
		}
	}
}

// Number returns the number in the window, from 0, of the bucket that begins at a time, which is aligned.
func (b *Buckets) Number(from time.Time) int {
	return int(floorDiv(from.Unix(), bucketSeconds) - b.first)
}

// AddBucket adds to a bucket of the window, by its number, bytes that were summed before. It returns an Internal error for
// more bytes than can be counted, or a bucket that is not in the window.
func (b *Buckets) AddBucket(n int, in, out int64) error {
	if n < 0 || n >= len(b.in) || b.in[n] > math.MaxInt64-in || b.out[n] > math.MaxInt64-out {
		return domain.Errorf(domain.Internal, "rating.Buckets.AddBucket", "bucket %d can't be counted in the %d of %s", n, len(b.in), b.window)
	}
	b.in[n], b.out[n] = b.in[n]+in, b.out[n]+out
	return nil
}

// Percentile is the 95th percentile of buckets: the bucket at the rank, of each direction apart.
type Percentile struct {
	Buckets int   // how many were ranked, those without a reading among them
	Rank    int   // counted from 1 in ascending order; 0 if there are no buckets
	In, Out int64 // bytes of the bucket at the rank
}

// Span returns n buckets of the window, from a number on, for bytes to be added to that were summed before; nil if they are
// not all in the window.
func (b *Buckets) Span(first, n int) (in, out []int64) {
	if first < 0 || n < 0 || first+n > len(b.in) {
		return nil, nil
	}
	return b.in[first : first+n], b.out[first : first+n]
}

// Percentile returns the 95th percentile of the buckets that begin in one of the intervals, which are apart and in the
// window. It is the element ceil(0.95 × N) of N in ascending order.
func (b *Buckets) Percentile(active []Interval) Percentile {
	var p Percentile
	var in, out [][]int64
	for _, a := range active {
		from, to := ceilDiv(a.From.Unix(), bucketSeconds)-b.first, ceilDiv(a.To.Unix(), bucketSeconds)-b.first
		if from < to {
			in, out = append(in, b.in[from:to]), append(out, b.out[from:to])
			p.Buckets += int(to - from)
		}
	}
	if p.Rank = (95*p.Buckets + 99) / 100; p.Rank > 0 {
		p.In, p.Out = atRank(in, p.Buckets, p.Rank), atRank(out, p.Buckets, p.Rank)
	}
	return p
}

// How atRank takes a sample. Of 64 elements the 95th percentile is off by less than two, most times.
const (
	sampled   = 64
	allowance = 6
	fewest    = 16 * sampled // elements that are worth a sample
)

// atRank returns the element at a rank, from 1, of n in ascending order, and leaves them as they are. A sample says which
// elements are far below the rank, so that most are only counted; where it was wrong, all are looked at.
func atRank(parts [][]int64, n, rank int) int64 {
	least := int64(math.MinInt64)
	if n >= fewest {
		var sample [sampled]int64
		taken, at := 0, 0
		for _, part := range parts {
			for ; at < len(part) && taken < sampled; at += n / sampled {
				sample[taken] = part[at]
				taken++
			}
			at -= min(at, len(part))
		}
		slices.Sort(sample[:taken])
		least = sample[max(0, rank*taken/n-allowance)]
	}
	for {
		high := make([]int64, 0, 2*fewest)
		for _, part := range parts {
			for _, v := range part {
				if v >= least {
					high = append(high, v)
				}
			}
		}
		if below := n - len(high); below < rank {
			return smallest(high, rank-below)
		}
		least = math.MinInt64
	}
}

// smallest returns the element at a rank, from 1, in ascending order, and puts the elements in another order. It narrows
// down the part where the element is, as quicksort does, and sorts what a bad choice of pivots leaves long.
func smallest(of []int64, rank int) int64 {
	for left, k := 2*bits.Len(uint(len(of))), rank-1; ; left-- {
		if len(of) <= 16 || left == 0 {
			slices.Sort(of)
			return of[k]
		}
		a, b, c := of[0], of[len(of)/2], of[len(of)-1]
		pivot := max(min(a, b), min(max(a, b), c)) // the median
		i, j := 0, len(of)-1
		for i <= j {
			for of[i] < pivot {
				i++
			}
			for of[j] > pivot {
				j--
			}
			if i <= j {
				of[i], of[j] = of[j], of[i]
				i, j = i+1, j-1
			}
		}
		switch { // of[:j+1] ≤ pivot ≤ of[i:], and what is between is the pivot
		case k <= j:
			of = of[:j+1]
		case k >= i:
			of, k = of[i:], k-i
		default:
			return pivot
		}
	}
}

// Reach returns the window that the buckets which begin in an interval reach over: past its end, by less than a bucket.
func Reach(i Interval) Interval {
	return Interval{i.From, time.Unix(ceilDiv(i.To.Unix(), bucketSeconds)*bucketSeconds, 0).UTC()}
}

// Active returns what is left of an interval without others, which are within it, apart and in order.
func Active(i Interval, without []Interval) []Interval {
	var left []Interval
	for _, w := range without {
		if before := (Interval{i.From, w.From}); !before.Empty() {
			left = append(left, before)
		}
		i.From = w.To
	}
	if !i.Empty() {
		left = append(left, i)
	}
	return left
}

// mbps returns the rate of a bucket, in 10⁶ bits a second.
func mbps(bytes int64) domain.Decimal {
	return domain.DecimalFromInt(bytes).Mul(domain.DecimalFromInt(8)).Quo(domain.DecimalFromInt(bucketSeconds * 1_000_000))
}

// percentile rates a percentile charge: what was committed to, and what is above it.
func (in Input) percentile(c pricing.Charge, months domain.Decimal, monthSteps []string) ([]Item, error) {
	var items []Item
	for _, part := range c.Parts() {
		item := in.item(c, part)
		bandwidth := c.Committed()
		if part == pricing.PartOverage {
			var steps []string
			bandwidth, steps = in.Percentile.above(c)
			item.Steps = append(item.Steps, steps...)
		}
		item.Steps = append(item.Steps, monthSteps...)
		item.Quantity = bandwidth.Mul(months)
		if len(monthSteps) > 0 {
			item.Steps = append(item.Steps, fmt.Sprintf("%s Mbps × %s %s = %s %s", bandwidth, months, pricing.UnitMonth, item.Quantity, pricing.UnitMbpsMonth))
		}
		exact, steps := c.RatePart(part, item.Quantity)
		item.Steps = append(item.Steps, steps...)
		item, err := item.round(exact, in.Plan.Currency)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// above returns how far the billable rate, the larger of both directions, is above what is committed to.
func (p Percentile) above(c pricing.Charge) (domain.Decimal, []string) {
	if p.Buckets == 0 {
		return domain.DecimalFromInt(0), []string{"no bucket of 5 minutes begins in this time: 0 Mbps"}
	}
	in, out := mbps(p.In), mbps(p.Out)
	billable := in
	if out.Cmp(in) > 0 {
		billable = out
	}
	above := c.Above(billable)
	steps := []string{
		fmt.Sprintf("95th percentile of %d buckets of 5 minutes is number %d in ascending order", p.Buckets, p.Rank),
		fmt.Sprintf("in: %d bytes × 8 ÷ 300 s = %s Mbps", p.In, in),
		fmt.Sprintf("out: %d bytes × 8 ÷ 300 s = %s Mbps", p.Out, out),
	}
	if above.Sign() == 0 {
		return above, append(steps, fmt.Sprintf("the larger, %s Mbps, is not above the committed %d Mbps", billable, c.CommitMbps))
	}
	return above, append(steps, fmt.Sprintf("the larger, %s Mbps − %d Mbps committed = %s Mbps", billable, c.CommitMbps, above))
}

// floorDiv and ceilDiv divide towards −∞ and +∞; b is positive.
func floorDiv(a, b int64) int64 {
	if a >= 0 || a%b == 0 {
		return a / b
	}
	return a/b - 1
}

func ceilDiv(a, b int64) int64 { return -floorDiv(-a, b) }
