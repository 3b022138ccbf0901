package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
)

func init() { operationLists = append(operationLists, orderOperations) }

func orderOperations(m *market) []operation {
	order, group := "/v1/orders/"+m.order.Id, "/v1/redundancy-groups/"+unknownID("rgp")
	return []operation{
		{"askAboutOrder", "POST", order + ":ask", m.providerKey, client.NewOrderQuestion{Question: "Which rack?"}},
		{"answerAboutOrder", "POST", order + ":answer", m.customerKey, client.NewOrderAnswer{Number: 1, Answer: "Rack 7"}},
		{"cancelOrder", "POST", order + ":cancel", m.customerKey, client.Reason{Reason: "changed plans"}},
		{"getOrderTimeline", "GET", order + "/timeline", m.customerKey, nil},
		{"listQuotes", "GET", "/v1/quotes", m.customerKey, nil},
		{"withdrawQuote", "POST", "/v1/quotes/" + m.quote.Id + ":withdraw", m.customerKey, nil},
		{"getQuoteTimeline", "GET", "/v1/quotes/" + m.quote.Id + "/timeline", m.customerKey, nil},
		{"qualify", "POST", "/v1/qualifications", m.customerKey, m.newQualification()},
		{"listServiceKeys", "GET", "/v1/service-keys", m.providerKey, nil},
		{"createServiceKey", "POST", "/v1/service-keys", m.providerKey, m.newServiceKey()},
		{"getServiceKey", "GET", "/v1/service-keys/" + unknownID("svk"), m.providerKey, nil},
		{"revokeServiceKey", "POST", "/v1/service-keys/" + unknownID("svk") + ":revoke", m.providerKey, nil},
		{"listRedundancyGroups", "GET", "/v1/redundancy-groups", m.customerKey, nil},
		{"createRedundancyGroup", "POST", "/v1/redundancy-groups", m.customerKey, client.NewRedundancyGroup{Name: "Both ways", Diversity: client.DiversityPort}},
		{"getRedundancyGroup", "GET", group, m.customerKey, nil},
		{"addToRedundancyGroup", "POST", group + ":add-connection", m.customerKey, client.RedundancyGroupMember{ConnectionId: m.order.ConnectionId}},
		{"removeFromRedundancyGroup", "POST", group + ":remove-connection", m.customerKey, client.RedundancyGroupMember{ConnectionId: m.order.ConnectionId}},
		{"terminateRedundancyGroup", "POST", group + ":terminate", m.customerKey, client.Reason{Reason: "moved"}},
	}
}

// newQualification asks for what newOrder orders.
func (m *market) newQualification() client.NewQualification {
	mbps, bgp := 100, domain.BGP{ASN: 65010, Prefixes: []string{"198.51.100.0/24"}}
	return client.NewQualification{ListingId: &m.listing.Id, BandwidthMbps: &mbps, PortId: m.customerPort, Bgp: &bgp}
}

func (m *market) newServiceKey() client.NewServiceKey {
	mbps, days, note := 100, 7, "for the lab"
	return client.NewServiceKey{PortId: m.providerPort, CustomerId: &m.customerID, MaxMbps: &mbps, ValidForDays: &days, Note: &note}
}

// TestAskBack goes through a provider's question: who owes what until when, and what the other party may do meanwhile.
func TestAskBack(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	placed := m.place()
	if placed.Needs == nil || *placed.Needs != client.OrderNeedsProvider || !placed.NeedsBy.Equal(placed.Deadline) || len(placed.Questions) != 0 {
		t.Fatalf("the order needs %v by %v: %+v", placed.Needs, placed.NeedsBy, placed)
	}
	path := "/v1/orders/" + placed.Id
	before := int64(m.head())
	for what, c := range map[string]struct {
		key, path string
		body      any
		want      int
	}{
		"a customer's question":              {m.customerKey, path + ":ask", client.NewOrderQuestion{Question: "When?"}, 403},
		"an answer that nobody asked for":    {m.customerKey, path + ":answer", client.NewOrderAnswer{Number: 1, Answer: "So"}, 409},
		"a provider's answer":                {m.providerKey, path + ":answer", client.NewOrderAnswer{Number: 1, Answer: "So"}, 403},
		"a provider's cancellation":          {m.providerKey, path + ":cancel", client.Reason{Reason: "no"}, 403},
		"a question with control characters": {m.providerKey, path + ":ask", client.NewOrderQuestion{Question: "a\x00b"}, 422},
	} {
		status, p, _ := m.do(c.key, "POST", c.path, c.body)
		m.refused(what, before, status, p, c.want)
	}

	asked, _, err := client.Decode[client.Order](m.provider.AskAboutOrder(ctx, placed.Id, nil, client.NewOrderQuestion{Question: "Which rack?\nWhich panel?"}))
	must(t, err)
	if asked.State != client.OrderStateAwaitingProvider || *asked.Needs != client.OrderNeedsCustomer || len(asked.Questions) != 1 ||
		asked.NeedsBy.Sub(asked.Questions[0].AskedAt) != api.CustomerAnswerDelay || !asked.Deadline.Equal(placed.Deadline) {
		t.Fatalf("asked: %+v", asked)
	}
	m.ahead.Add(int64(100 * time.Hour)) // past the provider's deadline, which stands still
	answered, _, err := client.Decode[client.Order](m.customer.AnswerAboutOrder(ctx, placed.Id, nil, client.NewOrderAnswer{Number: 1, Answer: "Rack 7"}))
	must(t, err)
	q := answered.Questions[0]
	if *answered.Needs != client.OrderNeedsProvider || q.Answer == nil || *q.Answer != "Rack 7" || !answered.Deadline.Equal(placed.Deadline.Add(q.AnsweredAt.Sub(q.AskedAt))) {
		t.Fatalf("answered: %+v", answered)
	}
	seen, _, err := client.Decode[client.Order](m.provider.GetOrder(ctx, placed.Id))
	must(t, err)
	if len(seen.Questions) != 1 || *seen.Questions[0].Answer != "Rack 7" {
		t.Errorf("the provider sees %+v", seen.Questions)
	}
	m.ahead.Add(int64(71 * time.Hour))
	accepted, _, err := client.Decode[client.Order](m.provider.AcceptOrder(ctx, placed.Id, nil))
	must(t, err)
	if accepted.State != client.OrderStateInProgress || accepted.Needs != nil {
		t.Errorf("accepted: %+v", accepted)
	}
}

