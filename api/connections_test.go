package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/events"
)

func init() { operationLists = append(operationLists, connectionOperations) }

func connectionOperations(m *market) []operation {
	at := "/v1/connections/" + m.order.ConnectionId
	limit, in := 20, time.Now().Add(48*time.Hour).UTC().Truncate(time.Second)
	return []operation{
		{"modifyConnection", "POST", at + ":modify", m.customerKey, client.NewChange{QuoteId: m.quote.Id, QuoteHash: m.quote.Hash}},
		{"suspendConnection", "POST", at + ":suspend", m.customerKey, client.Reason{Reason: "away"}},
		{"resumeConnection", "POST", at + ":resume", m.customerKey, nil},
		{"terminateConnection", "POST", at + ":terminate", m.customerKey, client.NewTermination{Reason: "moving", EffectiveAt: &in}},
		{"unscheduleTermination", "POST", at + ":unschedule-termination", m.customerKey, nil},
		{"listBGPSessions", "GET", at + "/bgp-sessions", m.customerKey, nil},
		{"configureBGPSession", "POST", at + "/bgp-sessions/a:configure", m.customerKey, client.BGPSessionSettings{PrefixLimit: &limit}},
		{"listEdgeNodes", "GET", "/v1/edge-nodes", m.operatorKey, nil},
		{"getEdgeNode", "GET", "/v1/edge-nodes/" + m.nodeID, m.operatorKey, nil},
	}
}

// live is a market whose order was delivered.
func live(t *testing.T) (*market, *scriptedEdge) {
	t.Helper()
	m := newMarket(t).open()
	order := m.place()
	_, _, err := client.Decode[client.Order](m.provider.AcceptOrder(context.Background(), order.Id, nil))
	must(t, err)
	edge := &scriptedEdge{m: m}
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	edge.bringUp()
	m.await(order.ConnectionId, client.ConnectionStateProduction)
	m.awaitOrder(order.Id, client.OrderStateCompleted)
	return m, edge
}

func (m *market) connection() client.Connection {
	m.t.Helper()
	c, _, err := client.Decode[client.Connection](m.customer.GetConnection(context.Background(), m.order.ConnectionId))
	must(m.t, err)
	return c
}

// refusedWith sends a request that must be refused, and change nothing.
func (m *market) refusedWith(what, key, path string, body any, want int) client.Problem {
	m.t.Helper()
	before := m.head()
	status, p, _ := m.do(key, "POST", path, body)
	m.refused(what, int64(before), status, p, want)
	return p
}

