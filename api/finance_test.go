package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/billingaccount"
	"crossbill/domain/issuer"
	"crossbill/events"
)

func init() { operationLists = append(operationLists, financeOperations) }

func financeOperations(m *market) []operation {
	now := time.Now().UTC().Truncate(time.Second)
	account, aBudget := "/v1/billing-accounts/"+m.accountID, "/v1/budgets/"+m.budgetID
	amount := domain.Money{Minor: 100000, Currency: "USD"}
	return []operation{
		{"listBillingAccounts", "GET", "/v1/billing-accounts", m.customerKey, nil},
		{"openBillingAccount", "POST", "/v1/billing-accounts", m.customerKey, accountDetails()},
		{"getBillingAccount", "GET", account, m.customerKey, nil},
		{"changeBillingAccount", "PUT", account, m.customerKey, accountDetails()},
		{"makeBillingAccountDefault", "POST", account + ":make-default", m.customerKey, nil},
		{"closeBillingAccount", "POST", account + ":close", m.customerKey, nil},
		{"listBudgets", "GET", "/v1/budgets", m.customerKey, nil},
		{"openBudget", "POST", "/v1/budgets", m.customerKey, client.NewBudget{Name: "All", Scope: client.BudgetScope{Kind: client.BudgetScopeKindOrganisation}, Amount: amount, Thresholds: &[]int{50, 100}}},
		{"getBudget", "GET", aBudget, m.customerKey, nil},
		{"changeBudget", "PUT", aBudget, m.customerKey, client.BudgetTerms{Name: "All", Amount: amount, Thresholds: &[]int{50, 100}}},
		{"closeBudget", "POST", aBudget + ":close", m.customerKey, nil},
		{"evaluateBudget", "POST", aBudget + ":evaluate", m.customerKey, nil},
		{"listBudgetAlerts", "GET", "/v1/budget-alerts", m.customerKey, nil},
		{"getSpend", "GET", "/v1/spend", m.customerKey, nil},
		{"getSpendForecast", "GET", "/v1/spend/forecast", m.customerKey, nil},
		{"getRevenue", "GET", "/v1/revenue", m.providerKey, nil},
		{"getIssuer", "GET", "/v1/issuer", m.customerKey, nil},
		{"setIssuer", "POST", "/v1/issuer", m.operatorKey, issuer.Details{LegalName: "Neutral Ground", Address: billingaccount.Address{Country: "NL"}}},
		{"listTaxRates", "GET", "/v1/tax-rates", m.customerKey, nil},
		{"setTaxRate", "POST", "/v1/tax-rates", m.operatorKey, client.NewTaxRate{Country: "NL", Category: client.TaxCategoryS, Percent: domain.MustDecimal("21"), EffectiveFrom: now}},
		{"listExchangeRates", "GET", "/v1/exchange-rates", m.customerKey, nil},
		{"setExchangeRate", "POST", "/v1/exchange-rates", m.operatorKey, client.NewExchangeRate{Base: "EUR", Quote: "USD", Rate: domain.MustDecimal("1.0956"), Source: "ECB", EffectiveFrom: now}},
	}
}

// noGrace closes periods at once.
var noGrace = new(int)

func accountDetails() billingaccount.Details {
	return billingaccount.Details{
		Name: "Networks", Holder: billingaccount.Holder{Kind: "company", LegalName: "Harbour Networks B.V.", Address: &billingaccount.Address{
			Lines: []string{"Quay 1"}, PostalCode: "1011", City: "Amsterdam", Region: "North Holland", Country: "NL"}},
		TaxIDs: []billingaccount.TaxID{{Country: "NL", Number: "NL004495445B01"}}, InvoiceCurrency: "EUR", PurchaseOrder: "PO-7",
		Contact: &billingaccount.Contact{Email: "invoices@harbour.example", Name: "Accounts payable"}, PersonID: "mem_1",
	}
}

// defaultAccount is the one that the customer was registered with.
func (m *market) defaultAccount() string {
	m.t.Helper()
	position := int64(m.head())
	page, _, err := client.Decode[client.BillingAccountPage](m.customer.ListBillingAccounts(context.Background(), &client.ListBillingAccountsParams{AtPosition: &position}))
	must(m.t, err)
	return page.Items[0].Id
}

