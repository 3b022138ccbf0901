package projections_test

import (
	"fmt"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/connection"
	"crossbill/domain/creditnote"
	"crossbill/domain/edgenode"
	"crossbill/domain/feeschedule"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/location"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/policy"
	"crossbill/domain/port"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/redundancygroup"
	"crossbill/domain/servicekey"
	"crossbill/domain/settlement"
)

// day is when everything in these tests happens, plus some minutes.
var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return day.Add(time.Duration(minutes) * time.Minute) }

// id names the nth thing of a kind.
func id(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, n) }

// The parties of the tests' history.
var (
	cloudCo  = id("org", 1) // provides
	lakeCo   = id("org", 2) // provides, and buys from CloudCo
	acme     = id("org", 3) // buys
	stranger = id("org", 4) // is a party of nothing
	node     = id("edg", 1)
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func terms(title, description, metro string, mbps ...int) listing.Terms {
	top := domain.MustDecimal("10000")
	return listing.Terms{
		Title: title, Description: description, Category: "private_connect", PortID: id("prt", 1), Metro: metro,
		BandwidthsMbps: mbps, Approval: listing.ApprovalManual,
		BGP: domain.BGP{ASN: 64500, Prefixes: []string{"192.0.2.0/24"}},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
			{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400.00")},
			{ID: "out", Kind: pricing.KindUsage, Description: "Out", Metric: pricing.MetricBytesOut, Unit: pricing.UnitGB,
				Model: pricing.ModelGraduated, Tiers: []pricing.Tier{
					{UpTo: &top, Price: domain.MustDecimal("0.050")}, {Price: domain.MustDecimal("0.04")}}},
		}},
	}
}

func published(n, version int, provider string, t listing.Terms) listing.Published {
	return listing.Published{ListingID: id("lst", n), ProviderID: provider, Version: version, Terms: t, At: at(n)}
}

func placed(n int, customer, provider string) order.Placed {
	return order.Placed{
		OrderID: id("ord", n), QuoteID: id("quo", n), QuoteHash: strings.Repeat("ab", 32), CustomerID: customer,
		ProviderID: provider, ListingID: id("lst", 1), ListingVersion: 1, ConnectionID: id("con", n), PortID: id("prt", 2),
		BandwidthMbps: 100, BGP: domain.BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}},
		Approval: listing.ApprovalManual, Deadline: at(n + 1440), At: at(n),
	}
}

func quoted(n int, customer, provider string) quote.Issued {
	return quote.Issued{
		QuoteID: id("quo", n), CustomerID: customer, ProviderID: provider, ListingID: id("lst", 1), ListingVersion: 1,
		BandwidthMbps: 100, Plan: terms("", "", "").Plan, FeeScheduleID: id("fee", 1), FeeScheduleVersion: 1, BasisPoints: 300,
		Passthrough: usd(40000), Fee: usd(1200), Total: usd(41200), ValidUntil: at(60 * n), At: at(n), Hash: strings.Repeat("ab", 32),
	}
}

func requested(n int, customer, provider string) connection.Requested {
	return connection.Requested{
		ConnectionID: id("con", n), OrderID: id("ord", n), QuoteID: id("quo", n), CustomerID: customer, ProviderID: provider,
		ListingID: id("lst", 1), ListingVersion: 1, BandwidthMbps: 100, CustomerPortID: id("prt", 2),
		ProviderPortID: id("prt", 1), CustomerBGP: domain.BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}},
		ProviderBGP: domain.BGP{ASN: 64500, Prefixes: []string{"192.0.2.0/24"}}, At: at(n),
	}
}

func allocated(n int, edgeNode string) connection.Allocated {
	return connection.Allocated{
		ConnectionID: id("con", n), EdgeNodeID: edgeNode, EdgeASN: 64499, Tag: n,
		A: connection.Attachment{PortID: id("prt", 2), Interface: "eth2", VLAN: 100 + n, Address: "100.64.0.1/30",
			PeerAddress: "100.64.0.2", PeerASN: 64501, Prefixes: []string{"198.51.100.0/24"}},
		Z: connection.Attachment{PortID: id("prt", 1), Interface: "eth1", VLAN: 200 + n, Address: "100.64.0.5/30",
			PeerAddress: "100.64.0.6", PeerASN: 64500, Prefixes: []string{"192.0.2.0/24"}},
		At: at(n),
	}
}

