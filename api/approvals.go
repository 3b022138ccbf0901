package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/order"
	"crossbill/events"
)

// ApproveOrder is a person's yes, for the customer, to an order above what its principal may commit to alone. It commits
// the person, whose key may have limits too: else a limited person could place an order and approve it.
func (s *Server) ApproveOrder(ctx context.Context, req ApproveOrderRequestObject) (ApproveOrderResponseObject, error) {
	caller, now := callerFrom(ctx), s.now()
	state, position, err := s.answerForCustomer(ctx, req.OrderId, req.Params.IfMatch, http.StatusAccepted, func(o order.State, record recordOrder) error {
		quoted, _, err := s.loadQuote(ctx, o.QuoteID)
		if err != nil {
			return err
		}
		_, terms, err := s.quotedListing(ctx, quoted)
		if err != nil {
			return err
		}
		total, err := order.TotalOf(quoted)
		if err != nil {
			return err
		}
		decided, err := order.Decide(o, order.Approve{By: caller.Principal.Ref(), Total: total, Deadline: now.Add(terms.AnswerWithin()), At: now})
		if err != nil || len(decided) == 0 {
			return err
		}
		month := order.CommitmentOf(caller.Principal.Ref(), total, now).Month
		return s.withinLimits(ctx, total, month, o.ProviderID, func(needed string, ask askFunc) error {
			if needed != "" {
				return domain.Errorf(domain.Forbidden, "api.ApproveOrder", "the order is above the limits of this key too").
					WithHint("ask somebody whose key has wider limits, or none")
			}
			return record(decided, ask)
		})
	})
	if err != nil {
		return nil, err
	}
	return ApproveOrder202JSONResponse{Body: orderView(state), Headers: ApproveOrder202ResponseHeaders{CrossbillPosition: position, RetryAfter: lookAgain(state.State)}}, nil
}

// DeclineOrder is a person's no to such an order.
func (s *Server) DeclineOrder(ctx context.Context, req DeclineOrderRequestObject) (DeclineOrderResponseObject, error) {
	state, position, err := s.answerForCustomer(ctx, req.OrderId, req.Params.IfMatch, http.StatusOK, func(o order.State, record recordOrder) error {
		decided, err := order.Decide(o, order.Decline{By: callerFrom(ctx).Principal.Ref(), Reason: req.Body.Reason, At: s.now()})
		if err != nil || len(decided) == 0 {
			return err
		}
		return record(decided, nil)
	})
	if err != nil {
		return nil, err
	}
	return DeclineOrder200JSONResponse{Body: orderView(state), Headers: DeclineOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

// recordOrder records what was decided on an order, if the ask allows it.
type recordOrder func(decided []domain.Event, ask askFunc) error

func (s *Server) answerForCustomer(ctx context.Context, id string, ifMatch *string, status int, decide func(order.State, recordOrder) error) (state order.State, position *int64, err error) {
	err = again(ifMatch, func() error {
		var version int64
		var err error
		if state, version, err = s.loadOrder(ctx, id); err != nil {
			return err
		}
		if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		return decide(state, func(decided []domain.Event, ask askFunc) error {
			changed := evolved(state, order.Evolve, decided)
			at, err := s.commit(ctx, events.Append{Ask: ask, Streams: []events.StreamAppend{appendTo(order.Stream(id), version, decided...)}},
				status, orderView(changed), unique(state.CustomerID, state.ProviderID)...)
			if err == nil {
				state, position = changed, at
			}
			return err
		})
	})
	return state, position, err
}
