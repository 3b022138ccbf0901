-- The read models: what people and programs look things up in.
--
-- Nothing here is truth. Every row is derived from the log by a projection in projections/, in the transaction that also
-- moves the projection's checkpoint; truncated and replayed, the tables come back the same to the byte. That is why no
-- column has a default that asks a clock, a sequence or a random source, and why everything is in the log's own terms:
--   position  the log position of the event that made the row. It is unique, never changes, and is the order of paging:
--             a new row is always past the newest, so pages that run from newest to oldest never shift.
--   version   how far the aggregate's stream is folded into doc; the projection insists that the next event is version + 1.
--   doc       the aggregate's state as its own package writes it. It is json, not jsonb: it is given back as it is,
--             never searched, and json keeps \u0000 in a text, which jsonb refuses (one such name would stop a projection).
-- What is searched stands beside doc as columns. Rows that belong to somebody name the parties, so that a row-level
-- security policy needs no other table. Identifiers collate "C": their order is that of their bytes on every machine.

-- +goose Up

-- The listings on the market, as last published. A retired listing has no row, nor has one that was never published.
CREATE TABLE read_listings (
    listing_id      text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE, -- of the first publication: publishing again does not move a listing
    provider_id     text COLLATE "C" NOT NULL,
    version         integer NOT NULL,       -- of the published terms
    metro           text NOT NULL,          -- in lower case: it is only compared
    bandwidths_mbps integer[] NOT NULL,
    title           text NOT NULL,
    description     text NOT NULL,
    -- English, so that "connections" finds "Private Connect"; a word in the title is worth more than one in the text.
    search          tsvector NOT NULL GENERATED ALWAYS AS (
                        setweight(to_tsvector('pg_catalog.english', title), 'A') ||
                        setweight(to_tsvector('pg_catalog.english', description), 'B')) STORED,
    terms           json NOT NULL
);
CREATE INDEX read_listings_search ON read_listings USING gin (search);
CREATE INDEX read_listings_bandwidths ON read_listings USING gin (bandwidths_mbps);
CREATE INDEX read_listings_metro ON read_listings (metro, position);

CREATE TABLE read_orders (
    order_id    text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL UNIQUE,
    version     bigint NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    provider_id text COLLATE "C" NOT NULL,
    doc         json NOT NULL
);
-- One index for each party: a party's page is the newest of two short ordered scans.
CREATE INDEX read_orders_customer ON read_orders (customer_id, position);
CREATE INDEX read_orders_provider ON read_orders (provider_id, position);

CREATE TABLE read_connections (
    connection_id text COLLATE "C" PRIMARY KEY,
    position      bigint NOT NULL UNIQUE,
    version       bigint NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    edge_node_id  text COLLATE "C",  -- null while the edge node has nothing to do for it, and again when it is done
    billing_from  timestamptz,       -- billed over [billing_from, billing_to); null before production
    billing_to    timestamptz,       -- null while it accrues
    doc           json NOT NULL
);
CREATE INDEX read_connections_customer ON read_connections (customer_id, position);
CREATE INDEX read_connections_provider ON read_connections (provider_id, position);
CREATE INDEX read_connections_edge_node ON read_connections (edge_node_id, connection_id) WHERE edge_node_id IS NOT NULL;
CREATE INDEX read_connections_billing ON read_connections (billing_from) WHERE billing_from IS NOT NULL;

-- The revision of each edge node's desired state: the position of the last event that changed it. It stands apart from
-- the connections because it must not go back when the newest of them leaves the node.
CREATE TABLE read_edge_revisions (
    edge_node_id text COLLATE "C" PRIMARY KEY,
    revision     bigint NOT NULL
);

-- What the meters counted. Readings are in the order of their stream, which is the order they came in.
CREATE TABLE read_readings (
    connection_id text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    edge_node_id  text COLLATE "C" NOT NULL,
    epoch         bigint NOT NULL,
    sequence      bigint NOT NULL,
    from_at       timestamptz NOT NULL, -- over [from_at, to_at)
    to_at         timestamptz NOT NULL,
    bytes_in      bigint NOT NULL,      -- layer 2 without FCS; in is from the customer into the platform
    bytes_out     bigint NOT NULL,
    packets_in    bigint NOT NULL,
    packets_out   bigint NOT NULL,
    dropped_in    bigint NOT NULL,
    dropped_out   bigint NOT NULL,
    source        text NOT NULL,
    PRIMARY KEY (connection_id, version)
);

CREATE TABLE read_usage (
    connection_id text COLLATE "C" PRIMARY KEY,
    readings      bigint NOT NULL,
    -- numeric, because a sum of bigints may pass a bigint (800 Gbit/s fill 63 bits in three years), and must not stop us.
    bytes_in      numeric NOT NULL,
    bytes_out     numeric NOT NULL,
    last_to       timestamptz NOT NULL, -- the end of the newest reading
    last_version  bigint NOT NULL,
    -- Every event of a usage stream is a reading, so a reading missed or counted twice breaks this.
    CONSTRAINT read_usage_counts_every_reading_once CHECK (readings = last_version)
);

CREATE TABLE read_invoices (
    invoice_id  text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL UNIQUE,
    version     bigint NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    doc         json NOT NULL
);
CREATE INDEX read_invoices_customer ON read_invoices (customer_id, position);

CREATE TABLE read_settlements (
    settlement_id text COLLATE "C" PRIMARY KEY,
    position      bigint NOT NULL UNIQUE,
    version       bigint NOT NULL,
    provider_id   text COLLATE "C" NOT NULL,
    doc           json NOT NULL
);
CREATE INDEX read_settlements_provider ON read_settlements (provider_id, position);

-- Every fee schedule that was ever published: a quote names the one it was made under.
CREATE TABLE read_fee_schedules (
    fee_schedule_id text COLLATE "C" NOT NULL,
    version         integer NOT NULL,
    position        bigint NOT NULL UNIQUE,
    basis_points    integer NOT NULL,       -- hundredths of a percent of the passthrough
    effective_from  timestamptz NOT NULL,
    PRIMARY KEY (fee_schedule_id, version)
);

CREATE TABLE read_edge_nodes (
    edge_node_id text COLLATE "C" PRIMARY KEY,
    position     bigint NOT NULL UNIQUE,
    version      bigint NOT NULL,
    doc          json NOT NULL
);

CREATE TABLE read_ports (
    port_id         text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE,
    version         bigint NOT NULL,
    edge_node_id    text COLLATE "C" NOT NULL,
    organisation_id text COLLATE "C" NOT NULL,
    doc             json NOT NULL
);
CREATE INDEX read_ports_organisation ON read_ports (organisation_id, position);

-- +goose Down

DROP TABLE read_listings, read_orders, read_connections, read_edge_revisions, read_readings, read_usage, read_invoices,
    read_settlements, read_fee_schedules, read_edge_nodes, read_ports;
