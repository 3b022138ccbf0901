package port

import (
	"time"

	"crossbill/domain"
)

// MaxName is the longest name of a port, in characters.
const MaxName = 60

// Bounds of a service VLAN, those of a connection's VLAN.
const (
	MinServiceVLAN = 2
	MaxServiceVLAN = 4094
)

// Command is what can be asked of a port.
type Command interface{ command() }

// Register makes a port: an interface, or a service VLAN on one. That the edge node and the organisation exist, and that no other
// port of the node is that, is for the caller to see to.
type Register struct {
	PortID         string
	EdgeNodeID     string
	OrganisationID string
	Name           string
	Interface      string // its name on the edge node
	CapacityMbps   int
	ServiceVLAN    int // 0: the interface itself, with one tag for each connection
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
		p.Check(c.ServiceVLAN == 0 || c.ServiceVLAN >= MinServiceVLAN && c.ServiceVLAN <= MaxServiceVLAN, "/service_vlan",
			"must be %d to %d, or left out", MinServiceVLAN, MaxServiceVLAN)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Registered{
			PortID: c.PortID, EdgeNodeID: c.EdgeNodeID, OrganisationID: c.OrganisationID, Name: c.Name, Interface: c.Interface,
			CapacityMbps: c.CapacityMbps, ServiceVLAN: c.ServiceVLAN, At: domain.Instant(c.At),
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
