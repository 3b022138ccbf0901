package domain_test

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/quote"
)

// promise is an SLA with credits.
func promise() *listing.SLA {
	return &listing.SLA{Availability: domain.MustDecimal("99.95"), RepairHours: 4, Credits: []listing.Credit{
		{Below: domain.MustDecimal("99.9"), Percent: domain.MustDecimal("10")}, {Below: domain.MustDecimal("99.0"), Percent: domain.MustDecimal("25")}}}
}

// availabilitySamples returns samples of what availability is measured by.
func availabilitySamples() []domain.Event {
	promised := terms()
	promised.SLA = promise()
	return []domain.Event{
		listing.Drafted{ListingID: listingID, ProviderID: provider, Terms: promised, At: at},
		listing.Published{ListingID: listingID, ProviderID: provider, Version: 1, Terms: promised, At: at},
		quote.Issued{QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID, ListingVersion: 1, BandwidthMbps: 100,
			EstimatedGB: domain.MustDecimal("1"), Plan: terms().Plan, FeeScheduleID: feeID, FeeScheduleVersion: 1, BasisPoints: 300, Lines: []quote.Line{},
			Passthrough: usd(1), Fee: usd(0), Total: usd(1), ValidUntil: april, At: at, Hash: hash, SLA: promise()},
		availability.Settled{ConnectionID: connectionID, PeriodStart: april.AddDate(0, -1, 0), PeriodEnd: april, InScope: 2678400, Down: 2679,
			Credits:     []availability.Credit{{QuoteID: quoteID, Below: domain.MustDecimal("99.9"), Percent: domain.MustDecimal("10")}},
			LogPosition: 4711, At: april},
		edgenode.FellSilent{EdgeNodeID: edgeNode, Since: at, At: at.Add(4 * time.Minute)},
		edgenode.Heard{EdgeNodeID: edgeNode, Since: at, Until: at.Add(10 * time.Minute), End: edgenode.EndHeard, At: at.Add(11 * time.Minute)},
	}
}