func TestModifyConnection(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, at := context.Background(), "/v1/connections/"+m.order.ConnectionId
	wish := m.newQuote()
	wish.ConnectionId = &m.order.ConnectionId
	m.refusedWith("a quote for what it has", m.customerKey, "/v1/quotes", wish, http.StatusUnprocessableEntity)
	m.refusedWith("a stranger's quote for it", m.strangerKey, "/v1/quotes", wish, http.StatusNotFound)
	wish.BandwidthMbps = 200
	quote, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, wish))
	must(t, err)
	if quote.Change == nil || !quote.Change.InPlace || quote.Change.Outage || quote.Change.FromMbps != 100 || len(quote.Change.Kinds) != 1 || *quote.ConnectionId != m.order.ConnectionId {
		t.Fatalf("the quote says %+v", quote.Change)
	}
	change := client.NewChange{QuoteId: quote.Id, QuoteHash: quote.Hash, MaxTotal: &quote.Total}
	m.refusedWith("an order of a new connection from it", m.customerKey, "/v1/orders", m.newOrder(quote), http.StatusConflict)
	m.refusedWith("the provider's change", m.providerKey, at+":modify", change, http.StatusForbidden)
	m.refusedWith("a change by the quote of the order", m.customerKey, at+":modify", client.NewChange{QuoteId: m.quote.Id, QuoteHash: m.quote.Hash}, http.StatusConflict)
	wrong := change
	wrong.QuoteHash = strings.Repeat("0", 64)
	m.refusedWith("a change with another hash", m.customerKey, at+":modify", wrong, http.StatusConflict)

	order, _, err := client.Decode[client.Order](m.customer.ModifyConnection(ctx, m.order.ConnectionId, nil, change))
	must(t, err)
	if order.Item != client.OrderItemModify || order.State != client.OrderStateAwaitingProvider || order.ConnectionId != m.order.ConnectionId {
		t.Fatalf("the order is %+v", order)
	}
	_, _, err = client.Decode[client.Order](m.provider.AcceptOrder(ctx, order.Id, nil))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool {
		return c.BandwidthMbps == 200 && c.Phase == client.DesiredConnectionPhaseProduction
	})
	if c := m.connection(); c.State != client.ConnectionStateChangePending || c.BandwidthMbps != 100 || c.ChangeOrderId == nil || *c.ChangeOrderId != order.Id || c.Status[0].Tag != client.StatusMessageTagChange {
		t.Errorf("before the edge's word it is %+v", c)
	}
	m.refusedWith("a suspension meanwhile", m.customerKey, at+":suspend", client.Reason{Reason: "away"}, http.StatusConflict)
	applied := 200
	edge.report(client.Observation{BandwidthMbps: &applied})
	m.awaitOrder(order.Id, client.OrderStateCompleted)
	if c := m.connection(); c.State != client.ConnectionStateProduction || c.BandwidthMbps != 200 || c.ChangeOrderId != nil {
		t.Errorf("changed it is %+v", c)
	}
	m.refusedWith("the change again", m.customerKey, at+":modify", change, http.StatusConflict)
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	at := "/v1/connections/" + id
	m.refusedWith("a resumption of what is not suspended", m.customerKey, at+":resume", nil, http.StatusConflict)
	m.refusedWith("the provider's suspension", m.providerKey, at+":suspend", client.Reason{Reason: "no"}, http.StatusForbidden)
	_, _, err := client.Decode[client.Connection](m.customer.SuspendConnection(ctx, id, nil, client.Reason{Reason: "away"}))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseSuspended })
	node, _, err := client.Decode[client.EdgeNodeStatus](m.operator.GetEdgeNode(ctx, m.nodeID))
	must(t, err)
	if node.LastSeenAt == nil || *node.Kind != client.EdgeKindEbpf || *node.Connections != 1 || len(*node.Drift) != 1 || (*node.Drift)[0].Phase != "suspended" {
		t.Errorf("the edge node is %+v", node)
	}
	suspended, message := m.now().Truncate(time.Microsecond), "the port is down"
	edge.report(client.Observation{SuspendedAt: &suspended, Message: &message})
	if c := m.connection(); c.State != client.ConnectionStateSuspended || !c.SuspendedSince.Equal(suspended) || c.Status[0].Message != message || c.Status[1].Tag != client.StatusMessageTagSuspension {
		t.Errorf("suspended it is %+v", c)
	}
	_, _, err = client.Decode[client.Connection](m.customer.ResumeConnection(ctx, id, nil))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseProduction })
	resumed := m.now().Truncate(time.Microsecond)
	edge.report(client.Observation{ResumedAt: &resumed})
	if c := m.connection(); c.State != client.ConnectionStateProduction || len(c.Status) != 0 {
		t.Errorf("resumed it is %+v", c)
	}
	nodes, _, err := client.Decode[client.EdgeNodePage](m.operator.ListEdgeNodes(ctx, nil))
	must(t, err)
	if len(nodes.Items) != 1 || nodes.Items[0].EdgeNode.Id != m.nodeID || nodes.Items[0].DesiredRevision == 0 {
		t.Errorf("the edge nodes are %+v", nodes.Items)
	}
}

