package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/domain/quote"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"getConnectionTimeline", "GET", "/v1/connections/" + m.order.ConnectionId + "/timeline", m.customerKey, nil}}
	})
}

// TestStory_HasWords: whoever adds an event to what a timeline tells of has to say in words what happened.
func TestStory_HasWords(t *testing.T) {
	t.Parallel()
	told := make(map[string]string)
	for _, e := range slices.Concat(quote.Events(), order.Events(), connection.Events()) {
		words := api.WordsFor(e)
		if words == "" {
			t.Errorf("a timeline has no words for %s", e.EventType())
		}
		if other := told[words]; words != "" && other != "" {
			t.Errorf("a timeline says the same of %s and %s: %s", e.EventType(), other, words)
		}
		told[words] = e.EventType()
	}
}

// TestStory_KeepsSecrets: what only one party may know is in no sentence, for both read it.
func TestStory_KeepsSecrets(t *testing.T) {
	t.Parallel()
	one := connection.Attachment{PortID: "prt_SECRET", Interface: "SECRET0", VLAN: 1729, Address: "100.64.17.1/30", PeerAddress: "100.64.17.2", PeerASN: 1729, Prefixes: []string{"SECRET"}}
	seventeen := domain.Money{Minor: 1729, Currency: "USD"}
	for _, e := range []domain.Event{
		connection.Allocated{EdgeNodeID: "edg_SECRET", EdgeASN: 1729, Tag: 1729, A: one, Z: one},
		connection.SecretSet{Side: connection.SideA, Secret: "SECRET"},
		connection.SessionConfigured{Side: connection.SideZ, Admin: connection.AdminUp, Prefixes: []string{"SECRET"}, PrefixLimit: 1729},
		connection.SessionChanged{Side: connection.SideZ, State: connection.SessionIdle, PrefixesReceived: 1729, PrefixesSent: 1729},
		connection.Probed{Detail: "SECRET"},
		order.Placed{BandwidthMbps: 100, PortID: "prt_SECRET", ApprovalNeeded: order.AboveOrderLimit, Commitment: &order.Commitment{Amount: seventeen}},
		order.Approved{By: "SECRET", Commitment: order.Commitment{Amount: seventeen}},
	} {
		if words := api.WordsFor(e); strings.Contains(words, "SECRET") || strings.Contains(words, "17") {
			t.Errorf("of %s everybody reads: %s", e.EventType(), words)
		}
	}
}

// TestConnectionTimeline tells of a connection and all orders for it, one of which it never heard of, in pages of any size.
func TestConnectionTimeline(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	wish := m.newQuote()
	wish.ConnectionId, wish.BandwidthMbps = &id, 200
	change := func() client.Order {
		q, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, wish))
		must(t, err)
		o, _, err := client.Decode[client.Order](m.customer.ModifyConnection(ctx, id, nil, client.NewChange{QuoteId: q.Id, QuoteHash: q.Hash}))
		must(t, err)
		return o
	}
	refused, changed := change(), change()
	_, _, err := client.Decode[client.Order](m.provider.AcceptOrder(ctx, changed.Id, nil))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.BandwidthMbps == 200 })
	applied := 200
	edge.report(client.Observation{BandwidthMbps: &applied})
	m.awaitOrder(changed.Id, client.OrderStateCompleted)
	// This order was placed before the change's, and ends after it: it goes on behind pages that were told long ago.
	_, _, err = client.Decode[client.Order](m.provider.RejectOrder(ctx, refused.Id, nil, client.Reason{Reason: "no spare light"}))
	must(t, err)
	_, position, err := client.Decode[client.Connection](m.customer.TerminateConnection(ctx, id, nil, client.NewTermination{Reason: "moved"}))
	must(t, err)

	read := func(c *client.Client, limit int) (all []client.TimelineEntry) {
		params := &client.GetConnectionTimelineParams{Limit: &limit, AtPosition: &position}
		for {
			page, _, err := client.Decode[client.Timeline](c.GetConnectionTimeline(ctx, id, params))
			must(t, err)
			if len(page.Items) > limit {
				t.Fatalf("a page of at most %d has %d entries", limit, len(page.Items))
			}
			for _, e := range page.Items { // whatever else the saga does meanwhile
				if e.Position <= position {
					all = append(all, e)
				}
			}
			if params.PageToken = page.NextPageToken; params.PageToken == nil {
				return all
			}
		}
	}
	whole := read(m.customer, 100)
	var lines []string
	for i, e := range whole {
		lines = append(lines, e.Type+" "+e.Sentence)
		if i > 0 && e.Position <= whole[i-1].Position {
			t.Errorf("%s is not in the order of the log", e.Type)
		}
		if strings.HasPrefix(e.Type, "order.") != strings.HasPrefix(e.Subject, "ord_") {
			t.Errorf("%s is told of %s", e.Type, e.Subject)
		}
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"connection.requested The connection is made known under its id.",
		"order.placed The customer ordered 100 Mbps, as its purchase order PO-1.",
		"order.placed The customer ordered a change of the connection to 200 Mbps, under version 1 of its listing.",
		"connection.change_requested The connection is being changed to 200 Mbps, under version 1 of its listing.",
		"connection.changed The connection has 200 Mbps, and is billed under version 1 of its listing, since ",
		"order.rejected The provider rejected the order: no spare light.",
		"order.placed The customer ordered the connection to end.",
		"connection.decommission_requested The connection is to end: moved. It is billed until ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the story:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "order.placed"); n != 4 {
		t.Errorf("%d orders are in the story:\n%s", n, text)
	}
	positions := func(story []client.TimelineEntry) (all []int64) {
		for _, e := range story {
			all = append(all, e.Position)
		}
		return all
	}
	for _, limit := range []int{1, 2, 3, 7} {
		if got := positions(read(m.provider, limit)); !slices.Equal(got, positions(whole)) {
			t.Errorf("by pages of %d the provider reads %v, and it is %v", limit, got, positions(whole))
		}
	}
	for what, c := range map[string]struct {
		key, query string
		want       int
	}{
		"a stranger":         {m.strangerKey, "", http.StatusNotFound},
		"an operator":        {m.operatorKey, "", http.StatusOK},
		"another's token":    {m.customerKey, "?page_token=MSAy-", http.StatusUnprocessableEntity},
		"a token of nothing": {m.customerKey, "?page_token=LTEgLTE", http.StatusUnprocessableEntity},
	} {
		if status, _, body := m.do(c.key, "GET", "/v1/connections/"+id+"/timeline"+c.query, nil); status != c.want {
			t.Errorf("%s: %d: %s", what, status, body)
		}
	}
}

