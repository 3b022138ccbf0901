package domain_test

import (
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/edgeidentity"
	"crossbill/domain/edgenode"
	"crossbill/domain/feeallowance"
	"crossbill/domain/feeschedule"
	"crossbill/domain/internal/scenario"
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
	"crossbill/domain/subject"
	"crossbill/domain/webhook"
)

var (
	customer     = scenario.ID(domain.PrefixOrganisation, 1)
	provider     = scenario.ID(domain.PrefixOrganisation, 2)
	edgeNode     = scenario.ID(domain.PrefixEdgeNode, 1)
	customerPort = scenario.ID(domain.PrefixPort, 1)
	providerPort = scenario.ID(domain.PrefixPort, 2)
	locationID   = scenario.ID(domain.PrefixLocation, 1)
	listingID    = scenario.ID(domain.PrefixListing, 1)
	quoteID      = scenario.ID(domain.PrefixQuote, 1)
	orderID      = scenario.ID(domain.PrefixOrder, 1)
	connectionID = scenario.ID(domain.PrefixConnection, 1)
	probeID      = scenario.ID(domain.PrefixProbe, 1)
	feeID        = scenario.ID(domain.PrefixFeeSchedule, 1)
	invoiceID    = scenario.ID(domain.PrefixInvoice, 1)
	serviceKeyID = scenario.ID(domain.PrefixServiceKey, 1)
	groupID      = scenario.ID(domain.PrefixRedundancyGroup, 1)
	settlementID = scenario.ID(domain.PrefixSettlement, 1)
	runID        = scenario.ID(domain.PrefixBillingRun, 1)

	at    = time.Date(2026, 3, 11, 12, 34, 56, 123456000, time.UTC) // stored times have microseconds
	march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	april = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	hash  = strings.Repeat("0a", 32)

	customerBGP = domain.BGP{ASN: 64501, Prefixes: []string{"198.51.100.0/24"}}
	providerBGP = domain.BGP{ASN: 64502, Prefixes: []string{"203.0.113.0/24", "192.0.2.0/25"}}
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func plan() pricing.Plan {
	dec := domain.MustDecimal
	first, second := dec("1000"), dec("10000")
	return pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port, 100 Mbps", Amount: dec("400.00")},
		{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic, both ways", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB,
			Model: pricing.ModelGraduated, Included: dec("10.5"),
			Tiers: []pricing.Tier{{UpTo: &first, Price: dec("0.05")}, {UpTo: &second, Price: dec("0.03")}, {Price: dec("0.01")}}},
		{ID: "export", Kind: pricing.KindUsage, Description: "Traffic out", Metric: pricing.MetricBytesOut, Unit: pricing.UnitGiB,
			Model: pricing.ModelPerUnit, UnitPrice: dec("0.002")},
	}}
}

func terms() listing.Terms {
	return listing.Terms{
		Title: "Private Connect 100 Mbps", Description: "A private connection.\nÜber <one> port & back.", Category: "private_connect",
		PortID: providerPort, Metro: "Amsterdam", BandwidthsMbps: []int{100, 1000}, Approval: listing.ApprovalManual, BGP: providerBGP, Plan: plan(),
	}
}

// everyCharge is a plan with a charge of each kind and model that came after the first plans.
func everyCharge() pricing.Plan {
	dec := domain.MustDecimal
	top := dec("1000")
	return pricing.Plan{Currency: "USD", WhileSuspended: pricing.SuspendedNotBilled, Charges: []pricing.Charge{
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150")},
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 100, Amount: dec("400")}, {BandwidthMbps: 1000, Amount: dec("900.5")}}},
		{ID: "volume", Kind: pricing.KindUsage, Description: "Traffic in", Metric: pricing.MetricBytesIn, Unit: pricing.UnitGB, Model: pricing.ModelVolume,
			Included: dec("10"), Tiers: []pricing.Tier{{UpTo: &top, Price: dec("0.05")}, {Price: dec("0.03")}}},
		{ID: "each", Kind: pricing.KindUsage, Description: "Traffic out", Metric: pricing.MetricBytesOut, Unit: pricing.UnitGiB, Model: pricing.ModelPerUnit, UnitPrice: dec("0.02")},
		{ID: "blocks", Kind: pricing.KindUsage, Description: "Traffic in blocks", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB, Model: pricing.ModelPackage,
			PackageSize: dec("500"), PackagePrice: dec("3.5")},
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: dec("2"), OveragePrice: dec("3")},
		{ID: "least", Kind: pricing.KindMinimum, Description: "Minimum usage", Amount: dec("100")},
	}}
}

