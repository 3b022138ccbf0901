package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"crossbill/api/client"
)

// TestQualification asks the same of a qualification and of an order.
func TestQualification(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	ask := func(change func(*client.NewQualification)) client.Qualification {
		q := m.newQualification()
		change(&q)
		got, _, err := client.Decode[client.Qualification](m.customer.Qualify(ctx, q))
		must(t, err)
		return got
	}
	codes := func(q client.Qualification) (all []string) {
		for _, r := range q.Reasons {
			all = append(all, string(r.Code))
		}
		return all
	}
	q := ask(func(*client.NewQualification) {})
	if q.Colour != client.ColourYellow || !slices.Equal(codes(q), []string{"asn_private", "approval"}) {
		t.Errorf("what can be ordered is %s: %v", q.Colour, codes(q))
	}
	if q := ask(func(q *client.NewQualification) { q.Bgp.ASN = 64512 }); q.Colour != client.ColourRed || codes(q)[0] != "asn_taken" {
		t.Errorf("the edge node's AS number is %s: %v", q.Colour, codes(q))
	}
	// Somebody else fills the provider's port: the figures are nobody's to know, and the order is refused like the question.
	_, err := m.pool.Exec(ctx, `INSERT INTO reservations VALUES ('vlan', $1, 2, 'con_other', 901)`, m.providerPort)
	must(t, err)
	quoted := m.takeQuote()
	q = ask(func(q *client.NewQualification) { q.QuoteId, q.ListingId, q.BandwidthMbps = &quoted.Id, nil, nil })
	if q.Colour != client.ColourRed || codes(q)[0] != "provider_capacity" || q.Reasons[0].Pointer != "/quote_id" || strings.Contains(q.Reasons[0].Detail, "99") {
		t.Errorf("a full port is %s: %+v", q.Colour, q.Reasons)
	}
	before := int64(m.head())
	status, p, _ := m.do(m.customerKey, "POST", "/v1/orders", m.newOrder(quoted))
	m.refused("an order for a full port", before, status, p, http.StatusUnprocessableEntity)
	if p.Errors == nil || (*p.Errors)[0].Pointer != "/quote_id" || (*p.Errors)[0].Detail != q.Reasons[0].Detail {
		t.Errorf("the order is refused with %+v", p.Errors)
	}
}

// TestServiceKey lets two orders use one key at the same moment: one is placed, and nobody need approve it.
func TestServiceKey(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	issued, position, err := client.Decode[client.ServiceKeyWithSecret](m.provider.CreateServiceKey(ctx, nil, m.newServiceKey()))
	must(t, err)
	orders := []client.NewOrder{m.newOrder(m.takeQuote()), m.newOrder(m.takeQuote())}
	statuses := make([]int, len(orders))
	var all sync.WaitGroup
	for i := range orders {
		orders[i].ServiceKey = &issued.Secret
		all.Go(func() {
			response, err := m.customer.PlaceOrder(ctx, nil, orders[i])
			if err == nil {
				statuses[i] = response.StatusCode
				response.Body.Close()
			}
		})
	}
	all.Wait()
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{http.StatusAccepted, http.StatusConflict}) {
		t.Fatalf("two orders with one key answered %v", statuses)
	}
	key, _, err := client.Decode[client.ServiceKey](m.provider.GetServiceKey(ctx, issued.ServiceKey.Id))
	must(t, err)
	if key.State != client.ServiceKeyStateRedeemed || key.OrderId == nil || *key.RedeemedBy != m.customerID {
		t.Fatalf("the key is %+v", key)
	}
	placed, _, err := client.Decode[client.Order](m.customer.GetOrder(ctx, *key.OrderId))
	must(t, err)
	if placed.State == client.OrderStateAwaitingProvider || *placed.ServiceKeyId != key.Id {
		t.Errorf("the order with the key is %+v", placed)
	}
	listed, _, err := client.Decode[client.ServiceKeyPage](m.provider.ListServiceKeys(ctx, &client.ListServiceKeysParams{AtPosition: &position}))
	must(t, err)
	if len(listed.Items) != 1 {
		t.Errorf("%d keys are listed", len(listed.Items))
	}
	for _, who := range []string{m.customerKey, m.strangerKey} {
		if status, _, _ := m.do(who, "GET", "/v1/service-keys/"+key.Id, nil); status != http.StatusNotFound {
			t.Errorf("somebody else's key answers %d", status)
		}
	}
	_, _, events := m.do(m.operatorKey, "GET", "/v1/events?limit=500", nil)
	if strings.Contains(string(events), strings.TrimPrefix(issued.Secret, key.Id+"_")) {
		t.Error("the secret is in the log")
	}
}

