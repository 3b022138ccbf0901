package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/location"
	"crossbill/domain/port"
	"crossbill/events"
)

// CreateLocation registers a place. A facility of PeeringDB is one location.
func (s *Server) CreateLocation(ctx context.Context, req CreateLocationRequestObject) (CreateLocationResponseObject, error) {
	id, err := s.newID(domain.PrefixLocation)
	if err != nil {
		return nil, err
	}
	b := req.Body
	peeringDB := valueOr(b.PeeringdbId, 0)
	decided, err := location.Decide(location.State{}, location.Register{
		LocationID: id, Name: b.Name, Metro: b.Metro, Country: b.Country, Facility: b.Facility, PeeringDBID: peeringDB, At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	answer := locationView(evolved(location.State{}, location.Evolve, decided))
	a := events.Append{Streams: []events.StreamAppend{appendTo(location.Stream(id), 0, decided...)}}
	if peeringDB != 0 {
		a.Ask = reserve("peeringdb_facility", strconv.Itoa(peeringDB), id, "/peeringdb_id")
	}
	position, err := s.commit(ctx, a, http.StatusCreated, answer, callerFrom(ctx).OrganisationID)
	if err != nil {
		return nil, err
	}
	return CreateLocation201JSONResponse{Body: answer, Headers: CreateLocation201ResponseHeaders{CrossbillPosition: position}}, nil
}

// GetLocation shows a location; where the platform is, is everybody's to know.
func (s *Server) GetLocation(ctx context.Context, req GetLocationRequestObject) (GetLocationResponseObject, error) {
	state, version, err := events.Load(ctx, s.Log, location.Stream(req.LocationId), location.Evolve)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return nil, notFound("location", req.LocationId)
	}
	return GetLocation200JSONResponse{Body: locationView(state), Headers: GetLocation200ResponseHeaders{ETag: etag(version)}}, nil
}

// ListLocations lists where the platform is.
func (s *Server) ListLocations(ctx context.Context, req ListLocationsRequestObject) (ListLocationsResponseObject, error) {
	found, next, err := s.Queries.Locations(ctx, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := LocationPage{Items: []Location{}, NextPageToken: optional(next)}
	for _, l := range found {
		page.Items = append(page.Items, locationView(l))
	}
	return ListLocations200JSONResponse(page), nil
}

func locationView(s location.State) Location {
	return Location{
		Id: s.ID, Name: s.Name, Metro: s.Metro, Country: s.Country, Facility: s.Facility, PeeringdbId: optional(s.PeeringDBID),
	}
}

// ListPorts lists the caller's ports; an operator sees all.
func (s *Server) ListPorts(ctx context.Context, req ListPortsRequestObject) (ListPortsResponseObject, error) {
	found, next, err := s.Queries.PortsOf(ctx, viewer(ctx), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	items, err := s.portViews(ctx, found...)
	if err != nil {
		return nil, err
	}
	return ListPorts200JSONResponse(PortPage{Items: items, NextPageToken: optional(next)}), nil
}

// portViews shows ports, which the caller may see, with what connections hold of them: that is known where it is reserved.
func (s *Server) portViews(ctx context.Context, ports ...port.State) ([]Port, error) {
	type load struct {
		port        string
		mbps        int64
		connections int
	}
	ids := make([]string, len(ports))
	for i, p := range ports {
		ids[i] = p.ID
	}
	rows, err := s.Pool.Query(ctx, `
		SELECT scope, sum(mbps)::bigint, count(*) FROM reservations -- primary key
		 WHERE kind = 'vlan' AND scope = ANY($1) GROUP BY scope`, ids)
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "api.portViews", "the reservations can't be read: %w", err)
	}
	loads, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l load, err error) {
		return l, row.Scan(&l.port, &l.mbps, &l.connections)
	})
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "api.portViews", "the reservations can't be read: %w", err)
	}
	held := make(map[string]load, len(loads))
	for _, l := range loads {
		held[l.port] = l
	}
	views := make([]Port, len(ports))
	for i, p := range ports {
		l := held[p.ID]
		views[i] = portView(p)
		views[i].UsedMbps, views[i].Connections = &l.mbps, &l.connections
	}
	return views, nil
}
