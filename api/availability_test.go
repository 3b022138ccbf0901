package api_test

import (
	"context"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/events"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"getAvailability", "GET", "/v1/connections/" + m.order.ConnectionId + "/availability?month=2026-03", m.customerKey, nil}}
	})
}

// recordFor appends events of some streams, which the customer and the provider see.
func (m *market) recordFor(streams ...[]domain.Event) {
	m.t.Helper()
	var a events.Append
	for _, all := range streams {
		stream := events.StreamAppend{Stream: streamOf(all[0]), Expected: events.Any}
		for _, e := range all {
			stream.Events = append(stream.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Parties: []string{m.customerID, m.providerID}}})
		}
		a.Streams = append(a.Streams, stream)
	}
	_, err := m.log.Append(context.Background(), a)
	must(m.t, err)
}

func streamOf(e domain.Event) string {
	switch e := e.(type) {
	case order.Placed:
		return order.Stream(e.OrderID)
	case connection.Requested:
		return connection.Stream(e.ConnectionID)
	case connection.SessionChanged:
		return connection.Stream(e.ConnectionID)
	case availability.Settled:
		return availability.Stream(e.ConnectionID)
	case edgenode.FellSilent:
		return edgenode.Stream(e.EdgeNodeID)
	}
	panic(e.EventType())
}

// inProduction writes a connection of the market's parties into the log that has been in production since an instant.
func (m *market) inProduction(since time.Time) (connectionID string) {
	m.t.Helper()
	of := func(prefix string) string { return domain.DeriveID(prefix, since, "in production") }
	id, ord, quo := of(domain.PrefixConnection), of(domain.PrefixOrder), of(domain.PrefixQuote)
	m.recordFor([]domain.Event{
		order.Placed{OrderID: ord, QuoteID: quo, CustomerID: m.customerID, ProviderID: m.providerID, ListingID: m.listing.Id, ListingVersion: 1, ConnectionID: id,
			PortID: m.customerPort, BandwidthMbps: 100, Approval: listing.ApprovalAutomatic, Deadline: since.Add(time.Hour), At: since},
		order.Accepted{OrderID: ord, By: m.providerID, At: since}, order.Completed{OrderID: ord, At: since},
	}, []domain.Event{
		connection.Requested{ConnectionID: id, OrderID: ord, QuoteID: quo, CustomerID: m.customerID, ProviderID: m.providerID, ListingID: m.listing.Id, ListingVersion: 1,
			BandwidthMbps: 100, CustomerPortID: m.customerPort, ProviderPortID: m.providerPort, At: since},
		connection.Allocated{ConnectionID: id, EdgeNodeID: m.nodeID, Tag: 1, At: since}, connection.TestingStarted{ConnectionID: id, Deadline: since.Add(time.Hour), At: since},
		connection.CutoverRequested{ConnectionID: id, At: since}, connection.Activated{ConnectionID: id, At: since},
	})
	return id
}

// TestAvailability asks as each party for a month with outages of both kinds.
func TestAvailability(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	since := m.now().Add(-2 * time.Hour).Truncate(time.Second)
	id := m.inProduction(since)
	after := func(minutes int) time.Time { return since.Add(time.Duration(minutes) * time.Minute) }
	session := func(side, state string, minute int) connection.SessionChanged {
		return connection.SessionChanged{ConnectionID: id, Side: side, State: state, Since: after(minute), At: after(minute)}
	}
	m.recordFor([]domain.Event{session("z", "idle", 10), session("z", "established", 20), session("a", "idle", 30), session("a", "established", 40)},
		[]domain.Event{edgenode.FellSilent{EdgeNodeID: m.nodeID, Since: after(50), At: after(54)},
			edgenode.Heard{EdgeNodeID: m.nodeID, Since: after(50), Until: after(60), End: edgenode.EndHeard, At: after(61)}})

	head := int64(m.head())
	months := map[string]bool{after(0).Format("2006-01"): true, after(60).Format("2006-01"): true} // the test may run as a month ends
	for name, by := range map[string]*client.Client{"customer": m.customer, "provider": m.provider, "operator": m.operator} {
		var inScope, down, excluded, outages, exclusions int64
		for month := range months {
			got, _, err := client.Decode[client.Availability](by.GetAvailability(context.Background(), id, &client.GetAvailabilityParams{Month: &month, AtPosition: &head}))
			must(t, err)
			inScope, down, excluded = inScope+got.SecondsInScope, down+got.SecondsDown, excluded+got.SecondsExcluded
			outages, exclusions = outages+got.OutageCount, exclusions+int64(len(got.Exclusions))
			if got.Availability == nil || got.Availability.Cmp(domain.DecimalFromInt(100)) >= 0 && len(months) == 1 {
				t.Errorf("%s: the availability is %v", name, got.Availability)
			}
		}
		if down != 1200 || excluded != 600 || inScope < 7200-600 || inScope > 2*7200 || len(months) == 1 && (outages != 2 || exclusions != 1) {
			t.Errorf("%s is shown %d in scope, %d down in %d outages, %d excluded in %d", name, inScope, down, outages, excluded, exclusions)
		}
	}
	m.wants("a stranger", 404, m.strangerKey, "GET", "/v1/connections/"+id+"/availability", nil)
	m.wants("no month", 422, m.customerKey, "GET", "/v1/connections/"+id+"/availability?month=2026-13", nil)
	next, _, err := client.Decode[client.Availability](m.customer.GetAvailability(context.Background(), id, &client.GetAvailabilityParams{Month: optionalMonth(m.now().AddDate(0, 2, 0))}))
	must(t, err)
	if next.SecondsInScope != 0 || next.Availability != nil || !next.From.Equal(next.To) {
		t.Errorf("a month to come is %+v", next)
	}
}

