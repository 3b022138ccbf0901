package redundancygroup

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/internal/scenario"
)

var (
	groupID  = scenario.ID(domain.PrefixRedundancyGroup, 1)
	customer = scenario.ID(domain.PrefixOrganisation, 1)
)

// member is the n-th connection, on ports, a node and in a building of its own.
func member(n int) Member {
	return Member{scenario.ID(domain.PrefixConnection, n), scenario.ID(domain.PrefixPort, 2*n), scenario.ID(domain.PrefixPort, 2*n+1),
		scenario.ID(domain.PrefixEdgeNode, n), "Hall " + string(rune('A'+n))}
}

// beside is the n-th connection as the others of its group see it.
func beside(n int) Neighbour {
	m := member(n)
	return Neighbour{m.ConnectionID, []string{m.PortID, m.ProviderPortID}, []string{m.EdgeNodeID}, []string{m.Location}}
}

func created(diversity string) Created {
	return Created{groupID, customer, "Amsterdam, both ways", diversity, scenario.Noon}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	at := scenario.After(60)
	create := Create{groupID, customer, "Amsterdam, both ways", DiversePort, scenario.Noon}
	added := func(m Member) ConnectionAdded { return ConnectionAdded{groupID, m, at} }
	given := func(diversity string, e ...domain.Event) []domain.Event {
		return append([]domain.Event{created(diversity)}, e...)
	}
	like := func(change func(m *Member)) Member { m := member(2); change(&m); return m }
	terminated := TerminationRequested{groupID, "moved", []string{member(1).ConnectionID}, at}
	var full []domain.Event
	var all []Neighbour
	for n := range MaxLive {
		full, all = append(full, added(member(n))), append(all, beside(n))
	}
	moving := beside(1) // to where the third is
	moving.Ports, moving.EdgeNodes, moving.Locations = append(moving.Ports, beside(3).Ports...), append(moving.EdgeNodes, member(3).EdgeNodeID), append(moving.Locations, member(3).Location)
	samePort := like(func(m *Member) { m.PortID = member(1).PortID })
	sameTheirs := like(func(m *Member) { m.ProviderPortID = member(1).ProviderPortID })
	sameNode := like(func(m *Member) { m.EdgeNodeID = member(1).EdgeNodeID })
	sameHall := like(func(m *Member) { m.Location = member(1).Location })
	group := []string{"/redundancy_group_id"}

	cases := []scenario.Case[Command]{
		{Name: "create", When: create, Then: []domain.Event{created(DiversePort)}},
		{Name: "exists", Given: given(DiversePort), When: create, Code: domain.Conflict},
		{Name: "everything is wrong at once", When: Create{Diversity: "continent"}, Code: domain.Invalid,
			Fields: []string{"/redundancy_group_id", "/customer_id", "/name", "/diversity", "/at"}},
		{Name: "a long name", When: Create{groupID, customer, strings.Repeat("x", MaxName+1), DiversePort, at}, Code: domain.Invalid, Fields: []string{"/name"}},

		{Name: "add", Given: given(DiversePort), When: Add{member(1), nil, at}, Then: []domain.Event{added(member(1))}},
		{Name: "add a second", Given: given(DiverseLocation, added(member(1))), When: Add{member(2), []Neighbour{beside(1)}, at}, Then: []domain.Event{added(member(2))}},
		{Name: "add again", Given: given(DiversePort, added(member(1))), When: Add{member(1), nil, at}},
		{Name: "add again after leaving", Given: given(DiversePort, added(member(1)), ConnectionRemoved{groupID, member(1).ConnectionID, at}), When: Add{member(1), nil, at},
			Then: []domain.Event{added(member(1))}},
		{Name: "on the port of one that left", Given: given(DiversePort, added(member(1)), ConnectionRemoved{groupID, member(1).ConnectionID, at}), When: Add{samePort, nil, at},
			Then: []domain.Event{added(samePort)}},
		{Name: "on the port of one that has ended", Given: given(DiversePort, added(member(1))), When: Add{samePort, nil, at},
			Then: []domain.Event{added(samePort)}},
		{Name: "the last one", Given: given(DiversePort, full[1:]...), When: Add{member(0), all[1:], at}, Then: []domain.Event{added(member(0))}},
		{Name: "one too many", Given: given(DiversePort, full...), When: Add{member(99), all, at}, Code: domain.Conflict},
		{Name: "in the place of one that has ended", Given: given(DiversePort, full...), When: Add{member(99), all[1:], at},
			Then: []domain.Event{added(member(99))}},
		{Name: "on the port that one is moved to", Given: given(DiversePort, added(member(1))), When: Add{like(func(m *Member) { m.PortID = member(3).PortID }), []Neighbour{moving}, at},
			Code: domain.Invalid, Fields: []string{"/port_id"}},
		{Name: "on the port that one is moved from", Given: given(DiversePort, added(member(1))), When: Add{samePort, []Neighbour{moving}, at},
			Code: domain.Invalid, Fields: []string{"/port_id"}},
		{Name: "on the node that one is moved to", Given: given(DiverseEdgeNode, added(member(1))), When: Add{like(func(m *Member) { m.EdgeNodeID = member(3).EdgeNodeID }), []Neighbour{moving}, at},
			Code: domain.Invalid, Fields: group},
		{Name: "where one was that is elsewhere now", Given: given(DiverseLocation, added(member(1))), When: Add{samePort, []Neighbour{{member(1).ConnectionID, beside(3).Ports, beside(3).EdgeNodes, beside(3).Locations}}, at},
			Then: []domain.Event{added(samePort)}},
		{Name: "add what is nothing", Given: given(DiversePort), When: Add{}, Code: domain.Invalid,
			Fields: []string{"/connection_id", "/port_id", "/provider_port_id", "/edge_node_id", "/at"}},
		{Name: "add to what is terminated", Given: given(DiversePort, added(member(1)), terminated), When: Add{member(2), nil, at}, Code: domain.Conflict},
		{Name: "add to nothing", When: Add{member(1), nil, at}, Code: domain.NotFound},

		{Name: "remove", Given: given(DiversePort, added(member(1)), added(member(2))), When: Remove{member(1).ConnectionID, at},
			Then: []domain.Event{ConnectionRemoved{groupID, member(1).ConnectionID, at}}},
		{Name: "remove what is not in it", Given: given(DiversePort, added(member(1))), When: Remove{member(2).ConnectionID, at}, Code: domain.NotFound},
		{Name: "remove at no time", Given: given(DiversePort, added(member(1))), When: Remove{ConnectionID: member(1).ConnectionID}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "remove from what is terminated", Given: given(DiversePort, added(member(1)), terminated), When: Remove{member(1).ConnectionID, at}, Code: domain.Conflict},

		{Name: "terminate", Given: given(DiversePort, added(member(1))), When: Terminate{"moved", []string{member(1).ConnectionID}, at}, Then: []domain.Event{terminated}},
		{Name: "terminate an empty one", Given: given(DiversePort), When: Terminate{"moved", nil, at}, Then: []domain.Event{TerminationRequested{groupID, "moved", []string{}, at}}},
		{Name: "terminate again", Given: given(DiversePort, added(member(1)), terminated), When: Terminate{"moved", nil, scenario.After(61)}},
		{Name: "terminate again, otherwise", Given: given(DiversePort, added(member(1)), terminated), When: Terminate{"too dear", nil, at}, Code: domain.Conflict},
		{Name: "terminate without a reason", Given: given(DiversePort), When: Terminate{}, Code: domain.Invalid, Fields: []string{"/reason", "/at"}},
		{Name: "terminate nothing", When: Terminate{"moved", nil, at}, Code: domain.NotFound},
		{Name: "no command", Given: given(DiversePort), When: nil, Code: domain.Internal},
	}
	// What each policy forbids: a row a shared thing, a column a policy.
	for name, c := range map[string]struct {
		m                    Member
		port, node, location []string
	}{
		"the customer's port": {samePort, []string{"/port_id"}, []string{"/port_id"}, []string{"/port_id"}},
		"the provider's port": {sameTheirs, group, group, group},
		"the edge node":       {sameNode, nil, group, group},
		"the building":        {sameHall, nil, nil, group},
	} {
		for diversity, fields := range map[string][]string{DiversePort: c.port, DiverseEdgeNode: c.node, DiverseLocation: c.location} {
			one := scenario.Case[Command]{Name: "sharing " + name + " where " + diversity + "s differ", Given: given(diversity, added(member(1))),
				When: Add{c.m, []Neighbour{beside(1)}, at}, Fields: fields, Code: domain.Invalid}
			if fields == nil {
				one.Code, one.Then = "", []domain.Event{added(c.m)}
			}
			cases = append(cases, one)
		}
	}
	scenario.Run(t, Decide, Evolve, cases)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	up := map[string]connection.Session{"a": {State: connection.SessionEstablished}, "z": {State: connection.SessionEstablished}}
	carrying := connection.State{State: connection.StateProduction, Sessions: up}
	changing := connection.State{State: connection.StateChangePending, Sessions: up}
	down := connection.State{State: connection.StateProduction, Sessions: map[string]connection.Session{"a": up["a"]}}
	testing, ended := connection.State{State: connection.StateTesting, Sessions: up}, connection.State{State: connection.StateDecommissioned}
	going := connection.State{State: connection.StateDecommissionRequested, Sessions: up}
	at := scenario.Noon
	for _, c := range []struct {
		want       string
		terminated bool
		members    []connection.State
	}{
		{HealthEmpty, false, nil},
		{HealthEmpty, false, []connection.State{ended}},
		{HealthForming, false, []connection.State{testing, testing}},
		{HealthForming, false, []connection.State{down, down}},
		{HealthUnprotected, false, []connection.State{carrying}},
		{HealthUnprotected, false, []connection.State{carrying, down, ended, testing, going}},
		{HealthRedundant, false, []connection.State{carrying, changing}},
		{HealthTerminating, true, []connection.State{going, ended}},
		{HealthTerminated, true, []connection.State{ended}},
		{HealthTerminated, true, nil},
	} {
		s := State{}
		if c.terminated {
			s.TerminatedAt = &at
		}
		if got := s.Health(c.members); got != c.want {
			t.Errorf("terminated %v, %v: %s, want %s", c.terminated, c.members, got, c.want)
		}
	}
}
