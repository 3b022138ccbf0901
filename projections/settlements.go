package projections

import (
	"context"
	"time"

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
		INSERT INTO read_settlements (settlement_id, position, version, provider_id, period_start, currency, doc)
		SELECT id, position, version, provider_id, period_start, currency, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
			AS t (id, position, version, provider_id, period_start, currency, doc)
		ON CONFLICT (settlement_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s settlement.State) string { return s.ProviderID }),
		each(rows, func(s settlement.State) time.Time { return s.PeriodStart }),
		each(rows, func(s settlement.State) string { return string(s.Currency) }),
		c.docs)
	if err != nil {
		return err
	}
	return keepRevenue(ctx, tx, rows)
}

// SettlementsOf returns a page of what the viewer, a provider, is owed, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) SettlementsOf(ctx context.Context, viewer Viewer, s BookSearch) ([]settlement.State, string, error) {
	const op = "projections.SettlementsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := s.list("settlements", viewer).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[settlement.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_settlements -- read_settlements_provider, or read_settlements_position_key for an operator
		WHERE `+whose(viewer, "provider_id")+` AND position < $2 AND ($3::timestamptz IS NULL OR period_start >= $3)
		  AND ($4::timestamptz IS NULL OR period_start < $4) AND ($5 = '' OR currency = $5)
		ORDER BY position DESC LIMIT $6`,
		viewer.organisation, p.place, timeOrNull(s.From), timeOrNull(s.To), string(s.Currency), p.ask())
}
