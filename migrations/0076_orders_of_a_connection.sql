-- The orders for a connection, for its timeline: also those that it never heard of because they were refused.

-- +goose Up

-- A finished order costs a later page of a timeline nothing: last_position tells that all of it was told.
ALTER TABLE read_orders
    ADD COLUMN connection_id text COLLATE "C",
    ADD COLUMN last_position bigint; -- of the order's last event
-- Rows of before count as never told until the order's next event or a rebuild gives them their last position.
UPDATE read_orders SET connection_id = doc ->> 'connection_id', last_position = 9223372036854775807;
ALTER TABLE read_orders ALTER COLUMN connection_id SET NOT NULL, ALTER COLUMN last_position SET NOT NULL;
CREATE INDEX read_orders_connection ON read_orders (connection_id, position);

-- +goose Down

ALTER TABLE read_orders DROP COLUMN connection_id, DROP COLUMN last_position;
