package api

import (
	"context"

	"crossbill/domain/connection"
)

// ListConnections lists the connections the caller's organisation bought or sold; an operator sees all.
func (s *Server) ListConnections(ctx context.Context, req ListConnectionsRequestObject) (ListConnectionsResponseObject, error) {
	found, next, err := s.Queries.ConnectionsOf(ctx, viewer(ctx), req.Params.Needs != nil, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := ConnectionPage{Items: []Connection{}, NextPageToken: optional(next)}
	for _, c := range found {
		page.Items = append(page.Items, connectionView(c, callerFrom(ctx)))
	}
	return ListConnections200JSONResponse(page), nil
}

// GetConnection shows a connection to its parties.
func (s *Server) GetConnection(ctx context.Context, req GetConnectionRequestObject) (GetConnectionResponseObject, error) {
	state, version, err := s.loadConnection(ctx, req.ConnectionId)
	if err != nil {
		return nil, err
	}
	view := connectionView(state, callerFrom(ctx))
	if view.Trouble != nil && callerFrom(ctx).Operator() {
		detail, err := s.Queries.OrderObstacle(ctx, view.Trouble.OrderId)
		if err != nil {
			return nil, err
		}
		view.Trouble.Detail = optional(detail)
	}
	return GetConnection200JSONResponse{
		Body: view, Headers: GetConnection200ResponseHeaders{ETag: etag(version)},
	}, nil
}

func (s *Server) loadConnection(ctx context.Context, id string) (connection.State, int64, error) {
	return load(ctx, s, "connection", id, connection.Stream(id), connection.Evolve,
		func(c connection.State) []string { return []string{c.CustomerID, c.ProviderID} })
}

// GetUsage shows the readings of a connection to its parties.
func (s *Server) GetUsage(ctx context.Context, req GetUsageRequestObject) (GetUsageResponseObject, error) {
	if _, _, err := s.loadConnection(ctx, req.ConnectionId); err != nil {
		return nil, err
	}
	usage, next, err := s.Queries.Usage(ctx, req.ConnectionId, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := Usage{
		ConnectionId: req.ConnectionId, BytesIn: usage.BytesIn, BytesOut: usage.BytesOut, BytesTotal: usage.BytesIn + usage.BytesOut,
		Readings: usage.Readings, LastTo: optional(usage.LastTo), Items: []RecordedReading{}, NextPageToken: optional(next),
	}
	for _, r := range usage.Items {
		page.Items = append(page.Items, RecordedReading{
			ConnectionId: r.ConnectionID, Epoch: r.Epoch, Sequence: r.Sequence, From: r.From, To: r.To, BytesIn: r.BytesIn,
			BytesOut: r.BytesOut, PacketsIn: r.PacketsIn, PacketsOut: r.PacketsOut, DroppedIn: r.DroppedIn,
			DroppedOut: r.DroppedOut, Source: RecordedReadingSource(r.Source),
		})
	}
	return GetUsage200JSONResponse(page), nil
}
