-- For how much of a month a connection could be used: what kept it from being up, and when.
--
-- read_availability has each connection with the conditions that hold now, read_interruptions the times in which one held and
-- does no more. Both follow from the connection's events and from the silences of its edge node (edge_node.fell_silent,
-- edge_node.heard), which the platform's watch appends. See 0010 for the rules that read models keep.

-- +goose Up

CREATE TABLE read_availability (
    connection_id text COLLATE "C" PRIMARY KEY,
    position      bigint NOT NULL UNIQUE,
    version       bigint NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    edge_node_id  text COLLATE "C", -- null while it is on none
    down_since    timestamptz,      -- null: nothing makes it count as down now
    doc           json NOT NULL
);
CREATE INDEX read_availability_edge_node ON read_availability (edge_node_id, connection_id) WHERE edge_node_id IS NOT NULL;
CREATE INDEX read_availability_down ON read_availability (down_since) WHERE down_since IS NOT NULL;

CREATE TABLE read_interruptions (
    connection_id text COLLATE "C" NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    condition     text COLLATE "C" NOT NULL, -- a cause of domain/availability, with /ipv6 after it if it is of that family
    from_at       timestamptz NOT NULL,
    to_at         timestamptz NOT NULL,
    PRIMARY KEY (connection_id, condition, from_at),
    CHECK (from_at < to_at)
);
CREATE INDEX read_interruptions_time ON read_interruptions (to_at, from_at);

ALTER TABLE read_availability ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_availability FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
ALTER TABLE read_interruptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_interruptions FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
GRANT SELECT ON read_availability, read_interruptions TO crossbill_tenant;

-- When an agent was away for longer than a silence takes, and was there again: the watch must not miss what is over when it
-- looks. Events are made of these now, so that they say when; as before, the table itself may be lost, and with it at most what
-- had just happened.
ALTER TABLE edge_heard
    ADD COLUMN gone_at timestamptz, -- the last word before the newest such gap
    ADD COLUMN back_at timestamptz; -- the first word after it

-- How long the platform has been listening without a break, whichever of its nodes does: it does not take its own absence for
-- the silence of every edge node.
CREATE TABLE edge_watch (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    since    timestamptz NOT NULL, -- the beginning of this watch
    seen_at  timestamptz NOT NULL, -- the last look
    ended_at timestamptz           -- the last look of the watch before; null: there was none
);

-- +goose Down

DROP TABLE edge_watch;
ALTER TABLE edge_heard DROP COLUMN gone_at, DROP COLUMN back_at;
DROP TABLE read_interruptions, read_availability;
