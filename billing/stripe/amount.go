package stripe

import (
	"math"
	"strings"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
)

// Currencies that Stripe's API counts in other units than ISO 4217 (docs.stripe.com/currencies, "Special cases").
const (
	// twoDigits is the factor to Stripe's units for a currency without a minor unit that its API still counts in
	// hundredths: 5 ISK are 500.
	twoDigits = 100
	// lastDigitZero: Stripe takes three digits, the last of which must be 0.
	lastDigitZero = 10
)

// minorUnits returns an amount in the units of Stripe's API: those of ISO 4217, but ISK in hundredths, and currencies
// with three digits in steps of ten. An amount is never rounded to fit: the payer would pay another sum than the invoice says.
func minorUnits(m domain.Money) (int64, error) {
	const op = "stripe.minorUnits"
	switch {
	case !m.Currency.Valid():
		return 0, domain.Errorf(domain.Invalid, op, "unknown currency %.10q", string(m.Currency))
	case m.Minor <= 0:
		return 0, domain.Errorf(domain.Invalid, op, "%s is nothing to pay", m)
	case m.Currency == "ISK" && m.Minor > math.MaxInt64/twoDigits:
		return 0, domain.Errorf(domain.Invalid, op, "%s is more than Stripe can take", m)
	case m.Currency == "ISK":
		return m.Minor * twoDigits, nil
	case m.Currency.Digits() == 3 && m.Minor%lastDigitZero != 0:
		return 0, domain.Errorf(domain.Invalid, op, "Stripe can't take %s: the last digit must be 0", m).
			WithHint("have it paid by bank transfer, or price in steps of 0.01 %s", m.Currency)
	}
	return m.Minor, nil
}

// movable returns what of an amount Stripe can move: all of it, but in a currency with three digits for the last. The rest
// stays owed, is moved together with what comes to it, and is a finding until then ([RestOwed]).
func movable(m domain.Money) domain.Money {
	if m.Minor != 0 && m.Currency.Digits() == 3 {
		m.Minor -= m.Minor % lastDigitZero
	}
	return m
}

// fromMinorUnits is the other way round. It returns an Internal error for a currency that is not billed in, and for one that
// [minorUnits] can't have made: no part of an amount is left out.
func fromMinorUnits(amount int64, currency stripe.Currency) (domain.Money, error) {
	m := domain.Money{Minor: amount, Currency: domain.Currency(strings.ToUpper(string(currency)))}
	if !m.Currency.Valid() || m.Currency == "ISK" && amount%twoDigits != 0 {
		return domain.Money{}, domain.Errorf(domain.Internal, "stripe.fromMinorUnits", "Stripe has %d %.10q, which is no amount here", amount, string(currency))
	}
	if m.Currency == "ISK" {
		m.Minor /= twoDigits
	}
	return m, nil
}

// currencyOf is a currency as Stripe writes it.
func currencyOf(c domain.Currency) *string { return stripe.String(strings.ToLower(string(c))) }