func testingStarted(n int) connection.TestingStarted {
	return connection.TestingStarted{ConnectionID: id("con", n), Deadline: at(n + 60), At: at(n)}
}

func session(n int, side, state string) connection.SessionChanged {
	return connection.SessionChanged{ConnectionID: id("con", n), Side: side, State: state, Since: at(n),
		PrefixesReceived: 1, PrefixesSent: 1, At: at(n)}
}

func activated(n int, when time.Time) connection.Activated {
	return connection.Activated{ConnectionID: id("con", n), At: when}
}

func decommission(n int, when time.Time) connection.DecommissionRequested {
	return connection.DecommissionRequested{ConnectionID: id("con", n), Reason: "no longer needed", EffectiveAt: when, At: when}
}

func read(n, sequence int, in, out int64) reading.Recorded {
	return reading.Recorded{
		EdgeNodeID: node, ConnectionID: id("con", n), Epoch: 1, Sequence: int64(sequence),
		From: at(5 * (sequence - 1)), To: at(5 * sequence), BytesIn: in, BytesOut: out, PacketsIn: in / 1000,
		PacketsOut: out / 1000, DroppedIn: 1, DroppedOut: 2, Source: reading.SourceEBPF,
	}
}

func invoiced(n int, customer string) invoice.Issued {
	return invoice.Issued{
		InvoiceID: id("inv", n), Number: fmt.Sprintf("2026-%04d", n), CustomerID: customer, PeriodStart: at(0),
		PeriodEnd: at(60), Currency: "USD", Lines: []invoice.Line{{
			Number: 1, ItemID: id("itm", n), Kind: invoice.LinePassthrough, ProviderID: cloudCo, ConnectionID: id("con", n),
			ChargeID: "port", Description: "Port", Quantity: "1", Unit: "month", Exact: "400", Amount: usd(40000),
			Steps: []string{"1 month × 400.00"}, Plan: invoice.PlanRef{ListingID: id("lst", 1), Version: 1},
			QuoteID: id("quo", n), Evidence: []invoice.Evidence{{Stream: "connection-" + id("con", n), FromVersion: 1,
				ToVersion: 5, Count: 5, Digest: strings.Repeat("cd", 32)}},
		}}, Passthrough: usd(40000), Fee: usd(1200), Total: usd(41200), LogPosition: 10, RunID: id("run", 1), At: at(60 + n),
	}
}

func settled(n int, provider string) settlement.Issued {
	return settlement.Issued{
		SettlementID: id("set", n), ProviderID: provider, PeriodStart: at(0), PeriodEnd: at(60), Currency: "USD",
		Lines: []settlement.Line{{ItemID: id("itm", n), InvoiceID: id("inv", n), ConnectionID: id("con", n),
			ChargeID: "port", Description: "Port", Amount: usd(40000)}},
		Total: usd(40000), LogPosition: 10, RunID: id("run", 1), At: at(60 + n),
	}
}

func creditNote(n int, customer string) creditnote.Issued {
	return creditnote.Issued{
		CreditNoteID: id("crn", n), Number: fmt.Sprintf("CN-%04d", n), InvoiceID: id("inv", n), InvoiceNumber: fmt.Sprintf("2026-%04d", n),
		CustomerID: customer, Reason: "outage", PeriodStart: at(0), PeriodEnd: at(60), Currency: "USD",
		Lines: []creditnote.Line{{Number: 1, InvoiceLine: 1, ItemID: id("itm", n), Kind: invoice.LinePassthrough, ProviderID: cloudCo,
			ConnectionID: id("con", n), Description: "Port", Exact: "1", Amount: usd(100), Steps: []string{"1"}}},
		Passthrough: usd(100), Fee: usd(0), Total: usd(100), Settlements: []string{id("set", n)}, At: at(90 + n),
	}
}

func creditedOf(n int) settlement.Credited {
	return settlement.Credited{SettlementID: id("set", n), Number: fmt.Sprintf("SC-%d", n), CreditNoteID: id("crn", n), Reason: "outage",
		Lines: []settlement.CreditedLine{{ItemID: id("itm", n), Amount: usd(100)}}, Total: usd(100), At: at(90 + n)}
}

func nodeRegistered(edgeNode string) edgenode.Registered {
	return edgenode.Registered{EdgeNodeID: edgeNode, Name: "pop-1", Metro: "Frankfurt", Facility: "FR5", ASN: 4200000001,
		RouterID: "192.0.2.1", At: at(0)}
}

