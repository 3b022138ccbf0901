package redundancygroup

import (
	"fmt"
	"slices"
	"time"

	"crossbill/domain"
)

// Limits on a group.
const (
	MaxName    = 120 // characters
	MaxLive    = 16  // members that have not ended; a group is ended in one append
	MaxMembers = 200 // also those that have ended
)

// Command is what can be asked of a group.
type Command interface{ command() }

// Create makes an empty group.
type Create struct {
	GroupID    string
	CustomerID string
	Name       string
	Diversity  string
	At         time.Time
}

// Neighbour is a member that has not ended, with all that it has, is to have, or has not left yet: one that is moved has two
// of each. Those that have ended stand in for nobody, and nothing is shared with them.
type Neighbour struct {
	ConnectionID string
	Ports        []string // of both sides
	EdgeNodes    []string
	Locations    []string
}

// Add takes a connection into the group. The caller sees to it that it is the customer's own, has not ended and is not moved.
type Add struct {
	Member Member
	Others []Neighbour // the members beside it
	At     time.Time
}

// Remove takes a connection out of the group.
type Remove struct {
	ConnectionID string
	At           time.Time
}

// Terminate ends the group with all its members; the caller ends them in the same append.
type Terminate struct {
	Reason string
	Live   []string // the members that have not ended
	At     time.Time
}

func (Create) command()    {}
func (Add) command()       {}
func (Remove) command()    {}
func (Terminate) command() {}

// Decide returns the events that a command makes of a state. What was done already does nothing when it says the same again.
//
// It returns an Invalid error for wrong fields, with pointers into the request for a group or for an order, also where a
// member would share what the policy forbids; NotFound for a group that does not exist, or a connection that is not in it;
// a Conflict for a group that is terminated or full.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "redundancygroup.Decide"
	if create, ok := c.(Create); ok {
		if s.ID != "" {
			return nil, domain.Exists(op, "redundancy group", s.ID)
		}
		return create.decide(op)
	}
	if s.ID == "" {
		return nil, domain.Missing(op, "redundancy group")
	}
	switch c := c.(type) {
	case Add:
		return c.decide(op, s)
	case Remove:
		if s.TerminatedAt != nil {
			return nil, s.terminated(op)
		}
		if !slices.ContainsFunc(s.Members, func(m Member) bool { return m.ConnectionID == c.ConnectionID }) {
			return nil, domain.Missing(op, "connection in this redundancy group")
		}
		var p domain.Problems
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{ConnectionRemoved{GroupID: s.ID, ConnectionID: c.ConnectionID, At: domain.Instant(c.At)}}, nil
	case Terminate:
		var p domain.Problems
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.TerminatedAt != nil {
			if s.Reason == c.Reason {
				return nil, nil
			}
			return nil, domain.Differs(op, "redundancy group", s.ID, "reason of its termination")
		}
		return []domain.Event{TerminationRequested{
			GroupID: s.ID, Reason: c.Reason, ConnectionIDs: append([]string{}, c.Live...), At: domain.Instant(c.At),
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func (s State) terminated(op string) error {
	return domain.InState(op, "redundancy group", s.ID, "terminated").WithHint("create a new group")
}

func (c Create) decide(op string) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/redundancy_group_id", domain.PrefixRedundancyGroup, c.GroupID)
	p.ID("/customer_id", domain.PrefixOrganisation, c.CustomerID)
	p.Text("/name", c.Name, MaxName)
	p.OneOf("/diversity", c.Diversity, Diversities...)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Created{GroupID: c.GroupID, CustomerID: c.CustomerID, Name: c.Name, Diversity: c.Diversity, At: domain.Instant(c.At)}}, nil
}

func (c Add) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/connection_id", domain.PrefixConnection, c.Member.ConnectionID)
	p.ID("/port_id", domain.PrefixPort, c.Member.PortID)
	p.ID("/provider_port_id", domain.PrefixPort, c.Member.ProviderPortID)
	p.ID("/edge_node_id", domain.PrefixEdgeNode, c.Member.EdgeNodeID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.TerminatedAt != nil {
		return nil, s.terminated(op)
	}
	if slices.ContainsFunc(s.Members, func(m Member) bool { return m.ConnectionID == c.Member.ConnectionID }) {
		return nil, nil
	}
	for _, other := range c.Others {
		if pointer, shared := Shared(s.Diversity, c.Member, other); shared != "" {
			p.Add(pointer, "the connection %s of this group is on the same %s", other.ConnectionID, shared)
		}
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if len(c.Others) >= MaxLive || len(s.Members) >= MaxMembers {
		return nil, domain.Errorf(domain.Conflict, op, "the redundancy group %s is full", s.ID).WithHint("create another group")
	}
	return []domain.Event{ConnectionAdded{GroupID: s.ID, Member: c.Member, At: domain.Instant(c.At)}}, nil
}

// Shared returns what a member would share with another against a policy, and the field of an order that says so; "" for
// nothing. A connection is between two ports of one edge node, so what differs in the node differs in the ports.
func Shared(diversity string, m Member, with Neighbour) (pointer, what string) {
	const group = "/redundancy_group_id"
	switch {
	case slices.Contains(with.Ports, m.PortID):
		return "/port_id", "port"
	case slices.Contains(with.Ports, m.ProviderPortID):
		return group, "port of the provider"
	case diversity == DiversePort:
		return "", ""
	case slices.Contains(with.EdgeNodes, m.EdgeNodeID):
		return group, "edge node"
	case diversity == DiverseLocation && slices.Contains(with.Locations, m.Location):
		return group, fmt.Sprintf("location, %.100s", m.Location)
	}
	return "", ""
}
