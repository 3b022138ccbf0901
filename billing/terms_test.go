package billing

import (
	"fmt"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/exchangerate"
	"crossbill/domain/issuer"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

// account gives an organisation a default billing account.
func (w *world) account(organisation string, country domain.Country, taxID string, change func(*billingaccount.Details)) {
	w.t.Helper()
	account, owner := id(domain.PrefixBillingAccount, organisation), id(domain.PrefixOrganisation, organisation)
	d := billingaccount.Details{Name: organisation, Holder: billingaccount.Holder{
		Kind: billingaccount.HolderCompany, LegalName: organisation, Address: &billingaccount.Address{Country: country}}}
	if taxID != "" {
		d.TaxIDs = []billingaccount.TaxID{{Country: country, Number: taxID}}
	}
	if change != nil {
		change(&d)
	}
	at := date(2026, 1, 2)
	w.append(events.Append{Streams: []events.StreamAppend{
		stream(billingaccount.Stream(account), billingaccount.Opened{BillingAccountID: account, OrganisationID: owner, Details: d, At: at}),
		stream(billingaccount.DefaultStream(owner), billingaccount.DefaultSet{OrganisationID: owner, BillingAccountID: account, At: at}),
	}})
}

func (w *world) taxed(country domain.Country, percent string, from time.Time) {
	w.append(events.Append{Streams: []events.StreamAppend{stream(taxrate.Stream(country, taxrate.CategoryStandard), taxrate.Set{
		Country: country, Category: taxrate.CategoryStandard, Version: 1, Percent: domain.MustDecimal(percent), EffectiveFrom: from, At: date(2026, 1, 2)})}})
}

// TestTerms bills customers at home, in another member of the EU and outside of it, in the plan's currency and another: each
// with its tax, reference and due date; what lacks a rate is a problem and keeps nobody else, on either side of a line.
func TestTerms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(events.Append{Streams: []events.StreamAppend{stream(issuer.Stream(Issuer), issuer.Set{Issuer: Issuer, Version: 1, At: date(2026, 1, 2),
		Details: issuer.Details{LegalName: "Neutral Ground", Address: billingaccount.Address{Country: "NL"}, TaxIDs: []billingaccount.TaxID{{Country: "NL", Number: "NL004495445B01"}}, TermsDays: 30}})}})
	w.taxed("NL", "21", date(2020, 1, 1))
	w.account("home", "NL", "NL123456782B90", func(d *billingaccount.Details) { d.PurchaseOrder = "PO-7" })
	w.account("member", "DE", "DE123456788", nil)
	w.account("abroad", "US", "", func(d *billingaccount.Details) { d.InvoiceCurrency = "EUR" })
	w.account("unrated", "US", "", func(d *billingaccount.Details) { d.InvoiceCurrency = "JPY" })
	w.account("person", "FR", "", nil) // owes France's tax, which nobody recorded
	w.account("carrier", "NL", "NL123456782B90", nil)
	w.account("untaxed", "IE", "", nil) // a provider that charges none
	w.append(events.Append{Streams: []events.StreamAppend{stream(exchangerate.Stream("USD", "EUR"),
		exchangerate.Set{Base: "USD", Quote: "EUR", Version: 1, Rate: domain.MustDecimal("0.9123"), Source: "test", EffectiveFrom: date(2026, 3, 1), At: date(2026, 3, 1)},
		exchangerate.Set{Base: "USD", Quote: "EUR", Version: 2, Rate: domain.MustDecimal("0.5"), Source: "test", EffectiveFrom: april.From, At: april.From})}}) // not March's
	var all []sold
	for n, customer := range []string{"home", "member", "abroad", "unrated", "person"} {
		s := exampleA()
		s.name, s.customer, s.provider = customer, customer, []string{"carrier", "untaxed"}[n%2]
		s.plan.Charges = s.plan.Charges[:1] // 21 of 31 days of 400.00: 270.9677…
		all = append(all, s)
	}
	w.sell(all...)
	result := w.run(request(march))
	got := make(map[string]string)
	for _, name := range result.Invoices {
		i := w.invoice(name)
		got[i.CustomerID] = fmt.Sprintf("%s + %s + %s = %s; %s %q %s", i.Passthrough.Amount(), i.Fee.Amount(), i.Tax.Amount(), i.Total, i.Taxes[0].Category, i.PurchaseOrder, i.DueAt.Format(time.DateOnly))
		w.checkEvery(i)
	}
	for customer, want := range map[string]string{
		"home":   `270.97 + 8.13 + 58.61 = 337.71 USD; S "PO-7" 2026-06-01`, // 21 % of 279.10 is 58.611
		"member": `270.97 + 8.13 + 0.00 = 279.10 USD; AE "" 2026-06-01`,     //
		"abroad": `247.20 + 7.42 + 0.00 = 254.62 EUR; G "" 2026-06-01`,      // 270.9677… × 0.9123 is 247.2038…; 8.1291 × 0.9123 is 7.4161…
	} {
		if owner := id(domain.PrefixOrganisation, customer); got[owner] != want {
			t.Errorf("%s is billed %s, not %s", customer, got[owner], want)
		}
	}
	if len(got) != 3 || len(result.Problems) != 2 {
		t.Errorf("%d invoices and the problems %v", len(got), result.Problems)
	}
	for _, name := range result.Settlements {
		s := w.settlement(name)
		carrier := s.ProviderID == id(domain.PrefixOrganisation, "carrier")
		if s.Number == "" || carrier && (s.Taxes[0].Category != "S" || s.Tax.Minor*100 < 20*s.Total.Minor) || !carrier && (s.Taxes[0].Category != "O" || s.Tax.Minor != 0) {
			t.Errorf("the settlement is %+v", s)
		}
	}

	// An issuer that moves to where no rate is recorded, and has no tax identifier there, owes its providers' tax there: those
	// who charge one can't be settled, and keep none of the others' connections from being billed.
	w.append(events.Append{Streams: []events.StreamAppend{stream(issuer.Stream(Issuer), issuer.Set{Issuer: Issuer, Version: 2, At: date(2026, 4, 2),
		Details: issuer.Details{LegalName: "Neutral Ground", Address: billingaccount.Address{Country: "BE"}, TermsDays: 30}})}})
	result = w.run(request(april))
	if n := len(result.Problems); len(result.Invoices) != 1 || n != 4 || w.invoice(result.Invoices[0]).CustomerID != id(domain.PrefixOrganisation, "member") {
		t.Errorf("%d invoices and the problems %v", len(result.Invoices), result.Problems)
	}
	w.checkBooks()
}
