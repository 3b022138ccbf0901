package budget

import (
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	id         = scenario.ID(domain.PrefixBudget, 1)
	org        = scenario.ID(domain.PrefixOrganisation, 1)
	connection = scenario.ID(domain.PrefixConnection, 1)
	april      = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func TestDecide(t *testing.T) {
	t.Parallel()
	scope := Scope{ScopeOrganisation, org}
	terms := Terms{"All", usd(100_00), []int{50, 80, 100}}
	opened := Opened{id, org, scope, terms, scenario.Noon}
	closed := Closed{id, scenario.After(1)}
	open := func(change func(*Open)) Open {
		c := Open{id, org, scope, Terms{"All", usd(100_00), []int{100, 50, 80}}, scenario.Noon}
		change(&c)
		return c
	}
	reached := func(percent int, amount, spent int64, at time.Time) ThresholdReached {
		return ThresholdReached{id, org, scope, "All", at.Format("2006-01"), percent, usd(amount), usd(spent), 7, at}
	}
	evaluate := func(spent int64, at time.Time) Evaluate { return Evaluate{usd(spent), 7, at} }
	raised := Changed{id, Terms{"All", usd(200_00), []int{50, 80, 100}}, scenario.After(2)}
	half, eighty, all := reached(50, 100_00, 50_00, scenario.After(1)), reached(80, 100_00, 100_00, scenario.After(1)), reached(100, 100_00, 100_00, scenario.After(1))
	halfOfAll := reached(50, 100_00, 100_00, scenario.After(1))
	cases := []scenario.Case[Command]{
		{Name: "opened", When: open(func(*Open) {}), Then: []domain.Event{opened}},
		{Name: "default thresholds", When: open(func(c *Open) { c.Terms.Thresholds = nil }), Then: []domain.Event{opened}},
		{Name: "exists", Given: []domain.Event{opened}, When: open(func(*Open) {}), Code: domain.Conflict},
		{Name: "of a connection", When: open(func(c *Open) { c.Scope = Scope{ScopeConnection, connection} }),
			Then: []domain.Event{Opened{id, org, Scope{ScopeConnection, connection}, terms, scenario.Noon}}},
		{Name: "nothing is right", When: Open{}, Code: domain.Invalid,
			Fields: []string{"/budget_id", "/organisation_id", "/scope/kind", "/name", "/amount/currency", "/amount", "/at"}},
		{Name: "of another organisation", When: open(func(c *Open) { c.Scope.ID = scenario.ID(domain.PrefixOrganisation, 2) }), Code: domain.Invalid, Fields: []string{"/scope/id"}},
		{Name: "an account's, and it is none", When: open(func(c *Open) { c.Scope.Kind = ScopeBillingAccount }), Code: domain.Invalid, Fields: []string{"/scope/id"}},
		{Name: "thresholds out of range", When: open(func(c *Open) { c.Terms.Thresholds = []int{0, 1001, 5, 5} }), Code: domain.Invalid, Fields: []string{"/thresholds/0", "/thresholds/1", "/thresholds/3"}},
		{Name: "too many thresholds", When: open(func(c *Open) { c.Terms.Thresholds = make([]int, 11) }), Code: domain.Invalid, Fields: []string{"/thresholds"}},
		{Name: "changed", Given: []domain.Event{opened}, When: Change{raised.Terms, scenario.After(2)}, Then: []domain.Event{raised}},
		{Name: "changed to the same", Given: []domain.Event{opened}, When: Change{terms, scenario.After(2)}},
		{Name: "another currency", Given: []domain.Event{opened}, When: Change{Terms{"All", domain.Money{Minor: 1, Currency: "EUR"}, nil}, scenario.After(2)}, Code: domain.Invalid, Fields: []string{"/amount/currency"}},
		{Name: "changed when closed", Given: []domain.Event{opened, closed}, When: Change{raised.Terms, scenario.After(2)}, Code: domain.Conflict},
		{Name: "closed", Given: []domain.Event{opened}, When: Close{scenario.After(1)}, Then: []domain.Event{closed}},
		{Name: "closed again", Given: []domain.Event{opened, closed}, When: Close{scenario.After(2)}},
		{Name: "there is none", When: Close{scenario.After(2)}, Code: domain.NotFound},

		{Name: "a cent under", Given: []domain.Event{opened}, When: evaluate(49_99, scenario.After(1))},
		{Name: "exactly", Given: []domain.Event{opened}, When: evaluate(50_00, scenario.After(1)), Then: []domain.Event{half}},
		{Name: "all at once", Given: []domain.Event{opened}, When: evaluate(100_00, scenario.After(1)), Then: []domain.Event{halfOfAll, eighty, all}},
		{Name: "only what is new", Given: []domain.Event{opened, half}, When: evaluate(100_00, scenario.After(1)), Then: []domain.Event{eighty, all}},
		{Name: "again", Given: []domain.Event{opened, half}, When: evaluate(50_00, scenario.After(9))},
		{Name: "raised: half was reached already", Given: []domain.Event{opened, half, raised}, When: evaluate(100_00, scenario.After(9))},
		{Name: "next month", Given: []domain.Event{opened, half}, When: evaluate(51_00, april), Then: []domain.Event{reached(50, 100_00, 51_00, april)}},
		{Name: "a month ago, late", Given: []domain.Event{opened, reached(50, 100_00, 51_00, april)}, When: evaluate(100_00, scenario.After(9))},
		{Name: "when closed", Given: []domain.Event{opened, closed}, When: evaluate(100_00, scenario.After(9))},
		{Name: "in another currency", Given: []domain.Event{opened}, When: Evaluate{domain.Money{Minor: 1, Currency: "EUR"}, 7, scenario.After(1)}, Code: domain.Internal},
		{Name: "no command", Given: []domain.Event{opened}, When: nil, Code: domain.Internal},
	}
	scenario.Run(t, Decide, Evolve, cases)

	large := scenario.Fold(Evolve, Opened{id, org, scope, Terms{"x", usd(1<<63 - 1), []int{1000}}, scenario.Noon})
	if got, err := Decide(large, Evaluate{usd(1<<63 - 1), 7, scenario.Noon}); len(got) != 0 || err != nil {
		t.Errorf("a tenth of the largest budget alerts: %v (%v)", got, err)
	}
}

// TestAlertsOnce evaluates again and again, over two months, with terms that change: no threshold alerts twice a month.
func TestAlertsOnce(t *testing.T) {
	t.Parallel()
	s := scenario.Fold(Evolve, Opened{id, org, Scope{ScopeOrganisation, org}, Terms{"All", usd(1000), []int{10, 50, 100, 200}}, scenario.Noon})
	var alerts []string
	at := scenario.Noon
	for n := range 400 {
		at = at.Add(2 * time.Hour)
		var command Command = Evaluate{usd(int64(n*n) % 3000), 1, at}
		if n%17 == 0 {
			command = Change{Terms{"All", usd(int64(500 + n)), []int{10, 50, 100, 200}[:1+n%4]}, at}
		}
		decided, err := Decide(s, command)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range decided {
			if s = Evolve(s, e); e.EventType() == "budget.threshold_reached" {
				r := e.(ThresholdReached)
				alerts = append(alerts, r.Month+strings.Repeat("x", r.Percent))
			}
		}
	}
	slices.Sort(alerts)
	if len(alerts) < 6 || len(slices.Compact(slices.Clone(alerts))) != len(alerts) {
		t.Errorf("%d alerts, %d of them different", len(alerts), len(slices.Compact(alerts)))
	}
}
