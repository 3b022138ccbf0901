package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// applySettledItems keeps, for each passthrough item of a document, what its customer's invoice and its provider's settlement
// say of it. The two are events of two streams, in whichever order; each fills in its own columns.
func applySettledItems(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	for _, e := range batch {
		for _, f := range []family{invoices.family, settlements.family, creditNotes.family} {
			if _, _, err := f.id(e); err != nil {
				return err
			}
		}
		var err error
		switch d := e.Event.(type) {
		case invoice.Issued:
			err = insertInvoicedItems(ctx, tx, d)
		case creditnote.Issued:
			err = insertCreditedItems(ctx, tx, d)
		case settlement.Issued:
			var items settledItems
			for _, l := range d.Lines {
				items.add(l.InvoiceID, l.ItemID, l.Amount)
			}
			err = items.insert(ctx, tx, d.SettlementID, d.Number, d.ProviderID)
		case settlement.Credited:
			if d.CreditNoteID == "" { // a void invoice is no document that has items
				continue
			}
			var items settledItems
			for _, l := range d.Lines {
				items.add(d.CreditNoteID, l.ItemID, l.Amount.Neg())
			}
			err = items.insert(ctx, tx, d.SettlementID, d.Number, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func insertInvoicedItems(ctx context.Context, tx pgx.Tx, i invoice.Issued) error {
	var items chargedItems
	for _, l := range i.Lines {
		if l.Kind == invoice.LinePassthrough {
			items.add(l.ItemID, l.ProviderID, l.Number, l.Amount, invoice.EvidenceDigest(l.Evidence))
		}
	}
	return items.insert(ctx, tx, i.InvoiceID, i.CustomerID)
}

func insertCreditedItems(ctx context.Context, tx pgx.Tx, c creditnote.Issued) error {
	var items chargedItems
	for _, l := range c.Lines {
		if l.Kind == invoice.LinePassthrough {
			items.add(l.ItemID, l.ProviderID, l.Number, l.Amount.Neg(), "")
		}
	}
	return items.insert(ctx, tx, c.CreditNoteID, c.CustomerID)
}

// chargedItems are passthrough items of one document to a customer.
type chargedItems struct {
	items, providers, amounts, digests []string
	lines                              []int32
}

func (c *chargedItems) add(item, provider string, line int, amount domain.Money, digest string) {
	c.items, c.providers, c.lines = append(c.items, item), append(c.providers, provider), append(c.lines, int32(line))
	c.amounts, c.digests = append(c.amounts, amount.Amount()), append(c.digests, digest)
}

func (c *chargedItems) insert(ctx context.Context, tx pgx.Tx, documentID, customerID string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO read_settled_items (document_id, item_id, customer_id, provider_id, line, charged, evidence_digest)
		SELECT $1, item_id, $2, provider_id, line, charged::numeric, nullif(digest, '')
		FROM unnest($3::text[], $4::text[], $5::int[], $6::text[], $7::text[]) AS t (item_id, provider_id, line, charged, digest)
		ON CONFLICT (document_id, item_id) DO UPDATE
		SET customer_id = EXCLUDED.customer_id, provider_id = EXCLUDED.provider_id, line = EXCLUDED.line, charged = EXCLUDED.charged,
		    evidence_digest = EXCLUDED.evidence_digest`,
		documentID, customerID, c.items, c.providers, c.lines, c.amounts, c.digests)
	return err
}

// settledItems are items of one settlement.
type settledItems struct{ documents, items, amounts []string }

func (s *settledItems) add(document, item string, amount domain.Money) {
	s.documents, s.items, s.amounts = append(s.documents, document), append(s.items, item), append(s.amounts, amount.Amount())
}

// insert leaves the provider as it is where it is not known here.
func (s *settledItems) insert(ctx context.Context, tx pgx.Tx, settlementID, number, providerID string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO read_settled_items (document_id, item_id, provider_id, settlement_id, settlement_number, amount)
		SELECT document_id, item_id, nullif($1, ''), $2, nullif($3, ''), amount::numeric
		FROM unnest($4::text[], $5::text[], $6::text[]) AS t (document_id, item_id, amount)
		ON CONFLICT (document_id, item_id) DO UPDATE
		SET provider_id = coalesce(read_settled_items.provider_id, EXCLUDED.provider_id), settlement_id = EXCLUDED.settlement_id,
		    settlement_number = EXCLUDED.settlement_number, amount = EXCLUDED.amount`,
		providerID, settlementID, number, s.documents, s.items, s.amounts)
	return err
}

// ItemOf is a rated item on an invoice, or what a credit note takes off it.
type ItemOf struct{ DocumentID, ItemID string }

// SettledItem is what is known of one. Amounts are in major units of the document's currency, and negative of a credit note.
type SettledItem struct {
	EvidenceDigest string // "" of a credit note
	CustomerID     string
	ProviderID     string
	Line           int    // of the document
	Charged        string // to the customer; "" until the document is read
	SettlementID   string // "" until it is settled
	Number         string // of the settlement, or of its credit; "" if it has none
	Amount         string // that is settled
}

// SettledItems returns what the viewer, as customer or as provider, may know of the passthrough items of documents.
func (q Queries) SettledItems(ctx context.Context, viewer Viewer, documents []string) (map[ItemOf]SettledItem, error) {
	const op = "projections.SettledItems"
	if err := viewer.check(op); err != nil {
		return nil, err
	}
	rows, err := q.DB.Query(ctx, `
		SELECT document_id, item_id, coalesce(evidence_digest, ''), coalesce(customer_id, ''), coalesce(provider_id, ''), coalesce(line, 0),
		       coalesce(charged::text, ''), coalesce(settlement_id, ''), coalesce(settlement_number, ''), coalesce(amount::text, '')
		FROM read_settled_items -- primary key
		WHERE document_id = ANY($2) AND ($1 = '' OR customer_id = $1 OR provider_id = $1)`, viewer.organisation, documents)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found := make(map[ItemOf]SettledItem)
	var of ItemOf
	var i SettledItem
	_, err = pgx.ForEachRow(rows, []any{&of.DocumentID, &of.ItemID, &i.EvidenceDigest, &i.CustomerID, &i.ProviderID, &i.Line, &i.Charged, &i.SettlementID, &i.Number, &i.Amount}, func() error {
		found[of] = i
		return nil
	})
	return found, unavailable(op, err)
}
