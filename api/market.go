package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/organisation"
	"crossbill/domain/quote"
	"crossbill/events"
)

// quoteHours is how long a quote's price stands if its customer does not say.
const quoteHours = 24

// CreateQuote freezes the price of a published listing under the fee schedule in force.
func (s *Server) CreateQuote(ctx context.Context, req CreateQuoteRequestObject) (CreateQuoteResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	offered, err := s.listingOnOffer(ctx, req.Body.ListingId)
	if err != nil {
		return nil, err
	}
	fee, err := s.feeInForce(ctx)
	if err != nil {
		return nil, err
	}
	now := s.now()
	id, err := s.newID(domain.PrefixQuote)
	if err != nil {
		return nil, err
	}
	changes, err := s.quotedConnection(ctx, req.Body.ConnectionId)
	if err != nil {
		return nil, err
	}
	customer := callerFrom(ctx).OrganisationID
	decided, err := quote.Decide(quote.State{}, quote.Issue{
		QuoteID: id, CustomerID: customer, Listing: offered, Fee: fee, BandwidthMbps: req.Body.BandwidthMbps,
		EstimatedGB:   valueOr(req.Body.EstimatedGb, domain.Decimal{}),
		EstimatedMbps: valueOr(req.Body.EstimatedMbps, domain.Decimal{}), ValidFor: time.Duration(valueOr(req.Body.ValidForHours, quoteHours)) * time.Hour, At: now, Connection: changes,
	})
	if err != nil {
		return nil, err
	}
	answer := quoteView(evolved(quote.State{}, quote.Evolve, decided), now)
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(quote.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, unique(customer, offered.ProviderID)...)
	if err != nil {
		return nil, err
	}
	return CreateQuote201JSONResponse{Body: answer, Headers: CreateQuote201ResponseHeaders{CrossbillPosition: position}}, nil
}

// EstimateListing tells what a quote would say, and records nothing.
func (s *Server) EstimateListing(ctx context.Context, req EstimateListingRequestObject) (EstimateListingResponseObject, error) {
	offered, err := s.listingOnOffer(ctx, req.ListingId)
	if err != nil {
		return nil, err
	}
	fee, err := s.feeInForce(ctx)
	if err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixQuote)
	if err != nil {
		return nil, err
	}
	decided, err := quote.Decide(quote.State{}, quote.Issue{
		QuoteID: id, CustomerID: callerFrom(ctx).OrganisationID, Listing: offered, Fee: fee, BandwidthMbps: req.Body.BandwidthMbps,
		EstimatedGB:   valueOr(req.Body.EstimatedGb, domain.Decimal{}),
		EstimatedMbps: valueOr(req.Body.EstimatedMbps, domain.Decimal{}), ValidFor: quoteHours * time.Hour, At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	q := quoteView(evolved(quote.State{}, quote.Evolve, decided), s.now())
	return EstimateListing200JSONResponse(Estimate{
		ListingId: q.ListingId, ListingVersion: q.ListingVersion, BandwidthMbps: q.BandwidthMbps, EstimatedGb: q.EstimatedGb,
		FeeBasisPoints: q.FeeBasisPoints, Lines: q.Lines, Passthrough: q.Passthrough, Fee: q.Fee, Total: q.Total,
		EstimatedMbps: q.EstimatedMbps, FeeTerms: q.FeeTerms, OneTime: q.OneTime,
	}), nil
}

// feeInForce returns the platform's fee schedule as it is now.
func (s *Server) feeInForce(ctx context.Context) (feeschedule.Version, error) {
	fees, _, err := events.Load(ctx, s.Log, feeschedule.Stream(feeScheduleID), feeschedule.Evolve)
	if err != nil {
		return feeschedule.Version{}, err
	}
	fee, ok := fees.InForce(s.now())
	if !ok {
		return fee, domain.Errorf(domain.Unavailable, "api.feeInForce", "no fee schedule is published yet").
			WithHint("an operator publishes one with POST /v1/fee-schedules")
	}
	return fee, nil
}

// GetQuote shows a quote to its customer and its provider.
func (s *Server) GetQuote(ctx context.Context, req GetQuoteRequestObject) (GetQuoteResponseObject, error) {
	state, version, err := s.loadQuote(ctx, req.QuoteId)
	if err != nil {
		return nil, err
	}
	return GetQuote200JSONResponse{Body: quoteView(state, s.now()), Headers: GetQuote200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadQuote(ctx context.Context, id string) (quote.State, int64, error) {
	return load(ctx, s, "quote", id, quote.Stream(id), quote.Evolve,
		func(q quote.State) []string { return []string{q.CustomerID, q.ProviderID} })
}
