package api

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/events"
	"crossbill/provisioning"
)

type askFunc = func(ctx context.Context, tx pgx.Tx) error

// errUsedUp is the cause of an append that was refused because the caller's allowance was used up, or given back, since
// it was looked at.
var errUsedUp = errors.New("the allowance is another by now")

// withinLimits has a decision made by what the caller may commit to. try is told why a person has to approve (one of
// domain/order's reasons; "" if nobody has to) and appends with the ask, in which the same is looked at once more while
// the log's head is held: then nothing can come between the limit and the commitment. It is called again when the answer
// has changed until then. The ask also holds the key, the caller's organisation and the provider's to what was read of
// them: a key that was limited or an organisation that was suspended a moment before places nothing.
func (s *Server) withinLimits(ctx context.Context, total domain.Money, month, providerID string, try func(needed string, ask askFunc) error) error {
	caller := callerFrom(ctx)
	var err error
	for range conflictTries {
		provider, providerVersion, loadErr := events.Load(ctx, s.Log, organisation.Stream(providerID), organisation.Evolve)
		if loadErr != nil {
			return loadErr
		}
		if provider.ID != "" && provider.State != organisation.StateActive {
			return domain.Errorf(domain.Conflict, "api.withinLimits", "the provider takes no orders at present").WithHint("look for another listing")
		}
		needed, neededErr := s.approvalNeeded(ctx, s.Pool, caller, total, month)
		if neededErr != nil {
			return neededErr
		}
		err = try(needed, func(ctx context.Context, tx pgx.Tx) error {
			if err := caller.unchanged(ctx, tx, providerID, providerVersion); err != nil {
				return err
			}
			now, err := s.approvalNeeded(ctx, tx, caller, total, month)
			if err == nil && now != needed {
				err = domain.Errorf(domain.Conflict, "api.withinLimits", "other orders of the same principal came in between: %w", errUsedUp).
					WithHint("send the request again")
			}
			return err
		})
		if !errors.Is(err, errUsedUp) {
			return err
		}
	}
	return err
}

// approvalNeeded returns why a person has to approve what the caller wants to commit to; "" if nobody has to.
func (s *Server) approvalNeeded(ctx context.Context, db querier, caller Caller, total domain.Money, month string) (string, error) {
	if caller.Limits == (apikey.Limits{}) {
		return "", nil
	}
	spent, err := provisioning.Committed(ctx, db, caller.OrganisationID, caller.Principal.Ref(), month)
	if err != nil {
		return "", err
	}
	return order.ApprovalNeeded(caller.Limits, total, spent[total.Currency]), nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// unchanged returns a Conflict unless the caller's key and organisation, and the provider's, are as they were read.
func (c Caller) unchanged(ctx context.Context, tx pgx.Tx, providerID string, providerVersion int64) error {
	const query = `
		SELECT count(*) FROM streams, unnest($1::text[], $2::bigint[]) AS read (stream, version) -- primary key
		 WHERE streams.stream = read.stream AND streams.version <> read.version`
	var changed int
	err := tx.QueryRow(ctx, query,
		[]string{apikey.Stream(c.KeyID), organisation.Stream(c.OrganisationID), organisation.Stream(providerID)},
		[]int64{c.account.keyVersion, c.account.orgVersion, providerVersion}).Scan(&changed)
	if err != nil {
		return err
	}
	if changed > 0 {
		return domain.Errorf(domain.Conflict, "api.withinLimits", "the key or one of the organisations has changed just now").
			WithHint("send the request again")
	}
	return nil
}

// unchangedAsk is the ask that only holds the caller's key and organisation to what was read of them.
func (c Caller) unchangedAsk() askFunc {
	return func(ctx context.Context, tx pgx.Tx) error {
		return c.unchanged(ctx, tx, c.OrganisationID, c.account.orgVersion)
	}
}
