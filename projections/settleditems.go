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
			err = items.insert(ctx, tx, d.SettlementID, d.ProviderID)
		case settlement.Credited:
			if d.CreditNoteID == "" { // a void invoice is no document that has items
				continue
			}
			var items settledItems
			for _, l := range d.Lines {
				items.add(d.CreditNoteID, l.ItemID, l.Amount.Neg())
			}
			err = items.insert(ctx, tx, d.SettlementID, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func insertInvoicedItems(ctx context.Context, tx pgx.Tx, i invoice.Issued) error {
	var items, providers, digests []string
	for _, l := range i.Lines {
		if l.Kind == invoice.LinePassthrough {
			items, providers = append(items, l.ItemID), append(providers, l.ProviderID)
			digests = append(digests, invoice.EvidenceDigest(l.Evidence))
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_settled_items (document_id, item_id, customer_id, provider_id, evidence_digest)
		SELECT $1, item_id, $2, provider_id, digest FROM unnest($3::text[], $4::text[], $5::text[]) AS t (item_id, provider_id, digest)
		ON CONFLICT (document_id, item_id) DO UPDATE
		SET customer_id = EXCLUDED.customer_id, provider_id = EXCLUDED.provider_id, evidence_digest = EXCLUDED.evidence_digest`,
		i.InvoiceID, i.CustomerID, items, providers, digests)
	return err
}

func insertCreditedItems(ctx context.Context, tx pgx.Tx, c creditnote.Issued) error {
	var items, providers []string
	for _, l := range c.Lines {
		if l.Kind == invoice.LinePassthrough {
			items, providers = append(items, l.ItemID), append(providers, l.ProviderID)
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_settled_items (document_id, item_id, customer_id, provider_id)
		SELECT $1, item_id, $2, provider_id FROM unnest($3::text[], $4::text[]) AS t (item_id, provider_id)
		ON CONFLICT (document_id, item_id) DO UPDATE SET customer_id = EXCLUDED.customer_id, provider_id = EXCLUDED.provider_id`,
		c.CreditNoteID, c.CustomerID, items, providers)
	return err
}

// settledItems are items of one settlement.
type settledItems struct{ documents, items, amounts []string }

func (s *settledItems) add(document, item string, amount domain.Money) {
	s.documents, s.items, s.amounts = append(s.documents, document), append(s.items, item), append(s.amounts, amount.Amount())
}

// insert leaves the provider as it is where it is not known here.
func (s *settledItems) insert(ctx context.Context, tx pgx.Tx, settlementID, providerID string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO read_settled_items (document_id, item_id, provider_id, settlement_id, amount)
		SELECT document_id, item_id, nullif($1, ''), $2, amount::numeric
		FROM unnest($3::text[], $4::text[], $5::text[]) AS t (document_id, item_id, amount)
		ON CONFLICT (document_id, item_id) DO UPDATE
		SET provider_id = coalesce(read_settled_items.provider_id, EXCLUDED.provider_id),
		    settlement_id = EXCLUDED.settlement_id, amount = EXCLUDED.amount`,
		providerID, settlementID, s.documents, s.items, s.amounts)
	return err
}

// ItemOf is a rated item on an invoice, or what a credit note takes off it.
type ItemOf struct{ DocumentID, ItemID string }

// SettledItem is what is known of one.
type SettledItem struct {
	EvidenceDigest string // "" of a credit note
	SettlementID   string // "" until it is settled
	Amount         string // in major units of the document's currency; negative of a credit note
}

// SettledItems returns what the viewer, as customer or as provider, may know of the passthrough items of documents.
func (q Queries) SettledItems(ctx context.Context, viewer Viewer, documents []string) (map[ItemOf]SettledItem, error) {
	const op = "projections.SettledItems"
	if err := viewer.check(op); err != nil {
		return nil, err
	}
	rows, err := q.DB.Query(ctx, `
		SELECT document_id, item_id, coalesce(evidence_digest, ''), coalesce(settlement_id, ''), coalesce(amount::text, '')
		FROM read_settled_items -- primary key
		WHERE document_id = ANY($2) AND ($1 = '' OR customer_id = $1 OR provider_id = $1)`, viewer.organisation, documents)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found := make(map[ItemOf]SettledItem)
	var of ItemOf
	var item SettledItem
	_, err = pgx.ForEachRow(rows, []any{&of.DocumentID, &of.ItemID, &item.EvidenceDigest, &item.SettlementID, &item.Amount}, func() error {
		found[of] = item
		return nil
	})
	return found, unavailable(op, err)
}
