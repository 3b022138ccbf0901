package port

import (
	"time"

	"crossbill/domain"
)

// MaxName is the longest name of a port, in characters.
const MaxName = 60

// Command is what can be asked of a port.
type Command interface{ command() }

// Register makes a port. That the edge node and the organisation exist, and that no other port of the node has the
// interface, is for the caller to see to.
type Register struct {
	PortID         string
	EdgeNodeID     string
	OrganisationID string
	Name           string
	Interface      string // its name on the edge node
	CapacityMbps   int
	At             time.Time
}

func (Register) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields and a Conflict for a port that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "port.Decide"
	switch c := c.(type) {
	case Register:
		if s.ID != "" {
			return nil, domain.Exists(op, "port", s.ID)
		}
		var p domain.Problems
		p.ID("/port_id", domain.PrefixPort, c.PortID)
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
		p.Text("/name", c.Name, MaxName)
		p.InterfaceName("/interface", c.Interface)
		p.Mbps("/capacity_mbps", c.CapacityMbps)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Registered{
			PortID: c.PortID, EdgeNodeID: c.EdgeNodeID, OrganisationID: c.OrganisationID, Name: c.Name, Interface: c.Interface,
			CapacityMbps: c.CapacityMbps, At: domain.Instant(c.At),
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
