package billingaccount

import (
	"fmt"
	"strings"

	"crossbill/domain"
)

// How far a tax identifier is checked.
const (
	CheckedDigits = "check_digit" // its check digits are right
	CheckedFormat = "format"      // it has the right length and characters
	CheckedNone   = "none"        // no rule is known for the country
)

const (
	maxTaxID   = 30 // characters, of a country without a rule
	maxTaxText = 60 // characters, as it is typed
)

// taxRule is how one country's identifiers look.
type taxRule struct {
	prefix string // in front of the number, as EN 16931 BT-48 has it; "" where there is none
	format string // of what follows: 9 a digit, @ a letter, * either, all else itself; alternatives between blanks
	suffix string // may be missing as it is typed
	check  func(number string) bool
}

// taxRules are the identifiers that are checked: VAT numbers of the EU (formats as VIES lists them), of Great Britain,
// Switzerland and Norway, Australia's ABN and the EIN of the United States. Check digits are those of the national rules as
// they are published; where none is given the format alone is held.
var taxRules = map[domain.Country]taxRule{
	"AT": {prefix: "AT", format: "U99999999", check: checkAT},
	"BE": {prefix: "BE", format: "9999999999", check: checkBE},
	"BG": {prefix: "BG", format: "999999999 9999999999"},
	"CY": {prefix: "CY", format: "99999999@"},
	"CZ": {prefix: "CZ", format: "99999999 999999999 9999999999"},
	"DE": {prefix: "DE", format: "999999999", check: iso7064mod1110},
	"DK": {prefix: "DK", format: "99999999", check: weighted(11, 2, 7, 6, 5, 4, 3, 2, 1)},
	"EE": {prefix: "EE", format: "999999999", check: weighted(10, 3, 7, 1, 3, 7, 1, 3, 7, 1)},
	"GR": {prefix: "EL", format: "999999999", check: checkGR}, // not GR, in VAT numbers alone
	"ES": {prefix: "ES", format: "*9999999*"},
	"FI": {prefix: "FI", format: "99999999", check: weighted(11, 7, 9, 10, 5, 8, 4, 2, 1)},
	"FR": {prefix: "FR", format: "**999999999", check: checkFR},
	"HR": {prefix: "HR", format: "99999999999", check: iso7064mod1110},
	"HU": {prefix: "HU", format: "99999999", check: weighted(10, 9, 7, 3, 1, 9, 7, 3, 1)},
	"IE": {prefix: "IE", format: "9999999@ 9999999@@ 9*99999@", check: checkIE},
	"IT": {prefix: "IT", format: "99999999999", check: luhn},
	"LT": {prefix: "LT", format: "999999999 999999999999"},
	"LU": {prefix: "LU", format: "99999999", check: checkLU},
	"LV": {prefix: "LV", format: "99999999999"},
	"MT": {prefix: "MT", format: "99999999", check: weighted(37, 3, 4, 6, 7, 8, 9, 10, 1)},
	"NL": {prefix: "NL", format: "999999999B99", check: checkNL},
	"PL": {prefix: "PL", format: "9999999999", check: checkPL},
	"PT": {prefix: "PT", format: "999999999", check: checkPT},
	"RO": {prefix: "RO", format: "99 999 9999 99999 999999 9999999 99999999 999999999 9999999999", check: checkRO},
	"SE": {prefix: "SE", format: "999999999999", check: func(n string) bool { return luhn(n[:10]) }},
	"SI": {prefix: "SI", format: "99999999", check: checkSI},
	"SK": {prefix: "SK", format: "9999999999", check: func(n string) bool { return remainder(n, 11) == 0 }},

	"GB": {prefix: "GB", format: "999999999 999999999999 GD999 HA999", check: checkGB},
	"CH": {prefix: "CHE", format: "999999999", suffix: "MWST TVA IVA", check: weighted11(5, 4, 3, 2, 7, 6, 5, 4)},
	"NO": {prefix: "NO", format: "999999999", suffix: "MVA", check: weighted11(3, 2, 7, 6, 5, 4, 3, 2)},
	"AU": {format: "99999999999", check: checkAU},
	"US": {format: "999999999"}, // an EIN has no check digit
}

// CheckTaxID returns a country's tax identifier in the one form that is recorded (capitals, no blanks or punctuation, with
// the prefix of its country where VAT numbers have one) and how far it was checked. It returns an Invalid error for one
// that can't be the country's.
func CheckTaxID(country domain.Country, typed string) (number, checked string, err error) {
	const op = "billingaccount.CheckTaxID"
	if len(typed) > maxTaxText {
		return "", "", domain.Errorf(domain.Invalid, op, "must have at most %d characters", maxTaxText)
	}
	number = strings.ToUpper(strings.NewReplacer(" ", "", ".", "", "-", "", "/", "").Replace(typed))
	rule, known := taxRules[country]
	if !known {
		if number == "" || len(number) > maxTaxID || strings.Trim(number, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return "", "", domain.Errorf(domain.Invalid, op, "must be 1 to %d letters and digits", maxTaxID)
		}
		return number, CheckedNone, nil
	}
	body := strings.TrimPrefix(number, rule.prefix)
	for suffix := range strings.FieldsSeq(rule.suffix) {
		body = strings.TrimSuffix(body, suffix)
	}
	if !matchesAny(rule.format, body) {
		return "", "", domain.Errorf(domain.Invalid, op, "is not of the form %s", rule.form())
	}
	number = rule.prefix + body
	if country == "NO" {
		number += rule.suffix // BT-48 of a Norwegian seller or buyer is the number with it
	}
	if rule.check == nil || strings.HasPrefix(body, "GD") || strings.HasPrefix(body, "HA") { // British departments and authorities have none
		return number, CheckedFormat, nil
	}
	if !rule.check(body) {
		return "", "", domain.Errorf(domain.Invalid, op, "has a wrong check digit")
	}
	return number, CheckedDigits, nil
}

func (r taxRule) form() string {
	var all []string
	for f := range strings.FieldsSeq(r.format) {
		all = append(all, r.prefix+f)
	}
	return fmt.Sprintf("%s (9 a digit, @ a letter, * either)", strings.Join(all, " or "))
}

func matchesAny(formats, number string) bool {
	for f := range strings.FieldsSeq(formats) {
		if matches(f, number) {
			return true
		}
	}
	return false
}

func matches(format, number string) bool {
	if len(format) != len(number) {
		return false
	}
	for i := range len(format) {
		c := number[i]
		digit, letter := c >= '0' && c <= '9', c >= 'A' && c <= 'Z'
		switch format[i] {
		case '9':
			if !digit {
				return false
			}
		case '@':
			if !letter {
				return false
			}
		case '*':
			if !digit && !letter {
				return false
			}
		default:
			if c != format[i] {
				return false
			}
		}
	}
	return true
}
