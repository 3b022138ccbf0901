package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/quote"
	"crossbill/events"
	"crossbill/projections"
)

// PlaceOrder turns a quote into an order and the connection it is for. All three change in one append, or none does.
func (s *Server) PlaceOrder(ctx context.Context, req PlaceOrderRequestObject) (PlaceOrderResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	b, caller, now := req.Body, callerFrom(ctx), s.now()
	quoted, quoteVersion, err := s.loadQuote(ctx, b.QuoteId)
	if err != nil {
		return nil, err
	}
	if err := onlyFor(ctx, quoted.CustomerID, "customer of the quote"); err != nil {
		return nil, err
	}
	if quoted.Change != nil {
		return nil, domain.Errorf(domain.Conflict, "api.PlaceOrder", "the quote %s is for a change of the connection %s", quoted.QuoteID, quoted.ConnectionID).
			WithHint("order it with POST /v1/connections/{id}:modify")
	}
	customerPort, _, err := events.Load(ctx, s.Log, port.Stream(b.PortId), port.Evolve)
	if err != nil {
		return nil, err
	}
	// What is quoted can be ordered, though the listing may be off the market by now, or hidden from the customer.
	offered, _, err := events.Load(ctx, s.Log, listing.Stream(quoted.ListingID), listing.Evolve)
	if err != nil {
		return nil, err
	}
	terms, ok := offered.TermsOf(quoted.ListingVersion)
	if !ok {
		return nil, domain.Errorf(domain.Internal, "api.PlaceOrder", "quote %s names a version of its listing that does not exist", quoted.QuoteID)
	}
	providerPort, _, err := events.Load(ctx, s.Log, port.Stream(terms.PortID), port.Evolve)
	if err != nil {
		return nil, err
	}

	orderID, err := s.newID(domain.PrefixOrder)
	if err != nil {
		return nil, err
	}
	connectionID, err := s.newID(domain.PrefixConnection)
	if err != nil {
		return nil, err
	}
	billedTo, err := s.billedTo(ctx, b.BillingAccountId)
	if err != nil {
		return nil, err
	}
	place := order.Place{
		OrderID: orderID, ConnectionID: connectionID, CustomerID: caller.OrganisationID, Quote: quoted, QuoteHash: b.QuoteHash,
		MaxTotal: b.MaxTotal, Listing: offered, PortID: b.PortId, Port: customerPort, ProviderPort: providerPort, BGP: b.Bgp,
		Deadline:      now.Add(answerWithin(terms)),
		PurchaseOrder: valueOr(b.PurchaseOrder, ""), BillingAccountID: billedTo, At: now, By: caller.Principal.Ref(),
	}
	if _, err := order.Decide(order.State{}, place); err != nil { // before anything else is decided: its errors point into the request
		return nil, err
	}
	accepted, err := quote.Decide(quoted, quote.Accept{OrderID: orderID, At: now})
	if err != nil {
		return nil, err
	}
	requested, err := connection.Decide(connection.State{}, connection.Request{
		ConnectionID: connectionID, OrderID: orderID, QuoteID: quoted.QuoteID, CustomerID: quoted.CustomerID,
		ProviderID: quoted.ProviderID, ListingID: quoted.ListingID, ListingVersion: quoted.ListingVersion,
		BandwidthMbps: quoted.BandwidthMbps, CustomerPortID: b.PortId, ProviderPortID: terms.PortID,
		CustomerBGP: b.Bgp, ProviderBGP: terms.BGP, BillingAccountID: billedTo, At: now,
	})
	if err != nil {
		return nil, err
	}
	total, err := order.TotalOf(quoted)
	if err != nil {
		return nil, err
	}
	var state order.State
	var position *int64
	month := order.CommitmentOf(caller.Principal.Ref(), total, now).Month
	err = s.withinLimits(ctx, total, month, quoted.ProviderID, func(needed string, ask askFunc) error {
		place.ApprovalNeeded = needed
		placed, err := order.Decide(order.State{}, place)
		if err != nil {
			return err
		}
		state = evolved(order.State{}, order.Evolve, placed)
		if valueOr(req.Params.DryRun, false) {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Ask: ask, Streams: []events.StreamAppend{
			appendTo(order.Stream(orderID), 0, placed...),
			appendTo(quote.Stream(quoted.QuoteID), quoteVersion, accepted...),
			appendTo(connection.Stream(connectionID), 0, requested...),
		}}, http.StatusAccepted, orderView(state), unique(quoted.CustomerID, quoted.ProviderID)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	if valueOr(req.Params.DryRun, false) {
		return PlaceOrder200JSONResponse(orderView(state)), nil
	}
	return PlaceOrder202JSONResponse{Body: orderView(state), Headers: PlaceOrder202ResponseHeaders{CrossbillPosition: position, RetryAfter: lookAgain(state.State)}}, nil
}

// ListOrders lists the orders the caller's organisation placed or received; an operator sees all.
func (s *Server) ListOrders(ctx context.Context, req ListOrdersRequestObject) (ListOrdersResponseObject, error) {
	found, next, err := s.Queries.OrdersOf(ctx, viewer(ctx), projections.OrderFilter{}, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := OrderPage{Items: []Order{}, NextPageToken: optional(next)}
	for _, o := range found {
		page.Items = append(page.Items, orderView(o))
	}
	return ListOrders200JSONResponse(page), nil
}

// GetOrder shows an order to its customer and its provider.
func (s *Server) GetOrder(ctx context.Context, req GetOrderRequestObject) (GetOrderResponseObject, error) {
	state, version, err := s.loadOrder(ctx, req.OrderId)
	if err != nil {
		return nil, err
	}
	return GetOrder200JSONResponse{Body: orderView(state), Headers: GetOrder200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadOrder(ctx context.Context, id string) (order.State, int64, error) {
	return load(ctx, s, "order", id, order.Stream(id), order.Evolve,
		func(o order.State) []string { return []string{o.CustomerID, o.ProviderID} })
}
