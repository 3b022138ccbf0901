-- Which connections are in which redundancy groups, by connection: before a connection is moved, what the others of its groups
-- hold has to be known, in the transaction that reserves for it. Where a member is, is in reservations; where it was ordered is
-- here, and counts until something is reserved for it.
--
-- A row is written, and deleted, in the transaction of the log append in which the connection joins or leaves the group, or
-- ends (provisioning/redundancy.go). Appends hold the log's head row and therefore follow one another.
--
-- Derived: it is the members of redundancy_group.connection_added events that have not been removed since and have not ended.

-- +goose Up

CREATE TABLE redundancy_members (
    group_id         text COLLATE "C" NOT NULL,
    connection_id    text COLLATE "C" NOT NULL,
    diversity        text COLLATE "C" NOT NULL, -- the group's, which does not change
    port_id          text COLLATE "C" NOT NULL, -- where the connection was when it joined
    provider_port_id text COLLATE "C" NOT NULL,
    edge_node_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (group_id, connection_id)
);
CREATE INDEX redundancy_members_connection ON redundancy_members (connection_id);

INSERT INTO redundancy_members
SELECT g.redundancy_group_id, m ->> 'connection_id', g.doc ->> 'diversity', m ->> 'port_id', m ->> 'provider_port_id', m ->> 'edge_node_id'
  FROM read_redundancy_groups AS g, json_array_elements(g.doc -> 'members') AS m
  JOIN read_connections AS c ON c.connection_id = m ->> 'connection_id'
 WHERE c.doc ->> 'state' NOT IN ('decommissioned', 'cancelled');

-- +goose Down

DROP TABLE redundancy_members;
