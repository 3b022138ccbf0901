-- The readings that were refused, for operators to look at: what a meter says that it counted is not lost for being wrong.
--
-- It is no read model and is derived from nothing: what is refused is in no log, and nothing is decided by it. Each reading is
-- kept once, however often it is sent; of one reporter the newest are kept (api/rejectedreadings.go says how many).

-- +goose Up

CREATE TABLE rejected_readings (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest        bytea NOT NULL UNIQUE,           -- SHA-256 of reported_by, a zero byte and what was sent
    reported_by   text COLLATE "C" NOT NULL,       -- an edge node, or the organisation whose meter it is
    connection_id text COLLATE "C" NOT NULL,       -- as it says; "" if it names none that can be read
    sent          text NOT NULL,                   -- JSON, cut where it is long
    problem       json NOT NULL,                   -- RFC 9457, of the last time
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    times         bigint NOT NULL DEFAULT 1
);
CREATE INDEX rejected_readings_reporter ON rejected_readings (reported_by, number);

-- +goose Down

DROP TABLE rejected_readings;
