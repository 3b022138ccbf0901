package provisioning

import (
	"encoding/binary"
	"net/netip"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
)

// The lengths of a link's prefix: a /30 has two addresses for two routers, and so has a /127 (RFC 6164).
const (
	linkPrefixBits     = 30
	linkPrefixBitsIPv6 = 127
)

// link is one point-to-point subnet between the edge node and a party's router.
type link struct {
	address netip.Prefix // the node's own, the first host, with the prefix's length
	peer    netip.Addr   // the party's router, the second host
}

// links returns the two subnets of the connection with the given tag: a towards the customer, z towards the provider. They
// are out of [domain.LinkSpace], of which tags take the first /15 (16384 tags × two /30s = 131072 addresses).
//
// They are a function of the tag alone, so that nothing else need be reserved: two connections of one node never share
// an address, because they never share a tag. Connections on different nodes may; their links never meet, because a
// link's routes stay in its connection's own table. It returns an Internal error for a tag out of range.
func links(tag int) (a, z link, err error) {
	if tag < connection.MinTag || tag > connection.MaxTag {
		return link{}, link{}, domain.Errorf(domain.Internal, "provisioning.links", "the tag %d is not in %d..%d", tag, connection.MinTag, connection.MaxTag)
	}
	return nthLink(2 * tag), nthLink(2*tag + 1), nil
}

// ipv6Links returns the same of IPv6, out of the node's prefix for links, of which tags take the first /112 (16384 tags × two
// /127s = 65536 addresses). No tag has the first link, in which RFC 6164 section 5.1 sees an address that means any router.
// It returns an Internal error for a tag out of range, or a prefix that is none.
func ipv6Links(tag int, nodePrefix string) (a, z link, err error) {
	const op = "provisioning.ipv6Links"
	if tag < connection.MinTag || tag > connection.MaxTag {
		return link{}, link{}, domain.Errorf(domain.Internal, op, "the tag %d is not in %d..%d", tag, connection.MinTag, connection.MaxTag)
	}
	space := domain.LinkSpaceIPv6
	if nodePrefix != "" {
		if space, err = netip.ParsePrefix(nodePrefix); err != nil || !space.Addr().Is6() || space.Bits() > edgenode.MaxLinkPrefixBits {
			return link{}, link{}, domain.Errorf(domain.Internal, op, "the edge node's prefix for links is %q", nodePrefix)
		}
	}
	return nthIPv6Link(space, 2*tag), nthIPv6Link(space, 2*tag+1), nil
}

// nthIPv6Link returns the n-th /127 of a space: the node's address is the even one.
func nthIPv6Link(space netip.Prefix, n int) link {
	address := space.Masked().Addr().As16()
	binary.BigEndian.PutUint16(address[14:], uint16(2*n)) // a space has its last 16 bits zero
	node := netip.AddrFrom16(address)
	return link{address: netip.PrefixFrom(node, linkPrefixBitsIPv6), peer: node.Next()}
}

// nthLink returns the n-th /30 of the link space.
func nthLink(n int) link {
	base := domain.LinkSpace.Addr().As4()
	first := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	network := first + uint32(n)<<(32-linkPrefixBits)
	return link{address: netip.PrefixFrom(addr4(network+1), linkPrefixBits), peer: addr4(network + 2)}
}

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
