package rating

import (
	"math/big"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Reading is what a meter counted over an interval. In is from the customer into the platform, out is towards the customer.
type Reading struct {
	Interval
	BytesIn, BytesOut int64
}

// Usage is the sum of readings. The zero value is none. Sums have no upper limit: many readings of 63 bits fit.
type Usage struct{ in, out big.Int }

// Add adds the part of a reading that falls in a window, and reports whether the reading touches it at all.
// The order in which readings are added never matters.
func (u *Usage) Add(r Reading, window Interval) bool {
	if !Touches(r, window) {
		return false
	}
	u.in.Add(&u.in, big.NewInt(Share(r.BytesIn, r.Interval, window)))
	u.out.Add(&u.out, big.NewInt(Share(r.BytesOut, r.Interval, window)))
	return true
}

// AddBytes adds bytes that were summed before, of readings that fall in the window as a whole.
func (u *Usage) AddBytes(in, out int64) {
	u.in.Add(&u.in, big.NewInt(in))
	u.out.Add(&u.out, big.NewInt(out))
}

// Touches reports whether a reading shares time with a window, or is an instant in it.
func Touches(r Reading, window Interval) bool {
	return !r.Interval.Intersect(window).Empty() || r.Interval.Empty() && within(r, window)
}

func within(r Reading, window Interval) bool {
	return !r.From.Before(window.From) && r.From.Before(window.To)
}

// In returns the bytes from the customer into the platform.
func (u *Usage) In() *big.Int { return new(big.Int).Set(&u.in) }

// Out returns the bytes towards the customer.
func (u *Usage) Out() *big.Int { return new(big.Int).Set(&u.out) }

// quantity returns the metric of a usage charge in the charge's unit.
func (u *Usage) quantity(c pricing.Charge) (domain.Decimal, []string) {
	var bytes *big.Int
	var words string
	switch c.Metric {
	case pricing.MetricBytesIn:
		bytes, words = u.In(), u.in.String()+" bytes in"
	case pricing.MetricBytesOut:
		bytes, words = u.Out(), u.out.String()+" bytes out"
	case pricing.MetricBytesTotal:
		bytes = new(big.Int).Add(&u.in, &u.out)
		words = u.in.String() + " bytes in + " + u.out.String() + " bytes out"
	default:
		panic("rating: the charge " + c.ID + " has a metric without a rule") // the plan is validated
	}
	quantity := c.Quantity(bytes)
	return quantity, []string{words + " = " + quantity.String() + " " + c.Unit}
}
