package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/port"
	"crossbill/domain/pricing"
	"crossbill/events"
)

// market is a provider, a customer and an edge node with a port for each, registered over the API.
type market struct {
	providerID, providerKey    string
	customerID, customerKey    string
	nodeID                     string
	providerPort, customerPort string
}

func (n *node) openMarket(ctx context.Context) (m market, err error) {
	if _, _, err := client.Decode[client.FeeSchedule](n.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{BasisPoints: 300})); err != nil {
		return m, err
	}
	register := func(slug string, role client.Role) (id, key string, err error) {
		o, _, err := client.Decode[client.OrganisationWithKey](n.operator.CreateOrganisation(ctx, nil,
			client.NewOrganisation{Name: slug, Slug: slug, Roles: []client.Role{role}}))
		return o.Organisation.Id, o.ApiKey.Secret, err
	}
	if m.providerID, m.providerKey, err = register("provider", client.RoleProvider); err != nil {
		return m, err
	}
	if m.customerID, m.customerKey, err = register("customer", client.RoleCustomer); err != nil {
		return m, err
	}
	edge, _, err := client.Decode[client.EdgeNode](n.operator.CreateEdgeNode(ctx, nil, client.NewEdgeNode{
		Name: "ams-1", Metro: "Amsterdam", Facility: "Dock 1", Asn: 64512, RouterId: "192.0.2.1",
	}))
	if err != nil {
		return m, err
	}
	m.nodeID = edge.Id
	if err := n.joinAs(ctx, m.nodeID); err != nil {
		return m, err
	}
	plug := func(organisation, name string) (string, error) {
		p, _, err := client.Decode[client.Port](n.operator.CreatePort(ctx, nil, client.NewPort{
			EdgeNodeId: m.nodeID, OrganisationId: organisation, Name: name, Interface: name, CapacityMbps: 800_000,
		}))
		return p.Id, err
	}
	if m.providerPort, err = plug(m.providerID, "eth1"); err != nil {
		return m, err
	}
	m.customerPort, err = plug(m.customerID, "eth0")
	return m, err
}

var metros = []string{"Amsterdam", "Frankfurt", "London", "Paris", "Madrid", "Milan", "Singapore", "Tokyo", "Sydney", "Ashburn", "Dallas", "Chicago"}
var kinds = []string{"Private wave", "Transit", "Cloud on-ramp", "Exchange peering", "Metro ethernet", "Storage replication", "Voice interconnect", "Market data feed"}
var words = []string{"low latency", "protected path", "diverse fibre", "burstable", "jumbo frames", "IPv4", "subsea", "carrier neutral", "hourly", "green power"}

// terms are those of the i-th listing.
func (m market) terms(i int) listing.Terms {
	kind, metro := kinds[i%len(kinds)], metros[i%len(metros)]
	return listing.Terms{
		Title:       fmt.Sprintf("%s %s %d", kind, metro, i),
		Description: fmt.Sprintf("%s in %s with %s and %s, from the provider's own network. Number %d.", kind, metro, words[i%len(words)], words[(i/10)%len(words)], i),
		Category:    "private_connect", PortID: m.providerPort, Metro: metro, BandwidthsMbps: []int{100, 1000, 10_000}, Approval: listing.ApprovalAutomatic,
		BGP: listing.BGPTerms{ASN: 64501, Prefixes: []string{"203.0.113.0/24"}},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
			{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.DecimalFromInt(int64(100 + i%900))},
			{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
				Model: pricing.ModelPerUnit, UnitPrice: domain.MustDecimal("0.02")},
		}},
	}
}

// batch is how many streams one append of seeded data has.
const batch = 500

