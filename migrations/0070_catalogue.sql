-- The catalogue beside the market: where the platform is, and each provider's own listings with what nobody else sees of
-- them, drafts and where these stand with the operators.

-- +goose Up

CREATE TABLE read_locations (
    location_id text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL UNIQUE,
    version     bigint NOT NULL,
    doc         json NOT NULL
);
ALTER TABLE read_locations ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_locations FOR SELECT TO crossbill_tenant USING (true);

CREATE TABLE read_own_listings (
    listing_id  text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL UNIQUE,
    version     bigint NOT NULL,
    provider_id text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    submitted   bigint,           -- position of the submission that is before an operator; NULL: none is
    doc         json NOT NULL     -- the listing without its versions, of which there may be a thousand, but for the newest
);
CREATE INDEX read_own_listings_provider ON read_own_listings (provider_id, position);
CREATE INDEX read_own_listings_submitted ON read_own_listings (submitted) WHERE submitted IS NOT NULL;
ALTER TABLE read_own_listings ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_own_listings FOR SELECT TO crossbill_tenant USING (crossbill_sees(provider_id));

GRANT SELECT ON read_locations, read_own_listings TO crossbill_tenant;

-- +goose Down

DROP TABLE read_locations, read_own_listings;
