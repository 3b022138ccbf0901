package feeallowance

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/pricing"
)

var (
	customer = scenario.ID(domain.PrefixOrganisation, 1)
	march    = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
)

func used(n int, period time.Time, connections int, minor int64, currency domain.Currency) Used {
	return Used{CustomerID: customer, PeriodStart: period, InvoiceID: scenario.ID(domain.PrefixInvoice, n), Connections: connections,
		Passthrough: domain.Money{Minor: minor, Currency: currency}, RunID: scenario.ID(domain.PrefixBillingRun, 1), At: scenario.Noon}
}

func TestUse(t *testing.T) {
	t.Parallel()
	first, second := used(1, march, 3, 100, "USD"), used(2, march, 1, 7, "USD")
	other, foreign := first, second
	other.Connections = 4
	foreign.CustomerID = scenario.ID(domain.PrefixOrganisation, 2)
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "first", When: Use{first}, Then: []domain.Event{first}},
		{Name: "another", Given: []domain.Event{first}, When: Use{second}, Then: []domain.Event{second}},
		{Name: "again", Given: []domain.Event{first, second}, When: Use{first}},
		{Name: "again, otherwise", Given: []domain.Event{first}, When: Use{other}, Code: domain.Conflict},
		{Name: "another customer", Given: []domain.Event{first}, When: Use{foreign}, Code: domain.Invalid, Fields: []string{"/customer_id"}},
		{Name: "nothing given", When: Use{}, Code: domain.Invalid, Fields: []string{"/customer_id", "/invoice_id", "/run_id", "/period_start", "/at",
			"/connections", "/passthrough/currency"}},
		{Name: "negative", When: Use{used(1, march, 1, -1, "USD")}, Code: domain.Invalid, Fields: []string{"/passthrough"}},
	})
}

func TestBefore(t *testing.T) {
	t.Parallel()
	s := scenario.Fold(Evolve, domain.Event(used(1, march, 3, 100, "USD")), used(2, march, 9, 9, "EUR"), used(3, march.AddDate(0, 1, 0), 9, 9, "USD"),
		used(4, march.AddDate(1, 0, 0), 9, 9, "USD"), used(5, march.Add(20*24*time.Hour), 1, 7, "USD"), used(6, march, 2, 50, "USD"))
	usd := func(connections int, minor int64) pricing.FreeUse {
		return pricing.FreeUse{Connections: connections, Passthrough: domain.Money{Minor: minor, Currency: "USD"}}
	}
	for n, want := range map[int]pricing.FreeUse{1: usd(0, 0), 2: usd(3, 100), 5: usd(3, 100), 6: usd(4, 107), 7: usd(6, 157)} {
		got, err := s.Before(scenario.ID(domain.PrefixInvoice, n), march.Add(time.Hour), "USD")
		if err != nil || got != want {
			t.Errorf("before invoice %d: %+v (%v), want %+v", n, got, err, want)
		}
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	first, second := used(1, march, 3, 100, "USD"), used(2, march, 1, 7, "EUR")
	release := Release{InvoiceID: first.InvoiceID, At: scenario.After(5)}
	released := Released{CustomerID: customer, PeriodStart: march, InvoiceID: first.InvoiceID, Connections: 3, Passthrough: first.Passthrough, At: scenario.After(5)}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "all of it", Given: []domain.Event{first, second}, When: release, Then: []domain.Event{released}},
		{Name: "again", Given: []domain.Event{first, second, released}, When: release},
		{Name: "what used none", Given: []domain.Event{second}, When: release},
		{Name: "nothing was used", When: release},
		{Name: "at no time", Given: []domain.Event{first}, When: Release{InvoiceID: first.InvoiceID}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "no command", Code: domain.Internal},
	})
}

// TestBeforeARelease: what was given back is there again for who comes after, and was not for who came before. An earlier
// state never sees it.
func TestBeforeARelease(t *testing.T) {
	t.Parallel()
	first, second, third := used(1, march, 3, 100, "USD"), used(2, march, 1, 7, "USD"), used(3, march, 2, 50, "USD")
	before := scenario.Fold(Evolve, domain.Event(first), second)
	decided, err := Decide(before, Release{InvoiceID: first.InvoiceID, At: scenario.Noon})
	if err != nil {
		t.Fatal(err)
	}
	after := Evolve(Evolve(before, decided[0]), third)
	usd := func(connections int, minor int64) pricing.FreeUse {
		return pricing.FreeUse{Connections: connections, Passthrough: domain.Money{Minor: minor, Currency: "USD"}}
	}
	for _, test := range []struct {
		name    string
		state   State
		invoice int
		want    pricing.FreeUse
	}{
		{"the one that came before it", after, 2, usd(3, 100)},
		{"the first after it", after, 3, usd(1, 7)},
		{"the next", after, 4, usd(3, 57)},
		{"before it was given back", before, 4, usd(4, 107)},
	} {
		if got, err := test.state.Before(scenario.ID(domain.PrefixInvoice, test.invoice), march, "USD"); err != nil || got != test.want {
			t.Errorf("%s: %+v (%v), want %+v", test.name, got, err, test.want)
		}
	}
	if r := decided[0].(Released); !r.Counts(march.AddDate(0, 0, 30), "USD") || r.Counts(march.AddDate(0, 1, 0), "USD") || r.Counts(march, "EUR") {
		t.Error("what was given back is of another month or currency")
	}
}
