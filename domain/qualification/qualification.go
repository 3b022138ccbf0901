// Package qualification says whether a listing can be delivered on a customer's port now: green, yellow or red, each for
// reasons with stable codes.
//
// It is one pure function, which an order asks too before it is placed, so that what qualifies can be ordered and what
// cannot is refused in the same words. It reserves nothing: what is free now may be gone when an order is allocated. And
// it never says how much of another's port is taken. Start reading at [Check].
package qualification

import (
	"slices"
	"strings"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/port"
)

// Colours of a result, and of each reason for it.
const (
	Green  = "green"  // can be delivered
	Yellow = "yellow" // can be delivered if what the reasons say is seen to
	Red    = "red"    // cannot be delivered as asked
)

// Codes of reasons, a closed set that programs may branch on.
const (
	CodePort             = "port"              // there is no such port of the customer
	CodeLocation         = "location"          // the ports are on different edge nodes
	CodeBandwidth        = "bandwidth"         // the listing does not sell this bandwidth
	CodeCapacity         = "capacity"          // the customer's port has not enough left
	CodeProviderCapacity = "provider_capacity" // nor has the provider's
	CodeVLAN             = "vlan"              // the customer's port has no VLAN left
	CodeProviderVLAN     = "provider_vlan"     // nor has the provider's
	CodeEdgeNode         = "edge_node"         // the edge node has no room for another connection
	CodeASN              = "asn"               // no router can have the AS number
	CodeASNTaken         = "asn_taken"         // it is the provider's or the edge node's own
	CodeASNPrivate       = "asn_private"       // it is for private use or documentation
	CodePrefix           = "prefix"            // a prefix cannot be announced
	CodePrefixTaken      = "prefix_taken"      // the provider announces it
	CodeApproval         = "approval"          // the provider answers each order
)

// Codes are all codes there are.
var Codes = []string{
	CodePort, CodeLocation, CodeBandwidth, CodeCapacity, CodeProviderCapacity, CodeVLAN, CodeProviderVLAN, CodeEdgeNode, CodeASN,
	CodeASNTaken, CodeASNPrivate, CodePrefix, CodePrefixTaken, CodeApproval,
}

// Use is what connections hold of a port.
type Use struct {
	Mbps  int64
	VLANs int
}

// Site is what is known of the place where a connection would be.
type Site struct {
	Terms           listing.Terms // of the listing's version that is asked about
	Port            port.State    // the customer's; zero if there is none
	PortUse         Use
	ProviderPort    port.State
	ProviderPortUse Use
	EdgeNode        edgenode.State // that the provider's port is on
	EdgeNodeTags    int            // that connections hold on it
	PreApproved     bool           // by a service key: the provider need not be asked
}

// Request is what is asked.
type Request struct {
	CustomerID    string
	PortID        string // of the customer
	BandwidthMbps int
	BGP           *domain.BGP // the customer's side; nil if that is not known yet
}

// Reason is one thing that stands in the way, or has to be seen to.
type Reason struct {
	Code    string `json:"code"`
	Colour  string `json:"colour"`
	Pointer string `json:"pointer"` // into a request for a qualification
	Detail  string `json:"detail"`
}

// Result is the worst of the reasons' colours, and all of them. No reason is green.
type Result struct {
	Colour  string   `json:"colour"`
	Reasons []Reason `json:"reasons"`
}

// Limits of an edge node and of a port: VLANs 2 to 4094 (IEEE 802.1Q-2018 table 9-2) and the tags that name a node's interfaces.
const (
	VLANsOfPort    = 4093
	TagsOfEdgeNode = 16383
)

// Check says whether the site can take the connection. It returns every reason there is, in the order of the codes.
func Check(site Site, r Request) Result {
	c := checker{Result{Colour: Green, Reasons: []Reason{}}}
	known := site.Port.ID != "" && site.Port.ID == r.PortID && site.Port.OrganisationID == r.CustomerID
	c.red(known, CodePort, "/port_id", "is not a port of the customer")
	c.red(!known || site.Port.EdgeNodeID == site.ProviderPort.EdgeNodeID, CodeLocation, "/port_id",
		"is on another edge node than the listing's port, which is on "+site.EdgeNode.Name)
	c.red(slices.Contains(site.Terms.BandwidthsMbps, r.BandwidthMbps), CodeBandwidth, "/bandwidth_mbps", "is not among the listing's bandwidths")
	c.room(site, r, known)
	if r.BGP != nil {
		c.bgp(site, *r.BGP)
	}
	if site.Terms.Approval == listing.ApprovalManual && !site.PreApproved {
		c.add(Yellow, CodeApproval, "/listing_id", "the provider answers each order itself")
	}
	return c.Result
}

// Problems records what is red. pointer turns a pointer of the reasons into one of the caller's own request.
func (r Result) Problems(p *domain.Problems, pointer func(string) string) {
	for _, reason := range r.Reasons {
		if reason.Colour == Red {
			p.Add(pointer(reason.Pointer), "%s", reason.Detail)
		}
	}
}

type checker struct{ Result }

func (c *checker) add(colour, code, pointer, detail string) {
	if c.Colour != Red {
		c.Colour = colour
	}
	c.Reasons = append(c.Reasons, Reason{code, colour, pointer, detail})
}

func (c *checker) red(ok bool, code, pointer, detail string) {
	if !ok {
		c.add(Red, code, pointer, detail)
	}
}

// bgp holds the customer's side of the sessions to what the domain demands of any side, of a pair, and of the node's neighbour.
func (c *checker) bgp(site Site, ours domain.BGP) {
	var own, pair domain.Problems
	own.BGP("/bgp", ours)
	pair.BGPPair("/bgp", ours, site.Terms.BGP)
	own.InFamilies("/bgp", ours, site.Terms.BGP.Families(), "the provider has no prefix of this family")
	each := func(problems domain.Problems, asn bool, code string) {
		for _, f := range problems {
			if strings.HasPrefix(f.Pointer, "/bgp/asn") == asn {
				c.add(Red, code, f.Pointer, f.Detail)
			}
		}
	}
	each(own, true, CodeASN)
	each(pair, true, CodeASNTaken)
	if site.EdgeNode.ID != "" {
		c.red(ours.ASN != site.EdgeNode.ASN, CodeASNTaken, "/bgp/asn", "is the edge node's own AS number")
	}
	if note := asnNote(ours.ASN); note != "" {
		c.add(Yellow, CodeASNPrivate, "/bgp/asn", note)
	}
	each(own, false, CodePrefix)
	each(pair, false, CodePrefixTaken)
}

// asnNote returns what is to be said of an AS number that is nobody's alone: those for private use (RFC 6996) and for
// documentation (RFC 5398).
func asnNote(asn uint32) string {
	switch {
	case asn >= 64512 && asn <= 65534, asn >= 4200000000 && asn <= 4294967294:
		return "is for private use: no other network behind the provider's may use the same (RFC 6996)"
	case asn >= 64496 && asn <= 64511, asn >= 65536 && asn <= 65551:
		return "is for documentation, and many routers refuse it (RFC 5398)"
	}
	return ""
}
