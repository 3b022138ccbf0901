package connection

import (
	"time"

	"crossbill/domain"
)

// Requested says that an order wants a connection.
type Requested struct {
	ConnectionID   string `json:"connection_id"`
	OrderID        string `json:"order_id"`
	QuoteID        string `json:"quote_id"`
	CustomerID     string `json:"customer_id"`
	ProviderID     string `json:"provider_id"`
	ListingID      string `json:"listing_id"`
	ListingVersion int    `json:"listing_version"`
	BandwidthMbps  int    `json:"bandwidth_mbps"`
	CustomerPortID string `json:"customer_port_id"`
	ProviderPortID string `json:"provider_port_id"`
	CustomerBGP    BGP    `json:"customer_bgp"`
	ProviderBGP    BGP    `json:"provider_bgp"`
	// BillingAccountID is whom it is billed to; "" is the customer's default account as it is when invoiced.
	BillingAccountID string    `json:"billing_account_id,omitempty"`
	At               time.Time `json:"at"`
}

// Allocated says what is reserved for the connection on an edge node.
type Allocated struct {
	ConnectionID string     `json:"connection_id"`
	EdgeNodeID   string     `json:"edge_node_id"`
	EdgeASN      uint32     `json:"edge_asn"`
	Tag          int        `json:"tag"` // unique on the node; its interfaces and tables are named by it
	A            Attachment `json:"a"`   // the customer's side
	Z            Attachment `json:"z"`   // the provider's side
	At           time.Time  `json:"at"`
}

// TestingStarted says that the edge node is to set the connection up; it is given up when production is not reached by Deadline.
type TestingStarted struct {
	ConnectionID string    `json:"connection_id"`
	Deadline     time.Time `json:"deadline"`
	At           time.Time `json:"at"`
}

// SessionChanged says what the edge node sees of a BGP session, when that is news.
type SessionChanged struct {
	ConnectionID     string    `json:"connection_id"`
	Side             string    `json:"side"`
	State            string    `json:"state"`
	Since            time.Time `json:"since"` // the edge node's clock
	PrefixesReceived int       `json:"prefixes_received"`
	PrefixesSent     int       `json:"prefixes_sent"`
	At               time.Time `json:"at"`
	Family           string    `json:"family,omitempty"`  // [domain.IPv6]; "" is IPv4, which all were at first
	Rebuild          bool      `json:"rebuild,omitempty"` // of the build that is to take the place of the one in production
}

// ProbeRequested says that the edge node is to send a test packet across.
type ProbeRequested struct {
	ConnectionID string    `json:"connection_id"`
	ProbeID      string    `json:"probe_id"`
	At           time.Time `json:"at"`
	Rebuild      bool      `json:"rebuild,omitempty"` // as of a session
}

// Probed says how the test packet fared.
type Probed struct {
	ConnectionID string    `json:"connection_id"`
	ProbeID      string    `json:"probe_id"`
	Passed       bool      `json:"passed"`
	Detail       string    `json:"detail"`
	At           time.Time `json:"at"`
	Rebuild      bool      `json:"rebuild,omitempty"` // as of a session
}

// CutoverRequested says that the edge node is to open the gate.
type CutoverRequested struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
	Rebuild      bool      `json:"rebuild,omitempty"` // as of a session
}

// Activated says that traffic crosses since At, the instant the edge node opened the gate. Billing starts there.
type Activated struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// ChangeRequested says that an order wants the connection at another bandwidth or under another plan.
type ChangeRequested struct {
	ConnectionID   string    `json:"connection_id"`
	OrderID        string    `json:"order_id"`
	QuoteID        string    `json:"quote_id"`
	ListingVersion int       `json:"listing_version"`
	BandwidthMbps  int       `json:"bandwidth_mbps"`
	InPlace        bool      `json:"in_place"` // traffic crosses all the while
	At             time.Time `json:"at"`
}

// Changed says what the connection is, and is billed as, since At.
type Changed struct {
	ConnectionID   string    `json:"connection_id"`
	OrderID        string    `json:"order_id"`
	QuoteID        string    `json:"quote_id"`
	ListingVersion int       `json:"listing_version"`
	BandwidthMbps  int       `json:"bandwidth_mbps"`
	At             time.Time `json:"at"`
}

// ChangeAbandoned says that a change was given up: the connection stays what it is.
type ChangeAbandoned struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// SuspensionRequested says that the edge node is to close the gate for a while.
type SuspensionRequested struct {
	ConnectionID string    `json:"connection_id"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// Suspended says that nothing crosses since At, the instant the edge node closed the gate.
type Suspended struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// ResumptionRequested says that the edge node is to open the gate again.
type ResumptionRequested struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// Resumed says that traffic crosses again since At, the instant the edge node opened the gate.
type Resumed struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// TerminationScheduled says that the connection is to be decommissioned at EffectiveAt. Nothing changes before.
type TerminationScheduled struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Reason       string    `json:"reason"`
	EffectiveAt  time.Time `json:"effective_at"`
	At           time.Time `json:"at"`
}

// TerminationUnscheduled says that the connection stays after all.
type TerminationUnscheduled struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"` // of the termination that was scheduled
	At           time.Time `json:"at"`
}

