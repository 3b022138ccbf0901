-- What has changed for each edge node since a revision, so that it need not be told of all its connections when one is ordered.
--
-- A row stays when its connection has left the node: that is a change too, and the node may not have heard of it. Changes of
-- before are not told one by one, and neither are those that a program of before applies while nodes are upgraded: changes_to
-- falls behind the revision then, and changes_from says from where on all are there. See 0010 for the rules that read models keep.

-- +goose Up

CREATE TABLE read_edge_changes (
    edge_node_id  text COLLATE "C" NOT NULL,
    connection_id text COLLATE "C" NOT NULL,
    revision      bigint NOT NULL, -- the position of the last event that changed what the node is told of the connection
    PRIMARY KEY (edge_node_id, connection_id)
);
CREATE INDEX read_edge_changes_revision ON read_edge_changes (edge_node_id, revision);
ALTER TABLE read_edge_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_edge_changes FOR SELECT TO crossbill_tenant USING (crossbill_sees(edge_node_id));
GRANT SELECT ON read_edge_changes TO crossbill_tenant;

ALTER TABLE read_edge_revisions
    ADD COLUMN changes_from bigint NOT NULL DEFAULT 0,
    ADD COLUMN changes_to   bigint NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE read_edge_revisions DROP COLUMN changes_from, DROP COLUMN changes_to;
DROP TABLE read_edge_changes;
