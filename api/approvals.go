package api

import (
	"context"
	"net/http"

	"crossbill/domain/order"
	"crossbill/events"
)

// ApproveOrder is a person's yes, for the customer, to an order above what its principal may commit to alone.
func (s *Server) ApproveOrder(ctx context.Context, req ApproveOrderRequestObject) (ApproveOrderResponseObject, error) {
	view, position, err := s.answerForCustomer(ctx, req.OrderId, req.Params.IfMatch, http.StatusAccepted, func(o order.State) (order.Command, error) {
		quoted, _, err := s.loadQuote(ctx, o.QuoteID)
		if err != nil {
			return nil, err
		}
		offered, _, err := s.loadListing(ctx, o.ListingID)
		if err != nil {
			return nil, err
		}
		terms, _ := offered.TermsOf(o.ListingVersion)
		now := s.now()
		return order.Approve{By: callerFrom(ctx).Principal.Ref(), Total: quoted.Total, Deadline: now.Add(answerWithin(terms)), At: now}, nil
	})
	if err != nil {
		return nil, err
	}
	return ApproveOrder202JSONResponse{Body: view, Headers: ApproveOrder202ResponseHeaders{CrossbillPosition: position, RetryAfter: lookAgain(string(view.State))}}, nil
}

// DeclineOrder is a person's no to such an order.
func (s *Server) DeclineOrder(ctx context.Context, req DeclineOrderRequestObject) (DeclineOrderResponseObject, error) {
	view, position, err := s.answerForCustomer(ctx, req.OrderId, req.Params.IfMatch, http.StatusOK, func(order.State) (order.Command, error) {
		return order.Decline{By: callerFrom(ctx).Principal.Ref(), Reason: req.Body.Reason, At: s.now()}, nil
	})
	if err != nil {
		return nil, err
	}
	return DeclineOrder200JSONResponse{Body: view, Headers: DeclineOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

func (s *Server) answerForCustomer(ctx context.Context, id string, ifMatch *string, status int, command func(order.State) (order.Command, error)) (view Order, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		state, version, err := s.loadOrder(ctx, id)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		c, err := command(state)
		if err != nil {
			return err
		}
		decided, err := order.Decide(state, c)
		if err != nil {
			return err
		}
		view = orderView(evolved(state, order.Evolve, decided))
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(order.Stream(id), version, decided...)}},
			status, view, unique(state.CustomerID, state.ProviderID)...)
		return err
	})
}
