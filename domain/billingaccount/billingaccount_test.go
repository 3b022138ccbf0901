package billingaccount

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	org     = scenario.ID(domain.PrefixOrganisation, 1)
	account = scenario.ID(domain.PrefixBillingAccount, 1)
	other   = scenario.ID(domain.PrefixBillingAccount, 2)
)

func details() Details {
	return Details{
		Name: "Networks", Holder: Holder{HolderCompany, "Harbour Networks B.V.", &Address{Lines: []string{"Quay 1"}, PostalCode: "1011", City: "Amsterdam", Country: "NL"}},
		TaxIDs: []TaxID{{"NL", "NL004495445B01"}}, InvoiceCurrency: "EUR", PurchaseOrder: "PO-7", Contact: &Contact{"invoices@harbour.example", "Accounts"},
	}
}

func with(change func(*Details)) Details {
	d := details()
	change(&d)
	return d
}

func TestDecide(t *testing.T) {
	t.Parallel()
	opened := Opened{account, org, details(), scenario.Noon}
	open := Open{account, org, details(), scenario.Noon}
	closed := Closed{account, scenario.After(1)}
	isDefault, isOther := DefaultState{org, account}, DefaultState{org, other}
	reachable := with(func(d *Details) { d.EndpointScheme, d.EndpointID = "0106", "12345678" })
	renamed := with(func(d *Details) { d.Name = "Other" })
	typed := with(func(d *Details) { d.TaxIDs = []TaxID{{"NL", "nl 0044.95.445-B01"}} })
	cases := []scenario.Case[Command]{
		{Name: "opened", When: open, Then: []domain.Event{opened}},
		{Name: "opened, as it is typed", When: Open{account, org, typed, scenario.Noon}, Then: []domain.Event{opened}},
		{Name: "exists", Given: []domain.Event{opened}, When: open, Code: domain.Conflict},
		{Name: "nothing is right", When: Open{}, Code: domain.Invalid,
			Fields: []string{"/billing_account_id", "/organisation_id", "/name", "/holder/kind", "/holder/legal_name", "/at"}},
		{Name: "changed", Given: []domain.Event{opened}, When: Change{renamed, scenario.After(1)}, Then: []domain.Event{Changed{account, org, renamed, scenario.After(1)}}},
		{Name: "reachable", Given: []domain.Event{opened}, When: Change{reachable, scenario.After(1)}, Then: []domain.Event{Changed{account, org, reachable, scenario.After(1)}}},
		{Name: "changed to the same", Given: []domain.Event{opened}, When: Change{typed, scenario.After(1)}},
		{Name: "changed when closed", Given: []domain.Event{opened, closed}, When: Change{renamed, scenario.After(2)}, Code: domain.Conflict},
		{Name: "changed and there is none", When: Change{renamed, scenario.After(2)}, Code: domain.NotFound},
		{Name: "made the default", Given: []domain.Event{opened}, When: MakeDefault{isOther, scenario.After(1)}, Then: []domain.Event{MadeDefault{account, scenario.After(1)}}},
		{Name: "is the default", Given: []domain.Event{opened}, When: MakeDefault{isDefault, scenario.After(1)}},
		{Name: "a closed one made the default", Given: []domain.Event{opened, closed}, When: MakeDefault{isOther, scenario.After(2)}, Code: domain.Conflict},
		{Name: "closed", Given: []domain.Event{opened}, When: Close{isOther, scenario.After(1)}, Then: []domain.Event{closed}},
		{Name: "closed again", Given: []domain.Event{opened, closed}, When: Close{isOther, scenario.After(2)}},
		{Name: "the default closed", Given: []domain.Event{opened}, When: Close{isDefault, scenario.After(1)}, Code: domain.Conflict},
		{Name: "no time", Given: []domain.Event{opened}, When: Close{Default: isOther}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "no command", Given: []domain.Event{opened}, When: nil, Code: domain.Internal},
	}
	for name, wrong := range map[string]struct {
		change func(*Details)
		field  string
	}{
		"long name":          {func(d *Details) { d.Name = strings.Repeat("x", MaxName+1) }, "/name"},
		"kind":               {func(d *Details) { d.Holder.Kind = "club" }, "/holder/kind"},
		"no country":         {func(d *Details) { d.Holder.Address.Country = "" }, "/holder/address/country"},
		"many lines":         {func(d *Details) { d.Holder.Address.Lines = []string{"1", "2", "3", "4"} }, "/holder/address/lines"},
		"blank line":         {func(d *Details) { d.Holder.Address.Lines = []string{" "} }, "/holder/address/lines/0"},
		"currency":           {func(d *Details) { d.InvoiceCurrency = "XXX" }, "/invoice_currency"},
		"reference":          {func(d *Details) { d.PurchaseOrder = "a\nb" }, "/purchase_order"},
		"person":             {func(d *Details) { d.PersonID = "Ada Lovelace" }, "/person_id"},
		"mail without @":     {func(d *Details) { d.Contact.Email = "nobody" }, "/contact/email"},
		"mail to two":        {func(d *Details) { d.Contact.Email = "a@b.example,c@d.example" }, "/contact/email"},
		"mail with two @":    {func(d *Details) { d.Contact.Email = "a@b@c.example" }, "/contact/email"},
		"mail to a host":     {func(d *Details) { d.Contact.Email = "a@b" }, "/contact/email"},
		"erased mail":        {func(d *Details) { d.Contact.Email = domain.Erased }, "/contact/email"},
		"tax id":             {func(d *Details) { d.TaxIDs[0].Number = "NL004495446B01" }, "/tax_ids/0/number"},
		"two of one country": {func(d *Details) { d.TaxIDs = append(d.TaxIDs, d.TaxIDs[0]) }, "/tax_ids/1/country"},
		"no such country":    {func(d *Details) { d.TaxIDs = []TaxID{{"EU", "1"}} }, "/tax_ids/0/country"},
		"no such scheme":     {func(d *Details) { d.EndpointScheme, d.EndpointID = "0000", "1" }, "/endpoint_scheme"},
		"address unsaid":     {func(d *Details) { d.EndpointScheme = "0106" }, "/endpoint_id"},
		"scheme unsaid":      {func(d *Details) { d.EndpointID = "12345678" }, "/endpoint_id"},
		"long address":       {func(d *Details) { d.EndpointScheme, d.EndpointID = "0106", strings.Repeat("1", MaxEndpointID+1) }, "/endpoint_id"},
		"many tax ids":       {func(d *Details) { d.TaxIDs = make([]TaxID, MaxTaxIDs+1) }, "/tax_ids"},
	} {
		cases = append(cases, scenario.Case[Command]{Name: name, Given: []domain.Event{opened}, When: Change{with(wrong.change), scenario.After(1)},
			Code: domain.Invalid, Fields: []string{wrong.field}})
	}
	scenario.Run(t, Decide, Evolve, cases)

	if got := DecideDefault(isOther, scenario.Fold(Evolve, opened), scenario.Noon); scenario.Text(t, got...) != scenario.Text(t, DefaultSet{org, account, scenario.Noon}) {
		t.Errorf("made the default: %v", got)
	}
	if got := DecideDefault(isDefault, scenario.Fold(Evolve, opened), scenario.Noon); got != nil {
		t.Errorf("the default made the default: %v", got)
	}
	if got := EvolveDefault(isOther, DefaultSet{org, account, scenario.Noon}); got != isDefault {
		t.Errorf("the default is %+v", got)
	}
}

// TestPersonalTexts: what is about a company stays readable when a person is erased.
func TestPersonalTexts(t *testing.T) {
	t.Parallel()
	names := func(d Details) (found []string) {
		Opened{account, org, d, scenario.Noon}.MapPersonal(func(f domain.PersonalField) string {
			found = append(found, f.Subject+" "+f.Name)
			return f.Text
		})
		return found
	}
	about := org + "/" + account + " "
	if got := strings.Join(names(details()), ", "); got != about+"contact.email, "+about+"contact.name" {
		t.Errorf("a company's account has the personal texts %s", got)
	}
	person := with(func(d *Details) { d.Holder.Kind, d.PersonID, d.Contact = HolderPerson, "mem_1", nil })
	about = org + "/mem_1 holder."
	want := []string{about + "legal_name", about + "postal_code", about + "city", about + "lines.0", org + "/mem_1 tax_id.NL"}
	if got := names(person); strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("a person's account has the personal texts %s", got)
	}
}
