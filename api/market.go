package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/listing"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/quote"
	"crossbill/events"
	"crossbill/projections"
)

// quoteValidity is how long a quote's price stands.
const quoteValidity = 24 * time.Hour

// SearchListings searches what is published.
func (s *Server) SearchListings(ctx context.Context, req SearchListingsRequestObject) (SearchListingsResponseObject, error) {
	p := req.Params
	found, next, err := s.Queries.SearchListings(ctx, projections.ListingSearch{
		Text: valueOr(p.Q, ""), Metro: valueOr(p.Metro, ""), BandwidthMbps: valueOr(p.BandwidthMbps, 0),
		Limit: valueOr(p.Limit, 100), PageToken: valueOr(p.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	page := ListingPage{Items: []Listing{}, NextPageToken: optional(next)}
	for _, l := range found {
		page.Items = append(page.Items, Listing{
			Id: l.ID, ProviderId: l.ProviderID, State: ListingState(l.State), Version: l.Version, Terms: termsView(l.Terms),
		})
	}
	return SearchListings200JSONResponse(page), nil
}

// CreateListing drafts a listing of the caller's organisation on one of its ports.
func (s *Server) CreateListing(ctx context.Context, req CreateListingRequestObject) (CreateListingResponseObject, error) {
	if err := s.require(ctx, organisation.RoleProvider); err != nil {
		return nil, err
	}
	provider := callerFrom(ctx).OrganisationID
	onPort, _, err := events.Load(ctx, s.Log, port.Stream(req.Body.PortId), port.Evolve)
	if err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixListing)
	if err != nil {
		return nil, err
	}
	decided, err := listing.Decide(listing.State{}, listing.Draft{ListingID: id, ProviderID: provider, Terms: termsOf(*req.Body), Port: onPort, At: s.now()})
	if err != nil {
		return nil, err
	}
	answer := listingView(evolved(listing.State{}, listing.Evolve, decided), true)
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(listing.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, provider)
	if err != nil {
		return nil, err
	}
	return CreateListing201JSONResponse{Body: answer, Headers: CreateListing201ResponseHeaders{CrossbillPosition: position}}, nil
}

// loadListing returns a listing that the caller may see: its own, or one that is or was on the market.
func (s *Server) loadListing(ctx context.Context, id string) (listing.State, int64, error) {
	own, version, err := load(ctx, s, "listing", id, listing.Stream(id), listing.Evolve,
		func(l listing.State) []string { return []string{l.ProviderID} })
	if domain.CodeOf(err) != domain.NotFound {
		return own, version, err
	}
	// The market is everybody's, and its events name the provider only.
	offered, version, err := events.Load(ctx, s.Log, listing.Stream(id), listing.Evolve)
	if err != nil {
		return listing.State{}, 0, err
	}
	if offered.Version == 0 {
		return listing.State{}, 0, notFound("listing", id)
	}
	return offered, version, nil
}

// GetListing shows a listing.
func (s *Server) GetListing(ctx context.Context, req GetListingRequestObject) (GetListingResponseObject, error) {
	state, version, err := s.loadListing(ctx, req.ListingId)
	if err != nil {
		return nil, err
	}
	own := state.ProviderID == callerFrom(ctx).OrganisationID
	return GetListing200JSONResponse{Body: listingView(state, own), Headers: GetListing200ResponseHeaders{ETag: etag(version)}}, nil
}

// PublishListing publishes the draft.
func (s *Server) PublishListing(ctx context.Context, req PublishListingRequestObject) (PublishListingResponseObject, error) {
	view, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, listing.Publish{At: s.now()})
	if err != nil {
		return nil, err
	}
	return PublishListing200JSONResponse{Body: view, Headers: PublishListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RetireListing takes the listing off the market.
func (s *Server) RetireListing(ctx context.Context, req RetireListingRequestObject) (RetireListingResponseObject, error) {
	view, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, listing.Retire{At: s.now()})
	if err != nil {
		return nil, err
	}
	return RetireListing200JSONResponse{Body: view, Headers: RetireListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

func (s *Server) changeListing(ctx context.Context, id string, ifMatch *string, command listing.Command) (Listing, *int64, error) {
	state, version, err := s.loadListing(ctx, id)
	if err != nil {
		return Listing{}, nil, err
	}
	if err := onlyFor(ctx, state.ProviderID, "provider"); err != nil {
		return Listing{}, nil, err
	}
	if err := checkMatch(ifMatch, version); err != nil {
		return Listing{}, nil, err
	}
	decided, err := listing.Decide(state, command)
	if err != nil {
		return Listing{}, nil, err
	}
	answer := listingView(evolved(state, listing.Evolve, decided), true)
	if len(decided) == 0 {
		return answer, nil, nil
	}
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(listing.Stream(id), version, decided...)}},
		http.StatusOK, answer, state.ProviderID)
	return answer, position, err
}

// CreateQuote freezes the price of a published listing under the fee schedule in force.
func (s *Server) CreateQuote(ctx context.Context, req CreateQuoteRequestObject) (CreateQuoteResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	offered, _, err := s.loadListing(ctx, req.Body.ListingId)
	if err != nil {
		return nil, err
	}
	fees, _, err := events.Load(ctx, s.Log, feeschedule.Stream(feeScheduleID), feeschedule.Evolve)
	if err != nil {
		return nil, err
	}
	now := s.now()
	fee, ok := fees.InForce(now)
	if !ok {
		return nil, domain.Errorf(domain.Unavailable, "api.CreateQuote", "no fee schedule is published yet").
			WithHint("an operator publishes one with POST /v1/fee-schedules")
	}
	id, err := s.newID(domain.PrefixQuote)
	if err != nil {
		return nil, err
	}
	customer := callerFrom(ctx).OrganisationID
	decided, err := quote.Decide(quote.State{}, quote.Issue{
		QuoteID: id, CustomerID: customer, Listing: offered, Fee: fee, BandwidthMbps: req.Body.BandwidthMbps,
		EstimatedGB:   valueOr(req.Body.EstimatedGb, domain.Decimal{}),
		EstimatedMbps: valueOr(req.Body.EstimatedMbps, domain.Decimal{}), ValidFor: quoteValidity, At: now,
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
