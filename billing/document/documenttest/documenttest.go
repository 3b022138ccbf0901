// Package documenttest makes documents for the tests of what writes them: one of each kind that differs in what it says.
// Every one is held to the rules of its own aggregate before it is used.
//
// It is for tests only. Start reading at [All].
package documenttest

import (
	"fmt"
	"strings"
	"time"

	"crossbill/billing/document"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/pricing"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

var (
	march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	april = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

func id(prefix string, n int) string { return domain.DeriveID(prefix, march, fmt.Sprint(n)) }

// The organisations of the documents.
var (
	Customer = id(domain.PrefixOrganisation, 1)
	Provider = id(domain.PrefixOrganisation, 2)
)

// Names of what the documents are about.
func Names() map[string]string {
	return map[string]string{Customer: "Harbour Networks", Provider: "Northlight Carrier"}
}

// Issuer is the platform, in the Netherlands.
func Issuer() issuer.State {
	return issuer.State{Issuer: "crossbill", Version: 1, At: march, Details: issuer.Details{
		LegalName: "Neutral Ground B.V.", Address: billingaccount.Address{Lines: []string{"Quay 1", "Second floor", "Door 7"}, PostalCode: "1011 AB", City: "Amsterdam", Region: "North Holland", Country: "NL"},
		TaxIDs: []billingaccount.TaxID{{Country: "NL", Number: "NL004495445B01"}}, Registration: "12345678",
		Contact: &billingaccount.Contact{Email: "billing@platform.example", Name: "Billing"}, EndpointScheme: "0106", EndpointID: "12345678",
		IBAN: "NL91ABNA0417164300", BIC: "ABNANL2A", TermsDays: 30,
	}}
}

// Account is a billing account in a country, reachable over Peppol.
func Account(n int, organisation, name string, country domain.Country, taxIDs ...billingaccount.TaxID) *billingaccount.State {
	return &billingaccount.State{ID: id(domain.PrefixBillingAccount, n), OrganisationID: organisation, State: billingaccount.StateOpen, OpenedAt: march,
		Details: billingaccount.Details{Name: "Main", TaxIDs: taxIDs, Contact: &billingaccount.Contact{Email: "ap@customer.example", Name: "Accounts payable"},
			Holder:         billingaccount.Holder{Kind: billingaccount.HolderCompany, LegalName: name, Address: &billingaccount.Address{Lines: []string{"Hafenstraße 12"}, PostalCode: "20457", City: "Hamburg", Country: country}},
			EndpointScheme: "9930", EndpointID: "DE136695976"}}
}

// German is a customer in another country of the EU.
func German() *billingaccount.State {
	return Account(1, Customer, "Harbour Networks GmbH & Co. KG", "DE", billingaccount.TaxID{Country: "DE", Number: "DE136695976"})
}

// Dutch is a customer in the issuer's country.
func Dutch() *billingaccount.State {
	a := Account(2, Customer, "Grachtennet B.V.", "NL", billingaccount.TaxID{Country: "NL", Number: "NL123456782B90"})
	a.Details.EndpointScheme, a.Details.EndpointID = "0190", "00000001234567890000"
	return a
}

// American is a customer outside the EU.
func American() *billingaccount.State {
	a := Account(3, Customer, "Pier 39 Networks, Inc.", "US", billingaccount.TaxID{Country: "US", Number: "123456789"})
	a.Details.EndpointScheme, a.Details.EndpointID = "0060", "012345678"
	return a
}

// Carrier is the provider, whose settlements are made out in its name.
func Carrier() *billingaccount.State {
	a := Account(4, Provider, "Northlight Carrier ApS", "DK", billingaccount.TaxID{Country: "DK", Number: "DK13585628"})
	a.Details.EndpointScheme, a.Details.EndpointID = "0184", "DK13585628"
	a.Details.Holder.Address = &billingaccount.Address{Lines: []string{"Nordhavn 4"}, PostalCode: "2150", City: "København", Country: "DK"}
	return a
}

// Treatments of supplies.
var (
	Standard = tax.Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal("21"), Version: 1}
	Reverse  = tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "NL", Percent: domain.DecimalFromInt(0), Reason: "Reverse charge"}
	Export   = tax.Treatment{Category: taxrate.CategoryExport, Country: "NL", Percent: domain.DecimalFromInt(0), Reason: "Export outside the EU"}
	Outside  = tax.Treatment{Category: taxrate.CategoryOutside, Country: "NL", Percent: domain.DecimalFromInt(0), Reason: "Not subject to tax"}
	Exempt   = tax.Treatment{Category: taxrate.CategoryExempt, Country: "NL", Percent: domain.DecimalFromInt(0), Reason: "Exempt under article 11"}
	Zero     = tax.Treatment{Category: taxrate.CategoryZero, Country: "NL", Percent: domain.DecimalFromInt(0)}
)