// TestTimeline_Delegation: for whom a key acted and why is told of each event, and to the key's organisation only.
func TestTimeline_Delegation(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	o := m.place()
	for _, step := range []struct {
		key, path string
		body      any
		headers   []string
	}{
		{m.providerKey, ":ask", client.NewOrderQuestion{Question: "Which rack?"}, []string{"Crossbill-On-Behalf-Of", "desk-2", "Crossbill-Reason", "site survey"}},
		{m.customerKey, ":answer", client.NewOrderAnswer{Number: 1, Answer: "Rack 7"}, []string{"Crossbill-On-Behalf-Of", "lab", "Crossbill-Reason", "the office moves"}},
		{m.customerKey, ":cancel", client.Reason{Reason: "changed plans"}, []string{"Crossbill-Reason", "too late"}},
	} {
		if status, _, body := m.do(step.key, "POST", "/v1/orders/"+o.Id+step.path, step.body, step.headers...); status != http.StatusOK {
			t.Fatalf("%s answered %d: %s", step.path, status, body)
		}
	}
	m.await(o.ConnectionId, client.ConnectionStateCancelled)
	type delegation struct{ onBehalfOf, reason string }
	read := func(c *client.Client) map[string]delegation {
		page, _, err := client.Decode[client.Timeline](c.GetOrderTimeline(context.Background(), o.Id, nil))
		must(t, err)
		told := make(map[string]delegation)
		for _, e := range page.Items {
			var d delegation
			if e.Actor.OnBehalfOf != nil {
				d.onBehalfOf = *e.Actor.OnBehalfOf
			}
			if e.Actor.Reason != nil {
				d.reason = *e.Actor.Reason
			}
			told[e.Type] = d
		}
		return told
	}
	asked, answered, cancelled, nobody := delegation{"desk-2", "site survey"}, delegation{"lab", "the office moves"}, delegation{"", "too late"}, delegation{}
	for who, c := range map[string]struct {
		client *client.Client
		want   [4]delegation // of what was placed, asked, answered and cancelled
	}{
		"the customer": {m.customer, [4]delegation{nobody, nobody, answered, cancelled}},
		"the provider": {m.provider, [4]delegation{nobody, asked, nobody, nobody}},
		"an operator":  {m.operator, [4]delegation{nobody, asked, answered, cancelled}},
	} {
		told := read(c.client)
		for i, event := range []string{"order.placed", "order.question_asked", "order.question_answered", "order.cancelled"} {
			if told[event] != c.want[i] {
				t.Errorf("%s reads of %s: %+v, want %+v", who, event, told[event], c.want[i])
			}
		}
	}
}
