package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/pricing"
)

// What the demo sells, to whom, and how much crosses.
const (
	demoTitle     = "Private Connect 10 Gbps"
	demoMbps      = 10_000     // more than a veth pair carries: what the policer drops is on the wire and on no invoice
	demoBytes     = 64 << 20   // of payload that the transfer sends
	demoLeast     = 50_000_000 // of them that must arrive before it ends
	demoEdgeASN   = 64512
	demoFeePoints = 300

	demoReadingInterval = time.Second
	demoStepTimeout     = 40 * time.Second // for any one wait
)

var (
	demoCustomerBGP = domain.BGP{ASN: 65010, Prefixes: []string{"198.51.100.0/24"}} // RFC 5737 documentation prefixes
	demoProviderBGP = domain.BGP{ASN: 65020, Prefixes: []string{"203.0.113.0/24"}}
)

// demoPlan has the shape of the rebill document's worked example A, with prices that show on a small transfer.
func demoPlan() pricing.Plan {
	to := func(s string) *domain.Decimal { d := domain.MustDecimal(s); return &d }
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Private Connect 10 Gbps, per month", Amount: domain.MustDecimal("400.00")},
		{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic, both directions", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
			Model: pricing.ModelGraduated, Tiers: []pricing.Tier{
				{UpTo: to("0.05"), Price: domain.MustDecimal("5.00")},
				{Price: domain.MustDecimal("2.00")},
			}},
	}}
}

// demoResult is the demo's last line: what was measured at each stage. All three byte counts must be equal, and so must
// passthrough and settlement.
type demoResult struct {
	Edge         string `json:"edge"`
	BGP          string `json:"bgp"`
	BytesWire    uint64 `json:"bytes_wire"`
	BytesMetered uint64 `json:"bytes_metered"`
	BytesBilled  uint64 `json:"bytes_billed"`
	Passthrough  string `json:"passthrough"`
	Settlement   string `json:"settlement"`
	Fee          string `json:"fee"`
	InvoiceTotal string `json:"invoice_total"`
	Currency     string `json:"currency"`
	Events       int64  `json:"events"`
	LogSize      int64  `json:"log_size"`
	LogRoot      string `json:"log_root"`
	LogVerified  bool   `json:"log_verified"`
	OK           bool   `json:"ok"`
}

// scene is the system with its actors: what demo plays through and what run leaves standing.
type scene struct {
	story    *story
	platform *platform.Platform
	network  demoNetwork
	outDir   string

	operator, provider, customer *client.Client
	providerKey, customerKey     string
	providerID, customerID       string
	edgeNodeID                   string
	providerPort, customerPort   string

	listing    client.Listing
	order      client.Order
	connection client.Connection
	production time.Time // the instant traffic began to cross
	key        int       // of the next idempotency key
}

// idempotencyKey returns a key that no earlier call of this scene used.
func (d *scene) idempotencyKey() *string {
	d.key++
	k := fmt.Sprintf("demo-%d", d.key)
	return &k
}