func optionalMonth(t time.Time) *string {
	month := t.Format("2006-01")
	return &month
}

// TestAvailability_Settled shows what a month was settled as beside what it comes to as it is known now, to both parties.
func TestAvailability_Settled(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	end := time.Date(m.now().Year(), m.now().Month(), 1, 0, 0, 0, 0, time.UTC)
	month := availability.Month{From: end.AddDate(0, -1, 0), To: end}
	id := m.inProduction(month.From.Add(-time.Hour))
	quote := domain.DeriveID(domain.PrefixQuote, end, "settled")
	m.recordFor([]domain.Event{availability.Settled{ConnectionID: id, PeriodStart: month.From, PeriodEnd: month.To, InScope: 2_000_000, Down: 7200,
		Credits: []availability.Credit{{QuoteID: quote, Below: domain.MustDecimal("99.9"), Percent: domain.MustDecimal("10")}}, LogPosition: 1, At: end.Add(time.Hour)}})
	head := int64(m.head())
	of := func(by *client.Client, month string) client.Availability {
		t.Helper()
		got, _, err := client.Decode[client.Availability](by.GetAvailability(context.Background(), id, &client.GetAvailabilityParams{Month: &month, AtPosition: &head}))
		must(t, err)
		return got
	}
	for name, by := range map[string]*client.Client{"customer": m.customer, "provider": m.provider, "operator": m.operator} {
		got := of(by, month.String())
		if s := got.Settled; s == nil || s.SecondsInScope != 2_000_000 || s.SecondsDown != 7200 || !s.SettledAt.Equal(end.Add(time.Hour)) || len(s.Credits) != 1 ||
			s.Credits[0].QuoteId != quote || s.Credits[0].Below.String() != "99.9" || s.Credits[0].Percent.String() != "10" {
			t.Errorf("%s is shown %+v", name, s)
		}
		if got.SecondsDown != 0 { // as it is known now
			t.Errorf("%s is shown %d seconds down", name, got.SecondsDown)
		}
		if got := of(by, end.Format("2006-01")); got.Settled != nil {
			t.Errorf("of a month that is not settled %s is shown %+v", name, got.Settled)
		}
	}
	m.wants("a stranger", 404, m.strangerKey, "GET", "/v1/connections/"+id+"/availability?month="+month.String(), nil)
}

// TestPromise sells a service with a promise: the listing says it, and the quote freezes it.
func TestPromise(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	percent := domain.MustDecimal
	terms := m.terms()
	terms.Sla = &client.SLA{Availability: percent("99.95"), Credits: &[]client.SLACredit{{Below: percent("99.0"), Percent: percent("25")}, {Below: percent("99.9"), Percent: percent("10")}}}
	m.wants("the mildest last", 422, m.providerKey, "POST", "/v1/listings", terms)
	terms.Sla.Credits = &[]client.SLACredit{{Below: percent("99.9"), Percent: percent("10")}, {Below: percent("99.0"), Percent: percent("25")}}
	drafted, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms))
	must(t, err)
	m.listing, _, err = client.Decode[client.Listing](m.provider.PublishListing(ctx, drafted.Id, nil))
	must(t, err)
	for what, sla := range map[string]*client.SLA{"listing": m.listing.Terms.Sla, "quote": m.takeQuote().Sla} {
		if sla == nil || sla.Availability.String() != "99.95" || sla.Credits == nil || len(*sla.Credits) != 2 || (*sla.Credits)[1].Below.String() != "99" || (*sla.Credits)[1].Percent.String() != "25" {
			t.Errorf("the %s promises %+v", what, sla)
		}
	}
}
