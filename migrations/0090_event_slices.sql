-- The slices of the log: which events each organisation may see, so that reading its own does not mean looking at
-- everybody's. Derived from the events' metadata, as every table whose name begins with read_.

-- +goose Up

-- A row is a run of events with nothing between them, all of one type and all visible to the organisation. Most of a log
-- are readings, which come many at a time, so there are far fewer runs than events. The runs do not depend on how many
-- events are applied at once: one goes on where the batch before it ended.
--
-- The empty organisation is the platform itself, whose operators see every event.
CREATE TABLE read_event_slices (
    organisation_id text COLLATE "C" NOT NULL,
    first_position  bigint NOT NULL,
    last_position   bigint NOT NULL CHECK (last_position >= first_position),
    type            text COLLATE "C" NOT NULL,
    PRIMARY KEY (organisation_id, first_position)
);
CREATE INDEX read_event_slices_type ON read_event_slices (organisation_id, type, first_position);

-- The newest event of each type in each slice: few rows, by which is found who has something new to be told.
CREATE TABLE read_event_heads (
    organisation_id text COLLATE "C" NOT NULL,
    type            text COLLATE "C" NOT NULL,
    last_position   bigint NOT NULL,
    PRIMARY KEY (organisation_id, type)
) WITH (fillfactor = 70); -- updated in place

ALTER TABLE read_event_slices ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_event_slices FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_event_heads ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_event_heads FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
GRANT SELECT ON read_event_slices, read_event_heads TO crossbill_tenant;

-- Who reads a slice has to know, in the same statement, how far it goes.
ALTER TABLE subscriptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY slices ON subscriptions FOR SELECT TO crossbill_tenant USING (name = 'event_slices');
GRANT SELECT (name, position) ON subscriptions TO crossbill_tenant;

-- +goose Down

REVOKE ALL ON subscriptions FROM crossbill_tenant;
REVOKE SELECT (name, position) ON subscriptions FROM crossbill_tenant;
DROP POLICY slices ON subscriptions;
ALTER TABLE subscriptions DISABLE ROW LEVEL SECURITY;
DROP TABLE read_event_slices, read_event_heads;