func feeTerms() pricing.FeeTerms {
	return pricing.FeeTerms{Floors: []domain.Money{usd(100)}, Caps: []domain.Money{usd(5000)}, FreeConnections: 1, FreePassthrough: []domain.Money{usd(10000)}}
}

// later returns samples of fields that came after the golden file of their type.
func later() []domain.Event {
	more := terms()
	more.Plan = everyCharge()
	free := feeTerms()
	return []domain.Event{
		feeschedule.Published{FeeScheduleID: feeID, Version: 3, BasisPoints: 300, EffectiveFrom: april, At: at, FeeTerms: free},
		listing.Drafted{ListingID: listingID, ProviderID: provider, Terms: more, At: at},
		reading.Recorded{ConnectionID: connectionID, From: march, To: at, BytesIn: 1, BytesOut: 2, Source: reading.SourceProvider, Meter: "/meters/1", MeterEvent: "e-1"},
		listing.Published{ListingID: listingID, ProviderID: provider, Version: 2, Terms: more, At: at},
		invoice.Issued{
			InvoiceID: invoiceID, Number: "CB-000002", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []invoice.Line{{
				Number: 1, ItemID: "item-2", Kind: invoice.LinePassthrough, ProviderID: provider, ConnectionID: connectionID, ChargeID: "burst",
				Description: "Burst, commitment", Quantity: "100", Unit: pricing.UnitMbpsMonth, Exact: "200", Amount: usd(20000),
				Steps: []string{"100 Mbps-month × 2 = 200"}, Plan: invoice.PlanRef{ListingID: listingID, Version: 2}, QuoteID: quoteID,
				Evidence: []invoice.Evidence{{Stream: connection.Stream(connectionID), FromVersion: 1, ToVersion: 9, Count: 2, Digest: hash}},
				Part:     pricing.PartCommit, From: &march, To: &at,
			}},
			Passthrough: usd(20000), Fee: usd(0), Total: usd(20000), LogPosition: 1234, RunID: runID, At: april,
		},
		invoice.Issued{
			InvoiceID: invoiceID, Number: "CB-000003", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines:       bookSamples()[0].(invoice.Issued).Lines,
			Passthrough: usd(34346), Fee: usd(1030), Total: usd(35376), LogPosition: 1234, RunID: runID, At: april,
			FreeBefore: &pricing.FreeUse{Connections: 1, Passthrough: usd(100)},
		},
		feeallowance.Used{CustomerID: customer, PeriodStart: march, InvoiceID: invoiceID, Connections: 1, Passthrough: usd(20000), RunID: runID, At: april},
		feeallowance.Released{CustomerID: customer, PeriodStart: march, InvoiceID: invoiceID, Connections: 1, Passthrough: usd(20000), At: april},
		quote.Issued{
			QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID, ListingVersion: 2, BandwidthMbps: 100,
			Plan: everyCharge(), FeeScheduleID: feeID, FeeScheduleVersion: 3, BasisPoints: 300,
			Lines: []quote.Line{
				{ChargeID: "setup", Kind: quote.LinePassthrough, Description: "Setup", Amount: usd(15000), OneTime: true},
				{ChargeID: "burst", Kind: quote.LinePassthrough, Description: "Burst, commitment", Amount: usd(20000), Part: pricing.PartCommit},
				{ChargeID: pricing.FeeChargeID, Kind: quote.LineFee, Description: "Platform fee", Amount: usd(600)},
				{ChargeID: pricing.FeeChargeID, Kind: quote.LineFee, Description: "Platform fee", Amount: usd(450), OneTime: true},
			},
			Passthrough: usd(20000), Fee: usd(600), Total: usd(20600), ValidUntil: april, At: at, Hash: hash,
			EstimatedMbps: domain.MustDecimal("120.5"), FeeTerms: &free, OneTime: &quote.OneTime{Passthrough: usd(15000), Fee: usd(450), Total: usd(15450)},
		},
		quote.Issued{
			QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID, ListingVersion: 2, BandwidthMbps: 1000,
			EstimatedGB: domain.MustDecimal("1"), Plan: plan(), FeeScheduleID: feeID, FeeScheduleVersion: 2, BasisPoints: 300,
			Lines:       []quote.Line{{ChargeID: "port", Kind: quote.LinePassthrough, Description: "Port", Amount: usd(40000)}},
			Passthrough: usd(40000), Fee: usd(1200), Total: usd(41200), ValidUntil: april, At: at, Hash: hash, ConnectionID: connectionID,
			Change: &quote.Change{Kinds: []string{listing.ChangeBandwidthUp, listing.ChangePlan}, InPlace: true, FromQuoteID: quoteID, FromMbps: 100},
		},
	}
}

