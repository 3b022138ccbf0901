package api_test

import (
	"context"
	"testing"

	"crossbill/api/client"
)

// TestServiceVLANs registers ports in service VLANs of one interface, and follows one into the edge node's desired state and to
// the customer's router.
func TestServiceVLANs(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	register := func(vlan *int) (client.Port, error) {
		port, _, err := client.Decode[client.Port](m.operator.CreatePort(context.Background(), nil, client.NewPort{
			EdgeNodeId: m.nodeID, OrganisationId: m.customerID, Name: "handover", Interface: "nni0", CapacityMbps: 1000, ServiceVlan: vlan,
		}))
		return port, err
	}
	vlans := []int{300, 301}
	for _, vlan := range []*int{nil, &vlans[1], &vlans[0]} { // the interface itself may be a port beside them
		port, err := register(vlan)
		must(t, err)
		if (port.ServiceVlan == nil) != (vlan == nil) || vlan != nil && *port.ServiceVlan != *vlan {
			t.Errorf("the port is %+v", port)
		}
		m.customerPort = port.Id
		if again, err := register(vlan); !refusedAs(err, "conflict") {
			t.Errorf("the same twice is %+v, %v", again, err)
		}
	}
	reserved := 4095
	if port, err := register(&reserved); !refusedAs(err, "invalid") {
		t.Errorf("a reserved VLAN is %+v, %v", port, err)
	}
	shown, _, err := client.Decode[client.Port](m.customer.GetPort(context.Background(), m.customerPort))
	must(t, err)
	if shown.ServiceVlan == nil || *shown.ServiceVlan != 300 {
		t.Errorf("the customer sees %+v", shown)
	}

	order := m.place()
	_, _, err = client.Decode[client.Order](m.provider.AcceptOrder(context.Background(), order.Id, nil))
	must(t, err)
	edge := &scriptedEdge{m: m}
	desired := edge.await(func(client.DesiredConnection) bool { return true })
	if desired.A.ServiceVlan == nil || *desired.A.ServiceVlan != 300 || desired.A.Interface != "nni0" || desired.A.Vlan < 2 || desired.Z.ServiceVlan != nil {
		t.Errorf("the edge node is to have %+v and %+v", desired.A, desired.Z)
	}
	connection, _, err := client.Decode[client.Connection](m.customer.GetConnection(context.Background(), order.ConnectionId))
	must(t, err)
	if a := connection.Attachment; a == nil || a.ServiceVlan == nil || *a.ServiceVlan != 300 || a.Vlan != desired.A.Vlan {
		t.Errorf("the customer's router is to have %+v", a)
	}
	connection, _, err = client.Decode[client.Connection](m.provider.GetConnection(context.Background(), order.ConnectionId))
	must(t, err)
	if a := connection.Attachment; a == nil || a.ServiceVlan != nil {
		t.Errorf("the provider's router is to have %+v", a)
	}
}
