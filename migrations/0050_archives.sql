-- Archives: what keeps the database's size in hand. `crossbill log archive` moves a full partition of events to a file
-- (events/archive_format.go) and drops it; the rows here say where the events went, and keep of them what appending
-- needs at once and forever: which event ids were taken.

-- +goose Up

-- One row an archive, written in the transaction that drops the partition: an event is in the table events or in an
-- archive, never in both or neither. Archives follow on each other from position 1 without gaps.
CREATE TABLE log_archives (
    partition      bigint PRIMARY KEY,            -- the number of the partition it was, from 0
    first_position bigint NOT NULL UNIQUE,
    last_position  bigint NOT NULL CHECK (last_position >= first_position),
    file           text NOT NULL,                 -- its name in the archive directory, which each node is told
    bytes          bigint NOT NULL,
    sha256         bytea NOT NULL CHECK (length(sha256) = 32),       -- of the file
    index_sha256   bytea NOT NULL CHECK (length(index_sha256) = 32), -- of its index, which has the hash of every block
    subtree_root   bytea NOT NULL CHECK (length(subtree_root) = 32), -- RFC 6962, over the partition's leaves
    archived_at    timestamptz NOT NULL DEFAULT now()
);

-- The ids of archived events. An append that repeats one must be recognised however old it is, and must not have to wait
-- for files to be: digest is of what the event said (events/decide.go), so that a repetition can be told from another
-- event under the same id. Partitioned as events is; each partition has a unique index on event_id.
CREATE TABLE log_archived_ids (
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    digest   bytea NOT NULL -- SHA-256
) PARTITION BY RANGE (position);

-- +goose Down

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM log_archives) THEN
        RAISE EXCEPTION 'events are in archives, which an older version of crossbill can''t read';
    END IF;
END
$$;
-- +goose StatementEnd

DROP TABLE log_archived_ids, log_archives;
