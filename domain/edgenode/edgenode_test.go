package edgenode

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/location"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixEdgeNode, 1)
	register := Register{EdgeNodeID: id, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 64500, RouterID: "192.0.2.1", At: scenario.Noon}
	registered := Registered{EdgeNodeID: id, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 64500, RouterID: "192.0.2.1", At: scenario.Noon}
	here := location.State{ID: scenario.ID(domain.PrefixLocation, 1), Metro: "AMSTERDAM"}
	at := func(locationID string, metro string) Register {
		c := register
		c.LocationID, c.Location, c.Metro = locationID, here, metro
		return c
	}
	placed := registered
	placed.LocationID = here.ID
	numbered, withPrefix := registered, func(prefix string) Register {
		c := register
		c.IPv6LinkPrefix = prefix
		return c
	}
	numbered.IPv6LinkPrefix = "2001:db8:ffff::/112"
	cases := []scenario.Case[Command]{
		{Name: "registered", When: register, Then: []domain.Event{registered}},
		{Name: "exists", Given: []domain.Event{registered}, When: register, Code: domain.Conflict},
		{Name: "at a location", When: at(here.ID, "Amsterdam"), Then: []domain.Event{placed}},
		{Name: "at another metro's location", When: at(here.ID, "Rotterdam"), Code: domain.Invalid, Fields: []string{"/metro"}},
		{Name: "at no location", When: at(scenario.ID(domain.PrefixLocation, 2), "Amsterdam"), Code: domain.Invalid, Fields: []string{"/location_id"}},
		{Name: "IPv6 links of its own", When: withPrefix("2001:db8:ffff::/112"), Then: []domain.Event{numbered}},
		{Name: "too few IPv6 links", When: withPrefix("2001:db8:ffff::/113"), Code: domain.Invalid, Fields: []string{"/ipv6_link_prefix"}},
		{Name: "IPv4 for IPv6 links", When: withPrefix("10.0.0.0/8"), Code: domain.Invalid, Fields: []string{"/ipv6_link_prefix"}},
		{Name: "link-local addresses for IPv6 links", When: withPrefix("fe80::/64"), Code: domain.Invalid, Fields: []string{"/ipv6_link_prefix"}},
		{Name: "everything is wrong at once", When: Register{}, Code: domain.Invalid,
			Fields: []string{"/edge_node_id", "/name", "/metro", "/facility", "/asn", "/router_id", "/at"}},
	}
	for _, routerID := range []string{"0.0.0.0", "::1", "192.0.2", "192.0.2.256", "192.0.2.01"} {
		wrong := register
		wrong.RouterID = routerID
		cases = append(cases, scenario.Case[Command]{Name: "router id " + routerID, When: wrong, Code: domain.Invalid, Fields: []string{"/router_id"}})
	}
	scenario.Run(t, Decide, Evolve, cases)
}
