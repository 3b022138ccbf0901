-- What meters counted, as billing reads it: a row for a connection and a day, and not for a reading; and which connections
-- there are to bill. Both are a fold over the log, kept by billing/usage, and read by the platform alone.

-- +goose Up

CREATE TABLE billing_usage_days (
    connection_id text   COLLATE "C" NOT NULL,
    day           date   NOT NULL, -- UTC
    first_version bigint NOT NULL, -- of the readings that touch the day, in the connection's stream of readings
    last_version  bigint NOT NULL,
    began         int    NOT NULL, -- how many of them began in the day
    carried       int    NOT NULL, -- and how many before
    digest        bytea  NOT NULL, -- over their leaf hashes; see billing/usage.Day
    bytes_in      bigint NOT NULL,
    bytes_out     bigint NOT NULL,
    buckets       bytea  NOT NULL, -- of 5 minutes; see billing/usage
    PRIMARY KEY (connection_id, day)
);
-- A day of a busy connection has some 3 kB of buckets, which do not compress. They stay in the row: a second place to look
-- for them costs more than the width.
ALTER TABLE billing_usage_days ALTER COLUMN buckets SET STORAGE MAIN;
ALTER TABLE billing_usage_days SET (toast_tuple_target = 8160, fillfactor = 50);
-- Which days have readings that came after some version: the late ones.
CREATE INDEX billing_usage_days_last_version ON billing_usage_days (connection_id, last_version);

CREATE TABLE billing_connections (
    connection_id text   COLLATE "C" PRIMARY KEY,
    customer_id   text   COLLATE "C" NOT NULL,
    billing_from  timestamptz, -- NULL: not in production yet
    billing_to    timestamptz, -- exclusive; NULL: it goes on
    usage_version bigint NOT NULL DEFAULT 0, -- of the newest reading
    billed_to     timestamptz,               -- the end of the newest period that was closed
    billed_version bigint NOT NULL DEFAULT 0 -- the usage_version that was known when a period was last closed or adjusted
);
CREATE INDEX billing_connections_customer ON billing_connections (customer_id, connection_id);

-- +goose Down

DROP TABLE billing_connections, billing_usage_days;
