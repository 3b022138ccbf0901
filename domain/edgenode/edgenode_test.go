package edgenode

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixEdgeNode, 1)
	register := Register{id, "pop-1", "Amsterdam", "First hall", 64500, "192.0.2.1", scenario.Noon}
	registered := Registered{id, "pop-1", "Amsterdam", "First hall", 64500, "192.0.2.1", scenario.Noon}
	cases := []scenario.Case[Command]{
		{Name: "registered", When: register, Then: []domain.Event{registered}},
		{Name: "exists", Given: []domain.Event{registered}, When: register, Code: domain.Conflict},
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
