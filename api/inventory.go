package api

import (
	"context"
	"net/http"
	"strconv"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/domain/location"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/events"
)

// CreateEdgeNode registers an edge node.
func (s *Server) CreateEdgeNode(ctx context.Context, req CreateEdgeNodeRequestObject) (CreateEdgeNodeResponseObject, error) {
	id, err := s.newID(domain.PrefixEdgeNode)
	if err != nil {
		return nil, err
	}
	b := req.Body
	place := valueOr(b.LocationId, "")
	var at location.State
	if place != "" {
		if at, _, err = events.Load(ctx, s.Log, location.Stream(place), location.Evolve); err != nil {
			return nil, err
		}
	}
	decided, err := edgenode.Decide(edgenode.State{}, edgenode.Register{
		EdgeNodeID: id, Name: b.Name, Metro: b.Metro, Facility: b.Facility, ASN: b.Asn, RouterID: b.RouterId, LocationID: place,
		Location: at, At: s.now(), IPv6LinkPrefix: valueOr(b.Ipv6LinkPrefix, ""),
	})
	if err != nil {
		return nil, err
	}
	operator := callerFrom(ctx).OrganisationID
	answer := EdgeNode{Id: id, Name: b.Name, Metro: b.Metro, Facility: b.Facility, Asn: b.Asn, RouterId: b.RouterId, LocationId: b.LocationId, Ipv6LinkPrefix: b.Ipv6LinkPrefix}
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(edgenode.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, operator)
	if err != nil {
		return nil, err
	}
	return CreateEdgeNode201JSONResponse{Body: answer, Headers: CreateEdgeNode201ResponseHeaders{CrossbillPosition: position}}, nil
}

// CreatePort registers a port. An interface of a node is one port.
func (s *Server) CreatePort(ctx context.Context, req CreatePortRequestObject) (CreatePortResponseObject, error) {
	b := req.Body
	var problems domain.Problems
	_, version, err := events.Load(ctx, s.Log, edgenode.Stream(b.EdgeNodeId), edgenode.Evolve)
	if err != nil {
		return nil, err
	}
	problems.Check(version > 0, "/edge_node_id", "there is no such edge node")
	if _, version, err = events.Load(ctx, s.Log, organisation.Stream(b.OrganisationId), organisation.Evolve); err != nil {
		return nil, err
	}
	problems.Check(version > 0, "/organisation_id", "there is no such organisation")
	if err := problems.Err("api.CreatePort"); err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixPort)
	if err != nil {
		return nil, err
	}
	register := port.Register{
		PortID: id, EdgeNodeID: b.EdgeNodeId, OrganisationID: b.OrganisationId, Name: b.Name, Interface: b.Interface,
		CapacityMbps: b.CapacityMbps, At: s.now(),
	}
	taken := b.EdgeNodeId + "/" + b.Interface
	if b.ServiceVlan != nil {
		register.ServiceVLAN = *b.ServiceVlan
		taken += "/" + strconv.Itoa(*b.ServiceVlan)
	}
	decided, err := port.Decide(port.State{}, register)
	if err != nil {
		return nil, err
	}
	answer := portView(evolved(port.State{}, port.Evolve, decided))
	position, err := s.commit(ctx, events.Append{
		Streams: []events.StreamAppend{appendTo(port.Stream(id), 0, decided...)},
		Ask:     reserve("port_interface", taken, id, "/interface"),
	}, http.StatusCreated, answer, b.OrganisationId)
	if err != nil {
		return nil, err
	}
	return CreatePort201JSONResponse{Body: answer, Headers: CreatePort201ResponseHeaders{CrossbillPosition: position}}, nil
}

// GetPort shows a port to its organisation and to operators.
func (s *Server) GetPort(ctx context.Context, req GetPortRequestObject) (GetPortResponseObject, error) {
	state, version, err := load(ctx, s, "port", req.PortId, port.Stream(req.PortId), port.Evolve,
		func(p port.State) []string { return []string{p.OrganisationID} })
	if err != nil {
		return nil, err
	}
	views, err := s.portViews(ctx, state)
	if err != nil {
		return nil, err
	}
	return GetPort200JSONResponse{Body: views[0], Headers: GetPort200ResponseHeaders{ETag: etag(version)}}, nil
}
