package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain/connection"
)

func init() { operationLists = append(operationLists, moveOperations) }

func moveOperations(m *market) []operation {
	return []operation{{"moveConnection", "POST", "/v1/connections/" + m.order.ConnectionId + ":move", m.operatorKey, client.Move{Reason: "maintenance", CustomerPortId: &m.customerPort}}}
}

// A move is to ports of the same parties. While it lasts each of them reads how to configure its own router, and the edge node
// is told of the new build alone.
func TestMoveConnection(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, at := context.Background(), "/v1/connections/"+m.order.ConnectionId+":move"
	other, theirs := m.port(m.customerID, "eth7"), m.port(m.providerID, "eth8")
	m.refusedWith("the customer's move", m.customerKey, at, client.Move{Reason: "why not", CustomerPortId: &other}, http.StatusForbidden)
	m.refusedWith("a move to where it is", m.operatorKey, at, client.Move{Reason: "why not"}, http.StatusUnprocessableEntity)
	m.refusedWith("a move to the provider's port", m.operatorKey, at, client.Move{Reason: "why not", CustomerPortId: &theirs}, http.StatusUnprocessableEntity)

	was := m.connection()
	moved, _, err := client.Decode[client.Connection](m.operator.MoveConnection(ctx, m.order.ConnectionId, nil, client.Move{Reason: "a new card", CustomerPortId: &other}))
	must(t, err)
	if moved.State != client.ConnectionStateChangePending || moved.Rebuild == nil || moved.Rebuild.Reason != "a new card" {
		t.Fatalf("it is %+v", moved)
	}
	told := edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	c := m.connection()
	if r := c.Rebuild; r == nil || r.Attachment == nil || r.Attachment.PortId != other || r.Attachment.Vlan != told.A.Vlan || c.Attachment.PortId != was.Attachment.PortId ||
		*r.EdgeNodeId != m.nodeID || r.TrafficStoppedAt != nil {
		t.Errorf("the customer reads %+v", r)
	}
	p, _, err := client.Decode[client.Connection](m.provider.GetConnection(ctx, m.order.ConnectionId))
	must(t, err)
	if r := p.Rebuild; r == nil || r.Attachment == nil || r.Attachment.PortId != m.providerPort || r.Attachment.Vlan != told.Z.Vlan {
		t.Errorf("the provider reads %+v", r)
	}
	m.refusedWith("a move meanwhile", m.operatorKey, at, client.Move{Reason: "another", CustomerPortId: &other}, http.StatusConflict)
}

// Legs of a redundancy group stay apart when one is moved: where another is, or was ordered to be, and, as long as the move
// lasts, at both of its ends.
func TestMoveOfALeg(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx := context.Background()
	g, _, err := client.Decode[client.RedundancyGroup](m.customer.CreateRedundancyGroup(ctx, nil, client.NewRedundancyGroup{Name: "Both ways", Diversity: client.DiversityPort}))
	must(t, err)
	moving, here := m.order.ConnectionId, m.customerPort
	_, _, err = client.Decode[client.RedundancyGroup](m.customer.AddToRedundancyGroup(ctx, g.Id, nil, client.RedundancyGroupMember{ConnectionId: moving}))
	must(t, err)
	other := m.terms()
	other.PortId = m.port(m.providerID, "port5")
	drafted, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, other))
	must(t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, drafted.Id, nil))
	must(t, err)
	into := func(customerPort string) client.NewOrder {
		m.customerPort = customerPort
		o := m.newOrder(m.takeQuote())
		o.RedundancyGroupId = &g.Id
		return o
	}
	leg, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, into(m.port(m.customerID, "port6"))))
	must(t, err)

	at, taken, theirs := "/v1/connections/"+moving+":move", m.customerPort, other.PortId
	for what, move := range map[string]client.Move{
		"to the other leg's port":                 {Reason: "why not", CustomerPortId: &taken},
		"to the other leg's port, the provider's": {Reason: "why not", ProviderPortId: &theirs},
	} {
		p := m.refusedWith("a move "+what, m.operatorKey, at, move, http.StatusConflict)
		if p.Hint == nil || !strings.Contains(p.Detail, leg.ConnectionId) {
			t.Errorf("a move %s is refused with %+v", what, p)
		}
	}
	to := m.port(m.customerID, "port7")
	_, _, err = client.Decode[client.Connection](m.operator.MoveConnection(ctx, moving, nil, client.Move{Reason: "a new card", CustomerPortId: &to}))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	second, _, err := client.Decode[client.RedundancyGroup](m.customer.CreateRedundancyGroup(ctx, nil, client.NewRedundancyGroup{Name: "Another", Diversity: client.DiversityPort}))
	must(t, err)
	m.refusedWith("to add what is moved", m.customerKey, "/v1/redundancy-groups/"+second.Id+":add-connection", client.RedundancyGroupMember{ConnectionId: moving}, http.StatusConflict)
	third := m.terms()
	third.PortId = m.port(m.providerID, "port8")
	drafted, _, err = client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, third))
	must(t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, drafted.Id, nil))
	must(t, err)
	for what, on := range map[string]string{"from": here, "to": to} {
		m.refusedWith("an order for the port that a leg is moved "+what, m.customerKey, "/v1/orders", into(on), http.StatusUnprocessableEntity)
	}

	closed := m.now()
	edge.report(client.Observation{ClosedAt: &closed})
	edge.bringUp()
	m.await(moving, client.ConnectionStateProduction)
	for began := time.Now(); m.reservations() > 3; time.Sleep(10 * time.Millisecond) { // of the build that it left
		if time.Since(began) > time.Minute {
			t.Fatal("the port that it left is not free")
		}
	}
	g, _, err = client.Decode[client.RedundancyGroup](m.customer.GetRedundancyGroup(ctx, g.Id))
	must(t, err)
	if g.Connections[0].PortId != to || g.Connections[1].PortId != taken {
		t.Errorf("the group says %+v", g.Connections)
	}
	_, _, err = client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, into(here)))
	must(t, err)
}

