package domain

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
)

// Currency is an ISO 4217 alphabetic code.
type Currency string

// minorDigits maps each currency Crossbill bills in to its number of minor-unit digits (ISO 4217, list one).
var minorDigits = map[Currency]int{
	"BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3,
	"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "VND": 0,
	"AED": 2, "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2, "HKD": 2,
	"HUF": 2, "ILS": 2, "INR": 2, "MXN": 2, "NOK": 2, "NZD": 2, "PLN": 2, "RON": 2, "SAR": 2, "SEK": 2, "SGD": 2,
	"THB": 2, "TRY": 2, "TWD": 2, "USD": 2, "ZAR": 2,
}

// Valid reports whether Crossbill bills in c.
func (c Currency) Valid() bool {
	_, ok := minorDigits[c]
	return ok
}

// Digits returns the number of minor-unit digits: 0 for JPY, 2 for USD, 3 for BHD. It panics if c is not [Currency.Valid].
func (c Currency) Digits() int {
	n, ok := minorDigits[c]
	if !ok {
		panic(fmt.Sprintf("domain: currency %q has no known minor unit", string(c)))
	}
	return n
}

// Money is a whole number of a currency's minor units. In JSON it is {"amount":"614.43","currency":"USD"}.
type Money struct {
	Minor    int64
	Currency Currency
}

// RoundMoney rounds an exact amount in major units once, half away from zero, to c's minor unit (the rule of rebill.md,
// "Money"). It returns an Invalid error if the result does not fit 63 bits.
func RoundMoney(amount Decimal, c Currency) (Money, error) {
	minor := amount.Round(c.Digits())
	if minor.BitLen() > 63 { // the least int64 has no negative
		return Money{}, Errorf(Invalid, "domain.RoundMoney", "the amount %s %s is too large", minor, c)
	}
	return Money{minor.Int64(), c}, nil
}

// ParseMoney reads an amount in major units. It returns an Invalid error for an unknown currency or for more digits
// after the point than the currency has: an amount is never rounded by being read.
func ParseMoney(amount string, c Currency) (Money, error) {
	const op = "domain.ParseMoney"
	if !c.Valid() {
		return Money{}, Errorf(Invalid, op, "unknown currency %.10q", string(c)).WithHint("use an ISO 4217 code such as USD")
	}
	d, err := ParseDecimal(amount)
	if err != nil {
		return Money{}, err
	}
	m, err := RoundMoney(d, c)
	if err != nil {
		return Money{}, err
	}
	if m.Decimal().Cmp(d) != 0 {
		return Money{}, Errorf(Invalid, op, "%s has more than %d digits after the point", amount, c.Digits()).
			WithHint("%s amounts have %d", c, c.Digits())
	}
	return m, nil
}

// Decimal returns the amount in major units.
func (m Money) Decimal() Decimal {
	return Decimal{new(big.Rat).SetFrac(big.NewInt(m.Minor), pow10(m.Currency.Digits()))}
}

// Amount returns the amount in major units with all the digits of the currency: "614.43".
func (m Money) Amount() string { return m.Decimal().rat().FloatString(m.Currency.Digits()) }

// String returns amount and currency: "614.43 USD".
func (m Money) String() string {
	if !m.Currency.Valid() {
		return fmt.Sprintf("%d (no currency)", m.Minor)
	}
	return m.Amount() + " " + string(m.Currency)
}

// Add returns m + o. It returns an Internal error if the currencies differ or the sum overflows: either is a defect in
// the caller, and wrong money must stop a computation, not go on.
func (m Money) Add(o Money) (Money, error) {
	const op = "domain.Money.Add"
	if m.Currency != o.Currency {
		return Money{}, Errorf(Internal, op, "cannot add %s to %s", o.Currency, m.Currency)
	}
	sum := m.Minor + o.Minor
	if (sum > m.Minor) != (o.Minor > 0) || sum == math.MinInt64 { // the least int64 has no negative
		return Money{}, Errorf(Internal, op, "the sum of %s and %s is too large", m, o)
	}
	return Money{sum, m.Currency}, nil
}

// Neg returns −m.
func (m Money) Neg() Money { return Money{-m.Minor, m.Currency} }

type moneyJSON struct {
	Amount   string   `json:"amount"`
	Currency Currency `json:"currency"`
}

// MarshalJSON writes {"amount":"614.43","currency":"USD"}.
func (m Money) MarshalJSON() ([]byte, error) {
	if !m.Currency.Valid() {
		return nil, Errorf(Internal, "domain.Money.MarshalJSON", "money without a known currency: %q", string(m.Currency))
	}
	return json.Marshal(moneyJSON{m.Amount(), m.Currency})
}

// UnmarshalJSON reads what MarshalJSON writes; see [ParseMoney] for its errors.
func (m *Money) UnmarshalJSON(b []byte) error {
	var j moneyJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Errorf(Invalid, "domain.Money.UnmarshalJSON", "money must be an object with amount and currency: %w", err)
	}
	parsed, err := ParseMoney(j.Amount, j.Currency)
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
