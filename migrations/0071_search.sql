-- The market as it is searched: a row for each version of a listing that is, or will be, in force, and its prices.
--
-- What everybody may find and what only some may find stand in tables of their own. Row-level security keeps the planner
-- from searching texts by an index in a table where not everybody sees every row (0060), and private offers are few.
-- A version that comes into force later waits among the private ones, seen by nobody but its provider until then, and is
-- moved by the first event after that moment: a table's content stays a function of the log.
--
-- Versions of a listing do not overlap: effective_to is where the next one begins. The rows of before are derived anew
-- from the log, because the projection's checkpoint goes with them.

-- +goose Up

DROP TABLE read_listings;
DELETE FROM subscriptions WHERE name = 'marketplace';

CREATE TABLE read_listings (
    listing_id      text COLLATE "C" NOT NULL,
    version         integer NOT NULL,
    position        bigint NOT NULL,           -- of the first publication: publishing again does not move a listing
    provider_id     text COLLATE "C" NOT NULL,
    offered_to      text[] COLLATE "C",        -- null: everybody
    effective_from  timestamptz NOT NULL,
    effective_to    timestamptz,               -- null: nothing takes its place yet
    category        text COLLATE "C" NOT NULL,
    metro           text NOT NULL,             -- in lower case: it is only compared
    metro_name      text NOT NULL,             -- as it is written
    bandwidths_mbps integer[] NOT NULL,
    title           text NOT NULL,
    description     text NOT NULL,
    -- English, so that "connections" finds "Private Connect"; a word in the title is worth more than one in the text. The
    -- words as they are written stand beside their stems for whoever has not typed a whole word yet: "provisi" begins
    -- "provisioning", but not its stem "provis".
    search          tsvector NOT NULL GENERATED ALWAYS AS (
                        setweight(to_tsvector('pg_catalog.english', title), 'A') ||
                        setweight(to_tsvector('pg_catalog.english', description), 'B') ||
                        setweight(to_tsvector('pg_catalog.simple', title), 'A') ||
                        setweight(to_tsvector('pg_catalog.simple', description), 'B')) STORED,
    terms           json NOT NULL,
    PRIMARY KEY (listing_id, version)
);
CREATE INDEX read_listings_search ON read_listings USING gin (search);
CREATE INDEX read_listings_bandwidths ON read_listings USING gin (bandwidths_mbps);
CREATE INDEX read_listings_newest ON read_listings (position);
CREATE INDEX read_listings_metro ON read_listings (metro, position);
CREATE INDEX read_listings_category ON read_listings (category, position);
CREATE INDEX read_listings_provider ON read_listings (provider_id, position);
CREATE INDEX read_listings_ending ON read_listings (effective_to) WHERE effective_to IS NOT NULL;

-- A listing's price for a full month, the provider's own, at each of its bandwidths, and once more at the smallest under
-- the bandwidth 0. What usage adds depends on how much of it there is: the price is a line between any two knots of
-- usage_gb, so it is found without the plan. It orders and bounds results; the price that is shown is computed from the plan.
CREATE TABLE read_listing_prices (
    listing_id     text COLLATE "C" NOT NULL,
    version        integer NOT NULL,
    bandwidth_mbps integer NOT NULL,
    position       bigint NOT NULL,
    currency       text COLLATE "C" NOT NULL,
    monthly        bigint NOT NULL,              -- minor units, without usage
    usage_gb       double precision[] NOT NULL,  -- knots, the first is 0
    usage_price    double precision[] NOT NULL,  -- minor units from each knot on
    usage_slope    double precision[] NOT NULL,  -- minor units a GB from each knot on
    PRIMARY KEY (listing_id, version, bandwidth_mbps)
);
CREATE INDEX read_listing_prices_monthly ON read_listing_prices (currency, bandwidth_mbps, monthly, position);

CREATE TABLE read_private_listings (LIKE read_listings INCLUDING GENERATED INCLUDING CONSTRAINTS, PRIMARY KEY (listing_id, version));
CREATE INDEX read_private_listings_provider ON read_private_listings (provider_id, position);
CREATE INDEX read_private_listings_offered_to ON read_private_listings USING gin (offered_to);
CREATE INDEX read_private_listings_waiting ON read_private_listings (effective_from) WHERE offered_to IS NULL;
CREATE TABLE read_private_listing_prices (LIKE read_listing_prices, PRIMARY KEY (listing_id, version, bandwidth_mbps));

ALTER TABLE read_listings ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_listings FOR SELECT TO crossbill_tenant USING (true);
ALTER TABLE read_listing_prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_listing_prices FOR SELECT TO crossbill_tenant USING (true);
ALTER TABLE read_private_listings ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_private_listings FOR SELECT TO crossbill_tenant
    USING (crossbill_sees(provider_id) OR crossbill_sees(VARIADIC offered_to) OR offered_to IS NULL AND effective_from <= now());
ALTER TABLE read_private_listing_prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_private_listing_prices FOR SELECT TO crossbill_tenant
    USING (EXISTS (SELECT FROM read_private_listings AS l -- which has a policy of its own
                    WHERE l.listing_id = read_private_listing_prices.listing_id AND l.version = read_private_listing_prices.version));
GRANT SELECT ON read_listings, read_listing_prices, read_private_listings, read_private_listing_prices TO crossbill_tenant;

-- +goose Down

DROP TABLE read_listings, read_listing_prices, read_private_listings, read_private_listing_prices;
DELETE FROM subscriptions WHERE name = 'marketplace';
CREATE TABLE read_listings (
    listing_id      text COLLATE "C" PRIMARY KEY,
    position        bigint NOT NULL UNIQUE,
    provider_id     text COLLATE "C" NOT NULL,
    version         integer NOT NULL,
    metro           text NOT NULL,
    bandwidths_mbps integer[] NOT NULL,
    title           text NOT NULL,
    description     text NOT NULL,
    search          tsvector NOT NULL GENERATED ALWAYS AS (
                        setweight(to_tsvector('pg_catalog.english', title), 'A') ||
                        setweight(to_tsvector('pg_catalog.english', description), 'B')) STORED,
    terms           json NOT NULL
);
CREATE INDEX read_listings_search ON read_listings USING gin (search);
CREATE INDEX read_listings_bandwidths ON read_listings USING gin (bandwidths_mbps);
CREATE INDEX read_listings_metro ON read_listings (metro, position);
ALTER TABLE read_listings ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_listings FOR SELECT TO crossbill_tenant USING (true);
GRANT SELECT ON read_listings TO crossbill_tenant;
