-- What both sides of a rated item may know of it: which settlement it is in, at which amount, on what evidence.
--
-- An invoice is the customer's to see and a settlement the provider's, and each has a part of this. An export needs both: a
-- customer's says what the provider gets, a provider's what its line was computed from.

-- +goose Up

CREATE TABLE read_settled_items (
    document_id     text COLLATE "C" NOT NULL, -- the invoice, or the credit note that takes something off one
    item_id         text COLLATE "C" NOT NULL,
    customer_id     text COLLATE "C",          -- null until the document itself is read
    provider_id     text COLLATE "C",
    evidence_digest text COLLATE "C",          -- null of a credit note
    settlement_id   text COLLATE "C",          -- null until it is settled
    amount          numeric,                   -- exact, in major units; negative of a credit note
    PRIMARY KEY (document_id, item_id)
);
ALTER TABLE read_settled_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_settled_items FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
GRANT SELECT ON read_settled_items TO crossbill_tenant;

-- +goose Down

DROP TABLE read_settled_items;
