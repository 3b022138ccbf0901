package api

import (
	"context"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/port"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
	"crossbill/provisioning"
)

// MoveConnection has a connection set up on other ports, for the maintenance of an edge node or of a port. Room is looked for
// by the saga, which gives the move up where there is none.
func (s *Server) MoveConnection(ctx context.Context, req MoveConnectionRequestObject) (MoveConnectionResponseObject, error) {
	view, position, err := s.answerTrouble(ctx, req.ConnectionId, req.Params.IfMatch,
		func(c connection.State, _ int64) ([]domain.Event, []events.StreamAppend, error) {
			b := req.Body
			move := connection.RequestMove{
				CustomerPortID: valueOr(b.CustomerPortId, c.CustomerPortID), ProviderPortID: valueOr(b.ProviderPortId, c.ProviderPortID), Reason: b.Reason, At: s.now(),
			}
			decided, err := connection.Decide(c, move)
			if err != nil || len(decided) == 0 {
				return nil, nil, err
			}
			return decided, nil, s.checkMove(ctx, c, move)
		})
	if err != nil {
		return nil, err
	}
	return MoveConnection202JSONResponse{Body: view, Headers: MoveConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// checkMove returns what is wrong with the ports: each has to be that party's whose port it replaces, both are on one node, and
// no other connection of its redundancy groups is where the groups let only one be. The saga looks at the last once more, when
// it reserves there.
func (s *Server) checkMove(ctx context.Context, c connection.State, move connection.RequestMove) error {
	const op = "api.MoveConnection"
	var p domain.Problems
	var node [2]string
	pointers := [2]string{"/customer_port_id", "/provider_port_id"}
	for i, side := range [2]struct{ before, after string }{{c.CustomerPortID, move.CustomerPortID}, {c.ProviderPortID, move.ProviderPortID}} {
		before, _, err := events.Load(ctx, s.Log, port.Stream(side.before), port.Evolve)
		if err != nil {
			return err
		}
		after, _, err := events.Load(ctx, s.Log, port.Stream(side.after), port.Evolve)
		if err != nil {
			return err
		}
		p.Check(after.ID != "" && after.OrganisationID == before.OrganisationID, pointers[i], "is not a port of the party whose port it replaces")
		node[i] = after.EdgeNodeID
	}
	p.Check(len(p) > 0 || node[0] == node[1], pointers[1], "is on another edge node than the customer's port")
	if err := p.Err(op); err != nil {
		return err
	}
	on, _, err := events.Load(ctx, s.Log, edgenode.Stream(node[0]), edgenode.Evolve)
	if err != nil {
		return err
	}
	return s.checkApart(ctx, op, c, redundancygroup.Member{ConnectionID: c.ID, PortID: move.CustomerPortID, ProviderPortID: move.ProviderPortID,
		EdgeNodeID: on.ID, Location: on.Building()}, "move it to ports where its redundancy groups allow it, or move the other one first")
}

// checkApart returns a Conflict if a connection would share, where it is to be, what one of its redundancy groups forbids.
func (s *Server) checkApart(ctx context.Context, op string, c connection.State, at redundancygroup.Member, hint string) error {
	beside, err := provisioning.ReadBeside(ctx, s.Pool, s.Log, c.ID, "")
	if err != nil {
		return err
	}
	if crowd := beside.Crowded(at); crowd != "" {
		return domain.Errorf(domain.Conflict, op, "%s", crowd).WithHint("%s", hint)
	}
	return nil
}

// rebuildView shows to a party how to configure its router for the build that is to come.
func rebuildView(s connection.State, to Caller) *Rebuild {
	r := s.Rebuild
	if r == nil {
		return nil
	}
	v := Rebuild{Reason: r.Reason, RequestedAt: r.RequestedAt, Deadline: r.Deadline, TrafficStoppedAt: r.StoppedAt}
	if b := r.Build; b != nil {
		v.EdgeNodeId = &b.EdgeNodeID
		switch to.OrganisationID {
		case s.CustomerID:
			v.Attachment = routerView(&b.A, b.EdgeASN)
		case s.ProviderID:
			v.Attachment = routerView(&b.Z, b.EdgeASN)
		}
	}
	return &v
}