// TestAnswerWithin: an order waits for the provider as long as the version that was quoted says, whatever is published since.
func TestAnswerWithin(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	within := func(o client.Order) time.Duration { return o.Deadline.Sub(o.PlacedAt) }
	if shown := m.listing.Terms.AnswerWithinHours; shown == nil || *shown != 72 {
		t.Errorf("a listing that says nothing shows %v hours", shown)
	}
	publish := func(hours int) {
		terms := m.terms()
		terms.AnswerWithinHours = &hours
		m.publish(terms)
	}
	before := m.takeQuote()
	publish(4)
	if shown := m.listing.Terms.AnswerWithinHours; shown == nil || *shown != 4 {
		t.Errorf("the listing shows %v hours", shown)
	}
	quoted := m.takeQuote()
	publish(720)
	for hours, q := range map[time.Duration]client.Quote{72: before, 4: quoted, 720: m.takeQuote()} {
		o, _, err := client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, m.newOrder(q)))
		must(t, err)
		if within(o) != hours*time.Hour {
			t.Errorf("from version %d the provider has %s, want %d h", q.ListingVersion, within(o), hours)
		}
	}
	for _, hours := range []int{0, 721, -1} {
		terms := m.terms()
		terms.AnswerWithinHours = &hours
		m.refusedWith("an answer within no such time", m.providerKey, "/v1/listings", terms, http.StatusUnprocessableEntity)
	}
}

// publish publishes a next version of the market's listing.
func (m *market) publish(terms client.ListingTerms) {
	m.t.Helper()
	_, _, err := client.Decode[client.Listing](m.provider.UpdateDraft(context.Background(), m.listing.Id, nil, terms))
	must(m.t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(context.Background(), m.listing.Id, nil))
	must(m.t, err)
}

// TestNobodyAnswers lets each party miss its deadline.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	silent := m.place()
	asking := m.place()
	_, _, err := client.Decode[client.Order](m.provider.AskAboutOrder(ctx, asking.Id, nil, client.NewOrderQuestion{Question: "Which rack?"}))
	must(t, err)
	// Past a deadline the platform ends the order by itself, at a moment of its own: before or after the party's answer, that
	// is refused, and nothing comes of it.
	tooLate := func(key, what string, o client.Order, body any) client.Order {
		status, p, _ := m.do(key, "POST", "/v1/orders/"+o.Id+what, body)
		if status != http.StatusConflict || p.Hint == nil {
			t.Errorf("%s after the deadline answered %d: %+v", what, status, p)
		}
		left, _, err := client.Decode[client.Order](m.customer.GetOrder(ctx, o.Id))
		must(t, err)
		if left.State != client.OrderStateAwaitingProvider && left.State != client.OrderStateFailed {
			t.Errorf("after that the order is %+v", left)
		}
		return left
	}
	m.ahead.Add(int64(listing.DefaultAnswerHours*time.Hour + time.Second))
	tooLate(m.providerKey, ":accept", silent, nil)
	m.ahead.Add(int64(api.CustomerAnswerDelay))
	if left := tooLate(m.customerKey, ":answer", asking, client.NewOrderAnswer{Number: 1, Answer: "Rack 7"}); left.Questions[0].Answer != nil {
		t.Errorf("the late answer stands: %+v", left.Questions)
	}
}

