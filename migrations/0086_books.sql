-- Invoices and settlements by period, currency, state and billing account, and what settlements come to for each connection.

-- +goose Up

-- The columns are filled from the documents that stand beside them, as the projection fills them from now on.
ALTER TABLE read_invoices
    ADD COLUMN period_start       timestamptz,
    ADD COLUMN currency           text COLLATE "C",
    ADD COLUMN state              text COLLATE "C",
    ADD COLUMN billing_account_id text COLLATE "C"; -- null: the customer's default account
UPDATE read_invoices
   SET period_start = (doc ->> 'period_start')::timestamptz, currency = doc ->> 'currency', state = doc ->> 'state',
       billing_account_id = doc ->> 'billing_account_id';
ALTER TABLE read_invoices
    ALTER COLUMN period_start SET NOT NULL,
    ALTER COLUMN currency SET NOT NULL,
    ALTER COLUMN state SET NOT NULL;

ALTER TABLE read_settlements
    ADD COLUMN period_start timestamptz,
    ADD COLUMN currency     text COLLATE "C";
UPDATE read_settlements SET period_start = (doc ->> 'period_start')::timestamptz, currency = doc ->> 'currency';
ALTER TABLE read_settlements
    ALTER COLUMN period_start SET NOT NULL,
    ALTER COLUMN currency SET NOT NULL;

-- A provider's revenue: the sum of a settlement's lines for each connection on it.
CREATE TABLE read_revenue (
    settlement_id text COLLATE "C" NOT NULL,
    connection_id text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    period_start  timestamptz NOT NULL,
    currency      text COLLATE "C" NOT NULL,
    amount        numeric NOT NULL, -- exact, in major units, with the digits of the currency
    PRIMARY KEY (settlement_id, connection_id)
);
CREATE INDEX read_revenue_provider ON read_revenue (provider_id, period_start);
INSERT INTO read_revenue
SELECT s.settlement_id, l ->> 'connection_id', s.provider_id, s.period_start, s.currency, sum((l -> 'amount' ->> 'amount')::numeric)
  FROM read_settlements AS s, json_array_elements(s.doc -> 'lines') AS l
 GROUP BY 1, 2, 3, 4, 5;

ALTER TABLE read_revenue ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_revenue FOR SELECT TO crossbill_tenant USING (crossbill_sees(provider_id));
GRANT SELECT ON read_revenue TO crossbill_tenant;

-- +goose Down

DROP TABLE read_revenue;
ALTER TABLE read_settlements DROP COLUMN period_start, DROP COLUMN currency;
ALTER TABLE read_invoices DROP COLUMN period_start, DROP COLUMN currency, DROP COLUMN state, DROP COLUMN billing_account_id;
