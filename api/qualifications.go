package api

import (
	"context"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/qualification"
	"crossbill/events"
	"crossbill/provisioning"
)

// Qualify says whether a listing can be delivered on a port of the caller's now.
func (s *Server) Qualify(ctx context.Context, req QualifyRequestObject) (QualifyResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	b := req.Body
	answer := Qualification{PortId: b.PortId, Reasons: []QualificationReason{}}
	terms, err := s.qualified(ctx, *b, &answer)
	if err != nil {
		return nil, err
	}
	site, err := s.siteOf(ctx, terms, b.PortId)
	if err != nil {
		return nil, err
	}
	// Nothing is said of a port of somebody else's, not even that it is there.
	var p domain.Problems
	p.Check(site.Port.OrganisationID == callerFrom(ctx).OrganisationID, "/port_id", "is not a port of the organisation")
	if err := p.Err("api.Qualify"); err != nil {
		return nil, err
	}
	result := qualification.Check(site, qualification.Request{
		CustomerID: callerFrom(ctx).OrganisationID, PortID: b.PortId, BandwidthMbps: answer.BandwidthMbps, BGP: b.Bgp,
	})
	answer.Colour = Colour(result.Colour)
	for _, r := range result.Reasons {
		pointer := r.Pointer
		if b.QuoteId != nil && (pointer == "/listing_id" || pointer == "/bandwidth_mbps") {
			pointer = "/quote_id"
		}
		answer.Reasons = append(answer.Reasons, QualificationReason{
			Code: QualificationReasonCode(r.Code), Colour: Colour(r.Colour), Pointer: pointer, Detail: r.Detail,
		})
	}
	return Qualify200JSONResponse(answer), nil
}

// qualified finds what is asked about: a quote, or a listing as it is offered and a bandwidth.
func (s *Server) qualified(ctx context.Context, b NewQualification, answer *Qualification) (listing.Terms, error) {
	const op = "api.Qualify"
	if b.QuoteId != nil {
		var p domain.Problems
		p.Check(b.ListingId == nil, "/listing_id", "is the quote's: leave it out")
		p.Check(b.BandwidthMbps == nil, "/bandwidth_mbps", "is the quote's: leave it out")
		if err := p.Err(op); err != nil {
			return listing.Terms{}, err
		}
		quoted, _, err := s.loadQuote(ctx, *b.QuoteId)
		if err != nil {
			return listing.Terms{}, err
		}
		if err := onlyFor(ctx, quoted.CustomerID, "customer of the quote"); err != nil {
			return listing.Terms{}, err
		}
		_, terms, err := s.quotedListing(ctx, quoted)
		answer.ListingId, answer.ListingVersion, answer.BandwidthMbps = quoted.ListingID, quoted.ListingVersion, quoted.BandwidthMbps
		return terms, err
	}
	var p domain.Problems
	p.Check(b.ListingId != nil, "/listing_id", "must be given, or a quote")
	p.Check(b.BandwidthMbps != nil, "/bandwidth_mbps", "must be given, or a quote")
	if err := p.Err(op); err != nil {
		return listing.Terms{}, err
	}
	offered, err := s.listingOnOffer(ctx, *b.ListingId)
	if err != nil {
		return listing.Terms{}, err
	}
	version, terms, ok := offered.OnOffer(callerFrom(ctx).OrganisationID, s.now())
	if !ok {
		return listing.Terms{}, notFound("listing", *b.ListingId)
	}
	answer.ListingId, answer.ListingVersion, answer.BandwidthMbps = offered.ID, version, *b.BandwidthMbps
	return terms, nil
}

// siteOf finds what is known of the place where a connection of a listing to a port would be. The port may be anybody's:
// whose it is, is for the decision to look at.
func (s *Server) siteOf(ctx context.Context, terms listing.Terms, portID string) (site qualification.Site, err error) {
	site.Terms = terms
	if site.Port, _, err = events.Load(ctx, s.Log, port.Stream(portID), port.Evolve); err != nil {
		return site, err
	}
	if site.ProviderPort, _, err = events.Load(ctx, s.Log, port.Stream(terms.PortID), port.Evolve); err != nil {
		return site, err
	}
	if site.EdgeNode, _, err = events.Load(ctx, s.Log, edgenode.Stream(site.ProviderPort.EdgeNodeID), edgenode.Evolve); err != nil {
		return site, err
	}
	site.PortUse, site.ProviderPortUse, site.EdgeNodeTags, err = provisioning.UseOf(ctx, s.Pool, portID, terms.PortID, site.EdgeNode.ID)
	return site, err
}
