package api

import (
	"context"
	"net/http"

	"crossbill/domain/quote"
	"crossbill/events"
)

// ListQuotes lists the quotes made for the caller's organisation or over its listings; an operator sees all.
func (s *Server) ListQuotes(ctx context.Context, req ListQuotesRequestObject) (ListQuotesResponseObject, error) {
	now := s.now()
	found, next, err := s.Queries.QuotesOf(ctx, viewer(ctx), string(valueOr(req.Params.State, "")), now,
		valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := QuotePage{Items: []Quote{}, NextPageToken: optional(next)}
	for _, q := range found {
		page.Items = append(page.Items, quoteView(q, now))
	}
	return ListQuotes200JSONResponse(page), nil
}

// WithdrawQuote gives a quote up for its customer. Its provider can't: a quote is a promise. An operator can, for a price
// that was published in error.
func (s *Server) WithdrawQuote(ctx context.Context, req WithdrawQuoteRequestObject) (WithdrawQuoteResponseObject, error) {
	var (
		view     Quote
		position *int64
		now      = s.now()
	)
	err := again(req.Params.IfMatch, func() error {
		state, version, err := s.loadQuote(ctx, req.QuoteId)
		if err != nil {
			return err
		}
		if !callerFrom(ctx).Operator() {
			if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
				return err
			}
		}
		if err := checkMatch(req.Params.IfMatch, version); err != nil {
			return err
		}
		decided, err := quote.Decide(state, quote.Withdraw{At: now})
		if err != nil {
			return err
		}
		view = quoteView(evolved(state, quote.Evolve, decided), now)
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(quote.Stream(state.QuoteID), version, decided...)}},
			http.StatusOK, view, unique(state.CustomerID, state.ProviderID)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return WithdrawQuote200JSONResponse{Body: view, Headers: WithdrawQuote200ResponseHeaders{CrossbillPosition: position}}, nil
}
