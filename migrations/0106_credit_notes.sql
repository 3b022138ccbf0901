-- Credit notes, for their customers.

-- +goose Up

CREATE TABLE read_credit_notes (
    credit_note_id text COLLATE "C" PRIMARY KEY,
    position       bigint NOT NULL UNIQUE,
    version        bigint NOT NULL,
    customer_id    text COLLATE "C" NOT NULL,
    invoice_id     text COLLATE "C" NOT NULL,
    issued_at      timestamptz NOT NULL,
    currency       text COLLATE "C" NOT NULL,
    doc            json NOT NULL
);
CREATE INDEX read_credit_notes_customer ON read_credit_notes (customer_id, position);
ALTER TABLE read_credit_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_credit_notes FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id));
GRANT SELECT ON read_credit_notes TO crossbill_tenant;

-- +goose Down

DROP TABLE read_credit_notes;
