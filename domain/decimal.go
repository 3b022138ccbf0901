package domain

import (
	"encoding/json"
	"math/big"
	"strings"
)

// Decimal is an exact number: a unit price, a quantity, a rate. The zero value is 0.
//
// It is kept as an exact rational, because proration divides by the seconds of a period and such quotients have no
// finite decimal form; only what enters or leaves as text must be a finite decimal. Nothing here ever rounds by itself.
type Decimal struct {
	r *big.Rat // nil is zero; never mutated once set
}

// Limits on a decimal's text, far past any price, so that a hostile number cannot cost memory.
const (
	MaxDecimalDigits   = 40 // digits in all
	MaxDecimalFraction = 18 // digits after the point
)

// ParseDecimal reads a plain decimal: digits with an optional sign and an optional fraction, no exponent, no spaces.
// It returns an Invalid error for anything else, and for a number past [MaxDecimalDigits] or [MaxDecimalFraction].
func ParseDecimal(s string) (Decimal, error) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, pointed := strings.Cut(digits, ".")
	if !allDigits(whole) || pointed && !allDigits(fraction) {
		return Decimal{}, Errorf(Invalid, "domain.ParseDecimal", "%.60q is not a decimal number", s).
			WithHint("write it as a string of digits with an optional point, such as \"400.00\"")
	}
	if len(whole)+len(fraction) > MaxDecimalDigits || len(fraction) > MaxDecimalFraction {
		return Decimal{}, Errorf(Invalid, "domain.ParseDecimal", "%.60q has too many digits", s).
			WithHint("at most %d digits, of which %d after the point", MaxDecimalDigits, MaxDecimalFraction)
	}
	r, _ := new(big.Rat).SetString(s)
	return Decimal{r}, nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// MustDecimal is ParseDecimal for constants in programs and tests; it panics on bad input.
func MustDecimal(s string) Decimal {
	d, err := ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

// DecimalFromInt returns n.
func DecimalFromInt(n int64) Decimal { return Decimal{new(big.Rat).SetInt64(n)} }

// DecimalFromBig returns n, which may be changed afterwards.
func DecimalFromBig(n *big.Int) Decimal { return Decimal{new(big.Rat).SetInt(n)} }

func (d Decimal) rat() *big.Rat {
	if d.r == nil {
		return new(big.Rat)
	}
	return d.r
}

// Add returns d + o.
func (d Decimal) Add(o Decimal) Decimal { return Decimal{new(big.Rat).Add(d.rat(), o.rat())} }

// Sub returns d − o.
func (d Decimal) Sub(o Decimal) Decimal { return Decimal{new(big.Rat).Sub(d.rat(), o.rat())} }

// Mul returns d × o.
func (d Decimal) Mul(o Decimal) Decimal { return Decimal{new(big.Rat).Mul(d.rat(), o.rat())} }

// Quo returns d ÷ o, exactly. It panics if o is zero, as integer division does.
func (d Decimal) Quo(o Decimal) Decimal { return Decimal{new(big.Rat).Quo(d.rat(), o.rat())} }

// Ceil returns the least whole number that is not below d.
func (d Decimal) Ceil() Decimal {
	quotient, rest := new(big.Int).QuoRem(d.rat().Num(), d.rat().Denom(), new(big.Int)) // towards zero
	if rest.Sign() > 0 {
		quotient.Add(quotient, big.NewInt(1))
	}
	return DecimalFromBig(quotient)
}

// Cmp returns −1, 0 or +1 as d is less than, equal to or greater than o.
func (d Decimal) Cmp(o Decimal) int { return d.rat().Cmp(o.rat()) }

// Given reports whether d was read or computed: the zero value is 0, but nobody said so. Requests use it to tell a
// missing number from a zero.
func (d Decimal) Given() bool { return d.r != nil }

// Sign returns −1, 0 or +1.
func (d Decimal) Sign() int { return d.rat().Sign() }

// Round returns d times 10^places as an integer, rounded half away from zero.
func (d Decimal) Round(places int) *big.Int {
	scaled := new(big.Rat).Mul(d.rat(), new(big.Rat).SetInt(pow10(places)))
	doubled := new(big.Int).Lsh(new(big.Int).Abs(scaled.Num()), 1) // 2|n|
	doubled.Add(doubled, scaled.Denom())                           // 2|n| + d
	half := doubled.Quo(doubled, new(big.Int).Lsh(scaled.Denom(), 1))
	if scaled.Sign() < 0 {
		half.Neg(half)
	}
	return half
}

// Fits reports whether d has at most the given number of digits after the point.
func (d Decimal) Fits(places int) bool {
	needed, exact := d.rat().FloatPrec() // despite its name a count of decimal digits; no float is made
	return exact && needed <= places
}

// Exact reports whether d has a decimal form with at most [MaxDecimalFraction] digits after the point.
func (d Decimal) Exact() bool {
	_, ok := d.exact()
	return ok
}

func (d Decimal) exact() (string, bool) {
	places, exact := d.rat().FloatPrec() // despite its name a count of decimal digits; no float is made
	if exact && places <= MaxDecimalFraction {
		return d.rat().FloatString(places), true
	}
	// FloatString rounds its last digit. A cut number must not: 2/3 has no 7 in it, and rounding the text once more to
	// a currency's digits has to give what rounding the number gives.
	scaled := new(big.Int).Mul(d.rat().Num(), pow10(MaxDecimalFraction))
	scaled.Quo(scaled, d.rat().Denom()) // towards zero
	cut := new(big.Rat).SetFrac(scaled, pow10(MaxDecimalFraction)).FloatString(MaxDecimalFraction)
	if scaled.Sign() == 0 && d.Sign() < 0 {
		cut = "-" + cut
	}
	return cut, false
}

// String returns the exact decimal form, without trailing zeros in the fraction. A quotient that has none, such as
// 1/3, is cut at [MaxDecimalFraction] digits and ends in "…", so that a shortened number is never taken for an exact one.
func (d Decimal) String() string {
	s, ok := d.exact()
	if !ok {
		s += "…"
	}
	return s
}

// MarshalJSON writes a JSON string. It returns an Internal error for a number that is not [Decimal.Exact]: what is
// stored must be read back the same.
func (d Decimal) MarshalJSON() ([]byte, error) {
	s, ok := d.exact()
	if !ok {
		return nil, Errorf(Internal, "domain.Decimal.MarshalJSON", "%s… has no exact decimal form", s)
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads a JSON string; a JSON number is refused, because parsers on the way may have made it a float.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Errorf(Invalid, "domain.Decimal.UnmarshalJSON", "a decimal must be a JSON string: %w", err)
	}
	parsed, err := ParseDecimal(s)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