// Charge is one line before it is one. Quantity and Exact are decimals; Exact may end in "…".
type Charge struct {
	Description, Quantity, Unit, Exact string
	Fee                                bool
	Credit                             bool // for a month that fell short of its promise
	Adjusts                            bool // the month before
	Of                                 *tax.Treatment
	From, To                           int // days of March; 0: all
	Converted                          string
}

// ExampleA is worked example A: a part of a month, tiers, and a fee.
var ExampleA = []Charge{
	{Description: "Port, 10 Gbps", Quantity: "0.677419354838709677…", Unit: "month", Exact: "270.967741935483870967…", From: 11, To: 31},
	{Description: "Traffic, both directions", Quantity: "12345.678901234", Unit: "GB", Exact: "343.45678901234"},
	{Description: "Platform fee, 3 % of the provider's price", Quantity: "614.43", Unit: "USD", Exact: "18.4329", Fee: true},
}

// Invoice makes an invoice of so many connections, each with the charges.
func Invoice(connections int, currency domain.Currency, charges []Charge, t *tax.Treatment) invoice.State {
	due := april.AddDate(0, 0, 30)
	i := invoice.Issued{
		InvoiceID: id(domain.PrefixInvoice, 1), Number: "CB-000042", CustomerID: Customer, PeriodStart: march, PeriodEnd: april, Currency: currency,
		LogPosition: 4711, RunID: id(domain.PrefixBillingRun, 1), At: april.AddDate(0, 0, 2), DueAt: &due, PurchaseOrder: "PO-2026-7",
		Passthrough: domain.Money{Currency: currency}, Fee: domain.Money{Currency: currency},
	}
	var treatments []tax.Treatment
	taxable := make(map[string]int64)
	for c := range connections {
		for n, charge := range charges {
			l := charge.line(len(i.Lines)+1, c, n, currency)
			of := t
			if charge.Of != nil {
				of = charge.Of
			}
			if of != nil {
				l.TaxCategory = of.Category
				if _, known := taxable[of.Category]; !known {
					treatments = append(treatments, *of)
				}
				taxable[of.Category] += l.Amount.Minor
			}
			if charge.Fee {
				i.Fee.Minor += l.Amount.Minor
			} else {
				i.Passthrough.Minor += l.Amount.Minor
			}
			i.Lines = append(i.Lines, l)
		}
	}
	i.Taxes, i.Tax = Taxes(treatments, taxable, currency)
	i.Total = domain.Money{Minor: i.Passthrough.Minor + i.Fee.Minor + i.Tax.Minor, Currency: currency}
	decided, err := invoice.Decide(invoice.State{}, invoice.Issue{Invoice: i})
	return fold(invoice.Evolve, decided, err)
}

func (c Charge) line(number, connection, n int, currency domain.Currency) invoice.Line {
	exact := domain.MustDecimal(strings.TrimSuffix(c.Exact, "…"))
	amount, err := domain.RoundMoney(exact, currency)
	must(err)
	l := invoice.Line{
		Number: number, ItemID: fmt.Sprintf("itm-%d-%d", connection, n), Kind: invoice.LinePassthrough, ProviderID: Provider,
		ConnectionID: id(domain.PrefixConnection, connection), ChargeID: fmt.Sprintf("charge-%d", n), Description: c.Description,
		Quantity: c.Quantity, Unit: c.Unit, Exact: c.Exact, Amount: amount, Steps: []string{"a × b = c"},
		Plan: invoice.PlanRef{ListingID: id(domain.PrefixListing, 1), Version: 1}, QuoteID: id(domain.PrefixQuote, 1),
		Evidence: []invoice.Evidence{{Stream: "connection-1", FromVersion: 1, ToVersion: 9, Count: 9, Digest: strings.Repeat("0a", 32)}},
	}
	if c.Fee {
		l.Kind = invoice.LineFee
	}
	if c.Credit {
		l.ChargeID = pricing.CreditChargeID
	}
	if c.From > 0 {
		from, to := march.AddDate(0, 0, c.From-1), march.AddDate(0, 0, c.To)
		if c.Adjusts {
			from, to = from.AddDate(0, -1, 0), to.AddDate(0, -1, 0)
		}
		l.From, l.To = &from, &to
	}
	if c.Adjusts {
		l.Adjusts = &invoice.Adjustment{PeriodStart: march.AddDate(0, -1, 0), PeriodEnd: march, Billed: domain.Money{Minor: 34346, Currency: currency}}
	}
	if c.Converted != "" {
		l.Converted = &invoice.Conversion{Amount: c.Converted, Currency: "SEK", Rate: domain.MustDecimal("0.1047"), RateVersion: 3}
	}
	return l
}

