package connection

import (
	"time"

	"crossbill/domain"
)

// Bounds of what a connection is given. VLAN 0 and 4095 are reserved (IEEE 802.1Q-2018 table 9-2), and 1 is the default
// that switches send untagged.
const (
	MinVLAN = 2
	MaxVLAN = 4094
	MinTag  = 1
	MaxTag  = 16383
)

// Limits on what is asked and reported.
const (
	MaxTesting         = 7 * 24 * time.Hour // from the start of testing to its deadline
	MaxBackdating      = 24 * time.Hour     // of a decommission
	MaxSessionPrefixes = 10_000_000         // more than the internet has routes
	MaxProbeDetail     = 500                // characters
	MaxMessage         = 500                // characters, of an edge node
	MaxNotice          = 3 * 366 * 24 * time.Hour
	// Each change cuts the month it is in into one more part of an invoice, and the fee's line names the quote of each. So
	// there are at most MaxChanges within ChangeWindow, which is longer than any month by more than clocks differ.
	MaxChanges   = 99
	ChangeWindow = 32 * 24 * time.Hour
)

// Bounds of a session's settings. The kernel takes MD5 keys of up to 80 bytes (TCP_MD5SIG_MAXKEYLEN of linux/tcp.h).
const (
	DefaultPrefixLimit = 1000 // what a router may not announce is refused one by one; a flood is cut off
	MaxPrefixLimit     = 10_000
	MaxSecret          = 80
)

// Command is what can be asked of a connection.
type Command interface{ command() }

// Request makes a connection for an order. ProviderBGP and ProviderPortID are those of the ordered version of the listing.
type Request struct {
	ConnectionID   string
	OrderID        string
	QuoteID        string
	CustomerID     string
	ProviderID     string
	ListingID      string
	ListingVersion int
	BandwidthMbps  int
	CustomerPortID string
	ProviderPortID string
	CustomerBGP    BGP
	ProviderBGP    BGP
	// BillingAccountID is whom it is billed to; "" is the customer's default account as it is when invoiced.
	BillingAccountID string
	At               time.Time
}

// Allocate records what is reserved for the connection. The caller reserves it in the same append.
type Allocate struct {
	EdgeNodeID string
	EdgeASN    uint32
	Tag        int        // [MinTag] to [MaxTag], of no other connection on the node
	A          Attachment // the customer's side
	Z          Attachment // the provider's side
	At         time.Time
}

// StartTesting puts the connection into the edge node's desired state.
type StartTesting struct {
	Deadline time.Time // give up when it is not in production by then; at most [MaxTesting] after At
	At       time.Time
}

// ReportSession is what an edge node sees of a BGP session.
type ReportSession struct {
	EdgeNodeID string // who reports
	Side       string
	Family     string // [domain.IPv4] or [domain.IPv6]; "" is IPv4
	Session    Session
	At         time.Time
}

// RequestProbe asks for a test packet across.
type RequestProbe struct {
	ProbeID string
	At      time.Time
}

// ReportProbe is how the test packet fared, as the edge node says. The first report of a probe stands.
type ReportProbe struct {
	EdgeNodeID string // who reports
	ProbeID    string
	Passed     bool
	Detail     string // for people; may be empty
	At         time.Time
}

// RequestCutover asks the edge node to open the gate.
type RequestCutover struct {
	At time.Time
}

// Activate is the edge node's report that the gate is open. The first report stands: a node that opens the gate again,
// after a reboot, does not move the start of billing.
type Activate struct {
	EdgeNodeID string    // who reports
	OpenedAt   time.Time // the edge node's clock
	At         time.Time
}

// RequestChange brings a connection in production to another bandwidth or plan. The caller reserves what a wider one
// needs in the same append.
type RequestChange struct {
	OrderID        string
	QuoteID        string
	ListingVersion int
	BandwidthMbps  int
	InPlace        bool
	At             time.Time
}

// ReportBandwidth is the bandwidth that the edge node applies. It puts a pending change to that bandwidth into force.
type ReportBandwidth struct {
	EdgeNodeID    string // who reports
	BandwidthMbps int
	At            time.Time
}

// ConfirmChange puts a pending change into force that is nothing to the edge node: one of the plan alone.
type ConfirmChange struct {
	OrderID string
	At      time.Time
}

// AbandonChange gives a pending change up: the connection stays what it is.
type AbandonChange struct {
	OrderID string
	Reason  string
	At      time.Time
}

// RequestSuspension closes the gate for a while; addresses, sessions and reservations stay.
type RequestSuspension struct {
	Reason string
	At     time.Time
}

// ReportSuspended is the edge node's report that the gate is closed for a suspension. The first report of one stands.
type ReportSuspended struct {
	EdgeNodeID  string    // who reports
	SuspendedAt time.Time // the edge node's clock
	At          time.Time
}

// RequestResumption opens the gate of a suspended connection again.
type RequestResumption struct {
	At time.Time
}

// ReportResumed is the edge node's report that the gate is open after a suspension. The first report of one stands.
type ReportResumed struct {
	EdgeNodeID string    // who reports
	ResumedAt  time.Time // the edge node's clock
	At         time.Time
}

