// Package connection is the asset that an order makes: two attachments on an edge node, joined while it is in production.
//
// It is a state machine fed from three sides: the saga's steps, the edge node's reports, the parties' wishes. Beside the
// states are two axes. Trouble says that a step of a saga fails, and whether a person is needed. Billing is the other: it starts at the instant the edge opened the gate and stops at the decommission's effective
// time. What is billed meanwhile is told by [State.Spans] and [State.Suspensions]. It never moves a packet and
// never reserves a VLAN. Start reading at [State], then [Decide]; [Rebuild] is how one build takes
// the place of another.
package connection

import (
	"slices"
	"time"

	"crossbill/domain"
)

// States of a connection, after IX-API. Decommissioned and cancelled are final.
const (
	StateRequested             = "requested"              // ordered; nothing is reserved
	StateAllocated             = "allocated"              // tag, VLANs and addresses are reserved
	StateTesting               = "testing"                // set up on the edge node, the gate closed
	StateProduction            = "production"             // the gate is open; traffic crosses
	StateChangePending         = "change_pending"         // in production, and being brought to another bandwidth, plan or place
	StateSuspended             = "suspended"              // the gate is closed for a while; all else stays set up
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
	PhaseSuspended  = "suspended"  // all set up, sessions up, and nothing crosses or is counted
	PhaseAbsent     = "absent"     // nothing of it is left
)

// What a party wants of its BGP session.
const (
	AdminUp   = "up"
	AdminDown = "down"
)

// BGP is a party's side of the sessions.
type BGP = domain.BGP

