package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/settlement"
	"crossbill/events"
)

var settlements = folder[settlement.State]{
	family: familyOf("settlement", settlement.Events()),
	evolve: settlement.Evolve,
	load:   `SELECT settlement_id, position, version, doc FROM read_settlements WHERE settlement_id = ANY($1)`,
}

func applySettlements(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := settlements.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_settlements (settlement_id, position, version, provider_id, doc)
		SELECT id, position, version, provider_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
			AS t (id, position, version, provider_id, doc)
		ON CONFLICT (settlement_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, each(rows, func(s settlement.State) string { return s.ProviderID }), c.docs)
	return err
}

// SettlementsOf returns a page of what the viewer, a provider, is owed, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) SettlementsOf(ctx context.Context, viewer Viewer, limit int, token string) ([]settlement.State, string, error) {
	const op = "projections.SettlementsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("settlements", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[settlement.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_settlements -- read_settlements_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[settlement.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_settlements -- read_settlements_provider
		WHERE provider_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}
