package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"crossbill/api"
	"crossbill/api/client"
)

// operation is one of the contract's, with a request that is right in everything but what a test makes wrong.
type operation struct {
	id, method, path string
	key              string // of a caller who may
	body             any
}

// everyOperation lists all operations on a market with a placed order. A contract that grows past this list fails
// TestEveryOperationIsTried.
func everyOperation(m *market) []operation {
	now := time.Now().UTC().Truncate(time.Second)
	invoiceID, settlementID := unknownID("inv"), unknownID("set") // in a market without books
	if m.invoiceID != "" {
		invoiceID, settlementID = m.invoiceID, m.settlementID
	}
	all := []operation{
		{"createOrganisation", "POST", "/v1/organisations", m.operatorKey, client.NewOrganisation{Name: "New", Slug: "new", Roles: []client.Role{client.RoleCustomer}}},
		{"getOrganisation", "GET", "/v1/organisations/" + m.customerID, m.customerKey, nil},
		{"revokeApiKey", "POST", "/v1/api-keys/" + keyID(m.customerKey) + ":revoke", m.customerKey, nil},
		{"createEdgeNode", "POST", "/v1/edge-nodes", m.operatorKey, newEdgeNode()},
		{"getDesiredState", "GET", "/v1/edge-nodes/" + m.nodeID + "/desired-state", m.agentKey, nil},
		{"reportObservations", "POST", "/v1/edge-nodes/" + m.nodeID + "/observations", m.agentKey, client.ObservationReport{
			Kind: client.EdgeKindEbpf, Observations: []client.Observation{{ConnectionId: m.order.ConnectionId, Sessions: &[]client.Session{
				{Side: client.SideA, State: client.SessionStateActive, Since: now, PrefixesReceived: 1, PrefixesSent: 1}}}},
		}},
		{"sendReadings", "POST", "/v1/edge-nodes/" + m.nodeID + "/readings", m.agentKey, client.ReadingBatch{Readings: []client.Reading{aReading(m.order.ConnectionId, now)}}},
		{"createPort", "POST", "/v1/ports", m.operatorKey, client.NewPort{EdgeNodeId: m.nodeID, OrganisationId: m.customerID, Name: "p", Interface: "port9", CapacityMbps: 1000}},
		{"getPort", "GET", "/v1/ports/" + m.customerPort, m.customerKey, nil},
		{"publishFeeSchedule", "POST", "/v1/fee-schedules", m.operatorKey, client.NewFeeSchedule{BasisPoints: 200}},
		{"searchListings", "GET", "/v1/listings", m.customerKey, nil},
		{"createListing", "POST", "/v1/listings", m.providerKey, m.terms()},
		{"getListing", "GET", "/v1/listings/" + m.listing.Id, m.customerKey, nil},
		{"publishListing", "POST", "/v1/listings/" + m.listing.Id + ":publish", m.providerKey, nil},
		{"retireListing", "POST", "/v1/listings/" + m.listing.Id + ":retire", m.providerKey, nil},
		{"createQuote", "POST", "/v1/quotes", m.customerKey, m.newQuote()},
		{"getQuote", "GET", "/v1/quotes/" + m.quote.Id, m.customerKey, nil},
		{"listOrders", "GET", "/v1/orders", m.customerKey, nil},
		{"placeOrder", "POST", "/v1/orders", m.customerKey, m.newOrder(m.quote)},
		{"getOrder", "GET", "/v1/orders/" + m.order.Id, m.customerKey, nil},
		{"approveOrder", "POST", "/v1/orders/" + m.order.Id + ":approve", m.customerKey, nil},
		{"declineOrder", "POST", "/v1/orders/" + m.order.Id + ":decline", m.customerKey, client.Reason{Reason: "no"}},
		{"acceptOrder", "POST", "/v1/orders/" + m.order.Id + ":accept", m.providerKey, nil},
		{"rejectOrder", "POST", "/v1/orders/" + m.order.Id + ":reject", m.providerKey, client.Reason{Reason: "no"}},
		{"listConnections", "GET", "/v1/connections", m.customerKey, nil},
		{"getConnection", "GET", "/v1/connections/" + m.order.ConnectionId, m.customerKey, nil},
		{"getUsage", "GET", "/v1/connections/" + m.order.ConnectionId + "/usage", m.customerKey, nil},
		{"createBillingRun", "POST", "/v1/billing-runs", m.operatorKey, client.NewBillingRun{GraceHours: noGrace, PeriodStart: now.Add(-2 * time.Hour), PeriodEnd: now.Add(-time.Hour)}},
		{"listInvoices", "GET", "/v1/invoices", m.customerKey, nil},
		{"getInvoice", "GET", "/v1/invoices/" + invoiceID, m.customerKey, nil},
		{"getInvoiceDocument", "GET", "/v1/invoices/" + invoiceID + "/document", m.customerKey, nil},
		{"payInvoice", "POST", "/v1/invoices/" + invoiceID + ":pay", m.customerKey, nil},
		{"explainInvoiceLine", "GET", "/v1/invoices/" + invoiceID + "/lines/1/explain", m.customerKey, nil},
		{"listSettlements", "GET", "/v1/settlements", m.providerKey, nil},
		{"getSettlement", "GET", "/v1/settlements/" + settlementID, m.providerKey, nil},
		{"getSettlementDocument", "GET", "/v1/settlements/" + settlementID + "/document", m.providerKey, nil},
		{"exportInvoices", "GET", "/v1/exports/invoices.csv", m.customerKey, nil},
		{"exportSettlements", "GET", "/v1/exports/settlements.csv", m.providerKey, nil},
		{"listEvents", "GET", "/v1/events", m.customerKey, nil},
		{"getEventProof", "GET", "/v1/events/1/proof", m.operatorKey, nil},
		{"bundleInvoiceLine", "GET", "/v1/invoices/" + invoiceID + "/lines/1/bundle", m.customerKey, nil},
	}
	for _, more := range operationLists {
		all = append(all, more(m)...)
	}
	return all
}