// billingAccount opens an account of the customer, and budget a budget.
func (m *market) billingAccount() string {
	m.t.Helper()
	account, _, err := client.Decode[client.BillingAccount](m.customer.OpenBillingAccount(context.Background(), nil, accountDetails()))
	must(m.t, err)
	return account.Id
}

func (m *market) budget() string {
	m.t.Helper()
	b, _, err := client.Decode[client.Budget](m.customer.OpenBudget(context.Background(), nil, client.NewBudget{
		Name: "All", Scope: client.BudgetScope{Kind: client.BudgetScopeKindOrganisation}, Amount: domain.Money{Minor: 100000, Currency: "USD"}}))
	must(m.t, err)
	return b.Id
}

func TestBillingAccounts(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	list := func(position int64) []client.BillingAccount {
		t.Helper()
		page, _, err := client.Decode[client.BillingAccountPage](m.customer.ListBillingAccounts(ctx, &client.ListBillingAccountsParams{AtPosition: &position}))
		must(t, err)
		return page.Items
	}
	first := list(int64(m.head()))
	if len(first) != 1 || !first[0].IsDefault || first[0].Details.Holder.LegalName != "customer-one" {
		t.Fatalf("a customer starts with the accounts %+v", first)
	}
	details := accountDetails()
	details.TaxIDs[0].Number = "nl 0044.95.445 b01"
	second, _, err := client.Decode[client.BillingAccount](m.customer.OpenBillingAccount(ctx, &client.OpenBillingAccountParams{IdempotencyKey: m.idempotencyKey()}, details))
	must(t, err)
	if second.IsDefault || second.Details.TaxIDs[0].Number != "NL004495445B01" || second.TaxIdChecks[0].Checked != client.TaxIDCheckCheckedCheckDigit {
		t.Errorf("the second account is %+v", second)
	}

	// The default can't be closed, and another can be made it.
	path := "/v1/billing-accounts/" + first[0].Id
	if status, p, _ := m.do(m.customerKey, "POST", path+":close", nil); status != http.StatusConflict || p.Hint == nil {
		t.Errorf("closing the default: %d %+v", status, p)
	}
	_, _, err = client.Decode[client.BillingAccount](m.customer.MakeBillingAccountDefault(ctx, second.Id, nil))
	must(t, err)
	closed, position, err := client.Decode[client.BillingAccount](m.customer.CloseBillingAccount(ctx, first[0].Id, nil))
	must(t, err)
	accounts := list(position)
	if closed.State != client.BillingAccountStateClosed || len(accounts) != 2 || !accounts[0].IsDefault || accounts[1].IsDefault || accounts[1].ClosedAt == nil {
		t.Errorf("the accounts are %+v", accounts)
	}
	if accounts[0].Details.Contact.Email != details.Contact.Email {
		t.Errorf("the list has the contact %+v", accounts[0].Details.Contact)
	}

	// A change names what it changes; another that came first is a conflict.
	_, _, body := m.do(m.customerKey, "GET", "/v1/billing-accounts/"+second.Id, nil)
	details.Name = "Renamed"
	if status, p, _ := m.do(m.customerKey, "PUT", "/v1/billing-accounts/"+second.Id, details, "If-Match", `"1"`); status != http.StatusConflict {
		t.Errorf("a change of an old version: %d %s (%s)", status, p.Detail, body)
	}
	if status, _, _ := m.do(m.customerKey, "PUT", "/v1/billing-accounts/"+second.Id, details, "If-Match", `"2"`); status != http.StatusOK {
		t.Errorf("a change: %d", status)
	}

	// Nothing about a person is copied into a table.
	var copies int
	must(t, m.pool.QueryRow(ctx, `SELECT count(*) FROM read_billing_accounts WHERE doc::text LIKE '%harbour.example%'`).Scan(&copies))
	if copies > 0 {
		t.Errorf("%d rows have an e-mail address", copies)
	}

	// An order names an account of its customer that is open, and no other.
	q := m.takeQuote()
	order := m.newOrder(q)
	strangers, _, err := client.Decode[client.BillingAccount](m.stranger.OpenBillingAccount(ctx, nil, accountDetails()))
	must(t, err)
	for _, wrong := range []string{first[0].Id, strangers.Id, unknownID("bac")} {
		order.BillingAccountId = &wrong
		status, p, _ := m.do(m.customerKey, "POST", "/v1/orders", order)
		if status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Pointer != "/billing_account_id" {
			t.Errorf("an order billed to %s: %d %+v", wrong, status, p)
		}
	}
	order.BillingAccountId = &second.Id
	placed, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, order))
	must(t, err)
	if placed.BillingAccountId == nil || *placed.BillingAccountId != second.Id {
		t.Errorf("the order is billed to %v", placed.BillingAccountId)
	}
}

