package connection

import (
	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	connectionID = scenario.ID(domain.PrefixConnection, 1)
	orderID      = scenario.ID(domain.PrefixOrder, 1)
	quoteID      = scenario.ID(domain.PrefixQuote, 1)
	listingID    = scenario.ID(domain.PrefixListing, 1)
	customer     = scenario.ID(domain.PrefixOrganisation, 1)
	provider     = scenario.ID(domain.PrefixOrganisation, 2)
	edgeNode     = scenario.ID(domain.PrefixEdgeNode, 1)
	customerPort = scenario.ID(domain.PrefixPort, 1)
	providerPort = scenario.ID(domain.PrefixPort, 2)
	probe1       = scenario.ID(domain.PrefixProbe, 1)
	probe2       = scenario.ID(domain.PrefixProbe, 2)

	customerBGP = BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}}
	providerBGP = BGP{ASN: 64502, Prefixes: []string{"203.0.113.0/24"}}
)

func request() Request {
	return Request{connectionID, orderID, quoteID, customer, provider, listingID, 1, 100, customerPort, providerPort, customerBGP, providerBGP, "", scenario.Noon}
}

func allocate() Allocate {
	return Allocate{
		EdgeNodeID: edgeNode, EdgeASN: 64500, Tag: 7,
		A:  Attachment{customerPort, "eth1", 100, 0, "100.64.0.1/30", "100.64.0.2", 64501, customerBGP.Prefixes, "", ""},
		Z:  Attachment{providerPort, "eth2", 100, 300, "100.64.0.5/30", "100.64.0.6", 64502, providerBGP.Prefixes, "", ""},
		At: scenario.After(1),
	}
}

// The life of a connection, an event a second from Noon.
var (
	requested = Requested(request())
	allocated = Allocated{connectionID, edgeNode, 64500, 7, allocate().A, allocate().Z, scenario.After(1)}
	underTest = TestingStarted{connectionID, scenario.After(600), scenario.After(2)}
	upA       = SessionChanged{connectionID, SideA, SessionEstablished, scenario.After(3), 1, 1, scenario.After(3), "", false}
	upZ       = SessionChanged{connectionID, SideZ, SessionEstablished, scenario.After(3), 1, 1, scenario.After(4), "", false}
	downZ     = SessionChanged{connectionID, SideZ, SessionIdle, scenario.After(5), 0, 0, scenario.After(5), "", false}
	probing   = ProbeRequested{connectionID, probe1, scenario.After(5), false}
	passed    = Probed{connectionID, probe1, true, "", scenario.After(6), false}
	missed    = Probed{connectionID, probe1, false, "no answer", scenario.After(6), false}
	cutover   = CutoverRequested{connectionID, scenario.After(7), false}
	activated = Activated{connectionID, scenario.After(8)}
	leaving   = DecommissionRequested{connectionID, "moved", scenario.After(100), scenario.After(100), ""}
	closed    = EdgeClosed{connectionID, scenario.After(101), scenario.After(102)}
	gone      = Decommissioned{connectionID, scenario.After(101), scenario.After(103)}
	givingUp  = CancellationRequested{connectionID, "no BGP", scenario.After(50)}
	removed   = EdgeClosed{connectionID, scenario.After(51), scenario.After(52)}
	cancelled = Cancelled{connectionID, "no BGP", scenario.After(53)}
)

// upTo returns the life up to and including the event, in a slice of its own; more is appended.
func upTo(last domain.Event, more ...domain.Event) []domain.Event {
	life := []domain.Event{requested, allocated, underTest, upA, upZ, probing, passed, cutover, activated, leaving, closed, gone}
	var s []domain.Event
	for _, e := range life {
		s = append(s, e)
		if e.EventType() == last.EventType() && (e.EventType() != upA.EventType() || e.(SessionChanged).Side == last.(SessionChanged).Side) {
			return append(s, more...)
		}
	}
	panic("the event is not in the life")
}
