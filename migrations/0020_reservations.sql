-- What connections hold of things there is only so much of: a VLAN on a port together with a share of the port's
-- bandwidth, and a tag on an edge node.
--
-- A row is written, and deleted, in the transaction of the log append that gives the thing to the connection or takes
-- it back (provisioning/reservations.go), so it can neither be given twice nor outlive its connection. Appends hold the
-- log's head row and therefore follow one another: a sum over a port's rows seen inside one stays true until it commits.
-- The primary key holds even where that order would not.
--
-- Derived: every row can be found again in connection.allocated events whose connection has not ended.

-- +goose Up

CREATE TABLE reservations (
    kind   text COLLATE "C" NOT NULL CHECK (kind IN ('vlan', 'tag')),
    scope  text COLLATE "C" NOT NULL,           -- where number is unique: the port of a VLAN, the edge node of a tag
    number integer NOT NULL,                    -- VLAN 2..4094, tag 1..16383
    owner  text COLLATE "C" NOT NULL,           -- the connection
    mbps   integer NOT NULL CHECK (mbps >= 0),  -- taken from the port's capacity; 0 with a tag
    PRIMARY KEY (kind, scope, number)
);
CREATE INDEX reservations_owner ON reservations (owner);

-- +goose Down

DROP TABLE reservations;
