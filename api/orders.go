package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/quote"
	"crossbill/domain/servicekey"
	"crossbill/events"
	"crossbill/projections"
	"crossbill/provisioning"
)

// PlaceOrder turns a quote into an order and the connection it is for, with a service key or into a redundancy group if it
// names one. All of them change in one append, or none does.
func (s *Server) PlaceOrder(ctx context.Context, req PlaceOrderRequestObject) (PlaceOrderResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	var (
		p        placement
		position *int64
	)
	err := again(nil, func() (err error) {
		if p, err = s.placement(ctx, *req.Body); err != nil {
			return err
		}
		month := order.CommitmentOf(p.place.By, p.total, p.place.At).Month
		return s.withinLimits(ctx, p.total, month, p.place.Quote.ProviderID, func(needed string, ask askFunc) error {
			p.place.ApprovalNeeded = needed
			placed, err := order.Decide(order.State{}, p.place)
			if err != nil {
				return err
			}
			p.order = evolved(order.State{}, order.Evolve, placed)
			if valueOr(req.Params.DryRun, false) {
				return nil
			}
			streams := append([]events.StreamAppend{appendTo(order.Stream(p.order.ID), 0, placed...)}, p.streams...)
			position, err = s.commit(ctx, events.Append{Ask: provisioning.Both(ask, p.ask), Streams: streams}, http.StatusAccepted, orderView(p.order),
				unique(p.order.CustomerID, p.order.ProviderID)...)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if valueOr(req.Params.DryRun, false) {
		return PlaceOrder200JSONResponse(orderView(p.order)), nil
	}
	return PlaceOrder202JSONResponse{Body: orderView(p.order), Headers: PlaceOrder202ResponseHeaders{
		CrossbillPosition: position, RetryAfter: lookAgain(p.order.State)}}, nil
}

// placement is an order that can be placed, and all that changes with it. What it needs of a person is decided last.
type placement struct {
	place   order.Place
	total   domain.Money // what its principal would commit to
	order   order.State
	streams []events.StreamAppend // all but the order's own
	ask     askFunc               // in the transaction of their append; nil for nothing
}

func (s *Server) placement(ctx context.Context, b NewOrder) (p placement, err error) {
	caller, now := callerFrom(ctx), s.now()
	quoted, quoteVersion, err := s.loadQuote(ctx, b.QuoteId)
	if err != nil {
		return p, err
	}
	if err := onlyFor(ctx, quoted.CustomerID, "customer of the quote"); err != nil {
		return p, err
	}
	if quoted.Change != nil {
		return p, domain.Errorf(domain.Conflict, "api.PlaceOrder", "the quote %s is for a change of the connection %s", quoted.QuoteID, quoted.ConnectionID).
			WithHint("order it with POST /v1/connections/{id}:modify")
	}
	offered, terms, err := s.quotedListing(ctx, quoted)
	if err != nil {
		return p, err
	}
	site, err := s.siteOf(ctx, terms, b.PortId)
	if err != nil {
		return p, err
	}
	orderID, err := s.newID(domain.PrefixOrder)
	if err != nil {
		return p, err
	}
	connectionID, err := s.newID(domain.PrefixConnection)
	if err != nil {
		return p, err
	}
	serviceKeyID, redemption, err := s.redeem(ctx, b.ServiceKey, servicekey.Redeem{
		CustomerID: caller.OrganisationID, PortID: terms.PortID, BandwidthMbps: quoted.BandwidthMbps, OrderID: orderID, At: now,
	})
	if err != nil {
		return p, err
	}
	billedTo, err := s.billedTo(ctx, b.BillingAccountId)
	if err != nil {
		return p, err
	}
	p.place = order.Place{
		OrderID: orderID, ConnectionID: connectionID, CustomerID: caller.OrganisationID, Quote: quoted, QuoteHash: b.QuoteHash,
		MaxTotal: b.MaxTotal, Listing: offered, PortID: b.PortId, Port: site.Port, ProviderPort: site.ProviderPort,
		EdgeNode: site.EdgeNode, PortUse: site.PortUse, ProviderUse: site.ProviderPortUse, EdgeNodeTags: site.EdgeNodeTags,
		ServiceKeyID: serviceKeyID, GroupID: valueOr(b.RedundancyGroupId, ""), BGP: b.Bgp, Deadline: now.Add(terms.AnswerWithin()),
		PurchaseOrder: valueOr(b.PurchaseOrder, ""), BillingAccountID: billedTo, At: now, By: caller.Principal.Ref(),
	}
	if _, err := order.Decide(order.State{}, p.place); err != nil { // before anything else is decided: its errors point into the request
		return p, err
	}
	if p.total, err = order.TotalOf(quoted); err != nil {
		return p, err
	}
	accepted, err := quote.Decide(quoted, quote.Accept{OrderID: orderID, At: now})
	if err != nil {
		return p, err
	}
	requested, err := connection.Decide(connection.State{}, connection.Request{
		ConnectionID: connectionID, OrderID: orderID, QuoteID: quoted.QuoteID, CustomerID: quoted.CustomerID,
		ProviderID: quoted.ProviderID, ListingID: quoted.ListingID, ListingVersion: quoted.ListingVersion,
		BandwidthMbps: quoted.BandwidthMbps, CustomerPortID: b.PortId, ProviderPortID: terms.PortID,
		CustomerBGP: b.Bgp, ProviderBGP: terms.BGP, BillingAccountID: billedTo, At: now,
	})
	if err != nil {
		return p, err
	}
	p.streams = []events.StreamAppend{
		appendTo(quote.Stream(quoted.QuoteID), quoteVersion, accepted...),
		appendTo(connection.Stream(connectionID), 0, requested...),
	}
	if b.ServiceKey != nil {
		p.streams = append(p.streams, redemption)
	}
	if b.RedundancyGroupId != nil {
		joining, ask, err := s.join(ctx, *b.RedundancyGroupId, evolved(connection.State{}, connection.Evolve, requested), site.EdgeNode, now)
		if err != nil {
			return p, err
		}
		p.streams, p.ask = append(p.streams, joining), ask
	}
	return p, nil
}

// quotedListing returns the listing that a quote is for, with the platform's rights: it was shown when the quote was made,
// and may be off the market, or offered to others only, since.
func (s *Server) quotedListing(ctx context.Context, q quote.State) (listing.State, listing.Terms, error) {
	offered, _, err := events.Load(ctx, s.Log, listing.Stream(q.ListingID), listing.Evolve)
	if err != nil {
		return offered, listing.Terms{}, err
	}
	terms, ok := offered.TermsOf(q.ListingVersion)
	if !ok {
		return offered, terms, domain.Errorf(domain.Internal, "api.quotedListing", "quote %s names a version of its listing that does not exist", q.QuoteID)
	}
	return offered, terms, nil
}

// ListOrders lists the orders the caller's organisation placed or received; an operator sees all.
func (s *Server) ListOrders(ctx context.Context, req ListOrdersRequestObject) (ListOrdersResponseObject, error) {
	filter := projections.OrderFilter{State: string(valueOr(req.Params.State, ""))}
	switch needs := valueOr(req.Params.Needs, ""); needs {
	case ListOrdersParamsNeedsOperator:
		filter.Troubled = true
	default:
		filter.Needs = string(needs)
	}
	found, next, err := s.Queries.OrdersOf(ctx, viewer(ctx), filter, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := OrderPage{Items: []Order{}, NextPageToken: optional(next)}
	for _, o := range found {
		page.Items = append(page.Items, orderView(o))
	}
	return ListOrders200JSONResponse(page), nil
}

// GetOrder shows an order to its customer and its provider; an operator also sees why it could not be carried out.
func (s *Server) GetOrder(ctx context.Context, req GetOrderRequestObject) (GetOrderResponseObject, error) {
	state, version, err := s.loadOrder(ctx, req.OrderId)
	if err != nil {
		return nil, err
	}
	view := orderView(state)
	if callerFrom(ctx).Operator() && state.State != order.StateCompleted { // of one that is, it would be of a move that was rolled back
		detail, err := s.Queries.OrderObstacle(ctx, state.ID)
		if err != nil {
			return nil, err
		}
		view.Obstacle = optional(detail)
	}
	return GetOrder200JSONResponse{Body: view, Headers: GetOrder200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadOrder(ctx context.Context, id string) (order.State, int64, error) {
	return load(ctx, s, "order", id, order.Stream(id), order.Evolve,
		func(o order.State) []string { return []string{o.CustomerID, o.ProviderID} })
}
