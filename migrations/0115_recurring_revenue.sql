-- Recurring revenue: what connections come to in a full month, from when on; and a provider's revenue without what was credited.

-- +goose Up

-- What a quote comes to in a full month without usage: a fixed price, a commitment, a minimum. A connection names its quote.
CREATE TABLE read_recurring_prices (
    quote_id    text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL,
    provider_id text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    price       bigint NOT NULL, -- the provider's, in minor units
    fee         bigint NOT NULL  -- the platform's on it, in minor units
);

-- Which of them a connection is sold at, from when on. Rows of a connection take each other's place in the order of positions.
CREATE TABLE read_recurring_terms (
    connection_id text COLLATE "C" NOT NULL,
    position      bigint NOT NULL,
    since         timestamptz,     -- null until production begins
    customer_id   text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    currency      text COLLATE "C" NOT NULL,
    price         bigint NOT NULL, -- 0 from its end on
    fee           bigint NOT NULL,
    PRIMARY KEY (connection_id, position)
);
CREATE INDEX read_recurring_terms_provider ON read_recurring_terms (provider_id);
CREATE INDEX read_recurring_terms_customer ON read_recurring_terms (customer_id, currency, since);
ALTER TABLE read_recurring_terms ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_recurring_terms FOR SELECT TO crossbill_tenant USING (crossbill_sees(provider_id));
-- The fee is between the platform and the customer, so it is no column for callers.
GRANT SELECT (connection_id, position, since, customer_id, provider_id, currency, price) ON read_recurring_terms TO crossbill_tenant;

-- What was credited since is taken off, as the projection does from now on.
UPDATE read_revenue AS r
   SET amount = r.amount - c.amount
  FROM (SELECT s.settlement_id, l ->> 'connection_id' AS connection_id, sum((b.value ->> 'amount')::numeric) AS amount
          FROM read_settlements AS s, json_array_elements(s.doc -> 'lines') AS l, json_each(s.doc -> 'credited_items') AS b
         WHERE b.key = l ->> 'item_id'
         GROUP BY 1, 2) AS c
 WHERE r.settlement_id = c.settlement_id AND r.connection_id = c.connection_id;

-- +goose Down

DROP TABLE read_recurring_terms, read_recurring_prices;
