package provisioning

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
)

// CommitmentsName is what the table of commitments is called where read models are rebuilt. It is none, since appends
// themselves write it.
const CommitmentsName = "commitments"

// RebuildCommitments computes the table of commitments from the log again and, unless it is only to be verified, puts that
// in the place of what was there. It returns the log position at which it did, and how many orders hold a commitment.
//
// The log is read up to its end first; then its head is held, so that nothing is appended, for the rest of the log and the
// exchange. Appends meanwhile wait for as long as that takes. Every commitment that is held is in memory, some 300 bytes each.
//
// It returns a Conflict, when verifying, if a row is not what the log makes it; Internal, caused by
// [events.ErrUndecodable], at an event that this version does not know; Unavailable if the database can't be used.
func RebuildCommitments(ctx context.Context, pool *pgxpool.Pool, log *events.Log, verify bool) (at events.Position, held int, _ error) {
	const op = "provisioning.RebuildCommitments"
	byOrder := make(map[string]commitment)
	apply := func() error {
		for {
			page, err := log.ReadCategory(ctx, "order", at, events.MaxRead)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, e := range page {
				at = e.Position
				switch orderID, made := commitmentOf(e.Event); {
				case made != nil:
					byOrder[orderID] = *made
				case orderID != "":
					delete(byOrder, orderID)
				}
			}
		}
	}
	if err := apply(); err != nil {
		return 0, 0, err
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var head events.Position
		if err := tx.QueryRow(ctx, `SELECT position FROM log_head WHERE log = 'main' FOR UPDATE`).Scan(&head); err != nil { // primary key
			return err
		}
		if err := apply(); err != nil {
			return err
		}
		at = head
		if verify {
			return compareCommitments(ctx, tx, byOrder)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM commitments`); err != nil {
			return err
		}
		rows := make([][]any, 0, len(byOrder))
		for _, c := range byOrder {
			rows = append(rows, []any{c.orderID, c.organisationID, c.Principal.Kind, c.Principal.ID, c.Month, string(c.Amount.Currency), c.Amount.Minor})
		}
		columns := []string{"order_id", "organisation_id", "principal_kind", "principal_id", "month", "currency", "minor"}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"commitments"}, columns, pgx.CopyFromRows(rows))
		return err
	})
	if refusal := (*domain.Error)(nil); err != nil && !errors.As(err, &refusal) {
		err = domain.Errorf(domain.Unavailable, op, "the commitments could not be computed: %w", err)
	}
	return at, len(byOrder), err
}

// compareCommitments returns a Conflict that names the first order whose row is not what the log makes it.
func compareCommitments(ctx context.Context, tx pgx.Tx, want map[string]commitment) error {
	const op = "provisioning.RebuildCommitments"
	rows, err := tx.Query(ctx, `SELECT order_id, organisation_id, principal_kind, principal_id, month, currency, minor FROM commitments`)
	if err != nil {
		return err
	}
	got := make(map[string]commitment)
	var c commitment
	_, err = pgx.ForEachRow(rows, []any{&c.orderID, &c.organisationID, &c.Principal.Kind, &c.Principal.ID, &c.Month, &c.Amount.Currency, &c.Amount.Minor},
		func() error { got[c.orderID] = c; return nil })
	if err != nil {
		return err
	}
	var wrong []string
	for id := range want {
		if got[id] != want[id] {
			wrong = append(wrong, id)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			wrong = append(wrong, id)
		}
	}
	if len(wrong) > 0 {
		return domain.Errorf(domain.Conflict, op, "the commitments of %d orders are not what the log makes them, among them that of %s", len(wrong), slices.Min(wrong)).
			WithHint("crossbill projections rebuild %s", CommitmentsName)
	}
	return nil
}
