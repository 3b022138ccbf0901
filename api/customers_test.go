package api_test

import (
	"strings"
	"testing"

	"crossbill/api/client"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"listCustomers", "GET", "/v1/customers", m.providerKey, nil}}
	})
}

// TestCustomers: a provider sees who ordered of it, by name, with what they have; nobody else sees that.
func TestCustomers(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	first := m.order
	order := m.newOrder(m.takeQuote())
	last, _, err := client.Decode[client.Order](m.customer.PlaceOrder(t.Context(), nil, order))
	must(t, err)
	page, _, err := client.Decode[client.CustomerPage](m.provider.ListCustomers(t.Context(), &client.ListCustomersParams{AtPosition: m.at()}))
	must(t, err)
	if len(page.Items) != 1 || page.NextPageToken != nil {
		t.Fatalf("the customers are %+v", page)
	}
	c := page.Items[0]
	count := 0
	for _, n := range c.Connections {
		count += n
	}
	if c.Id != m.customerID || c.Name == nil || *c.Name == "" || c.Orders != 2 || !c.FirstOrderAt.Equal(first.PlacedAt) || !c.LastOrderAt.Equal(last.PlacedAt) || count != 2 {
		t.Errorf("the customer is %+v, with %d connections", c, count)
	}
	for who, key := range map[string]string{"a customer": m.customerKey, "a stranger": m.strangerKey} {
		if status, _, body := m.do(key, "GET", "/v1/customers", nil); status != 200 || strings.Contains(string(body), m.customerID) {
			t.Errorf("%s: %d %s", who, status, body)
		}
	}
}
