package api

import (
	"context"
	"net/http"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/settlement"
	"crossbill/events"
	"crossbill/projections"
)

// usage is the store that billing reads readings from.
func (s *Server) usage() usage.Store { return usage.Store{Pool: s.Pool, Log: s.Log} }

// GetIssuer shows who makes out the invoices, to everybody.
func (s *Server) GetIssuer(ctx context.Context, _ GetIssuerRequestObject) (GetIssuerResponseObject, error) {
	state, _, err := events.Load(ctx, s.Log, issuer.Stream(billing.Issuer), issuer.Evolve)
	return GetIssuer200JSONResponse(issuerView(state)), err
}

// SetIssuer records who makes out the invoices.
func (s *Server) SetIssuer(ctx context.Context, req SetIssuerRequestObject) (SetIssuerResponseObject, error) {
	var answer Issuer
	var position *int64
	err := again(nil, func() error {
		stream := issuer.Stream(billing.Issuer)
		state, version, err := events.Load(ctx, s.Log, stream, issuer.Evolve)
		if err != nil {
			return err
		}
		decided, err := issuer.Decide(state, issuer.Change{Issuer: billing.Issuer, Details: *req.Body, At: s.now()})
		if err != nil {
			return err
		}
		if answer = issuerView(evolved(state, issuer.Evolve, decided)); len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(stream, version, decided...)}}, http.StatusCreated, answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return SetIssuer201JSONResponse{Body: answer, Headers: SetIssuer201ResponseHeaders{CrossbillPosition: position}}, nil
}

func issuerView(s issuer.State) Issuer {
	v := Issuer{Version: s.Version}
	if s.Version > 0 {
		v.Details, v.RecordedAt = &s.Details, &s.At
	}
	return v
}

// ListInvoices lists the caller's invoices; an operator sees all.
func (s *Server) ListInvoices(ctx context.Context, req ListInvoicesRequestObject) (ListInvoicesResponseObject, error) {
	p := req.Params
	search, err := bookSearch(p.Period, p.Currency, p.Limit, p.PageToken)
	if err != nil {
		return nil, err
	}
	search.State, search.BillingAccountID = string(valueOr(p.State, "")), valueOr(p.BillingAccountId, "")
	found, next, err := s.Queries.InvoicesOf(ctx, viewer(ctx), search)
	if err != nil {
		return nil, err
	}
	page := InvoicePage{Items: []Invoice{}, NextPageToken: optional(next)}
	for _, i := range found {
		page.Items = append(page.Items, invoiceView(i))
	}
	return ListInvoices200JSONResponse(page), nil
}

// bookSearch is what the lists of invoices and settlements are narrowed by. period is a month.
func bookSearch(period *Month, currency *Currency, limit *int, token *string) (projections.BookSearch, error) {
	search := projections.BookSearch{Currency: valueOr(currency, ""), Limit: valueOr(limit, 100), PageToken: valueOr(token, "")}
	if period == nil {
		return search, nil
	}
	month, err := billing.ParseMonth(*period)
	search.From, search.To = month.From, month.To
	return search, err
}

// GetInvoice shows an invoice to its customer.
func (s *Server) GetInvoice(ctx context.Context, req GetInvoiceRequestObject) (GetInvoiceResponseObject, error) {
	state, version, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	return GetInvoice200JSONResponse{Body: invoiceView(state), Headers: GetInvoice200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadInvoice(ctx context.Context, id string) (invoice.State, int64, error) {
	return load(ctx, s, "invoice", id, invoice.Stream(id), invoice.Evolve,
		func(i invoice.State) []string { return []string{i.CustomerID} })
}

// ExplainInvoiceLine computes a line again from its own events.
func (s *Server) ExplainInvoiceLine(ctx context.Context, req ExplainInvoiceLineRequestObject) (ExplainInvoiceLineResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	explained, err := billing.Explain(ctx, s.Log, state.Content, req.Line)
	if err != nil {
		return nil, err
	}
	answer := Explanation{
		Line: lineView(explained.Line), Recomputed: explained.Recomputed, Matches: explained.Recomputed == explained.Line.Amount,
		Events: []EvidenceEvent{},
	}
	for _, e := range explained.Events {
		answer.Events = append(answer.Events, EvidenceEvent{
			Position: int64(e.Position), Type: e.Type, Stream: e.Stream, Version: e.Version, LeafHash: e.LeafHash,
		})
	}
	return ExplainInvoiceLine200JSONResponse(answer), nil
}

// ListSettlements lists what the caller is owed; an operator sees all.
func (s *Server) ListSettlements(ctx context.Context, req ListSettlementsRequestObject) (ListSettlementsResponseObject, error) {
	p := req.Params
	search, err := bookSearch(p.Period, p.Currency, p.Limit, p.PageToken)
	if err != nil {
		return nil, err
	}
	found, next, err := s.Queries.SettlementsOf(ctx, viewer(ctx), search)
	if err != nil {
		return nil, err
	}
	page := SettlementPage{Items: []Settlement{}, NextPageToken: optional(next)}
	for _, settled := range found {
		page.Items = append(page.Items, settlementView(settled))
	}
	return ListSettlements200JSONResponse(page), nil
}

// GetSettlement shows a settlement to its provider.
func (s *Server) GetSettlement(ctx context.Context, req GetSettlementRequestObject) (GetSettlementResponseObject, error) {
	state, version, err := load(ctx, s, "settlement", req.SettlementId, settlement.Stream(req.SettlementId), settlement.Evolve,
		func(v settlement.State) []string { return []string{v.ProviderID} })
	if err != nil {
		return nil, err
	}
	return GetSettlement200JSONResponse{Body: settlementView(state), Headers: GetSettlement200ResponseHeaders{ETag: etag(version)}}, nil
}
