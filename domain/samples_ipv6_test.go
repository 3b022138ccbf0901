package domain_test

import (
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
)

// ipv6Samples returns samples of what came with IPv6.
func ipv6Samples() []domain.Event {
	return []domain.Event{
		edgenode.Registered{EdgeNodeID: edgeNode, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 4200000000, RouterID: "192.0.2.1", At: at,
			IPv6LinkPrefix: "2001:db8:ffff::/112"},
		connection.Allocated{
			ConnectionID: connectionID, EdgeNodeID: edgeNode, EdgeASN: 4200000000, Tag: 7,
			A: connection.Attachment{PortID: customerPort, Interface: "eth1", VLAN: 100, IPv6Address: "2001:db8:ffff::1c/127", IPv6PeerAddress: "2001:db8:ffff::1d",
				PeerASN: customerBGP.ASN, Prefixes: []string{"2001:db8:a::/48"}},
			Z: connection.Attachment{PortID: providerPort, Interface: "eth2", VLAN: 200, IPv6Address: "2001:db8:ffff::1e/127", IPv6PeerAddress: "2001:db8:ffff::1f",
				PeerASN: providerBGP.ASN, Prefixes: []string{"2001:db8:b::/48"}},
			At: at,
		},
		connection.SessionChanged{ConnectionID: connectionID, Side: connection.SideA, Family: domain.IPv6, State: connection.SessionEstablished, Since: at,
			PrefixesReceived: 1, PrefixesSent: 2, At: at},
	}
}
