-- The read models of finance: billing accounts, budgets and their alerts, tax and currency rates. As in 0010, nothing here
-- is truth, and position, version and doc mean what they mean there.

-- +goose Up

-- Without the texts about persons: who may see those gets them from the log, where they can be erased.
CREATE TABLE read_billing_accounts (
    billing_account_id text COLLATE "C" PRIMARY KEY,
    position           bigint NOT NULL UNIQUE,
    version            bigint NOT NULL,
    organisation_id    text COLLATE "C" NOT NULL,
    doc                json NOT NULL
);
CREATE INDEX read_billing_accounts_organisation ON read_billing_accounts (organisation_id, position);

-- Which account an organisation's orders are billed to when they name none.
CREATE TABLE read_billing_defaults (
    organisation_id    text COLLATE "C" PRIMARY KEY,
    billing_account_id text COLLATE "C" NOT NULL
);

CREATE TABLE read_budgets (
    budget_id       text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE,
    version         bigint NOT NULL,
    organisation_id text COLLATE "C" NOT NULL,
    open            boolean NOT NULL,
    doc             json NOT NULL
);
CREATE INDEX read_budgets_organisation ON read_budgets (organisation_id, position);
CREATE INDEX read_budgets_open ON read_budgets (organisation_id, budget_id) WHERE open; -- what the evaluation walks

CREATE TABLE read_budget_alerts (
    position        bigint PRIMARY KEY,
    organisation_id text COLLATE "C" NOT NULL,
    budget_id       text COLLATE "C" NOT NULL,
    month           text COLLATE "C" NOT NULL, -- "2026-03"
    doc             json NOT NULL,             -- the event
    percent         integer NOT NULL,
    UNIQUE (budget_id, month, percent)         -- once for each threshold and month, here as in the log
);
CREATE INDEX read_budget_alerts_organisation ON read_budget_alerts (organisation_id, position);

CREATE TABLE read_tax_rates (
    country        text COLLATE "C" NOT NULL,
    category       text COLLATE "C" NOT NULL,
    version        integer NOT NULL,
    position       bigint NOT NULL UNIQUE,
    effective_from timestamptz NOT NULL,
    doc            json NOT NULL, -- the event
    PRIMARY KEY (country, category, version)
);

CREATE TABLE read_exchange_rates (
    base           text COLLATE "C" NOT NULL,
    quote          text COLLATE "C" NOT NULL,
    version        integer NOT NULL,
    position       bigint NOT NULL UNIQUE,
    effective_from timestamptz NOT NULL,
    doc            json NOT NULL, -- the event
    PRIMARY KEY (base, quote, version)
);

ALTER TABLE read_billing_accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_billing_accounts FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_billing_defaults ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_billing_defaults FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_budgets ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_budgets FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_budget_alerts ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_budget_alerts FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_tax_rates ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_tax_rates FOR SELECT TO crossbill_tenant USING (true);
ALTER TABLE read_exchange_rates ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_exchange_rates FOR SELECT TO crossbill_tenant USING (true);
GRANT SELECT ON read_billing_accounts, read_billing_defaults, read_budgets, read_budget_alerts, read_tax_rates,
    read_exchange_rates TO crossbill_tenant;

-- +goose Down

DROP TABLE read_billing_accounts, read_billing_defaults, read_budgets, read_budget_alerts, read_tax_rates, read_exchange_rates;
