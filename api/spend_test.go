package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/events"
	"crossbill/projections"
)

// sellFrom puts the placed order's connection into production at a time, without an edge node: what it is billed for.
func (m *market) sellFrom(from time.Time) string {
	m.t.Helper()
	ctx, id := context.Background(), m.order.ConnectionId
	_, version, err := events.Load(ctx, m.log, connection.Stream(id), connection.Evolve)
	must(m.t, err)
	parties := events.Metadata{Parties: []string{m.customerID, m.providerID}}
	_, err = m.log.Append(ctx, events.Append{Streams: []events.StreamAppend{{
		Stream: connection.Stream(id), Expected: events.ExpectedVersion(version),
		Events: []events.NewEvent{{Event: connection.Activated{ConnectionID: id, At: from}, Metadata: parties}},
	}}})
	must(m.t, err)
	return id
}

func (m *market) at() *int64 { p := int64(m.head()); return &p }

// sums writes sums as "key passthrough fee; …", the key cut to its end.
func sums(all []client.SpendSum) string {
	var words []string
	for _, s := range all {
		words = append(words, fmt.Sprintf("%s %s %s", s.Key[max(0, len(s.Key)-4):], s.Passthrough, s.Fee))
	}
	return strings.Join(words, "; ")
}

func TestSpend(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	ctx := context.Background()
	// The clock stands in the middle of a month that is all to come for the machine.
	month := billing.MonthOf(m.now().AddDate(0, 2, 0))
	middle := month.From.Add(month.To.Sub(month.From) / 2)
	m.ahead.Add(int64(time.Until(middle)))
	id := m.sellFrom(month.From)
	details := accountDetails()
	details.InvoiceCurrency = "" // the plan's own
	second, _, err := client.Decode[client.BillingAccount](m.customer.OpenBillingAccount(ctx, nil, details))
	must(t, err)
	order := m.newOrder(m.takeQuote())
	order.BillingAccountId = &second.Id
	m.order, _, err = client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, order))
	must(t, err)
	other := m.sellFrom(month.From.Add(month.To.Sub(month.From) / 4))

	forecast, _, err := client.Decode[client.Spend](m.customer.GetSpendForecast(ctx, &client.GetSpendForecastParams{AtPosition: m.at()}))
	must(t, err)
	if got := sums(forecast.Totals); got != " 700.00 USD 21.00 USD" || forecast.Forecast == nil || forecast.Forecast.PastSeconds+forecast.Forecast.ComingSeconds != month.Seconds() {
		t.Errorf("the forecast is %s: %+v", got, forecast)
	}
	for by, want := range map[client.GetSpendParamsGroupBy]string{
		client.GetSpendParamsGroupByConnection:     id[26:] + " 200.00 USD 6.00 USD; " + other[26:] + " 100.00 USD 3.00 USD",
		client.GetSpendParamsGroupByProvider:       m.providerID[26:] + " 300.00 USD 9.00 USD",
		client.GetSpendParamsGroupByListing:        m.listing.Id[26:] + " 300.00 USD 9.00 USD",
		client.GetSpendParamsGroupByBillingAccount: m.accountID[26:] + " 200.00 USD 6.00 USD; " + second.Id[26:] + " 100.00 USD 3.00 USD",
		client.GetSpendParamsGroupByLineKind:       " fee 0.00 USD 9.00 USD; ough 300.00 USD 0.00 USD",
	} {
		spend, _, err := client.Decode[client.Spend](m.customer.GetSpend(ctx, &client.GetSpendParams{GroupBy: &by}))
		must(t, err)
		// A second of the platform's clock is a hundredth of a cent here, so a few do not matter.
		if got := sums(spend.Groups); got != strings.TrimSpace(want) || spend.Connections != 2 || spend.Forecast != nil {
			t.Errorf("by %s: %s, not %s", by, got, want)
		}
	}
	one, _, err := client.Decode[client.Spend](m.customer.GetSpend(ctx, &client.GetSpendParams{ConnectionId: &other}))
	must(t, err)
	if got := sums(one.Totals); got != " 100.00 USD 3.00 USD" {
		t.Errorf("one connection: %s", got)
	}
	limit := 1
	page, _, err := client.Decode[client.Spend](m.customer.GetSpend(ctx, &client.GetSpendParams{Limit: &limit}))
	must(t, err)
	rest, _, err := client.Decode[client.Spend](m.customer.GetSpend(ctx, &client.GetSpendParams{Limit: &limit, PageToken: page.NextPageToken}))
	must(t, err)
	if page.Connections != 1 || rest.Connections != 1 || rest.NextPageToken != nil || sums(page.Totals) == sums(rest.Totals) {
		t.Errorf("page by page: %s, then %s", sums(page.Totals), sums(rest.Totals))
	}

	// The provider earns the passthrough; nobody else sees anything of it.
	by := client.GetRevenueParamsGroupByCustomer
	revenue, _, err := client.Decode[client.Revenue](m.provider.GetRevenue(ctx, &client.GetRevenueParams{GroupBy: &by}))
	must(t, err)
	if len(revenue.Settled) != 0 || len(revenue.Open.Groups) != 1 || revenue.Open.Groups[0].Key != m.customerID || revenue.Open.Groups[0].Amount.String() != "300.00 USD" {
		t.Errorf("the provider's revenue is %+v", revenue)
	}
	for _, path := range []string{"/v1/spend", "/v1/spend/forecast", "/v1/revenue"} {
		if _, _, body := m.do(m.strangerKey, "GET", path, nil); !strings.Contains(string(body), `"connections":0`) || strings.Contains(string(body), m.customerID) {
			t.Errorf("a stranger's %s is %s", path, body)
		}
	}
	for _, bad := range []string{"?month=2999-01", "?month=2026-13", "?group_by=day", "?connection_id=" + m.order.Id} {
		if status, _, _ := m.do(m.customerKey, "GET", "/v1/spend"+bad, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/spend?connection_id="+id, nil); status != http.StatusNotFound {
		t.Errorf("the provider's own spend on what it sold: %d", status)
	}
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/revenue?from_month=2026-02&to_month=2026-01", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a revenue backwards: %d", status)
	}

	// The month is over and billed: revenue is settled, invoices are found by what they are.
	m.ahead.Add(int64(month.To.Sub(middle) + time.Hour))
	m.close(nil, client.NewBillingRun{GraceHours: noGrace, PeriodStart: month.From, PeriodEnd: month.To})
	position := int64(m.head())
	name := month.From.Format("2006-01")
	billed, _, err := client.Decode[client.Spend](m.customer.GetSpend(ctx, &client.GetSpendParams{Month: &name, AtPosition: &position}))
	must(t, err)
	if got := sums(billed.Totals); got != " 700.00 USD 21.00 USD" || !billed.AsOf.Equal(month.To) {
		t.Errorf("the month came to %s", got)
	}
	byMonth, _, err := client.Decode[client.Revenue](m.provider.GetRevenue(ctx, nil))
	must(t, err)
	if len(byMonth.Settled) != 1 || *byMonth.Settled[0].Month != name || byMonth.Settled[0].Amount.String() != "700.00 USD" || byMonth.SettledTotals[0].Amount.String() != "700.00 USD" {
		t.Errorf("settled: %+v", byMonth)
	}
	for query, want := range map[string]int{
		"": 1, "?period=" + name: 1, "?period=2020-01": 0, "?currency=USD": 1, "?currency=EUR": 0, "?state=issued": 1, "?state=paid": 0,
		"?billing_account_id=" + unknownID("bac"): 0, "?period=" + name + "&currency=USD&state=issued&limit=1": 1,
	} {
		_, _, body := m.do(m.customerKey, "GET", "/v1/invoices"+query, nil)
		if got := strings.Count(string(body), `"number":"CB-`); want > 0 != (got > 0) {
			t.Errorf("/v1/invoices%s has %d", query, got)
		}
		_, _, csv := m.do(m.customerKey, "GET", "/v1/exports/invoices.csv"+strings.Replace(query, "&limit=1", "", 1), nil)
		if rows := strings.Count(string(csv), "\n"); want > 0 != (rows > 1) {
			t.Errorf("the export of %s has %d rows", query, rows)
		}
	}
	for query, want := range map[string]int{"": 1, "?period=" + name + "&currency=USD": 1, "?period=2020-01": 0, "?currency=EUR": 0} {
		_, _, body := m.do(m.providerKey, "GET", "/v1/settlements"+query, nil)
		if got := strings.Count(string(body), `"id":"set_`); want > 0 != (got > 0) {
			t.Errorf("/v1/settlements%s has %d", query, got)
		}
	}
}

