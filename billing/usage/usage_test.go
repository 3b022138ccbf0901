package usage

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crossbill/billing/rating"
	"crossbill/domain"
)

func day(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }

// days adds readings to the days that they touch, as a step of the store does.
func days(t *testing.T, readings []rating.Reading) map[time.Time]*adding {
	t.Helper()
	all := make(map[time.Time]*adding)
	for n, r := range readings {
		Days(r.Interval, func(start time.Time) {
			if all[start] == nil {
				all[start] = &adding{Day: Day{Start: start}}
			}
			all[start].add(r, int64(n+1), sha256.Sum256([]byte{byte(r.BytesIn)}))
		})
	}
	return all
}

func TestDays(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		from, to time.Time
		want     []time.Time
	}{
		{"within a day", day(3).Add(time.Hour), day(3).Add(2 * time.Hour), []time.Time{day(3)}},
		{"a whole day", day(3), day(4), []time.Time{day(3)}},
		{"a nanosecond into the next", day(3), day(4).Add(1), []time.Time{day(3), day(4)}},
		{"three days", day(3).Add(-1), day(4).Add(1), []time.Time{day(2), day(3), day(4)}},
		{"an instant at midnight", day(3), day(3), []time.Time{day(3)}},
		{"a zone that is ahead", day(3).Add(-time.Hour).In(time.FixedZone("", 7200)), day(3).In(time.FixedZone("", 7200)), []time.Time{day(2)}},
	} {
		var got []time.Time
		Days(rating.Interval{From: test.from, To: test.to}, func(start time.Time) { got = append(got, start) })
		if !slices.EqualFunc(got, test.want, time.Time.Equal) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestSplitOverMidnight: integer bytes, and what is left over goes to the later bucket and day.
func TestSplitOverMidnight(t *testing.T) {
	t.Parallel()
	all := days(t, []rating.Reading{{Interval: rating.Interval{From: day(2).Add(-time.Minute), To: day(2).Add(time.Minute)}, BytesIn: 101, BytesOut: 1}})
	early, late := all[day(1)], all[day(2)]
	if early.In != 50 || early.Out != 0 || late.In != 51 || late.Out != 1 {
		t.Errorf("%d and %d before midnight, %d and %d after", early.In, early.Out, late.In, late.Out)
	}
	if early.sums[PerDay-1] != (Bucket{50, 0}) || late.sums[0] != (Bucket{51, 1}) {
		t.Errorf("the buckets are %v and %v", early.sums[PerDay-1], late.sums[0])
	}
	if early.Began != 1 || early.Carried != 0 || late.Began != 0 || late.Carried != 1 {
		t.Errorf("it began %d, %d times", early.Began, late.Began)
	}
}

// FuzzDays: each bucket has the bytes that fall in it by time, a day those of its buckets, and all days those of the
// readings, to the byte; in whatever order they came. What is written is read back the same.
func FuzzDays(f *testing.F) {
	for seed := range uint64(28) { // up to the most bytes that it looks at
		f.Add(seed, int64(1)<<(seed*2), int64(seed)*7_000_000_001, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, bytes, length int64, n uint8) {
		if bytes < 0 || bytes > 1<<55 || length < 0 || length > int64(72*time.Hour) {
			t.Skip()
		}
		r := rand.New(rand.NewPCG(seed, 1))
		var readings []rating.Reading
		var in, out int64
		for range 1 + n%40 {
			from := day(2).Add(time.Duration(r.Int64N(int64(48 * time.Hour))))
			if r.IntN(4) == 0 {
				from = from.Truncate(rating.BucketLength)
			}
			i := rating.Interval{From: from, To: from.Add(time.Duration(r.Int64N(length + 1)))}
			readings = append(readings, rating.Reading{Interval: i, BytesIn: r.Int64N(bytes + 1), BytesOut: r.Int64N(bytes + 1)})
			in, out = in+readings[len(readings)-1].BytesIn, out+readings[len(readings)-1].BytesOut
		}
		all := days(t, readings)
		for start, d := range all {
			var sum Bucket
			for n, b := range d.sums {
				from := start.Add(time.Duration(n) * rating.BucketLength)
				window := rating.Interval{From: from, To: from.Add(rating.BucketLength)}
				var want Bucket
				for _, r := range readings {
					if rating.Touches(r, window) {
						want.In, want.Out = want.In+rating.Share(r.BytesIn, r.Interval, window), want.Out+rating.Share(r.BytesOut, r.Interval, window)
					}
				}
				if b != want {
					t.Fatalf("the bucket from %s has %v, not %v", from, b, want)
				}
				sum.In, sum.Out = sum.In+b.In, sum.Out+b.Out
			}
			if sum != (Bucket{d.In, d.Out}) {
				t.Fatalf("the buckets of %s sum to %v, and the day has %d and %d", start, sum, d.In, d.Out)
			}
			in, out = in-d.In, out-d.Out
			var read [PerDay]Bucket
			if err := (Day{buckets: d.encode()}).Buckets(func(n int, b Bucket) error { read[n] = b; return nil }); err != nil || read != d.sums {
				t.Fatalf("%s is read back as %v (%v)", start, read, err)
			}
		}
		if in != 0 || out != 0 {
			t.Fatalf("%d and %d bytes are in no day", in, out)
		}
		slices.Reverse(readings)
		for start, d := range days(t, readings) {
			if d.sums != all[start].sums || d.In != all[start].In || d.Out != all[start].Out || d.Began != all[start].Began {
				t.Fatalf("%s depends on the order of readings", start)
			}
		}
	})
}

// FuzzDecode: whatever a row holds, it is read as it was written, or refused.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5})
	f.Add(binary.AppendUvarint(nil, math.MaxUint64))
	f.Add([]byte{0x9f, 0x02, 1, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, row []byte) {
		var a adding
		last := -1
		err := (Day{buckets: row}).Buckets(func(n int, b Bucket) error {
			if n <= last || n >= PerDay || b.In < 0 || b.Out < 0 {
				t.Fatalf("bucket %d after %d has %v", n, last, b)
			}
			last, a.sums[n] = n, b
			return nil
		})
		if err != nil {
			if domain.CodeOf(err) != domain.Internal {
				t.Fatal(err)
			}
			return
		}
		var again adding
		if err := (Day{buckets: a.encode()}).Buckets(func(n int, b Bucket) error { again.sums[n] = b; return nil }); err != nil || again.sums != a.sums {
			t.Fatalf("read again it is %v (%v)", again.sums, err)
		}
	})
}

