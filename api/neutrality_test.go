package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"crossbill/api/client"
	"crossbill/domain"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		invoiceID, settlementID := unknownID("inv"), unknownID("set")
		if m.invoiceID != "" {
			invoiceID, settlementID = m.invoiceID, m.settlementID
		}
		return []operation{
			{"getInvoiceNeutrality", "GET", "/v1/invoices/" + invoiceID + "/neutrality", m.customerKey, nil},
			{"getSettlementNeutrality", "GET", "/v1/settlements/" + settlementID + "/neutrality", m.providerKey, nil},
		}
	})
}

// sides are both views of the market's books, once the read models are there.
func (m *market) sides() (customer, provider client.Neutrality) {
	m.t.Helper()
	position := int64(m.head())
	customer, _, err := client.Decode[client.Neutrality](m.customer.GetInvoiceNeutrality(context.Background(), m.invoiceID, &client.GetInvoiceNeutralityParams{AtPosition: &position}))
	must(m.t, err)
	provider, _, err = client.Decode[client.Neutrality](m.provider.GetSettlementNeutrality(context.Background(), m.settlementID, &client.GetSettlementNeutralityParams{AtPosition: &position}))
	must(m.t, err)
	return customer, provider
}

func neutral(n client.Neutrality) string {
	lines := []string{fmt.Sprint(n.Equal)}
	for _, l := range n.Lines {
		lines = append(lines, fmt.Sprintf("%s charged %v settled %v %t", l.DocumentId[:3], l.Charged, l.Settled, l.Equal))
	}
	return strings.Join(lines, "; ")
}

// TestNeutrality: both sides of an item see it at one amount, before and after a credit note; what differs is said, whichever
// side it is on; and neither sees more of the other's document.
func TestNeutrality(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	check := func(what, wantCustomer, wantProvider string) (client.Neutrality, client.Neutrality) {
		t.Helper()
		customer, provider := m.sides()
		if got := neutral(customer); got != wantCustomer {
			t.Errorf("%s the customer sees %s, not %s", what, got, wantCustomer)
		}
		if got := neutral(provider); got != wantProvider {
			t.Errorf("%s the provider sees %s, not %s", what, got, wantProvider)
		}
		return customer, provider
	}
	whole := "true; inv charged 400.00 USD settled 400.00 USD true"
	customer, provider := check("as issued", whole, whole)
	if len(customer.Lines) == 1 && len(provider.Lines) == 1 {
		c, p := customer.Lines[0], provider.Lines[0]
		if c.ItemId != p.ItemId || *c.SettlementId != m.settlementID || p.DocumentId != m.invoiceID || *p.Line != 1 || *p.CustomerId != m.customerID || *c.ProviderId != m.providerID {
			t.Errorf("the customer sees %+v, the provider %+v", c, p)
		}
	}
	quarter := domain.MustDecimal("0.25")
	_, _, err := client.Decode[client.CreditNote](m.operator.CreditInvoice(ctx, m.invoiceID, nil, client.NewCreditNote{Reason: "Outage", Lines: &[]client.NewCreditNoteLine{{Line: 1, Fraction: &quarter}}}))
	must(t, err)
	credited := whole + "; crn charged -100.00 USD settled -100.00 USD true"
	customer, _ = check("credited", credited, credited)
	if number := customer.Lines[1].SettlementNumber; number == nil || !strings.HasPrefix(*number, "SC-") {
		t.Errorf("the credit of the settlement has the number %v", number)
	}

	_, err = m.pool.Exec(ctx, `INSERT INTO read_settled_items (document_id, item_id, customer_id, provider_id, line, charged)
		VALUES ($1, 'itm_other', $2, $3, 2, 7.00)`, m.invoiceID, m.customerID, m.strangerID)
	must(t, err)
	check("with an item of another provider that the invoice does not have,", strings.Replace(credited, "true;", "false;", 1)+"; inv charged 7.00 USD settled <nil> false", credited)
	operators, _, err := client.Decode[client.Neutrality](m.operator.GetSettlementNeutrality(ctx, m.settlementID, &client.GetSettlementNeutralityParams{}))
	must(t, err)
	if got := neutral(operators); got != credited { // though an operator may see the other's
		t.Errorf("of the provider's settlement an operator sees %s", got)
	}
	_, err = m.pool.Exec(ctx, `DELETE FROM read_settled_items WHERE item_id = 'itm_other'`)
	must(t, err)

	// A margin of a cent, on either side.
	_, err = m.pool.Exec(ctx, `UPDATE read_settled_items SET amount = amount - 0.01 WHERE document_id = $1`, m.invoiceID)
	must(t, err)
	check("a cent less settled,", strings.Replace(strings.Replace(credited, "settled 400.00 USD true", "settled 399.99 USD false", 1), "true;", "false;", 1), credited)
	_, err = m.pool.Exec(ctx, `UPDATE read_settled_items SET amount = amount + 0.01, charged = charged + 0.01 WHERE document_id = $1`, m.invoiceID)
	must(t, err)
	check("a cent more charged,", credited, strings.Replace(strings.Replace(credited, "charged 400.00 USD settled 400.00 USD true", "charged 400.01 USD settled 400.00 USD false", 1), "true;", "false;", 1))

	for path, key := range map[string]string{"/v1/invoices/" + m.invoiceID + "/neutrality": m.providerKey, "/v1/settlements/" + m.settlementID + "/neutrality": m.customerKey} {
		if status, _, _ := m.do(key, "GET", path, nil); status != http.StatusNotFound {
			t.Errorf("%s answers the other side %d", path, status)
		}
	}
}