// Taxes computes the taxes on taxable amounts, in minor units by category.
func Taxes(treatments []tax.Treatment, taxable map[string]int64, currency domain.Currency) ([]tax.Subtotal, domain.Money) {
	var taxes []tax.Subtotal
	var total domain.Money
	for _, t := range treatments {
		s, err := t.Of(domain.Money{Minor: taxable[t.Category], Currency: currency})
		must(err)
		taxes = append(taxes, s)
		total = domain.Money{Minor: total.Minor + s.Tax.Minor, Currency: currency}
	}
	return taxes, total
}

// CreditNote gives half of each line of an invoice back.
func CreditNote(i invoice.State) creditnote.Content {
	n := creditnote.Issued{
		CreditNoteID: id(domain.PrefixCreditNote, 1), Number: "CN-000007", InvoiceID: i.InvoiceID, InvoiceNumber: i.Number, CustomerID: i.CustomerID,
		Reason: "Outage of 12 March, 04:00 to 16:00 UTC", PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, Currency: i.Currency, At: april.AddDate(0, 0, 9),
		Passthrough: domain.Money{Currency: i.Currency}, Fee: domain.Money{Currency: i.Currency}, PurchaseOrder: i.PurchaseOrder,
	}
	taxable := make(map[string]int64)
	for _, l := range i.Lines {
		exact := l.Amount.Decimal().Quo(domain.DecimalFromInt(2))
		amount, err := domain.RoundMoney(exact, i.Currency)
		must(err)
		taxable[l.TaxCategory] += amount.Minor
		if l.Kind == invoice.LineFee {
			n.Fee.Minor += amount.Minor
		} else {
			n.Passthrough.Minor += amount.Minor
		}
		n.Lines = append(n.Lines, creditnote.Line{Number: len(n.Lines) + 1, InvoiceLine: l.Number, ItemID: l.ItemID, Kind: l.Kind, ProviderID: l.ProviderID,
			ConnectionID: l.ConnectionID, Description: l.Description, Exact: exact.String(), Amount: amount,
			Steps: []string{l.Amount.Amount() + " × 0.5"}, TaxCategory: l.TaxCategory})
	}
	var treatments []tax.Treatment
	for _, s := range i.Taxes {
		treatments = append(treatments, s.Treatment)
	}
	n.Taxes, n.Tax = Taxes(treatments, taxable, i.Currency)
	n.Total = domain.Money{Minor: n.Passthrough.Minor + n.Fee.Minor + n.Tax.Minor, Currency: i.Currency}
	decided, err := creditnote.Decide(creditnote.State{}, creditnote.Issue{CreditNote: n})
	return fold(creditnote.Evolve, decided, err).Content
}

// Settlement is what the provider gets of an invoice, and a credit of half its first line.
func Settlement(i invoice.State, t tax.Treatment) (settlement.Content, settlement.Credited) {
	v := settlement.Issued{
		SettlementID: id(domain.PrefixSettlement, 1), Number: "ST-000003", ProviderID: Provider, PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd,
		Currency: i.Currency, Total: domain.Money{Currency: i.Currency}, LogPosition: i.LogPosition, RunID: i.RunID, At: i.At,
	}
	for _, l := range i.Lines {
		if l.Kind != invoice.LinePassthrough {
			continue
		}
		v.Lines = append(v.Lines, settlement.Line{ItemID: l.ItemID, InvoiceID: i.InvoiceID, ConnectionID: l.ConnectionID, ChargeID: l.ChargeID,
			Description: l.Description, Amount: l.Amount, InvoiceLine: l.Number, TaxCategory: t.Category})
		v.Total.Minor += l.Amount.Minor
	}
	v.Taxes, v.Tax = Taxes([]tax.Treatment{t}, map[string]int64{t.Category: v.Total.Minor}, i.Currency)
	decided, err := settlement.Decide(settlement.State{}, settlement.Issue{Settlement: v})
	issued := fold(settlement.Evolve, decided, err)
	c := settlement.Credited{SettlementID: v.SettlementID, Number: "SC-000001", CreditNoteID: id(domain.PrefixCreditNote, 1), Reason: "Outage of 12 March",
		Total: domain.Money{Minor: v.Lines[0].Amount.Minor / 2, Currency: i.Currency}, At: april.AddDate(0, 0, 9)}
	c.Lines = []settlement.CreditedLine{{ItemID: v.Lines[0].ItemID, Amount: c.Total}}
	c.Taxes, c.Tax = Taxes([]tax.Treatment{t}, map[string]int64{t.Category: c.Total.Minor}, i.Currency)
	return issued.Content, c
}