// samples returns events of every type that together set each field: what the golden files are written from. A field that
// comes later stands in a further sample of its type, after those there are, for a golden file is never changed.
func samples() []domain.Event {
	return slices.Concat(marketplaceSamples(), connectionSamples(), bookSamples(), webhookSamples(), later(), financeSamples(), laterListings(), orderSamples(), laterBooks(), moneySamples(), ipv6Samples(), qinqSamples(), availabilitySamples())
}

func edgeCertificate() edgeidentity.Certificate {
	return edgeidentity.Certificate{Serial: "0badcafe", Fingerprint: hash, NotBefore: at, NotAfter: april}
}

func marketplaceSamples() []domain.Event {
	keyID := scenario.ID(domain.PrefixAPIKey, 1)
	perOrder, perMonth := usd(40000), usd(400000)
	limits := apikey.Limits{PerOrder: &perOrder, PerMonth: &perMonth}
	bot := apikey.PrincipalRef{Kind: apikey.KindProgram, ID: "bot"}
	return []domain.Event{
		organisation.Registered{OrganisationID: customer, Name: "Harbour Networks", Slug: "harbour",
			Roles: []organisation.Role{organisation.RoleProvider, organisation.RoleCustomer}, At: at},
		apikey.Issued{KeyID: keyID, OrganisationID: customer, Principal: apikey.Principal{Kind: apikey.KindEdgeNode, ID: edgeNode, Name: "pop-1"},
			Scopes: []string{"trade", "finance"}, SecretHash: hash, At: at},
		organisation.Renamed{OrganisationID: customer, Name: "Haven Networks", At: at},
		organisation.Suspended{OrganisationID: customer, Reason: "Two invoices are overdue", At: at},
		organisation.Reactivated{OrganisationID: customer, At: at},
		organisation.Closed{OrganisationID: customer, At: at},
		organisation.MemberAdded{OrganisationID: customer, MemberID: "mem_1", Name: "Ada Lovelace", Email: "ada@example.org", Role: organisation.MemberOwner, At: at},
		organisation.MemberRoleChanged{OrganisationID: customer, MemberID: "mem_1", Role: organisation.MemberTrader, At: at},
		organisation.MemberRemoved{OrganisationID: customer, MemberID: "mem_1", At: at},
		organisation.Recovered{OrganisationID: customer, MemberID: "mem_1", KeyID: keyID, Reason: "Every key was lost in a fire", At: at},
		apikey.Issued{KeyID: keyID, OrganisationID: customer, Principal: apikey.Principal{Kind: apikey.KindProgram, ID: "bot", Name: "Bot"},
			Scopes: []string{"trade"}, SecretHash: hash, At: at, Limits: &limits, ExpiresAt: &april, IssuedBy: &apikey.PrincipalRef{Kind: apikey.KindPerson, ID: "mem_1"}},
		apikey.LimitsSet{KeyID: keyID, Limits: limits, By: &apikey.PrincipalRef{Kind: apikey.KindPerson, ID: "mem_1"}, At: at},
		apikey.Revoked{KeyID: keyID, At: at},
		subject.Erased{Subject: subject.Of(customer, "first"), By: "operator", Reason: subject.ReasonRequest, At: at},
		edgenode.Registered{EdgeNodeID: edgeNode, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 4200000000, RouterID: "192.0.2.1", At: at},
		edgeidentity.TokenIssued{EdgeNodeID: edgeNode, SecretHash: hash, ExpiresAt: april, At: at},
		edgeidentity.Joined{EdgeNodeID: edgeNode, SecretHash: hash, Certificate: edgeCertificate(), At: at},
		edgeidentity.Renewed{EdgeNodeID: edgeNode, With: hash, Certificate: edgeCertificate(), At: at},
		edgeidentity.Revoked{EdgeNodeID: edgeNode, At: at},
		location.Registered{LocationID: locationID, Name: "First hall", Metro: "Amsterdam", Country: "NL",
			Facility: "Example street 1", PeeringDBID: 1234, At: at},
		policy.Changed{ListingReview: true, By: keyID, At: at},
		port.Registered{PortID: customerPort, EdgeNodeID: edgeNode, OrganisationID: customer, Name: "uplink", Interface: "eth1", CapacityMbps: 1000, At: at},
		feeschedule.Published{FeeScheduleID: feeID, Version: 2, BasisPoints: 300, EffectiveFrom: april, At: at},
		listing.Drafted{ListingID: listingID, ProviderID: provider, Terms: terms(), At: at},
		listing.Published{ListingID: listingID, ProviderID: provider, Version: 1, Terms: terms(), At: at},
		listing.Submitted{ListingID: listingID, EffectiveFrom: april, At: at},
		listing.Rejected{ListingID: listingID, Reason: "Say which metro", By: keyID, At: at},
		listing.DraftDiscarded{ListingID: listingID, At: at},
		listing.Retired{ListingID: listingID, At: at},
		quote.Issued{
			QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID, ListingVersion: 1, BandwidthMbps: 100,
			EstimatedGB: domain.MustDecimal("12345.678901234"), Plan: plan(), FeeScheduleID: feeID, FeeScheduleVersion: 2, BasisPoints: 300,
			Lines: []quote.Line{
				{ChargeID: "port", Kind: quote.LinePassthrough, Description: "Port, 100 Mbps", Amount: usd(40000)},
				{ChargeID: pricing.FeeChargeID, Kind: quote.LineFee, Description: "Platform fee", Amount: usd(1200)},
			},
			Passthrough: usd(40000), Fee: usd(1200), Total: usd(41200), ValidUntil: april, At: at, Hash: hash,
		},
		quote.Accepted{QuoteID: quoteID, OrderID: orderID, At: at},
		quote.Withdrawn{QuoteID: quoteID, At: at},
		order.Placed{
			OrderID: orderID, QuoteID: quoteID, QuoteHash: hash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 1, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 100, BGP: customerBGP,
			Approval: listing.ApprovalManual, Deadline: april, PurchaseOrder: "PO-7", At: at,
		},
		order.Placed{
			OrderID: orderID, CustomerID: customer, ProviderID: provider, Approval: listing.ApprovalAutomatic, Deadline: april, At: at,
			PlacedBy: &bot, ApprovalNeeded: order.AboveOrderLimit,
		},
		order.Placed{
			OrderID: orderID, CustomerID: customer, ProviderID: provider, Approval: listing.ApprovalAutomatic, Deadline: april, At: at,
			PlacedBy: &bot, Commitment: &order.Commitment{Principal: bot, Month: "2026-03", Amount: usd(41200)},
		},
		order.Approved{OrderID: orderID, CustomerID: customer, By: "mem_1", Deadline: april,
			Commitment: order.Commitment{Principal: apikey.PrincipalRef{Kind: apikey.KindPerson, ID: "mem_1"}, Month: "2026-03", Amount: usd(41200)}, At: at},
		order.Accepted{OrderID: orderID, By: provider, At: at},
		order.QuestionAsked{OrderID: orderID, Number: 1, Question: "Which rack?", AnswerBy: april, At: at},
		order.QuestionAnswered{OrderID: orderID, Number: 1, Answer: "Rack 7,\nfront", Deadline: april, At: at},
		order.CancellationRequested{OrderID: orderID, Reason: "No longer needed", At: at},
		order.Rejected{OrderID: orderID, Reason: "The port is full", At: at},
		order.Completed{OrderID: orderID, At: at},
		order.Failed{OrderID: orderID, Reason: "No VLAN is free", At: at},
		order.Cancelled{OrderID: orderID, Reason: "No longer needed", At: at},
		servicekey.Issued{ServiceKeyID: serviceKeyID, ProviderID: provider, PortID: providerPort, CustomerID: customer, MaxMbps: 500,
			Note: "For the lab", SecretHash: hash, ExpiresAt: april, At: at},
		servicekey.Redeemed{ServiceKeyID: serviceKeyID, OrderID: orderID, CustomerID: customer, At: at},
		servicekey.Revoked{ServiceKeyID: serviceKeyID, At: at},
		redundancygroup.Created{GroupID: groupID, CustomerID: customer, Name: "Amsterdam, both ways", Diversity: redundancygroup.DiverseEdgeNode, At: at},
		redundancygroup.ConnectionAdded{GroupID: groupID, Member: redundancygroup.Member{ConnectionID: connectionID, PortID: customerPort,
			ProviderPortID: providerPort, EdgeNodeID: edgeNode, Location: "Amsterdam, First hall"}, At: at},
		redundancygroup.ConnectionRemoved{GroupID: groupID, ConnectionID: connectionID, At: at},
		redundancygroup.TerminationRequested{GroupID: groupID, Reason: "Moved", ConnectionIDs: []string{connectionID}, At: at},
	}
}

