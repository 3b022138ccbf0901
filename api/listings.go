package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/location"
	"crossbill/domain/organisation"
	"crossbill/domain/policy"
	"crossbill/domain/port"
	"crossbill/events"
	"crossbill/projections"
)

// CreateListing drafts a listing of the caller's organisation on one of its ports.
func (s *Server) CreateListing(ctx context.Context, req CreateListingRequestObject) (CreateListingResponseObject, error) {
	if err := s.require(ctx, organisation.RoleProvider); err != nil {
		return nil, err
	}
	provider := callerFrom(ctx).OrganisationID
	id, err := s.newID(domain.PrefixListing)
	if err != nil {
		return nil, err
	}
	draft, err := s.draftOf(ctx, id, *req.Body)
	if err != nil {
		return nil, err
	}
	decided, err := listing.Decide(listing.State{}, draft)
	if err != nil {
		return nil, err
	}
	answer := ownListingView(evolved(listing.State{}, listing.Evolve, decided))
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(listing.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, provider)
	if err != nil {
		return nil, err
	}
	return CreateListing201JSONResponse{Body: answer, Headers: CreateListing201ResponseHeaders{CrossbillPosition: position}}, nil
}

// draftOf is the caller's draft of a listing, with the port that it names and where that is.
func (s *Server) draftOf(ctx context.Context, id string, v ListingTerms) (listing.Draft, error) {
	provider := callerFrom(ctx).OrganisationID
	d := listing.Draft{ListingID: id, ProviderID: provider, Terms: termsOf(v), At: s.now()}
	var problems domain.Problems
	for i, to := range d.Terms.OfferedTo {
		_, version, err := events.Load(ctx, s.Log, organisation.Stream(to), organisation.Evolve)
		if err != nil {
			return d, err
		}
		problems.Check(version > 0, domain.Pointer("/offered_to", i), "there is no such organisation")
	}
	if err := problems.Err("api.draftOf"); err != nil {
		return d, err
	}
	var err error
	if d.Port, _, err = events.Load(ctx, s.Log, port.Stream(v.PortId), port.Evolve); err != nil {
		return d, err
	}
	if d.Port.OrganisationID != provider { // the domain refuses it; where it is, is not this caller's to know
		return d, nil
	}
	node, _, err := events.Load(ctx, s.Log, edgenode.Stream(d.Port.EdgeNodeID), edgenode.Evolve)
	if err != nil || node.LocationID == "" {
		return d, err
	}
	d.Terms.LocationID = node.LocationID
	d.Location, _, err = events.Load(ctx, s.Log, location.Stream(node.LocationID), location.Evolve)
	return d, err
}

// loadListing returns a listing that the caller may see: its own, any for an operator, or one that is offered to it now.
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
	if _, _, ok := offered.OnOffer(callerFrom(ctx).OrganisationID, s.now()); !ok {
		return listing.State{}, 0, notFound("listing", id)
	}
	return offered, version, nil
}

// listingOnOffer returns a listing for somebody who may buy it.
func (s *Server) listingOnOffer(ctx context.Context, id string) (listing.State, error) {
	offered, _, err := events.Load(ctx, s.Log, listing.Stream(id), listing.Evolve)
	if err != nil {
		return listing.State{}, err
	}
	if _, _, ok := offered.OnOffer(callerFrom(ctx).OrganisationID, s.now()); !ok {
		return listing.State{}, notFound("listing", id)
	}
	return offered, nil
}

// ownsListing reports whether the caller sees all of a listing: its provider does, and an operator.
func ownsListing(ctx context.Context, l listing.State) bool {
	return callerFrom(ctx).sees(l.ProviderID)
}

