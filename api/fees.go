package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/pricing"
	"crossbill/events"
)

// feeScheduleID is the platform's one fee schedule; what is published is its versions.
var feeScheduleID = domain.DeriveID(domain.PrefixFeeSchedule, time.Unix(0, 0), "platform")

// PublishFeeSchedule publishes the next version of the platform's fee schedule, in force from now or from a time to come.
func (s *Server) PublishFeeSchedule(ctx context.Context, req PublishFeeScheduleRequestObject) (PublishFeeScheduleResponseObject, error) {
	state, version, err := events.Load(ctx, s.Log, feeschedule.Stream(feeScheduleID), feeschedule.Evolve)
	if err != nil {
		return nil, err
	}
	now := s.now()
	decided, err := feeschedule.Decide(state, feeschedule.Publish{
		FeeScheduleID: feeScheduleID, BasisPoints: req.Body.BasisPoints, EffectiveFrom: valueOr(req.Body.EffectiveFrom, now), At: now,
		FeeTerms: pricing.FeeTerms{
			Floors: valueOr(req.Body.Floors, nil), Caps: valueOr(req.Body.Caps, nil),
			FreeConnections: valueOr(req.Body.FreeConnections, 0), FreePassthrough: valueOr(req.Body.FreePassthrough, nil),
		},
	})
	if err != nil {
		return nil, err
	}
	state = evolved(state, feeschedule.Evolve, decided)
	answer := feeScheduleView(state.Versions[len(state.Versions)-1])
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(feeschedule.Stream(feeScheduleID), version, decided...)}},
		http.StatusCreated, answer, callerFrom(ctx).OrganisationID)
	if err != nil {
		return nil, err
	}
	return PublishFeeSchedule201JSONResponse{Body: answer, Headers: PublishFeeSchedule201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListFeeSchedules shows every version to everybody: what the platform takes is no secret.
func (s *Server) ListFeeSchedules(ctx context.Context, req ListFeeSchedulesRequestObject) (ListFeeSchedulesResponseObject, error) {
	found, next, err := s.Queries.FeeSchedules(ctx, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := FeeSchedulePage{Items: []FeeSchedule{}, NextPageToken: optional(next)}
	for _, v := range found {
		page.Items = append(page.Items, feeScheduleView(v))
	}
	return ListFeeSchedules200JSONResponse(page), nil
}

func feeScheduleView(v feeschedule.Version) FeeSchedule {
	view := FeeSchedule{Id: v.FeeScheduleID, Version: v.Version, BasisPoints: v.BasisPoints, EffectiveFrom: v.EffectiveFrom}
	if v.Floors != nil {
		view.Floors = &v.Floors
	}
	if v.Caps != nil {
		view.Caps = &v.Caps
	}
	if v.FreeConnections > 0 {
		view.FreeConnections = &v.FreeConnections
	}
	if v.FreePassthrough != nil {
		view.FreePassthrough = &v.FreePassthrough
	}
	return view
}
