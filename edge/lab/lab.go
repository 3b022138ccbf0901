// Package lab runs the edge on one machine: network namespaces and veth pairs make a customer's router, a PoP node and
// a provider's router; the routers run BIRD 2, ping and iperf3 make traffic. It is for demos and tests and needs root on
// Linux; see [Supported].
//
// It simulates nothing: packets cross real network stacks. It never meters or configures the PoP; that is the agent's
// work, in the PoP's namespace. Start reading at [New].
package lab

import (
	"net/netip"
	"time"
)

// The names of the PoP's ports and of the router's interface, in their namespaces.
const (
	PortA           = "port0" // the PoP's port towards the customer
	PortZ           = "port1" // the PoP's port towards the provider
	RouterInterface = "eth0"
	PoP             = "pop" // the PoP's name as a place for Command; the routers are "a" and "z"
)

// Options says how to tell this lab from others on the machine.
type Options struct {
	Name string // prefix of the namespaces, [a-z0-9-], unique among the live labs of this machine
	Dir  string // where BIRD's configurations, sockets and logs go; made if missing
}

// RouterConfig is one BIRD router.
type RouterConfig struct {
	VLAN         int          // the tag its frames carry on the wire; 0 for none
	ServiceVLAN  int          // of an 802.1ad tag around that one; 0 for none. Needs a further router: its MTU is four bytes less
	Address      netip.Prefix // its address on the link, such as 100.64.0.2/30
	Peer         netip.Addr   // the edge's address
	IPv6Address  netip.Prefix // as Address, such as 2001:db8::3/127; either may be missing
	IPv6Peer     netip.Addr
	ASN, PeerASN uint32
	Networks     []netip.Prefix // announced; the router has the first address of each
}

// Transfer is what iperf3 moved.
type Transfer struct {
	BytesSent     int64 // TCP payload, all of it acknowledged
	BytesReceived int64 // what the receiver had read when the sender ended: up to a window less
	Elapsed       time.Duration
	Retransmits   int
}
