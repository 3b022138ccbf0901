package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/order"
	"crossbill/events"
)

// RetryConnection has a step tried again that is tried no more by itself.
func (s *Server) RetryConnection(ctx context.Context, req RetryConnectionRequestObject) (RetryConnectionResponseObject, error) {
	view, position, err := s.answerTrouble(ctx, req.ConnectionId, req.Params.IfMatch, s.commanded(connection.RetryStep{Reason: req.Body.Reason, At: s.now()}))
	if err != nil {
		return nil, err
	}
	return RetryConnection202JSONResponse{Body: view, Headers: RetryConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// SkipConnectionStep has the saga go on without the edge node's word that the connection is removed. A node that was heard of
// since that was due is there to remove it, and to deliver its readings.
func (s *Server) SkipConnectionStep(ctx context.Context, req SkipConnectionStepRequestObject) (SkipConnectionStepResponseObject, error) {
	view, position, err := s.answerTrouble(ctx, req.ConnectionId, req.Params.IfMatch,
		func(c connection.State, _ int64) ([]domain.Event, []events.StreamAppend, error) {
			decided, err := connection.Decide(c, connection.SkipStep{Reason: req.Body.Reason, At: s.now()})
			if err != nil || len(decided) == 0 {
				return nil, nil, err
			}
			for _, node := range c.Awaited() {
				heard, err := s.Platform.EdgeHeard(ctx, []edgenode.State{{ID: node}})
				if err != nil {
					return nil, nil, err
				}
				if at := heard[node].At; at != nil && at.After(c.Trouble.Since) {
					return nil, nil, domain.Errorf(domain.Conflict, "api.SkipConnectionStep", "the edge node %s was heard of at %s", node, at.UTC().Format(time.RFC3339)).
						WithHint("retry: it is there to remove the connection and to deliver its readings")
				}
			}
			return decided, nil, nil
		})
	if err != nil {
		return nil, err
	}
	return SkipConnectionStep202JSONResponse{Body: view, Headers: SkipConnectionStep202ResponseHeaders{CrossbillPosition: position}}, nil
}

// RollBackConnection fails the order whose step is tried no more, from which the saga undoes what was done for it.
func (s *Server) RollBackConnection(ctx context.Context, req RollBackConnectionRequestObject) (RollBackConnectionResponseObject, error) {
	view, position, err := s.answerTrouble(ctx, req.ConnectionId, req.Params.IfMatch,
		func(c connection.State, _ int64) ([]domain.Event, []events.StreamAppend, error) {
			now := s.now()
			decided, err := connection.Decide(c, connection.RollBackStep{Reason: req.Body.Reason, At: now})
			if err != nil || len(decided) == 0 || c.RollsBack() == "" {
				return decided, nil, err
			}
			failing, version, err := s.loadOrder(ctx, c.RollsBack())
			if err != nil {
				return nil, nil, err
			}
			failed, err := order.Decide(failing, order.Fail{Reason: req.Body.Reason, At: now})
			if err != nil || len(failed) == 0 {
				return decided, nil, err
			}
			return decided, []events.StreamAppend{appendTo(order.Stream(failing.ID), version, failed...)}, nil
		})
	if err != nil {
		return nil, err
	}
	return RollBackConnection202JSONResponse{Body: view, Headers: RollBackConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// answerTrouble records what an operator does about a connection's trouble, and returns the connection as it is then.
func (s *Server) answerTrouble(ctx context.Context, id string, ifMatch *string, decide decision) (view Connection, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		state, version, err := s.loadConnection(ctx, id)
		if err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		view, position, err = s.recordOf(ctx, state, version, http.StatusAccepted, decide)
		return err
	})
}
