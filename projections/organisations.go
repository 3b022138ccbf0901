package projections

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/events"
)

var organisations = folder[organisation.State]{
	family: familyOf("organisation", organisation.Events()),
	evolve: organisation.Evolve, // a state's JSON has no members, so no text about a person gets here
	load:   `SELECT organisation_id, position, version, doc FROM read_organisations WHERE organisation_id = ANY($1)`,
}

var apiKeys = folder[apikey.State]{
	family: familyOf("api_key", apikey.Events()),
	evolve: evolveListedKey,
	load:   `SELECT key_id, position, version, doc FROM read_api_keys WHERE key_id = ANY($1)`,
}

// evolveListedKey leaves out what a list must not have: the hash, and the name of a person.
func evolveListedKey(s apikey.State, e domain.Event) apikey.State {
	s = apikey.Evolve(s, e)
	s.SecretHash = ""
	if s.Principal.Kind == apikey.KindPerson {
		s.Principal.Name = ""
	}
	return s
}

func applyOrganisations(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := organisations.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_organisations (organisation_id, position, version, state, doc)
		SELECT id, position, version, state, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS t (id, position, version, state, doc)
		ON CONFLICT (organisation_id) DO UPDATE SET version = EXCLUDED.version, state = EXCLUDED.state, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, each(rows, func(s organisation.State) string { return s.State }), c.docs)
	return err
}

func applyAPIKeys(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := apiKeys.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_api_keys (key_id, position, version, organisation_id, doc)
		SELECT id, position, version, organisation_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS t (id, position, version, organisation_id, doc)
		ON CONFLICT (key_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, each(rows, func(s apikey.State) string { return s.OrganisationID }), c.docs)
	return err
}

// Organisations returns a page of the organisations in a state (any, if it is ""), newest first, and the token of the next
// page. Who they are shown to is the caller's matter. It returns an Invalid error for a limit or a token that is none.
func (q Queries) Organisations(ctx context.Context, state string, limit int, token string) ([]organisation.State, string, error) {
	const op = "projections.Organisations"
	p, err := listOf("organisations", state).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if state == "" {
		return docsPage[organisation.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_organisations -- read_organisations_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[organisation.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_organisations -- read_organisations_state
		WHERE state = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, state, p.place, p.ask())
}

// APIKeys returns a page of an organisation's keys, newest first, and the token of the next page. No key has its hash, nor
// a person's name. It returns an Invalid error for a limit or a token that is none.
func (q Queries) APIKeys(ctx context.Context, organisationID string, limit int, token string) ([]apikey.State, string, error) {
	const op = "projections.APIKeys"
	p, err := listOf("api-keys", organisationID).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[apikey.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_api_keys -- read_api_keys_organisation
		WHERE organisation_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, organisationID, p.place, p.ask())
}

// VersionedKey is a key and its stream's version.
type VersionedKey struct {
	Version int64
	apikey.State
}

// LiveKeys returns the keys of an organisation, without hashes and persons' names, that are neither revoked nor expired at
// a time, in no order, but for the keys of edge nodes, which their operator has by the thousand. ahead is how many more have
// been issued past what the read model has. Looked at in an append's transaction nothing is missed, if those that issue keys
// in the same transaction, whose events are not written yet, say so ([Queries.KeyIssued]).
func (q Queries) LiveKeys(ctx context.Context, organisationID string, at time.Time) (live []VersionedKey, ahead int, _ error) {
	const op = "projections.LiveKeys"
	rows, err := q.DB.Query(ctx, `
		SELECT version, doc, 0 FROM read_api_keys -- read_api_keys_organisation
		 WHERE organisation_id = $1 AND doc ->> 'revoked' = 'false' AND doc -> 'principal' ->> 'kind' <> $2
		   AND coalesce((doc ->> 'expires_at')::timestamptz > $3, true)
		UNION ALL
		SELECT 0, NULL, count(*) + (SELECT count(*) FROM string_to_table(current_setting('`+keysIssued+`', true), ' ') AS t (id) WHERE id = $1)
		  FROM events -- events_category
		 WHERE split_part(stream, '-', 1) = 'api_key' AND type = $4
		   AND position > coalesce((SELECT position FROM subscriptions WHERE name = 'api_keys'), 0)
		   AND convert_from(metadata, 'UTF8')::jsonb -> 'parties' ? $1`,
		organisationID, apikey.KindEdgeNode, at, apikey.Issued{}.EventType())
	if err != nil {
		return nil, 0, unavailable(op, err)
	}
	var version int64
	var doc []byte
	var issued int
	_, err = pgx.ForEachRow(rows, []any{&version, &doc, &issued}, func() error {
		if doc == nil {
			ahead = issued
			return nil
		}
		key := VersionedKey{Version: version}
		if err := json.Unmarshal(doc, &key.State); err != nil {
			return broken(op, err)
		}
		live = append(live, key)
		return nil
	})
	return live, ahead, unavailable(op, err)
}

// keysIssued is a setting of a transaction: the organisations, one for each key that is issued in it.
const keysIssued = "crossbill.keys_issued"

// KeyIssued says that the transaction issues a key of an organisation.
func (q Queries) KeyIssued(ctx context.Context, organisationID string) error {
	rows, err := q.DB.Query(ctx, `SELECT set_config('`+keysIssued+`', concat_ws(' ', nullif(current_setting('`+keysIssued+`', true), ''), $1::text), true)`, organisationID)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	return unavailable("projections.KeyIssued", err)
}

// LiveConnections returns how many connections that have not ended the organisation is a party of.
func (q Queries) LiveConnections(ctx context.Context, organisationID string) (int, error) {
	const op = "projections.LiveConnections"
	rows, err := q.DB.Query(ctx, `
		SELECT count(*) FROM read_connections -- read_connections_customer, read_connections_provider
		 WHERE (customer_id = $1 OR provider_id = $1) AND doc ->> 'state' NOT IN ('cancelled', 'decommissioned', 'archived')`, organisationID)
	if err != nil {
		return 0, unavailable(op, err)
	}
	live, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	return live, unavailable(op, err)
}
