// Package order is the commercial act that makes a connection: it is placed from a quote, answered, carried out, and ends.
//
// It never says how far provisioning has come: that is the connection's. Start reading at [State], then [Decide].
package order

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/listing"
)

// States of an order, after MEF LSO Sonata. The last four are final.
const (
	StateAcknowledged     = "acknowledged"      // placed; nobody need be asked
	StateAwaitingProvider = "awaiting_provider" // the provider answers until the deadline
	StateInProgress       = "in_progress"       // accepted, being provisioned
	StateCompleted        = "completed"         // the connection is in production
	StateRejected         = "rejected"          // by the provider
	StateFailed           = "failed"            // could not be provisioned
	StateCancelled        = "cancelled"         // by the customer
)

// BGP is the customer's side of the sessions.
type BGP = domain.BGP

// Placed says that a customer ordered what a quote offered.
type Placed struct {
	OrderID        string    `json:"order_id"`
	QuoteID        string    `json:"quote_id"`
	QuoteHash      string    `json:"quote_hash"`
	CustomerID     string    `json:"customer_id"`
	ProviderID     string    `json:"provider_id"`
	ListingID      string    `json:"listing_id"`
	ListingVersion int       `json:"listing_version"`
	ConnectionID   string    `json:"connection_id"` // the connection that it makes
	PortID         string    `json:"port_id"`       // the customer's
	BandwidthMbps  int       `json:"bandwidth_mbps"`
	BGP            BGP       `json:"bgp"`
	Approval       string    `json:"approval"` // the listing's: automatic or manual
	Deadline       time.Time `json:"deadline"` // the provider answers before it
	PurchaseOrder  string    `json:"purchase_order"`
	At             time.Time `json:"at"`
}

// Accepted says that the order is to be carried out.
type Accepted struct {
	OrderID string    `json:"order_id"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// Rejected says that the provider does not want the order.
type Rejected struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Completed says that the connection is in production.
type Completed struct {
	OrderID string    `json:"order_id"`
	At      time.Time `json:"at"`
}

// Failed says that the order could not be carried out; whatever had been set up for it is undone.
type Failed struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Cancelled says that the customer no longer wants the order.
type Cancelled struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// EventType is the name in the log.
func (Placed) EventType() string { return "order.placed" }

// EventType is the name in the log.
func (Accepted) EventType() string { return "order.accepted" }

// EventType is the name in the log.
func (Rejected) EventType() string { return "order.rejected" }

// EventType is the name in the log.
func (Completed) EventType() string { return "order.completed" }

// EventType is the name in the log.
func (Failed) EventType() string { return "order.failed" }

// EventType is the name in the log.
func (Cancelled) EventType() string { return "order.cancelled" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Placed{}, Accepted{}, Rejected{}, Completed{}, Failed{}, Cancelled{}}
}

// Stream names the stream of one order.
func Stream(id string) string { return "order-" + id }

// State is what is known of an order. The zero State is one that does not exist.
type State struct {
	ID             string     `json:"id"`
	State          string     `json:"state"`
	QuoteID        string     `json:"quote_id"`
	QuoteHash      string     `json:"quote_hash"`
	CustomerID     string     `json:"customer_id"`
	ProviderID     string     `json:"provider_id"`
	ListingID      string     `json:"listing_id"`
	ListingVersion int        `json:"listing_version"`
	ConnectionID   string     `json:"connection_id"`
	PortID         string     `json:"port_id"`
	BandwidthMbps  int        `json:"bandwidth_mbps"`
	BGP            BGP        `json:"bgp"`
	Approval       string     `json:"approval"`
	Deadline       time.Time  `json:"deadline"`
	PurchaseOrder  string     `json:"purchase_order,omitempty"`
	PlacedAt       time.Time  `json:"placed_at"`
	AcceptedBy     string     `json:"accepted_by,omitempty"`
	AcceptedAt     *time.Time `json:"accepted_at,omitempty"`
	Reason         string     `json:"reason,omitempty"`    // why it was rejected, failed or cancelled
	ClosedAt       *time.Time `json:"closed_at,omitempty"` // when it reached its final state
}

// Final reports whether nothing can happen to the order any more.
func (s State) Final() bool {
	switch s.State {
	case StateCompleted, StateRejected, StateFailed, StateCancelled:
		return true
	}
	return false
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Placed:
		s = State{
			ID: e.OrderID, State: StateAcknowledged, QuoteID: e.QuoteID, QuoteHash: e.QuoteHash, CustomerID: e.CustomerID,
			ProviderID: e.ProviderID, ListingID: e.ListingID, ListingVersion: e.ListingVersion, ConnectionID: e.ConnectionID,
			PortID: e.PortID, BandwidthMbps: e.BandwidthMbps, BGP: e.BGP, Approval: e.Approval, Deadline: e.Deadline,
			PurchaseOrder: e.PurchaseOrder, PlacedAt: e.At,
		}
		if e.Approval == listing.ApprovalManual {
			s.State = StateAwaitingProvider
		}
	case Accepted:
		s.State, s.AcceptedBy, s.AcceptedAt = StateInProgress, e.By, &e.At
	case Rejected:
		s.State, s.Reason, s.ClosedAt = StateRejected, e.Reason, &e.At
	case Completed:
		s.State, s.ClosedAt = StateCompleted, &e.At
	case Failed:
		s.State, s.Reason, s.ClosedAt = StateFailed, e.Reason, &e.At
	case Cancelled:
		s.State, s.Reason, s.ClosedAt = StateCancelled, e.Reason, &e.At
	}
	return s
}
