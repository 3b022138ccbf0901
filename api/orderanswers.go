package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

// CustomerAnswerDelay is how long an order waits for a customer's answer to a provider's question. For the provider's own
// it waits as long as the listing says.
const CustomerAnswerDelay = 7 * 24 * time.Hour

// Seconds until it is worth looking at an order again.
const (
	lookAgainAtWork  = 1  // the platform is at it
	lookAgainWaiting = 60 // a person is
)

// lookAgain is the Retry-After of an answer that shows an order on its way.
func lookAgain(state string) *int {
	seconds := lookAgainAtWork
	if state == order.StateAwaitingProvider || state == order.StateAwaitingApproval {
		seconds = lookAgainWaiting
	}
	return &seconds
}

// AcceptOrder is the provider's yes.
func (s *Server) AcceptOrder(ctx context.Context, req AcceptOrderRequestObject) (AcceptOrderResponseObject, error) {
	state, position, err := s.changeOrder(ctx, req.OrderId, req.Params.IfMatch, theProvider,
		order.Accept{By: callerFrom(ctx).KeyID, At: s.now()})
	if err != nil {
		return nil, err
	}
	return AcceptOrder202JSONResponse{Body: orderView(state), Headers: AcceptOrder202ResponseHeaders{
		CrossbillPosition: position, RetryAfter: lookAgain(state.State)}}, nil
}

