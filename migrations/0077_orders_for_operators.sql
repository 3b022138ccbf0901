-- What operators look orders up by: those that the platform should have moved on, and why an order failed in figures that
-- its parties may not know.

-- +goose Up

-- From when on the platform has to move an order on, and NULL at its end, in the place of when it came into its state.
DROP INDEX read_orders_under_way;
ALTER TABLE read_orders RENAME COLUMN since TO due;
ALTER TABLE read_orders ALTER COLUMN due DROP NOT NULL;
UPDATE read_orders
   SET due = CASE
       WHEN needs = 'customer' THEN (doc -> 'questions' -> -1 ->> 'answer_by')::timestamptz
       WHEN needs <> '' THEN (doc ->> 'deadline')::timestamptz
       WHEN state IN ('acknowledged', 'in_progress', 'cancelling') THEN due
       END;
CREATE INDEX read_orders_due ON read_orders (position) WHERE due IS NOT NULL; -- an open order is one of few

-- Written by provisioning in the append that fails the order. No event has it: both parties of the order read its events.
CREATE TABLE order_obstacles (
    order_id text COLLATE "C" PRIMARY KEY,
    detail   text NOT NULL
);
ALTER TABLE order_obstacles ENABLE ROW LEVEL SECURITY;
CREATE POLICY operators ON order_obstacles FOR SELECT TO crossbill_tenant USING (crossbill_sees(VARIADIC '{}')); -- no organisation
GRANT SELECT ON order_obstacles TO crossbill_tenant;

-- +goose Down

DROP TABLE order_obstacles;
DROP INDEX read_orders_due;
ALTER TABLE read_orders RENAME COLUMN due TO since;
UPDATE read_orders SET since = coalesce(doc ->> 'since', doc ->> 'closed_at', doc ->> 'accepted_at', doc ->> 'placed_at')::timestamptz;
ALTER TABLE read_orders ALTER COLUMN since SET NOT NULL;
CREATE INDEX read_orders_under_way ON read_orders (position) WHERE state IN ('in_progress', 'cancelling');
