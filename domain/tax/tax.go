// Package tax is how a document is taxed: whose rate holds between a seller and a buyer, and what it comes to.
//
// It knows no rate: those are events of package taxrate, and a document names the one it used. It does not know whether a
// tax identifier is its holder's. Start reading at [Treat], then [Of].
package tax

import (
	"slices"
	"strings"

	"crossbill/domain"
	"crossbill/domain/taxrate"
)

// Treatment is how one supply is taxed (EN 16931 BG-23, BG-30).
type Treatment struct {
	Category string         `json:"category"` // of UNTDID 5305, as in taxrate
	Country  domain.Country `json:"country"`  // whose tax it is
	Percent  domain.Decimal `json:"percent"`
	Reason   string         `json:"reason,omitempty"`       // BT-120: why no tax is charged
	Version  int            `json:"rate_version,omitempty"` // of the country's category; 0: no rate event says so
}

// Subtotal is the tax on all lines of one category (EN 16931 BG-23).
type Subtotal struct {
	Treatment
	Taxable domain.Money `json:"taxable"`
	Tax     domain.Money `json:"tax"`
}

// Party is what of a seller or a buyer decides on tax.
type Party struct {
	Country    domain.Country   // where it is; "": not known
	Registered []domain.Country // that gave it a tax identifier
}

// Rates are the rates in force when a document is due to tax. ok is false where none was recorded.
type Rates func(domain.Country, string) (rate taxrate.Version, ok bool)

// defaultReasons are said where no rate event says another.
var defaultReasons = map[string]string{
	taxrate.CategoryReverseCharge: "Reverse charge",
	taxrate.CategoryExport:        "Export outside the EU",
	taxrate.CategoryOutside:       "Not subject to tax",
}

// eu are the members of the European Union, in which the customer's foreign tax identifier turns the tax around
// (Directive 2006/112/EC, articles 44 and 196).
var eu = strings.Fields("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK")

// InEU reports whether a country is a member of the European Union.
func InEU(c domain.Country) bool { return slices.Contains(eu, string(c)) }

// Treat returns how what a seller sells to a buyer is taxed:
//
//   - a seller without a tax identifier of its own country charges none (O);
//   - within one country, and where it is not known where the buyer is, the seller's standard rate (S);
//   - between two members of the EU, none to a buyer with a tax identifier of another member: the buyer owes it (AE);
//     to any other, the standard rate of the buyer's country (S; article 58);
//   - everything else leaves the seller's area, and none is charged (G).
//
// It returns a Conflict where a standard rate is due that no event says: nobody guesses a tax rate.
func Treat(seller, buyer Party, rates Rates) (Treatment, error) {
	t := Treatment{Category: taxrate.CategoryStandard, Country: seller.Country}
	foreign := func(c domain.Country) bool { return c != seller.Country && InEU(c) }
	switch {
	case !slices.Contains(seller.Registered, seller.Country):
		t.Category = taxrate.CategoryOutside
	case buyer.Country == "" || buyer.Country == seller.Country:
	case InEU(seller.Country) && InEU(buyer.Country) && slices.ContainsFunc(buyer.Registered, foreign):
		t.Category = taxrate.CategoryReverseCharge
	case InEU(seller.Country) && InEU(buyer.Country):
		t.Country = buyer.Country
	default:
		t.Category = taxrate.CategoryExport
	}
	rate, ok := rates(t.Country, t.Category)
	switch {
	case ok:
		t.Percent, t.Reason, t.Version = rate.Percent, rate.Reason, rate.Version
	case t.Category == taxrate.CategoryStandard:
		return Treatment{}, domain.Errorf(domain.Conflict, "tax.Treat", "no standard rate of tax is recorded for %s", t.Country).
			WithHint("an operator records it: POST /v1/tax-rates")
	default:
		t.Percent, t.Reason = domain.DecimalFromInt(0), defaultReasons[t.Category]
	}
	return t, nil
}

// Of returns the tax on the sum of a category's lines: computed exactly and rounded once, half away from zero (EN 16931
// BR-CO-17). A negative sum has negative tax.
func (t Treatment) Of(taxable domain.Money) (Subtotal, error) {
	exact := taxable.Decimal().Mul(t.Percent).Quo(domain.DecimalFromInt(100))
	amount, err := domain.RoundMoney(exact, taxable.Currency)
	return Subtotal{Treatment: t, Taxable: taxable, Tax: amount}, err
}

// Check records in p what is wrong with the taxes of a document at a pointer, and returns their sum: nothing is taxed
// twice, the taxable amounts are those of the document's own lines by category, and each tax is its rate's.
func Check(p *domain.Problems, at string, taxes []Subtotal, taxable map[string]domain.Money, currency domain.Currency) domain.Money {
	return check(p, at, taxes, taxable, currency, 0)
}

// CheckCredit is [Check] for a credit note, but for the last minor unit of a tax: the credit notes over one invoice come, in
// all, to the tax of what they credit, so one of them can carry a unit that its own lines do not round to.
func CheckCredit(p *domain.Problems, at string, taxes []Subtotal, taxable map[string]domain.Money, currency domain.Currency) domain.Money {
	return check(p, at, taxes, taxable, currency, 1)
}

func check(p *domain.Problems, at string, taxes []Subtotal, taxable map[string]domain.Money, currency domain.Currency, tolerance int64) domain.Money {
	sum := domain.Money{Currency: currency}
	seen := make(map[string]bool)
	for n, s := range taxes {
		here := domain.Pointer(at, n)
		p.OneOf(here+"/category", s.Category, taxrate.Categories...)
		p.Check(!seen[s.Category], here+"/category", "is that of an earlier subtotal")
		seen[s.Category] = true
		p.Check(s.Category == taxrate.CategoryOutside || s.Country.Valid(), here+"/country", "must be a country of ISO 3166-1")
		p.Check(s.Taxable == taxable[s.Category], here+"/taxable", "must be the sum of the lines of %s, %s", s.Category, taxable[s.Category])
		if s.Taxable.Currency != currency || s.Tax.Currency != currency {
			p.Add(here+"/tax/currency", "must be the document's, %s", currency)
			return sum
		}
		again, err := s.Of(s.Taxable)
		off := max(again.Tax.Minor-s.Tax.Minor, s.Tax.Minor-again.Tax.Minor)
		p.Check(err == nil && off <= tolerance, here+"/tax", "is not %s %% of %s rounded once", s.Percent, s.Taxable)
		if sum, err = sum.Add(s.Tax); err != nil {
			p.Add(here+"/tax", "makes a sum that is too large")
			return domain.Money{Currency: currency}
		}
	}
	for category := range taxable {
		p.Check(seen[category], at, "must have a subtotal for the lines of category %q", category)
	}
	return sum
}