// TestBillingDefaultRaces makes one of two accounts the default and closes it at the same time: one of the two happens.
func TestBillingDefaultRaces(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	for range 5 {
		id := m.billingAccount()
		done := make(chan error, 2)
		go func() { r, err := m.customer.MakeBillingAccountDefault(ctx, id, nil); r.Body.Close(); done <- err }()
		go func() { r, err := m.customer.CloseBillingAccount(ctx, id, nil); r.Body.Close(); done <- err }()
		must(t, <-done)
		must(t, <-done)
		account, _, err := client.Decode[client.BillingAccount](m.customer.GetBillingAccount(ctx, id))
		must(t, err)
		if account.IsDefault == (account.State == client.BillingAccountStateClosed) {
			t.Fatalf("the account is %+v", account)
		}
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	now := m.now().Truncate(time.Second)
	var position int64
	tax := func(country string, category client.TaxCategory, percent, reason string, from time.Time) {
		t.Helper()
		body := client.NewTaxRate{Country: country, Category: category, Percent: domain.MustDecimal(percent), EffectiveFrom: from}
		if reason != "" {
			body.Reason = &reason
		}
		var err error
		_, position, err = client.Decode[client.TaxRate](m.operator.SetTaxRate(ctx, &client.SetTaxRateParams{IdempotencyKey: m.idempotencyKey()}, body))
		must(t, err)
	}
	day := 24 * time.Hour
	tax("DE", "S", "16", "", now.Add(-2000*day))
	tax("DE", "S", "19", "", now.Add(-10*day))
	tax("DE", "S", "20", "", now.Add(10*day))
	tax("DE", "AE", "0", "Reverse charge", now.Add(-2000*day))
	tax("NL", "S", "21", "", now.Add(-2000*day))
	rates := func(query string) (shown []string) {
		t.Helper()
		for token := ""; ; {
			var page client.TaxRatePage
			status, p, body := m.do(m.customerKey, "GET", "/v1/tax-rates?limit=2&at_position="+decimalOf(position)+query+token, nil)
			if status != http.StatusOK {
				t.Fatalf("%s: %d %s", query, status, p.Detail)
			}
			must(t, decode(body, &page))
			for _, r := range page.Items {
				shown = append(shown, r.Country+string(r.Category)+r.Percent.String())
			}
			if page.NextPageToken == nil {
				return shown
			}
			token = "&page_token=" + *page.NextPageToken
		}
	}
	stamp := func(t time.Time) string { return "&in_force_at=" + t.Format(time.RFC3339) }
	for query, want := range map[string]string{
		"":                          "NLS21 DEAE0 DES20 DES19 DES16",
		"&country=DE":               "DEAE0 DES20 DES19 DES16",
		"&category=S" + stamp(now):  "NLS21 DES19",
		stamp(now.Add(-11 * day)):   "NLS21 DEAE0 DES16",
		stamp(now.Add(11 * day)):    "NLS21 DEAE0 DES20",
		stamp(now.Add(-3000 * day)): "",
		"&country=FR":               "",
		"&country=DE&category=S" + stamp(now.Add(-10*day)): "DES19",
	} {
		if got := strings.Join(rates(query), " "); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
	}
	// History is refused, and so is another role.
	old := client.NewTaxRate{Country: "DE", Category: "S", Percent: domain.MustDecimal("18"), EffectiveFrom: now.Add(-20 * day)}
	if status, p, _ := m.do(m.operatorKey, "POST", "/v1/tax-rates", old); status != http.StatusUnprocessableEntity || (*p.Errors)[0].Pointer != "/effective_from" {
		t.Errorf("a rate of before the one in force: %d %+v", status, p)
	}
	if status, _, _ := m.do(m.customerKey, "POST", "/v1/tax-rates", old); status != http.StatusForbidden {
		t.Errorf("a customer sets a tax rate: %d", status)
	}

	body := client.NewExchangeRate{Base: "EUR", Quote: "USD", Rate: domain.MustDecimal("1.0956"), Source: "ECB", EffectiveFrom: now.Add(-day)}
	made, _, err := client.Decode[client.ExchangeRate](m.operator.SetExchangeRate(ctx, nil, body))
	must(t, err)
	again, _, err := client.Decode[client.ExchangeRate](m.operator.SetExchangeRate(ctx, nil, body))
	must(t, err)
	if made.Version != 1 || again.Version != 1 || !again.RecordedAt.Equal(made.RecordedAt) {
		t.Errorf("the same rate twice is %+v and %+v", made, again)
	}
	body.EffectiveFrom, body.Rate = now, domain.MustDecimal("1.1")
	_, position, err = client.Decode[client.ExchangeRate](m.operator.SetExchangeRate(ctx, nil, body))
	must(t, err)
	base, before := client.Currency("EUR"), now.Add(-time.Second)
	page, _, err := client.Decode[client.ExchangeRatePage](m.customer.ListExchangeRates(ctx, &client.ListExchangeRatesParams{Base: &base, InForceAt: &before, AtPosition: &position}))
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].Rate.String() != "1.0956" {
		t.Errorf("a second before the newest, %+v is in force", page.Items)
	}
}