// stageInventory registers the fee, the organisations, the edge node and its ports, and starts the node's agent.
func (d *scene) stageInventory(ctx context.Context) error {
	var err error
	if d.operator, err = client.New(d.platform.URL, d.platform.OperatorKey); err != nil {
		return err
	}
	fee, _, err := client.Decode[client.FeeSchedule](d.operator.PublishFeeSchedule(ctx,
		&client.PublishFeeScheduleParams{IdempotencyKey: d.idempotencyKey()}, client.NewFeeSchedule{BasisPoints: demoFeePoints}))
	if err != nil {
		return fmt.Errorf("publish the fee schedule: %w", err)
	}
	d.story.say("Operator", "publishes the platform's fee: %d basis points of the passthrough, on a line of its own", fee.BasisPoints)

	if d.providerID, d.provider, d.providerKey, err = d.register(ctx, "Northlight Networks", "northlight", client.RoleProvider); err != nil {
		return err
	}
	if d.customerID, d.customer, d.customerKey, err = d.register(ctx, "Harbour Analytics", "harbour", client.RoleCustomer); err != nil {
		return err
	}
	node, _, err := client.Decode[client.EdgeNode](d.operator.CreateEdgeNode(ctx,
		&client.CreateEdgeNodeParams{IdempotencyKey: d.idempotencyKey()}, client.NewEdgeNode{
			Name: "pop-1", Metro: "Amsterdam", Facility: "Demonstration facility", Asn: demoEdgeASN, RouterId: "192.0.2.1",
		}))
	if err != nil {
		return fmt.Errorf("register the edge node: %w", err)
	}
	d.edgeNodeID = node.Id
	customerInterface, providerInterface := d.network.ports()
	if d.customerPort, err = d.registerPort(ctx, d.customerID, "Harbour port", customerInterface); err != nil {
		return err
	}
	if d.providerPort, err = d.registerPort(ctx, d.providerID, "Northlight port", providerInterface); err != nil {
		return err
	}
	d.story.say("Operator", "registers edge node pop-1 in Amsterdam, and a port on it for each")
	token, _, err := client.Decode[client.JoinToken](d.operator.CreateJoinToken(ctx, node.Id,
		&client.CreateJoinTokenParams{IdempotencyKey: d.idempotencyKey()}, client.NewJoinToken{}))
	if err != nil {
		return fmt.Errorf("make a join token: %w", err)
	}
	if err := d.network.startAgent(ctx, d.platform, token.Token); err != nil {
		return fmt.Errorf("start the edge agent: %w", err)
	}
	d.story.say("Edge", "agent of pop-1 joined with a one-time token and started (%s)", d.network.edge())
	return nil
}

func (d *scene) register(ctx context.Context, name, slug string, role client.Role) (id string, c *client.Client, key string, _ error) {
	made, _, err := client.Decode[client.OrganisationWithKey](d.operator.CreateOrganisation(ctx,
		&client.CreateOrganisationParams{IdempotencyKey: d.idempotencyKey()},
		client.NewOrganisation{Name: name, Slug: slug, Roles: []client.Role{role}}))
	if err != nil {
		return "", nil, "", fmt.Errorf("register %s: %w", name, err)
	}
	d.story.say("Operator", "registers %s (%s)", name, role)
	c, err = client.New(d.platform.URL, made.ApiKey.Secret)
	return made.Organisation.Id, c, made.ApiKey.Secret, err
}

func (d *scene) registerPort(ctx context.Context, organisationID, name, iface string) (string, error) {
	port, _, err := client.Decode[client.Port](d.operator.CreatePort(ctx,
		&client.CreatePortParams{IdempotencyKey: d.idempotencyKey()}, client.NewPort{
			EdgeNodeId: d.edgeNodeID, OrganisationId: organisationID, Name: name, Interface: iface, CapacityMbps: 10_000,
		}))
	if err != nil {
		return "", fmt.Errorf("register %s: %w", name, err)
	}
	return port.Id, nil
}