func TestTerminateAtADate(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	at := "/v1/connections/" + id
	past, date := m.now().Add(-time.Minute), m.now().Add(240*time.Hour).Truncate(time.Second)
	m.refusedWith("an end in the past", m.customerKey, at+":terminate", client.NewTermination{Reason: "moving", EffectiveAt: &past}, http.StatusUnprocessableEntity)
	m.refusedWith("taking back what is not scheduled", m.customerKey, at+":unschedule-termination", nil, http.StatusConflict)
	schedule := func() string {
		t.Helper()
		c, _, err := client.Decode[client.Connection](m.customer.TerminateConnection(ctx, id, nil, client.NewTermination{Reason: "moving", EffectiveAt: &date}))
		must(t, err)
		if c.State != client.ConnectionStateProduction || c.Termination == nil || !c.Termination.EffectiveAt.Equal(date) {
			t.Fatalf("scheduled it is %+v", c)
		}
		return c.Termination.OrderId
	}
	timers := func() (n int) {
		must(t, m.pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE args ? 'termination' AND state = 'scheduled'`).Scan(&n))
		return n
	}
	settled := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); timers() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d timers are left, want %d", timers(), want)
			}
		}
	}
	first := schedule()
	settled(1)
	m.refusedWith("another date", m.customerKey, at+":terminate", client.NewTermination{Reason: "moving", EffectiveAt: func() *time.Time { d := date.Add(time.Hour); return &d }()}, http.StatusConflict)
	c, _, err := client.Decode[client.Connection](m.customer.UnscheduleTermination(ctx, id, nil))
	must(t, err)
	if c.Termination != nil {
		t.Errorf("taken back it is %+v", c)
	}
	m.awaitOrder(first, client.OrderStateCancelled)
	settled(0)

	second := schedule()
	settled(1)
	m.ahead.Store(int64(241 * time.Hour))
	_, err = m.pool.Exec(ctx, `UPDATE river_job SET scheduled_at = now() WHERE args ? 'termination' AND state = 'scheduled'`) // River's clock is the machine's
	must(t, err)
	m.await(id, client.ConnectionStateDecommissionRequested)
	if c := m.connection(); !c.BillingTo.Equal(date) {
		t.Errorf("billed until %s, want %s", c.BillingTo, date)
	}
	edge.takeDown()
	m.awaitOrder(second, client.OrderStateCompleted)
	m.await(id, client.ConnectionStateDecommissioned)
}

// A session's secret reaches its edge node's agent, and nobody and nothing else.
func TestBGPSessionSettings(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	at := "/v1/connections/" + id + "/bgp-sessions"
	const secret = "k3Y-of-the-customers-router"
	m.refusedWith("the other side's session", m.customerKey, at+"/z:configure", client.BGPSessionSettings{Md5Secret: ptr(secret)}, http.StatusForbidden)
	m.refusedWith("a stranger's session", m.strangerKey, at+"/a:configure", client.BGPSessionSettings{Md5Secret: ptr(secret)}, http.StatusNotFound)
	m.refusedWith("no settings", m.customerKey, at+"/a:configure", client.BGPSessionSettings{}, http.StatusUnprocessableEntity)
	m.refusedWith("the provider's prefix", m.customerKey, at+"/a:configure", client.BGPSessionSettings{Prefixes: &[]client.Prefix{"203.0.113.0/24"}}, http.StatusUnprocessableEntity)
	m.refusedWith("the placeholder of an erased text", m.customerKey, at+"/a:configure", client.BGPSessionSettings{Md5Secret: ptr(domain.Erased)}, http.StatusUnprocessableEntity)

	before, limit := m.head(), 25
	session, _, err := client.Decode[client.BGPSession](m.customer.ConfigureBGPSession(ctx, id, client.SideA, &client.ConfigureBGPSessionParams{IdempotencyKey: m.idempotencyKey()},
		client.BGPSessionSettings{Md5Secret: ptr(secret), PrefixLimit: &limit, Prefixes: &[]client.Prefix{"198.51.100.0/25"}}))
	must(t, err)
	if !*session.Md5 || session.Md5SetAt == nil || *session.PrefixLimit != limit || (*session.Prefixes)[0] != "198.51.100.0/25" || m.head() != before+2 {
		t.Errorf("configured it is %+v", session)
	}
	desired := edge.await(func(c client.DesiredConnection) bool { return c.A.Md5Secret != nil })
	if *desired.A.Md5Secret != secret || desired.A.PrefixLimit != limit || desired.A.Prefixes[0] != "198.51.100.0/25" || desired.Z.Md5Secret != nil || *desired.A.AdminState != client.AdminStateUp {
		t.Errorf("the edge node is told %+v", desired)
	}
	for _, key := range []string{m.customerKey, m.providerKey, m.operatorKey} {
		for _, path := range []string{at, "/v1/connections/" + id, "/v1/connections", "/v1/events?limit=500"} {
			if _, _, body := m.do(key, "GET", path, nil); strings.Contains(string(body), secret) {
				t.Errorf("%s shows the secret", path)
			}
		}
	}
	var leaks int
	must(t, m.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM read_connections WHERE doc::text LIKE '%' || $1 || '%') +
		       (SELECT count(*) FROM events WHERE convert_from(payload, 'UTF8') LIKE '%' || $1 || '%') +
		       (SELECT count(*) FROM idempotency_keys WHERE convert_from(body, 'UTF8') LIKE '%' || $1 || '%')`, secret).Scan(&leaks))
	if leaks != 0 {
		t.Errorf("the secret stands in clear in %d rows", leaks)
	}
	theirs, _, err := client.Decode[client.BGPSessions](m.provider.ListBGPSessions(ctx, id))
	must(t, err)
	if a, z := theirs.Items[0], theirs.Items[1]; a.Md5 != nil || a.Prefixes != nil || a.Observed == nil || *z.Md5 || z.Address == nil {
		t.Errorf("the provider sees %+v", theirs.Items)
	}

	down, remove := client.AdminStateDown, true
	before = m.head()
	_, _, err = client.Decode[client.BGPSession](m.customer.ConfigureBGPSession(ctx, id, client.SideA, nil, client.BGPSessionSettings{Md5Secret: ptr(secret)}))
	must(t, err)
	if m.head() != before {
		t.Error("the same secret again was recorded")
	}
	_, _, err = client.Decode[client.BGPSession](m.customer.ConfigureBGPSession(ctx, id, client.SideA, nil, client.BGPSessionSettings{AdminState: &down, RemoveMd5Secret: &remove}))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool {
		return c.A.Md5Secret == nil && *c.A.AdminState == client.AdminStateDown
	})
	if c := m.connection(); len(c.Status) != 1 || c.Status[0].Tag != client.StatusMessageTagBgp {
		t.Errorf("a session that is off shows as %+v", c.Status)
	}
	_, err = events.Verify(ctx, m.pool, nil, "")
	must(t, err)
}

