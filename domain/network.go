package domain

import (
	"net/netip"
	"slices"
	"strings"
)

// MaxPrefixes is how many prefixes a party may register for its side of a connection.
const MaxPrefixes = 100

// MaxMbps bounds every bandwidth, in 10⁶ bits a second: one 800 Gbit/s interface (IEEE 802.3df).
const MaxMbps = 800_000

// ValidASN reports whether asn can be a router's own. Refused are 0 (RFC 7607), 23456, which stands for a four-octet
// number towards routers that know only two (RFC 6793 section 9), and the last of either size, 65535 and 4294967295 (RFC 7300).
func ValidASN(asn uint32) bool {
	return asn != 0 && asn != 23456 && asn != 65535 && asn != 4294967295
}

// LinkSpace is where the links between edge nodes and routers have their addresses: the shared address space of RFC 6598.
// It is the platform's to number, so no party announces any of it.
var LinkSpace = netip.MustParsePrefix("100.64.0.0/10")

// LinkSpaceIPv6 is where IPv6 links have their addresses on edge nodes that were given no prefix of their own for them: a
// unique local prefix, whose 40 bits were drawn at random (RFC 4193 section 3.2).
var LinkSpaceIPv6 = netip.MustParsePrefix("fd65:3ce5:bca8::/48")

// Address families of routes, links and sessions.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
)

// unroutable holds what is never forwarded between networks: the IPv4 entries of RFC 6890 section 2.2.2 that are not
// forwardable, multicast (RFC 5771) and class E (RFC 1112 section 4); of IPv6 the same of section 2.2.3, what stands for
// IPv4 addresses alone (RFC 4291 section 2.5.5), and multicast. Private and documentation prefixes are not in it: a private
// connection may well carry them.
var unroutable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	LinkSpace,
	netip.MustParsePrefix("::/96"), // with the unspecified address and the loopback
	netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	LinkSpaceIPv6,
}

// ParsePrefix reads a prefix that a party may announce, in its one canonical form: "192.0.2.0/24", or "2001:db8::/32" as
// RFC 5952 has it, host bits zero.
// It returns an Invalid error for any other text, for the default route, and for what overlaps a range that is never
// routed between networks.
func ParsePrefix(s string) (netip.Prefix, error) {
	const op = "domain.ParsePrefix"
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, Errorf(Invalid, op, "%.50q is not a prefix in CIDR form", s).WithHint("write it like 192.0.2.0/24")
	case p.Addr().Is4In6():
		return netip.Prefix{}, Errorf(Invalid, op, "%.50q is an IPv4 prefix in IPv6 form", s).WithHint("write it like 192.0.2.0/24")
	case p.Bits() == 0:
		return netip.Prefix{}, Errorf(Invalid, op, "a default route cannot be announced").WithHint("name the prefixes themselves")
	case p != p.Masked():
		return netip.Prefix{}, Errorf(Invalid, op, "%s has host bits", p).WithHint("write it as %s", p.Masked())
	case p.String() != s: // two texts of one prefix would be taken for two
		return netip.Prefix{}, Errorf(Invalid, op, "%.50q is not in its canonical form", s).WithHint("write it as %s (RFC 5952)", p)
	}
	for _, u := range unroutable {
		if p.Overlaps(u) {
			return netip.Prefix{}, Errorf(Invalid, op, "%s overlaps %s, which is not routed between networks", p, u)
		}
	}
	return p, nil
}

// BGP is a party's side of the BGP sessions of its connections.
type BGP struct {
	ASN      uint32   `json:"asn"`
	Prefixes []string `json:"prefixes"` // the prefixes it may announce, see [ParsePrefix]; any other is refused
}

// Families returns the address families of the prefixes, IPv4 first.
func (b BGP) Families() []string {
	var families []string
	for _, family := range []string{IPv4, IPv6} {
		if slices.ContainsFunc(b.Prefixes, func(prefix string) bool { return familyOf(prefix) == family }) {
			families = append(families, family)
		}
	}
	return families
}

// familyOf returns the family of a prefix in the form of [ParsePrefix].
func familyOf(prefix string) string {
	if strings.Contains(prefix, ":") {
		return IPv6
	}
	return IPv4
}

// FamilyName is how people write a family.
func FamilyName(family string) string {
	if family == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Equal reports whether both say the same.
func (b BGP) Equal(o BGP) bool { return b.ASN == o.ASN && slices.Equal(b.Prefixes, o.Prefixes) }

// BGP records what is wrong with a side of BGP sessions.
func (p *Problems) BGP(pointer string, b BGP) {
	p.ASN(pointer+"/asn", b.ASN)
	p.Check(len(b.Prefixes) >= 1 && len(b.Prefixes) <= MaxPrefixes, pointer+"/prefixes", "must hold 1 to %d prefixes", MaxPrefixes)
	if len(b.Prefixes) > MaxPrefixes { // reading them all would let the request say how much work it is
		return
	}
	for i, text := range b.Prefixes {
		at := Pointer(pointer+"/prefixes", i)
		if _, err := ParsePrefix(text); err != nil {
			p.addError(at, err)
		} else if slices.Contains(b.Prefixes[:i], text) {
			p.Add(at, "%s is listed twice", text)
		}
	}
}

// BGPPair records why two sides of one connection cannot exchange routes. A router drops a route that has its own AS
// number in the path (RFC 4271 section 9.1.2), so two sides of the same AS learn nothing of each other; and a prefix that
// both announce would lead to either. The problems are recorded against ours, the side that is being asked about.
func (p *Problems) BGPPair(pointer string, ours, theirs BGP) {
	p.Check(ours.ASN != theirs.ASN, pointer+"/asn", "%d is the other side's AS number too", ours.ASN)
	for i, text := range ours.Prefixes {
		p.Check(!slices.Contains(theirs.Prefixes, text), Pointer(pointer+"/prefixes", i), "%s is announced by the other side", text)
	}
}

// InFamilies records prefixes of a family that is none of those given.
func (p *Problems) InFamilies(pointer string, b BGP, families []string, why string) {
	for i, text := range b.Prefixes {
		p.Check(slices.Contains(families, familyOf(text)), Pointer(pointer+"/prefixes", i), "%s: %s", text, why)
	}
}

// ASN records an AS number that cannot be a router's own; see [ValidASN].
func (p *Problems) ASN(pointer string, asn uint32) {
	p.Check(ValidASN(asn), pointer, "%d is not an AS number that a router can have", asn)
}

// Mbps records a bandwidth that is not in 1..[MaxMbps].
func (p *Problems) Mbps(pointer string, mbps int) {
	p.Check(mbps >= 1 && mbps <= MaxMbps, pointer, "must be 1 to %d", MaxMbps)
}

// MaxInterfaceName is the length of Linux's IFNAMSIZ without its terminating zero.
const MaxInterfaceName = 15

// InterfaceName records a name that no Linux interface can have or that a shell could read as something else.
func (p *Problems) InterfaceName(pointer, name string) {
	ok := len(name) >= 1 && len(name) <= MaxInterfaceName && name != "." && name != ".."
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-')
	}
	p.Check(ok, pointer, "must be 1 to %d letters, digits and _ . -", MaxInterfaceName)
}