// TestRedundancyGroup orders two legs into a group, is refused one that shares a port, and ends both at once.
func TestRedundancyGroup(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	g, _, err := client.Decode[client.RedundancyGroup](m.customer.CreateRedundancyGroup(ctx, nil, client.NewRedundancyGroup{Name: "Both ways", Diversity: client.DiversityPort}))
	must(t, err)
	into := func() client.NewOrder {
		o := m.newOrder(m.takeQuote())
		o.RedundancyGroupId = &g.Id
		return o
	}
	first, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, into()))
	must(t, err)
	second := into()
	before := int64(m.head())
	status, p, _ := m.do(m.customerKey, "POST", "/v1/orders", second)
	m.refused("a second leg on the same port", before, status, p, http.StatusUnprocessableEntity)

	other := m.terms()
	other.PortId = m.port(m.providerID, "port5")
	drafted, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, other))
	must(t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, drafted.Id, nil))
	must(t, err)
	m.customerPort = m.port(m.customerID, "port6")
	leg, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, into()))
	must(t, err)
	g, _, err = client.Decode[client.RedundancyGroup](m.customer.GetRedundancyGroup(ctx, g.Id))
	must(t, err)
	if len(g.Connections) != 2 || g.State != client.RedundancyGroupStateForming {
		t.Fatalf("the group is %+v", g)
	}
	for _, who := range []string{m.providerKey, m.strangerKey} {
		if status, _, _ := m.do(who, "GET", "/v1/redundancy-groups/"+g.Id, nil); status != http.StatusNotFound {
			t.Errorf("somebody else's group answers %d", status)
		}
	}
	ended, _, err := client.Decode[client.RedundancyGroup](m.customer.TerminateRedundancyGroup(ctx, g.Id, nil, client.Reason{Reason: "moved"}))
	must(t, err)
	if ended.State != client.RedundancyGroupStateTerminating {
		t.Errorf("the group is %s", ended.State)
	}
	for _, o := range []client.Order{first, leg} {
		m.awaitOrder(o.Id, client.OrderStateCancelled)
		m.await(o.ConnectionId, client.ConnectionStateCancelled)
	}
	if g, _, err = client.Decode[client.RedundancyGroup](m.customer.GetRedundancyGroup(ctx, g.Id)); err != nil || g.State != client.RedundancyGroupStateTerminated {
		t.Errorf("in the end the group is %s, %v", g.State, err)
	}
}

// TestTimeline reads a story by small pages, as each party.
func TestTimeline(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	o := m.place()
	_, _, err := client.Decode[client.Order](m.provider.AskAboutOrder(ctx, o.Id, nil, client.NewOrderQuestion{Question: "Which rack?"}))
	must(t, err)
	_, _, err = client.Decode[client.Order](m.customer.AnswerAboutOrder(ctx, o.Id, nil, client.NewOrderAnswer{Number: 1, Answer: "Rack 7"}))
	must(t, err)
	_, position, err := client.Decode[client.Order](m.customer.CancelOrder(ctx, o.Id, nil, client.Reason{Reason: "changed plans"}))
	must(t, err)
	m.await(o.ConnectionId, client.ConnectionStateCancelled)
	read := func(c *client.Client, limit int) (all []client.TimelineEntry) {
		params := &client.GetOrderTimelineParams{Limit: &limit}
		for {
			page, _, err := client.Decode[client.Timeline](c.GetOrderTimeline(ctx, o.Id, params))
			must(t, err)
			all = append(all, page.Items...)
			if params.PageToken = page.NextPageToken; params.PageToken == nil {
				return all
			}
		}
	}
	whole, byTwo, theirs := read(m.customer, 100), read(m.customer, 2), read(m.provider, 3)
	types := func(story []client.TimelineEntry) (all []string) {
		for i, e := range story {
			if i > 0 && e.Position <= story[i-1].Position {
				t.Errorf("%s is not in the order of the log", e.Type)
			}
			all = append(all, e.Type)
		}
		return all
	}
	want := []string{"quote.issued", "order.placed", "quote.accepted", "connection.requested", "order.question_asked",
		"order.question_answered", "order.cancelled", "connection.cancellation_requested", "connection.cancelled"}
	if got := types(whole); !slices.Equal(got, want) || !slices.Equal(types(byTwo), want) || !slices.Equal(types(theirs), want) {
		t.Errorf("the story is %v, by twos %v, to the provider %v", got, types(byTwo), types(theirs))
	}
	if e := whole[4]; e.Actor.Party != client.TimelineActorPartyProvider || e.Actor.ApiKeyId != nil || !strings.Contains(e.Sentence, "Which rack?") {
		t.Errorf("the customer reads %+v", e)
	}
	if e := theirs[4]; e.Actor.ApiKeyId == nil || theirs[5].Actor.ApiKeyId != nil {
		t.Errorf("the provider reads %+v and %+v", e, theirs[5])
	}
	state, needs := client.OrderStateCancelled, client.ListOrdersParamsNeedsProvider
	found, _, err := client.Decode[client.OrderPage](m.customer.ListOrders(ctx, &client.ListOrdersParams{State: &state, AtPosition: &position}))
	must(t, err)
	waiting, _, err := client.Decode[client.OrderPage](m.provider.ListOrders(ctx, &client.ListOrdersParams{Needs: &needs, AtPosition: &position}))
	must(t, err)
	if len(found.Items) != 1 || len(waiting.Items) != 0 {
		t.Errorf("%d are cancelled and %d wait for the provider", len(found.Items), len(waiting.Items))
	}
}