// fold is the state after what was decided.
func fold[S any](evolve func(S, domain.Event) S, decided []domain.Event, err error) (s S) {
	must(err)
	for _, e := range decided {
		s = evolve(s, e)
	}
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Source is what a document is made of, with an account.
func Source(account *billingaccount.State) document.Source {
	return document.Source{Issuer: Issuer(), Account: account, Names: Names(), Proof: "https://crossbill.example/v1/invoices/inv_1/proof"}
}

// Case is a document and what it is of.
type Case struct {
	Name     string
	Document *document.Document
}

// All are documents that differ in what a reader has to understand of them.
func All() []Case {
	invoiceOf := func(name string, i invoice.State, account *billingaccount.State) Case {
		return Case{name, document.Invoice(i, Source(account))}
	}
	charges := func(more ...Charge) []Charge { return append(append([]Charge{}, ExampleA...), more...) }
	normal := Invoice(1, "EUR", charges(
		Charge{Description: "Cross-connect", Quantity: "1", Unit: "once", Exact: "150"},
		Charge{Description: "Traffic, per gigabyte", Quantity: "1000", Unit: "GB", Exact: "20"},
		Charge{Description: "Burst", Quantity: "12.5", Unit: "Mbps-month", Exact: "37.5"},
		Charge{Description: "Nothing used", Quantity: "0", Unit: "GiB", Exact: "0"}), &Standard)
	reverse := Invoice(2, "USD", ExampleA, &Reverse)
	late := charges(
		Charge{Description: "Traffic, both directions", Quantity: "1000", Unit: "GB", Exact: "10", Adjusts: true, From: 5, To: 20},
		Charge{Description: "Traffic, both directions", Quantity: "12000", Unit: "GB", Exact: "-43.45678901234", Adjusts: true},
		Charge{Description: "Platform fee", Quantity: "-33.46", Unit: "EUR", Exact: "-1.0038", Fee: true, Adjusts: true},
		Charge{Description: "Remote peering", Quantity: "1", Unit: "month", Exact: "31.410000000000000000", Converted: "300"})
	short := charges(Charge{Description: "Credit for availability, 10 % of what is charged by time", Quantity: "1", Unit: "once", Exact: "-27.097", Credit: true})
	owed := []Charge{{Description: "Correction", Quantity: "5", Unit: "GB", Exact: "-12.34", Adjusts: true}}
	whole := []Charge{
		{Description: "Port", Quantity: "1", Unit: "month", Exact: "40000"},
		{Description: "Traffic", Quantity: "1234.5", Unit: "GB", Exact: "1234.5"}, // rounds, so has no unit price (PEPPOL-EN16931-R120)
		{Description: "Platform fee", Quantity: "41235", Unit: "JPY", Exact: "1237.05", Fee: true},
	}
	fils := []Charge{{Description: "Port", Quantity: "1", Unit: "month", Exact: "40.125"}, {Description: "Platform fee", Quantity: "40.125", Unit: "BHD", Exact: "1.20375", Fee: true}}
	foreign := func(name string) *billingaccount.State {
		a := American()
		a.Details.Holder.LegalName = name
		return a
	}
	erased := German()
	erased.Details.Holder.LegalName, erased.Details.Contact.Email, erased.Details.TaxIDs[0].Number = domain.Erased, domain.Erased, domain.Erased
	erased.Details.Holder.Address.Lines[0], erased.Details.EndpointID = domain.Erased, domain.Erased
	unreachable := German()
	unreachable.Details.EndpointScheme, unreachable.Details.EndpointID = "", ""
	mail := German()
	mail.Details.EndpointScheme, mail.Details.EndpointID = billingaccount.SchemeEmail, "ap@customer.example"

	settled, credited := Settlement(reverse, tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "DK", Percent: domain.DecimalFromInt(0), Reason: "Reverse charge"})
	fell := Invoice(1, "EUR", short, &Standard)
	fellSettled, _ := Settlement(fell, tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "DK", Percent: domain.DecimalFromInt(0), Reason: "Reverse charge"})
	unregistered, unregisteredCredit := Settlement(reverse, Outside)
	small := Carrier()
	small.Details.TaxIDs = nil
	void, paid := normal, normal
	at := april.AddDate(0, 0, 20)
	void.State, void.Reason, void.ClosedAt = invoice.StateVoid, "Made out to the wrong company", &at
	paid.State, paid.Reference, paid.ClosedAt = invoice.StatePaid, "bank-7", &at
	part := normal
	part.Credited = domain.Money{Minor: 5000, Currency: "EUR"}
	unknownIssuer := document.Invoice(Invoice(1, "USD", ExampleA, nil), document.Source{Names: Names(), Proof: "https://crossbill.example/p"})
	bare := document.Settlement(settled, document.Source{})
	return []Case{
		invoiceOf("normal", normal, Dutch()),
		invoiceOf("reverse charge", reverse, German()),
		invoiceOf("export", Invoice(1, "USD", ExampleA, &Export), American()),
		invoiceOf("out of scope", Invoice(1, "USD", ExampleA, &Outside), German()),
		invoiceOf("exempt", Invoice(1, "EUR", ExampleA, &Exempt), Dutch()),
		invoiceOf("zero rated", Invoice(1, "EUR", ExampleA, &Zero), Dutch()),
		invoiceOf("two categories", Invoice(1, "EUR", charges(Charge{Description: "Course", Quantity: "1", Unit: "once", Exact: "99.99", Of: &Exempt}), &Standard), Dutch()),
		invoiceOf("adjustments", Invoice(1, "EUR", late, &Standard), Dutch()),
		invoiceOf("credit for availability", fell, Dutch()),
		{"credit for availability, settlement", document.Settlement(fellSettled, Source(Carrier()))},
		{"credit for availability, given back", document.CreditNote(CreditNote(fell), fell.At, Source(Dutch()))},
		invoiceOf("owed to the customer", Invoice(1, "EUR", owed, &Standard), Dutch()),
		invoiceOf("many connections", Invoice(80, "EUR", ExampleA, &Standard), Dutch()),
		invoiceOf("no decimals", Invoice(1, "JPY", whole, &Export), American()),
		invoiceOf("no decimals, taxed", Invoice(1, "JPY", whole, &Standard), Dutch()),
		invoiceOf("three decimals", Invoice(1, "BHD", fils, &Export), American()),
		invoiceOf("Cyrillic", Invoice(1, "USD", ExampleA, &Export), foreign(`ТОВ "Дніпровські мережі" & Ко <Київ>`)),
		invoiceOf("Greek", Invoice(1, "USD", ExampleA, &Export), foreign("Ελληνικά Δίκτυα Ανώνυμη Εταιρεία")),
		invoiceOf("CJK", Invoice(1, "USD", ExampleA, &Export), foreign("東京港湾ネットワーク株式会社")),
		invoiceOf("Arabic", Invoice(1, "USD", ExampleA, &Export), foreign("شبكات الميناء ش.م.م")),
		invoiceOf("erased", Invoice(1, "EUR", ExampleA, &Standard), erased),
		invoiceOf("no address", reverse, unreachable),
		invoiceOf("mail address", reverse, mail),
		invoiceOf("void", void, Dutch()),
		invoiceOf("paid", paid, Dutch()),
		invoiceOf("credited since", part, Dutch()),
		{"credit note", document.CreditNote(CreditNote(normal), normal.At, Source(Dutch()))},
		{"credit note, reverse charge", document.CreditNote(CreditNote(reverse), time.Time{}, Source(German()))},
		{"settlement", document.Settlement(settled, Source(Carrier()))},
		{"settlement credit", document.SettlementCredit(settled, credited, Source(Carrier()))},
		{"settlement, not registered", document.Settlement(unregistered, Source(small))},
		{"settlement credit, not registered", document.SettlementCredit(unregistered, unregisteredCredit, Source(small))},
		{"nobody known", unknownIssuer},
		{"nobody known, settlement", bare},
	}
}
