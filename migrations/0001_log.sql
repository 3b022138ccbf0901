-- The log: the only truth. Everything in the other migrations is derived from these tables and can be made again.
--
-- A log is one head row and its events. A second log (a region, a group of tenants) is a second PostgreSQL schema with
-- these same tables, so no statement ever has to say which log it means.
--
-- Later parts of the log add tables beside these and change none of them: hash tiles are made from leaf_hash, archives
-- take whole partitions, and personal fields are encrypted inside payload before it is hashed.

-- +goose Up

-- Who appends locks this row first. That makes positions gapless and known at commit, and lets any number of nodes
-- append: the row arbitrates. Nobody updates it but the sequencer (events/sequencer.go).
CREATE TABLE log_head (
    log         text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL CHECK (position >= 0), -- of the last event, and so the number of leaves of the Merkle tree
    root        bytea NOT NULL CHECK (length(root) = 32), -- RFC 6962 section 2.1, over all leaves
    frontier    bytea NOT NULL CHECK (length(frontier) % 32 = 0), -- roots of the perfect subtrees, largest first
    recorded_at timestamptz NOT NULL -- of the last event; the next is not recorded earlier, whatever a node's clock says
);

-- The root of the empty tree is SHA-256 of nothing.
INSERT INTO log_head VALUES ('main', 0, sha256(''), '', 'epoch');

-- Columns stand widest first so that no row carries padding. stream collates "C": its order is that of its bytes.
CREATE TABLE events (
    position    bigint NOT NULL,           -- from 1, without gaps
    version     bigint NOT NULL,           -- in its stream, from 1, without gaps
    recorded_at timestamptz NOT NULL,      -- never earlier than the event before it
    event_id    uuid NOT NULL,
    schema      integer NOT NULL,          -- version of the payload's shape
    stream      text COLLATE "C" NOT NULL, -- "<category>-<id>"
    type        text COLLATE "C" NOT NULL,
    salt        bytea NOT NULL,            -- 16 random bytes: a leaf hash tells nothing to who has not the event
    leaf_hash   bytea NOT NULL,            -- RFC 6962, over events/leaf.go's record of all the columns above and below
    metadata    bytea NOT NULL,            -- JSON, as bytes: what was hashed must come back the same
    payload     bytea NOT NULL,            -- likewise
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- For reading one category in order. It is an expression and not a column, so that nothing in a row is outside its hash.
CREATE INDEX events_category ON events (split_part(stream, '-', 1), position);

-- A partition holds 2^22 events: a perfect subtree of the Merkle tree, so a full partition has one hash that proves it,
-- and indexes small enough to stay in memory where the writing is.
CREATE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 4194304::bigint';

-- make_events_partition makes the partition with the given number, counted from 0, unless it is there.
--
-- PostgreSQL has no unique index across partitions on columns other than the partition key. Uniqueness of (stream,
-- version) and of event_id over the whole log is therefore the sequencer's promise, which it can give because it checks
-- under the head row's lock: versions against the table streams, ids against the index of every partition. The unique
-- indexes of each partition hold the same promise against everybody else.
--
-- The table is made apart and then attached: ATTACH takes a lock that lets readers and writers go on, where CREATE
-- TABLE ... PARTITION OF would stop them; the CHECK saves ATTACH a scan.
-- +goose StatementBegin
CREATE FUNCTION make_events_partition(n bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name  text   := 'events_p' || lpad(n::text, 5, '0');
    first bigint := n * events_partition_size() + 1;
    past  bigint := (n + 1) * events_partition_size() + 1;
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL, CHECK (position >= %s AND position < %s))', name, first, past);
    EXECUTE format('CREATE UNIQUE INDEX %I ON %I (stream, version)', name || '_stream_version', name);
    EXECUTE format('CREATE UNIQUE INDEX %I ON %I (event_id)', name || '_event_id', name);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, past);
END
$$;
-- +goose StatementEnd

SELECT make_events_partition(0);

-- The last version of each stream, written with the events under the head row's lock. It makes the check of an expected
-- version one lookup however many partitions there are, and stays when a stream's events have gone to an archive.
-- Rows are updated in place, hence the room that fillfactor leaves.
CREATE TABLE streams (
    stream   text COLLATE "C" PRIMARY KEY,
    version  bigint NOT NULL,
    position bigint NOT NULL -- of that version
) WITH (fillfactor = 70);

-- How far each named reader of the log has come. A projection moves its row in the transaction that writes its tables,
-- which is what makes it exactly-once; the row's lock is what makes it run on one node at a time. A reader whose
-- effects are outside this database holds the row by a lease instead.
CREATE TABLE subscriptions (
    name         text COLLATE "C" PRIMARY KEY,
    position     bigint NOT NULL DEFAULT 0 CHECK (position >= 0), -- of the last event that was handled
    updated_at   timestamptz NOT NULL DEFAULT now(),
    owner        text,        -- of a lease: which process has it
    leased_until timestamptz, -- by this server's clock
    error        text         -- why it does not go on; null while it does
);

-- Names that only one may have (an organisation's slug). Rows are written by the ask function of the append that takes
-- the name, in its transaction: both are there or neither.
CREATE TABLE reserved_keys (
    kind  text COLLATE "C" NOT NULL,
    key   text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX reserved_keys_owner ON reserved_keys (owner);

-- The answers to requests that carried an Idempotency-Key, kept with the append that the request made.
CREATE TABLE idempotency_keys (
    organisation_id text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    request_hash    bytea NOT NULL,       -- SHA-256: the same key with another request is an error
    status          integer NOT NULL,     -- HTTP
    body            bytea,                -- null: none
    event_id        uuid NOT NULL,        -- the first event the request appended
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at); -- for removing those past their time

-- +goose Down

DROP TABLE idempotency_keys, reserved_keys, subscriptions, streams, events, log_head;
DROP FUNCTION make_events_partition;
DROP FUNCTION events_partition_size;