// stageOrder lists the service, finds it, prices it, orders it and accepts the order.
func (d *scene) stageOrder(ctx context.Context) error {
	listing, _, err := client.Decode[client.Listing](d.provider.CreateListing(ctx,
		&client.CreateListingParams{IdempotencyKey: d.idempotencyKey()}, client.ListingTerms{
			Title: demoTitle, Description: "A private layer-3 connection with BGP, metered to the byte.",
			Category: "private_connect", PortId: d.providerPort, Metro: "Amsterdam", BandwidthsMbps: []int{demoMbps},
			Approval: client.ListingTermsApprovalManual, Bgp: demoProviderBGP, Plan: demoPlan(),
		}))
	if err != nil {
		return fmt.Errorf("draft the listing: %w", err)
	}
	listing, position, err := client.Decode[client.Listing](d.provider.PublishListing(ctx, listing.Id,
		&client.PublishListingParams{IdempotencyKey: d.idempotencyKey()}))
	if err != nil {
		return fmt.Errorf("publish the listing: %w", err)
	}
	d.story.say("Provider", "lists %q: 400.00 USD a month, and traffic at 5.00 USD a GB, 2.00 above 0.05 GB", listing.Terms.Title)

	words, mbps := "private connect", demoMbps
	found, _, err := client.Decode[client.ListingPage](d.customer.SearchListings(ctx,
		&client.SearchListingsParams{Q: &words, BandwidthMbps: &mbps, AtPosition: &position}))
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	if len(found.Items) != 1 || found.Items[0].Id != listing.Id {
		return fmt.Errorf("the search found %d listings, not the one published", len(found.Items))
	}
	d.listing = found.Items[0]
	d.story.say("Customer", "searches %q at %d Mbps and finds it", words, mbps)

	estimate := domain.MustDecimal("0.07")
	quote, _, err := client.Decode[client.Quote](d.customer.CreateQuote(ctx, &client.CreateQuoteParams{IdempotencyKey: d.idempotencyKey()},
		client.NewQuote{ListingId: d.listing.Id, BandwidthMbps: demoMbps, EstimatedGb: &estimate}))
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	d.story.say("Customer", "takes a quote: for a month with %s GB, %s", estimate, quote.Total)
	for _, line := range quote.Lines {
		d.story.detail("%-11s %-42s %14s", line.Kind, line.Description, line.Amount)
	}

	order := client.NewOrder{QuoteId: quote.Id, QuoteHash: quote.Hash, PortId: d.customerPort, Bgp: demoCustomerBGP, MaxTotal: &quote.Total}
	dry := true
	if _, _, err := client.Decode[client.Order](d.customer.PlaceOrder(ctx, &client.PlaceOrderParams{DryRun: &dry}, order)); err != nil {
		return fmt.Errorf("dry run of the order: %w", err)
	}
	if d.order, _, err = client.Decode[client.Order](d.customer.PlaceOrder(ctx, &client.PlaceOrderParams{IdempotencyKey: d.idempotencyKey()}, order)); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	d.story.say("Customer", "orders it (after a dry run): %s is %s", d.order.Id, d.order.State)
	if d.order, _, err = client.Decode[client.Order](d.provider.AcceptOrder(ctx, d.order.Id, &client.AcceptOrderParams{IdempotencyKey: d.idempotencyKey()})); err != nil {
		return fmt.Errorf("accept the order: %w", err)
	}
	d.story.say("Provider", "accepts the order; the saga starts")
	return nil
}

// stageConnection waits for the saga and configures the two routers from what the API tells their owners.
func (d *scene) stageConnection(ctx context.Context) error {
	if err := d.awaitConnection(ctx, client.ConnectionStateTesting); err != nil {
		return err
	}
	theirs, _, err := client.Decode[client.Connection](d.provider.GetConnection(ctx, d.order.ConnectionId))
	if err != nil {
		return fmt.Errorf("read the connection: %w", err)
	}
	if d.connection.Attachment == nil || theirs.Attachment == nil {
		return errors.New("the connection in testing has no attachments")
	}
	a, z := *d.connection.Attachment, *theirs.Attachment
	d.story.say("Saga", "allocated VLAN %d on the customer's port and VLAN %d on the provider's", a.Vlan, z.Vlan)
	if err := d.network.configureRouter(ctx, "a", a); err != nil {
		return fmt.Errorf("configure the customer's router: %w", err)
	}
	d.story.say("Customer", "configures its router from the API: %s", routerLinks(a))
	crossed, err := d.network.ping(ctx)
	if err != nil {
		return fmt.Errorf("ping before production: %w", err)
	}
	if crossed {
		return errors.New("a ping crossed before production")
	}
	d.story.say("Customer", "pings the provider's network: no reply, as it should be before production")
	if err := d.network.configureRouter(ctx, "z", z); err != nil {
		return fmt.Errorf("configure the provider's router: %w", err)
	}
	d.story.say("Provider", "configures its router: %s", routerLinks(z))

	if err := d.awaitConnection(ctx, client.ConnectionStateProduction); err != nil {
		return err
	}
	d.production = *d.connection.BillingFrom
	bgp, err := d.network.bgp(ctx)
	if err != nil {
		return err
	}
	d.story.say("Saga", "in production since %s; BGP: %s", d.production.Format(time.RFC3339Nano), bgp)
	if err := d.showRoutes(ctx); err != nil {
		return err
	}
	if crossed, err = d.network.ping(ctx); err != nil {
		return fmt.Errorf("ping in production: %w", err)
	}
	if !crossed {
		return errors.New("in production, and the ping did not cross")
	}
	d.story.say("Customer", "pings the provider's network: replies come back")
	return nil
}

