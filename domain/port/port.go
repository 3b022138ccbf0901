// Package port is the interfaces of edge nodes that organisations are plugged into.
//
// It knows a port's own capacity and never what connections take of it: that is reserved where they are allocated.
// Start reading at [State], then [Decide].
package port

import (
	"time"

	"crossbill/domain"
)

// Registered says that an organisation has a port on an edge node.
type Registered struct {
	PortID         string    `json:"port_id"`
	EdgeNodeID     string    `json:"edge_node_id"`
	OrganisationID string    `json:"organisation_id"`
	Name           string    `json:"name"`
	Interface      string    `json:"interface"` // its name on the edge node
	CapacityMbps   int       `json:"capacity_mbps"`
	ServiceVLAN    int       `json:"service_vlan,omitempty"` // frames have this service tag (IEEE 802.1ad) around their connection's VLAN; 0: none
	At             time.Time `json:"at"`
}

// EventType is the name in the log.
func (Registered) EventType() string { return "port.registered" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Registered{}} }

// Stream names the stream of one port.
func Stream(id string) string { return "port-" + id }

// State is what is known of a port. The zero State is one that does not exist.
type State struct {
	ID             string    `json:"id"`
	EdgeNodeID     string    `json:"edge_node_id"`
	OrganisationID string    `json:"organisation_id"`
	Name           string    `json:"name"`
	Interface      string    `json:"interface"`
	CapacityMbps   int       `json:"capacity_mbps"`
	ServiceVLAN    int       `json:"service_vlan,omitempty"`
	RegisteredAt   time.Time `json:"registered_at"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Registered); ok {
		return State{
			ID: e.PortID, EdgeNodeID: e.EdgeNodeID, OrganisationID: e.OrganisationID, Name: e.Name, Interface: e.Interface,
			CapacityMbps: e.CapacityMbps, ServiceVLAN: e.ServiceVLAN, RegisteredAt: e.At,
		}
	}
	return s
}
