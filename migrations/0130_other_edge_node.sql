-- A connection that is moved is on two edge nodes for a while: on the one that it is to leave or has left, and on the one
-- that it goes to. The other one stands beside the first, so that each node finds it in its desired state, and sees it.

-- +goose Up

ALTER TABLE read_connections ADD COLUMN other_edge_node_id text COLLATE "C"; -- null unless it is moved
CREATE INDEX read_connections_other_edge_node ON read_connections (other_edge_node_id, connection_id) WHERE other_edge_node_id IS NOT NULL;
ALTER POLICY parties ON read_connections USING (crossbill_sees(customer_id, provider_id, edge_node_id, other_edge_node_id));

-- +goose Down

ALTER POLICY parties ON read_connections USING (crossbill_sees(customer_id, provider_id, edge_node_id));
ALTER TABLE read_connections DROP COLUMN other_edge_node_id;
