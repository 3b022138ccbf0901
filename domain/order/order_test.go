package order

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
	"crossbill/domain/port"
	"crossbill/domain/quote"
)

var (
	orderID      = scenario.ID(domain.PrefixOrder, 1)
	connectionID = scenario.ID(domain.PrefixConnection, 1)
	quoteID      = scenario.ID(domain.PrefixQuote, 1)
	listingID    = scenario.ID(domain.PrefixListing, 1)
	customer     = scenario.ID(domain.PrefixOrganisation, 1)
	provider     = scenario.ID(domain.PrefixOrganisation, 2)
	edgeNode     = scenario.ID(domain.PrefixEdgeNode, 1)
	customerPort = scenario.ID(domain.PrefixPort, 1)
	providerPort = scenario.ID(domain.PrefixPort, 2)
	quoteHash    = strings.Repeat("0a", 32)
)

func usd(minor int64) *domain.Money { return &domain.Money{Minor: minor, Currency: "USD"} }

// place orders from a quote over the listing's first version, which was published anew since.
func place(approval string) Place {
	return Place{
		OrderID: orderID, ConnectionID: connectionID, CustomerID: customer,
		Quote: quote.State{State: quote.StateIssued, Content: quote.Content{
			QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID, ListingVersion: 1, BandwidthMbps: 100,
			Total: *usd(63286), ValidUntil: scenario.After(3600), Hash: quoteHash,
		}},
		QuoteHash: quoteHash, MaxTotal: usd(63286),
		Listing: listing.State{ID: listingID, ProviderID: provider, State: listing.StatePublished, Version: 2, Versions: []listing.Terms{
			{PortID: providerPort, BandwidthsMbps: []int{100}, Approval: approval, BGP: listing.BGPTerms{ASN: 64502, Prefixes: []string{"203.0.113.0/24"}}},
			{PortID: scenario.ID(domain.PrefixPort, 9), Approval: "not this one"},
		}},
		PortID:       customerPort,
		Port:         port.State{ID: customerPort, OrganisationID: customer, EdgeNodeID: edgeNode, CapacityMbps: 100},
		ProviderPort: port.State{ID: providerPort, OrganisationID: provider, EdgeNodeID: edgeNode, CapacityMbps: 1000},
		EdgeNode:     edgenode.State{ID: edgeNode, Name: "pop-1", ASN: 64500},
		BGP:          BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}},
		Deadline:     scenario.After(600), PurchaseOrder: "PO-7", At: scenario.Noon,
	}
}