// Attachment is how a side is attached to the edge node. Addresses are the node's point of view.
type Attachment struct {
	PortID      string   `json:"port_id"`
	Interface   string   `json:"interface"`
	VLAN        int      `json:"vlan"`
	ServiceVLAN int      `json:"service_vlan,omitempty"` // the port's: a service tag (IEEE 802.1ad) around that of VLAN; 0: none
	Address     string   `json:"address,omitempty"`      // the node's own, with the length of the link's prefix: "100.64.0.1/30"; "" without IPv4
	PeerAddress string   `json:"peer_address,omitempty"` // the party's router: "100.64.0.2"
	PeerASN     uint32   `json:"peer_asn"`
	Prefixes    []string `json:"prefixes"` // what the peer may announce

	IPv6Address     string `json:"ipv6_address,omitempty"` // as Address, and on the same VLAN: "2001:db8::2/127"; "" without IPv6
	IPv6PeerAddress string `json:"ipv6_peer_address,omitempty"`
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

// Span is what a connection is sold as from an instant on: until the next span, or until billing stops.
type Span struct {
	From           time.Time `json:"from"`
	QuoteID        string    `json:"quote_id"`
	ListingVersion int       `json:"listing_version"`
	BandwidthMbps  int       `json:"bandwidth_mbps"`
}

// Suspension is a time in which the gate was closed.
type Suspension struct {
	From time.Time  `json:"from"`         // inclusive
	To   *time.Time `json:"to,omitempty"` // exclusive; nil while it lasts, and for good if the connection ended suspended
}

// Change is one that was asked for and is not in force yet.
type Change struct {
	OrderID        string    `json:"order_id"`
	QuoteID        string    `json:"quote_id"`
	ListingVersion int       `json:"listing_version"`
	BandwidthMbps  int       `json:"bandwidth_mbps"`
	InPlace        bool      `json:"in_place"` // traffic crosses all the while
	RequestedAt    time.Time `json:"requested_at"`
}

// Termination is a decommission that is to be requested when its time has come.
type Termination struct {
	OrderID     string    `json:"order_id"`
	Reason      string    `json:"reason"`
	EffectiveAt time.Time `json:"effective_at"`
}

// State is what is known of a connection. The zero State is one that does not exist.
type State struct {
	ID               string `json:"id"`
	State            string `json:"state"`
	Billing          string `json:"billing"`
	OrderID          string `json:"order_id"`
	QuoteID          string `json:"quote_id"`
	CustomerID       string `json:"customer_id"`
	ProviderID       string `json:"provider_id"`
	ListingID        string `json:"listing_id"`
	ListingVersion   int    `json:"listing_version"`
	BandwidthMbps    int    `json:"bandwidth_mbps"`
	CustomerPortID   string `json:"customer_port_id"`
	ProviderPortID   string `json:"provider_port_id"`
	CustomerBGP      BGP    `json:"customer_bgp"`
	ProviderBGP      BGP    `json:"provider_bgp"`
	BillingAccountID string `json:"billing_account_id,omitempty"` // "": the customer's default account

	EdgeNodeID string      `json:"edge_node_id,omitempty"` // from here on "" and nil until allocated
	EdgeASN    uint32      `json:"edge_asn,omitempty"`
	Tag        int         `json:"tag,omitempty"`
	A          *Attachment `json:"a,omitempty"`
	Z          *Attachment `json:"z,omitempty"`

	Sessions     map[string]Session `json:"sessions,omitempty"` // by side, those of IPv6 as "a/ipv6"
	LastProbe    *Probe             `json:"last_probe,omitempty"`
	FailedProbes int                `json:"failed_probes,omitempty"`

	// OnEdge is whether the edge node has, or may have, anything of the connection: from testing until the node says
	// that nothing is left. EdgeRemoved is that the node has said so.
	OnEdge      bool `json:"on_edge"`
	EdgeRemoved bool `json:"edge_removed"`

	BillingFrom *time.Time   `json:"billing_from,omitempty"` // inclusive
	BillingTo   *time.Time   `json:"billing_to,omitempty"`   // exclusive
	Spans       []Span       `json:"spans,omitempty"`        // the first at BillingFrom, then one at each change, in order
	Suspensions []Suspension `json:"suspensions,omitempty"`  // in order; only the last can be without an end

	Rebuild        *Rebuild `json:"rebuild,omitempty"`         // another build that is to take the place of this one
	Leaving        *Leaving `json:"leaving,omitempty"`         // a build that still holds what was reserved for it
	RebuildFailure string   `json:"rebuild_failure,omitempty"` // why the last rebuild was given up; gone when another is begun
	FormerNodes    []string `json:"former_nodes,omitempty"`    // edge nodes that it left, whose last readings still count

	Change                *Change      `json:"change,omitempty"`                  // while it is pending
	ChangeOrderID         string       `json:"change_order_id,omitempty"`         // of the last change asked for, whatever came of it
	SuspensionRequestedAt *time.Time   `json:"suspension_requested_at,omitempty"` // until the edge has closed the gate
	SuspensionReason      string       `json:"suspension_reason,omitempty"`       // until it is resumed
	ResumptionRequestedAt *time.Time   `json:"resumption_requested_at,omitempty"` // until the edge has opened it again
	Termination           *Termination `json:"termination,omitempty"`             // while it is scheduled
	TerminationOrderID    string       `json:"termination_order_id,omitempty"`    // of the last termination asked for; "" if no order asked

	SessionSettings map[string]SessionSettings `json:"session_settings,omitempty"` // by side; those that were changed
	EdgeMessage     *Message                   `json:"edge_message,omitempty"`     // what the edge node last said; nil when all is well

	Trouble    *Trouble `json:"trouble,omitempty"`     // a step that fails; nil when all goes its way
	LastAnswer *Answer  `json:"last_answer,omitempty"` // what a person last did about a trouble

	// secrets are the sessions' MD5 secrets by side. They are in no JSON: who needs them reads the connection's events.
	secrets map[string]string

	// troubledOrderID is whose step last failed. A change that the connection has not heard of yet is known by that alone.
	troubledOrderID string

	Reason             string     `json:"reason,omitempty"` // of the decommission or the cancellation
	RequestedAt        time.Time  `json:"requested_at"`
	TestingDeadline    *time.Time `json:"testing_deadline,omitempty"`
	CutoverRequestedAt *time.Time `json:"cutover_requested_at,omitempty"`
	EndRequestedAt     *time.Time `json:"end_requested_at,omitempty"` // since when the edge node is to remove it
	EdgeClosedAt       *time.Time `json:"edge_closed_at,omitempty"`   // when the edge closed the gate for good
	ClosedAt           *time.Time `json:"closed_at,omitempty"`        // when it reached its final state
}

// Families returns the address families that the connection carries, IPv4 first: those of the customer's prefixes. They
// are settled when it is ordered, because addresses, and a session on each side, are allocated for each.
func (s State) Families() []string { return familiesOf(s.CustomerBGP) }

func familiesOf(customer BGP) []string {
	if families := customer.Families(); len(families) > 0 {
		return families
	}
	return []string{domain.IPv4}
}

// SessionName tells a session from the others of its connection.
type SessionName struct {
	Side   string // "a" or "z"
	Family string // [domain.IPv4] or [domain.IPv6]
}

// SessionNames returns the sessions that the connection is to have: side a's, then side z's.
func (s State) SessionNames() []SessionName {
	var names []SessionName
	for _, side := range []string{SideA, SideZ} {
		for _, family := range s.Families() {
			names = append(names, SessionName{side, family})
		}
	}
	return names
}

// Session returns what is known of a session; known is false if the edge node has said nothing of it.
func (s State) Session(name SessionName) (session Session, known bool) {
	session, known = s.Sessions[sessionKey(name.Side, name.Family)]
	return session, known
}

// sessionKey is how a session stands in a state: by its side, as when all were IPv4, and those of IPv6 beside it.
func sessionKey(side, family string) string {
	if family == domain.IPv6 {
		return side + "/" + domain.IPv6
	}
	return side
}

// Established reports whether BGP is established on both sides, for each family that is carried.
func (s State) Established() bool { return len(s.notEstablished()) == 0 }

// notEstablished returns the sessions that are to be, and are not.
func (s State) notEstablished() []SessionName {
	return slices.DeleteFunc(s.SessionNames(), func(name SessionName) bool {
		session, _ := s.Session(name)
		return session.State == SessionEstablished
	})
}

// ProbePassed reports whether the last probe was reported as passed.
func (s State) ProbePassed() bool {
	return s.LastProbe != nil && s.LastProbe.ReportedAt != nil && s.LastProbe.Passed
}

// ProbePending reports whether a probe was asked for and not reported.
func (s State) ProbePending() bool { return s.LastProbe != nil && s.LastProbe.ReportedAt == nil }

// Final reports whether nothing can happen to the connection any more.
func (s State) Final() bool { return s.State == StateDecommissioned || s.State == StateCancelled }

// DesiredPhase returns what the edge node is to make of the build in production; "" when the node has nothing to do with it.
func (s State) DesiredPhase() string {
	switch {
	case !s.OnEdge:
		return ""
	case s.State == StateDecommissionRequested || s.State == StateCancelling:
		return PhaseAbsent
	case s.SuspensionRequestedAt != nil, s.State == StateSuspended && s.ResumptionRequestedAt == nil:
		return PhaseSuspended
	case s.CutoverRequestedAt != nil:
		return PhaseProduction
	}
	return PhaseTesting
}

// DesiredMbps returns the bandwidth that the edge node is to apply to the build in production: that of a pending change
// before it is in force, unless another build is to bring it.
func (s State) DesiredMbps() int {
	if s.Change != nil && s.Change.InPlace {
		return s.Change.BandwidthMbps
	}
	return s.BandwidthMbps
}

// OrderIDs returns the orders whose fate is bound to the connection's: the one that made it, the last that changes it, the
// last that ends it, and the one whose step last failed: its trouble may end with what another does.
func (s State) OrderIDs() []string {
	var ids []string
	for _, id := range []string{s.OrderID, s.ChangeOrderID, s.TerminationOrderID, s.troubledOrderID} {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Stream names the stream of one connection.
func Stream(id string) string { return "connection-" + id }