// orderSamples are further samples of types that have one above: they come last.
func orderSamples() []domain.Event {
	return []domain.Event{
		order.Placed{
			OrderID: orderID, QuoteID: quoteID, QuoteHash: hash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 1, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 100, BGP: customerBGP,
			Approval: listing.ApprovalAutomatic, Deadline: april, PurchaseOrder: "PO-7", ServiceKeyID: serviceKeyID,
			RedundancyGroupID: groupID, At: at,
		},
		order.Placed{
			OrderID: orderID, QuoteID: quoteID, QuoteHash: hash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 2, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 1000, BGP: customerBGP,
			Approval: listing.ApprovalAutomatic, Deadline: april, At: at, Item: order.ItemModify,
			Rebuild: &order.Rebuild{ProviderPortID: providerPort, ProviderBGP: providerBGP},
		},
	}
}

func connectionSamples() []domain.Event {
	return []domain.Event{
		order.Placed{
			OrderID: orderID, QuoteID: quoteID, QuoteHash: hash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 2, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 1000, BGP: customerBGP,
			Approval: listing.ApprovalAutomatic, Deadline: april, At: at, Item: order.ItemModify,
		},
		connection.Requested{
			ConnectionID: connectionID, OrderID: orderID, QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 1, BandwidthMbps: 100, CustomerPortID: customerPort, ProviderPortID: providerPort, CustomerBGP: customerBGP,
			ProviderBGP: providerBGP, At: at,
		},
		connection.Allocated{
			ConnectionID: connectionID, EdgeNodeID: edgeNode, EdgeASN: 4200000000, Tag: 7,
			A: connection.Attachment{PortID: customerPort, Interface: "eth1", VLAN: 100, Address: "100.64.0.57/30", PeerAddress: "100.64.0.58",
				PeerASN: customerBGP.ASN, Prefixes: customerBGP.Prefixes},
			Z: connection.Attachment{PortID: providerPort, Interface: "eth2", VLAN: 200, Address: "100.64.0.61/30", PeerAddress: "100.64.0.62",
				PeerASN: providerBGP.ASN, Prefixes: providerBGP.Prefixes},
			At: at,
		},
		connection.TestingStarted{ConnectionID: connectionID, Deadline: april, At: at},
		connection.SessionChanged{ConnectionID: connectionID, Side: connection.SideA, State: connection.SessionEstablished, Since: at,
			PrefixesReceived: 1, PrefixesSent: 2, At: at},
		connection.ProbeRequested{ConnectionID: connectionID, ProbeID: probeID, At: at},
		connection.Probed{ConnectionID: connectionID, ProbeID: probeID, Passed: true, Detail: "0.4 ms", At: at},
		connection.CutoverRequested{ConnectionID: connectionID, At: at},
		connection.Activated{ConnectionID: connectionID, At: at},
		connection.ChangeRequested{ConnectionID: connectionID, OrderID: orderID, QuoteID: quoteID, ListingVersion: 2, BandwidthMbps: 1000,
			InPlace: true, At: at},
		connection.Changed{ConnectionID: connectionID, OrderID: orderID, QuoteID: quoteID, ListingVersion: 2, BandwidthMbps: 1000, At: at},
		connection.ChangeAbandoned{ConnectionID: connectionID, OrderID: orderID, Reason: "The port is full", At: at},
		connection.SuspensionRequested{ConnectionID: connectionID, Reason: "Maintenance", At: at},
		connection.Suspended{ConnectionID: connectionID, At: at},
		connection.ResumptionRequested{ConnectionID: connectionID, At: at},
		connection.Resumed{ConnectionID: connectionID, At: at},
		connection.TerminationScheduled{ConnectionID: connectionID, OrderID: orderID, Reason: "Moving", EffectiveAt: april, At: at},
		connection.TerminationUnscheduled{ConnectionID: connectionID, OrderID: orderID, At: at},
		connection.SessionConfigured{ConnectionID: connectionID, Side: connection.SideA, Admin: connection.AdminDown,
			Prefixes: []string{"198.51.100.0/24"}, PrefixLimit: 20, At: at},
		connection.SecretSet{ConnectionID: connectionID, CustomerID: customer, Side: connection.SideA, Secret: "A1sealed", At: at},
		connection.SecretRemoved{ConnectionID: connectionID, Side: connection.SideA, At: at},
		connection.MessageChanged{ConnectionID: connectionID, Message: "The port is down", At: at},
		connection.DecommissionRequested{ConnectionID: connectionID, Reason: "Moved", EffectiveAt: march, At: at},
		connection.DecommissionRequested{ConnectionID: connectionID, Reason: "Moved", EffectiveAt: march, At: at, OrderID: orderID},
		connection.EdgeClosed{ConnectionID: connectionID, ClosedAt: march, At: at},
		connection.Decommissioned{ConnectionID: connectionID, ClosedAt: march, At: at},
		connection.CancellationRequested{ConnectionID: connectionID, Reason: "BGP did not come up", At: at},
		connection.Cancelled{ConnectionID: connectionID, Reason: "BGP did not come up", At: at},
		connection.StepFailed{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAllocate, Attempts: 2, NextRetryAt: &march, At: at},
		connection.StepFailed{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAllocate, Attempts: 25, At: at},
		connection.StepRecovered{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAllocate, At: at},
		connection.StepRetried{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAllocate, Reason: "The disk was full", At: at},
		connection.StepSkipped{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAwaitRemoval, Reason: "The node burnt down", At: at},
		connection.StepRolledBack{ConnectionID: connectionID, OrderID: orderID, Step: connection.StepAllocate, Reason: "No way", At: at},
		connection.SessionChanged{ConnectionID: connectionID, Side: connection.SideA, State: connection.SessionEstablished, Since: at,
			PrefixesReceived: 1, PrefixesSent: 2, At: at, Rebuild: true},
		connection.ProbeRequested{ConnectionID: connectionID, ProbeID: probeID, At: at, Rebuild: true},
		connection.Probed{ConnectionID: connectionID, ProbeID: probeID, Passed: true, Detail: "0.4 ms", At: at, Rebuild: true},
		connection.CutoverRequested{ConnectionID: connectionID, At: at, Rebuild: true},
		connection.MoveRequested{ConnectionID: connectionID, CustomerPortID: customerPort, ProviderPortID: providerPort, Reason: "Maintenance", At: at},
		connection.RebuildStarted{
			ConnectionID: connectionID, CustomerPortID: customerPort, ProviderPortID: providerPort, ProviderBGP: &providerBGP, Reason: "Maintenance", Deadline: april, At: at,
			Build: connection.Build{EdgeNodeID: edgeNode, EdgeASN: 4200000000, Tag: 8,
				A: connection.Attachment{PortID: customerPort, Interface: "eth1", VLAN: 101, Address: "100.64.0.65/30", PeerAddress: "100.64.0.66",
					IPv6Address: "2001:db8:ffff::20/127", IPv6PeerAddress: "2001:db8:ffff::21",
					PeerASN: customerBGP.ASN, Prefixes: customerBGP.Prefixes},
				Z: connection.Attachment{PortID: providerPort, Interface: "eth2", VLAN: 201, Address: "100.64.0.69/30", PeerAddress: "100.64.0.70",
					IPv6Address: "2001:db8:ffff::22/127", IPv6PeerAddress: "2001:db8:ffff::23",
					PeerASN: providerBGP.ASN, Prefixes: providerBGP.Prefixes}},
		},
		connection.TrafficStopped{ConnectionID: connectionID, At: at},
		connection.Rebuilt{ConnectionID: connectionID, EdgeNodeID: edgeNode, At: at},
		connection.RebuildAbandoned{ConnectionID: connectionID, Reason: "BGP did not come up", At: at},
		connection.TrafficRestored{ConnectionID: connectionID, At: at},
		connection.BuildRemoved{ConnectionID: connectionID, EdgeNodeID: edgeNode, ClosedAt: march, At: at},
		connection.BuildReleased{ConnectionID: connectionID, EdgeNodeID: edgeNode, Tag: 7, At: at},
		reading.Recorded{
			EdgeNodeID: edgeNode, ConnectionID: connectionID, Epoch: 1, Sequence: 42, From: march, To: at, BytesIn: 9007199254740993,
			BytesOut: 2, PacketsIn: 3, PacketsOut: 4, DroppedIn: 5, DroppedOut: 6, Source: reading.SourceEBPF,
		},
	}
}