// operationLists are the lists of everyOperation that stand with the tests of what they are about.
var operationLists []func(m *market) []operation

func aReading(connection string, at time.Time) client.Reading {
	return client.Reading{
		ConnectionId: connection, Epoch: 1, Sequence: 1, From: at.Add(-2 * time.Second), To: at.Add(-time.Second),
		BytesIn: 1000, BytesOut: 2000, PacketsIn: 1, PacketsOut: 2, Source: client.EdgeKindEbpf,
	}
}

// unknownID is well-formed and names nothing.
func unknownID(prefix string) string { return prefix + "_01jzzzzzzzzzzzzzzzzzzzzzzz" }

func keyID(token string) string { return "key_" + strings.Split(token, "_")[1] }

// public are the operations that need no key.
var public = []string{"getHealth", "getCheckpoint", "getLogKey", "getInclusionProof", "getConsistencyProof", "joinEdgeNode"}

func contractOperations() map[string]*openapi3.Operation {
	all := map[string]*openapi3.Operation{}
	for _, item := range theContract.Paths.Map() {
		for _, operation := range item.Operations() {
			all[operation.OperationID] = operation
		}
	}
	return all
}

// undelegated are the operations, other than reads, that take no headers of delegation, and why.
var undelegated = map[string]string{
	"estimateListing":      "records nothing",
	"qualify":              "records nothing",
	"testWebhook":          "records nothing",
	"payInvoice":           "what is asked of the payment service, and recorded, is the platform's own doing",
	"connectPayoutAccount": "likewise",
	"sendReadings":         "an agent acts for its node and for nobody else",
	"reportObservations":   "likewise",
	"renewEdgeCertificate": "likewise",
	"joinEdgeNode":         "likewise, of a machine that has only a token",
}

// TestDelegationIsInTheContract finds the headers of delegation with every operation that records something, so that every
// generated client and the command line can send them.
func TestDelegationIsInTheContract(t *testing.T) {
	t.Parallel()
	delegated := 0
	for path, item := range theContract.Paths.Map() {
		for method, o := range item.Operations() {
			takes := 0
			for _, name := range []string{"Crossbill-On-Behalf-Of", "Crossbill-Reason"} {
				if o.Parameters.GetByInAndName("header", name) != nil {
					takes++
				}
			}
			want := 2
			if method == http.MethodGet || undelegated[o.OperationID] != "" {
				want = 0
			}
			if takes != want {
				t.Errorf("%s %s takes %d headers of delegation, want %d", method, path, takes, want)
			}
			delegated += takes / 2
		}
	}
	if delegated < 60 {
		t.Errorf("only %d operations are delegated", delegated)
	}
}

