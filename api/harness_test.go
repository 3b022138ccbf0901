package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api"
	"crossbill/api/authority"
	"crossbill/api/client"
	"crossbill/billing/runs"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/pricing"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/events/vault"
	"crossbill/projections"
	"crossbill/provisioning"
)

// agentLife is how long agents' certificates are good here: tests that move the clock by months go on with those they have.
const agentLife = 3 * 365 * 24 * time.Hour

// market is a running platform with a provider, a customer, an edge node and a published listing.
type market struct {
	t     *testing.T
	ahead atomic.Int64 // nanoseconds that the platform's clock is ahead of the machine's
	url   string
	pool  *pgxpool.Pool
	log   *events.Log
	vault string // the file of the key that others' keys are wrapped with
	// runner runs the read models.
	runner    *projections.Runner
	authority *authority.Authority
	shown     sync.Map // certificates that overTLS takes, by the text that stands for each
	adminKey  string   // of the customer's, with the scope admin alone
	meterKey  string   // of the provider's, with the scope meter alone

	operator, provider, customer, stranger, agent                *client.Client
	operatorKey, providerKey, customerKey, strangerKey, agentKey string
	providerID, customerID, nodeID, providerPort, customerPort   string
	listing                                                      client.Listing
	quote                                                        client.Quote
	order                                                        client.Order
	strangerID                                                   string
	invoiceID, settlementID                                      string // "" before keepBooks
	key                                                          int
	accountID, budgetID                                          string // of the customer
}

// newMarket starts one on a database of its own. Every answer that its clients get is checked against the contract.
func newMarket(t *testing.T) *market {
	t.Helper()
	ctx := context.Background()
	m := &market{t: t, pool: pgtest.New(t), vault: filepath.Join(t.TempDir(), "vault.key")}
	codec, err := events.NewCodec(vocabulary.Events()...)
	must(t, err)
	signer, err := events.LoadOrCreateSigner(filepath.Join(t.TempDir(), "log.key"), "test.example/log")
	must(t, err)
	keys, err := vault.Open(ctx, m.pool, vault.KeyFile(m.vault), vault.Options{})
	must(t, err)
	t.Cleanup(keys.Close)
	m.log, err = events.Open(ctx, m.pool, codec, events.Options{Signer: signer, Clock: m.now, Vault: keys})
	must(t, err)
	t.Cleanup(m.log.Close)
	must(t, provisioning.Migrate(ctx, m.pool))
	must(t, runs.Migrate(ctx, m.pool))
	provisioner, err := provisioning.New(provisioning.Options{Pool: m.pool, Log: m.log, Clock: m.now, ProbePause: time.Millisecond})
	must(t, err)
	biller, err := runs.New(runs.Options{Pool: m.pool, Log: m.log, Clock: m.now, Tick: 24 * time.Hour}) // months are closed by tests alone
	must(t, err)
	m.runner = startRunner(t, m.pool, m.log, append(projections.All(), provisioner.Projection(), biller.Projection()))
	must(t, provisioner.Start(ctx))
	t.Cleanup(func() { provisioner.Stop(context.Background()) })
	must(t, biller.Start(ctx))
	t.Cleanup(func() { biller.Stop(context.Background()) })

	m.authority, err = authority.Open(filepath.Join(t.TempDir(), "edge-authority.pem"))
	must(t, err)
	handler, err := api.New(api.Options{
		Authority: m.authority, CertificateLife: agentLife, Log: m.log, Pool: m.pool, Waiter: m.runner, VerifierKey: signer.VerifierKey(),
		ReadingInterval: time.Second, Now: m.now,
	})
	must(t, err)
	server := httptest.NewServer(m.overTLS(handler))
	t.Cleanup(server.Close)
	m.url = server.URL

	_, m.operatorKey = m.mint("operator", api.ScopeOperate)
	m.operator = m.client(m.operatorKey)
	return m
}

// mint appends a key for an organisation id derived from a name.
func (m *market) mint(organisation string, scopes ...string) (id, token string) {
	m.t.Helper()
	return m.mintFor(domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), organisation), scopes...)
}