func bookSamples() []domain.Event {
	return []domain.Event{
		invoice.Issued{
			InvoiceID: invoiceID, Number: "CB-000001", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []invoice.Line{{
				Number: 1, ItemID: "item-1", Kind: invoice.LinePassthrough, ProviderID: provider, ConnectionID: connectionID, ChargeID: "traffic",
				Description: "Traffic, both ways", Quantity: "12345.678901234", Unit: pricing.UnitGB, Exact: "343.45678901234", Amount: usd(34346),
				Steps:   []string{"1000 GB × 0.05 = 50", "9000 GB × 0.03 = 270", "2345.678901234 GB × 0.01 = 23.45678901234"},
				Plan:    invoice.PlanRef{ListingID: listingID, Version: 1},
				QuoteID: quoteID,
				Evidence: []invoice.Evidence{
					{Stream: reading.Stream(connectionID), FromVersion: 1, ToVersion: 99, Count: 98, Digest: hash}},
			}},
			Passthrough: usd(34346), Fee: usd(1030), Total: usd(35376), LogPosition: 1234, RunID: runID, At: april,
		},
		invoice.Paid{InvoiceID: invoiceID, Reference: "bank-7", At: april},
		invoice.Voided{InvoiceID: invoiceID, Reason: "Wrong customer", At: april},
		invoice.NumberTaken{Number: 1, InvoiceID: invoiceID},
		settlement.Issued{
			SettlementID: settlementID, ProviderID: provider, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []settlement.Line{{ItemID: "item-1", InvoiceID: invoiceID, ConnectionID: connectionID, ChargeID: "traffic",
				Description: "Traffic, both ways", Amount: usd(34346)}},
			Total: usd(34346), LogPosition: 1234, RunID: runID, At: april,
		},
		billingrun.Completed{RunID: runID, PeriodStart: march, PeriodEnd: april, LogPosition: 1234, Invoices: []string{invoiceID},
			Settlements: []string{settlementID}, At: april},
		billingrun.PeriodClosed{ConnectionID: connectionID, PeriodStart: march, PeriodEnd: april, UsageVersion: 99, InvoiceID: invoiceID,
			SettlementID: settlementID, RunID: runID, At: april},
	}
}

