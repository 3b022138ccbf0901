package apikey

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	id, org := scenario.ID(domain.PrefixAPIKey, 1), scenario.ID(domain.PrefixOrganisation, 1)
	hash := strings.Repeat("0a", 32)
	principal := Principal{KindPerson, "first", "First key"}
	issue := Issue{KeyID: id, OrganisationID: org, Principal: principal, Scopes: []string{"trade", "finance"}, SecretHash: hash, At: scenario.Noon}
	issued := Issued{KeyID: id, OrganisationID: org, Principal: principal, Scopes: []string{"trade", "finance"}, SecretHash: hash, At: scenario.Noon}
	revoked := Revoked{id, scenario.After(1)}
	with := func(change func(*Issue)) Issue {
		i := issue
		change(&i)
		return i
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "issued", When: issue, Then: []domain.Event{issued}},
		{Name: "exists", Given: []domain.Event{issued}, When: issue, Code: domain.Conflict},
		{Name: "everything is wrong at once", When: Issue{}, Code: domain.Invalid,
			Fields: []string{"/key_id", "/organisation_id", "/principal/kind", "/principal/id", "/principal/name", "/scopes", "/secret_hash", "/at"}},
		{Name: "an edge node has none", When: with(func(i *Issue) { i.Principal = Principal{KindEdgeNode, scenario.ID(domain.PrefixEdgeNode, 1), "x"} }),
			Code: domain.Invalid, Fields: []string{"/principal/kind"}},
		{Name: "scopes", When: with(func(i *Issue) { i.Scopes = []string{"trade", "Trade", "trade", "", strings.Repeat("a", MaxScope+1)} }),
			Code: domain.Invalid, Fields: []string{"/scopes/1", "/scopes/2", "/scopes/3", "/scopes/4"}},
		{Name: "too many scopes", When: with(func(i *Issue) { i.Scopes = make([]string, MaxScopes+1) }), Code: domain.Invalid, Fields: []string{"/scopes"}},
		{Name: "a secret is not a hash", When: with(func(i *Issue) { i.SecretHash = strings.Repeat("0A", 32) }), Code: domain.Invalid, Fields: []string{"/secret_hash"}},
		{Name: "revoked", Given: []domain.Event{issued}, When: Revoke{scenario.After(1)}, Then: []domain.Event{revoked}},
		{Name: "revoked again", Given: []domain.Event{issued, revoked}, When: Revoke{scenario.After(2)}},
		{Name: "revoked at no time", Given: []domain.Event{issued}, When: Revoke{}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "unknown", When: Revoke{scenario.Noon}, Code: domain.NotFound},
	})
	if s := scenario.Fold(Evolve, issued, revoked); !s.Revoked || s.SecretHash != hash || !s.RevokedAt.Equal(revoked.At) {
		t.Errorf("the state is %+v", s)
	}
}
