package edge

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"crossbill/edge/bgp"
)

// Platform is what the agent asks of the platform. [NewAPI] reaches a real one.
//
// Its errors are [*RefusedError] when the platform has understood and will never accept, anything else when it is worth
// trying again.
type Platform interface {
	// DesiredState returns the node's desired state, once it is newer than after or wait is over. With after 0 it is the whole
	// one, else it may be what has changed since.
	DesiredState(ctx context.Context, after int64, wait time.Duration) (DesiredState, error)
	// Report tells what the agent sees. Repeating it changes nothing.
	// revision is the newest desired state that the agent has.
	Report(ctx context.Context, kind Kind, revision int64, observations []Observation) error
	// SendReadings returns a verdict for each reading that has one.
	SendReadings(ctx context.Context, readings []Reading) ([]Verdict, error)
}

// Kind tells the real thing from its stand-in, in every report and reading.
type Kind string

// The kinds.
const (
	EBPF     Kind = "ebpf"
	Software Kind = "software" // for demonstrations
)

// Phase is what a connection is to be.
type Phase string

// The phases.
const (
	Testing    Phase = "testing"    // everything set up, and nothing crosses but the probe
	Production Phase = "production" // traffic crosses and is metered
	Suspended  Phase = "suspended"  // everything set up, sessions up, and nothing crosses or is counted
	Absent     Phase = "absent"     // nothing of it is left
)

// DesiredState is what the node is to be or, with Since, what has changed of that.
type DesiredState struct {
	Revision        int64               `json:"revision"`
	Since           int64               `json:"since,omitempty"` // the revision after which Connections have changed; 0: it is the whole state
	Gone            []string            `json:"gone,omitempty"`  // with Since: the connections that are no more, by id
	ASN             uint32              `json:"asn"`
	RouterID        netip.Addr          `json:"router_id"`
	ReadingInterval time.Duration       `json:"reading_interval"`
	Connections     []DesiredConnection `json:"connections"`
}

// sorted brings the connections into the order that [DesiredState.change] keeps them in: of their ids.
func (d *DesiredState) sorted() {
	slices.SortFunc(d.Connections, func(x, y DesiredConnection) int { return strings.Compare(x.ID, y.ID) })
}

// find returns where a connection is, or would be.
func (d *DesiredState) find(id string) (at int, found bool) {
	return slices.BinarySearchFunc(d.Connections, id, func(c DesiredConnection, id string) int { return strings.Compare(c.ID, id) })
}

// change brings the state, whose connections are sorted, up to what has changed since its revision. It returns the connections
// that have changed, by id, as they were before: zero for one that is new.
func (d *DesiredState) change(by DesiredState) (before map[string]DesiredConnection) {
	before = map[string]DesiredConnection{}
	for _, id := range by.Gone {
		if i, found := d.find(id); found {
			before[id] = d.Connections[i]
			d.Connections = slices.Delete(d.Connections, i, i+1)
		}
	}
	for _, c := range by.Connections {
		i, found := d.find(c.ID)
		switch {
		case !found:
			before[c.ID] = DesiredConnection{}
			d.Connections = slices.Insert(d.Connections, i, c)
		case !reflect.DeepEqual(d.Connections[i], c):
			before[c.ID] = d.Connections[i]
			d.Connections[i] = c
		}
	}
	d.Revision, d.ASN, d.RouterID, d.ReadingInterval = by.Revision, by.ASN, by.RouterID, by.ReadingInterval
	return before
}

// replace returns what another whole state changes, as [DesiredState.change] does.
func (d *DesiredState) replace(by DesiredState) (before map[string]DesiredConnection) {
	before = map[string]DesiredConnection{}
	for _, c := range d.Connections {
		before[c.ID] = c
	}
	for _, c := range by.Connections {
		if was, ok := before[c.ID]; ok && reflect.DeepEqual(was, c) {
			delete(before, c.ID)
		} else if !ok {
			before[c.ID] = DesiredConnection{}
		}
	}
	return before
}

// DesiredConnection is one connection of it.
type DesiredConnection struct {
	ID            string     `json:"id"`
	Tag           int        `json:"tag"`
	Phase         Phase      `json:"phase"`
	BandwidthMbps int        `json:"bandwidth_mbps"`
	ProbeID       string     `json:"probe_id,omitempty"`
	A             Attachment `json:"a"`
	Z             Attachment `json:"z"`
}

// Attachment is one side of a connection: a port and a router on it. The addresses of a family that the connection does not
// carry are zero.
type Attachment struct {
	Interface   string         `json:"interface"`
	VLAN        int            `json:"vlan"`
	ServiceVLAN int            `json:"service_vlan,omitempty"` // of a service tag around that of VLAN; 0: none
	Address     netip.Prefix   `json:"address"`                // the node's own, of IPv4
	Peer        netip.Addr     `json:"peer"`
	IPv6Address netip.Prefix   `json:"ipv6_address"`
	IPv6Peer    netip.Addr     `json:"ipv6_peer"`
	PeerASN     uint32         `json:"peer_asn"`
	Prefixes    []netip.Prefix `json:"prefixes"`
	PrefixLimit int            `json:"prefix_limit"`
	Down        bool           `json:"down,omitempty"`       // the session is not wanted
	MD5Secret   string         `json:"md5_secret,omitempty"` // RFC 2385; empty means none
}

// Observation is what the agent sees of a connection. Zero times and a nil probe are left out.
type Observation struct {
	ConnectionID string
	Sessions     []Session
	Probe        *Probe
	OpenedAt     time.Time // since when traffic crosses
	ClosedAt     time.Time // since when it does not any more
	SuspendedAt  time.Time // since when it does not for a while; only while it is suspended
	ResumedAt    time.Time // since when it does, after the opening or the last suspension
	Bandwidth    int       // Mbps that the node applies; 0 while it has nothing of the connection
	Removed      bool      // nothing is left on the node, and the platform has all readings
	Message      string
}

// Session is the state of one BGP session.
type Session struct {
	Side             bgp.Side
	Family           string // domain.IPv4 or domain.IPv6
	State            string
	Since            time.Time
	PrefixesReceived int // announced by the peer, registered or not
	PrefixesSent     int
}

// Probe is the result of sending test packets across.
type Probe struct {
	ID     string
	Passed bool
	Detail string
}

// ReadingID tells readings of a node apart.
type ReadingID struct {
	Connection string `json:"connection"`
	Epoch      int64  `json:"epoch"`
	Sequence   int64  `json:"sequence"`
}

// Reading is what crossed the customer's port over [From, To): layer-2 bytes without FCS. In is from the customer.
type Reading struct {
	ReadingID
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	PacketsIn  int64     `json:"packets_in"`
	PacketsOut int64     `json:"packets_out"`
	DroppedIn  int64     `json:"dropped_in"`
	DroppedOut int64     `json:"dropped_out"`
	Source     Kind      `json:"source"`
}

// Verdict is the platform's word on a reading.
type Verdict struct {
	ReadingID
	Rejected bool   // else it has it, now or from before
	Problem  string // why it is rejected
}

// RefusedError is a request the platform will never accept. Wrong names the readings or observations of it that are at
// fault, by index; with none named, the request as a whole is.
type RefusedError struct {
	Wrong map[int]string
	Err   error
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }
