package api_test

import (
	"context"
	"encoding/json"
	"fmt"
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
	unknownInvoice, unknownSettlement := unknownID("inv"), unknownID("set")
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
		{"terminateConnection", "POST", "/v1/connections/" + m.order.ConnectionId + ":terminate", m.customerKey, client.Reason{Reason: "done"}},
		{"getUsage", "GET", "/v1/connections/" + m.order.ConnectionId + "/usage", m.customerKey, nil},
		{"createBillingRun", "POST", "/v1/billing-runs", m.operatorKey, client.NewBillingRun{PeriodStart: now.Add(-2 * time.Hour), PeriodEnd: now.Add(-time.Hour)}},
		{"listInvoices", "GET", "/v1/invoices", m.customerKey, nil},
		{"getInvoice", "GET", "/v1/invoices/" + unknownInvoice, m.customerKey, nil},
		{"payInvoice", "POST", "/v1/invoices/" + unknownInvoice + ":pay", m.customerKey, nil},
		{"explainInvoiceLine", "GET", "/v1/invoices/" + unknownInvoice + "/lines/1/explain", m.customerKey, nil},
		{"listSettlements", "GET", "/v1/settlements", m.providerKey, nil},
		{"getSettlement", "GET", "/v1/settlements/" + unknownSettlement, m.providerKey, nil},
		{"exportInvoices", "GET", "/v1/exports/invoices.csv", m.customerKey, nil},
		{"exportSettlements", "GET", "/v1/exports/settlements.csv", m.providerKey, nil},
		{"listEvents", "GET", "/v1/events", m.customerKey, nil},
		{"getEventProof", "GET", "/v1/events/1/proof", m.operatorKey, nil},
		{"bundleInvoiceLine", "GET", "/v1/invoices/" + unknownInvoice + "/lines/1/bundle", m.customerKey, nil},
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
var public = []string{"getHealth", "getCheckpoint", "getLogKey", "getInclusionProof", "getConsistencyProof"}

func contractOperations() map[string]*openapi3.Operation {
	all := map[string]*openapi3.Operation{}
	for _, item := range theContract.Paths.Map() {
		for _, operation := range item.Operations() {
			all[operation.OperationID] = operation
		}
	}
	return all
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

func TestEveryOperationIsTried(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, o := range everyOperation(&market{key: 0, customerKey: "cbk_x_y"}) {
		tried[o.id] = true
	}
	for id := range contractOperations() {
		if !tried[id] && !slices.Contains(public, id) {
			t.Errorf("no test tries %s", id)
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

func TestWithoutTheRightKey(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	_, scopeless := m.mint("scopeless", "nothing")
	revokedID, revoked := m.mint("revoked", api.ScopeTrade)
	if status, _, _ := m.do(revoked, "POST", "/v1/api-keys/"+revokedID+":revoke", nil); status != http.StatusNoContent {
		t.Fatalf("revoking answered %d", status)
	}
	forged := m.customerKey[:len(m.customerKey)-1] + "A"
	if forged == m.customerKey {
		forged = m.customerKey[:len(m.customerKey)-1] + "B"
	}
	before := int64(m.head())
	for _, o := range everyOperation(m) {
		for name, key := range map[string]string{"no key": "", "a revoked key": revoked, "a forged key": forged, "nonsense": "cbk_", "another kind": "sk_1"} {
			status, p, _ := m.do(key, o.method, o.path, o.body)
			m.refused(o.id+" with "+name, before, status, p, http.StatusUnauthorized)
		}
		status, p, _ := m.do(scopeless, o.method, o.path, o.body)
		m.refused(o.id+" without the scope", before, status, p, http.StatusForbidden)
	}
}

// TestStrangersSeeNothing asks for everything that is somebody's with another organisation's key. The answer is that of
// a thing that is not there, to the byte but for its name.
func TestStrangersSeeNothing(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	otherAgent := m.secondAgent()
	before := int64(m.head())
	for _, o := range everyOperation(m) {
		key := m.strangerKey
		ids := idsIn(o.path)
		if len(ids) == 0 || slices.Contains(everybodys, o.id) {
			continue
		}
		if o.key == m.agentKey {
			key = otherAgent
		}
		unknown := o.path
		for _, id := range ids {
			unknown = strings.ReplaceAll(unknown, id, unknownID(id[:3]))
		}
		if slices.Contains(seenButForbidden, o.id) {
			status, p, _ := m.do(key, o.method, o.path, o.body)
			m.refused(o.id+" of another", before, status, p, http.StatusForbidden)
			continue
		}
		status, p, body := m.do(key, o.method, o.path, o.body)
		m.refused(o.id+" of another", before, status, p, http.StatusNotFound)
		status, p, ofNothing := m.do(key, o.method, unknown, o.body)
		m.refused(o.id+" of nothing", before, status, p, http.StatusNotFound)
		for _, id := range ids {
			ofNothing = []byte(strings.ReplaceAll(string(ofNothing), unknownID(id[:3]), id))
		}
		if string(body) != string(ofNothing) {
			t.Errorf("%s tells whether the thing exists:\n%s%s", o.id, body, ofNothing)
		}
	}
	for _, path := range []string{"/v1/orders", "/v1/connections", "/v1/invoices", "/v1/settlements", "/v1/events"} {
		_, _, body := m.do(m.strangerKey, "GET", path, nil)
		for _, secret := range []string{m.order.Id, m.order.ConnectionId, m.quote.Id, m.customerID, m.providerID} {
			if strings.Contains(string(body), secret) {
				t.Errorf("%s shows a stranger %s", path, secret)
			}
		}
	}
}

// secondAgent registers another edge node and returns its agent's key.
func (m *market) secondAgent() string {
	m.t.Helper()
	node, _, err := client.Decode[client.EdgeNodeWithKey](m.operator.CreateEdgeNode(context.Background(), nil, newEdgeNode()))
	must(m.t, err)
	return node.ApiKey.Secret
}

// everybodys are operations on things that are everybody's to see: listings on the market, locations.
var everybodys = []string{"getListing", "listListingVersions", "getListingVersion", "estimateListing", "getLocation"}

// seenButForbidden are operations on a listing, which everybody sees, that are its provider's or an operator's.
var seenButForbidden = []string{"updateDraft", "submitListing", "publishListing", "retireListing", "approveListing", "rejectListing"}

func idsIn(path string) []string {
	var ids []string
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == ':' }) {
		if len(part) == 30 && part[3] == '_' {
			ids = append(ids, part)
		}
	}
	return ids
}

func TestMalformedIDsAndParameters(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	before := int64(m.head())
	for _, o := range everyOperation(m) {
		for _, id := range idsIn(o.path) {
			for _, bad := range []string{id[:4] + "x", "ord-1", strings.ToUpper(id), id[:29] + "u", id + "0", "%00", "%ff"} {
				status, p, _ := m.do(o.key, o.method, strings.Replace(o.path, id, bad, 1), o.body)
				m.refused(o.id+" with id "+bad, before, status, p, http.StatusUnprocessableEntity, http.StatusNotFound)
			}
		}
	}
	for _, path := range []string{
		"/v1/listings?limit=0", "/v1/listings?limit=501", "/v1/listings?limit=x", "/v1/listings?bandwidth_mbps=0",
		"/v1/listings?bandwidth_mbps=9999999", "/v1/listings?page_token=nonsense", "/v1/listings?at_position=-1",
		"/v1/listings?q=" + strings.Repeat("x", 201), "/v1/orders?page_token=%00", "/v1/connections?limit=1e9",
		"/v1/events?after=-1", "/v1/events?after=x",
	} {
		status, p, _ := m.do(m.customerKey, "GET", path, nil)
		m.refused(path, before, status, p, http.StatusUnprocessableEntity)
	}
	status, p, _ := m.do(m.customerKey, "GET", "/v1/nothing", nil)
	m.refused("an unknown path", before, status, p, http.StatusNotFound)
	status, p, _ = m.do(m.customerKey, "DELETE", "/v1/orders", nil)
	m.refused("an unknown method", before, status, p, http.StatusNotFound, http.StatusMethodNotAllowed)
}

// TestBadBodies makes each field of each request body wrong in every way its schema and its kind allow.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	before := int64(m.head())
	specs := contractOperations()
	for _, o := range everyOperation(m) {
		if o.body == nil {
			continue
		}
		tried := 0
		try := func(what string, body any) {
			tried++
			status, p, _ := m.do(o.key, o.method, o.path, body)
			m.refused(o.id+" with "+what, before, status, p, http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
		}
		encoded, err := json.Marshal(o.body)
		must(t, err)
		try("no body", []byte{})
		try("half a body", encoded[:len(encoded)/2])
		try("a list", []byte("[]"))
		try("null", []byte("null"))
		try("broken UTF-8", []byte("{\"name\":\"\xff\xfe\"}"))
		try("a megabyte", []byte(`{"x":"`+strings.Repeat("x", api.MaxBodyBytes)+`"}`))

		schema := specs[o.id].RequestBody.Value.Content["application/json"].Schema.Value
		var valid any
		must(t, json.Unmarshal(encoded, &valid))
		mutate(schema, valid, "", func(what string, change func() (undo func())) {
			undo := change()
			try(what, valid)
			undo()
		})
		if tried < 10 {
			t.Errorf("%s: only %d bad bodies were tried", o.id, tried)
		}
	}
}

// mutate walks a valid body along its schema and calls try with one wrong thing at a time.
func mutate(schema *openapi3.Schema, value any, at string, try func(what string, change func() (undo func()))) {
	switch v := value.(type) {
	case map[string]any:
		set := func(name string, bad any) func() func() {
			return func() func() {
				old, had := v[name]
				v[name] = bad
				return func() {
					if had {
						v[name] = old
					} else {
						delete(v, name)
					}
				}
			}
		}
		try(at+"/unknown field", set("no_such_field", 1))
		for _, name := range schema.Required {
			try(at+"/"+name+" missing", func() func() {
				old := v[name]
				delete(v, name)
				return func() { v[name] = old }
			})
		}
		for name, property := range schema.Properties {
			if _, has := v[name]; !has {
				continue
			}
			for what, bad := range badValues(property.Value) {
				try(fmt.Sprintf("%s/%s %s", at, name, what), set(name, bad))
			}
			mutate(property.Value, v[name], at+"/"+name, try)
		}
	case []any:
		for i := range v {
			for what, bad := range badValues(schema.Items.Value) {
				try(fmt.Sprintf("%s/%d %s", at, i, what), func() func() {
					old := v[i]
					v[i] = bad
					return func() { v[i] = old }
				})
			}
			mutate(schema.Items.Value, v[i], fmt.Sprintf("%s/%d", at, i), try)
		}
	}
}

// badValues are values outside what the schema allows.
func badValues(s *openapi3.Schema) map[string]any {
	bad := map[string]any{"null": nil}
	switch {
	case s.Type.Is("string"):
		bad["a number"] = 7
		if s.MaxLength != nil {
			bad["too long"] = strings.Repeat("x", int(*s.MaxLength)+1)
		}
		if s.MinLength > 0 {
			bad["empty"] = ""
		}
		if s.Pattern != "" || len(s.Enum) > 0 || s.Format == "date-time" {
			bad["not of its form"] = "no such thing"
			bad["empty"] = ""
		}
	case s.Type.Is("integer"):
		bad["a string"] = "7"
		bad["a fraction"] = 1.5
		if s.Min != nil {
			bad["too small"] = *s.Min - 1
		}
		if s.Max != nil {
			bad["too large"] = *s.Max + 1
		}
	case s.Type.Is("boolean"):
		bad["a string"] = "true"
	case s.Type.Is("array"):
		bad["an object"] = map[string]any{}
		if s.MinItems > 0 {
			bad["empty"] = []any{}
		}
		if s.MaxItems != nil {
			bad["too many"] = make([]any, *s.MaxItems+1)
		}
	case s.Type.Is("object"):
		bad["a list"] = []any{}
		bad["a string"] = "{}"
	}
	return bad
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
		{"a period that ends before it begins", m.operatorKey, "/v1/billing-runs", client.NewBillingRun{PeriodStart: now.Add(-time.Hour), PeriodEnd: now.Add(-2 * time.Hour)}, 422},
		{"an open period", m.operatorKey, "/v1/billing-runs", client.NewBillingRun{PeriodStart: now.Add(-time.Hour), PeriodEnd: now.Add(time.Hour)}, 422},
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
