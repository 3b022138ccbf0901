package api_test

import (
	"context"
	"net/http"
	"testing"

	"crossbill/api/client"
	"crossbill/domain"
)

func init() { operationLists = append(operationLists, creditOperations) }

func creditOperations(m *market) []operation {
	invoiceID := unknownID("inv")
	if m.invoiceID != "" {
		invoiceID = m.invoiceID
	}
	everything := true
	return []operation{
		{"creditInvoice", "POST", "/v1/invoices/" + invoiceID + ":credit", m.operatorKey, client.NewCreditNote{Reason: "Outage", Everything: &everything}},
		{"voidInvoice", "POST", "/v1/invoices/" + invoiceID + ":void", m.operatorKey, client.Voiding{Reason: "Wrong address"}},
		{"listCreditNotes", "GET", "/v1/credit-notes", m.customerKey, nil},
		{"getCreditNote", "GET", "/v1/credit-notes/" + unknownID("crn"), m.customerKey, nil},
		{"getCreditNoteDocument", "GET", "/v1/credit-notes/" + unknownID("crn") + "/document", m.customerKey, nil},
	}
}

// TestCreditAnInvoice: the customer reads the credit note, once however often it was asked for, and nobody else does.
func TestCreditAnInvoice(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	half := domain.MustDecimal("0.5")
	request := client.NewCreditNote{Reason: "Outage", Lines: &[]client.NewCreditNoteLine{{Line: 1, Fraction: &half}}}
	params := &client.CreditInvoiceParams{IdempotencyKey: m.idempotencyKey()}
	note, _, err := client.Decode[client.CreditNote](m.operator.CreditInvoice(ctx, m.invoiceID, params, request))
	must(t, err)
	if note.Total.Minor != 200_00 || note.InvoiceNumber != "CB-0000-000001" || len(note.Lines) != 1 || note.Lines[0].Steps[0] != "400.00 × 0.5 = 200" {
		t.Errorf("the credit note is %+v", note)
	}
	again, _, err := client.Decode[client.CreditNote](m.operator.CreditInvoice(ctx, m.invoiceID, params, request))
	must(t, err)
	if again.Id != note.Id {
		t.Errorf("the same request again made %s beside %s", again.Id, note.Id)
	}
	if got := m.settledRevenue(); got != "200.00 USD" {
		t.Errorf("the provider's revenue is %s", got)
	}
	position := int64(m.head())
	page, _, err := client.Decode[client.CreditNotePage](m.customer.ListCreditNotes(ctx, &client.ListCreditNotesParams{AtPosition: &position}))
	must(t, err)
	one, _, err := client.Decode[client.CreditNote](m.customer.GetCreditNote(ctx, note.Id))
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].Id != note.Id || one.Number != note.Number {
		t.Errorf("the customer sees %+v and %+v", page.Items, one)
	}
	for name, key := range map[string]string{"the provider": m.providerKey, "a stranger": m.strangerKey} {
		if status, _, _ := m.do(key, "GET", "/v1/credit-notes/"+note.Id, nil); status != http.StatusNotFound {
			t.Errorf("%s reads it: %d", name, status)
		}
	}
	if status, _, _ := m.do(m.customerKey, "POST", "/v1/invoices/"+m.invoiceID+":credit", request); status != http.StatusForbidden {
		t.Errorf("the customer credits itself: %d", status)
	}
	i, _, err := client.Decode[client.Invoice](m.customer.GetInvoice(ctx, m.invoiceID))
	must(t, err)
	if i.CreditNotes == nil || (*i.CreditNotes)[0] != note.Id || i.Due.Minor != 200_00 {
		t.Errorf("the invoice is %+v", i)
	}
	if status, p, _ := m.do(m.operatorKey, "POST", "/v1/invoices/"+m.invoiceID+":void", client.Voiding{Reason: "x"}); status != http.StatusConflict || p.Hint == nil {
		t.Errorf("a credited invoice is void: %d %+v", status, p)
	}
}

// TestVoidAnInvoice over the interface; what it comes to is tested in package billing.
func TestVoidAnInvoice(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	for range 2 { // the second finds it void
		voided, _, err := client.Decode[client.VoidedInvoice](m.operator.VoidInvoice(ctx, m.invoiceID, nil, client.Voiding{Reason: "Wrong address"}))
		must(t, err)
		if voided.Invoice.State != client.InvoiceStateVoid || voided.Invoice.Due.Minor != 0 || voided.BillingRun != nil {
			t.Errorf("it is %+v", voided)
		}
	}
	settled, _, err := client.Decode[client.Settlement](m.provider.GetSettlement(ctx, m.settlementID))
	must(t, err)
	if settled.Owed.Minor != 0 {
		t.Errorf("the provider is owed %s", settled.Owed)
	}
	if got := m.settledRevenue(); got != "0.00 USD" {
		t.Errorf("the provider's revenue is %s", got)
	}
}
