package connection

import (
	"net/netip"
	"slices"

	"crossbill/domain"
)

func (c Allocate) decide(op string, s State) ([]domain.Event, error) {
	if err := c.check(op, s); err != nil {
		return nil, err
	}
	switch {
	case s.Tag != 0: // it was allocated, whatever came of it since
		if s.EdgeNodeID == c.EdgeNodeID && s.EdgeASN == c.EdgeASN && s.Tag == c.Tag && s.A.equal(c.A) && s.Z.equal(c.Z) {
			return nil, nil
		}
		return nil, domain.Differs(op, "connection", s.ID, "allocation")
	case s.State != StateRequested:
		return nil, s.refuse(op)
	}
	return []domain.Event{Allocated{
		ConnectionID: s.ID, EdgeNodeID: c.EdgeNodeID, EdgeASN: c.EdgeASN, Tag: c.Tag, A: c.A, Z: c.Z, At: domain.Instant(c.At),
	}}, nil
}

func (c Allocate) check(op string, s State) error {
	var p domain.Problems
	Build{c.EdgeNodeID, c.EdgeASN, c.Tag, c.A, c.Z}.check(&p, s.CustomerPortID, s.CustomerBGP, s.ProviderPortID, s.ProviderBGP)
	p.Time("/at", c.At)
	return p.Err(op)
}

// check records what is wrong with an attachment, but for its links. What the parties asked for must come back unchanged:
// an allocation only adds what is the platform's to choose.
func (a Attachment) check(p *domain.Problems, at, portID string, asked BGP, edgeASN uint32) {
	p.Check(a.PortID == portID, at+"/port_id", "is not the port that was ordered, %s", portID)
	p.InterfaceName(at+"/interface", a.Interface)
	p.Check(a.VLAN >= MinVLAN && a.VLAN <= MaxVLAN, at+"/vlan", "must be %d to %d", MinVLAN, MaxVLAN)
	p.Check(a.ServiceVLAN == 0 || a.ServiceVLAN >= MinVLAN && a.ServiceVLAN <= MaxVLAN, at+"/service_vlan", "must be %d to %d, or left out", MinVLAN, MaxVLAN)
	p.Check(a.PeerASN == asked.ASN, at+"/peer_asn", "is not the AS number that was ordered, %d", asked.ASN)
	// The same AS number would make the session an internal one (RFC 4271 section 1.1), which passes on other routes.
	p.Check(a.PeerASN != edgeASN, at+"/peer_asn", "is the edge node's own")
	p.Check(slices.Equal(a.Prefixes, asked.Prefixes), at+"/prefixes", "are not the prefixes that were ordered")
}

// The fields of an attachment that hold a family's addresses, and what one is like.
var (
	addressField     = map[string]string{domain.IPv4: "/address", domain.IPv6: "/ipv6_address"}
	peerAddressField = map[string]string{domain.IPv4: "/peer_address", domain.IPv6: "/ipv6_peer_address"}
	addressForm      = map[string]string{domain.IPv4: "an IPv4 host address with the length of its link's prefix, such as 100.64.0.1/30",
		domain.IPv6: "an IPv6 host address with the length of its link's prefix, such as 2001:db8::2/127"}
)

// Link returns the node's own address and the peer's in a family; both "" where the connection does not carry it.
func (a Attachment) Link(family string) (address, peer string) {
	if family == domain.IPv6 {
		return a.IPv6Address, a.IPv6PeerAddress
	}
	return a.Address, a.PeerAddress
}

// checkLink records what is wrong with a family's addresses, and returns the link's subnet if it has one.
func (a Attachment) checkLink(p *domain.Problems, at, family string, carried bool) (link netip.Prefix) {
	own, peers := a.Link(family)
	if !carried {
		p.Check(own == "" && peers == "", at+addressField[family], "must not be set: no prefix of this family was ordered")
		return netip.Prefix{}
	}
	address, err := netip.ParsePrefix(own)
	if err != nil || address.Addr().Is4() != (family == domain.IPv4) || address.Addr().Is4In6() || !isHost(address, address.Addr()) {
		p.Add(at+addressField[family], "must be %s", addressForm[family])
		return netip.Prefix{}
	}
	link = address.Masked()
	peer, err := netip.ParseAddr(peers)
	p.Check(err == nil && isHost(link, peer) && peer != address.Addr(), at+peerAddressField[family], "must be another host address of the link %s", link)
	return link
}

// isHost reports whether a host of the subnet can have the address: inside it, and not its first or last address, unless
// it is a /31 or a /127, which have only these two (RFC 3021, RFC 6164).
func isHost(subnet netip.Prefix, a netip.Addr) bool {
	subnet = subnet.Masked()
	if !subnet.Contains(a) || subnet.IsSingleIP() {
		return false
	}
	return subnet.Bits() == a.BitLen()-1 || a != subnet.Addr() && subnet.Contains(a.Next())
}

func (a *Attachment) equal(o Attachment) bool {
	return a != nil && a.PortID == o.PortID && a.Interface == o.Interface && a.VLAN == o.VLAN && a.ServiceVLAN == o.ServiceVLAN && a.Address == o.Address &&
		a.PeerAddress == o.PeerAddress && a.IPv6Address == o.IPv6Address && a.IPv6PeerAddress == o.IPv6PeerAddress && a.PeerASN == o.PeerASN && slices.Equal(a.Prefixes, o.Prefixes)
}
