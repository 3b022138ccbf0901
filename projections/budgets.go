package projections

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/budget"
	"crossbill/events"
)

var budgets = folder[budget.State]{
	family: familyOf("budget", budget.Events()),
	evolve: budget.Evolve,
	load:   `SELECT budget_id, position, version, doc FROM read_budgets WHERE budget_id = ANY($1)`,
}

func applyBudgets(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := budgets.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO read_budgets (budget_id, position, version, organisation_id, open, doc)
		SELECT id, position, version, organisation_id, open, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::text[])
			AS t (id, position, version, organisation_id, open, doc)
		ON CONFLICT (budget_id) DO UPDATE SET version = EXCLUDED.version, open = EXCLUDED.open, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s budget.State) string { return s.OrganisationID }),
		each(rows, func(s budget.State) bool { return s.State == budget.StateOpen }),
		c.docs); err != nil {
		return err
	}
	for _, e := range batch {
		reached, ok := e.Event.(budget.ThresholdReached)
		if !ok {
			continue
		}
		doc, err := json.Marshal(reached)
		if err != nil {
			return domain.Errorf(domain.Internal, "projections.applyBudgets", "event %d has no JSON: %w", e.Position, err)
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO read_budget_alerts (position, organisation_id, budget_id, month, percent, doc)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			int64(e.Position), reached.OrganisationID, reached.BudgetID, reached.Month, reached.Percent, string(doc)); err != nil {
			return err
		}
	}
	return nil
}

// BudgetsOf returns a page of the viewer's budgets, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) BudgetsOf(ctx context.Context, viewer Viewer, limit int, token string) ([]budget.State, string, error) {
	const op = "projections.BudgetsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("budgets", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[budget.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_budgets -- read_budgets_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[budget.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_budgets -- read_budgets_organisation
		WHERE organisation_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}

// AlertSearch narrows a list of alerts; what is "" does not.
type AlertSearch struct {
	BudgetID, Month string
	Limit           int
	PageToken       string
}

// BudgetAlertsOf returns a page of the alerts of the viewer's budgets, newest first, and the token of the next page ("" at
// the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) BudgetAlertsOf(ctx context.Context, viewer Viewer, s AlertSearch) ([]budget.ThresholdReached, string, error) {
	const op = "projections.BudgetAlertsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("budget_alerts", viewer.key(), s.BudgetID, s.Month).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[budget.ThresholdReached](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_budget_alerts -- read_budget_alerts_organisation, or primary key for an operator
		WHERE ($1 OR organisation_id = $2) AND ($3 = '' OR budget_id = $3) AND ($4 = '' OR month = $4) AND position < $5
		ORDER BY position DESC LIMIT $6`, viewer.operator, viewer.organisation, s.BudgetID, s.Month, p.place, p.ask())
}

// OpenBudgets returns the next open budgets, in order of organisation and id, after one that was returned last; the zero
// budget.State for the first. There are no more when it returns none.
func (q Queries) OpenBudgets(ctx context.Context, after budget.State, limit int) ([]budget.State, error) {
	const op = "projections.OpenBudgets"
	found, err := selectDocs[budget.State](ctx, q.DB, op, `
		SELECT position, doc FROM read_budgets -- read_budgets_open
		WHERE open AND (organisation_id, budget_id) > ($1, $2) ORDER BY organisation_id, budget_id LIMIT $3`,
		after.OrganisationID, after.ID, limit)
	if err != nil {
		return nil, err
	}
	all := make([]budget.State, len(found))
	for i, f := range found {
		all[i] = f.doc
	}
	return all, nil
}
