package api

import (
	"context"
	"net/http"

	"crossbill/domain/listing"
	"crossbill/domain/policy"
	"crossbill/events"
)

// ListListingReviews lists what is before the operators.
func (s *Server) ListListingReviews(ctx context.Context, req ListListingReviewsRequestObject) (ListListingReviewsResponseObject, error) {
	found, next, err := s.Queries.SubmittedListings(ctx, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return ListListingReviews200JSONResponse(ownListingPage(found, next)), nil
}

// ApproveListing publishes what a provider submitted.
func (s *Server) ApproveListing(ctx context.Context, req ApproveListingRequestObject) (ApproveListingResponseObject, error) {
	view, _, position, err := s.reviewListing(ctx, req.ListingId, req.Params.IfMatch, listing.Approve{By: callerFrom(ctx).KeyID, At: s.now()})
	if err != nil {
		return nil, err
	}
	return ApproveListing200JSONResponse{Body: view, Headers: ApproveListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RejectListing sends what a provider submitted back.
func (s *Server) RejectListing(ctx context.Context, req RejectListingRequestObject) (RejectListingResponseObject, error) {
	view, _, position, err := s.reviewListing(ctx, req.ListingId, req.Params.IfMatch,
		listing.Reject{Reason: req.Body.Reason, By: callerFrom(ctx).KeyID, At: s.now()})
	if err != nil {
		return nil, err
	}
	return RejectListing200JSONResponse{Body: view, Headers: RejectListing200ResponseHeaders{CrossbillPosition: position}}, nil
}

// reviewListing is an operator's word; who may give it, the contract's scopes say.
func (s *Server) reviewListing(ctx context.Context, id string, ifMatch *string, c listing.Command) (Listing, int64, *int64, error) {
	return s.decideListing(ctx, id, ifMatch, func(listing.State) (listing.Command, error) { return c, nil }, func(listing.State) error { return nil })
}

// GetMarketPolicy shows the rules in force.
func (s *Server) GetMarketPolicy(ctx context.Context, _ GetMarketPolicyRequestObject) (GetMarketPolicyResponseObject, error) {
	state, version, err := events.Load(ctx, s.Log, policy.Stream, policy.Evolve)
	if err != nil {
		return nil, err
	}
	return GetMarketPolicy200JSONResponse{Body: policyView(state), Headers: GetMarketPolicy200ResponseHeaders{ETag: etag(version)}}, nil
}

// SetMarketPolicy switches the rules.
func (s *Server) SetMarketPolicy(ctx context.Context, req SetMarketPolicyRequestObject) (SetMarketPolicyResponseObject, error) {
	var (
		answer   MarketPolicy
		version  int64
		position *int64
	)
	err := again(req.Params.IfMatch, func() error {
		state, at, err := events.Load(ctx, s.Log, policy.Stream, policy.Evolve)
		if err != nil {
			return err
		}
		if err := checkMatch(req.Params.IfMatch, at); err != nil {
			return err
		}
		decided, err := policy.Decide(state, policy.Change{ListingReview: req.Body.ListingReview, By: callerFrom(ctx).KeyID, At: s.now()})
		if err != nil {
			return err
		}
		answer, version = policyView(evolved(state, policy.Evolve, decided)), at+int64(len(decided))
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(policy.Stream, at, decided...)}},
			http.StatusOK, answer, callerFrom(ctx).OrganisationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return SetMarketPolicy200JSONResponse{Body: answer, Headers: SetMarketPolicy200ResponseHeaders{ETag: etag(version), CrossbillPosition: position}}, nil
}

func policyView(s policy.State) MarketPolicy {
	return MarketPolicy{ListingReview: s.ListingReview, ChangedAt: optional(s.ChangedAt)}
}

// reviewView shows where the draft stands with the operators.
func reviewView(s listing.State) *ListingReview {
	switch {
	case s.Submission != nil:
		return &ListingReview{State: ListingReviewStateSubmitted, At: s.Submission.At, EffectiveFrom: optional(s.Submission.EffectiveFrom)}
	case s.Rejection != nil:
		return &ListingReview{State: ListingReviewStateRejected, At: s.Rejection.At, Reason: &s.Rejection.Reason}
	}
	return nil
}
