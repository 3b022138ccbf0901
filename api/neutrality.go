package api

import (
	"context"
	"slices"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/projections"
)

// neutrality compares one side of rated items, the caller's own documents, with the other, as far as the caller may see it.
type neutrality struct {
	currency domain.Currency
	other    map[projections.ItemOf]projections.SettledItem
	answer   Neutrality
}

// compare begins with what is known of the items of documents. A viewer who is a provider knows only its own items of them.
func (s *Server) compare(ctx context.Context, documents []string, currency domain.Currency) (*neutrality, error) {
	other, err := s.Queries.SettledItems(ctx, viewer(ctx), documents)
	return &neutrality{currency: currency, other: other, answer: Neutrality{Equal: true, Lines: []NeutralLine{}}}, err
}

// add takes an item of the caller's own document. charged or settled is nil: it is what the other side says.
func (n *neutrality) add(of projections.ItemOf, charged, settled *domain.Money) error {
	item := n.other[of]
	delete(n.other, of)
	for _, side := range []struct {
		amount **domain.Money
		says   string
	}{{&charged, item.Charged}, {&settled, item.Amount}} {
		if *side.amount == nil && side.says != "" {
			amount, err := domain.ParseMoney(side.says, n.currency)
			if err != nil {
				return err
			}
			*side.amount = &amount
		}
	}
	line := NeutralLine{
		DocumentId: of.DocumentID, ItemId: of.ItemID, Line: optional(item.Line), CustomerId: optional(item.CustomerID), ProviderId: optional(item.ProviderID),
		SettlementId: optional(item.SettlementID), SettlementNumber: optional(item.Number), EvidenceDigest: optional(item.EvidenceDigest),
		Charged: charged, Settled: settled, Equal: charged != nil && settled != nil && *charged == *settled,
	}
	n.answer.Lines = append(n.answer.Lines, line)
	n.answer.Equal = n.answer.Equal && line.Equal
	return nil
}

// rest adds the items that the other side has and the caller's own documents have not, in order.
func (n *neutrality) rest() error {
	var left []projections.ItemOf
	for of := range n.other {
		left = append(left, of)
	}
	slices.SortFunc(left, func(a, b projections.ItemOf) int {
		return slices.Compare([]string{a.DocumentID, a.ItemID}, []string{b.DocumentID, b.ItemID})
	})
	for _, of := range left {
		if err := n.add(of, nil, nil); err != nil {
			return err
		}
		n.answer.Lines[len(n.answer.Lines)-1].Equal, n.answer.Equal = false, false
	}
	return nil
}

// GetInvoiceNeutrality shows a customer what became of its passthrough lines: the invoice is read as the caller, and what the
// settlements say of its items from what both sides may know.
func (s *Server) GetInvoiceNeutrality(ctx context.Context, req GetInvoiceNeutralityRequestObject) (GetInvoiceNeutralityResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	notes := state.CreditNotes
	n, err := s.compare(ctx, append([]string{state.InvoiceID}, notes...), state.Currency)
	if err != nil {
		return nil, err
	}
	for _, l := range state.Lines {
		if l.Kind != invoice.LinePassthrough {
			continue
		}
		if err := n.add(projections.ItemOf{DocumentID: state.InvoiceID, ItemID: l.ItemID}, &l.Amount, nil); err != nil {
			return nil, err
		}
	}
	for _, id := range notes {
		note, _, err := s.loadCreditNote(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, l := range note.Lines {
			if l.Kind != invoice.LinePassthrough {
				continue
			}
			off := l.Amount.Neg()
			if err := n.add(projections.ItemOf{DocumentID: id, ItemID: l.ItemID}, &off, nil); err != nil {
				return nil, err
			}
		}
	}
	if err := n.rest(); err != nil {
		return nil, err
	}
	return GetInvoiceNeutrality200JSONResponse(n.answer), nil
}

// GetSettlementNeutrality shows a provider what customers were charged for its services, and nothing else of their documents.
func (s *Server) GetSettlementNeutrality(ctx context.Context, req GetSettlementNeutralityRequestObject) (GetSettlementNeutralityResponseObject, error) {
	state, _, err := load(ctx, s, "settlement", req.SettlementId, settlement.Stream(req.SettlementId), settlement.Evolve,
		func(v settlement.State) []string { return []string{v.ProviderID} })
	if err != nil {
		return nil, err
	}
	var documents []string
	for _, l := range state.Lines {
		documents = append(documents, l.InvoiceID)
	}
	for _, c := range state.Credits {
		documents = append(documents, c.CreditNoteID)
	}
	n, err := s.compare(ctx, unique(documents...), state.Currency)
	if err != nil {
		return nil, err
	}
	for of, item := range n.other { // an invoice can have items of several settlements, and an operator sees other providers' too
		if item.ProviderID != state.ProviderID || item.SettlementID != "" && item.SettlementID != state.SettlementID {
			delete(n.other, of)
		}
	}
	for _, l := range state.Lines {
		if err := n.add(projections.ItemOf{DocumentID: l.InvoiceID, ItemID: l.ItemID}, nil, &l.Amount); err != nil {
			return nil, err
		}
	}
	for _, c := range state.Credits {
		if c.CreditNoteID == "" { // of a void invoice, which is as it was issued
			continue
		}
		for _, l := range c.Lines {
			off := l.Amount.Neg()
			if err := n.add(projections.ItemOf{DocumentID: c.CreditNoteID, ItemID: l.ItemID}, nil, &off); err != nil {
				return nil, err
			}
		}
	}
	if err := n.rest(); err != nil {
		return nil, err
	}
	return GetSettlementNeutrality200JSONResponse(n.answer), nil
}