// fill appends n things, each with the events of its own stream, as the domain decides them.
func (n *node) fill(ctx context.Context, count int, parties []string, of func(i int) (stream string, _ []domain.Event, _ error)) error {
	for first := 0; first < count; first += batch {
		var a events.Append
		for i := first; i < min(first+batch, count); i++ {
			stream, decided, err := of(i)
			if err != nil {
				return err
			}
			s := events.StreamAppend{Stream: stream}
			for _, e := range decided {
				s.Events = append(s.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Parties: parties}})
			}
			a.Streams = append(a.Streams, s)
		}
		if _, err := n.log.Append(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// publish fills the market with listings.
func (n *node) publish(ctx context.Context, m market, count int) error {
	at := time.Now().UTC().Add(-time.Hour)
	on := port.State{ID: m.providerPort, OrganisationID: m.providerID, EdgeNodeID: m.nodeID, CapacityMbps: 800_000}
	return n.fill(ctx, count, []string{m.providerID}, func(i int) (string, []domain.Event, error) {
		id := domain.DeriveID(domain.PrefixListing, at, fmt.Sprint(i))
		decided, err := decide(listing.State{}, listing.Decide, listing.Evolve, []listing.Command{
			listing.Draft{ListingID: id, ProviderID: m.providerID, Terms: m.terms(i), Port: on, At: at},
			listing.Publish{At: at},
		})
		return listing.Stream(id), decided, err
	})
}

// connect makes connections that have been in production for an hour, and returns their ids.
func (n *node) connect(ctx context.Context, m market, count int) ([]string, error) {
	at := time.Now().UTC().Add(-time.Hour)
	ids := make([]string, count)
	for i := range ids {
		ids[i] = domain.DeriveID(domain.PrefixConnection, at, fmt.Sprint(i))
	}
	id := func(prefix string, i int) string { return domain.DeriveID(prefix, at, fmt.Sprint(i)) }
	attachment := func(portID, name string, i, link int, asn uint32, prefix string) connection.Attachment {
		first := netip.AddrFrom4([4]byte{100, byte(64 + link>>14), byte(link >> 6), byte(link << 2)})
		return connection.Attachment{PortID: portID, Interface: name, VLAN: connection.MinVLAN + i%4000, PeerASN: asn, Prefixes: []string{prefix},
			Address: first.Next().String() + "/30", PeerAddress: first.Next().Next().String()}
	}
	session := func(side string) connection.ReportSession {
		return connection.ReportSession{EdgeNodeID: m.nodeID, Side: side, At: at, Session: connection.Session{
			State: connection.SessionEstablished, Since: at, PrefixesReceived: 1, PrefixesSent: 1}}
	}
	customer, provider := connection.BGP{ASN: 65010, Prefixes: []string{"198.51.100.0/24"}}, connection.BGP{ASN: 64501, Prefixes: []string{"203.0.113.0/24"}}
	return ids, n.fill(ctx, count, []string{m.customerID, m.providerID}, func(i int) (string, []domain.Event, error) {
		probe := id(domain.PrefixProbe, i)
		decided, err := decide(connection.State{}, connection.Decide, connection.Evolve, []connection.Command{
			connection.Request{ConnectionID: ids[i], OrderID: id(domain.PrefixOrder, i), QuoteID: id(domain.PrefixQuote, i), CustomerID: m.customerID,
				ProviderID: m.providerID, ListingID: id(domain.PrefixListing, 0), ListingVersion: 1, BandwidthMbps: 100,
				CustomerPortID: m.customerPort, ProviderPortID: m.providerPort, CustomerBGP: customer, ProviderBGP: provider, At: at},
			connection.Allocate{EdgeNodeID: m.nodeID, EdgeASN: 64512, Tag: 1 + i, At: at,
				A: attachment(m.customerPort, "eth0", i, 2*i, 65010, "198.51.100.0/24"),
				Z: attachment(m.providerPort, "eth1", i, 2*i+1, 64501, "203.0.113.0/24")},
			connection.StartTesting{Deadline: at.Add(time.Minute), At: at},
			session(connection.SideA), session(connection.SideZ),
			connection.RequestProbe{ProbeID: probe, At: at},
			connection.ReportProbe{EdgeNodeID: m.nodeID, ProbeID: probe, Passed: true, At: at},
			connection.RequestCutover{At: at},
			connection.Activate{EdgeNodeID: m.nodeID, OpenedAt: at, At: at},
		})
		return connection.Stream(ids[i]), decided, err
	})
}

// decide carries out commands one after the other.
func decide[S, C any](state S, decide func(S, C) ([]domain.Event, error), evolve func(S, domain.Event) S, commands []C) ([]domain.Event, error) {
	var all []domain.Event
	for _, c := range commands {
		decided, err := decide(state, c)
		if err != nil {
			return nil, err
		}
		for _, e := range decided {
			state = evolve(state, e)
		}
		all = append(all, decided...)
	}
	return all, nil
}
