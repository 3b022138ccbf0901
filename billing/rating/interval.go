package rating

import (
	"math/bits"
	"time"
)

// Interval is the time [From, To), UTC.
type Interval struct{ From, To time.Time }

// Empty reports whether no time is in it.
func (i Interval) Empty() bool { return !i.From.Before(i.To) }

// Seconds returns its length. It is exact for intervals of whole seconds.
func (i Interval) Seconds() int64 { return i.To.Unix() - i.From.Unix() }

// Equal reports whether both hold the same time.
func (i Interval) Equal(o Interval) bool { return i.From.Equal(o.From) && i.To.Equal(o.To) }

// Intersect returns the time that is in both, or the zero Interval if none is.
func (i Interval) Intersect(o Interval) Interval {
	if o.From.After(i.From) {
		i.From = o.From
	}
	if o.To.Before(i.To) {
		i.To = o.To
	}
	if i.Empty() {
		return Interval{}
	}
	return i
}

func (i Interval) wholeSeconds() bool { return i.From.Nanosecond() == 0 && i.To.Nanosecond() == 0 }

func (i Interval) String() string { return "[" + stamp(i.From) + ", " + stamp(i.To) + ")" }

// BillableIn returns the part of a period in which a connection is charged that accrues from an instant until another,
// or until now if there is none. Both are cut to the second that they fall in: proration counts whole seconds, and one
// second may not be billed twice when a connection stops and its successor starts within it. So up to a second before
// the first packet is charged for, and up to a second before the stop is not. It returns the zero Interval if nothing
// is left.
func BillableIn(period Interval, from time.Time, to *time.Time) Interval {
	billable := Interval{from.UTC().Truncate(time.Second), period.To}
	if to != nil {
		billable.To = to.UTC().Truncate(time.Second)
	}
	return billable.Intersect(period)
}

// Share returns how many of the bytes that were counted over an interval fall in a window, by time. It is the
// difference of two whole numbers, the bytes before the window's end and those before its start, each cut to the byte:
// however an interval is cut up, the parts sum to the whole, and what the cutting leaves over goes to the later part.
// Bytes counted over no time belong to the window that holds the instant. Bytes must not be negative.
func Share(bytes int64, counted, window Interval) int64 {
	return before(bytes, counted, window.To) - before(bytes, counted, window.From)
}

// before returns how many of the bytes fall before an instant.
func before(bytes int64, counted Interval, cut time.Time) int64 {
	switch {
	case !cut.After(counted.From):
		return 0
	case !cut.Before(counted.To):
		return bytes
	}
	// Nanoseconds × bytes passes 63 bits within a day, hence 128. The quotient is less than bytes, so it fits.
	hi, lo := bits.Mul64(uint64(cut.Sub(counted.From)), uint64(bytes))
	part, _ := bits.Div64(hi, lo, uint64(counted.To.Sub(counted.From)))
	return int64(part)
}
