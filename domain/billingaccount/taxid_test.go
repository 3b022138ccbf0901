package billingaccount

import (
	"strings"
	"testing"

	"crossbill/domain"
)

// TestCheckTaxID: numbers that authorities and the libraries that check such numbers publish as examples.
func TestCheckTaxID(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		country     domain.Country
		typed, want string
		checked     string
	}{
		{country: "AT", typed: "ATU13585627", want: "ATU13585627", checked: CheckedDigits},
		{country: "AT", typed: "U 1358 5627", want: "ATU13585627", checked: CheckedDigits},
		{country: "BE", typed: "BE 0403.019.261", want: "BE0403019261", checked: CheckedDigits},
		{country: "BG", typed: "BG175074752", want: "BG175074752", checked: CheckedFormat},
		{country: "CY", typed: "CY-10259033P", want: "CY10259033P", checked: CheckedFormat},
		{country: "CZ", typed: "CZ25123891", want: "CZ25123891", checked: CheckedFormat},
		{country: "DE", typed: "DE 136,695 976", want: ""},
		{country: "DE", typed: "DE 136 695 976", want: "DE136695976", checked: CheckedDigits},
		{country: "DK", typed: "DK 13585628", want: "DK13585628", checked: CheckedDigits},
		{country: "EE", typed: "EE 100 931 558", want: "EE100931558", checked: CheckedDigits},
		{country: "GR", typed: "EL094259216", want: "EL094259216", checked: CheckedDigits},
		{country: "GR", typed: "GR094259216", want: ""},
		{country: "ES", typed: "ES B58378431", want: "ESB58378431", checked: CheckedFormat},
		{country: "FI", typed: "FI 20774740", want: "FI20774740", checked: CheckedDigits},
		{country: "FR", typed: "Fr 40 303 265 045", want: "FR40303265045", checked: CheckedDigits},
		{country: "FR", typed: "FRK7399859412", want: "FRK7399859412", checked: CheckedDigits},
		{country: "HR", typed: "HR 33392005961", want: "HR33392005961", checked: CheckedDigits},
		{country: "HU", typed: "HU-12892312", want: "HU12892312", checked: CheckedDigits},
		{country: "IE", typed: "IE 6433435F", want: "IE6433435F", checked: CheckedDigits},
		{country: "IE", typed: "IE 6433435OA", want: "IE6433435OA", checked: CheckedDigits},
		{country: "IT", typed: "IT 00743110157", want: "IT00743110157", checked: CheckedDigits},
		{country: "LT", typed: "LT119511515", want: "LT119511515", checked: CheckedFormat},
		{country: "LU", typed: "LU 150 274 42", want: "LU15027442", checked: CheckedDigits},
		{country: "LV", typed: "LV 4000 3521 600", want: "LV40003521600", checked: CheckedFormat},
		{country: "MT", typed: "MT 1167-9112", want: "MT11679112", checked: CheckedDigits},
		{country: "NL", typed: "NL004495445B01", want: "NL004495445B01", checked: CheckedDigits},
		{country: "NL", typed: "NL123456789B13", want: "NL123456789B13", checked: CheckedDigits},
		{country: "PL", typed: "PL 8567346215", want: "PL8567346215", checked: CheckedDigits},
		{country: "PT", typed: "PT 501 964 843", want: "PT501964843", checked: CheckedDigits},
		{country: "RO", typed: "RO 185 472 90", want: "RO18547290", checked: CheckedDigits},
		{country: "SE", typed: "SE 123456789701", want: "SE123456789701", checked: CheckedDigits},
		{country: "SI", typed: "SI 5022 3054", want: "SI50223054", checked: CheckedDigits},
		{country: "SK", typed: "SK 202 274 96 19", want: "SK2022749619", checked: CheckedDigits},
		{country: "GB", typed: "GB 980 7806 84", want: "GB980780684", checked: CheckedDigits},
		{country: "GB", typed: "GBGD001", want: "GBGD001", checked: CheckedFormat},
		{country: "CH", typed: "CHE-107.787.577 IVA", want: "CHE107787577", checked: CheckedDigits},
		{country: "NO", typed: "NO 995 525 828 MVA", want: "NO995525828MVA", checked: CheckedDigits},
		{country: "NO", typed: "995525828", want: "NO995525828MVA", checked: CheckedDigits},
		{country: "AU", typed: "83 914 571 673", want: "83914571673", checked: CheckedDigits},
		{country: "US", typed: "91-1144442", want: "911144442", checked: CheckedFormat},
		{country: "JP", typed: "T 7000 0120 50002", want: "T7000012050002", checked: CheckedNone},
		{country: "JP", typed: "", want: ""},
		{country: "JP", typed: "a_b", want: ""},
		{country: "DE", typed: strings.Repeat(" ", maxTaxText) + "DE136695976", want: ""},
		{country: "AT", typed: "", want: ""},
	} {
		number, checked, err := CheckTaxID(test.country, test.typed)
		if (err == nil) != (test.want != "") || number != test.want || checked != test.checked {
			t.Errorf("%s %q is %q, checked by %q (%v)", test.country, test.typed, number, checked, err)
			continue
		}
		if err != nil {
			continue
		}
		if again, _, err := CheckTaxID(test.country, number); again != number || err != nil {
			t.Errorf("%s is %s when it is checked again (%v)", number, again, err)
		}
		if checked != CheckedDigits || number == "FRK7399859412" {
			continue
		}
		refused := 0
		for i := range number { // another digit anywhere
			if c := number[i]; c >= '0' && c <= '9' {
				wrong := number[:i] + string('0'+(c-'0'+1)%10) + number[i+1:]
				if _, _, err := CheckTaxID(test.country, wrong); err != nil {
					refused++
				}
			}
		}
		if refused < 7 { // a few rules leave a digit out or accept either of two remainders
			t.Errorf("%s: only %d wrong digits are noticed", number, refused)
		}
	}
}

// TestRulesAreOfCountries: no rule for a country that there is not, and none that panics on what has its format.
func TestRulesAreOfCountries(t *testing.T) {
	t.Parallel()
	for country, rule := range taxRules {
		if !country.Valid() {
			t.Errorf("%s is no country", country)
		}
		for format := range strings.FieldsSeq(rule.format) {
			for _, fill := range []string{"0A0", "9Z9", "1AZ"} {
				body := strings.NewReplacer("9", fill[:1], "@", fill[1:2], "*", fill[2:]).Replace(format)
				CheckTaxID(country, rule.prefix+body)
			}
		}
	}
}
