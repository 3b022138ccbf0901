// Package connection is the asset that an order makes: two attachments on an edge node, joined while it is in production.
//
// It is a state machine fed from three sides: the saga's steps, the edge node's reports, the parties' wishes. Billing is
// an axis beside the states: it starts at the instant the edge opened the gate and stops at the decommission's effective
// time. It never moves a packet and never reserves a VLAN. Start reading at [State], then [Decide].
package connection

import (
	"time"

	"crossbill/domain"
)

// States of a connection, after IX-API. Decommissioned and cancelled are final.
const (
	StateRequested             = "requested"              // ordered; nothing is reserved
	StateAllocated             = "allocated"              // tag, VLANs and addresses are reserved
	StateTesting               = "testing"                // set up on the edge node, the gate closed
	StateProduction            = "production"             // the gate is open; traffic crosses
	StateDecommissionRequested = "decommission_requested" // to be taken down; no longer billed
	StateDecommissioned        = "decommissioned"         // nothing of it is left
	StateCancelling            = "cancelling"             // given up before production; being undone
	StateCancelled             = "cancelled"              // undone
)

// The billing axis.
const (
	BillingNone     = "none"
	BillingAccruing = "accruing"
	BillingStopped  = "stopped"
)

// Sides of a connection.
const (
	SideA = "a" // the customer's
	SideZ = "z" // the provider's
)

// States of a BGP session (RFC 4271 section 8.2.2).
const (
	SessionIdle        = "idle"
	SessionConnect     = "connect"
	SessionActive      = "active"
	SessionOpenSent    = "opensent"
	SessionOpenConfirm = "openconfirm"
	SessionEstablished = "established"
)

// Phases that an edge node is asked to bring a connection to.
const (
	PhaseTesting    = "testing"    // all set up, nothing crosses but the probe
	PhaseProduction = "production" // traffic crosses and is metered
	PhaseAbsent     = "absent"     // nothing of it is left
)

// BGP is a party's side of the sessions.
type BGP = domain.BGP

// Attachment is how a side is attached to the edge node. Addresses are the node's point of view.
type Attachment struct {
	PortID      string   `json:"port_id"`
	Interface   string   `json:"interface"`
	VLAN        int      `json:"vlan"`
	Address     string   `json:"address"`      // the node's own, with the length of the link's prefix: "100.64.0.1/30"
	PeerAddress string   `json:"peer_address"` // the party's router: "100.64.0.2"
	PeerASN     uint32   `json:"peer_asn"`
	Prefixes    []string `json:"prefixes"` // what the peer may announce
}

// Session is a BGP session as the edge node last saw it.
type Session struct {
	State            string    `json:"state"`
	Since            time.Time `json:"since"`
	PrefixesReceived int       `json:"prefixes_received"`
	PrefixesSent     int       `json:"prefixes_sent"`
}

// Probe is a test packet across the connection, asked for and then reported.
type Probe struct {
	ID          string     `json:"id"`
	RequestedAt time.Time  `json:"requested_at"`
	ReportedAt  *time.Time `json:"reported_at,omitempty"` // nil while it is not reported
	Passed      bool       `json:"passed"`
	Detail      string     `json:"detail,omitempty"`
}

// State is what is known of a connection. The zero State is one that does not exist.
type State struct {
	ID             string `json:"id"`
	State          string `json:"state"`
	Billing        string `json:"billing"`
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

	EdgeNodeID string      `json:"edge_node_id,omitempty"` // from here on "" and nil until allocated
	EdgeASN    uint32      `json:"edge_asn,omitempty"`
	Tag        int         `json:"tag,omitempty"`
	A          *Attachment `json:"a,omitempty"`
	Z          *Attachment `json:"z,omitempty"`

	Sessions     map[string]Session `json:"sessions,omitempty"` // by side
	LastProbe    *Probe             `json:"last_probe,omitempty"`
	FailedProbes int                `json:"failed_probes,omitempty"`

	// OnEdge is whether the edge node has, or may have, anything of the connection: from testing until the node says
	// that nothing is left. EdgeRemoved is that the node has said so.
	OnEdge      bool `json:"on_edge"`
	EdgeRemoved bool `json:"edge_removed"`

	BillingFrom *time.Time `json:"billing_from,omitempty"` // inclusive
	BillingTo   *time.Time `json:"billing_to,omitempty"`   // exclusive

	Reason             string     `json:"reason,omitempty"` // of the decommission or the cancellation
	RequestedAt        time.Time  `json:"requested_at"`
	TestingDeadline    *time.Time `json:"testing_deadline,omitempty"`
	CutoverRequestedAt *time.Time `json:"cutover_requested_at,omitempty"`
	EdgeClosedAt       *time.Time `json:"edge_closed_at,omitempty"` // when the edge closed the gate for good
	ClosedAt           *time.Time `json:"closed_at,omitempty"`      // when it reached its final state
}

// Established reports whether BGP is established on both sides.
func (s State) Established() bool {
	return s.Sessions[SideA].State == SessionEstablished && s.Sessions[SideZ].State == SessionEstablished
}

// ProbePassed reports whether the last probe was reported as passed.
func (s State) ProbePassed() bool {
	return s.LastProbe != nil && s.LastProbe.ReportedAt != nil && s.LastProbe.Passed
}

// ProbePending reports whether a probe was asked for and not reported.
func (s State) ProbePending() bool { return s.LastProbe != nil && s.LastProbe.ReportedAt == nil }

// Final reports whether nothing can happen to the connection any more.
func (s State) Final() bool { return s.State == StateDecommissioned || s.State == StateCancelled }

// DesiredPhase returns what the edge node is to make of the connection; "" when the node has nothing to do with it.
func (s State) DesiredPhase() string {
	switch {
	case !s.OnEdge:
		return ""
	case s.State == StateDecommissionRequested || s.State == StateCancelling:
		return PhaseAbsent
	case s.CutoverRequestedAt != nil:
		return PhaseProduction
	}
	return PhaseTesting
}

// Stream names the stream of one connection.
func Stream(id string) string { return "connection-" + id }
