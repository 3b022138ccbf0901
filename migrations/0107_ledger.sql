-- The double-entry ledger: a transaction for each event that moves money, and its entries. Rows are only ever added.

-- +goose Up

-- The journal, which operators are told through the platform's own rights.
CREATE TABLE ledger_transactions (
    position    bigint PRIMARY KEY, -- of the event
    event_id    uuid NOT NULL,
    event_type  text COLLATE "C" NOT NULL,
    dated       date NOT NULL,      -- the day of the event, UTC
    code        text NOT NULL,      -- the document's number or the processor's reference; "" if there is none
    description text NOT NULL,
    key         text COLLATE "C"    -- how later events speak of it; null if none does
);
CREATE INDEX ledger_transactions_dated ON ledger_transactions (dated, position);
CREATE INDEX ledger_transactions_key ON ledger_transactions (key) WHERE key IS NOT NULL;

-- The entries of a transaction sum to zero in each currency. The projection holds them to it, before it writes and after; a
-- trigger would not be there in the tables that a rebuild makes.
CREATE TABLE ledger_entries (
    position bigint NOT NULL,
    leg      int    NOT NULL,           -- from 1
    account  text   COLLATE "C" NOT NULL,
    party_id text   COLLATE "C",        -- the organisation whose account with the platform it is; null: the platform's own
    currency text   COLLATE "C" NOT NULL,
    minor    bigint NOT NULL,           -- minor units; a debit is above zero
    PRIMARY KEY (position, leg)
);
CREATE INDEX ledger_entries_account ON ledger_entries (account, position) INCLUDE (currency, minor);

ALTER TABLE ledger_entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON ledger_entries FOR SELECT TO crossbill_tenant USING (crossbill_sees(party_id));
GRANT SELECT ON ledger_entries TO crossbill_tenant;

-- +goose Down

DROP TABLE ledger_entries, ledger_transactions;