// TestOrdersForOperators: an order that the platform can't go on with is listed for operators, and they alone read what stood in its way.
func TestOrdersForOperators(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	placed := m.place()
	if _, err := m.pool.Exec(ctx, `INSERT INTO order_obstacles VALUES ($1, 'the port is full')`, placed.Id); err != nil {
		t.Fatal(err)
	}
	needs := client.ListOrdersParamsNeedsOperator
	listed := func(by *client.Client) bool {
		position := int64(m.head())
		found, _, err := client.Decode[client.OrderPage](by.ListOrders(ctx, &client.ListOrdersParams{Needs: &needs, AtPosition: &position}))
		must(t, err)
		return slices.ContainsFunc(found.Items, func(o client.Order) bool { return o.Id == placed.Id })
	}
	if listed(m.operator) {
		t.Error("an order that waits for its provider is listed")
	}
	m.sagasAtRest()
	m.fail(placed, connection.StepAcceptOrder, "disk 7 is full", time.Time{})
	if !listed(m.operator) {
		t.Error("an order that needs an operator is not listed")
	}
	for who, by := range map[string]*client.Client{"operator": m.operator, "customer": m.customer, "provider": m.provider} {
		o, _, err := client.Decode[client.Order](by.GetOrder(ctx, placed.Id))
		must(t, err)
		if (o.Obstacle != nil) != (by == m.operator) || by == m.operator && *o.Obstacle != "the port is full" {
			t.Errorf("the %s reads of the obstacle %v", who, o.Obstacle)
		}
	}
}

// TestCancel gives orders up at every stage.
func TestCancel(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	reason := client.Reason{Reason: "changed plans"}

	waiting := m.place()
	key := m.idempotencyKey()
	status, _, body := m.do(m.customerKey, "POST", "/v1/orders/"+waiting.Id+":cancel", reason, "Idempotency-Key", *key)
	if status != http.StatusOK || !strings.Contains(string(body), `"cancelled"`) {
		t.Fatalf("cancelling what waits for its provider answered %d: %s", status, body)
	}
	if again, _, replayed := m.do(m.customerKey, "POST", "/v1/orders/"+waiting.Id+":cancel", reason, "Idempotency-Key", *key); again != status || string(replayed) != string(body) {
		t.Errorf("again: %d: %s", again, replayed)
	}
	m.await(waiting.ConnectionId, client.ConnectionStateCancelled)

	running := m.place()
	_, _, err := client.Decode[client.Order](m.provider.AcceptOrder(ctx, running.Id, nil))
	must(t, err)
	edge := &scriptedEdge{m: m}
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	cancelling, _, err := client.Decode[client.Order](m.customer.CancelOrder(ctx, running.Id, nil, reason))
	must(t, err)
	if cancelling.State != client.OrderStateCancelling || *cancelling.Reason != reason.Reason {
		t.Errorf("cancelling what is being carried out: %+v", cancelling)
	}
	before := int64(m.head())
	status, p, _ := m.do(m.customerKey, "POST", "/v1/orders/"+running.Id+":cancel", client.Reason{Reason: "another"})
	if status != http.StatusConflict || p.Hint == nil {
		t.Errorf("cancelling with another reason answered %d after %d: %+v", status, before, p)
	}
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseAbsent })
	removed := true
	edge.report(client.Observation{Removed: &removed})
	m.awaitOrder(running.Id, client.OrderStateCancelled)
	m.await(running.ConnectionId, client.ConnectionStateCancelled)
	if held := m.reservations(); held != 0 {
		t.Errorf("%d reservations are left", held)
	}

	delivered := m.place()
	_, _, err = client.Decode[client.Order](m.provider.AcceptOrder(ctx, delivered.Id, nil))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	edge.bringUp()
	m.awaitOrder(delivered.Id, client.OrderStateCompleted)
	before = int64(m.head())
	status, p, _ = m.do(m.customerKey, "POST", "/v1/orders/"+delivered.Id+":cancel", reason)
	m.refused("cancelling what is delivered", before, status, p, http.StatusConflict)
	if p.Hint == nil || !strings.Contains(*p.Hint, "terminate the connection "+delivered.ConnectionId) {
		t.Errorf("the hint is %v", p.Hint)
	}

	stuck := m.place()
	if status, _, body := m.do(m.operatorKey, "POST", "/v1/orders/"+stuck.Id+":cancel", client.Reason{Reason: "by the operator"}); status != http.StatusOK {
		t.Errorf("an operator's cancellation answered %d: %s", status, body)
	}
}

// reservations counts what connections hold.
func (m *market) reservations() (n int) {
	m.t.Helper()
	must(m.t, m.pool.QueryRow(context.Background(), `SELECT count(*) FROM reservations`).Scan(&n))
	return n
}
