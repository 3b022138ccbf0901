-- Row-level security: PostgreSQL's own answer to "who may see this row", under the one that the API's handlers give.
--
-- Whatever is read to be shown to a caller is read as the role crossbill_tenant, with the caller in the setting
-- crossbill.viewer, both for one transaction (projections/tenant.go). A handler that forgets its check then finds nothing.
-- The platform's own work (projections, sagas, billing, decisions that look at several organisations' states) goes on as
-- the owner of the tables, whom policies do not bind.
--
-- A migration that adds a table which is read on behalf of callers says in the same file who sees its rows:
--
--   ALTER TABLE read_x ENABLE ROW LEVEL SECURITY;
--   CREATE POLICY parties ON read_x FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
--   GRANT SELECT ON read_x TO crossbill_tenant;
--
-- and has a list of organisations in one column with crossbill_sees(VARIADIC parties). Any other table gets no grant, and
-- a line in the list of migrations/isolation_test.go that says why. Three things to know:
--   A policy may name other tables of the same projection only: a rebuild puts new tables in the place of all of them.
--   A policy other than true keeps the planner from using indexes with operators that are not leakproof: @@, @>, LIKE and
--   whatever else is not a plain comparison of numbers or texts. So what is searched by text stands in a table of rows that
--   everybody may see (USING (true)), and what only some may see in another.
--   The role belongs to the server, not to the database: no migration drops it.

-- +goose Up

-- The role must be there or be made. Roles are shared by all databases of a server, so others may make it, or grant it,
-- at the same moment; the errors they cause are passed over, and what counts is looked at in the end.
-- +goose StatementBegin
DO $$
BEGIN
    FOR attempt IN 1..10 LOOP
        BEGIN
            IF to_regrole('crossbill_tenant') IS NULL THEN
                CREATE ROLE crossbill_tenant NOLOGIN;
            END IF;
            IF NOT pg_has_role('crossbill_tenant', 'MEMBER') THEN -- a superuser is a member of every role
                EXECUTE format('GRANT crossbill_tenant TO %I', current_user);
            END IF;
            EXIT;
        EXCEPTION
            WHEN duplicate_object OR unique_violation OR internal_error THEN -- "tuple concurrently updated" is the last
                PERFORM pg_sleep(0.05);
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the database user % may not make the role crossbill_tenant, or grant it to itself', current_user
                    USING ERRCODE = 'insufficient_privilege', HINT = format(
                        'as a user with CREATEROLE, run once: CREATE ROLE crossbill_tenant NOLOGIN; GRANT crossbill_tenant TO %I', current_user);
        END;
    END LOOP;
    IF to_regrole('crossbill_tenant') IS NULL OR NOT pg_has_role('crossbill_tenant', 'MEMBER') THEN
        RAISE EXCEPTION 'the role crossbill_tenant could not be made' USING HINT = 'start again';
    END IF;
    IF NOT has_schema_privilege('crossbill_tenant', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO crossbill_tenant', current_schema());
    END IF;
END
$$;
-- +goose StatementEnd

-- crossbill_sees says whether the viewer is one of the given organisations, or the platform's operator. A transaction that
-- has not said who is looking sees nothing. The planner writes the function's body into the query that uses it, so a row
-- costs a lookup of a setting and a comparison; no organisation has the id 'operator'. STRICT would forbid that.
CREATE FUNCTION crossbill_sees(VARIADIC organisations text[]) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('crossbill.viewer', true), '') COLLATE "C" = ANY (organisations)
        OR current_setting('crossbill.viewer', true) = 'operator'
$$;

-- What everybody may see: the market, and what the platform takes.
ALTER TABLE read_listings ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_listings FOR SELECT TO crossbill_tenant USING (true);
ALTER TABLE read_fee_schedules ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON read_fee_schedules FOR SELECT TO crossbill_tenant USING (true);

-- What its parties see. An edge node's agent looks under the node's id, and is a party of what runs there.
ALTER TABLE read_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_orders FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id));
ALTER TABLE read_connections ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_connections FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id, provider_id, edge_node_id));
ALTER TABLE read_edge_revisions ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_edge_revisions FOR SELECT TO crossbill_tenant USING (crossbill_sees(edge_node_id));
ALTER TABLE read_edge_nodes ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_edge_nodes FOR SELECT TO crossbill_tenant USING (crossbill_sees(edge_node_id));
ALTER TABLE read_ports ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_ports FOR SELECT TO crossbill_tenant USING (crossbill_sees(organisation_id));
ALTER TABLE read_invoices ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_invoices FOR SELECT TO crossbill_tenant USING (crossbill_sees(customer_id));
ALTER TABLE read_settlements ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_settlements FOR SELECT TO crossbill_tenant USING (crossbill_sees(provider_id));

-- Readings are many and small: their parties stand once, with the connection's totals, and are those of its readings'
-- events, which have been the customer and the provider since the first.
ALTER TABLE read_usage ADD COLUMN parties text[] COLLATE "C" NOT NULL DEFAULT '{}';
UPDATE read_usage AS u
   SET parties = ARRAY(SELECT DISTINCT p COLLATE "C" FROM unnest(ARRAY[c.customer_id, c.provider_id]) AS p ORDER BY 1)
  FROM read_connections AS c WHERE c.connection_id = u.connection_id;
ALTER TABLE read_usage ALTER COLUMN parties DROP DEFAULT;
ALTER TABLE read_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_usage FOR SELECT TO crossbill_tenant USING (crossbill_sees(VARIADIC parties));
ALTER TABLE read_readings ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON read_readings FOR SELECT TO crossbill_tenant
    USING (EXISTS (SELECT FROM read_usage AS u WHERE u.connection_id = read_readings.connection_id)); -- which has a policy of its own

-- The log. The organisations that may see an event are in its metadata. Partitions need nothing: they are read through
-- events only, and nobody but the owner has a right on them.
CREATE FUNCTION crossbill_sees_event(metadata bytea) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT current_setting('crossbill.viewer', true) = 'operator'
        OR (convert_from(metadata, 'UTF8')::jsonb -> 'parties') ? nullif(current_setting('crossbill.viewer', true), '')
$$;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON events FOR SELECT TO crossbill_tenant USING (crossbill_sees_event(metadata));

GRANT SELECT ON events, read_listings, read_fee_schedules, read_orders, read_connections, read_edge_revisions, read_edge_nodes,
    read_ports, read_invoices, read_settlements, read_usage, read_readings TO crossbill_tenant;

-- +goose Down

REVOKE ALL ON events, read_listings, read_fee_schedules, read_orders, read_connections, read_edge_revisions, read_edge_nodes,
    read_ports, read_invoices, read_settlements, read_usage, read_readings FROM crossbill_tenant;
DROP POLICY everybody ON read_listings;
DROP POLICY everybody ON read_fee_schedules;
DROP POLICY parties ON events;
DROP POLICY parties ON read_readings;
DROP POLICY parties ON read_usage;
DROP POLICY parties ON read_settlements;
DROP POLICY parties ON read_invoices;
DROP POLICY parties ON read_ports;
DROP POLICY parties ON read_edge_nodes;
DROP POLICY parties ON read_edge_revisions;
DROP POLICY parties ON read_connections;
DROP POLICY parties ON read_orders;
ALTER TABLE events DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_listings DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_fee_schedules DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_orders DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_connections DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_edge_revisions DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_edge_nodes DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_ports DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_invoices DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_settlements DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_usage DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_readings DISABLE ROW LEVEL SECURITY;
ALTER TABLE read_usage DROP COLUMN parties;
DROP FUNCTION crossbill_sees, crossbill_sees_event;
