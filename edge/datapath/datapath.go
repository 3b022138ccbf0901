// Package datapath makes one PoP node carry connections and count them: VLAN demultiplexing, byte-exact metering and
// policing in eBPF at the ports, an L3 interface per side of a connection, a routing table per connection, and the gate between the
// two sides.
//
// It works in the network namespace the process is in, through netlink and bpffs alone. It never talks to the platform,
// never speaks BGP, never decides what should exist: the agent (package edge) tells it, and every call converges from
// whatever half-made or hand-changed state it finds. It never lets a frame cross that it has not counted.
//
// Start reading at [Datapath]; the frames' way through the node is described in bpf/datapath.c.
package datapath

import (
	"log/slog"
	"net/netip"
	"strconv"

	"crossbill/domain"
)

// Limits of one node. The maps' sizes in bpf/datapath.c are these.
const (
	MinTag         = 1
	MaxTag         = 16383
	MaxVLAN        = 4094      // IEEE 802.1Q reserves 4095
	MaxConnections = 4096      // connections on one node
	MaxPorts       = 256       // ports that carry a connection
	MaxRoutes      = 1 << 20   // routes in one connection's table
	MaxMbps        = 1_000_000 // a port of a terabit a second
	DefaultPinDir  = BPFFSRoot + "/crossbill"
	BPFFSRoot      = "/sys/fs/bpf"
)

// Numbers by which the kernel's tables show what belongs to a connection.
const (
	TableBase = 100_000 // a connection's table is TableBase + tag

	// Every packet that enters through a connection carries this mark, with the tag in the low bits.
	MarkBase uint32 = 0xCB00_0000
	MarkMask uint32 = 0xFF00_0000

	PriorityOwn  = 1000 // iif lo from <own address>: what we send ourselves uses the connection's table
	PriorityGate = 2000 // iif cb<tag>a, iif cb<tag>z: present while the gate is open
	PriorityWall = 3000 // the mark, blackhole: what came in through a connection never reaches the main table

	// The kernel finds an interface by its index in one of 256 chains, whose last is the one that was made first: a port would
	// come after every connection's interfaces in its chain, for each frame that is sent to it. So those have indices of
	// their own, in the chains behind the first few, where a machine's ports are.
	indexBase   = 1 << 20
	indexChains = 256 // NETDEV_HASHENTRIES of linux/net/core/dev.h
	portChains  = 16

	routeProtocol = 186 // RTPROT_BGP of linux/rtnetlink.h: routes that SetRoutes owns
	linkProtocol  = 4   // RTPROT_STATIC: the link subnets and the unreachable default
)

// Side is one end of a connection.
type Side string

// The two sides. In is what enters the platform at a side's port, out is what leaves it there.
const (
	SideA Side = "a" // the customer's
	SideZ Side = "z" // the provider's
)

// PartyError is an error of which a connection's parties can be told more than that there is one. Its text is the node's
// operator's, and names interfaces, programs and other connections; Told names nothing of the node's.
type PartyError struct {
	Told string
	Err  error
}

// Error implements error.
func (e *PartyError) Error() string { return e.Err.Error() }

// Unwrap returns what the operator reads.
func (e *PartyError) Unwrap() error { return e.Err }

// Options says where a node keeps what must outlive the process.
type Options struct {
	// PinDir is this node's directory in bpffs, /sys/fs/bpf/crossbill/<node>; empty means [DefaultPinDir].
	// bpffs is mounted at /sys/fs/bpf if it is not there.
	PinDir string
	// Namespace is the path of the network namespace to work in, such as /run/netns/pop; empty means the process's own.
	Namespace string
	Logger    *slog.Logger // nil means slog.Default
}

// Connection is what one connection needs on the node.
type Connection struct {
	Tag           int // MinTag..MaxTag, unique on the node
	BandwidthMbps int // the ordered bandwidth, to which each direction is held; 0 means no limit
	A, Z          Attachment
}

// Attachment joins one side of a connection to a port. It has a link in each address family that the connection carries:
// IPv4, IPv6 or both, and the same on both sides.
type Attachment struct {
	Port string // the physical interface's name
	VLAN int    // 1..MaxVLAN, or 0 for untagged
	// ServiceVLAN is 1..MaxVLAN if frames have a service tag (IEEE 802.1ad, TPID 0x88a8) around that of VLAN, or 0. Packets are then as
	// long as the port's MTU less the 4 bytes that the second tag takes.
	ServiceVLAN int
	Link             // IPv4, such as 100.64.0.1/30; the zero Link for none
	IPv6        Link // such as 2001:db8::2/127; the zero Link for none
}

// Link is one subnet between the node and the router behind a port.
type Link struct {
	Address netip.Prefix // our own address and the link's subnet; unique on the node
	Peer    netip.Addr   // the other router's address in that subnet
}

// links returns the links that the attachment has.
func (a Attachment) links() []Link {
	links := make([]Link, 0, 2)
	for _, l := range []Link{a.Link, a.IPv6} {
		if l != (Link{}) {
			links = append(links, l)
		}
	}
	return links
}

// hasIPv6 reports whether the connection carries IPv6.
func (c Connection) hasIPv6() bool { return c.A.IPv6 != (Link{}) }

