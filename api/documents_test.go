package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"crossbill/api/client"
	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

// The harness reads every answer as the contract says; of files it only says that they are ones.
func init() {
	for _, kind := range []string{"application/pdf", "application/xml"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
}

// newID is an id of something of the test's own.
func newID(prefix string) string { return domain.DeriveID(prefix, time.Now(), prefix) }

// checkDocuments reads what a run issued, of an issuer whom nobody recorded, as files.
func (m *market) checkDocuments(i client.Invoice, s client.Settlement) {
	m.t.Helper()
	for path, begins := range map[string]string{
		"/v1/invoices/" + i.Id + "/document": "%PDF-1.7", "/v1/invoices/" + i.Id + "/document?format=ubl": "<?xml",
		"/v1/settlements/" + s.Id + "/document?format=pdf": "%PDF-1.7", "/v1/settlements/" + s.Id + "/document?format=ubl": "<?xml",
	} {
		key := m.customerKey
		if strings.HasPrefix(path, "/v1/settlements") {
			key = m.providerKey
		}
		status, p, body := m.do(key, "GET", path, nil)
		if status != http.StatusOK || !strings.HasPrefix(string(body), begins) {
			m.t.Errorf("%s answers %d %+v: %.60s", path, status, p, body)
		}
	}
	if status, _, _ := m.do(m.customerKey, "GET", "/v1/invoices/"+i.Id+"/document?format=docx", nil); status != http.StatusUnprocessableEntity && status != http.StatusBadRequest {
		m.t.Errorf("a format that there is not answers %d", status)
	}
}

// TestDocuments reads documents with the details that they name, which are not those of today, and with what was credited.
func TestDocuments(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := newMarket(t).open()
	account := billingaccount.Opened{BillingAccountID: newID(domain.PrefixBillingAccount), OrganisationID: m.customerID, At: m.now(), Details: billingaccount.Details{
		Name: "Main", Holder: billingaccount.Holder{Kind: billingaccount.HolderCompany, LegalName: "Then & Co. GmbH",
			Address: &billingaccount.Address{Lines: []string{"Straße 1"}, PostalCode: "20457", City: "Hamburg", Country: "DE"}},
		TaxIDs: []billingaccount.TaxID{{Country: "DE", Number: "DE136695976"}}, EndpointScheme: "9930", EndpointID: "DE136695976",
	}}
	renamed := billingaccount.Changed{BillingAccountID: account.BillingAccountID, OrganisationID: m.customerID, Details: account.Details, At: m.now()}
	renamed.Details.Holder.LegalName = "Now & Co. GmbH"
	carrier := account
	carrier.BillingAccountID, carrier.OrganisationID, carrier.Details.Holder.LegalName = domain.DeriveID(domain.PrefixBillingAccount, m.now(), "carrier"), m.providerID, "Carrier ApS"
	by := issuer.Set{Issuer: billing.Issuer, Version: 1, At: m.now(), Details: issuer.Details{LegalName: "Neutral Ground B.V.",
		Address: billingaccount.Address{Lines: []string{"Quay 1"}, PostalCode: "1011", City: "Amsterdam", Country: "NL"},
		TaxIDs:  []billingaccount.TaxID{{Country: "NL", Number: "NL004495445B01"}}, Registration: "12345678", EndpointScheme: "0106", EndpointID: "12345678"}}
	later := by
	later.Version, later.Details.LegalName = 2, "Merged Ground B.V."

	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	reverse, err := tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "NL", Percent: domain.DecimalFromInt(0), Reason: "Reverse charge"}.Of(usd(1000))
	must(t, err)
	fallen, err := reverse.Of(usd(400))
	must(t, err)
	line := invoice.Line{Number: 1, ItemID: "itm_1", Kind: invoice.LinePassthrough, ProviderID: m.providerID, ConnectionID: newID(domain.PrefixConnection),
		ChargeID: "port", Description: "Port", Quantity: "1", Unit: "month", Exact: "10", Amount: usd(1000), Steps: []string{"10.00"}, TaxCategory: taxrate.CategoryReverseCharge}
	month := m.now().AddDate(0, -1, 0)
	i := invoice.Issued{InvoiceID: newID(domain.PrefixInvoice), Number: "CB-000001", CustomerID: m.customerID, PeriodStart: month, PeriodEnd: m.now(), Currency: "USD",
		Lines: []invoice.Line{line}, Passthrough: usd(1000), Fee: usd(0), Total: usd(1000), Taxes: []tax.Subtotal{reverse}, Tax: usd(0), At: m.now(),
		BillingAccountID: account.BillingAccountID, BillingAccountVersion: 1, IssuerVersion: 1}
	v := settlement.Issued{SettlementID: newID(domain.PrefixSettlement), Number: "ST-000001", ProviderID: m.providerID, PeriodStart: month, PeriodEnd: m.now(), Currency: "USD",
		Lines: []settlement.Line{{ItemID: "itm_1", InvoiceID: i.InvoiceID, ConnectionID: line.ConnectionID, ChargeID: "port", Description: "Port", Amount: usd(1000), TaxCategory: taxrate.CategoryReverseCharge}},
		Total: usd(1000), Taxes: []tax.Subtotal{reverse}, Tax: usd(0), At: m.now(), ProviderAccountID: carrier.BillingAccountID, ProviderAccountVersion: 1, IssuerVersion: 1}
	credited := settlement.Credited{SettlementID: v.SettlementID, Number: "SC-000001", CreditNoteID: newID(domain.PrefixCreditNote), Reason: "Outage",
		Lines: []settlement.CreditedLine{{ItemID: "itm_1", Amount: usd(400)}}, Total: usd(400), At: m.now()}
	note := creditnote.Issued{CreditNoteID: credited.CreditNoteID, Number: "CN-000001", InvoiceID: i.InvoiceID, InvoiceNumber: i.Number, CustomerID: m.customerID,
		Reason: "Outage", PeriodStart: month, PeriodEnd: m.now(), Currency: "USD", Lines: []creditnote.Line{{Number: 1, InvoiceLine: 1, ItemID: "itm_1",
			Kind: invoice.LinePassthrough, ProviderID: m.providerID, ConnectionID: line.ConnectionID, Description: "Port", Exact: "4", Amount: usd(400),
			TaxCategory: line.TaxCategory}},
		Passthrough: usd(400), Fee: usd(0), Total: usd(400), Taxes: []tax.Subtotal{fallen}, Tax: usd(0), Settlements: []string{v.SettlementID}, At: m.now().AddDate(0, 0, 1),
		BillingAccountID: account.BillingAccountID, BillingAccountVersion: 1, IssuerVersion: 1}
	for _, a := range []struct {
		stream  string
		parties []string
		events  []domain.Event
	}{
		{billingaccount.Stream(account.BillingAccountID), []string{m.customerID}, []domain.Event{account, renamed}},
		{billingaccount.Stream(carrier.BillingAccountID), []string{m.providerID}, []domain.Event{carrier}},
		{issuer.Stream(billing.Issuer), nil, []domain.Event{by, later}},
		{invoice.Stream(i.InvoiceID), []string{m.customerID}, []domain.Event{i}},
		{creditnote.Stream(note.CreditNoteID), []string{m.customerID}, []domain.Event{note}},
		{settlement.Stream(v.SettlementID), []string{m.providerID}, []domain.Event{v, credited}},
	} {
		s := events.StreamAppend{Stream: a.stream, Expected: events.ExpectedVersion(0)}
		for _, e := range a.events {
			s.Events = append(s.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Parties: a.parties}})
		}
		_, err := m.log.Append(ctx, events.Append{Streams: []events.StreamAppend{s}})
		must(t, err)
	}

	says := func(key, path string, want ...string) {
		t.Helper()
		status, p, body := m.do(key, "GET", path, nil)
		if status != http.StatusOK {
			t.Fatalf("%s answers %d: %s", path, status, p.Detail)
		}
		for _, w := range want {
			if !strings.Contains(string(body), w) {
				t.Errorf("%s does not say %q:\n%s", path, w, body)
			}
		}
	}
	says(m.customerKey, "/v1/invoices/"+i.InvoiceID+"/document?format=ubl", "Then &amp; Co. GmbH", "Neutral Ground B.V.", "peppol.eu:2017:poacc:billing:3.0", ">380<")
	says(m.providerKey, "/v1/settlements/"+v.SettlementID+"/document?format=ubl", "Carrier ApS", "Neutral Ground B.V.", "poacc:selfbilling:3.0", ">389<")
	says(m.providerKey, "/v1/settlements/"+v.SettlementID+"/document?format=ubl&credit=SC-000001", "<CreditNote", ">261<", "ST-000001", "4.00")
	says(m.providerKey, "/v1/settlements/"+v.SettlementID+"/document?credit=SC-000001", "%PDF-1.7")
	says(m.customerKey, "/v1/credit-notes/"+note.CreditNoteID+"/document?format=ubl", "<CreditNote", ">381<", "CN-000001", "CB-000001",
		"<cbc:IssueDate>"+i.At.Format(time.DateOnly)+"</cbc:IssueDate>", "Then &amp; Co. GmbH", "Neutral Ground B.V.", "peppol.eu:2017:poacc:billing:3.0", ">4.00<", "Outage")
	says(m.customerKey, "/v1/credit-notes/"+note.CreditNoteID+"/document", "%PDF-1.7")
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/credit-notes/"+note.CreditNoteID+"/document", nil); status != http.StatusNotFound {
		t.Errorf("the credit note's document answers a provider %d", status)
	}
	for key, path := range map[string]string{
		m.providerKey: "/v1/invoices/" + i.InvoiceID + "/document", m.customerKey: "/v1/settlements/" + v.SettlementID + "/document",
	} {
		if status, _, _ := m.do(key, "GET", path, nil); status != http.StatusNotFound {
			t.Errorf("%s answers somebody else %d", path, status)
		}
	}
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/settlements/"+v.SettlementID+"/document?credit=SC-000002", nil); status != http.StatusNotFound {
		t.Errorf("a credit that there is not answers %d", status)
	}
}
