-- What people and programs look orders, quotes, service keys and redundancy groups up by. See 0010 for the rules that read
-- models keep, and 0060 for who sees which row.

-- +goose Up

-- The queue of an order: who has to act. It stands beside doc because it is computed from it, not a field of it.
ALTER TABLE read_orders
    ADD COLUMN state text COLLATE "C",
    ADD COLUMN needs text COLLATE "C",     -- '' while the platform is at work, and at the end
    ADD COLUMN since timestamptz;          -- when the order came into its state
-- Rows of before: nobody could be asked anything but the provider. A rebuild gives them their exact times.
UPDATE read_orders
   SET state = doc ->> 'state',
       needs = CASE doc ->> 'state' WHEN 'awaiting_provider' THEN 'provider' ELSE '' END,
       since = coalesce(doc ->> 'closed_at', doc ->> 'accepted_at', doc ->> 'placed_at')::timestamptz;
ALTER TABLE read_orders ALTER COLUMN state SET NOT NULL, ALTER COLUMN needs SET NOT NULL, ALTER COLUMN since SET NOT NULL;
-- An open order is one of few, and finished ones are many: the queues have small indexes of their own.
CREATE INDEX read_orders_customer_state ON read_orders (customer_id, state, position);
CREATE INDEX read_orders_provider_state ON read_orders (provider_id, state, position);
CREATE INDEX read_orders_customer_needs ON read_orders (customer_id, needs, position) WHERE needs <> '';
CREATE INDEX read_orders_provider_needs ON read_orders (provider_id, needs, position) WHERE needs <> '';
CREATE INDEX read_orders_needs ON read_orders (needs, position) WHERE needs <> '';
CREATE INDEX read_orders_under_way ON read_orders (position) WHERE state IN ('in_progress', 'cancelling');

CREATE TABLE read_quotes (
    quote_id    text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL UNIQUE,
    version     bigint NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    provider_id text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL, -- as recorded: issued ones expire by themselves
    valid_until timestamptz NOT NULL,
    doc         json NOT NULL
);
CREATE INDEX read_quotes_customer ON read_quotes (customer_id, position);
CREATE INDEX read_quotes_provider ON read_quotes (provider_id, position);

-- Service keys are their issuer's. doc has the hash of the secret, which the API does not show.
CREATE TABLE read_service_keys (
    service_key_id text COLLATE "C" PRIMARY KEY,
    position       bigint NOT NULL UNIQUE,
    version        bigint NOT NULL,
    provider_id    text COLLATE "C" NOT NULL,
    port_id        text COLLATE "C" NOT NULL,
    doc            json NOT NULL
);
CREATE INDEX read_service_keys_provider ON read_service_keys (provider_id, position);

-- A group is its customer's alone: no provider learns what stands in for its connection.
CREATE TABLE read_redundancy_groups (
    redundancy_group_id text COLLATE "C" PRIMARY KEY,
    position            bigint NOT NULL UNIQUE,
    version             bigint NOT NULL,
    customer_id         text COLLATE "C" NOT NULL,
    doc                 json NOT NULL
);
CREATE INDEX read_redundancy_groups_customer ON read_redundancy_groups (customer_id, position);

ALTER TABLE read_quotes ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_quotes FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
ALTER TABLE read_service_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_service_keys FOR SELECT TO crossbill_tenant USING (crossbill_sees(provider_id));
ALTER TABLE read_redundancy_groups ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_redundancy_groups FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id));
GRANT SELECT ON read_quotes, read_service_keys, read_redundancy_groups TO crossbill_tenant;

-- +goose Down

DROP TABLE read_quotes, read_service_keys, read_redundancy_groups;
ALTER TABLE read_orders DROP COLUMN state, DROP COLUMN needs, DROP COLUMN since;
