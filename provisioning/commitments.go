package provisioning

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/order"
	"crossbill/events"
)

// KeepCommitments makes an append keep the table commitments true: what its events commit a principal to is recorded with
// them, and what an order held that they end without a connection is given back. Whatever appends events of orders goes
// through here, so that the table is a function of the log whoever ends an order.
func KeepCommitments(a *events.Append) {
	var steps []func(ctx context.Context, tx pgx.Tx) error
	for _, stream := range a.Streams {
		for _, e := range stream.Events {
			if step := commitmentStep(e.Event); step != nil {
				steps = append(steps, step)
			}
		}
	}
	if len(steps) == 0 {
		return
	}
	ask := a.Ask
	a.Ask = func(ctx context.Context, tx pgx.Tx) error {
		if ask != nil { // first, for it may be what holds to a limit
			if err := ask(ctx, tx); err != nil {
				return err
			}
		}
		for _, step := range steps {
			if err := step(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	}
}

func commitmentStep(e domain.Event) func(ctx context.Context, tx pgx.Tx) error {
	orderID, made := commitmentOf(e)
	switch {
	case orderID == "":
		return nil
	case made != nil:
		return commit(*made)
	}
	return giveBack(orderID)
}

// commitment is a row of the table.
type commitment struct {
	orderID, organisationID string
	order.Commitment
}

// commitmentOf returns the order whose commitment the event makes or, if made is nil, gives back; "" if it does neither.
func commitmentOf(e domain.Event) (orderID string, made *commitment) {
	switch e := e.(type) {
	case order.Placed:
		if e.Commitment != nil {
			return e.OrderID, &commitment{e.OrderID, e.CustomerID, *e.Commitment}
		}
	case order.Approved:
		return e.OrderID, &commitment{e.OrderID, e.CustomerID, e.Commitment}
	case order.Rejected:
		return e.OrderID, nil
	case order.Failed:
		return e.OrderID, nil
	case order.Cancelled:
		return e.OrderID, nil
	}
	return "", nil
}

func commit(c commitment) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		const insert = `
			INSERT INTO commitments (order_id, organisation_id, principal_kind, principal_id, month, currency, minor)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`
		_, err := tx.Exec(ctx, insert, c.orderID, c.organisationID, c.Principal.Kind, c.Principal.ID, c.Month, c.Amount.Currency, c.Amount.Minor)
		if err != nil {
			return domain.Errorf(domain.Unavailable, "provisioning.commit", "the commitment could not be recorded: %w", err)
		}
		return nil
	}
}

func giveBack(orderID string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM commitments WHERE order_id = $1`, orderID); err != nil { // primary key
			return domain.Errorf(domain.Unavailable, "provisioning.giveBack", "the commitment could not be given back: %w", err)
		}
		return nil
	}
}

// Committed returns what a principal has committed its organisation to in a month, in minor units of each currency. db is
// the pool, or the transaction of an append whose decision hangs on it.
func Committed(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, organisationID string, principal apikey.PrincipalRef, month string) (map[domain.Currency]int64, error) {
	const query = `
		SELECT currency, least(sum(minor), 9223372036854775807)::bigint FROM commitments -- index commitments_principal
		 WHERE organisation_id = $1 AND principal_kind = $2 AND principal_id = $3 AND month = $4 GROUP BY currency`
	spent := make(map[domain.Currency]int64)
	rows, err := db.Query(ctx, query, organisationID, principal.Kind, principal.ID, month)
	if err == nil {
		var currency domain.Currency
		var minor int64
		_, err = pgx.ForEachRow(rows, []any{&currency, &minor}, func() error { spent[currency] = minor; return nil })
	}
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "provisioning.Committed", "the commitments could not be read: %w", err)
	}
	return spent, nil
}
