package domain_test

import (
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/port"
)

// qinqSamples returns samples of what came with service VLANs.
func qinqSamples() []domain.Event {
	return []domain.Event{
		port.Registered{PortID: customerPort, EdgeNodeID: edgeNode, OrganisationID: customer, Name: "uplink", Interface: "eth1", CapacityMbps: 1000, ServiceVLAN: 300, At: at},
		connection.Allocated{
			ConnectionID: connectionID, EdgeNodeID: edgeNode, EdgeASN: 4200000000, Tag: 7,
			A: connection.Attachment{PortID: customerPort, Interface: "eth1", VLAN: 100, ServiceVLAN: 300, Address: "100.64.0.1/30", PeerAddress: "100.64.0.2",
				PeerASN: customerBGP.ASN, Prefixes: customerBGP.Prefixes},
			Z: connection.Attachment{PortID: providerPort, Interface: "eth2", VLAN: 200, ServiceVLAN: 301, Address: "100.64.0.5/30", PeerAddress: "100.64.0.6",
				PeerASN: providerBGP.ASN, Prefixes: providerBGP.Prefixes},
			At: at,
		},
		connection.RebuildStarted{
			ConnectionID: connectionID, CustomerPortID: customerPort, ProviderPortID: providerPort, ProviderBGP: &providerBGP, Reason: "Maintenance", Deadline: april, At: at,
			Build: connection.Build{EdgeNodeID: edgeNode, EdgeASN: 4200000000, Tag: 8,
				A: connection.Attachment{PortID: customerPort, Interface: "eth1", VLAN: 101, ServiceVLAN: 300, Address: "100.64.0.65/30", PeerAddress: "100.64.0.66",
					PeerASN: customerBGP.ASN, Prefixes: customerBGP.Prefixes},
				Z: connection.Attachment{PortID: providerPort, Interface: "eth2", VLAN: 201, ServiceVLAN: 301, Address: "100.64.0.69/30", PeerAddress: "100.64.0.70",
					PeerASN: providerBGP.ASN, Prefixes: providerBGP.Prefixes}},
		},
	}
}
