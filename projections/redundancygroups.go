package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
)

var redundancyGroups = folder[redundancygroup.State]{
	family: familyOf("redundancy_group", redundancygroup.Events()),
	evolve: redundancygroup.Evolve,
	load:   `SELECT redundancy_group_id, position, version, doc FROM read_redundancy_groups WHERE redundancy_group_id = ANY($1)`,
}

func applyRedundancyGroups(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := redundancyGroups.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_redundancy_groups (redundancy_group_id, position, version, customer_id, doc)
		SELECT id, position, version, customer_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
			AS t (id, position, version, customer_id, doc)
		ON CONFLICT (redundancy_group_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s redundancygroup.State) string { return s.CustomerID }),
		c.docs)
	return err
}

// RedundancyGroupsOf returns a page of the viewer's redundancy groups, newest first, and the token of the next page ("" at
// the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) RedundancyGroupsOf(ctx context.Context, viewer Viewer, limit int, token string) ([]redundancygroup.State, string, error) {
	const op = "projections.RedundancyGroupsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("redundancy groups", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[redundancygroup.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_redundancy_groups -- read_redundancy_groups_customer, or by position
		WHERE ($1 = '' OR customer_id = $1) AND position < $2
		ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}

// MaxConnectionsAtOnce is how many connections can be looked up in one query.
const MaxConnectionsAtOnce = 10_000

// ConnectionsByID returns those of the connections that are there, by id. The caller shows them to nobody but their parties.
func (q Queries) ConnectionsByID(ctx context.Context, ids []string) (map[string]connection.State, error) {
	const op = "projections.ConnectionsByID"
	if len(ids) > MaxConnectionsAtOnce {
		return nil, domain.Errorf(domain.Internal, op, "%d connections are too many for one query", len(ids))
	}
	found, err := selectDocs[connection.State](ctx, q.DB, op, `
		SELECT position, doc FROM read_connections WHERE connection_id = ANY($1) -- primary key`, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]connection.State, len(found))
	for _, c := range found {
		byID[c.doc.ID] = c.doc
	}
	return byID, nil
}
