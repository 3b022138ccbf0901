-- Which invoices there is money to be moved for, and which settlements an invoice brings something in for.
--
-- Both are derived from the log (billing/stripe/work.go): a row of stripe_work is a hint to look at an invoice, and looking
-- once more does nothing. Nothing is kept here of what was moved: that is payment and payout events.

-- +goose Up

CREATE TABLE stripe_shares (
    invoice_id    text COLLATE "C" NOT NULL,
    settlement_id text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    PRIMARY KEY (invoice_id, settlement_id)
);
CREATE INDEX stripe_shares_settlement ON stripe_shares (settlement_id); -- a credit concerns all invoices of a settlement
CREATE INDEX stripe_shares_provider ON stripe_shares (provider_id);     -- an account that opens, all that wait for it

CREATE TABLE stripe_work (
    invoice_id text COLLATE "C" PRIMARY KEY,
    asked      bigint NOT NULL,             -- the position of the last event that asked for it
    due_at     timestamptz NOT NULL,        -- when to look; whoever looks moves it on first, so that others leave it
    failures   integer NOT NULL DEFAULT 0   -- in a row
);
CREATE INDEX stripe_work_due ON stripe_work (due_at);

-- +goose Down

DROP TABLE stripe_work, stripe_shares;