// recordHistory appends a little of everything: every read model has rows from it, and every event that it reads occurs.
func (b *bench) recordHistory() {
	b.record("organisation-"+cloudCo, organisation.Registered{OrganisationID: cloudCo, Name: "CloudCo", Slug: "cloudco", At: at(0)})
	b.record("api_key-"+id("key", 1), apikey.Issued{KeyID: id("key", 1), OrganisationID: cloudCo, At: at(0)})
	b.record("location-"+id("loc", 1), location.Registered{LocationID: id("loc", 1), Name: "FR5", Metro: "Frankfurt", Country: "DE", Facility: "FR5", At: at(0)})
	b.record(policy.Stream, policy.Changed{ListingReview: true, By: "key_1", At: at(0)})
	b.record("edge_node-"+node, nodeRegistered(node))
	for n, owner := range []string{cloudCo, acme, lakeCo} {
		b.record("port-"+id("prt", n+1), port.Registered{PortID: id("prt", n+1), EdgeNodeID: node, OrganisationID: owner,
			Name: "port", Interface: fmt.Sprintf("eth%d", n+1), CapacityMbps: 10000, At: at(0)})
	}
	for version := range 2 {
		b.record("fee_schedule-"+id("fee", 1), feeschedule.Published{FeeScheduleID: id("fee", 1), Version: version + 1,
			BasisPoints: 300 + version, EffectiveFrom: at(version), At: at(version)})
	}
	for n := 1; n <= 4; n++ {
		t := terms(fmt.Sprintf("Private Connect %d", n), "Reach the cloud\x00 from anywhere", "Frankfurt", 100, 1000)
		b.record("listing-"+id("lst", n), listing.Drafted{ListingID: id("lst", n), ProviderID: cloudCo, Terms: t, At: at(0)},
			published(n, 1, cloudCo, t))
	}
	private := terms("For friends", "Reach the cloud", "Frankfurt", 100)
	private.OfferedTo = []string{lakeCo}
	b.record("listing-"+id("lst", 5), published(5, 1, cloudCo, private))
	waiting := published(4, 2, cloudCo, terms("Next century", "Reach the cloud", "Frankfurt", 100))
	waiting.EffectiveFrom = time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC)
	b.record("listing-"+id("lst", 4), waiting)
	b.record("listing-"+id("lst", 2), published(2, 2, cloudCo, terms("Second edition", "Better", "Berlin", 500)))
	b.record("listing-"+id("lst", 3), listing.Retired{ListingID: id("lst", 3), At: at(9)})

	for n := 1; n <= 4; n++ {
		customer := []string{acme, lakeCo}[n%2]
		b.record("quote-"+id("quo", n), quoted(n, customer, cloudCo))
	}
	b.record("quote-"+id("quo", 1), quote.Accepted{QuoteID: id("quo", 1), OrderID: id("ord", 1), At: at(1)})
	b.record("quote-"+id("quo", 2), quote.Withdrawn{QuoteID: id("quo", 2), At: at(2)})
	for n := 1; n <= 3; n++ {
		b.record("service_key-"+id("svk", n), servicekey.Issued{ServiceKeyID: id("svk", n), ProviderID: cloudCo, PortID: id("prt", 1),
			SecretHash: strings.Repeat("ab", 32), ExpiresAt: at(1440), At: at(n)})
	}
	b.record("service_key-"+id("svk", 1), servicekey.Redeemed{ServiceKeyID: id("svk", 1), OrderID: id("ord", 1), CustomerID: acme, At: at(1)})
	b.record("service_key-"+id("svk", 2), servicekey.Revoked{ServiceKeyID: id("svk", 2), At: at(2)})
	for n := 1; n <= 2; n++ {
		b.record("redundancy_group-"+id("rgp", n), redundancygroup.Created{GroupID: id("rgp", n), CustomerID: acme, Name: "Both ways",
			Diversity: redundancygroup.DiversePort, At: at(n)},
			redundancygroup.ConnectionAdded{GroupID: id("rgp", n), Member: redundancygroup.Member{ConnectionID: id("con", 2), PortID: id("prt", 2),
				ProviderPortID: id("prt", 1), EdgeNodeID: node}, At: at(n)})
	}
	b.record("redundancy_group-"+id("rgp", 1), redundancygroup.ConnectionRemoved{GroupID: id("rgp", 1), ConnectionID: id("con", 2), At: at(3)},
		redundancygroup.TerminationRequested{GroupID: id("rgp", 1), Reason: "moved", ConnectionIDs: []string{}, At: at(4)})

	for n := 1; n <= 8; n++ {
		customer := []string{acme, lakeCo}[n%2]
		ord, con := "order-"+id("ord", n), "connection-"+id("con", n)
		b.record(ord, placed(n, customer, cloudCo))
		if n == 8 {
			b.record(ord, order.Rejected{OrderID: id("ord", n), Reason: "no\x00 capacity", At: at(n)})
			continue
		}
		b.record(ord, order.Accepted{OrderID: id("ord", n), By: cloudCo, At: at(n)})
		b.record(con, requested(n, customer, cloudCo))
		if n == 7 {
			b.record(con, connection.CancellationRequested{ConnectionID: id("con", n), Reason: "changed our mind", At: at(n)},
				connection.Cancelled{ConnectionID: id("con", n), Reason: "changed our mind", At: at(n)})
			b.record(ord, order.Cancelled{OrderID: id("ord", n), Reason: "changed our mind", At: at(n)})
			continue
		}
		b.record(con, allocated(n, node), testingStarted(n), session(n, "a", "active"), session(n, "a", "established"),
			session(n, "z", "established"),
			connection.ProbeRequested{ConnectionID: id("con", n), ProbeID: id("prb", n), At: at(n)},
			connection.Probed{ConnectionID: id("con", n), ProbeID: id("prb", n), Passed: n != 6, Detail: "1 ms", At: at(n)})
		if n == 6 {
			b.record(con, connection.CancellationRequested{ConnectionID: id("con", n), Reason: "probe failed", At: at(n)})
			b.record(ord, order.Failed{OrderID: id("ord", n), Reason: "probe failed", At: at(n)})
			continue
		}
		b.record(con, connection.CutoverRequested{ConnectionID: id("con", n), At: at(n)}, activated(n, at(n)))
		b.record(ord, order.Completed{OrderID: id("ord", n), At: at(n)})
		for sequence := 1; sequence <= n; sequence++ {
			b.recordFor([]string{cloudCo, customer}, "usage-"+id("con", n), read(n, sequence, int64(1000*n), int64(2000*sequence)))
		}
		if n >= 4 {
			b.record(con, decommission(n, at(60)))
		}
		if n == 5 {
			b.record(con, connection.EdgeClosed{ConnectionID: id("con", n), ClosedAt: at(61), At: at(61)},
				connection.Decommissioned{ConnectionID: id("con", n), ClosedAt: at(61), At: at(61)})
		}
	}
	b.record("connection-"+id("con", 1), connection.SessionChanged{ConnectionID: id("con", 1), Side: "z", State: "idle", Since: at(20), At: at(20)},
		connection.SessionChanged{ConnectionID: id("con", 1), Side: "z", State: "established", Since: at(21), At: at(21)})
	b.record("edge_node-"+node, edgenode.FellSilent{EdgeNodeID: node, Since: at(22), At: at(26)},
		edgenode.Heard{EdgeNodeID: node, Since: at(22), Until: at(30), End: edgenode.EndHeard, At: at(30)})
	for n := 1; n <= 4; n++ {
		b.record("invoice_number-main", invoice.NumberTaken{Number: int64(n), InvoiceID: id("inv", n)})
		b.record("invoice-"+id("inv", n), invoiced(n, []string{acme, lakeCo}[n%2]))
		b.record("settlement-"+id("set", n), settled(n, []string{cloudCo, lakeCo}[n%2]))
	}
	b.record("invoice-"+id("inv", 1), invoice.Paid{InvoiceID: id("inv", 1), Reference: "pi_1", At: at(99)})
	b.record("invoice-"+id("inv", 2), invoice.Voided{InvoiceID: id("inv", 2), Reason: "issued in error", At: at(99)})
	for n := 1; n <= 2; n++ {
		b.record("settlement-"+id("set", n), creditedOf(n))
		b.record("credit_note-"+id("crn", n), creditNote(n, []string{acme, lakeCo}[n%2]))
	}
	b.record("settlement-"+id("set", 2), settlement.Credited{SettlementID: id("set", 2), Number: "SC-9", InvoiceID: id("inv", 2), Reason: "void",
		Lines: []settlement.CreditedLine{{ItemID: id("itm", 2), Amount: usd(39900)}}, Total: usd(39900), At: at(99)})
	b.recordFinance()
}
