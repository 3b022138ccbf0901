package edgenode

import (
	"net/netip"
	"time"

	"crossbill/domain"
	"crossbill/domain/location"
)

// Limits on what an edge node is called, in characters.
const (
	MaxName     = 60
	MaxMetro    = 40
	MaxFacility = 120
)

// MaxLinkPrefixBits is the longest prefix that has a /127 for both sides of every connection of a node.
const MaxLinkPrefixBits = 112

// Command is what can be asked of an edge node.
type Command interface{ command() }

// Register makes an edge node.
type Register struct {
	EdgeNodeID string
	Name       string
	Metro      string // the city or market it is in
	Facility   string // the building
	ASN        uint32
	RouterID   string         // four octets in dotted form, not all zero
	LocationID string         // where it stands; may be missing
	Location   location.State // what LocationID names; zero if there is none
	At         time.Time
	// IPv6LinkPrefix is where its IPv6 links are to have their addresses, at most [MaxLinkPrefixBits] long; "" is
	// [domain.LinkSpaceIPv6].
	IPv6LinkPrefix string
}

func (Register) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields, a Conflict for an edge node that exists, NotFound for the silence of one that
// does not.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "edgenode.Decide"
	if _, registers := c.(Register); !registers && s.ID == "" {
		return nil, domain.Missing(op, "edge node")
	}
	switch c := c.(type) {
	case NoteSilence:
		return c.decide(op, s)
	case NoteHeard:
		return c.decide(op, s)
	case Register:
		if s.ID != "" {
			return nil, domain.Exists(op, "edge node", s.ID)
		}
		var p domain.Problems
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		p.Text("/name", c.Name, MaxName)
		p.Text("/metro", c.Metro, MaxMetro)
		p.Text("/facility", c.Facility, MaxFacility)
		p.ASN("/asn", c.ASN)
		// RFC 6286 section 2.1: a BGP identifier is any four octets but zero.
		id, err := netip.ParseAddr(c.RouterID)
		p.Check(err == nil && id.Is4() && !id.IsUnspecified(), "/router_id", "must be four octets in dotted form, not all zero")
		if c.IPv6LinkPrefix != "" {
			links, err := domain.ParsePrefix(c.IPv6LinkPrefix)
			p.Check(err == nil && links.Addr().Is6() && links.Bits() <= MaxLinkPrefixBits,
				"/ipv6_link_prefix", "must be a routable IPv6 prefix of at most %d bits, such as 2001:db8:1::/64", MaxLinkPrefixBits)
		}
		if c.LocationID != "" {
			p.Check(c.Location.ID == c.LocationID, "/location_id", "there is no such location")
			p.Check(c.Location.ID == "" || location.SameMetro(c.Metro, c.Location.Metro), "/metro", "must be the metro of the location, %s", c.Location.Metro)
		}
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Registered{
			EdgeNodeID: c.EdgeNodeID, Name: c.Name, Metro: c.Metro, Facility: c.Facility, ASN: c.ASN, RouterID: c.RouterID,
			LocationID: c.LocationID, At: domain.Instant(c.At), IPv6LinkPrefix: c.IPv6LinkPrefix,
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
