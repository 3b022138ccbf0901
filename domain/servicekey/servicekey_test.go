package servicekey

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/port"
)

func TestServiceKey(t *testing.T) {
	t.Parallel()
	id, order := scenario.ID(domain.PrefixServiceKey, 1), scenario.ID(domain.PrefixOrder, 1)
	owner, customer := scenario.ID(domain.PrefixOrganisation, 1), scenario.ID(domain.PrefixOrganisation, 2)
	onPort, other := scenario.ID(domain.PrefixPort, 1), scenario.ID(domain.PrefixPort, 2)
	hash, wrongHash := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	issue := Issue{ServiceKeyID: id, ProviderID: owner, PortID: onPort, Port: port.State{ID: onPort, OrganisationID: owner}, CustomerID: customer,
		MaxMbps: 100, Note: "for the lab", SecretHash: hash, ExpiresAt: scenario.After(3600), At: scenario.Noon}
	issued := Issued{id, owner, onPort, customer, 100, "for the lab", hash, scenario.After(3600), scenario.Noon}
	anybodys := issued
	anybodys.CustomerID, anybodys.MaxMbps = "", 0
	redeem := Redeem{hash, customer, onPort, 100, order, scenario.After(60)}
	redeemed := Redeemed{id, order, customer, scenario.After(60)}
	revoked := Revoked{id, scenario.After(60)}
	issuing := func(change func(*Issue)) Issue { c := issue; change(&c); return c }
	redeeming := func(change func(*Redeem)) Redeem { c := redeem; change(&c); return c }
	given := func(e ...domain.Event) []domain.Event { return append([]domain.Event{issued}, e...) }
	key := []string{"/service_key"}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "issue", When: issue, Then: []domain.Event{issued}},
		{Name: "issue for anybody, of any width", When: issuing(func(c *Issue) { c.CustomerID, c.MaxMbps = "", 0 }), Then: []domain.Event{anybodys}},
		{Name: "exists", Given: given(), When: issue, Code: domain.Conflict},
		{Name: "somebody else's port", When: issuing(func(c *Issue) { c.ProviderID = customer }), Code: domain.Invalid, Fields: []string{"/port_id"}},
		{Name: "no port", When: issuing(func(c *Issue) { c.Port = port.State{} }), Code: domain.Invalid, Fields: []string{"/port_id"}},
		{Name: "too long", When: issuing(func(c *Issue) { c.ExpiresAt = c.At.Add(MaxValidity + 1) }), Code: domain.Invalid, Fields: []string{"/expires_at"}},
		{Name: "everything is wrong at once", When: Issue{CustomerID: "x", MaxMbps: -1, Note: "\x00"}, Code: domain.Invalid,
			Fields: []string{"/service_key_id", "/provider_id", "/port_id", "/customer_id", "/max_mbps", "/note", "/secret_hash", "/expires_at", "/at"}},

		{Name: "redeem", Given: given(), When: redeem, Then: []domain.Event{redeemed}},
		{Name: "redeem again, the same order", Given: given(redeemed), When: redeem},
		{Name: "redeem again, another order", Given: given(redeemed), When: redeeming(func(c *Redeem) { c.OrderID = scenario.ID(domain.PrefixOrder, 2) }), Code: domain.Conflict},
		{Name: "redeem what is revoked", Given: given(revoked), When: redeem, Code: domain.Conflict},
		{Name: "redeem in the last instant", Given: given(), When: redeeming(func(c *Redeem) { c.At = scenario.After(3600).Add(-1000) }),
			Then: []domain.Event{Redeemed{id, order, customer, scenario.After(3600).Add(-1000)}}},
		{Name: "redeem too late", Given: given(), When: redeeming(func(c *Redeem) { c.At = scenario.After(3600) }), Code: domain.Conflict},
		{Name: "redeem nothing", When: redeem, Code: domain.Invalid, Fields: key},
		{Name: "redeem with another secret", Given: given(), When: redeeming(func(c *Redeem) { c.SecretHash = wrongHash }), Code: domain.Invalid, Fields: key},
		{Name: "who has not the secret does not learn that it was used", Given: given(redeemed), When: redeeming(func(c *Redeem) { c.SecretHash = "" }), Code: domain.Invalid, Fields: key},
		{Name: "redeem another's", Given: given(), When: redeeming(func(c *Redeem) { c.CustomerID = owner }), Code: domain.Invalid, Fields: key},
		{Name: "redeem anybody's", Given: []domain.Event{anybodys}, When: redeeming(func(c *Redeem) { c.CustomerID, c.BandwidthMbps = owner, 1000 }),
			Then: []domain.Event{Redeemed{id, order, owner, scenario.After(60)}}},
		{Name: "for another port", Given: given(), When: redeeming(func(c *Redeem) { c.PortID = other }), Code: domain.Invalid, Fields: key},
		{Name: "too wide", Given: given(), When: redeeming(func(c *Redeem) { c.BandwidthMbps = 101 }), Code: domain.Invalid, Fields: key},

		{Name: "revoke", Given: given(), When: Revoke{scenario.After(60)}, Then: []domain.Event{revoked}},
		{Name: "revoke again", Given: given(revoked), When: Revoke{scenario.After(61)}},
		{Name: "revoke what has expired", Given: given(), When: Revoke{scenario.After(4000)}, Then: []domain.Event{Revoked{id, scenario.After(4000)}}},
		{Name: "revoke what is used", Given: given(redeemed), When: Revoke{scenario.After(61)}, Code: domain.Conflict},
		{Name: "revoke nothing", When: Revoke{scenario.Noon}, Code: domain.NotFound},
		{Name: "revoke at no time", Given: given(), When: Revoke{}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "no command", Given: given(), When: nil, Code: domain.Internal},
	})
}