// TestTooManyBytesOfADay: readings that overlap without end fill their own day, and are told of when it is billed.
func TestTooManyBytesOfADay(t *testing.T) {
	t.Parallel()
	full := rating.Reading{Interval: rating.Interval{From: day(1), To: day(1).Add(time.Second)}, BytesIn: MaxBytes - 1}
	all := days(t, []rating.Reading{full})
	if err := all[day(1)].Check(); err != nil {
		t.Errorf("2⁶³ − 2 bytes: %v", err)
	}
	over := days(t, []rating.Reading{full, {Interval: rating.Interval{From: day(1).Add(time.Hour), To: day(1).Add(2 * time.Hour)}, BytesIn: 1}, full})[day(1)]
	if err := over.Check(); domain.CodeOf(err) != domain.Conflict || over.In != MaxBytes || over.sums[0].In != MaxBytes {
		t.Errorf("more than can be counted: %d bytes, %v", over.In, err)
	}
	var read Bucket
	if err := (Day{buckets: over.encode()}).Buckets(func(n int, b Bucket) error { read.In = max(read.In, b.In); return nil }); err != nil || read.In != MaxBytes {
		t.Errorf("it is read back as %d (%v)", read.In, err)
	}
}

// TestDigest: a digest depends on each reading and their order, and counts one that goes on into another day once.
func TestDigest(t *testing.T) {
	t.Parallel()
	readings := []rating.Reading{
		{Interval: rating.Interval{From: day(1).Add(23 * time.Hour), To: day(2).Add(time.Hour)}, BytesIn: 1},
		{Interval: rating.Interval{From: day(2), To: day(2).Add(time.Hour)}, BytesIn: 2},
	}
	all := days(t, readings)
	var both, second Digest
	both.Add(all[day(1)].Day)
	both.Add(all[day(2)].Day)
	second.Add(all[day(2)].Day)
	if both.Count != 2 || second.Count != 2 || both.First != 1 || both.Last != 2 || both.String() == second.String() {
		t.Errorf("both days %+v, the second %+v", both, second)
	}
	slices.Reverse(readings)
	if other := days(t, readings); other[day(2)].Digest == all[day(2)].Digest {
		t.Error("the digest does not depend on the order of the log")
	}
}

// TestLongNumbers: buckets of more bytes than 8 bytes of a varint hold are read as those of fewer are.
func TestLongNumbers(t *testing.T) {
	t.Parallel()
	var a, read adding
	for n := range a.sums {
		a.sums[n] = Bucket{1 << (n % 63), MaxBytes >> (n % 61)}
	}
	if err := (Day{buckets: a.encode()}).Buckets(func(n int, b Bucket) error { read.sums[n] = b; return nil }); err != nil || read.sums != a.sums {
		t.Errorf("it is read back as %v (%v)", read.sums, err)
	}
}