// mintFor appends a key for an organisation: a program's, or, with scopes that no program can have, a person's.
func (m *market) mintFor(org string, scopes ...string) (id, token string) {
	m.t.Helper()
	kind := apikey.KindProgram
	if slices.Contains(scopes, api.ScopeAdmin) || slices.Contains(scopes, api.ScopeApprove) {
		kind = apikey.KindPerson
	}
	return m.mintAs(org, apikey.Principal{Kind: kind, ID: "test", Name: "Test"}, scopes...)
}

// mintAs appends a key for a principal of an organisation.
func (m *market) mintAs(organisationID string, principal apikey.Principal, scopes ...string) (id, token string) {
	m.t.Helper()
	id, token, stream, err := api.NewKey(time.Now().UTC(), rand.Reader, organisationID, principal, scopes...)
	must(m.t, err)
	stream.Events[0].Metadata.Parties = []string{organisationID}
	_, err = m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{stream}})
	must(m.t, err)
	return id, token
}

// mintExpired appends a key with every scope of an organisation, which expired a second ago.
func (m *market) mintExpired(organisationID string, principal apikey.Principal) (token string) {
	m.t.Helper()
	_, token, stream, err := api.NewKey(time.Now().UTC().Add(-time.Hour), rand.Reader, organisationID, principal, api.Scopes...)
	must(m.t, err)
	issued := stream.Events[0].Event.(apikey.Issued)
	ended := time.Now().UTC().Add(-time.Second)
	issued.ExpiresAt = &ended
	stream.Events[0].Event, stream.Events[0].Metadata.Parties = issued, []string{organisationID}
	_, err = m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{stream}})
	must(m.t, err)
	return token
}

// now is the platform's clock, which tests move on instead of waiting.
func (m *market) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())).UTC() }

func (m *market) client(key string) *client.Client {
	m.t.Helper()
	c, err := client.New(m.url, key, client.WithHTTPClient(&http.Client{Transport: contractTransport{m.t}}))
	must(m.t, err)
	return c
}

func (m *market) idempotencyKey() *string {
	m.key++
	k := fmt.Sprintf("key-%d", m.key)
	return &k
}

// open registers everybody and publishes the listing.
func (m *market) open() *market {
	m.t.Helper()
	ctx := context.Background()
	_, _, err := client.Decode[client.FeeSchedule](m.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{BasisPoints: 300}))
	must(m.t, err)
	m.providerID, m.providerKey = m.register("provider-one", client.RoleProvider)
	m.customerID, m.customerKey = m.register("customer-one", client.RoleCustomer)
	m.strangerID, m.strangerKey = m.register("stranger", client.RoleCustomer, client.RoleProvider)
	_, m.adminKey = m.mintFor(m.customerID, api.ScopeAdmin)
	_, m.meterKey = m.mintFor(m.providerID, api.ScopeMeter)
	m.provider, m.customer, m.stranger = m.client(m.providerKey), m.client(m.customerKey), m.client(m.strangerKey)
	m.nodeID, m.agentKey = m.edgeNode()
	m.agent = m.client(m.agentKey)
	m.providerPort = m.port(m.providerID, "port1")
	m.customerPort = m.port(m.customerID, "port0")
	listing, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, m.terms()))
	must(m.t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, listing.Id, nil))
	must(m.t, err)
	m.accountID, m.budgetID = m.defaultAccount(), m.budget()
	return m
}

func (m *market) register(slug string, roles ...client.Role) (id, key string) {
	m.t.Helper()
	made, _, err := client.Decode[client.OrganisationWithKey](m.operator.CreateOrganisation(context.Background(), nil,
		client.NewOrganisation{Name: slug, Slug: slug, Roles: roles}))
	must(m.t, err)
	return made.Organisation.Id, made.ApiKey.Secret
}

func (m *market) port(organisation, iface string) string {
	m.t.Helper()
	port, _, err := client.Decode[client.Port](m.operator.CreatePort(context.Background(), nil, client.NewPort{
		EdgeNodeId: m.nodeID, OrganisationId: organisation, Name: iface, Interface: iface, CapacityMbps: 1000,
	}))
	must(m.t, err)
	return port.Id
}