// TestBudgetAlerts: the platform's rounds, on several nodes, and evaluations on demand alert once for each threshold.
func TestBudgetAlerts(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	ctx := context.Background()
	month := billing.MonthOf(m.now().AddDate(0, 2, 0))
	m.ahead.Add(int64(time.Until(month.From.Add(month.To.Sub(month.From) / 2))))
	m.sellFrom(month.From) // 206.00 by now, fee included
	open := func(kind client.BudgetScopeKind, id string, amount int64, currency domain.Currency) string {
		t.Helper()
		b, _, err := client.Decode[client.Budget](m.customer.OpenBudget(ctx, nil, client.NewBudget{
			Name: "B", Scope: client.BudgetScope{Kind: kind, Id: &id}, Amount: domain.Money{Minor: amount, Currency: currency}, Thresholds: &[]int{50, 100},
		}))
		must(t, err)
		return b.Id
	}
	all := open(client.BudgetScopeKindOrganisation, m.customerID, 300_00, "USD")          // 50
	one := open(client.BudgetScopeKindConnection, m.order.ConnectionId, 200_00, "USD")    // 50, 100
	account := open(client.BudgetScopeKindBillingAccount, m.accountID, 206_00, "USD")     // 50, 100
	elsewhere := open(client.BudgetScopeKindBillingAccount, m.billingAccount(), 1, "USD") // none
	otherCurrency := open(client.BudgetScopeKindOrganisation, m.customerID, 1, "EUR")     // none
	closed := open(client.BudgetScopeKindOrganisation, m.customerID, 1, "USD")            // none
	_, position, err := client.Decode[client.Budget](m.customer.CloseBudget(ctx, closed, nil))
	must(t, err)
	_, _, err = client.Decode[client.BudgetPage](m.customer.ListBudgets(ctx, &client.ListBudgetsParams{AtPosition: &position}))
	must(t, err)

	watch := billing.BudgetWatch{Pool: m.pool, Log: m.log, Meters: usage.Store{Pool: m.pool, Log: m.log}, Queries: projections.Queries{DB: m.pool}, Clock: m.now}
	done := make(chan error)
	for n := range 6 {
		go func() {
			if n%2 == 0 {
				_, err := watch.Round(ctx)
				done <- err
				return
			}
			_, _, err := client.Decode[client.BudgetEvaluation](m.customer.EvaluateBudget(ctx, all, nil))
			done <- err
		}()
	}
	for range 6 {
		must(t, <-done)
	}
	if made, err := watch.Round(ctx); made != 0 || err != nil { // what the rounds before had not done, they would have to do now
		t.Errorf("a round more makes %d alerts (%v)", made, err)
	}
	alerts := func(key string) (found []string) {
		t.Helper()
		page, _, err := client.Decode[client.BudgetAlertPage](m.client(key).ListBudgetAlerts(ctx, &client.ListBudgetAlertsParams{AtPosition: m.at()}))
		must(t, err)
		for _, a := range page.Items {
			if a.Month != month.From.Format("2006-01") || a.Spent.String() != "206.00 USD" {
				t.Errorf("the alert %+v", a)
			}
			found = append(found, fmt.Sprint(a.BudgetId, " ", a.Percent))
		}
		slices.Sort(found)
		return found
	}
	want := []string{all + " 50", one + " 50", one + " 100", account + " 50", account + " 100"}
	slices.Sort(want)
	if got := alerts(m.customerKey); !slices.Equal(got, want) {
		t.Errorf("the alerts are %v, not %v (not %s, %s, %s)", got, want, elsewhere, otherCurrency, closed)
	}
	if got := alerts(m.strangerKey); len(got) != 0 {
		t.Errorf("a stranger sees %v", got)
	}

	// Evaluated on demand, under a key: the same answer again. A budget that grew does not alert again.
	_, _, err = client.Decode[client.Budget](m.customer.ChangeBudget(ctx, all, nil, client.BudgetTerms{Name: "B", Amount: domain.Money{Minor: 206_00, Currency: "USD"}, Thresholds: &[]int{50, 100}}))
	must(t, err)
	key := m.idempotencyKey()
	first, _, err := client.Decode[client.BudgetEvaluation](m.customer.EvaluateBudget(ctx, all, &client.EvaluateBudgetParams{IdempotencyKey: key}))
	must(t, err)
	again, _, err := client.Decode[client.BudgetEvaluation](m.customer.EvaluateBudget(ctx, all, &client.EvaluateBudgetParams{IdempotencyKey: key}))
	must(t, err)
	if len(first.Budget.Alerts) != 2 || first.Spent.String() != "206.00 USD" || !again.AsOf.Equal(first.AsOf) {
		t.Errorf("evaluated: %+v, again: %+v", first, again)
	}
	if status, _, _ := m.do(m.customerKey, "POST", "/v1/budgets/"+closed+":evaluate", nil); status != http.StatusConflict {
		t.Errorf("a closed budget: %d", status)
	}

	// The alerts are events of the organisation, and so reach its webhooks and streams.
	if _, _, body := m.do(m.customerKey, "GET", "/v1/events?limit=500", nil); strings.Count(string(body), `"budget.threshold_reached"`) != 6 {
		t.Errorf("%d alerts are among the organisation's events", strings.Count(string(body), `"budget.threshold_reached"`))
	}
}