// listingFor shows a listing to the caller: all of it to who owns it, what is on offer to others.
func (s *Server) listingFor(ctx context.Context, l listing.State) Listing {
	if ownsListing(ctx, l) {
		return ownListingView(l)
	}
	version, terms, _ := l.OnOffer(callerFrom(ctx).OrganisationID, s.now())
	return offerView(projections.Listing{
		ID: l.ID, ProviderID: l.ProviderID, Version: version, Terms: terms, EffectiveFrom: l.EffectiveFromOf(version),
	})
}

// GetListing shows a listing.
func (s *Server) GetListing(ctx context.Context, req GetListingRequestObject) (GetListingResponseObject, error) {
	state, version, err := s.loadListing(ctx, req.ListingId)
	if err != nil {
		return nil, err
	}
	return GetListing200JSONResponse{Body: s.listingFor(ctx, state), Headers: GetListing200ResponseHeaders{ETag: etag(version)}}, nil
}

// UpdateDraft says anew what the next version offers.
func (s *Server) UpdateDraft(ctx context.Context, req UpdateDraftRequestObject) (UpdateDraftResponseObject, error) {
	view, version, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, func(listing.State) (listing.Command, error) {
		return s.draftOf(ctx, req.ListingId, *req.Body)
	})
	if err != nil {
		return nil, err
	}
	return UpdateDraft200JSONResponse{Body: view, Headers: UpdateDraft200ResponseHeaders{ETag: etag(version), CrossbillPosition: position}}, nil
}

// DiscardDraft gives the draft up.
func (s *Server) DiscardDraft(ctx context.Context, req DiscardDraftRequestObject) (DiscardDraftResponseObject, error) {
	_, _, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, func(listing.State) (listing.Command, error) {
		return listing.Discard{At: s.now()}, nil
	})
	if err != nil {
		return nil, err
	}
	return DiscardDraft204Response{Headers: DiscardDraft204ResponseHeaders{CrossbillPosition: position}}, nil
}

