package apikey

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func money(minor int64, currency domain.Currency) *domain.Money {
	return &domain.Money{Minor: minor, Currency: currency}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit, other *domain.Money
		want         bool
	}{
		{nil, nil, true}, {money(5, "USD"), nil, true}, {nil, money(5, "USD"), false},
		{money(5, "USD"), money(5, "USD"), true}, {money(6, "USD"), money(5, "USD"), false}, {money(5, "EUR"), money(5, "USD"), false},
	} {
		if got := (Limits{PerOrder: c.limit}).Within(Limits{PerOrder: c.other}); got != c.want {
			t.Errorf("%v within %v an order is %t", c.limit, c.other, got)
		}
		if got := (Limits{PerMonth: c.limit}).Within(Limits{PerMonth: c.other}); got != c.want {
			t.Errorf("%v within %v a month is %t", c.limit, c.other, got)
		}
	}
}

// What a maker has not it can't give, and no program gets what is a person's.
func TestMakers(t *testing.T) {
	t.Parallel()
	id, org := scenario.ID(domain.PrefixAPIKey, 1), scenario.ID(domain.PrefixOrganisation, 1)
	ada := PrincipalRef{KindPerson, "ada"}
	limits := Limits{PerOrder: money(100, "USD"), PerMonth: money(1000, "USD")}
	maker := &Maker{Principal: ada, Scopes: []string{"admin", "trade"}, Limits: limits}
	expires := scenario.After(3600)
	issue := Issue{KeyID: id, OrganisationID: org, Principal: Principal{KindProgram, "bot", "Bot"}, Scopes: []string{"trade"},
		SecretHash: strings.Repeat("0a", 32), Limits: limits, ExpiresAt: &expires, By: maker, At: scenario.Noon}
	issued := Issued{KeyID: id, OrganisationID: org, Principal: issue.Principal, Scopes: issue.Scopes, SecretHash: issue.SecretHash,
		At: scenario.Noon, Limits: &limits, ExpiresAt: &expires, IssuedBy: &ada}
	with := func(change func(*Issue)) Issue {
		i := issue
		change(&i)
		return i
	}
	narrow := Limits{PerOrder: money(10, "USD"), PerMonth: money(1000, "USD")}
	late, past := scenario.Noon.Add(MaxLifetime+1), scenario.Noon
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "issued", When: issue, Then: []domain.Event{issued}},
		{Name: "a scope the maker has not", When: with(func(i *Issue) { i.Scopes = []string{"trade", "finance"} }), Code: domain.Forbidden},
		{Name: "no limits by a limited maker", When: with(func(i *Issue) { i.Limits = Limits{} }), Code: domain.Forbidden},
		{Name: "wider limits", When: with(func(i *Issue) { i.Limits.PerMonth = money(1001, "USD") }), Code: domain.Forbidden},
		{Name: "a program that approves", When: with(func(i *Issue) { i.Scopes = []string{"approve"} }), Code: domain.Invalid, Fields: []string{"/scopes/0"}},
		{Name: "a program that administers, by the platform", When: with(func(i *Issue) { i.Scopes, i.By = []string{"trade", "admin"}, nil }), Code: domain.Invalid, Fields: []string{"/scopes/1"}},
		{Name: "an unknown currency", When: with(func(i *Issue) { i.Limits.PerOrder = money(1, "XXX") }), Code: domain.Invalid, Fields: []string{"/limits/per_order/currency"}},
		{Name: "a negative limit", When: with(func(i *Issue) { i.Limits.PerMonth = money(-1, "USD") }), Code: domain.Invalid, Fields: []string{"/limits/per_month/amount"}},
		{Name: "expired at once", When: with(func(i *Issue) { i.ExpiresAt = &past }), Code: domain.Invalid, Fields: []string{"/expires_at"}},
		{Name: "expires in ages", When: with(func(i *Issue) { i.ExpiresAt = &late }), Code: domain.Invalid, Fields: []string{"/expires_at"}},

		{Name: "narrowed", Given: []domain.Event{issued}, When: SetLimits{narrow, maker, scenario.After(1)}, Then: []domain.Event{LimitsSet{id, narrow, &ada, scenario.After(1)}}},
		{Name: "narrowed again", Given: []domain.Event{issued, LimitsSet{id, narrow, &ada, scenario.After(1)}}, When: SetLimits{narrow, maker, scenario.After(2)}},
		{Name: "widened past the maker", Given: []domain.Event{issued}, When: SetLimits{Limits{PerOrder: money(101, "USD"), PerMonth: money(1, "USD")}, maker, scenario.After(1)}, Code: domain.Forbidden},
		{Name: "freed", Given: []domain.Event{issued}, When: SetLimits{Limits{}, maker, scenario.After(1)}, Code: domain.Forbidden},
		{Name: "freed by the unlimited", Given: []domain.Event{issued}, When: SetLimits{Limits{}, &Maker{Principal: ada}, scenario.After(1)}, Then: []domain.Event{LimitsSet{id, Limits{}, &ada, scenario.After(1)}}},
		{Name: "of a revoked key", Given: []domain.Event{issued, Revoked{id, scenario.After(1)}}, When: SetLimits{narrow, maker, scenario.After(2)}, Code: domain.Conflict},
		{Name: "of no key", When: SetLimits{narrow, maker, scenario.After(2)}, Code: domain.NotFound},
	})
	s := scenario.Fold(Evolve, issued)
	if s.Expired(expires.Add(-time.Microsecond)) || !s.Expired(expires) {
		t.Error("the key does not expire at its time")
	}
}
