// Package usage keeps what meters counted as billing needs it: one row for a connection and a day (UTC), with its 288
// buckets of 5 minutes and a digest of the readings they are the sums of. So an invoice reads 31 rows of a connection and
// not the 260 000 readings of a month, and still names every one of them in its evidence.
//
// It never decides what is billed, and is nothing but a fold over the log: thrown away, it is built again ([Store.Rebuild]).
// Start reading at [Day], then [Store.CatchUp].
package usage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
	"time"

	"crossbill/billing/rating"
	"crossbill/domain"
)

// PerDay is how many buckets of [rating.BucketLength] a day has.
const PerDay = int(24 * time.Hour / rating.BucketLength)

// Day is what the readings of one connection say of one day, up to some version of their stream.
type Day struct {
	Start   time.Time // midnight, UTC
	First   int64     // version of the first reading that touches the day
	Last    int64     // and of the last
	Began   int       // how many readings that touch the day began in it
	Carried int       // and how many began before
	// Digest is over the leaf hashes of these readings in the order of their versions: 32 zero bytes, and for each reading
	// SHA-256 of the digest before and its leaf hash.
	Digest  [sha256.Size]byte
	In, Out int64 // bytes of the whole day; those of a reading that goes on into another day are split by time
	buckets []byte
}

// Bucket is what was counted in 5 minutes.
type Bucket struct{ In, Out int64 }

// Interval is the day.
func (d Day) Interval() rating.Interval {
	return rating.Interval{From: d.Start, To: d.Start.Add(24 * time.Hour)}
}

