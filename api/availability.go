package api

import (
	"context"

	"crossbill/domain/availability"
	"crossbill/events"
)

// maxOutages is how many outages, and how many exclusions, an answer names.
const maxOutages = 1000

// GetAvailability says for how much of a month a connection could be used, to its parties.
func (s *Server) GetAvailability(ctx context.Context, req GetAvailabilityRequestObject) (GetAvailabilityResponseObject, error) {
	if _, _, err := s.loadConnection(ctx, req.ConnectionId); err != nil {
		return nil, err
	}
	month, until, err := monthUntil(req.Params.Month, s.now())
	if err != nil {
		return nil, err
	}
	report, err := s.Queries.Availability(ctx, req.ConnectionId, availability.Month(month), until)
	if err != nil {
		return nil, err
	}
	view := availabilityView(req.ConnectionId, report)
	months, _, err := events.Load(ctx, s.Log, availability.Stream(req.ConnectionId), availability.EvolveMonths)
	if err != nil {
		return nil, err
	}
	if settled, ok := months.Of(month.From, month.To); ok {
		view.Settled = settledView(settled)
	}
	return GetAvailability200JSONResponse(view), nil
}

func settledView(s availability.Settled) *SettledAvailability {
	v := &SettledAvailability{SecondsInScope: s.InScope, SecondsDown: s.Down, Credits: []SettledCredit{}, SettledAt: s.At}
	for _, c := range s.Credits {
		v.Credits = append(v.Credits, SettledCredit{QuoteId: c.QuoteID, Below: c.Below, Percent: c.Percent})
	}
	return v
}

func availabilityView(connectionID string, r availability.Report) Availability {
	v := Availability{
		ConnectionId: connectionID, Month: r.Month.String(), From: r.From, To: r.To, SecondsInScope: r.InScope, SecondsDown: r.Down,
		SecondsExcluded: r.Excluded, OutageCount: int64(len(r.Outages)), Outages: []Outage{}, Exclusions: []Exclusion{},
	}
	if percent, ok := r.Percent(); ok {
		v.Availability = &percent
	}
	for _, o := range r.Outages[:min(len(r.Outages), maxOutages)] {
		v.Outages = append(v.Outages, Outage{From: o.From, To: o.To, Causes: enumsOf[OutageCauses](o.Causes)})
	}
	for _, o := range r.Exclusions[:min(len(r.Exclusions), maxOutages)] {
		v.Exclusions = append(v.Exclusions, Exclusion{From: o.From, To: o.To, Causes: enumsOf[ExclusionCauses](o.Causes)})
	}
	return v
}

func enumsOf[T ~string](all []string) []T {
	values := make([]T, len(all))
	for n, v := range all {
		values[n] = T(v)
	}
	return values
}