func TestBudgetsAreTheOrganisationsOwn(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	ctx := context.Background()
	open := func(kind client.BudgetScopeKind, id string) (int, client.Problem) {
		body := client.NewBudget{Name: "One", Scope: client.BudgetScope{Kind: kind}, Amount: domain.Money{Minor: 1, Currency: "USD"}}
		if id != "" {
			body.Scope.Id = &id
		}
		status, p, _ := m.do(m.customerKey, "POST", "/v1/budgets", body)
		return status, p
	}
	theirs, _, err := client.Decode[client.BillingAccount](m.stranger.OpenBillingAccount(ctx, nil, accountDetails()))
	must(t, err)
	for _, test := range []struct {
		kind   client.BudgetScopeKind
		id     string
		status int
	}{
		{client.BudgetScopeKindOrganisation, "", http.StatusCreated},
		{client.BudgetScopeKindOrganisation, m.customerID, http.StatusCreated},
		{client.BudgetScopeKindOrganisation, m.providerID, http.StatusUnprocessableEntity},
		{client.BudgetScopeKindConnection, m.order.ConnectionId, http.StatusCreated},
		{client.BudgetScopeKindConnection, unknownID("con"), http.StatusUnprocessableEntity},
		{client.BudgetScopeKindConnection, "", http.StatusUnprocessableEntity},
		{client.BudgetScopeKindBillingAccount, m.billingAccount(), http.StatusCreated},
		{client.BudgetScopeKindBillingAccount, theirs.Id, http.StatusUnprocessableEntity},
	} {
		if status, p := open(test.kind, test.id); status != test.status {
			t.Errorf("a budget of the %s %q: %d, not %d (%s)", test.kind, test.id, status, test.status, p.Detail)
		}
	}
	position := int64(m.head())
	page, _, err := client.Decode[client.BudgetPage](m.customer.ListBudgets(ctx, &client.ListBudgetsParams{AtPosition: &position}))
	must(t, err)
	if len(page.Items) != 5 || !slices.Equal(page.Items[0].Thresholds, []int{50, 80, 100}) {
		t.Errorf("the budgets are %+v", page.Items)
	}
	reader := m.keyFor(m.customerID, api.ScopeRead)
	if status, _, _ := m.do(reader, "POST", "/v1/budgets/"+page.Items[0].Id+":close", nil); status != http.StatusForbidden {
		t.Errorf("a reader closes a budget: %d", status)
	}
	closed, _, err := client.Decode[client.Budget](m.customer.CloseBudget(ctx, page.Items[0].Id, nil))
	must(t, err)
	if closed.State != client.BudgetStateClosed {
		t.Errorf("the budget is %+v", closed)
	}
}

// keyFor mints a key of an organisation with other scopes than its first has.
func (m *market) keyFor(organisationID string, scopes ...string) string {
	m.t.Helper()
	_, token, stream, err := api.NewKey(time.Now().UTC(), rand.Reader, organisationID, apikey.Principal{Kind: apikey.KindProgram, ID: "test", Name: "Test"}, scopes...)
	must(m.t, err)
	_, err = m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{stream}})
	must(m.t, err)
	return token
}

func decimalOf(n int64) string { return strconv.FormatInt(n, 10) }

func decode(body []byte, v any) error { return json.Unmarshal(body, v) }
