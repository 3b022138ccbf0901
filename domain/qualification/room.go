package qualification

import "fmt"

// room holds both ports and the edge node to what the connection takes of them. Of the customer's own port it says the
// figures; of the provider's only that it is not enough.
func (c *checker) room(site Site, r Request, known bool) {
	mbps, vlans := int64(r.BandwidthMbps), 1
	if known && site.Port.ID == site.ProviderPort.ID { // both ends on one port
		mbps, vlans = 2*mbps, 2
	}
	if known {
		free := max(int64(site.Port.CapacityMbps)-site.PortUse.Mbps, 0)
		c.red(free >= mbps, CodeCapacity, "/port_id",
			fmt.Sprintf("has %d Mbps of its %d left, and %d are needed", free, site.Port.CapacityMbps, mbps))
	}
	c.red(int64(site.ProviderPort.CapacityMbps)-site.ProviderPortUse.Mbps >= mbps, CodeProviderCapacity, "/listing_id",
		fmt.Sprintf("the provider's port has less than %d Mbps left", mbps))
	if known {
		c.red(site.PortUse.VLANs+vlans <= VLANsOfPort, CodeVLAN, "/port_id", "has no VLAN left")
	}
	c.red(site.ProviderPortUse.VLANs+vlans <= VLANsOfPort, CodeProviderVLAN, "/listing_id", "the provider's port has no VLAN left")
	c.red(site.EdgeNodeTags < TagsOfEdgeNode, CodeEdgeNode, "/listing_id", "the edge node has no room for another connection")
}
