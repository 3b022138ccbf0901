package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/quote"
	"crossbill/events"
)

// ModifyConnection orders what a quote for the connection says. The order and the quote change in one append.
func (s *Server) ModifyConnection(ctx context.Context, req ModifyConnectionRequestObject) (ModifyConnectionResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	const op = "api.ModifyConnection"
	b, caller, now := req.Body, callerFrom(ctx), s.now()
	changed, version, err := s.loadConnection(ctx, req.ConnectionId)
	if err != nil {
		return nil, err
	}
	if err := onlyFor(ctx, changed.CustomerID, "customer"); err != nil {
		return nil, err
	}
	if err := checkMatch(req.Params.IfMatch, version); err != nil {
		return nil, err
	}
	quoted, quoteVersion, err := s.loadQuote(ctx, b.QuoteId)
	if err != nil {
		return nil, err
	}
	if quoted.ConnectionID != changed.ID || quoted.Change == nil {
		return nil, domain.Errorf(domain.Conflict, op, "the quote %s is not for this connection", quoted.QuoteID).
			WithHint("ask for a quote with connection_id")
	}
	offered, terms, err := s.quotedListing(ctx, quoted)
	if err != nil {
		return nil, err
	}
	orderID, err := s.newID(domain.PrefixOrder)
	if err != nil {
		return nil, err
	}
	place := order.PlaceChange{
		OrderID: orderID, CustomerID: caller.OrganisationID, Quote: quoted, QuoteHash: b.QuoteHash, MaxTotal: b.MaxTotal, Listing: offered,
		Connection: changed, Deadline: now.Add(terms.AnswerWithin()), PurchaseOrder: valueOr(b.PurchaseOrder, ""), At: now, By: caller.Principal.Ref(),
	}
	decided, err := order.Decide(order.State{}, place)
	if err != nil {
		return nil, err
	}
	if err := s.checkRebuild(ctx, changed, evolved(order.State{}, order.Evolve, decided)); err != nil {
		return nil, err
	}
	accepted, err := quote.Decide(quoted, quote.Accept{OrderID: orderID, At: now})
	if err != nil {
		return nil, err
	}
	total, err := order.TotalOf(quoted)
	if err != nil {
		return nil, err
	}
	var answer Order
	var position *int64
	month := order.CommitmentOf(caller.Principal.Ref(), total, now).Month
	err = s.withinLimits(ctx, total, month, quoted.ProviderID, func(needed string, ask askFunc) error {
		place.ApprovalNeeded = needed
		placed, err := order.Decide(order.State{}, place)
		if err != nil {
			return err
		}
		answer = orderView(evolved(order.State{}, order.Evolve, placed))
		position, err = s.commit(ctx, events.Append{Ask: ask, Streams: []events.StreamAppend{
			appendTo(order.Stream(orderID), 0, placed...), appendTo(quote.Stream(quoted.QuoteID), quoteVersion, accepted...),
		}}, http.StatusAccepted, answer, unique(changed.CustomerID, changed.ProviderID)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ModifyConnection202JSONResponse{Body: answer, Headers: ModifyConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// checkRebuild returns a Conflict if a change would set the connection up where its redundancy groups don't let it be, as they are
// now. The saga looks once more, when it reserves there.
func (s *Server) checkRebuild(ctx context.Context, c connection.State, placed order.State) error {
	if placed.Rebuild == nil {
		return nil
	}
	node, _, err := events.Load(ctx, s.Log, edgenode.Stream(c.EdgeNodeID), edgenode.Evolve)
	if err != nil {
		return err
	}
	at := memberOf(c, node)
	at.ProviderPortID = placed.Rebuild.ProviderPortID
	return s.checkApart(ctx, "api.ModifyConnection", c, at, "take one of the two out of the redundancy group first, or have the provider offer the change on another port")
}

// quotedConnection is the connection that a quote is to change, of the caller's own; nil for a new one.
func (s *Server) quotedConnection(ctx context.Context, id *string) (*connection.State, error) {
	if id == nil {
		return nil, nil
	}
	state, _, err := s.loadConnection(ctx, *id)
	if err != nil {
		return nil, err
	}
	return &state, onlyFor(ctx, state.CustomerID, "customer")
}

// TerminateConnection ends a connection now, or has it ended at a date. Either is an order, made in the same append; a
// termination now of one that is scheduled brings the scheduled order forward.
func (s *Server) TerminateConnection(ctx context.Context, req TerminateConnectionRequestObject) (TerminateConnectionResponseObject, error) {
	view, position, err := s.changeConnection(ctx, req.ConnectionId, req.Params.IfMatch, http.StatusAccepted,
		func(c connection.State, version int64) ([]domain.Event, []events.StreamAppend, error) {
			return s.termination(ctx, c, req.Body.Reason, valueOr(req.Body.EffectiveAt, time.Time{}))
		})
	if err != nil {
		return nil, err
	}
	return TerminateConnection202JSONResponse{Body: view, Headers: TerminateConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// termination decides the end of a connection, and the order that asks for it.
func (s *Server) termination(ctx context.Context, c connection.State, reason string, at time.Time) ([]domain.Event, []events.StreamAppend, error) {
	now := s.now()
	if !at.IsZero() && c.BillingTo != nil {
		at = time.Time{} // it is being taken down: asked for again, that changes nothing
	}
	if at.IsZero() && (c.Termination != nil || c.BillingTo != nil) {
		end := connection.RequestDecommission{Reason: reason, At: now}
		if c.Termination != nil {
			end.OrderID = c.Termination.OrderID
		}
		decided, err := connection.Decide(c, end)
		return decided, nil, err
	}
	orderID, err := s.newID(domain.PrefixOrder)
	if err != nil {
		return nil, nil, err
	}
	var command connection.Command = connection.RequestDecommission{Reason: reason, At: now, OrderID: orderID}
	if !at.IsZero() {
		command = connection.ScheduleTermination{OrderID: orderID, Reason: reason, EffectiveAt: at, At: now}
	}
	decided, err := connection.Decide(c, command)
	if err != nil || len(decided) == 0 {
		return nil, nil, err
	}
	placed, err := order.Decide(order.State{}, order.PlaceRemoval{OrderID: orderID, Connection: c, By: callerFrom(ctx).Principal.Ref(), At: now})
	if err != nil {
		return nil, nil, err
	}
	return decided, []events.StreamAppend{appendTo(order.Stream(orderID), 0, placed...)}, nil
}

// UnscheduleTermination takes a scheduled termination back, and cancels the order that asked for it.
func (s *Server) UnscheduleTermination(ctx context.Context, req UnscheduleTerminationRequestObject) (UnscheduleTerminationResponseObject, error) {
	view, position, err := s.changeConnection(ctx, req.ConnectionId, req.Params.IfMatch, http.StatusOK,
		func(c connection.State, _ int64) ([]domain.Event, []events.StreamAppend, error) {
			now := s.now()
			if c.Termination == nil {
				return nil, nil, domain.Errorf(domain.Conflict, "api.UnscheduleTermination", "no termination of the connection %s is scheduled", c.ID).
					WithHint("read the connection again")
			}
			decided, err := connection.Decide(c, connection.UnscheduleTermination{OrderID: c.Termination.OrderID, At: now})
			if err != nil {
				return nil, nil, err
			}
			asked, version, err := s.loadOrder(ctx, c.Termination.OrderID)
			if err != nil {
				return nil, nil, err
			}
			cancelled, err := order.Decide(asked, order.TakeBack{Reason: "the customer took the termination back", At: now})
			if err != nil {
				return nil, nil, err
			}
			return decided, []events.StreamAppend{appendTo(order.Stream(asked.ID), version, cancelled...)}, nil
		})
	if err != nil {
		return nil, err
	}
	return UnscheduleTermination200JSONResponse{Body: view, Headers: UnscheduleTermination200ResponseHeaders{CrossbillPosition: position}}, nil
}

// SuspendConnection asks for the gate to be closed.
func (s *Server) SuspendConnection(ctx context.Context, req SuspendConnectionRequestObject) (SuspendConnectionResponseObject, error) {
	view, position, err := s.changeConnection(ctx, req.ConnectionId, req.Params.IfMatch, http.StatusAccepted,
		s.commanded(connection.RequestSuspension{Reason: req.Body.Reason, At: s.now()}))
	if err != nil {
		return nil, err
	}
	return SuspendConnection202JSONResponse{Body: view, Headers: SuspendConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// ResumeConnection asks for the gate to be opened again.
func (s *Server) ResumeConnection(ctx context.Context, req ResumeConnectionRequestObject) (ResumeConnectionResponseObject, error) {
	view, position, err := s.changeConnection(ctx, req.ConnectionId, req.Params.IfMatch, http.StatusAccepted,
		s.commanded(connection.RequestResumption{At: s.now()}))
	if err != nil {
		return nil, err
	}
	return ResumeConnection202JSONResponse{Body: view, Headers: ResumeConnection202ResponseHeaders{CrossbillPosition: position}}, nil
}

// decision is what is to be recorded of a connection, and of other streams in the same append.
type decision func(c connection.State, version int64) ([]domain.Event, []events.StreamAppend, error)

func (s *Server) commanded(command connection.Command) decision {
	return func(c connection.State, _ int64) ([]domain.Event, []events.StreamAppend, error) {
		decided, err := connection.Decide(c, command)
		return decided, nil, err
	}
}

// changeConnection records what its customer wants of a connection, and returns it as it is then.
func (s *Server) changeConnection(ctx context.Context, id string, ifMatch *string, status int, decide decision) (view Connection, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		state, version, err := s.loadConnection(ctx, id)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		view, position, err = s.recordOf(ctx, state, version, status, decide)
		return err
	})
}

// recordOf records what is decided of a connection, with what else is in the same append, and returns it as it is then.
func (s *Server) recordOf(ctx context.Context, state connection.State, version int64, status int, decide decision) (view Connection, position *int64, _ error) {
	decided, others, err := decide(state, version)
	if err != nil {
		return view, nil, err
	}
	view = connectionView(evolved(state, connection.Evolve, decided), callerFrom(ctx))
	if len(decided) == 0 {
		return view, nil, nil
	}
	position, err = s.commit(ctx, events.Append{Streams: append([]events.StreamAppend{appendTo(connection.Stream(state.ID), version, decided...)}, others...)},
		status, view, unique(state.CustomerID, state.ProviderID)...)
	return view, position, err
}