// TestScopesAreKnown holds every operation's x-scopes to the closed set; an operation that is not public has some.
func TestScopesAreKnown(t *testing.T) {
	t.Parallel()
	for id, operation := range contractOperations() {
		scopes, _ := operation.Extensions["x-scopes"].([]any)
		if isPublic := slices.Contains(public, id); isPublic != (len(scopes) == 0) {
			t.Errorf("%s has the scopes %v", id, scopes)
		}
		for _, scope := range scopes {
			if !slices.Contains(api.Scopes, scope.(string)) {
				t.Errorf("%s has the scope %v, and there is none", id, scope)
			}
		}
	}
}

// refused asserts a problem of one of the statuses, and that nothing was appended.
func (m *market) refused(what string, before int64, status int, p client.Problem, want ...int) {
	m.t.Helper()
	if !slices.Contains(want, status) {
		m.t.Errorf("%s: status %d, want %v: %s", what, status, want, p.Detail)
		return
	}
	if p.Code == "" || p.Detail == "" || p.Status != status {
		m.t.Errorf("%s: not a clear problem: %+v", what, p)
	}
	if after := int64(m.head()); after != before {
		m.t.Errorf("%s: %d events were appended", what, after-before)
	}
}

// secondAgent registers another edge node and returns its agent's key.
func (m *market) secondAgent() string {
	m.t.Helper()
	_, agent := m.edgeNode()
	return agent
}

func idsIn(path string) []string {
	var ids []string
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == ':' }) {
		if len(part) == 30 && part[3] == '_' {
			ids = append(ids, part)
		}
	}
	return ids
}

// TestEveryProblemIsPointedAt sends one body with several things wrong and wants all of them, each with its pointer.
func TestEveryProblemIsPointedAt(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	status, p, _ := m.do(m.customerKey, "POST", "/v1/quotes", []byte(`{"listing_id":"lst_1","bandwidth_mbps":0,"surprise":1}`))
	if status != http.StatusUnprocessableEntity || p.Errors == nil {
		t.Fatalf("status %d: %+v", status, p)
	}
	pointers := map[string]bool{}
	for _, e := range *p.Errors {
		pointers[e.Pointer] = true
	}
	for _, want := range []string{"/listing_id", "/bandwidth_mbps", "/surprise"} {
		if !pointers[want] {
			t.Errorf("nothing points at %s: %+v", want, *p.Errors)
		}
	}
	_, p, _ = m.do(m.customerKey, "POST", "/v1/quotes", []byte(`{}`))
	if p.Errors == nil || len(*p.Errors) != 2 {
		t.Errorf("two fields are missing: %+v", p.Errors)
	}
}

