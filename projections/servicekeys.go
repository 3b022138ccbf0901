package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/servicekey"
	"crossbill/events"
)

var serviceKeys = folder[servicekey.State]{
	family: familyOf("service_key", servicekey.Events()),
	evolve: servicekey.Evolve,
	load:   `SELECT service_key_id, position, version, doc FROM read_service_keys WHERE service_key_id = ANY($1)`,
}

func applyServiceKeys(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := serviceKeys.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_service_keys (service_key_id, position, version, provider_id, port_id, doc)
		SELECT id, position, version, provider_id, port_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
			AS t (id, position, version, provider_id, port_id, doc)
		ON CONFLICT (service_key_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s servicekey.State) string { return s.ProviderID }),
		each(rows, func(s servicekey.State) string { return s.PortID }),
		c.docs)
	return err
}

// ServiceKeysOf returns a page of the service keys that the viewer issued, newest first, and the token of the next page
// ("" at the end). portID narrows it to one port; "" leaves all in.
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) ServiceKeysOf(ctx context.Context, viewer Viewer, portID string, limit int, token string) ([]servicekey.State, string, error) {
	const op = "projections.ServiceKeysOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("service keys", viewer.key(), portID).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[servicekey.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_service_keys -- read_service_keys_provider, or by position
		WHERE ($1 = '' OR provider_id = $1) AND ($2 = '' OR port_id = $2) AND position < $3
		ORDER BY position DESC LIMIT $4`, viewer.organisation, portID, p.place, p.ask())
}
