package qualification

import (
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
	"crossbill/domain/port"
)

var (
	customer = scenario.ID(domain.PrefixOrganisation, 1)
	provider = scenario.ID(domain.PrefixOrganisation, 2)
	node     = scenario.ID(domain.PrefixEdgeNode, 1)
	ours     = scenario.ID(domain.PrefixPort, 1)
	theirs   = scenario.ID(domain.PrefixPort, 2)
)

// asked is a request that is green, changed by each case.
func asked(change func(s *Site, r *Request)) Result {
	s := Site{
		Terms: listing.Terms{PortID: theirs, BandwidthsMbps: []int{100, 1000}, Approval: listing.ApprovalAutomatic,
			BGP: domain.BGP{ASN: 3320, Prefixes: []string{"203.0.113.0/24"}}},
		Port:            port.State{ID: ours, OrganisationID: customer, EdgeNodeID: node, CapacityMbps: 1000},
		PortUse:         Use{Mbps: 900, VLANs: 9},
		ProviderPort:    port.State{ID: theirs, OrganisationID: provider, EdgeNodeID: node, CapacityMbps: 10_000},
		ProviderPortUse: Use{Mbps: 9_900, VLANs: 99},
		EdgeNode:        edgenode.State{ID: node, Name: "pop-1", ASN: 6939},
	}
	r := Request{CustomerID: customer, PortID: ours, BandwidthMbps: 100, BGP: &domain.BGP{ASN: 1299, Prefixes: []string{"198.51.100.0/24"}}}
	if change != nil {
		change(&s, &r)
	}
	return Check(s, r)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	onePort := func(s *Site, capacity int) {
		s.ProviderPort, s.ProviderPortUse = s.Port, s.PortUse
		s.Port.CapacityMbps, s.ProviderPort.CapacityMbps = capacity, capacity
	}
	for _, c := range []struct {
		name   string
		change func(s *Site, r *Request)
		want   string // colour, then each reason as code and pointer
	}{
		{"all is well, and exactly enough is left", nil, "green"},
		{"BGP is not known yet", func(_ *Site, r *Request) { r.BGP = nil }, "green"},
		{"no such port", func(s *Site, _ *Request) { s.Port = port.State{} }, "red port /port_id"},
		{"another port than was asked for", func(_ *Site, r *Request) { r.PortID = theirs }, "red port /port_id"},
		{"somebody else's port says nothing of itself", func(s *Site, _ *Request) {
			s.Port.OrganisationID, s.Port.EdgeNodeID, s.PortUse = provider, "", Use{Mbps: 1000, VLANs: VLANsOfPort}
		}, "red port /port_id"},
		{"another edge node", func(s *Site, _ *Request) { s.Port.EdgeNodeID = "" }, "red location /port_id"},
		{"not on sale", func(_ *Site, r *Request) { r.BandwidthMbps = 50 }, "red bandwidth /bandwidth_mbps"},
		{"our port is full", func(s *Site, _ *Request) { s.PortUse.Mbps++ }, "red capacity /port_id"},
		{"our port is overbooked", func(s *Site, _ *Request) { s.PortUse.Mbps = 2000 }, "red capacity /port_id"},
		{"their port is full", func(s *Site, _ *Request) { s.ProviderPortUse.Mbps++ }, "red provider_capacity /listing_id"},
		{"the last VLAN", func(s *Site, _ *Request) { s.PortUse.VLANs = VLANsOfPort - 1 }, "green"},
		{"no VLAN left", func(s *Site, _ *Request) { s.PortUse.VLANs = VLANsOfPort }, "red vlan /port_id"},
		{"no VLAN left on theirs", func(s *Site, _ *Request) { s.ProviderPortUse.VLANs = VLANsOfPort }, "red provider_vlan /listing_id"},
		{"the last tag", func(s *Site, _ *Request) { s.EdgeNodeTags = TagsOfEdgeNode - 1 }, "green"},
		{"no tag left", func(s *Site, _ *Request) { s.EdgeNodeTags = TagsOfEdgeNode }, "red edge_node /listing_id"},
		{"one port takes both ends", func(s *Site, _ *Request) { onePort(s, 1100) }, "green"},
		{"one port is too narrow for both ends", func(s *Site, _ *Request) { onePort(s, 1099) }, "red capacity /port_id provider_capacity /listing_id"},
		{"one port has one VLAN left", func(s *Site, _ *Request) { s.PortUse.VLANs = VLANsOfPort - 1; onePort(s, 1100) }, "red vlan /port_id provider_vlan /listing_id"},
		{"no AS number", func(_ *Site, r *Request) { r.BGP.ASN = 23456 }, "red asn /bgp/asn"},
		{"the provider's", func(_ *Site, r *Request) { r.BGP.ASN = 3320 }, "red asn_taken /bgp/asn"},
		{"the edge node's", func(_ *Site, r *Request) { r.BGP.ASN = 6939 }, "red asn_taken /bgp/asn"},
		{"private, of two octets", func(_ *Site, r *Request) { r.BGP.ASN = 64512 }, "yellow asn_private /bgp/asn"},
		{"private, of four octets", func(_ *Site, r *Request) { r.BGP.ASN = 4294967294 }, "yellow asn_private /bgp/asn"},
		{"for documentation", func(_ *Site, r *Request) { r.BGP.ASN = 65551 }, "yellow asn_private /bgp/asn"},
		{"the first after those", func(_ *Site, r *Request) { r.BGP.ASN = 65552 }, "green"},
		{"a default route", func(_ *Site, r *Request) { r.BGP.Prefixes = []string{"0.0.0.0/0"} }, "red prefix /bgp/prefixes/0"},
		{"no prefix", func(_ *Site, r *Request) { r.BGP.Prefixes = nil }, "red prefix /bgp/prefixes"},
		{"the provider's prefix", func(_ *Site, r *Request) { r.BGP.Prefixes = append(r.BGP.Prefixes, "203.0.113.0/24") }, "red prefix_taken /bgp/prefixes/1"},
		{"the provider is asked", func(s *Site, _ *Request) { s.Terms.Approval = listing.ApprovalManual }, "yellow approval /listing_id"},
		{"the provider was asked before", func(s *Site, _ *Request) { s.Terms.Approval, s.PreApproved = listing.ApprovalManual, true }, "green"},
		{"red wins over yellow, whatever comes last", func(s *Site, r *Request) {
			s.Terms.Approval, r.BandwidthMbps = listing.ApprovalManual, 50
		}, "red bandwidth /bandwidth_mbps approval /listing_id"},
	} {
		result := asked(c.change)
		got := result.Colour
		for _, reason := range result.Reasons {
			got += " " + reason.Code + " " + reason.Pointer
			if !slices.Contains(Codes, reason.Code) || reason.Detail == "" {
				t.Errorf("%s: the reason %+v", c.name, reason)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		var problems domain.Problems
		result.Problems(&problems, func(p string) string { return strings.Replace(p, "/listing_id", "/quote_id", 1) })
		if (problems.Err("") != nil) != (result.Colour == Red) || strings.Contains(problemsText(problems), "/listing_id") {
			t.Errorf("%s: %s and its problems are %v", c.name, result.Colour, problems)
		}
	}
}

// What a customer learns of a provider's port is whether it is enough, and nothing more.
func TestTheProvidersPortIsNotToldOf(t *testing.T) {
	t.Parallel()
	result := asked(func(s *Site, _ *Request) { s.ProviderPort.CapacityMbps, s.ProviderPortUse.Mbps = 7777, 7700 })
	if result.Colour != Red || strings.Contains(result.Reasons[0].Detail, "77") {
		t.Errorf("%+v", result)
	}
}

// The limits are those of the allocation.
func TestLimitsAreTheAllocations(t *testing.T) {
	t.Parallel()
	if VLANsOfPort != connection.MaxVLAN-connection.MinVLAN+1 || TagsOfEdgeNode != connection.MaxTag-connection.MinTag+1 {
		t.Error("a port's VLANs or a node's tags are others than a connection can be allocated")
	}
}

func problemsText(p domain.Problems) (text string) {
	for _, f := range p {
		text += f.Pointer + " "
	}
	return text
}
