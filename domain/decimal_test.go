package domain

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func TestParseDecimal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.0": "0", "400.00": "400", "-0.05": "-0.05", "007": "7", "1.500": "1.5",
		"0.000000000000000001":  "0.000000000000000001",
		strings.Repeat("9", 40): strings.Repeat("9", 40),
		"12345.678901234":       "12345.678901234",
		"9007199254740993":      "9007199254740993", // 2⁵³ + 1, which no float64 is
		"0.100000000000000000":  "0.1",
	} {
		d, err := ParseDecimal(text)
		if err != nil || d.String() != want || !d.Exact() || !d.Given() {
			t.Errorf("%q is read as %s, %v", text, d, err)
		}
	}
	for _, text := range []string{
		"", "-", "+1", ".5", "5.", "1e3", "1E3", "0x10", "1_000", "1,5", " 1", "1 ", "--1", "1.2.3", "NaN", "Inf", "1/3", "１",
		strings.Repeat("9", 41), "0." + strings.Repeat("1", 19), "-" + strings.Repeat("1", 30) + "." + strings.Repeat("1", 11),
	} {
		if d, err := ParseDecimal(text); CodeOf(err) != Invalid || d.Given() {
			t.Errorf("%q is read as %s, %v", text, d, err)
		}
	}
}

func TestDecimalArithmetic(t *testing.T) {
	t.Parallel()
	d := MustDecimal
	for _, c := range []struct{ got, want Decimal }{
		{d("0.1").Add(d("0.2")), d("0.3")},
		{d("0.1").Sub(d("0.3")), d("-0.2")},
		{d("-1.5").Mul(d("0.5")), d("-0.75")},
		{d("1").Quo(d("8")), d("0.125")},
		{d("1").Quo(d("3")).Mul(d("3")), d("1")},
		{Decimal{}.Add(d("1")), d("1")},
		{DecimalFromInt(-7), d("-7")},
		{DecimalFromBig(new(big.Int).Lsh(big.NewInt(1), 70)), d("1180591620717411303424")},
	} {
		if c.got.Cmp(c.want) != 0 {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if (Decimal{}).Sign() != 0 || (Decimal{}).String() != "0" || (Decimal{}).Given() || !(Decimal{}).Exact() {
		t.Error("the zero value is not 0 that nobody gave")
	}
	n := big.NewInt(5)
	five := DecimalFromBig(n)
	n.SetInt64(6)
	if five.String() != "5" {
		t.Error("a decimal changed with the integer it was made from")
	}
}

func TestDecimalRound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number Decimal
		places int
		want   string
	}{
		{MustDecimal("2.5"), 0, "3"}, {MustDecimal("-2.5"), 0, "-3"}, {MustDecimal("2.4999999"), 0, "2"},
		{MustDecimal("0.005"), 2, "1"}, {MustDecimal("-0.005"), 2, "-1"}, {MustDecimal("0.0049"), 2, "0"}, {MustDecimal("-0.0049"), 2, "0"},
		{MustDecimal("135.485"), 2, "13549"}, {MustDecimal("4.0647"), 2, "406"}, {MustDecimal("18.4329"), 2, "1843"},
		{MustDecimal("8400").Quo(MustDecimal("31")), 2, "27097"}, {MustDecimal("1").Quo(MustDecimal("3")), 3, "333"},
		{Decimal{}, 2, "0"},
	} {
		if got := c.number.Round(c.places); got.String() != c.want {
			t.Errorf("%s to %d places is %s, want %s", c.number, c.places, got, c.want)
		}
	}
}

func TestDecimalThatHasNoEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number Decimal
		want   string
	}{
		{MustDecimal("1").Quo(MustDecimal("3")), "0.333333333333333333…"},
		{MustDecimal("2").Quo(MustDecimal("3")), "0.666666666666666666…"}, // cut, not rounded
		{MustDecimal("-2").Quo(MustDecimal("3")), "-0.666666666666666666…"},
		{MustDecimal("-2").Quo(MustDecimal("3").Mul(MustDecimal("1" + strings.Repeat("0", 20)))), "-0.000000000000000000…"},
		{MustDecimal("1").Quo(DecimalFromInt(1 << 30)), "0.000000000931322574…"}, // it has an end, but past what is shown
	} {
		if got := c.number.String(); got != c.want || c.number.Exact() {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if _, err := json.Marshal(c.number); err == nil {
			t.Errorf("%s was written, and would be read back as another number", c.want)
		}
	}
}

func TestDecimalFits(t *testing.T) {
	t.Parallel()
	for text, places := range map[string]int{"5": 0, "-5.25": 2, "0.000000001": 9, "1.10": 1} {
		d := MustDecimal(text)
		if !d.Fits(places) || places > 0 && d.Fits(places-1) {
			t.Errorf("%s does not need just %d digits", text, places)
		}
	}
	if MustDecimal("1").Quo(MustDecimal("3")).Fits(1000) {
		t.Error("1/3 has no number of digits that is enough")
	}
}

func TestDecimalJSON(t *testing.T) {
	t.Parallel()
	var v struct {
		Price  Decimal  `json:"price"`
		UpTo   *Decimal `json:"up_to"`
		Absent Decimal  `json:"absent,omitzero"`
	}
	if err := json.Unmarshal([]byte(`{"price":"0.050","up_to":null}`), &v); err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(v); err != nil || string(data) != `{"price":"0.05","up_to":null}` {
		t.Errorf("it is written as %s, %v", data, err)
	}
	for _, text := range []string{`1`, `1.5`, `null`, `"1e3"`, `{}`, `""`, `[]`, `true`} {
		var d Decimal
		if err := json.Unmarshal([]byte(text), &d); CodeOf(err) != Invalid {
			t.Errorf("%s is read as %s, %v", text, d, err)
		}
	}
}

// Whatever is read is written in one form and read again as the same number; rounding agrees with the text's own digits.
func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-0", "400.00", "0.005", "-2.5", "1e9", "007.10", ".", strings.Repeat("9", 41), "1/3", "0x1p-2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDecimal(text)
		if err != nil {
			if CodeOf(err) != Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := ParseDecimal(d.String())
		if err != nil || again.Cmp(d) != 0 || again.String() != d.String() {
			t.Fatalf("%q is written as %s and read again as %s, %v", text, d, again, err)
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("%q has no JSON: %v", text, err)
		}
		if err := json.Unmarshal(data, &again); err != nil || again.Cmp(d) != 0 {
			t.Fatalf("%q is read back from JSON as %s, %v", text, again, err)
		}
		for places := range 4 {
			// Half away from zero, told another way: at most a half away, and when a half then outwards.
			distance := DecimalFromBig(d.Round(places)).Quo(DecimalFromBig(pow10(places))).Sub(d)
			half := MustDecimal("0.5").Quo(DecimalFromBig(pow10(places)))
			if distance.Cmp(half) > 0 || half.Add(distance).Sign() < 0 {
				t.Fatalf("%s to %d places is %s away", d, places, distance)
			}
			if (distance.Cmp(half) == 0 && d.Sign() < 0) || (half.Add(distance).Sign() == 0 && d.Sign() > 0) {
				t.Fatalf("%s to %d places went towards zero", d, places)
			}
		}
	})
}

func TestCeil(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"0": "0", "0.000000001": "1", "1": "1", "1.5": "2", "-0.5": "0", "-1": "-1", "-1.5": "-1"} {
		if got := MustDecimal(text).Ceil().String(); got != want {
			t.Errorf("%s is at most %s, not %s", text, got, want)
		}
	}
}
