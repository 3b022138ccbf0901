// Package edgenode is the machines at points of presence that carry and meter connections.
//
// It says what a node is and when its agent was silent, never what it should be doing: that is derived from the connections
// on it. Start reading at [State], then [Decide].
package edgenode

import (
	"time"

	"crossbill/domain"
)

// Registered says that the platform has an edge node.
type Registered struct {
	EdgeNodeID string    `json:"edge_node_id"`
	Name       string    `json:"name"`
	Metro      string    `json:"metro"`
	Facility   string    `json:"facility"`
	ASN        uint32    `json:"asn"`
	RouterID   string    `json:"router_id"`             // the BGP identifier in dotted form (RFC 4271 section 4.2)
	LocationID string    `json:"location_id,omitempty"` // the registered location it stands at; none in nodes of before there were any
	At         time.Time `json:"at"`
	// IPv6LinkPrefix is where its IPv6 links have their addresses; "" is [domain.LinkSpaceIPv6].
	IPv6LinkPrefix string `json:"ipv6_link_prefix,omitempty"`
}

// EventType is the name in the log.
func (Registered) EventType() string { return "edge_node.registered" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Registered{}, FellSilent{}, Heard{}} }

// Stream names the stream of one edge node.
func Stream(id string) string { return "edge_node-" + id }

// State is what is known of an edge node. The zero State is one that does not exist.
type State struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	Metro          string    `json:"metro"`
	Facility       string    `json:"facility"`
	ASN            uint32    `json:"asn"`
	RouterID       string    `json:"router_id"`
	LocationID     string    `json:"location_id,omitempty"`
	RegisteredAt   time.Time `json:"registered_at"`
	IPv6LinkPrefix string    `json:"ipv6_link_prefix,omitempty"` // "": [domain.LinkSpaceIPv6]

	SilentSince *time.Time `json:"silent_since,omitempty"` // nil while its agent is heard
	SilentUntil *time.Time `json:"silent_until,omitempty"` // the end of its last silence
}

// Building names the building that the node is in, the same for all nodes there.
func (s State) Building() string {
	if s.LocationID != "" {
		return s.LocationID
	}
	return s.Metro + ", " + s.Facility
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Registered); ok {
		return State{
			ID: e.EdgeNodeID, Name: e.Name, Metro: e.Metro, Facility: e.Facility, ASN: e.ASN, RouterID: e.RouterID,
			LocationID: e.LocationID, RegisteredAt: e.At, IPv6LinkPrefix: e.IPv6LinkPrefix,
		}
	}
	return s.withSilence(e)
}
