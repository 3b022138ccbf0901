package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/events"
)

var billingAccounts = folder[billingaccount.State]{
	family: familyOf("billing_account", billingaccount.Events(), billingaccount.DefaultSet{}),
	evolve: func(s billingaccount.State, e domain.Event) billingaccount.State {
		if p, ok := e.(domain.Personal); ok { // no text about a person is copied where an erasure does not reach it
			e = p.MapPersonal(func(domain.PersonalField) string { return "" })
		}
		return billingaccount.Evolve(s, e)
	},
	load: `SELECT billing_account_id, position, version, doc FROM read_billing_accounts WHERE billing_account_id = ANY($1)`,
}

var billingDefaults = familyOf("billing_default", []domain.Event{billingaccount.DefaultSet{}})

func applyBillingAccounts(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	if err := applyBillingDefaults(ctx, tx, batch); err != nil {
		return err
	}
	rows, err := billingAccounts.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_billing_accounts (billing_account_id, position, version, organisation_id, doc)
		SELECT id, position, version, organisation_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
			AS t (id, position, version, organisation_id, doc)
		ON CONFLICT (billing_account_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, each(rows, func(s billingaccount.State) string { return s.OrganisationID }), c.docs)
	return err
}

func applyBillingDefaults(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	for _, e := range batch {
		_, ours, err := billingDefaults.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		set, ok := e.Event.(billingaccount.DefaultSet)
		if !ok {
			return unhandled(e)
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO read_billing_defaults (organisation_id, billing_account_id) VALUES ($1, $2)
			ON CONFLICT (organisation_id) DO UPDATE SET billing_account_id = EXCLUDED.billing_account_id`,
			set.OrganisationID, set.BillingAccountID); err != nil {
			return err
		}
	}
	return nil
}

// BillingAccountsOf returns a page of the viewer's billing accounts, newest first and without the texts about persons, and
// the token of the next page ("" at the end). It returns an Invalid error for a limit or a token that is none.
func (q Queries) BillingAccountsOf(ctx context.Context, viewer Viewer, limit int, token string) ([]billingaccount.State, string, error) {
	const op = "projections.BillingAccountsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("billing_accounts", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[billingaccount.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_billing_accounts -- read_billing_accounts_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[billingaccount.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_billing_accounts -- read_billing_accounts_organisation
		WHERE organisation_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}