func ptr[T any](v T) *T { return &v }

// TestWithdrawnListing: what was quoted can be ordered, changed and approved although its listing has since been offered to
// others only, or to nobody. It waits for the provider as long as the quoted version says.
func TestWithdrawnListing(t *testing.T) {
	t.Parallel()
	m, _ := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	terms, hours := m.terms(), 4
	terms.AnswerWithinHours = &hours
	m.publish(terms)
	_, limited := m.issue(m.customerKey, "program", "bot", &client.Limits{PerOrder: &domain.Money{Minor: 1, Currency: "USD"}}, "trade")
	wish := m.newQuote()
	wish.ConnectionId, wish.BandwidthMbps = &id, 200
	change, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, wish))
	must(t, err)
	fresh, limitedChange := m.takeQuote(), client.NewChange{QuoteId: change.Id, QuoteHash: change.Hash}

	hours, terms.OfferedTo = 720, &[]string{m.strangerID}
	m.publish(terms)
	waiting, _, err := client.Decode[client.Order](m.client(limited).PlaceOrder(ctx, nil, m.newOrder(fresh)))
	must(t, err)
	changing, _, err := client.Decode[client.Order](m.client(limited).ModifyConnection(ctx, id, nil, limitedChange))
	must(t, err)
	_, _, err = client.Decode[client.Listing](m.provider.RetireListing(ctx, m.listing.Id, nil))
	must(t, err)
	m.refusedWith("a quote for what is off the market", m.customerKey, "/v1/quotes", m.newQuote(), http.StatusNotFound)
	for what, o := range map[string]client.Order{"a new connection": waiting, "a change": changing} {
		if o.State != client.OrderStateAwaitingCustomerApproval {
			t.Errorf("the order of %s is %+v", what, o)
		}
		before := m.now()
		approved, _, err := client.Decode[client.Order](m.customer.ApproveOrder(ctx, o.Id, nil))
		must(t, err)
		if waits := approved.Deadline.Sub(before); approved.State != client.OrderStateAwaitingProvider || waits < 4*time.Hour || waits > 5*time.Hour {
			t.Errorf("approved, the order of %s waits %s: %+v", what, waits, approved)
		}
	}
}

// TestModifyConnection_AboveLimit: a change above what its principal may commit to waits for a person, and is in no way
// begun before.
func TestModifyConnection_AboveLimit(t *testing.T) {
	t.Parallel()
	m, _ := live(t)
	ctx, id := context.Background(), m.order.ConnectionId
	_, key := m.issue(m.customerKey, "program", "bot", &client.Limits{PerOrder: &domain.Money{Minor: 1, Currency: "USD"}}, "trade")
	wish := m.newQuote()
	wish.ConnectionId, wish.BandwidthMbps = &id, 200
	quote, _, err := client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, wish))
	must(t, err)
	order, _, err := client.Decode[client.Order](m.client(key).ModifyConnection(ctx, id, nil, client.NewChange{QuoteId: quote.Id, QuoteHash: quote.Hash}))
	must(t, err)
	if order.State != client.OrderStateAwaitingCustomerApproval || *order.ApprovalNeeded != client.OrderApprovalNeededAboveOrderLimit || *order.Needs != client.OrderNeedsApproval {
		t.Fatalf("the order is %+v", order)
	}
	m.refusedWith("the provider's yes before the customer's", m.providerKey, "/v1/orders/"+order.Id+":accept", nil, http.StatusConflict)
	if c := m.connection(); c.State != client.ConnectionStateProduction || c.ChangeOrderId != nil || c.BandwidthMbps != 100 {
		t.Errorf("meanwhile the connection is %+v", c)
	}
	approved, _, err := client.Decode[client.Order](m.customer.ApproveOrder(ctx, order.Id, nil))
	must(t, err)
	if approved.State != client.OrderStateAwaitingProvider {
		t.Errorf("approved, the order is %+v", approved)
	}
}
