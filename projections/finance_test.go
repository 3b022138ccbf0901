package projections_test

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/budget"
	"crossbill/domain/exchangerate"
	"crossbill/domain/taxrate"
	"crossbill/projections"
)

// recordFinance appends what the read models of finance are made of.
func (b *bench) recordFinance() {
	account := func(n int, name string) billingaccount.Details {
		return billingaccount.Details{Name: name, Holder: billingaccount.Holder{Kind: billingaccount.HolderCompany, LegalName: "Acme\x00 Ltd"}}
	}
	for n, owner := range []string{acme, acme, lakeCo} {
		stream := "billing_account-" + id("bac", n)
		b.record(stream, billingaccount.Opened{BillingAccountID: id("bac", n), OrganisationID: owner, Details: account(n, "One"), At: at(n)})
		b.record(stream, billingaccount.Changed{BillingAccountID: id("bac", n), OrganisationID: owner, Details: account(n, "Two"), At: at(n)})
	}
	for _, n := range []int{0, 1} {
		b.record("billing_account-"+id("bac", n), billingaccount.MadeDefault{BillingAccountID: id("bac", n), At: at(n)})
		b.record("billing_default-"+acme, billingaccount.DefaultSet{OrganisationID: acme, BillingAccountID: id("bac", n), At: at(n)})
	}
	b.record("billing_account-"+id("bac", 0), billingaccount.Closed{BillingAccountID: id("bac", 0), At: at(3)})

	for n := range 3 {
		owner, terms := []string{acme, lakeCo}[n%2], budget.Terms{Name: "All", Amount: usd(1000), Thresholds: []int{50, 100}}
		scope := budget.Scope{Kind: budget.ScopeOrganisation, ID: owner}
		b.record("budget-"+id("bud", n), budget.Opened{BudgetID: id("bud", n), OrganisationID: owner, Scope: scope, Terms: terms, At: at(n)},
			budget.Changed{BudgetID: id("bud", n), Terms: terms, At: at(n)},
			budget.ThresholdReached{BudgetID: id("bud", n), OrganisationID: owner, Scope: scope, Month: "2026-03", Percent: 50, Amount: usd(1000), Spent: usd(500), At: at(n)},
			budget.ThresholdReached{BudgetID: id("bud", n), OrganisationID: owner, Scope: scope, Month: "2026-04", Percent: 50, Amount: usd(1000), Spent: usd(500), At: at(n)})
	}
	b.record("budget-"+id("bud", 2), budget.Closed{BudgetID: id("bud", 2), At: at(9)})

	for version := range 3 {
		b.record("tax_rate-NL-S", taxrate.Set{Country: "NL", Category: "S", Version: version + 1, Percent: domain.MustDecimal("21"), EffectiveFrom: at(10 * version), At: at(version)})
		b.record("exchange_rate-EUR-USD", exchangerate.Set{Base: "EUR", Quote: "USD", Version: version + 1, Rate: domain.MustDecimal("1.1"), Source: "ECB", EffectiveFrom: at(10 * version), At: at(version)})
	}
}

func TestFinance(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	ctx, q := t.Context(), projections.Queries{DB: b.pool}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	var last budget.State
	var open []string
	for {
		page, err := q.OpenBudgets(ctx, last, 1)
		must(err)
		if len(page) == 0 {
			break
		}
		last = page[0]
		open = append(open, last.ID[29:])
	}
	if got := strings.Join(open, " "); got != "1 0" { // in order of organisation: lakeCo comes before acme
		t.Errorf("the open budgets are %s", got)
	}
	for month, want := range map[string]int{"": 4, "2026-03": 2, "2026-05": 0} {
		alerts, _, err := q.BudgetAlertsOf(ctx, projections.Party(acme), projections.AlertSearch{Month: month})
		must(err)
		if len(alerts) != want {
			t.Errorf("acme has %d alerts in %q, not %d", len(alerts), month, want)
		}
	}
	one, next, err := q.BudgetAlertsOf(ctx, projections.Operator(), projections.AlertSearch{BudgetID: id("bud", 1), Limit: 1})
	must(err)
	rest, end, err := q.BudgetAlertsOf(ctx, projections.Operator(), projections.AlertSearch{BudgetID: id("bud", 1), Limit: 1, PageToken: next})
	must(err)
	if one[0].Month != "2026-04" || rest[0].Month != "2026-03" || end != "" {
		t.Errorf("the alerts are %+v and %+v, then %q", one, rest, end)
	}

	for minutes, want := range map[int]int{-1: 0, 0: 1, 9: 1, 10: 2, 99: 3} {
		taxes, _, err := q.TaxRates(ctx, projections.RateSearch{Of: "NL", InForceAt: at(minutes)})
		must(err)
		rates, _, err := q.ExchangeRates(ctx, projections.RateSearch{Of: "EUR", In: "USD", InForceAt: at(minutes)})
		must(err)
		if min(want, 1) != len(taxes) || min(want, 1) != len(rates) || want > 0 && (taxes[0].Version != want || rates[0].Version != want) {
			t.Errorf("after %d minutes %+v and %+v are in force", minutes, taxes, rates)
		}
	}

	// Connections 1 to 5 were in production from minute n on, 4 and 5 until minute 60; the odd ones are lakeCo's.
	for _, test := range []struct {
		customer, provider string
		from, to           time.Time
		want               string
	}{
		{acme, "", at(0), at(1000), "2 4"}, {acme, "", at(60), at(1000), "2"}, {acme, "", at(0), at(4), "2"}, {acme, "", at(0), at(2), ""},
		{"", cloudCo, at(0), at(1000), "1 2 3 4 5"}, {"", acme, at(0), at(1000), ""}, {"", "", at(0), at(1000), ""},
	} {
		var got []string
		search := projections.BilledSearch{Customer: test.customer, Provider: test.provider, From: test.from, To: test.to, Limit: 2}
		for {
			ids, next, err := q.Billed(ctx, search)
			must(err)
			for _, id := range ids {
				got = append(got, id[29:])
			}
			if search.PageToken = next; next == "" {
				break
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s%s has %s, not %s", test.customer, test.provider, got, test.want)
		}
	}
}
