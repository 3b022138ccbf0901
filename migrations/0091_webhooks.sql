-- Webhooks: how far each has been sent the log, and what came of it.
--
-- What a webhook is stands in the log (domain/webhook). These tables are not derived from it, as little as the checkpoints
-- in subscriptions are: they say what was done outside. Rows are made and moved in the transactions of the appends that
-- create, rewind or delete a webhook, and by the one process that has a webhook's lease (api/webhooks).

-- +goose Up

CREATE TABLE webhook_cursors (
    webhook_id      text COLLATE "C" PRIMARY KEY,
    organisation_id text COLLATE "C" NOT NULL,
    patterns        text[] COLLATE "C" NOT NULL, -- of event types, as LIKE takes them
    active          boolean NOT NULL,            -- false while it is disabled
    position        bigint NOT NULL,             -- everything up to here was delivered, given up, or is not wanted
    attempts        integer NOT NULL DEFAULT 0,  -- that failed for the next event
    failing_since   timestamptz,                 -- of the first failure after the last success
    next_attempt_at timestamptz,                 -- not before; null: at once
    owner           text,                        -- of the lease: which process sends
    leased_until    timestamptz,
    served_at       timestamptz                  -- when it last had its turn
) WITH (fillfactor = 70);
CREATE INDEX webhook_cursors_organisation ON webhook_cursors (organisation_id);
ALTER TABLE webhook_cursors ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON webhook_cursors FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));

-- The newest attempts; older ones are removed.
CREATE TABLE webhook_deliveries (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id      text COLLATE "C" NOT NULL,
    organisation_id text COLLATE "C" NOT NULL,
    message_id      text COLLATE "C" NOT NULL,
    position        bigint NOT NULL,
    type            text COLLATE "C" NOT NULL,
    attempt         integer NOT NULL,
    outcome         text COLLATE "C" NOT NULL,   -- delivered or failed
    status_code     integer,                     -- null: there was no answer
    error           text,
    latency_ms      integer NOT NULL,
    at              timestamptz NOT NULL
);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON webhook_deliveries FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));

-- What was given up. The events themselves are where they always were, in the log.
CREATE TABLE webhook_dead_letters (
    webhook_id      text COLLATE "C" NOT NULL,
    position        bigint NOT NULL,
    organisation_id text COLLATE "C" NOT NULL,
    message_id      text COLLATE "C" NOT NULL,
    type            text COLLATE "C" NOT NULL,
    attempts        integer NOT NULL,
    status_code     integer,
    error           text,
    died_at         timestamptz NOT NULL,
    replay          boolean NOT NULL DEFAULT false, -- it is to be tried once more
    PRIMARY KEY (webhook_id, position)
);
ALTER TABLE webhook_dead_letters ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON webhook_dead_letters FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));

GRANT SELECT ON webhook_cursors, webhook_deliveries, webhook_dead_letters TO crossbill_tenant;

-- +goose Down

DROP TABLE webhook_cursors, webhook_deliveries, webhook_dead_letters;