func newEdgeNode() client.NewEdgeNode {
	return client.NewEdgeNode{Name: "pop-1", Metro: "Amsterdam", Facility: "Facility", Asn: 64512, RouterId: "192.0.2.1"}
}

// terms are those of rebill.md's worked example A.
func (m *market) terms() client.ListingTerms {
	upTo := func(s string) *domain.Decimal { d := domain.MustDecimal(s); return &d }
	return client.ListingTerms{
		Title: "Private Connect 100 Mbps", Description: "A private connection.", Category: "private_connect",
		PortId: m.providerPort, Metro: "Amsterdam", BandwidthsMbps: []int{100, 200}, Approval: client.ListingTermsApprovalManual,
		Bgp: domain.BGP{ASN: 65020, Prefixes: []string{"203.0.113.0/24"}},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
			{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400.00")},
			{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
				Model: pricing.ModelGraduated, Tiers: []pricing.Tier{
					{UpTo: upTo("1000"), Price: domain.MustDecimal("0.05")}, {Price: domain.MustDecimal("0.01")},
				}},
		}},
	}
}

func (m *market) newQuote() client.NewQuote {
	estimate := domain.MustDecimal("2000")
	return client.NewQuote{ListingId: m.listing.Id, BandwidthMbps: 100, EstimatedGb: &estimate}
}

func (m *market) takeQuote() client.Quote {
	m.t.Helper()
	q, _, err := client.Decode[client.Quote](m.customer.CreateQuote(context.Background(), nil, m.newQuote()))
	must(m.t, err)
	return q
}

func (m *market) newOrder(q client.Quote) client.NewOrder {
	purchaseOrder := "PO-1"
	return client.NewOrder{
		QuoteId: q.Id, QuoteHash: q.Hash, PortId: m.customerPort, MaxTotal: &q.Total, PurchaseOrder: &purchaseOrder,
		Bgp: domain.BGP{ASN: 65010, Prefixes: []string{"198.51.100.0/24"}},
	}
}

// place takes a quote and orders from it.
func (m *market) place() client.Order {
	m.t.Helper()
	m.quote = m.takeQuote()
	var err error
	m.order, _, err = client.Decode[client.Order](m.customer.PlaceOrder(context.Background(), nil, m.newOrder(m.quote)))
	must(m.t, err)
	return m.order
}

// head is the log's size, for tests that nothing was appended.
func (m *market) head() events.Position {
	m.t.Helper()
	head, err := m.log.Head(context.Background())
	must(m.t, err)
	return head.Position
}

// do sends a request as it is, past the client, and returns status, problem and body.
func (m *market) do(key, method, path string, body any, headers ...string) (int, client.Problem, []byte) {
	m.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		reader = bytes.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		must(m.t, err)
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequest(method, m.url+path, reader)
	must(m.t, err)
	if reader != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := (&http.Client{Transport: contractTransport{m.t}}).Do(r)
	must(m.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	must(m.t, err)
	var p client.Problem
	if response.Header.Get("Content-Type") == "application/problem+json" {
		must(m.t, json.Unmarshal(content, &p))
	}
	return response.StatusCode, p, content
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// theContract is openapi.yaml as tests read it, with a router over it.
var theContract, contractRouter = func() (*openapi3.T, routers.Router) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		panic(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return doc, router
}()

// contractTransport fails the test for an answer that the contract does not describe.
type contractTransport struct{ t *testing.T }

func (c contractTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || response.Header.Get("Content-Type") == "text/event-stream" {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := contractRouter.FindRoute(r)
	if err != nil { // nothing of the contract: it must say so as a problem
		if response.Header.Get("Content-Type") != "application/problem+json" {
			c.t.Errorf("%s %s answered %s without a problem", r.Method, r.URL.Path, response.Status)
		}
		return response, nil
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		c.t.Errorf("%s %s answered %d, which the contract does not describe: %v\n%.600s", r.Method, r.URL.Path, response.StatusCode, err, body)
	}
	return response, nil
}

func startRunner(t *testing.T, pool *pgxpool.Pool, log *events.Log, all []projections.Projection) *projections.Runner {
	t.Helper()
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: log, Projections: all})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { runner.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return runner
}
