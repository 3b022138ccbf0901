package port

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	id, node, org := scenario.ID(domain.PrefixPort, 1), scenario.ID(domain.PrefixEdgeNode, 1), scenario.ID(domain.PrefixOrganisation, 1)
	register := Register{id, node, org, "uplink", "eth0.1-a_b", domain.MaxMbps, 4094, scenario.Noon}
	registered := Registered{id, node, org, "uplink", "eth0.1-a_b", domain.MaxMbps, 4094, scenario.Noon}
	cases := []scenario.Case[Command]{
		{Name: "registered", When: register, Then: []domain.Event{registered}},
		{Name: "exists", Given: []domain.Event{registered}, When: register, Code: domain.Conflict},
		{Name: "everything is wrong at once", When: Register{}, Code: domain.Invalid,
			Fields: []string{"/port_id", "/edge_node_id", "/organisation_id", "/name", "/interface", "/capacity_mbps", "/at"}},
	}
	for _, name := range []string{".", "..", "a/b", "a b", "eth0:1", "$(reboot)", "sixteen-letters."} {
		wrong := register
		wrong.Interface = name
		cases = append(cases, scenario.Case[Command]{Name: "interface " + name, When: wrong, Code: domain.Invalid, Fields: []string{"/interface"}})
	}
	for _, mbps := range []int{-1, domain.MaxMbps + 1} {
		wrong := register
		wrong.CapacityMbps = mbps
		cases = append(cases, scenario.Case[Command]{Name: "capacity", When: wrong, Code: domain.Invalid, Fields: []string{"/capacity_mbps"}})
	}
	for _, vlan := range []int{-1, 1, 4095} {
		wrong := register
		wrong.ServiceVLAN = vlan
		cases = append(cases, scenario.Case[Command]{Name: "service VLAN", When: wrong, Code: domain.Invalid, Fields: []string{"/service_vlan"}})
	}
	plain, isPlain := register, registered
	plain.ServiceVLAN, isPlain.ServiceVLAN = 0, 0
	cases = append(cases, scenario.Case[Command]{Name: "without a service VLAN", When: plain, Then: []domain.Event{isPlain}})
	scenario.Run(t, Decide, Evolve, cases)
}
