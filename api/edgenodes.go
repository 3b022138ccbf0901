package api

import (
	"context"
	"time"

	"crossbill/domain/connection"
	"crossbill/domain/edgeidentity"
	"crossbill/domain/edgenode"
	"crossbill/events"
	"crossbill/projections"
	"crossbill/provisioning"
)

// ListEdgeNodes lists the edge nodes for operators, newest first, each without its drift.
func (s *Server) ListEdgeNodes(ctx context.Context, req ListEdgeNodesRequestObject) (ListEdgeNodesResponseObject, error) {
	nodes, next, err := s.Queries.EdgeNodes(ctx, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := EdgeNodePage{Items: []EdgeNodeStatus{}, NextPageToken: optional(next)}
	heard, err := s.Platform.EdgeHeard(ctx, nodes)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		page.Items = append(page.Items, edgeNodeStatus(n, heard[n.ID]))
	}
	return ListEdgeNodes200JSONResponse(page), nil
}

// GetEdgeNode shows one edge node with what on it is not as it should be.
func (s *Server) GetEdgeNode(ctx context.Context, req GetEdgeNodeRequestObject) (GetEdgeNodeResponseObject, error) {
	node, version, err := load(ctx, s, "edge node", req.EdgeNodeId, edgenode.Stream(req.EdgeNodeId), edgenode.Evolve,
		func(edgenode.State) []string { return nil })
	if err != nil {
		return nil, err
	}
	heard, err := s.Platform.EdgeHeard(ctx, []edgenode.State{node})
	if err != nil {
		return nil, err
	}
	desired, err := s.Queries.EdgeState(ctx, node.ID, 0)
	if err != nil {
		return nil, err
	}
	identity, _, err := events.Load(ctx, s.Log, edgeidentity.Stream(node.ID), edgeidentity.Evolve)
	if err != nil {
		return nil, err
	}
	v := edgeNodeStatus(node, heard[node.ID])
	v.Identity = edgeIdentityView(identity, s.now())
	count, drift := len(desired.Connections), []EdgeDrift{}
	for _, c := range desired.Connections {
		d, _ := c.DesiredOn(node.ID)
		if status := c.Status(); drifts(c, d, status) {
			drift = append(drift, EdgeDrift{ConnectionId: c.ID, State: c.State, Phase: d.Phase, Status: statusView(status)})
		}
	}
	v.DesiredRevision, v.Connections, v.Drift = int64(desired.Revision), &count, &drift
	return GetEdgeNode200JSONResponse{Body: v, Headers: GetEdgeNode200ResponseHeaders{ETag: etag(version)}}, nil
}

// drifts reports whether an edge node has not brought a connection to where it is to be, or says that something is amiss.
func drifts(c connection.State, d connection.Desired, status []connection.Message) bool {
	for _, m := range status {
		if m.Tag == connection.TagEdge || m.Tag == connection.TagBGP {
			return true
		}
	}
	waiting := c.Change != nil || c.Rebuild != nil || c.SuspensionRequestedAt != nil || c.ResumptionRequestedAt != nil || c.CutoverRequestedAt != nil && c.BillingFrom == nil
	return waiting || d.Phase == connection.PhaseAbsent
}

func edgeNodeStatus(n edgenode.State, heard projections.EdgeHeard) EdgeNodeStatus {
	v := EdgeNodeStatus{EdgeNode: edgeNodeView(n), DesiredRevision: int64(heard.Desired), LastSeenAt: heard.At, ReportedRevision: heard.Revision}
	if heard.Kind != nil {
		kind := EdgeKind(*heard.Kind)
		v.Kind = &kind
	}
	return v
}

func edgeNodeView(n edgenode.State) EdgeNode {
	return EdgeNode{Id: n.ID, Name: n.Name, Metro: n.Metro, Facility: n.Facility, Asn: n.ASN, RouterId: n.RouterID, Ipv6LinkPrefix: optional(n.IPv6LinkPrefix)}
}

func statusView(all []connection.Message) []StatusMessage {
	view := []StatusMessage{}
	for _, m := range all {
		view = append(view, StatusMessage{Tag: StatusMessageTag(m.Tag), Message: m.Message, Since: m.Since})
	}
	return view
}

// heard notes that an edge node's agent is there, and what it says it acts on.
func (s *Server) heard(ctx context.Context, edgeNodeID string, at time.Time, kind *string, revision *int64) error {
	return provisioning.NoteHeard(ctx, s.Pool, edgeNodeID, at, kind, revision)
}
