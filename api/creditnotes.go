package api

import (
	"context"
	"net/http"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/events"
)

// CreditInvoice issues a credit note. Its id is derived from the idempotency key, so that a repeated request whose answer
// was lost finds the note that there is.
func (s *Server) CreditInvoice(ctx context.Context, req CreditInvoiceRequestObject) (CreditInvoiceResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixCreditNote)
	if err != nil {
		return nil, err
	}
	if request, ok := idempotentFrom(ctx); ok {
		id = domain.DeriveID(domain.PrefixCreditNote, state.At, request.organisationID, request.key)
	}
	credit := billing.CreditRequest{
		CreditNoteID: id, InvoiceID: req.InvoiceId, Reason: req.Body.Reason, Everything: valueOr(req.Body.Everything, false), At: s.now(),
		Metadata: metadataOf(ctx),
	}
	if req.Body.Lines != nil {
		for _, l := range *req.Body.Lines {
			credit.Lines = append(credit.Lines, billing.CreditLine{Line: l.Line, Amount: l.Amount, Fraction: valueOr(l.Fraction, domain.Decimal{})})
		}
	}
	result, err := billing.Credit(ctx, s.Log, credit)
	if err != nil {
		return nil, err
	}
	answer := creditNoteView(result.CreditNote)
	if err := s.keepAfter(ctx, http.StatusCreated, answer, result.Position); err != nil {
		return nil, err
	}
	return CreditInvoice201JSONResponse{
		Body: answer, Headers: CreditInvoice201ResponseHeaders{CrossbillPosition: optional(int64(result.Position))},
	}, nil
}

// metadataOf says who appends what is appended elsewhere.
func metadataOf(ctx context.Context) events.Metadata {
	caller := callerFrom(ctx)
	return events.Metadata{Actor: caller.KeyID, OnBehalfOf: caller.Delegation.OnBehalfOf, Reason: caller.Delegation.Reason}
}

// VoidInvoice makes an invoice void and, if asked to, bills its connections again. Repeated, it does what was not done.
func (s *Server) VoidInvoice(ctx context.Context, req VoidInvoiceRequestObject) (VoidInvoiceResponseObject, error) {
	result, err := billing.Void(ctx, s.Log, billing.VoidRequest{
		InvoiceID: req.InvoiceId, Reason: req.Body.Reason, At: s.now(), Metadata: metadataOf(ctx),
	})
	if err != nil {
		return nil, err
	}
	answer, position := VoidedInvoice{Invoice: invoiceView(result.Invoice)}, result.Position
	if valueOr(req.Body.Reissue, false) {
		run, err := billing.Run(ctx, s.Log, s.usage(), billing.RunRequest{
			PeriodStart: result.Invoice.PeriodStart, PeriodEnd: result.Invoice.PeriodEnd, ConnectionIDs: result.Connections, At: s.now(),
			Metadata: metadataOf(ctx),
		})
		if err != nil {
			return nil, err
		}
		view := billingRunView(run)
		answer.BillingRun, position = &view, max(position, run.Position)
	}
	if err := s.keepAfter(ctx, http.StatusOK, answer, position); err != nil {
		return nil, err
	}
	return VoidInvoice200JSONResponse{Body: answer, Headers: VoidInvoice200ResponseHeaders{CrossbillPosition: optional(int64(position))}}, nil
}

// ListCreditNotes lists the credit notes over the caller's invoices; an operator sees all.
func (s *Server) ListCreditNotes(ctx context.Context, req ListCreditNotesRequestObject) (ListCreditNotesResponseObject, error) {
	p := req.Params
	search, err := bookSearch(p.Period, p.Currency, p.Limit, p.PageToken)
	if err != nil {
		return nil, err
	}
	found, next, err := s.Queries.CreditNotesOf(ctx, viewer(ctx), search)
	if err != nil {
		return nil, err
	}
	page := CreditNotePage{Items: []CreditNote{}, NextPageToken: optional(next)}
	for _, n := range found {
		page.Items = append(page.Items, creditNoteView(n.Content))
	}
	return ListCreditNotes200JSONResponse(page), nil
}

// GetCreditNote shows a credit note to its customer.
func (s *Server) GetCreditNote(ctx context.Context, req GetCreditNoteRequestObject) (GetCreditNoteResponseObject, error) {
	state, version, err := s.loadCreditNote(ctx, req.CreditNoteId)
	if err != nil {
		return nil, err
	}
	return GetCreditNote200JSONResponse{Body: creditNoteView(state.Content), Headers: GetCreditNote200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadCreditNote(ctx context.Context, id string) (creditnote.State, int64, error) {
	return load(ctx, s, "credit note", id, creditnote.Stream(id), creditnote.Evolve,
		func(n creditnote.State) []string { return []string{n.CustomerID} })
}

func creditNoteView(n creditnote.Content) CreditNote {
	v := CreditNote{
		Id: n.CreditNoteID, Number: n.Number, InvoiceId: n.InvoiceID, InvoiceNumber: n.InvoiceNumber, CustomerId: n.CustomerID, Reason: n.Reason,
		PeriodStart: n.PeriodStart, PeriodEnd: n.PeriodEnd, Currency: n.Currency, Lines: []CreditNoteLine{}, Passthrough: n.Passthrough, Fee: n.Fee,
		Taxes: taxViews(n.Taxes), Tax: optional(n.Tax), Total: n.Total, PurchaseOrder: optional(n.PurchaseOrder), IssuedAt: n.At,
	}
	for _, l := range n.Lines {
		line := CreditNoteLine{
			Number: l.Number, InvoiceLine: l.InvoiceLine, ItemId: l.ItemID, Kind: CreditNoteLineKind(l.Kind), ProviderId: l.ProviderID,
			ConnectionId: l.ConnectionID, Description: l.Description, Exact: l.Exact, Amount: l.Amount, Steps: append([]string{}, l.Steps...),
		}
		if l.TaxCategory != "" {
			category := TaxCategory(l.TaxCategory)
			line.TaxCategory = &category
		}
		v.Lines = append(v.Lines, line)
	}
	return v
}
