-- Both sides of a rated item: beside what the provider is settled also what the customer was charged, so that either can compare.

-- +goose Up

ALTER TABLE read_settled_items
    ADD COLUMN line              int,              -- of the document; null until the document itself is read
    ADD COLUMN charged           numeric,          -- exact, in major units; negative of a credit note
    ADD COLUMN settlement_number text COLLATE "C"; -- of the settlement, or of the credit of it

UPDATE read_settled_items AS r
   SET line = (l ->> 'number')::int, charged = (l -> 'amount' ->> 'amount')::numeric
  FROM read_invoices AS i, json_array_elements(i.doc -> 'lines') AS l
 WHERE r.document_id = i.invoice_id AND r.item_id = l ->> 'item_id';
UPDATE read_settled_items AS r
   SET line = (l ->> 'number')::int, charged = -(l -> 'amount' ->> 'amount')::numeric
  FROM read_credit_notes AS c, json_array_elements(c.doc -> 'lines') AS l
 WHERE r.document_id = c.credit_note_id AND r.item_id = l ->> 'item_id' AND l ->> 'kind' = 'passthrough';
UPDATE read_settled_items AS r
   SET settlement_number = s.doc ->> 'number'
  FROM read_settlements AS s
 WHERE r.settlement_id = s.settlement_id AND r.amount IS NOT NULL AND r.evidence_digest IS NOT NULL;
UPDATE read_settled_items AS r
   SET settlement_number = c ->> 'number'
  FROM read_settlements AS s, json_array_elements(s.doc -> 'credits') AS c
 WHERE r.settlement_id = s.settlement_id AND r.document_id = c ->> 'credit_note_id';

-- +goose Down

ALTER TABLE read_settled_items DROP COLUMN line, DROP COLUMN charged, DROP COLUMN settlement_number;
