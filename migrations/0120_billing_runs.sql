-- How far a billing run is while it goes on. What it was asked, and how it ended, is in the log; this is gone without a loss.

-- +goose Up

CREATE TABLE billing_run_progress (
    run_id     text COLLATE "C" PRIMARY KEY,
    request    bigint NOT NULL, -- the version of the stream of requests that is being carried out
    looked_at  bigint NOT NULL, -- connections
    of         bigint NOT NULL, -- connections there are to look at
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- River's tables for billing runs are in a schema of their own, which River's own migrations fill (billing/runs.Migrate).

-- +goose Down

DROP TABLE billing_run_progress;
