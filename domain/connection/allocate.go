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
	p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
	p.ASN("/edge_asn", c.EdgeASN)
	p.Check(c.Tag >= MinTag && c.Tag <= MaxTag, "/tag", "must be %d to %d", MinTag, MaxTag)
	linkA := c.A.check(&p, "/a", s.CustomerPortID, s.CustomerBGP, c.EdgeASN)
	linkZ := c.Z.check(&p, "/z", s.ProviderPortID, s.ProviderBGP, c.EdgeASN)
	p.Check(!linkA.IsValid() || !linkZ.IsValid() || !linkA.Overlaps(linkZ), "/z/address", "is on the link of the other side")
	p.Check(c.A.PortID != c.Z.PortID || c.A.VLAN != c.Z.VLAN, "/z/vlan", "is the other side's on the same port")
	p.Time("/at", c.At)
	return p.Err(op)
}

// check records what is wrong with an attachment, and returns its link's subnet if it has one. What the parties asked
// for must come back unchanged: an allocation only adds what is the platform's to choose.
func (a Attachment) check(p *domain.Problems, at, portID string, asked BGP, edgeASN uint32) (link netip.Prefix) {
	p.Check(a.PortID == portID, at+"/port_id", "is not the port that was ordered, %s", portID)
	p.InterfaceName(at+"/interface", a.Interface)
	p.Check(a.VLAN >= MinVLAN && a.VLAN <= MaxVLAN, at+"/vlan", "must be %d to %d", MinVLAN, MaxVLAN)
	p.Check(a.PeerASN == asked.ASN, at+"/peer_asn", "is not the AS number that was ordered, %d", asked.ASN)
	// The same AS number would make the session an internal one (RFC 4271 section 1.1), which passes on other routes.
	p.Check(a.PeerASN != edgeASN, at+"/peer_asn", "is the edge node's own")
	p.Check(slices.Equal(a.Prefixes, asked.Prefixes), at+"/prefixes", "are not the prefixes that were ordered")

	address, err := netip.ParsePrefix(a.Address)
	if err != nil || !address.Addr().Is4() || !isHost(address, address.Addr()) {
		p.Add(at+"/address", "must be an IPv4 host address with the length of its link's prefix, such as 100.64.0.1/30")
		return netip.Prefix{}
	}
	link = address.Masked()
	peer, err := netip.ParseAddr(a.PeerAddress)
	p.Check(err == nil && isHost(link, peer) && peer != address.Addr(), at+"/peer_address", "must be another host address of the link %s", link)
	return link
}

// isHost reports whether a host of the subnet can have the address: inside it, and not its first or last address, unless
// it is a /31, which has only these two (RFC 3021).
func isHost(subnet netip.Prefix, a netip.Addr) bool {
	subnet = subnet.Masked()
	if !subnet.Contains(a) || subnet.Bits() == 32 {
		return false
	}
	return subnet.Bits() == 31 || a != subnet.Addr() && subnet.Contains(a.Next())
}

func (a *Attachment) equal(o Attachment) bool {
	return a != nil && a.PortID == o.PortID && a.Interface == o.Interface && a.VLAN == o.VLAN && a.Address == o.Address &&
		a.PeerAddress == o.PeerAddress && a.PeerASN == o.PeerASN && slices.Equal(a.Prefixes, o.Prefixes)
}