func placed(approval string) Placed {
	return Placed{
		OrderID: orderID, QuoteID: quoteID, QuoteHash: quoteHash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
		ListingVersion: 1, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 100,
		BGP: BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}}, Approval: approval, Deadline: scenario.After(600),
		PurchaseOrder: "PO-7", At: scenario.Noon,
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	with := func(change func(*Place)) Place {
		c := place(listing.ApprovalManual)
		change(&c)
		return c
	}
	unlimited, noReference := placed(listing.ApprovalManual), placed(listing.ApprovalManual)
	noReference.PurchaseOrder = ""
	serviceKey, group := scenario.ID(domain.PrefixServiceKey, 1), scenario.ID(domain.PrefixRedundancyGroup, 1)
	preApproved := placed(listing.ApprovalAutomatic)
	preApproved.ServiceKeyID, preApproved.RedundancyGroupID = serviceKey, group
	wrong := func(name string, field string, change func(*Place)) scenario.Case[Command] {
		return scenario.Case[Command]{Name: name, When: with(change), Code: domain.Invalid, Fields: []string{field}}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "manual", When: place(listing.ApprovalManual), Then: []domain.Event{placed(listing.ApprovalManual)}},
		{Name: "automatic", When: place(listing.ApprovalAutomatic), Then: []domain.Event{placed(listing.ApprovalAutomatic)}},
		{Name: "exists", Given: []domain.Event{placed(listing.ApprovalManual)}, When: place(listing.ApprovalManual), Code: domain.Conflict},
		{Name: "without a limit", When: with(func(c *Place) { c.MaxTotal = nil }), Then: []domain.Event{unlimited}},
		{Name: "without a reference", When: with(func(c *Place) { c.PurchaseOrder = "" }), Then: []domain.Event{noReference}},

		{Name: "no quote", When: with(func(c *Place) { c.Quote = quote.State{} }), Code: domain.NotFound},
		{Name: "another's quote", When: with(func(c *Place) { c.Quote.CustomerID = provider }), Code: domain.NotFound},
		{Name: "another quote's hash", When: with(func(c *Place) { c.QuoteHash = strings.Repeat("0b", 32) }), Code: domain.Conflict},
		{Name: "used quote", When: with(func(c *Place) { c.Quote.State = quote.StateAccepted }), Code: domain.Conflict},
		{Name: "withdrawn quote", When: with(func(c *Place) { c.Quote.State = quote.StateWithdrawn }), Code: domain.Conflict},
		{Name: "expired quote", When: with(func(c *Place) { c.Quote.ValidUntil = scenario.Noon }), Code: domain.Conflict},
		{Name: "another listing", When: with(func(c *Place) { c.Listing.ID = "" }), Code: domain.Internal},
		{Name: "another provider port", When: with(func(c *Place) { c.ProviderPort.ID = customerPort }), Code: domain.Internal},

		wrong("total", "/max_total", func(c *Place) { c.MaxTotal = usd(63285) }),
		wrong("currency", "/max_total/currency", func(c *Place) { c.MaxTotal.Currency = "EUR" }),
		wrong("no port", "/port_id", func(c *Place) { c.Port = port.State{} }),
		wrong("another's port", "/port_id", func(c *Place) { c.Port.OrganisationID = provider }),
		wrong("a port elsewhere", "/port_id", func(c *Place) { c.Port.EdgeNodeID = scenario.ID(domain.PrefixEdgeNode, 2) }),
		wrong("a narrow port", "/port_id", func(c *Place) { c.Port.CapacityMbps = 99 }),
		wrong("a port that others have filled", "/port_id", func(c *Place) { c.PortUse.Mbps = 1 }),
		wrong("a provider's port that others have filled", "/quote_id", func(c *Place) { c.ProviderUse.Mbps = 901 }),
		wrong("the edge node's AS number", "/bgp/asn", func(c *Place) { c.BGP.ASN = 64500 }),
		wrong("service key", "/service_key", func(c *Place) { c.ServiceKeyID = orderID }),
		wrong("group", "/redundancy_group_id", func(c *Place) { c.GroupID = orderID }),
		{Name: "with a service key, into a group", When: with(func(c *Place) { c.ServiceKeyID, c.GroupID = serviceKey, group }),
			Then: []domain.Event{preApproved}},
		wrong("reserved AS number", "/bgp/asn", func(c *Place) { c.BGP.ASN = 23456 }),
		wrong("the provider's AS number", "/bgp/asn", func(c *Place) { c.BGP.ASN = 64502 }),
		wrong("the provider's prefix", "/bgp/prefixes/0", func(c *Place) { c.BGP.Prefixes = []string{"203.0.113.0/24"} }),
		wrong("default route", "/bgp/prefixes/0", func(c *Place) { c.BGP.Prefixes = []string{"0.0.0.0/0"} }),
		wrong("no prefix", "/bgp/prefixes", func(c *Place) { c.BGP.Prefixes = nil }),
		wrong("too many prefixes", "/bgp/prefixes", func(c *Place) { c.BGP.Prefixes = make([]string, domain.MaxPrefixes+1) }),
		wrong("hash", "/quote_hash", func(c *Place) { c.QuoteHash = quoteHash[1:] }),
		wrong("reference", "/purchase_order", func(c *Place) { c.PurchaseOrder = strings.Repeat("x", MaxPurchaseOrder+1) }),
		wrong("deadline now", "/deadline", func(c *Place) { c.Deadline = c.At }),
		wrong("distant deadline", "/deadline", func(c *Place) { c.Deadline = c.At.Add(MaxDeadline + 1) }),
		wrong("ids", "/order_id", func(c *Place) { c.OrderID = connectionID }),
		wrong("ids", "/connection_id", func(c *Place) { c.ConnectionID = orderID }),
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	at := scenario.After(60)
	accepted := Accepted{orderID, provider, at}
	rejected := Rejected{orderID, "full", at}
	failed := Failed{orderID, "no VLAN", at}
	cancelled := Cancelled{orderID, "changed my mind", at}
	cancelling := CancellationRequested{orderID, "changed my mind", at}
	completed := Completed{orderID, at}
	awaiting, acknowledged := []domain.Event{placed(listing.ApprovalManual)}, []domain.Event{placed(listing.ApprovalAutomatic)}
	after := func(e ...domain.Event) []domain.Event {
		return append([]domain.Event{placed(listing.ApprovalManual)}, e...)
	}
	long := strings.Repeat("x", domain.MaxReason+1)

	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "accept", Given: awaiting, When: Accept{provider, at}, Then: []domain.Event{accepted}},
		{Name: "accept automatically", Given: acknowledged, When: Accept{"platform", at}, Then: []domain.Event{Accepted{orderID, "platform", at}}},
		{Name: "accept automatically after the deadline", Given: acknowledged, When: Accept{"platform", scenario.After(600)},
			Then: []domain.Event{Accepted{orderID, "platform", scenario.After(600)}}},
		{Name: "accept too late", Given: awaiting, When: Accept{provider, scenario.After(600)}, Code: domain.Conflict},
		{Name: "accept just in time", Given: awaiting, When: Accept{provider, scenario.After(600).Add(-time.Microsecond)},
			Then: []domain.Event{Accepted{orderID, provider, scenario.After(600).Add(-time.Microsecond)}}},
		{Name: "accept again", Given: after(accepted), When: Accept{provider, scenario.After(900)}},
		{Name: "accept again, another", Given: after(accepted), When: Accept{"platform", at}, Code: domain.Conflict},
		{Name: "accept again, completed", Given: after(accepted, completed), When: Accept{provider, at}},
		{Name: "accept what is rejected", Given: after(rejected), When: Accept{provider, at}, Code: domain.Conflict},
		{Name: "accept what was accepted and failed", Given: after(accepted, failed), When: Accept{provider, at}, Code: domain.Conflict},
		{Name: "accept by nobody", Given: awaiting, When: Accept{}, Code: domain.Invalid, Fields: []string{"/by", "/at"}},

		{Name: "reject", Given: awaiting, When: Reject{"full", at}, Then: []domain.Event{rejected}},
		{Name: "reject again", Given: after(rejected), When: Reject{"full", scenario.After(61)}},
		{Name: "reject again, otherwise", Given: after(rejected), When: Reject{"still full", at}, Code: domain.Conflict},
		{Name: "reject what is automatic", Given: acknowledged, When: Reject{"full", at}, Code: domain.Conflict},
		{Name: "reject what is accepted", Given: after(accepted), When: Reject{"full", at}, Code: domain.Conflict},
		{Name: "reject without a reason", Given: awaiting, When: Reject{" ", at}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "reject at length", Given: awaiting, When: Reject{long, at}, Code: domain.Invalid, Fields: []string{"/reason"}},

		{Name: "complete", Given: after(accepted), When: Complete{at}, Then: []domain.Event{completed}},
		{Name: "complete again", Given: after(accepted, completed), When: Complete{scenario.After(61)}},
		{Name: "complete too early", Given: awaiting, When: Complete{at}, Code: domain.Conflict},
		{Name: "complete what failed", Given: after(accepted, failed), When: Complete{at}, Code: domain.Conflict},
		{Name: "complete at no time", Given: after(accepted), When: Complete{}, Code: domain.Invalid, Fields: []string{"/at"}},

		{Name: "fail", Given: after(accepted), When: Fail{"no VLAN", at}, Then: []domain.Event{failed}},
		{Name: "fail unanswered", Given: awaiting, When: Fail{"no VLAN", at}, Then: []domain.Event{failed}},
		{Name: "fail again", Given: after(failed), When: Fail{"no VLAN", scenario.After(61)}},
		{Name: "fail again, otherwise", Given: after(failed), When: Fail{"no tag", at}, Code: domain.Conflict},
		{Name: "fail what is completed", Given: after(accepted, completed), When: Fail{"no VLAN", at}, Code: domain.Conflict},

		{Name: "cancel what is being carried out", Given: after(accepted), When: Cancel{"changed my mind", at}, Then: []domain.Event{cancelling}},
		{Name: "cancel what is being carried out again", Given: after(accepted, cancelling), When: Cancel{"changed my mind", scenario.After(61)}},
		{Name: "cancel what is being carried out again, otherwise", Given: after(accepted, cancelling), When: Cancel{"too dear", at}, Code: domain.Conflict},
		{Name: "undone", Given: after(accepted, cancelling), When: FinishCancel{scenario.After(61)},
			Then: []domain.Event{Cancelled{orderID, "changed my mind", scenario.After(61)}}},
		{Name: "undone again", Given: after(accepted, cancelling, cancelled), When: FinishCancel{scenario.After(62)}},
		{Name: "undone but not asked to be", Given: after(accepted), When: FinishCancel{at}, Code: domain.Conflict},
		{Name: "undone at no time", Given: after(accepted, cancelling), When: FinishCancel{}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "cancel what was undone again", Given: after(accepted, cancelling, cancelled), When: Cancel{"changed my mind", at}},
		{Name: "complete what is being undone", Given: after(accepted, cancelling), When: Complete{at}, Code: domain.Conflict},
		{Name: "fail what is being undone", Given: after(accepted, cancelling), When: Fail{"no VLAN", at}, Code: domain.Conflict},
		{Name: "accept again what is being undone", Given: after(accepted, cancelling), When: Accept{provider, at}},
		{Name: "cancel what is acknowledged", Given: acknowledged, When: Cancel{"changed my mind", at}, Then: []domain.Event{cancelled}},
		{Name: "cancel unanswered", Given: awaiting, When: Cancel{"changed my mind", at}, Then: []domain.Event{cancelled}},
		{Name: "cancel again", Given: after(cancelled), When: Cancel{"changed my mind", scenario.After(61)}},
		{Name: "cancel what is completed", Given: after(accepted, completed), When: Cancel{"changed my mind", at}, Code: domain.Conflict},

		{Name: "accept nothing", When: Accept{provider, at}, Code: domain.NotFound},
		{Name: "cancel nothing", When: Cancel{"x", at}, Code: domain.NotFound},
		{Name: "no command", Given: awaiting, When: nil, Code: domain.Internal},
	})
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	given := func(e ...domain.Event) []domain.Event {
		return append([]domain.Event{placed(listing.ApprovalManual)}, e...) // to be answered by 600 s
	}
	ask := Ask{"Which rack?\nWhich\tpanel?", scenario.After(5000), scenario.After(100)}
	asked := QuestionAsked{orderID, 1, ask.Question, scenario.After(5000), scenario.After(100)}
	answered := QuestionAnswered{orderID, 1, "Rack 7", scenario.After(600 + 900), scenario.After(1000)} // it took 900 s
	var full []domain.Event
	for i := range MaxQuestions {
		full = append(full, QuestionAsked{orderID, i + 1, "And?", scenario.After(5000), scenario.After(i)},
			QuestionAnswered{orderID, i + 1, "So", scenario.After(600), scenario.After(i)})
	}
	long := strings.Repeat("x", MaxQuestion+1)
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "ask", Given: given(), When: ask, Then: []domain.Event{asked}},
		{Name: "ask again", Given: given(asked), When: ask},
		{Name: "ask another before the answer", Given: given(asked), When: Ask{"Who?", scenario.After(5000), scenario.After(101)}, Code: domain.Conflict},
		{Name: "ask another after the answer", Given: given(asked, answered), When: Ask{"Who?", scenario.After(5000), scenario.After(1100)},
			Then: []domain.Event{QuestionAsked{orderID, 2, "Who?", scenario.After(5000), scenario.After(1100)}}},
		{Name: "ask too late", Given: given(), When: Ask{"Who?", scenario.After(5000), scenario.After(600)}, Code: domain.Conflict},
		{Name: "ask too often", Given: given(full...), When: Ask{"Who?", scenario.After(5000), scenario.After(100)}, Code: domain.Conflict},
		{Name: "ask when nobody need be asked", Given: []domain.Event{placed(listing.ApprovalAutomatic)}, When: ask, Code: domain.Conflict},
		{Name: "ask after accepting", Given: given(Accepted{orderID, provider, scenario.After(1)}), When: ask, Code: domain.Conflict},
		{Name: "ask nothing", Given: given(), When: Ask{}, Code: domain.Invalid, Fields: []string{"/question", "/at", "/answer_by"}},
		{Name: "ask at length", Given: given(), When: Ask{long, scenario.After(5000), scenario.Noon}, Code: domain.Invalid, Fields: []string{"/question"}},
		{Name: "ask for ever", Given: given(), When: Ask{"Who?", scenario.Noon.Add(MaxDeadline + 1), scenario.Noon}, Code: domain.Invalid, Fields: []string{"/answer_by"}},

		{Name: "answer", Given: given(asked), When: Answer{1, "Rack 7", scenario.After(1000)}, Then: []domain.Event{answered}},
		{Name: "answer by a clock that is behind", Given: given(asked), When: Answer{1, "Rack 7", scenario.After(99)},
			Then: []domain.Event{QuestionAnswered{orderID, 1, "Rack 7", scenario.After(600), scenario.After(99)}}},
		{Name: "answer again", Given: given(asked, answered), When: Answer{1, "Rack 7", scenario.After(1001)}},
		{Name: "answer again, otherwise", Given: given(asked, answered), When: Answer{1, "Rack 8", scenario.After(1001)}, Code: domain.Conflict},
		{Name: "answer another question", Given: given(asked), When: Answer{2, "Rack 7", scenario.After(1000)}, Code: domain.Conflict},
		{Name: "answer what nobody asked", Given: given(), When: Answer{1, "Rack 7", scenario.After(1000)}, Code: domain.Conflict},
		{Name: "answer too late", Given: given(asked), When: Answer{1, "Rack 7", scenario.After(5000)}, Code: domain.Conflict},
		{Name: "answer when it was rejected", Given: given(asked, Rejected{orderID, "full", scenario.After(101)}), When: Answer{1, "Rack 7", scenario.After(1000)}, Code: domain.Conflict},
		{Name: "answer nothing", Given: given(asked), When: Answer{}, Code: domain.Invalid, Fields: []string{"/answer", "/number", "/at"}},
		{Name: "answer at length", Given: given(asked), When: Answer{1, long, scenario.After(1000)}, Code: domain.Invalid, Fields: []string{"/answer"}},

		{Name: "accept without waiting for the answer, past the deadline that stands still", Given: given(asked), When: Accept{provider, scenario.After(2000)},
			Then: []domain.Event{Accepted{orderID, provider, scenario.After(2000)}}},
		{Name: "accept within what was left", Given: given(asked, answered), When: Accept{provider, scenario.After(1499)},
			Then: []domain.Event{Accepted{orderID, provider, scenario.After(1499)}}},
		{Name: "accept past what was left", Given: given(asked, answered), When: Accept{provider, scenario.After(1500)}, Code: domain.Conflict},
		{Name: "reject while asking", Given: given(asked), When: Reject{"full", scenario.After(2000)}, Then: []domain.Event{Rejected{orderID, "full", scenario.After(2000)}}},
		{Name: "cancel while asked", Given: given(asked), When: Cancel{"never mind", scenario.After(2000)}, Then: []domain.Event{Cancelled{orderID, "never mind", scenario.After(2000)}}},
	})
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	manual, automatic := placed(listing.ApprovalManual), placed(listing.ApprovalAutomatic)
	asked := QuestionAsked{orderID, 1, "Which rack?", scenario.After(5000), scenario.After(100)}
	answered := QuestionAnswered{orderID, 1, "Rack 7", scenario.After(1500), scenario.After(1000)}
	for _, c := range []struct {
		name  string
		given []domain.Event
		who   string
		by    time.Time
		since time.Time
	}{
		{"nothing", nil, NeedsNobody, time.Time{}, time.Time{}},
		{"automatic", []domain.Event{automatic}, NeedsNobody, time.Time{}, scenario.Noon},
		{"placed", []domain.Event{manual}, NeedsProvider, scenario.After(600), scenario.Noon},
		{"asked", []domain.Event{manual, asked}, NeedsCustomer, scenario.After(5000), scenario.Noon},
		{"answered", []domain.Event{manual, asked, answered}, NeedsProvider, scenario.After(1500), scenario.Noon},
		{"accepted while asking", []domain.Event{manual, asked, Accepted{orderID, provider, scenario.After(7)}}, NeedsNobody, time.Time{}, scenario.After(7)},
		{"being undone", []domain.Event{manual, CancellationRequested{orderID, "no", scenario.After(8)}}, NeedsNobody, time.Time{}, scenario.After(8)},
	} {
		s := scenario.Fold(Evolve, c.given...)
		if who, by := s.Needs(); who != c.who || !by.Equal(c.by) || !s.Since.Equal(c.since) {
			t.Errorf("%s: needs %q by %s since %s, want %q by %s since %s", c.name, who, by, s.Since, c.who, c.by, c.since)
		}
	}
}
