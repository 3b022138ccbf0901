-- The key vault: the keys under which texts about persons are encrypted inside events (events/vault). Destroying a
-- subject's keys erases the person from the log, whose bytes and proofs stay as they are.
--
-- These two tables stand apart from the log: nothing in them is derived from it, nor it from them. Dumps of the log are
-- best made without them (pg_dump --exclude-table-data='key_vault' --exclude-table-data='subject_keys') and the keys
-- backed up with "crossbill keys backup", so that an old dump does not keep what was erased since. Every key is wrapped,
-- that is encrypted, by the master key, which is in a file or the environment and never in the database.

-- +goose Up

-- One row, written when the vault is first opened: which master key wraps every row of subject_keys. A node with another
-- one must not write here, and whoever changes the master key holds this row's lock.
CREATE TABLE key_vault (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    master_key_id bytea NOT NULL CHECK (length(master_key_id) = 8) -- derived from the master key; tells nothing about it
);

-- A subject has one current key, for writing. It has others only if keys were lost, new ones made and the lost ones
-- restored. Once it is erased its rows stay, without keys, so that none is made for it again.
CREATE TABLE subject_keys (
    subject    text COLLATE "C" NOT NULL,                 -- a pseudonym: "<organisation>/<principal>"
    key_id     bytea NOT NULL CHECK (length(key_id) = 8), -- random; in every text that is encrypted under the key
    current    boolean NOT NULL,
    wrapped    bytea,                                     -- null: destroyed
    created_at timestamptz NOT NULL DEFAULT now(),
    erased_at  timestamptz,
    PRIMARY KEY (subject, key_id),
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);
CREATE UNIQUE INDEX subject_keys_current ON subject_keys (subject) WHERE current;

-- +goose Down

DROP TABLE subject_keys, key_vault;