// showRoutes shows that the routes have crossed: each router has the other's network.
func (d *scene) showRoutes(ctx context.Context) error {
	customer, provider, err := d.network.learned(ctx)
	if err != nil {
		return fmt.Errorf("read the routers' routes: %w", err)
	}
	if customer == nil && provider == nil {
		return nil
	}
	for _, want := range []struct {
		who     string
		learned []netip.Prefix
		network string
	}{{"customer", customer, demoProviderBGP.Prefixes[0]}, {"provider", provider, demoCustomerBGP.Prefixes[0]}} {
		if !slices.Contains(want.learned, netip.MustParsePrefix(want.network)) {
			return fmt.Errorf("the %s's router has not learned %s, only %v", want.who, want.network, want.learned)
		}
	}
	d.story.say("Routers", "have each other's network by BGP: the customer's %v, the provider's %v", customer, provider)
	return nil
}

// routerLinks says how a router is joined to the edge node, in each address family that there is.
func routerLinks(a client.RouterAttachment) string {
	var links []string
	for _, link := range [][2]*string{{a.Address, a.PeerAddress}, {a.Ipv6Address, a.Ipv6PeerAddress}} {
		if link[0] != nil && link[1] != nil {
			links = append(links, fmt.Sprintf("%s, AS %d towards %s AS %d", *link[0], a.Asn, *link[1], a.PeerAsn))
		}
	}
	return strings.Join(links, "; ")
}

// awaitConnection polls the connection until it is in the state.
func (d *scene) awaitConnection(ctx context.Context, state client.ConnectionState) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	for {
		c, _, err := client.Decode[client.Connection](d.customer.GetConnection(ctx, d.order.ConnectionId))
		switch {
		case err == nil && c.State == state:
			d.connection = c
			return nil
		case err == nil && c.State == client.ConnectionStateCancelled:
			order, _, _ := client.Decode[client.Order](d.customer.GetOrder(ctx, d.order.Id))
			return fmt.Errorf("the connection was cancelled: %s", valueOr(order.Reason, "no reason given"))
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("read the connection: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the connection is not %s within %s, it is %q", state, demoStepTimeout, c.State)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// follow prints the events of the customer's slice of the log as they happen, until ctx ends.
func (d *scene) follow(ctx context.Context) error {
	response, err := d.customer.ListEvents(ctx, &client.ListEventsParams{}, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "text/event-stream")
		return nil
	})
	if err != nil {
		return err
	}
	go func() {
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var e client.Event
			if json.Unmarshal([]byte(data), &e) == nil && e.Type != "reading.recorded" {
				d.story.detail("· #%d %s%s", e.Position, e.Type, eventNote(e))
			}
		}
	}()
	return nil
}

// eventNote picks what is worth a word from an event's payload.
func eventNote(e client.Event) string {
	var data struct {
		Side, State, Reason string
		Passed              *bool
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return ""
	}
	var words []string
	for _, w := range []string{data.Side, data.State, data.Reason} {
		if w != "" {
			words = append(words, w)
		}
	}
	if data.Passed != nil {
		words = append(words, fmt.Sprintf("passed=%t", *data.Passed))
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, " ") + ")"
}

// save writes a file of the demo's output.
func (d *scene) save(name string, content []byte) error {
	return os.WriteFile(filepath.Join(d.outDir, name), content, 0o644)
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// readingsUntil returns every reading of the connection that ends by t.
func (d *scene) readingsUntil(ctx context.Context, t time.Time) ([]client.RecordedReading, error) {
	var all []client.RecordedReading
	params := &client.GetUsageParams{}
	for {
		usage, _, err := client.Decode[client.Usage](d.customer.GetUsage(ctx, d.connection.Id, params))
		if err != nil {
			return nil, fmt.Errorf("read the usage: %w", err)
		}
		all = append(all, usage.Items...)
		if usage.NextPageToken == nil {
			return slices.DeleteFunc(all, func(r client.RecordedReading) bool { return r.To.After(t) }), nil
		}
		params.PageToken = usage.NextPageToken
	}
}