// Counters are one side's totals since the meter was made. They never go backwards while Epoch stays the same.
//
// Bytes are those of layer 2 frames without the frame check sequence, as on the wire, a VLAN tag included; padding that
// hardware adds to short frames is not seen. A super-packet (GSO, GRO) counts as the wire frames it stands for.
// In is read where a frame has arrived at the port, out where it is handed to the port: a queue below may still drop it.
type Counters struct {
	BytesIn, BytesOut, PacketsIn, PacketsOut uint64
	// Dropped frames are those over the ordered bandwidth; they are in none of the others. In came in at this side, out
	// were to leave at it.
	DroppedIn, DroppedOut uint64
	DroppedBytesIn        uint64
	// Refused counts packets that came in (they are in PacketsIn) and were not let across: the gate was closed,
	// no route, or no business here.
	Refused uint64
	// Epoch is the creation time of this meter in nanoseconds since 1970 UTC. Another Epoch means that counting began
	// anew at zero (the map was lost, the node rebooted) and that a difference to earlier counters has no meaning.
	Epoch int64
}

// Route sends a prefix of a connection to one of its sides.
type Route struct {
	Side    Side
	Prefix  netip.Prefix
	NextHop netip.Addr // within the side's link subnet
}

// interfaceIndex returns the index of the L3 interface of a connection's side.
func interfaceIndex(tag int, side Side) int32 {
	n := 2 * tag
	if side == SideZ {
		n++
	}
	const own = indexChains - portChains
	return int32(indexBase + n/own*indexChains + portChains + n%own)
}

// InterfaceName returns the name of the L3 interface of a connection's side: "cb12a".
func InterfaceName(tag int, side Side) string { return "cb" + strconv.Itoa(tag) + string(side) }

// TableNumber returns the number of a connection's routing table.
func TableNumber(tag int) int { return TableBase + tag }

// Validate returns an Invalid error that lists every field out of range.
func (c Connection) Validate() error {
	var p domain.Problems
	p.Check(c.Tag >= MinTag && c.Tag <= MaxTag, "/tag", "must be %d..%d", MinTag, MaxTag)
	p.Check(c.BandwidthMbps >= 0 && c.BandwidthMbps <= MaxMbps, "/bandwidth_mbps", "must be 0..%d", MaxMbps)
	c.A.check(&p, "/a")
	c.Z.check(&p, "/z")
	p.Check(c.A.Port != c.Z.Port || c.A.VLAN != c.Z.VLAN || c.A.ServiceVLAN != c.Z.ServiceVLAN, "/z/vlan", "is the same port and VLAN as side a")
	for _, family := range []struct {
		field string
		a, z  Link
	}{{"/z/address", c.A.Link, c.Z.Link}, {"/z/ipv6_address", c.A.IPv6, c.Z.IPv6}} {
		p.Check((family.a == Link{}) == (family.z == Link{}), family.field, "must be there on both sides or on none")
		p.Check(!family.a.Address.IsValid() || !family.z.Address.IsValid() || !family.a.Address.Overlaps(family.z.Address),
			family.field, "is in the subnet of side a")
	}
	return p.Err("datapath.Connection.Validate")
}

func (a Attachment) check(p *domain.Problems, pointer string) {
	p.Check(a.Port != "" && len(a.Port) <= 15, pointer+"/interface", "must be an interface name of 1..15 characters")
	p.Check(a.VLAN >= 0 && a.VLAN <= MaxVLAN, pointer+"/vlan", "must be 0 (untagged) or 1..%d", MaxVLAN)
	p.Check(a.ServiceVLAN >= 0 && a.ServiceVLAN <= MaxVLAN, pointer+"/service_vlan", "must be 0 (none) or 1..%d", MaxVLAN)
	p.Check(a.ServiceVLAN == 0 || a.VLAN != 0, pointer+"/vlan", "must be there in a service VLAN")
	p.Check(len(a.links()) > 0, pointer+"/address", "must be there, for IPv4 or IPv6")
	if l := a.Link; l != (Link{}) {
		p.Check(l.Address.IsValid() && l.Address.Addr().Is4() && l.Address.Bits() <= 31, pointer+"/address",
			"must be an IPv4 address with its subnet, such as 100.64.0.1/30")
		p.Check(l.hasPeer(), pointer+"/peer_address", "must be another IPv4 address in the subnet of address")
	}
	if l := a.IPv6; l != (Link{}) {
		own := l.Address.Addr()
		p.Check(l.Address.IsValid() && own.Is6() && !own.Is4In6() && own.Zone() == "" && !own.IsLinkLocalUnicast() && !own.IsMulticast() && l.Address.Bits() <= 127,
			pointer+"/ipv6_address", "must be a routable IPv6 address with its subnet, such as 2001:db8::2/127")
		p.Check(l.hasPeer(), pointer+"/ipv6_peer_address", "must be another IPv6 address in the subnet of ipv6_address")
	}
}

func (l Link) hasPeer() bool { return l.Address.Contains(l.Peer) && l.Peer != l.Address.Addr() }

func checkTag(op string, tag int) error {
	if tag < MinTag || tag > MaxTag {
		return domain.Errorf(domain.Invalid, op, "tag %d is not in %d..%d", tag, MinTag, MaxTag)
	}
	return nil
}
