package api_test

import (
	"context"
	"net/http"
	"testing"

	"crossbill/api/client"
	"crossbill/domain/connection"
	"crossbill/events"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{
			{"getRecurringRevenue", "GET", "/v1/recurring-revenue?from_month=2026-01&to_month=2026-03", m.providerKey, nil},
			{"getGrossMargin", "GET", "/v1/gross-margin?from_month=2026-01&to_month=2026-03", m.operatorKey, nil},
		}
	})
}

// TestMetrics: operators see what the platform has of its fees, a provider what it has of its own prices, and nobody anything of
// others. What the figures are made of is tested in package projections.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	now := m.now()
	at := now.AddDate(0, 0, -now.Day()-10) // of the month before
	_, err := m.log.Append(ctx, events.Append{Streams: []events.StreamAppend{{Stream: connection.Stream(m.order.ConnectionId), Expected: events.Any,
		Events: []events.NewEvent{{Event: connection.Activated{ConnectionID: m.order.ConnectionId, At: at}}}}}})
	must(t, err)
	position := int64(m.head())
	for of, c := range map[client.RecurringRevenueOf]*client.Client{client.RecurringRevenueOfPlatformFees: m.operator, client.RecurringRevenueOfProviderPrices: m.provider} {
		r, _, err := client.Decode[client.RecurringRevenue](c.GetRecurringRevenue(ctx, &client.GetRecurringRevenueParams{AtPosition: &position}))
		must(t, err)
		want := map[client.RecurringRevenueOf]string{client.RecurringRevenueOfPlatformFees: "12.00 USD", client.RecurringRevenueOfProviderPrices: "400.00 USD"}[of]
		if r.Of != of || len(r.Months) != 2 {
			t.Fatalf("%s: %+v", of, r)
		}
		first, last := r.Months[0], r.Months[1]
		if first.Month != at.Format("2006-01") || first.New.String() != want || first.NetRetention != nil || first.NewCustomers != 1 || last.Start.String() != want ||
			last.End.String() != want || last.Month != r.ToMonth || last.NetRetention.String() != "1" || last.GrossRetention.String() != "1" || last.Customers != 1 {
			t.Errorf("%s: %+v", of, r.Months)
		}
	}
	for name, c := range map[string]*client.Client{"the customer": m.customer, "a stranger": m.stranger} {
		r, _, err := client.Decode[client.RecurringRevenue](c.GetRecurringRevenue(ctx, nil))
		must(t, err)
		if len(r.Months) != 0 {
			t.Errorf("%s has %+v", name, r.Months)
		}
	}

	margin, _, err := client.Decode[client.GrossMargin](m.operator.GetGrossMargin(ctx, nil))
	must(t, err)
	if len(margin.Months) != 1 || margin.Months[0].Passthrough.String() != "400.00 USD" || margin.Months[0].FeeRevenue.Minor != 0 || margin.Months[0].GrossMarginRatio != nil {
		t.Errorf("the margin is %+v", margin.Months)
	}
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/gross-margin", nil); status != http.StatusForbidden {
		t.Errorf("a provider reads the platform's margin: %d", status)
	}
	for _, query := range []string{"?from_month=2026-03&to_month=2026-02", "?from_month=2020-01&to_month=2026-02"} {
		for path, key := range map[string]string{"/v1/recurring-revenue": m.providerKey, "/v1/gross-margin": m.operatorKey} {
			if status, _, _ := m.do(key, "GET", path+query, nil); status != http.StatusUnprocessableEntity {
				t.Errorf("%s%s answers %d", path, query, status)
			}
		}
	}
}

// settledRevenue is what the provider reads of what it earned.
func (m *market) settledRevenue() string {
	m.t.Helper()
	position := int64(m.head())
	r, _, err := client.Decode[client.Revenue](m.provider.GetRevenue(context.Background(), &client.GetRevenueParams{AtPosition: &position}))
	must(m.t, err)
	if len(r.SettledTotals) != 1 {
		m.t.Fatalf("the revenue is %+v", r.Settled)
	}
	return r.SettledTotals[0].Amount.String()
}