// Only a node that was not heard of since it was due is given up: one that is there delivers its readings.
func TestSkipIsForSilentNodes(t *testing.T) {
	t.Parallel()
	m, _ := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	_, _, err := client.Decode[client.Connection](m.customer.TerminateConnection(ctx, id, nil, client.NewTermination{Reason: "moving"}))
	must(t, err)
	m.sagasAtRest()
	m.fail(m.order, connection.StepAwaitRemoval, "the node is silent", time.Time{})
	_, _, err = client.Decode[client.DesiredState](m.agent.GetDesiredState(ctx, m.nodeID, nil))
	must(t, err)
	p := m.refusedWith("to skip what a node that is there is to do", m.operatorKey, "/v1/connections/"+id+":skip", client.Reason{Reason: "it burnt down"}, http.StatusConflict)
	if p.Hint == nil {
		t.Errorf("refused with %+v", p)
	}
	if _, err := m.pool.Exec(ctx, `UPDATE edge_heard SET heard_at = heard_at - interval '1 day'`); err != nil {
		t.Fatal(err)
	}
	_, _, err = client.Decode[client.Connection](m.operator.SkipConnectionStep(ctx, id, nil, client.Reason{Reason: "it burnt down"}))
	must(t, err)
	m.await(id, client.ConnectionStateDecommissioned)
}

// A change that sets a leg up anew is refused when it is ordered, where its group would not let it be.
func TestChangeOfALeg(t *testing.T) {
	t.Parallel()
	m, _ := live(t)
	ctx := context.Background()
	changing, ours := m.order.ConnectionId, m.listing
	g, _, err := client.Decode[client.RedundancyGroup](m.customer.CreateRedundancyGroup(ctx, nil, client.NewRedundancyGroup{Name: "Both ways", Diversity: client.DiversityPort}))
	must(t, err)
	_, _, err = client.Decode[client.RedundancyGroup](m.customer.AddToRedundancyGroup(ctx, g.Id, nil, client.RedundancyGroupMember{ConnectionId: changing}))
	must(t, err)
	offer := func(port string) client.ListingTerms {
		terms := m.terms()
		terms.PortId, terms.Changes = port, &client.ChangeMatrix{InPlace: []client.ChangeKind{}}
		return terms
	}
	theirs := m.port(m.providerID, "port5")
	drafted, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, offer(theirs)))
	must(t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, drafted.Id, nil))
	must(t, err)
	m.customerPort = m.port(m.customerID, "port6")
	into := m.newOrder(m.takeQuote())
	into.RedundancyGroupId = &g.Id
	leg, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, into))
	must(t, err)

	change := func(port string) client.NewChange {
		t.Helper()
		_, _, err := client.Decode[client.Listing](m.provider.UpdateDraft(ctx, ours.Id, nil, offer(port)))
		must(t, err)
		_, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, ours.Id, nil))
		must(t, err)
		q, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, client.NewQuote{ListingId: ours.Id, BandwidthMbps: 200, ConnectionId: &changing}))
		must(t, err)
		if q.Change == nil || q.Change.InPlace {
			t.Fatalf("the change is %+v", q.Change)
		}
		return client.NewChange{QuoteId: q.Id, QuoteHash: q.Hash}
	}
	p := m.refusedWith("a change to the other leg's port", m.customerKey, "/v1/connections/"+changing+":modify", change(theirs), http.StatusConflict)
	if p.Hint == nil || !strings.Contains(p.Detail, leg.ConnectionId) || !strings.Contains(p.Detail, "port of the provider") {
		t.Errorf("it is refused with %+v", p)
	}
	_, _, err = client.Decode[client.Order](m.customer.ModifyConnection(ctx, changing, nil, change(m.port(m.providerID, "port8"))))
	must(t, err)
}