// TestWrongInSubstance is what a schema can't say.
func TestWrongInSubstance(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	fresh := m.takeQuote()
	before := int64(m.head())
	now := time.Now().UTC().Truncate(time.Second)

	order := func(change func(*client.NewOrder)) client.NewOrder {
		o := m.newOrder(fresh)
		change(&o)
		return o
	}
	terms := func(change func(*client.ListingTerms)) client.ListingTerms {
		l := m.terms()
		change(&l)
		return l
	}
	reading := func(change func(*client.Reading)) client.ReadingBatch {
		r := aReading(m.order.ConnectionId, now)
		change(&r)
		return client.ReadingBatch{Readings: []client.Reading{r}}
	}
	readings := "/v1/edge-nodes/" + m.nodeID + "/readings"
	small := fresh.Total
	small.Minor = 1
	for _, c := range []struct {
		what, key, path string
		body            any
		want            int
	}{
		{"a quote's hash that differs", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.QuoteHash = strings.Repeat("0", 64) }), 409},
		{"a total over max_total", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.MaxTotal = &small }), 422},
		{"a port of somebody else", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.PortId = m.providerPort }), 422},
		{"an unknown port", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.PortId = unknownID("prt") }), 422},
		{"a reserved ASN", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.Bgp.ASN = 23456 }), 422},
		{"a default route", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.Bgp.Prefixes = []string{"0.0.0.0/0"} }), 422},
		{"a prefix with host bits", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.Bgp.Prefixes = []string{"198.51.100.1/24"} }), 422},
		{"an unknown quote", m.customerKey, "/v1/orders", order(func(o *client.NewOrder) { o.QuoteId = unknownID("quo") }), 404},
		{"a quote used before", m.customerKey, "/v1/orders", m.newOrder(m.quote), 409},
		{"a bandwidth not on sale", m.customerKey, "/v1/quotes", client.NewQuote{ListingId: m.listing.Id, BandwidthMbps: 150}, 422},
		{"an unknown listing", m.customerKey, "/v1/quotes", client.NewQuote{ListingId: unknownID("lst"), BandwidthMbps: 100}, 404},
		{"a quote asked by a provider", m.providerKey, "/v1/quotes", m.newQuote(), 403},
		{"a listing by a customer", m.customerKey, "/v1/listings", m.terms(), 403},
		{"a listing on another's port", m.providerKey, "/v1/listings", terms(func(l *client.ListingTerms) { l.PortId = m.customerPort }), 422},
		{"tiers out of order", m.providerKey, "/v1/listings", terms(func(l *client.ListingTerms) {
			tiers := l.Plan.Charges[1].Tiers
			tiers[0], tiers[1] = tiers[1], tiers[0]
		}), 422},
		{"an unknown currency", m.providerKey, "/v1/listings", terms(func(l *client.ListingTerms) { l.Plan.Currency = "XXX" }), 422},
		{"two charges of one id", m.providerKey, "/v1/listings", terms(func(l *client.ListingTerms) { l.Plan.Charges[1].ID = "port" }), 422},
		{"an order accepted by its customer", m.customerKey, "/v1/orders/" + m.order.Id + ":accept", nil, 403},
		{"a slug that is taken", m.operatorKey, "/v1/organisations", client.NewOrganisation{Name: "X", Slug: "customer-one", Roles: []client.Role{client.RoleCustomer}}, 409},
		{"an interface that is taken", m.operatorKey, "/v1/ports", client.NewPort{EdgeNodeId: m.nodeID, OrganisationId: m.customerID, Name: "p", Interface: "port0", CapacityMbps: 1}, 409},
		{"a port on no node", m.operatorKey, "/v1/ports", client.NewPort{EdgeNodeId: unknownID("edg"), OrganisationId: m.customerID, Name: "p", Interface: "port7", CapacityMbps: 1}, 422},
		{"a period that ends before it begins", m.operatorKey, "/v1/billing-runs", client.NewBillingRun{GraceHours: noGrace, PeriodStart: now.Add(-time.Hour), PeriodEnd: now.Add(-2 * time.Hour)}, 422},
		{"an open period", m.operatorKey, "/v1/billing-runs", client.NewBillingRun{GraceHours: noGrace, PeriodStart: now.Add(-time.Hour), PeriodEnd: now.Add(time.Hour)}, 422},
		{"a reading for an unknown connection", m.agentKey, readings, reading(func(r *client.Reading) { r.ConnectionId = unknownID("con") }), 404},
		{"a reading for a connection not on the node", m.agentKey, readings, reading(func(*client.Reading) {}), 404},
		{"an observation of an unknown connection", m.agentKey, "/v1/edge-nodes/" + m.nodeID + "/observations",
			client.ObservationReport{Kind: client.EdgeKindEbpf, Observations: []client.Observation{{ConnectionId: unknownID("con")}}}, 404},
		{"the end of a connection that never began", m.customerKey, "/v1/connections/" + m.order.ConnectionId + ":terminate", client.Reason{Reason: "x"}, 409},
	} {
		status, p, _ := m.do(c.key, "POST", c.path, c.body)
		m.refused(c.what, before, status, p, c.want)
	}
}
