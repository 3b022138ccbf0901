-- Who takes part, and the keys they call with, for the lists of operators and of organisations.
--
-- Neither table has a text about a person: members are read from the log alone, where an erasure reaches them at once, and
-- of a key's principal the name is kept only if it is a program's. Nor is there a key's hash: a list needs none.

-- +goose Up

CREATE TABLE read_organisations (
    organisation_id text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE,
    version         bigint NOT NULL,
    state           text COLLATE "C" NOT NULL,
    doc             json NOT NULL
);
CREATE INDEX read_organisations_state ON read_organisations (state, position);
ALTER TABLE read_organisations ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_organisations FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));

CREATE TABLE read_api_keys (
    key_id          text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE,
    version         bigint NOT NULL,
    organisation_id text COLLATE "C" NOT NULL,
    doc             json NOT NULL
);
CREATE INDEX read_api_keys_organisation ON read_api_keys (organisation_id, position);
ALTER TABLE read_api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_api_keys FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));

GRANT SELECT ON read_organisations, read_api_keys TO crossbill_tenant;

-- +goose Down

DROP TABLE read_organisations, read_api_keys;