// ScheduleTermination has the connection decommissioned at a date.
type ScheduleTermination struct {
	OrderID     string
	Reason      string
	EffectiveAt time.Time // after At, by at most [MaxNotice]
	At          time.Time
}

// UnscheduleTermination takes a scheduled termination back before its date.
type UnscheduleTermination struct {
	OrderID string // that scheduled it
	At      time.Time
}

// ConfigureSession is what a party wants of its own BGP session. What is nil stays.
type ConfigureSession struct {
	Side        string
	Admin       *string
	Prefixes    []string // that its router may announce
	PrefixLimit *int     // the session is closed when its router announces more; 1 to [MaxPrefixLimit]
	At          time.Time
}

// SetSecret protects a session with TCP MD5 (RFC 2385).
type SetSecret struct {
	Side   string
	Secret string // 1 to [MaxSecret] printable ASCII characters without spaces
	At     time.Time
}

// RemoveSecret ends the protection of a session.
type RemoveSecret struct {
	Side string
	At   time.Time
}

// ReportMessage is what the edge node has to say of the connection, for people; "" when all is well.
type ReportMessage struct {
	EdgeNodeID string // who reports
	Message    string
	At         time.Time
}

// RequestDecommission takes a connection in production down. Billing stops at EffectiveAt, and the gate is closed as
// soon as the edge node hears of it, so the time is never in the future.
type RequestDecommission struct {
	Reason      string
	EffectiveAt time.Time // zero means now; at most [MaxBackdating] before At or when it was scheduled for, and not before billing began
	At          time.Time
	OrderID     string // that asks for it; may be empty
}

// CloseEdge is the edge node's report that nothing of the connection is left on it and that all readings are delivered.
type CloseEdge struct {
	EdgeNodeID string    // who reports
	ClosedAt   time.Time // when traffic stopped crossing; the edge node's clock
	At         time.Time
}

// Decommission ends a connection that the edge node has closed. The caller frees what was reserved in the same append.
type Decommission struct {
	At time.Time
}

// RequestCancellation gives a connection up before production.
type RequestCancellation struct {
	Reason string
	At     time.Time
}

// Cancel ends a connection that was given up and of which the edge node has nothing. The caller frees what was reserved
// in the same append.
type Cancel struct {
	At time.Time
}

func (Request) command()               {}
func (Allocate) command()              {}
func (StartTesting) command()          {}
func (ReportSession) command()         {}
func (RequestProbe) command()          {}
func (ReportProbe) command()           {}
func (RequestCutover) command()        {}
func (Activate) command()              {}
func (RequestDecommission) command()   {}
func (RequestChange) command()         {}
func (ReportBandwidth) command()       {}
func (ConfirmChange) command()         {}
func (AbandonChange) command()         {}
func (RequestSuspension) command()     {}
func (ReportSuspended) command()       {}
func (RequestResumption) command()     {}
func (ReportResumed) command()         {}
func (ScheduleTermination) command()   {}
func (UnscheduleTermination) command() {}
func (ConfigureSession) command()      {}
func (SetSecret) command()             {}
func (RemoveSecret) command()          {}
func (ReportMessage) command()         {}
func (CloseEdge) command()             {}
func (Decommission) command()          {}
func (RequestCancellation) command()   {}
func (Cancel) command()                {}

func (c Request) check(op string) error {
	var p domain.Problems
	p.ID("/connection_id", domain.PrefixConnection, c.ConnectionID)
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.ID("/quote_id", domain.PrefixQuote, c.QuoteID)
	p.ID("/customer_id", domain.PrefixOrganisation, c.CustomerID)
	p.ID("/provider_id", domain.PrefixOrganisation, c.ProviderID)
	p.ID("/listing_id", domain.PrefixListing, c.ListingID)
	p.Check(c.ListingVersion >= 1, "/listing_version", "must be at least 1")
	p.Mbps("/bandwidth_mbps", c.BandwidthMbps)
	p.ID("/customer_port_id", domain.PrefixPort, c.CustomerPortID)
	p.ID("/provider_port_id", domain.PrefixPort, c.ProviderPortID)
	p.BGP("/customer_bgp", c.CustomerBGP)
	p.BGP("/provider_bgp", c.ProviderBGP)
	p.BGPPair("/customer_bgp", c.CustomerBGP, c.ProviderBGP)
	p.InFamilies("/customer_bgp", c.CustomerBGP, c.ProviderBGP.Families(), "the provider has no prefix of this family")
	if c.BillingAccountID != "" {
		p.ID("/billing_account_id", domain.PrefixBillingAccount, c.BillingAccountID)
	}
	p.Time("/at", c.At)
	return p.Err(op)
}

func (c Request) event() Requested {
	return Requested{
		ConnectionID: c.ConnectionID, OrderID: c.OrderID, QuoteID: c.QuoteID, CustomerID: c.CustomerID, ProviderID: c.ProviderID,
		ListingID: c.ListingID, ListingVersion: c.ListingVersion, BandwidthMbps: c.BandwidthMbps, CustomerPortID: c.CustomerPortID,
		ProviderPortID: c.ProviderPortID, CustomerBGP: c.CustomerBGP, ProviderBGP: c.ProviderBGP,
		BillingAccountID: c.BillingAccountID, At: domain.Instant(c.At),
	}
}
