// Package redundancygroup is two or more connections of a customer that stand in for one another, and are to share as
// little as the group's policy says.
//
// It holds members to the policy when they join, and ends them together. It never says how a member is doing: that is the
// connection's, and [Health] puts them together. Start reading at [State], then [Decide].
package redundancygroup

import (
	"time"

	"crossbill/domain"
)

// What members of a group must not share, from the least to the most. Each holds the ones before it too.
const (
	DiversePort     = "port"      // a port, on either side
	DiverseEdgeNode = "edge_node" // an edge node
	DiverseLocation = "location"  // the building that the edge node is in
)

// Diversities are all policies there are.
var Diversities = []string{DiversePort, DiverseEdgeNode, DiverseLocation}

// Created says that a customer has a group.
type Created struct {
	GroupID    string    `json:"redundancy_group_id"`
	CustomerID string    `json:"customer_id"`
	Name       string    `json:"name"`
	Diversity  string    `json:"diversity"`
	At         time.Time `json:"at"`
}

// Member is a connection in a group, and where it was when it joined: it may be moved.
type Member struct {
	ConnectionID   string `json:"connection_id"`
	PortID         string `json:"port_id"`          // the customer's
	ProviderPortID string `json:"provider_port_id"` // the provider's
	EdgeNodeID     string `json:"edge_node_id"`
	Location       string `json:"location"` // a building, by whatever names it
}

// ConnectionAdded says that a connection joined.
type ConnectionAdded struct {
	GroupID string    `json:"redundancy_group_id"`
	Member  Member    `json:"member"`
	At      time.Time `json:"at"`
}

// ConnectionRemoved says that a connection left. It goes on by itself.
type ConnectionRemoved struct {
	GroupID      string    `json:"redundancy_group_id"`
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// TerminationRequested says that all members are to end, and with them the group. Those that had not ended before were
// ended in the same append.
type TerminationRequested struct {
	GroupID       string    `json:"redundancy_group_id"`
	Reason        string    `json:"reason"`
	ConnectionIDs []string  `json:"connection_ids"`
	At            time.Time `json:"at"`
}

// EventType is the name in the log.
func (Created) EventType() string { return "redundancy_group.created" }

// EventType is the name in the log.
func (ConnectionAdded) EventType() string { return "redundancy_group.connection_added" }

// EventType is the name in the log.
func (ConnectionRemoved) EventType() string { return "redundancy_group.connection_removed" }

// EventType is the name in the log.
func (TerminationRequested) EventType() string { return "redundancy_group.termination_requested" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Created{}, ConnectionAdded{}, ConnectionRemoved{}, TerminationRequested{}}
}

// Stream names the stream of one group.
func Stream(id string) string { return "redundancy_group-" + id }

// State is what is known of a group. The zero State is one that does not exist.
type State struct {
	ID           string     `json:"id"`
	CustomerID   string     `json:"customer_id"`
	Name         string     `json:"name"`
	Diversity    string     `json:"diversity"`
	Members      []Member   `json:"members"` // in the order they joined, also those that have ended
	CreatedAt    time.Time  `json:"created_at"`
	Reason       string     `json:"reason,omitempty"` // why it was terminated
	TerminatedAt *time.Time `json:"terminated_at,omitempty"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Created:
		return State{ID: e.GroupID, CustomerID: e.CustomerID, Name: e.Name, Diversity: e.Diversity, Members: []Member{}, CreatedAt: e.At}
	case ConnectionAdded:
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Members = append(s.Members[:len(s.Members):len(s.Members)], e.Member)
	case ConnectionRemoved:
		rest := make([]Member, 0, len(s.Members))
		for _, m := range s.Members {
			if m.ConnectionID != e.ConnectionID {
				rest = append(rest, m)
			}
		}
		s.Members = rest
	case TerminationRequested:
		s.Reason, s.TerminatedAt = e.Reason, &e.At
	}
	return s
}
