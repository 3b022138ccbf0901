package issuer

import (
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/internal/scenario"
)

func details() Details {
	return Details{
		LegalName: "Crossbill B.V.", Address: billingaccount.Address{Lines: []string{"Kade 1"}, PostalCode: "1011 AB", City: "Amsterdam", Country: "NL"},
		TaxIDs:       []billingaccount.TaxID{{Country: "NL", Number: "NL004495445B01"}, {Country: "DE", Number: "DE136695976"}},
		Registration: "12345678", Contact: &billingaccount.Contact{Email: "billing@crossbill.example"}, IBAN: "NL91ABNA0417164300", BIC: "ABNANL2A", TermsDays: 30,
	}
}

func with(change func(*Details)) Change {
	c := Change{Issuer: "crossbill", Details: details(), At: scenario.Noon}
	change(&c.Details)
	return c
}

func TestSet(t *testing.T) {
	t.Parallel()
	set := func(version int, d Details) Set {
		return Set{Issuer: "crossbill", Version: version, Details: d, At: scenario.Noon}
	}
	longer := details()
	longer.TermsDays = 60
	wrong := func(name, field string, change func(*Details)) scenario.Case[Change] {
		return scenario.Case[Change]{Name: name, When: with(change), Code: domain.Invalid, Fields: []string{field}}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Change]{
		{Name: "the first", When: with(func(*Details) {}), Then: []domain.Event{set(1, details())}},
		{Name: "others", Given: []domain.Event{set(1, details())}, When: with(func(d *Details) { d.TermsDays = 60 }), Then: []domain.Event{set(2, longer)}},
		{Name: "the same", Given: []domain.Event{set(1, details())}, When: with(func(*Details) {})},
		{Name: "the same, typed otherwise", Given: []domain.Event{set(1, details())}, When: with(func(d *Details) {
			d.IBAN, d.TaxIDs[1].Number = "nl91 abna 0417 1643 00", "de 136 695 976"
		})},
		{Name: "back to an earlier version", Given: []domain.Event{set(1, details()), set(2, longer)}, When: with(func(*Details) {}), Then: []domain.Event{set(3, details())}},
		{Name: "nothing", When: Change{}, Code: domain.Invalid, Fields: []string{"/issuer", "/at", "/legal_name", "/address/country"}},
		wrong("no country", "/address/country", func(d *Details) { d.Address.Country = "XX" }),
		wrong("a long line", "/address/lines/0", func(d *Details) { d.Address.Lines[0] = strings.Repeat("x", MaxText+1) }),
		wrong("two tax ids of one country", "/tax_ids/1/country", func(d *Details) { d.TaxIDs[1] = d.TaxIDs[0] }),
		wrong("a tax id with wrong digits", "/tax_ids/0/number", func(d *Details) { d.TaxIDs[0].Number = "NL004495446B01" }),
		wrong("a contact without an address", "/contact/email", func(d *Details) { d.Contact = &billingaccount.Contact{Name: "Accounts"} }),
		wrong("an IBAN with digits swapped", "/iban", func(d *Details) { d.IBAN = "NL91ABNA0417163400" }),
		wrong("a short IBAN", "/iban", func(d *Details) { d.IBAN = "NL91ABNA" }),
		wrong("an IBAN with a sign", "/iban", func(d *Details) { d.IBAN = "NL91ABNA04171643-0" }),
		wrong("terms of less than no day", "/terms_days", func(d *Details) { d.TermsDays = -1 }),
		wrong("terms of more than a year", "/terms_days", func(d *Details) { d.TermsDays = MaxTermsDays + 1 }),
	})
}

// TestDecideChangesNothingItIsGiven: identifiers are written as they are checked, in the event alone.
func TestDecideChangesNothingItIsGiven(t *testing.T) {
	t.Parallel()
	c := with(func(d *Details) { d.TaxIDs[1].Number = "de 136 695 976" })
	decided, err := Decide(State{}, c)
	if err != nil || decided[0].(Set).Details.TaxIDs[1].Number != "DE136695976" || c.Details.TaxIDs[1].Number != "de 136 695 976" {
		t.Errorf("%+v of %+v (%v)", decided, c.Details.TaxIDs, err)
	}
	if p := details().Party(); p.Country != "NL" || !slices.Equal(p.Registered, []domain.Country{"NL", "DE"}) {
		t.Errorf("for tax it is %+v", p)
	}
}

// TestIBAN has the examples of ISO 13616's registry.
func TestIBAN(t *testing.T) {
	t.Parallel()
	for iban, want := range map[string]bool{
		"NL91ABNA0417164300": true, "DE89370400440532013000": true, "GB29NWBK60161331926819": true, "NO9386011117947": true,
		"MT84MALT011000012345MTLCAST001S": true, "NL92ABNA0417164300": false, "": false, "NL91ABNA04171643001234567890123456": false,
	} {
		if validIBAN(iban) != want {
			t.Errorf("%s: %t", iban, !want)
		}
	}
}