func webhookSamples() []domain.Event {
	id := scenario.ID(domain.PrefixWebhook, 1)
	target := webhook.Target{URL: "https://hooks.example.com/crossbill", Types: []string{"order.*"}, Description: "Orders"}
	secret := webhook.SecretPrefix + strings.Repeat("AAAA", 8)
	return []domain.Event{
		webhook.Created{WebhookID: id, OrganisationID: customer, Target: target, Secret: secret, After: 7, At: at},
		webhook.Updated{WebhookID: id, Target: target, At: at},
		webhook.SecretRotated{WebhookID: id, OrganisationID: customer, Secret: secret, PreviousUntil: april, At: at},
		webhook.Disabled{WebhookID: id, Reason: webhook.ReasonFailing, Detail: "503 Service Unavailable", At: at},
		webhook.Enabled{WebhookID: id, At: at},
		webhook.Rewound{WebhookID: id, After: 7, At: at},
		webhook.DeadLetterReplayed{WebhookID: id, Position: 8, At: at},
		webhook.Deleted{WebhookID: id, At: at},
	}
}

// fullTerms are terms with everything in them that a listing may leave out.
func fullTerms() listing.Terms {
	t := terms()
	t.LocationID, t.AttachmentTypes = locationID, []string{listing.AttachmentDot1Q}
	t.Changes = &listing.Changes{InPlace: []string{listing.ChangeBandwidthUp, listing.ChangeBGP}}
	t.OfferedTo, t.Metering = []string{customer}, listing.MeteringProvider
	t.SLA = &listing.SLA{Availability: domain.MustDecimal("99.95"), RepairHours: 4}
	return t
}

// laterListings returns samples of what came after prices of every kind.
func laterListings() []domain.Event {
	return []domain.Event{
		listing.Drafted{ListingID: listingID, ProviderID: provider, Terms: fullTerms(), At: at},
		listing.Published{ListingID: listingID, ProviderID: provider, Version: 2, Terms: fullTerms(), EffectiveFrom: april,
			ApprovedBy: scenario.ID(domain.PrefixAPIKey, 1), At: at},
		edgenode.Registered{EdgeNodeID: edgeNode, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 4200000000, RouterID: "192.0.2.1",
			LocationID: locationID, At: at},
		listing.Drafted{ListingID: listingID, ProviderID: provider, Terms: quickTerms(), At: at},
		listing.Published{ListingID: listingID, ProviderID: provider, Version: 3, Terms: quickTerms(), At: at},
	}
}

// quickTerms are terms that say how soon the provider answers.
func quickTerms() listing.Terms {
	t := terms()
	t.AnswerHours = 4
	return t
}
