package tax

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/taxrate"
)

// TestTreat goes through who sells to whom: whose tax it is, at which rate, and why there is none.
func TestTreat(t *testing.T) {
	t.Parallel()
	at := func(country string, registered ...domain.Country) Party {
		return Party{Country: domain.Country(country), Registered: registered}
	}
	rates := func(c domain.Country, category string) (taxrate.Version, bool) {
		percent, ok := map[string]string{"NL S": "21", "DE S": "19", "GB S": "20", "FR AE": "0"}[string(c)+" "+category]
		if !ok {
			return taxrate.Version{}, false
		}
		return taxrate.Version{Version: 3, Percent: domain.MustDecimal(percent)}, true
	}
	for name, test := range map[string]struct {
		seller, buyer Party
		want          string // category, country, percent, rate version; "" is a Conflict
	}{
		"a seller without a number":        {at("NL"), at("NL"), "O NL 0 0"},
		"a number of another country":      {at("NL", "DE"), at("NL"), "O NL 0 0"},
		"within one country":               {at("NL", "NL"), at("NL", "NL"), "S NL 21 3"},
		"nobody knows where":               {at("NL", "NL"), at(""), "S NL 21 3"},
		"another member, registered":       {at("NL", "NL"), at("DE", "DE"), "AE NL 0 0"},
		"registered in a third member":     {at("NL", "NL"), at("DE", "FR"), "AE NL 0 0"},
		"another member, not registered":   {at("NL", "NL"), at("DE"), "S DE 19 3"},
		"registered with the seller's own": {at("NL", "NL"), at("DE", "NL"), "S DE 19 3"},
		"registered outside":               {at("NL", "NL"), at("DE", "US"), "S DE 19 3"},
		"a recorded reverse charge":        {at("FR", "FR"), at("DE", "DE"), "AE FR 0 3"},
		"out of the union":                 {at("NL", "NL"), at("US", "US"), "G NL 0 0"},
		"into the union":                   {at("GB", "GB"), at("NL", "NL"), "G GB 0 0"},
		"within a country outside":         {at("GB", "GB"), at("GB"), "S GB 20 3"},
		"no rate of the seller's country":  {at("US", "US"), at("US"), ""},
		"no rate of the buyer's country":   {at("NL", "NL"), at("FR"), ""},
		"no rate, and where is not known":  {at("US", "US"), at(""), ""},
	} {
		got, err := Treat(test.seller, test.buyer, rates)
		if test.want == "" {
			if e, ok := err.(*domain.Error); domain.CodeOf(err) != domain.Conflict || !ok || e.Hint == "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		said := strings.Join([]string{got.Category, string(got.Country), got.Percent.String(), string(rune('0' + got.Version))}, " ")
		if err != nil || said != test.want {
			t.Errorf("%s: %s, want %s (%v)", name, said, test.want, err)
		}
		if (got.Reason != "") != (got.Category != taxrate.CategoryStandard && got.Version == 0) {
			t.Errorf("%s: the reason is %q", name, got.Reason)
		}
	}
}

// TestCheck holds a document's taxes to its lines; a credit note may carry one unit that its own lines do not round to.
func TestCheck(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	good := func() Subtotal {
		s, err := Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal("21")}.Of(usd(1050)) // 2.205
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if good().Tax != usd(221) {
		t.Errorf("21 %% of 10.50 is %s", good().Tax)
	}
	lines := map[string]domain.Money{taxrate.CategoryStandard: usd(1050)}
	for name, test := range map[string]struct {
		taxes  func() []Subtotal
		credit bool
		at     string
	}{
		"right":                     {func() []Subtotal { return []Subtotal{good()} }, false, ""},
		"a unit less":               {func() []Subtotal { s := good(); s.Tax.Minor--; return []Subtotal{s} }, false, "/taxes/0/tax"},
		"a unit less of a credit":   {func() []Subtotal { s := good(); s.Tax.Minor--; return []Subtotal{s} }, true, ""},
		"two units less of one":     {func() []Subtotal { s := good(); s.Tax.Minor -= 2; return []Subtotal{s} }, true, "/taxes/0/tax"},
		"not the lines":             {func() []Subtotal { s := good(); s.Taxable.Minor--; return []Subtotal{s} }, true, "/taxes/0/taxable"},
		"twice":                     {func() []Subtotal { return []Subtotal{good(), good()} }, false, "/taxes/1/category"},
		"lines without a category":  {func() []Subtotal { return nil }, false, "/taxes"},
		"another currency":          {func() []Subtotal { s := good(); s.Tax.Currency = "EUR"; return []Subtotal{s} }, false, "/taxes/0/tax/currency"},
		"of no country":             {func() []Subtotal { s := good(); s.Country = ""; return []Subtotal{s} }, false, "/taxes/0/country"},
		"of a category there isn't": {func() []Subtotal { s := good(); s.Category = "X"; return []Subtotal{s} }, false, "/taxes/0/category"},
	} {
		var p domain.Problems
		check := Check
		if test.credit {
			check = CheckCredit
		}
		check(&p, "/taxes", test.taxes(), lines, "USD")
		err := p.Err("test")
		if (err == nil) != (test.at == "") || err != nil && err.(*domain.Error).Fields[0].Pointer != test.at {
			t.Errorf("%s: %v, want a problem at %q", name, err, test.at)
		}
	}
}