// DecommissionRequested says that a connection that was in production is to be taken down. Billing stops at EffectiveAt.
type DecommissionRequested struct {
	ConnectionID string    `json:"connection_id"`
	Reason       string    `json:"reason"`
	EffectiveAt  time.Time `json:"effective_at"`
	At           time.Time `json:"at"`
	OrderID      string    `json:"order_id,omitempty"` // that asked for it; absent if none did
}

// EdgeClosed says that nothing of the connection is left on the edge node and that all its readings are delivered.
type EdgeClosed struct {
	ConnectionID string    `json:"connection_id"`
	ClosedAt     time.Time `json:"closed_at"` // when traffic stopped crossing; the edge node's clock
	At           time.Time `json:"at"`
}

// Decommissioned says that a connection that was in production has ended.
type Decommissioned struct {
	ConnectionID string    `json:"connection_id"`
	ClosedAt     time.Time `json:"closed_at"`
	At           time.Time `json:"at"`
}

// CancellationRequested says that a connection is given up before production.
type CancellationRequested struct {
	ConnectionID string    `json:"connection_id"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// Cancelled says that a connection that never was in production has ended.
type Cancelled struct {
	ConnectionID string    `json:"connection_id"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (Requested) EventType() string { return "connection.requested" }

// EventType is the name in the log.
func (Allocated) EventType() string { return "connection.allocated" }

// EventType is the name in the log.
func (TestingStarted) EventType() string { return "connection.testing_started" }

// EventType is the name in the log.
func (SessionChanged) EventType() string { return "bgp_session.changed" }

// EventType is the name in the log.
func (ProbeRequested) EventType() string { return "connection.probe_requested" }

// EventType is the name in the log.
func (Probed) EventType() string { return "connection.probed" }

// EventType is the name in the log.
func (CutoverRequested) EventType() string { return "connection.cutover_requested" }

// EventType is the name in the log.
func (Activated) EventType() string { return "connection.activated" }

// EventType is the name in the log.
func (ChangeRequested) EventType() string { return "connection.change_requested" }

// EventType is the name in the log.
func (Changed) EventType() string { return "connection.changed" }

// EventType is the name in the log.
func (ChangeAbandoned) EventType() string { return "connection.change_abandoned" }

// EventType is the name in the log.
func (SuspensionRequested) EventType() string { return "connection.suspension_requested" }

// EventType is the name in the log.
func (Suspended) EventType() string { return "connection.suspended" }

// EventType is the name in the log.
func (ResumptionRequested) EventType() string { return "connection.resumption_requested" }

// EventType is the name in the log.
func (Resumed) EventType() string { return "connection.resumed" }

// EventType is the name in the log.
func (TerminationScheduled) EventType() string { return "connection.termination_scheduled" }

// EventType is the name in the log.
func (TerminationUnscheduled) EventType() string { return "connection.termination_unscheduled" }

// EventType is the name in the log.
func (DecommissionRequested) EventType() string { return "connection.decommission_requested" }

// EventType is the name in the log.
func (EdgeClosed) EventType() string { return "connection.edge_closed" }

// EventType is the name in the log.
func (Decommissioned) EventType() string { return "connection.decommissioned" }

// EventType is the name in the log.
func (CancellationRequested) EventType() string { return "connection.cancellation_requested" }

// EventType is the name in the log.
func (Cancelled) EventType() string { return "connection.cancelled" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{
		Requested{}, Allocated{}, TestingStarted{}, SessionChanged{}, ProbeRequested{}, Probed{}, CutoverRequested{},
		Activated{}, ChangeRequested{}, Changed{}, ChangeAbandoned{}, SuspensionRequested{}, Suspended{}, ResumptionRequested{},
		Resumed{}, TerminationScheduled{}, TerminationUnscheduled{}, SessionConfigured{}, SecretSet{}, SecretRemoved{}, MessageChanged{},
		DecommissionRequested{}, EdgeClosed{}, Decommissioned{}, CancellationRequested{}, Cancelled{},
		StepFailed{}, StepRecovered{}, StepRetried{}, StepSkipped{}, StepRolledBack{},
		MoveRequested{}, RebuildStarted{}, TrafficStopped{}, Rebuilt{}, RebuildAbandoned{}, TrafficRestored{}, BuildRemoved{}, BuildReleased{},
	}
}