// Buckets calls visit with each bucket that has bytes, in order, by its number in the day, from 0. It returns an Internal
// error for a row that can't be read.
func (d Day) Buckets(visit func(n int, b Bucket) error) error {
	var in, out [PerDay]int64
	if err := d.AddTo(in[:], out[:]); err != nil {
		return err
	}
	for n := range PerDay {
		if b := (Bucket{in[n], out[n]}); b != (Bucket{}) {
			if err := visit(n, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// AddTo adds the day's buckets to those of whoever counts, [PerDay] in each direction. It returns an Internal error for a
// row that can't be read, or more bytes than can be counted.
func (d Day) AddTo(in, out []int64) error {
	const op = "usage.Day.AddTo"
	if len(in) != PerDay || len(out) != PerDay {
		return domain.Errorf(domain.Internal, op, "%s is not in what is counted as a whole", d.Start.Format(time.DateOnly))
	}
	for b, n := d.buckets, 0; len(b) > 0; n++ {
		empty, received, sent, size := next(b)
		if size == 0 {
			return domain.Errorf(domain.Internal, op, "the buckets of %s are cut off", d.Start.Format(time.DateOnly)).WithHint(rebuild)
		}
		b = b[size:]
		if n += int(min(empty, uint64(PerDay))); n >= PerDay {
			return domain.Errorf(domain.Internal, op, "%s has a bucket %d", d.Start.Format(time.DateOnly), n).WithHint(rebuild)
		}
		if received > uint64(MaxBytes-in[n]) || sent > uint64(MaxBytes-out[n]) {
			return domain.Errorf(domain.Internal, op, "bucket %d of %s has 2⁶³ bytes or more", n, d.Start.Format(time.DateOnly)).WithHint(rebuild)
		}
		in[n], out[n] = in[n]+int64(received), out[n]+int64(sent)
	}
	return nil
}

const rebuild = "build the usage store again: crossbill projections rebuild usage_days"

// DayOf returns the midnight before a time.
func DayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// Days calls visit with each day that a reading touches. One that ends at midnight does not touch the day that begins then.
func Days(r rating.Interval, visit func(start time.Time)) {
	for day := DayOf(r.From); ; day = day.Add(24 * time.Hour) {
		visit(day)
		if !day.Add(24 * time.Hour).Before(r.To) {
			return
		}
	}
}

// Chain adds one more leaf hash to a digest.
func Chain(digest, leaf [sha256.Size]byte) [sha256.Size]byte {
	var both [2 * sha256.Size]byte
	copy(both[:], digest[:])
	copy(both[sha256.Size:], leaf[:])
	return sha256.Sum256(both[:])
}

// Count adds a reading that touches the day to its digest; bytes are not looked at. Readings must come in the order of
// their versions.
func (d *Day) Count(r rating.Interval, version int64, leaf [sha256.Size]byte) {
	if d.First == 0 {
		d.First = version
	}
	d.Last = version
	if r.From.Before(d.Start) {
		d.Carried++
	} else {
		d.Began++
	}
	d.Digest = Chain(d.Digest, leaf)
}

// Digest collects the readings of some days as evidence: how many they are, in which versions, and one digest for all.
type Digest struct {
	First, Last int64
	Count       int // each reading once, however many of the days it touches
	h           [sha256.Size]byte
}

// Add adds a day. Days must come in order. A reading that began in an earlier day of them is counted there.
func (d *Digest) Add(day Day) {
	if d.Count == 0 {
		d.First, d.Count = day.First, day.Carried
	}
	d.First, d.Last = min(d.First, day.First), max(d.Last, day.Last)
	d.Count += day.Began
	line := day.Start.Format(time.DateOnly) + " " + hex.EncodeToString(day.Digest[:]) + "\n"
	d.h = sha256.Sum256(append(d.h[:], line...))
}

// String returns the digest in lower-case hexadecimal: 32 zero bytes, and for each day SHA-256 of the digest before and
// the line "YYYY-MM-DD digest\n".
func (d *Digest) String() string { return hex.EncodeToString(d.h[:]) }

// adding is a day that readings are added to.
type adding struct {
	Day
	sums [PerDay]Bucket
}

// add adds the part of a reading that falls in the day. Readings must come in the order of their versions. More bytes than
// can be counted are [MaxBytes]: the readings of one connection must not keep those of all others from being counted.
func (a *adding) add(r rating.Reading, version int64, leaf [sha256.Size]byte) {
	a.Count(r.Interval, version, leaf)
	from, to := r.From, r.To
	if from.Before(a.Start) {
		from = a.Start
	}
	if end := a.Start.Add(24 * time.Hour); to.After(end) {
		to = end
	}
	for cut := from; ; {
		n := int(cut.Sub(a.Start) / rating.BucketLength)
		window := rating.Interval{From: a.Start.Add(time.Duration(n) * rating.BucketLength)}
		window.To = window.From.Add(rating.BucketLength)
		in, out := rating.Share(r.BytesIn, r.Interval, window), rating.Share(r.BytesOut, r.Interval, window)
		if r.Interval.Empty() {
			in, out = r.BytesIn, r.BytesOut
		}
		a.In, a.Out = atMost(a.In, in), atMost(a.Out, out)
		a.sums[n].In, a.sums[n].Out = atMost(a.sums[n].In, in), atMost(a.sums[n].Out, out)
		if cut = window.To; !cut.Before(to) {
			return
		}
	}
}

// MaxBytes is what a day or a bucket holds that has as many bytes or more.
const MaxBytes = math.MaxInt64

// atMost adds numbers that are not negative, in whatever order, up to [MaxBytes].
func atMost(a, b int64) int64 {
	if a > MaxBytes-b {
		return MaxBytes
	}
	return a + b
}

// Check returns a Conflict for a day with more bytes than can be counted, which can't be billed.
func (d Day) Check() error {
	if d.In < MaxBytes && d.Out < MaxBytes {
		return nil
	}
	return domain.Errorf(domain.Conflict, "usage.Day.Check", "%s has 2⁶³ bytes or more", d.Start.Format(time.DateOnly)).
		WithHint("look at the readings of that day: no port is so fast, so they must overlap")
}

// encode writes the buckets that have bytes: how many empty ones are before it, bytes in, bytes out, each as a varint.
func (a *adding) encode() []byte {
	var b []byte
	empty := uint64(0)
	for _, s := range a.sums {
		if s == (Bucket{}) {
			empty++
			continue
		}
		b = binary.AppendUvarint(b, empty)
		b = binary.AppendUvarint(b, uint64(s.In))
		b = binary.AppendUvarint(b, uint64(s.Out))
		empty = 0
	}
	return b
}

// next reads the bucket at the start of b: how many empty ones are before it, its bytes, and how long it is; 0 if it is cut off.
func next(b []byte) (empty, in, out uint64, size int) {
	if len(b) > 17 && b[0] == 0 { // nearly all: none is empty before it, and numbers have at most 8 bytes
		in, first := short(binary.LittleEndian.Uint64(b[1:]))
		out, second := short(binary.LittleEndian.Uint64(b[1+first:]))
		if first <= 8 && second <= 8 {
			return 0, in, out, 1 + first + second
		}
	}
	empty, first := binary.Uvarint(b)
	in, second := binary.Uvarint(b[max(first, 0):])
	out, third := binary.Uvarint(b[max(first, 0)+max(second, 0):])
	if first <= 0 || second <= 0 || third <= 0 {
		return 0, 0, 0, 0
	}
	return empty, in, out, first + second + third
}

// short reads a varint of at most 8 bytes, and how long it is; 9 if it is longer.
func short(x uint64) (v uint64, size int) {
	ends := ^x & 0x8080808080808080 // the byte that ends it has no top bit
	x &= ends ^ (ends - 1)          // what is up to there; then the 7 bits of each byte are drawn together
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	return x&0x000000000fffffff | x&0x0fffffff00000000>>4, bits.TrailingZeros64(ends)/8 + 1
}
