package api

import (
	"context"
	"time"

	"crossbill/domain/apikey"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/events"
	"crossbill/provisioning"
)

// loadEdgeNode returns the node if the caller is its agent; to any other agent it does not exist.
func (s *Server) loadEdgeNode(ctx context.Context, id string) (edgenode.State, error) {
	state, version, err := events.Load(ctx, s.Log, edgenode.Stream(id), edgenode.Evolve)
	if err != nil {
		return state, err
	}
	if version == 0 || callerFrom(ctx).Principal.Kind != apikey.KindEdgeNode || callerFrom(ctx).Principal.ID != id {
		return state, notFound("edge node", id)
	}
	return state, nil
}

// GetDesiredState answers with the node's desired state once it is newer than the caller's, or the wait is over.
func (s *Server) GetDesiredState(ctx context.Context, req GetDesiredStateRequestObject) (GetDesiredStateResponseObject, error) {
	node, err := s.loadEdgeNode(ctx, req.EdgeNodeId)
	if err != nil {
		return nil, err
	}
	if err := s.heard(ctx, node.ID, s.now(), nil, nil); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Duration(valueOr(req.Params.WaitSeconds, 0))*time.Second)
	defer cancel()
	for {
		if err := s.stillIdentified(ctx); err != nil { // it may have waited, and what follows has secrets
			return nil, err
		}
		head, err := s.Log.Head(ctx)
		if err != nil {
			return nil, err
		}
		// The state must include everything up to head before it is looked at, whether the caller waits or not: it would take what
		// is missing for gone, such as all that a read model that is being made does not have yet.
		current, cancel := context.WithTimeout(ctx, modelPatience)
		err = s.Waiter.WaitFor(current, head.Position, connectionsModel)
		cancel()
		if err != nil {
			return nil, err
		}
		after := events.Position(valueOr(req.Params.AfterRevision, 0))
		over := wait.Err() != nil // then as it is
		state, newer, err := s.desiredSince(ctx, node, after, valueOr(req.Params.Changes, false), over)
		if err != nil || newer || over {
			return GetDesiredState200JSONResponse(state), err
		}
		if err := s.Log.Wait(wait, head.Position); err != nil && wait.Err() == nil {
			return nil, err
		}
	}
}

// desiredSince returns what has changed of the desired state since a revision, if that is asked for and can be told, else the
// whole. newer is that it is newer than the revision; if it is not, it comes without connections unless they are wanted anyway.
func (s *Server) desiredSince(ctx context.Context, node edgenode.State, after events.Position, changes, anyway bool) (state DesiredState, newer bool, err error) {
	if changes && after > 0 {
		changed, ok, err := s.Queries.EdgeChanges(ctx, node.ID, after)
		if err != nil {
			return state, false, err
		}
		if ok {
			state, err = s.desiredState(ctx, node, changed.Revision, changed.Connections)
			gone, since := append([]string{}, changed.Gone...), int64(after)
			for _, c := range changed.Connections {
				if _, on := c.DesiredOn(node.ID); !on {
					gone = append(gone, c.ID)
				}
			}
			state.SinceRevision, state.Gone = &since, &gone
			return state, changed.Revision > after, err
		}
	}
	than := after
	if anyway {
		than = 0
	}
	desired, err := s.Queries.EdgeState(ctx, node.ID, than)
	if err != nil || desired.Revision <= than {
		return state, false, err
	}
	state, err = s.desiredState(ctx, node, desired.Revision, desired.Connections)
	return state, desired.Revision > after, err
}

const (
	connectionsModel = "connections"    // the read model that desired states come from
	modelPatience    = 10 * time.Second // how long it may be behind the log before an agent is told to ask again
)

func (s *Server) desiredState(ctx context.Context, node edgenode.State, revision events.Position, connections []connection.State) (DesiredState, error) {
	v := DesiredState{
		Revision: int64(revision), EdgeNodeId: node.ID, Asn: node.ASN, RouterId: node.RouterID,
		ReadingIntervalSeconds: int(s.ReadingInterval / time.Second), Connections: []DesiredConnection{},
	}
	for _, c := range connections {
		d, ok := c.DesiredOn(node.ID)
		if !ok {
			continue
		}
		desired := DesiredConnection{
			ConnectionId: c.ID, Tag: d.Tag, Phase: DesiredConnectionPhase(d.Phase), BandwidthMbps: d.Mbps,
			A: desiredAttachment(d.A), Z: desiredAttachment(d.Z), ProbeId: optional(d.ProbeID),
		}
		if err := s.desiredSessions(ctx, c, &desired); err != nil {
			return v, err
		}
		v.Connections = append(v.Connections, desired)
	}
	return v, nil
}

// ReportObservations turns what an agent sees into events.
func (s *Server) ReportObservations(ctx context.Context, req ReportObservationsRequestObject) (ReportObservationsResponseObject, error) {
	node, err := s.loadEdgeNode(ctx, req.EdgeNodeId)
	if err != nil {
		return nil, err
	}
	observations := make([]provisioning.Observation, len(req.Body.Observations))
	for i, o := range req.Body.Observations {
		observations[i] = observationOf(o)
	}
	position, err := provisioning.Observe(ctx, s.Log, node.ID, string(req.Body.Kind), s.now(), observations...)
	if err != nil {
		return nil, err
	}
	kind := string(req.Body.Kind)
	if err := s.heard(ctx, node.ID, s.now(), &kind, req.Body.Revision); err != nil {
		return nil, err
	}
	return ReportObservations204Response{Headers: ReportObservations204ResponseHeaders{CrossbillPosition: optional(int64(position))}}, nil
}

func observationOf(v Observation) provisioning.Observation {
	o := provisioning.Observation{
		ConnectionID: v.ConnectionId, OpenedAt: v.OpenedAt, ClosedAt: v.ClosedAt, Removed: valueOr(v.Removed, false),
		Message: valueOr(v.Message, ""), SuspendedAt: v.SuspendedAt, ResumedAt: v.ResumedAt, Bandwidth: valueOr(v.BandwidthMbps, 0),
	}
	for _, session := range valueOr(v.Sessions, nil) {
		o.Sessions = append(o.Sessions, provisioning.SessionObservation{
			Side: string(session.Side), Family: string(valueOr(session.Family, AddressFamilyIpv4)), State: string(session.State), Since: session.Since,
			PrefixesReceived: session.PrefixesReceived, PrefixesSent: session.PrefixesSent,
		})
	}
	if v.Probe != nil {
		o.Probe = &provisioning.ProbeObservation{ProbeID: v.Probe.ProbeId, Passed: v.Probe.Passed, Detail: valueOr(v.Probe.Detail, "")}
	}
	return o
}