// SubmitListing asks for the draft to be published.
func (s *Server) SubmitListing(ctx context.Context, req SubmitListingRequestObject) (SubmitListingResponseObject, error) {
	view, _, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, func(listing.State) (listing.Command, error) {
		rules, err := s.marketPolicy(ctx)
		c := listing.Submit{Review: rules.ListingReview, At: s.now()}
		if req.Body.EffectiveFrom != nil {
			c.EffectiveFrom = *req.Body.EffectiveFrom
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return SubmitListing200JSONResponse{Body: view, Headers: SubmitListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// PublishListing publishes the draft.
func (s *Server) PublishListing(ctx context.Context, req PublishListingRequestObject) (PublishListingResponseObject, error) {
	view, _, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, func(listing.State) (listing.Command, error) {
		rules, err := s.marketPolicy(ctx)
		return listing.Publish{Review: rules.ListingReview, At: s.now()}, err
	})
	if err != nil {
		return nil, err
	}
	return PublishListing200JSONResponse{Body: view, Headers: PublishListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RetireListing takes the listing off the market.
func (s *Server) RetireListing(ctx context.Context, req RetireListingRequestObject) (RetireListingResponseObject, error) {
	view, _, position, err := s.changeListing(ctx, req.ListingId, req.Params.IfMatch, func(listing.State) (listing.Command, error) {
		return listing.Retire{At: s.now()}, nil
	})
	if err != nil {
		return nil, err
	}
	return RetireListing200JSONResponse{Body: view, Headers: RetireListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// changeListing is a provider's change of its listing.
func (s *Server) changeListing(ctx context.Context, id string, ifMatch *string, command func(listing.State) (listing.Command, error)) (Listing, int64, *int64, error) {
	return s.decideListing(ctx, id, ifMatch, command, func(l listing.State) error { return onlyFor(ctx, l.ProviderID, "provider") })
}

// decideListing decides on a listing and returns its view, its version after that and the position of the write.
func (s *Server) decideListing(ctx context.Context, id string, ifMatch *string, command func(listing.State) (listing.Command, error), may func(listing.State) error) (view Listing, version int64, position *int64, _ error) {
	return view, version, position, again(ifMatch, func() error {
		state, at, err := s.loadListing(ctx, id)
		if err != nil {
			return err
		}
		if err := may(state); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, at); err != nil {
			return err
		}
		c, err := command(state)
		if err != nil {
			return err
		}
		decided, err := listing.Decide(state, c)
		if err != nil {
			return err
		}
		view, version = ownListingView(evolved(state, listing.Evolve, decided)), at+int64(len(decided))
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(listing.Stream(id), at, decided...)}},
			http.StatusOK, view, state.ProviderID)
		return err
	})
}

// ListListingVersions lists a listing's versions.
func (s *Server) ListListingVersions(ctx context.Context, req ListListingVersionsRequestObject) (ListListingVersionsResponseObject, error) {
	state, _, err := s.loadListing(ctx, req.ListingId)
	if err != nil {
		return nil, err
	}
	answer := ListingVersions{Items: []ListingVersion{}}
	for version := state.Version; version > 0; version-- {
		if v, ok := s.versionFor(ctx, state, version); ok {
			answer.Items = append(answer.Items, v)
		}
	}
	return ListListingVersions200JSONResponse(answer), nil
}

// GetListingVersion shows one version of a listing.
func (s *Server) GetListingVersion(ctx context.Context, req GetListingVersionRequestObject) (GetListingVersionResponseObject, error) {
	state, _, err := s.loadListing(ctx, req.ListingId)
	if err != nil {
		return nil, err
	}
	v, ok := s.versionFor(ctx, state, req.Version)
	if !ok {
		return nil, domain.Errorf(domain.NotFound, "api.GetListingVersion", "there is no version %d of the listing %s", req.Version, req.ListingId)
	}
	return GetListingVersion200JSONResponse(v), nil
}

func (s *Server) versionFor(ctx context.Context, l listing.State, version int) (ListingVersion, bool) {
	own := ownsListing(ctx, l)
	terms, ok := l.TermsOf(version)
	if !own {
		terms, ok = l.Shown(version, callerFrom(ctx).OrganisationID, s.now())
	}
	if !ok {
		return ListingVersion{}, false
	}
	return ListingVersion{
		ListingId: l.ID, Version: version, EffectiveFrom: l.EffectiveFromOf(version), LocationId: optional(terms.LocationID),
		Terms: termsView(terms, own),
	}, true
}

// ListOwnListings lists the listings of the caller's organisation.
func (s *Server) ListOwnListings(ctx context.Context, req ListOwnListingsRequestObject) (ListOwnListingsResponseObject, error) {
	p := req.Params
	found, next, err := s.Queries.ListingsOf(ctx, callerFrom(ctx).OrganisationID, string(valueOr(p.State, "")), valueOr(p.Limit, 100), valueOr(p.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return ListOwnListings200JSONResponse(ownListingPage(found, next)), nil
}

func ownListingPage(found []projections.OwnListing, next string) ListingPage {
	page := ListingPage{Items: []Listing{}, NextPageToken: optional(next)}
	for _, l := range found {
		page.Items = append(page.Items, summaryView(l))
	}
	return page
}

// marketPolicy is the rules in force; they are no secret.
func (s *Server) marketPolicy(ctx context.Context) (policy.State, error) {
	state, _, err := events.Load(ctx, s.Log, policy.Stream, policy.Evolve)
	return state, err
}

// offerView shows what is on offer to somebody who may buy it: never who else may.
func offerView(l projections.Listing) Listing {
	return Listing{
		Id: l.ID, ProviderId: l.ProviderID, State: ListingStatePublished, Version: l.Version, EffectiveFrom: optional(l.EffectiveFrom),
		LocationId: optional(l.Terms.LocationID), Terms: termsView(l.Terms, false),
	}
}

// ownListingView shows all of a listing to its provider.
func ownListingView(s listing.State) Listing {
	own := projections.OwnListing{State: s}
	if terms, ok := s.TermsOf(s.Version); ok {
		own.Published, own.PublishedFrom = &terms, s.EffectiveFromOf(s.Version)
	}
	return summaryView(own)
}

// summaryView shows all of a listing to its provider: the newest published terms, or the draft of one that was never
// published, and the draft that may be published next.
func summaryView(l projections.OwnListing) Listing {
	s := l.State
	v := Listing{Id: s.ID, ProviderId: s.ProviderID, State: ListingState(s.State), Version: s.Version}
	terms := l.Published
	if terms == nil {
		terms = s.Draft
	} else {
		v.EffectiveFrom = optional(l.PublishedFrom)
	}
	if terms != nil {
		v.Terms, v.LocationId = termsView(*terms, true), optional(terms.LocationID)
	}
	if s.Draft != nil && s.State != listing.StateRetired {
		draft := termsView(*s.Draft, true)
		v.Draft = &draft
	}
	v.Review = reviewView(s)
	return v
}

func termsView(t listing.Terms, toProvider bool) ListingTerms {
	inPlace := []ChangeKind{}
	for _, c := range t.InPlaceChanges() {
		inPlace = append(inPlace, ChangeKind(c))
	}
	v := ListingTerms{
		Title: t.Title, Description: t.Description, Category: Category(t.Category), PortId: t.PortID, Metro: t.Metro,
		BandwidthsMbps: t.BandwidthsMbps, Approval: ListingTermsApproval(t.Approval), Bgp: t.BGP, Plan: t.Plan,
	}
	v.AnswerWithinHours = new(int(t.AnswerWithin() / time.Hour))
	metering := ListingTermsMetering(t.MeteredBy())
	v.Metering = &metering
	attachments := []ListingTermsAttachmentTypes{}
	for _, a := range t.Attachments() {
		attachments = append(attachments, ListingTermsAttachmentTypes(a))
	}
	v.AttachmentTypes = &attachments
	v.Changes = &ChangeMatrix{InPlace: inPlace}
	if toProvider && t.Private() {
		v.OfferedTo = new(slices.Clone(t.OfferedTo))
	}
	v.Sla = slaView(t.SLA)
	return v
}

func slaView(s *listing.SLA) *SLA {
	if s == nil {
		return nil
	}
	v := &SLA{Availability: s.Availability, RepairHours: optional(s.RepairHours)}
	if len(s.Credits) > 0 {
		v.Credits = new([]SLACredit)
		for _, c := range s.Credits {
			*v.Credits = append(*v.Credits, SLACredit(c))
		}
	}
	return v
}

func termsOf(v ListingTerms) listing.Terms {
	t := listing.Terms{
		Title: v.Title, Description: v.Description, Category: string(v.Category), PortID: v.PortId, Metro: v.Metro,
		BandwidthsMbps: v.BandwidthsMbps, Approval: string(v.Approval), BGP: v.Bgp, Plan: v.Plan,
		AnswerHours: valueOr(v.AnswerWithinHours, 0), Metering: string(valueOr(v.Metering, "")), OfferedTo: valueOr(v.OfferedTo, nil),
	}
	for _, a := range valueOr(v.AttachmentTypes, nil) {
		t.AttachmentTypes = append(t.AttachmentTypes, string(a))
	}
	if v.Changes != nil {
		t.Changes = &listing.Changes{InPlace: []string{}}
		for _, c := range v.Changes.InPlace {
			t.Changes.InPlace = append(t.Changes.InPlace, string(c))
		}
	}
	if v.Sla != nil {
		t.SLA = &listing.SLA{Availability: v.Sla.Availability, RepairHours: valueOr(v.Sla.RepairHours, 0)}
		for _, c := range valueOr(v.Sla.Credits, nil) {
			t.SLA.Credits = append(t.SLA.Credits, listing.Credit(c))
		}
	}
	return t
}
