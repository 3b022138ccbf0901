package domain

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestParseMoney(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		amount   string
		currency Currency
		minor    int64
		text     string
	}{
		{"614.43", "USD", 61443, "614.43 USD"}, {"614.4", "USD", 61440, "614.40 USD"}, {"-0.05", "EUR", -5, "-0.05 EUR"},
		{"100", "JPY", 100, "100 JPY"}, {"1.234", "BHD", 1234, "1.234 BHD"}, {"0", "USD", 0, "0.00 USD"},
		{"92233720368547758.07", "USD", math.MaxInt64, "92233720368547758.07 USD"},
	} {
		m, err := ParseMoney(c.amount, c.currency)
		if err != nil || m.Minor != c.minor || m.String() != c.text {
			t.Errorf("%s %s is read as %s (%d), %v", c.amount, c.currency, m, m.Minor, err)
		}
	}
	for _, c := range []struct {
		amount   string
		currency Currency
	}{
		{"1.005", "USD"}, {"0.5", "JPY"}, {"1.2345", "BHD"}, {"1", "XXX"}, {"1", "usd"}, {"1", ""}, {"one", "USD"},
		{"92233720368547758.08", "USD"}, {"-92233720368547758.08", "USD"}, // the least int64 has no negative
	} {
		if m, err := ParseMoney(c.amount, c.currency); CodeOf(err) != Invalid {
			t.Errorf("%s %s is read as %s, %v", c.amount, c.currency, m, err)
		}
	}
}

func TestRoundMoney(t *testing.T) {
	t.Parallel()
	third := MustDecimal("400").Mul(MustDecimal("21")).Quo(MustDecimal("31"))
	for _, c := range []struct {
		exact    Decimal
		currency Currency
		minor    int64
	}{
		{third, "USD", 27097}, {third, "JPY", 271}, {third, "BHD", 270968}, {MustDecimal("0.005"), "USD", 1}, {MustDecimal("-0.005"), "USD", -1},
	} {
		if m, err := RoundMoney(c.exact, c.currency); err != nil || m != (Money{c.minor, c.currency}) {
			t.Errorf("%s in %s is %s, %v", c.exact, c.currency, m, err)
		}
	}
	if _, err := RoundMoney(MustDecimal(strings.Repeat("9", 30)), "USD"); CodeOf(err) != Invalid {
		t.Errorf("too much was rounded: %v", err)
	}
}

func TestMoneyAdd(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) Money { return Money{minor, "USD"} }
	for _, c := range []struct{ a, b, want int64 }{
		{1, 2, 3}, {1, -2, -1}, {0, 0, 0}, {math.MaxInt64, 0, math.MaxInt64}, {math.MaxInt64, -math.MaxInt64, 0}, {math.MaxInt64 - 1, 1, math.MaxInt64},
		{-math.MaxInt64, 1, -math.MaxInt64 + 1},
	} {
		if sum, err := usd(c.a).Add(usd(c.b)); err != nil || sum != usd(c.want) {
			t.Errorf("%d + %d is %d, %v", c.a, c.b, sum.Minor, err)
		}
	}
	for _, c := range [][2]int64{{math.MaxInt64, 1}, {1, math.MaxInt64}, {-math.MaxInt64, -1}, {-math.MaxInt64, -math.MaxInt64}} {
		if sum, err := usd(c[0]).Add(usd(c[1])); CodeOf(err) != Internal {
			t.Errorf("%d + %d is %d, %v", c[0], c[1], sum.Minor, err)
		}
	}
	if _, err := usd(1).Add(Money{1, "EUR"}); CodeOf(err) != Internal {
		t.Errorf("dollars and euros were added: %v", err)
	}
	if usd(5).Neg() != usd(-5) {
		t.Error("the negative is another")
	}
}

func TestMoneyJSON(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(Money{-61443, "USD"})
	if want := `{"amount":"-614.43","currency":"USD"}`; err != nil || string(data) != want {
		t.Errorf("it is written as %s, %v", data, err)
	}
	var back Money
	if err := json.Unmarshal(data, &back); err != nil || back != (Money{-61443, "USD"}) {
		t.Errorf("it is read back as %s, %v", back, err)
	}
	if _, err := json.Marshal(Money{1, "XXX"}); err == nil {
		t.Error("money of no currency was written")
	}
	for _, text := range []string{`null`, `"1 USD"`, `{"amount":614.43,"currency":"USD"}`, `{"amount":"1"}`, `{"amount":"1.001","currency":"USD"}`, `{"amount":"1","currency":" USD"}`} {
		if err := json.Unmarshal([]byte(text), &back); CodeOf(err) != Invalid {
			t.Errorf("%s is read as %s, %v", text, back, err)
		}
	}
}

func TestCurrencyDigits(t *testing.T) {
	t.Parallel()
	for c, want := range map[Currency]int{"JPY": 0, "USD": 2, "BHD": 3} {
		if got := c.Digits(); got != want || !c.Valid() {
			t.Errorf("%s has %d digits, want %d", c, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown currency has digits")
		}
	}()
	Currency("XXX").Digits()
}