// RejectOrder is the provider's no.
func (s *Server) RejectOrder(ctx context.Context, req RejectOrderRequestObject) (RejectOrderResponseObject, error) {
	state, position, err := s.changeOrder(ctx, req.OrderId, req.Params.IfMatch, theProvider, order.Reject{Reason: req.Body.Reason, At: s.now()})
	if err != nil {
		return nil, err
	}
	return RejectOrder200JSONResponse{Body: orderView(state), Headers: RejectOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

// AskAboutOrder is the provider's question.
func (s *Server) AskAboutOrder(ctx context.Context, req AskAboutOrderRequestObject) (AskAboutOrderResponseObject, error) {
	now := s.now()
	state, position, err := s.changeOrder(ctx, req.OrderId, req.Params.IfMatch, theProvider,
		order.Ask{Question: req.Body.Question, AnswerBy: now.Add(CustomerAnswerDelay), At: now})
	if err != nil {
		return nil, err
	}
	return AskAboutOrder200JSONResponse{Body: orderView(state), Headers: AskAboutOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

// AnswerAboutOrder is the customer's answer.
func (s *Server) AnswerAboutOrder(ctx context.Context, req AnswerAboutOrderRequestObject) (AnswerAboutOrderResponseObject, error) {
	state, position, err := s.changeOrder(ctx, req.OrderId, req.Params.IfMatch, theCustomer,
		order.Answer{Number: req.Body.Number, Answer: req.Body.Answer, At: s.now()})
	if err != nil {
		return nil, err
	}
	return AnswerAboutOrder200JSONResponse{Body: orderView(state), Headers: AnswerAboutOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

// CancelOrder gives an order up for its customer, or for an operator when a person has to step in.
func (s *Server) CancelOrder(ctx context.Context, req CancelOrderRequestObject) (CancelOrderResponseObject, error) {
	state, position, err := s.changeOrder(ctx, req.OrderId, req.Params.IfMatch, func(ctx context.Context, o order.State) error {
		if !callerFrom(ctx).Operator() {
			if err := theCustomer(ctx, o); err != nil {
				return err
			}
		}
		return s.notDelivered(ctx, o)
	}, order.Cancel{Reason: req.Body.Reason, At: s.now()})
	if err != nil {
		return nil, err
	}
	if state.State == order.StateCancelling {
		return CancelOrder202JSONResponse{Body: orderView(state), Headers: CancelOrder202ResponseHeaders{
			CrossbillPosition: position, RetryAfter: lookAgain(state.State)}}, nil
	}
	return CancelOrder200JSONResponse{Body: orderView(state), Headers: CancelOrder200ResponseHeaders{CrossbillPosition: position}}, nil
}

// notDelivered returns a Conflict for an order whose connection is in production although the saga has not completed it
// yet. A cancellation that crosses with the activation itself is still undone by the saga, and billed for no time.
func (s *Server) notDelivered(ctx context.Context, o order.State) error {
	if o.State != order.StateInProgress {
		return nil
	}
	made, _, err := events.Load(ctx, s.Log, connection.Stream(o.ConnectionID), connection.Evolve)
	if err != nil {
		return err
	}
	if made.OrderID == o.ID && made.BillingFrom != nil {
		return domain.Errorf(domain.Conflict, "api.CancelOrder", "the order %s has made its connection", o.ID).
			WithHint("terminate the connection %s", o.ConnectionID)
	}
	return nil
}

func theProvider(ctx context.Context, o order.State) error {
	return onlyFor(ctx, o.ProviderID, "provider")
}
func theCustomer(ctx context.Context, o order.State) error {
	return onlyFor(ctx, o.CustomerID, "customer")
}

// changeOrder decides a command on an order, if who asks is the right one, and records it. The answer that is kept has
// the status of the order's state: 202 while the platform is at work.
func (s *Server) changeOrder(ctx context.Context, id string, ifMatch *string, may func(context.Context, order.State) error, command order.Command) (changed order.State, position *int64, _ error) {
	return changed, position, again(ifMatch, func() error {
		state, version, err := s.loadOrder(ctx, id)
		if err != nil {
			return err
		}
		if err := may(ctx, state); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		decided, err := order.Decide(state, command)
		if err != nil {
			return err
		}
		if changed = evolved(state, order.Evolve, decided); len(decided) == 0 {
			return nil
		}
		status := http.StatusOK
		if changed.State == order.StateInProgress || changed.State == order.StateCancelling {
			status = http.StatusAccepted
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(order.Stream(id), version, decided...)}},
			status, orderView(changed), unique(state.CustomerID, state.ProviderID)...)
		return err
	})
}

func orderView(s order.State) Order {
	v := Order{
		Id: s.ID, Item: OrderItem(s.ItemKind()), State: OrderState(s.State), CustomerId: s.CustomerID, ProviderId: s.ProviderID, QuoteId: s.QuoteID,
		ListingId: s.ListingID, ListingVersion: s.ListingVersion, ConnectionId: s.ConnectionID, PortId: s.PortID,
		BandwidthMbps: s.BandwidthMbps, PurchaseOrder: optional(s.PurchaseOrder), ServiceKeyId: optional(s.ServiceKeyID),
		RedundancyGroupId: optional(s.GroupID), BillingAccountId: optional(s.BillingAccountID), Questions: []OrderQuestion{},
		Reason: optional(s.Reason), PlacedAt: s.PlacedAt, AcceptedAt: s.AcceptedAt, ClosedAt: s.ClosedAt, Since: s.Since,
		Deadline: s.Deadline, ApprovalNeeded: optional(OrderApprovalNeeded(s.ApprovalNeeded)), ApprovedBy: optional(s.ApprovedBy),
		ApprovedAt: s.ApprovedAt,
	}
	if s.PlacedBy != nil {
		by := principalView(*s.PlacedBy)
		v.PlacedBy = &by
	}
	if who, by := s.Needs(); who != order.NeedsNobody {
		needs := OrderNeeds(who)
		v.Needs, v.NeedsBy = &needs, &by
	}
	for _, q := range s.Questions {
		v.Questions = append(v.Questions, OrderQuestion{
			Number: q.Number, Question: q.Question, AskedAt: q.AskedAt, AnswerBy: q.AnswerBy, Answer: optional(q.Answer), AnsweredAt: q.AnsweredAt,
		})
	}
	return v
}
