package billing

import (
	"context"
	"slices"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/pricing"
)

// BacktestRow is what one connection's month came to under its own plan, and would have under another.
type BacktestRow struct {
	ConnectionID string
	ListingID    string
	Month        Period
	Own, Other   domain.Money // the provider's price, each in its plan's currency
}

// Backtest rates a plan over months that are over, as a run rates a connection's own: by what was metered, when it was billable,
// suspended and changed. Nothing is appended. A connection that was not billable, or is of another listing if one is named, has
// no row. It returns an Invalid error for a
// plan that is not valid or has no amount for a connection's bandwidth.
func Backtest(ctx context.Context, log Log, meters Meters, plan pricing.Plan, listing string, month Period, connections []usage.Billable) (rows []BacktestRow, err error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(connections, maxBatch) {
		if rows, err = backtest(ctx, rows, log, meters, plan, listing, month, some); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// backtest adds the rows of as many connections as are looked at together.
func backtest(
	ctx context.Context, rows []BacktestRow, log Log, meters Meters, plan pricing.Plan, listing string, month Period, connections []usage.Billable,
) ([]BacktestRow, error) {
	s, err := openStock(ctx, log, meters, month, connections)
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	for _, c := range connections {
		own, err := gather(ctx, s.log, c.ConnectionID, month, s.upTo, func(f *Facts) error { return s.count(ctx, f) })
		if err != nil {
			return nil, err
		}
		if own.Billable.Empty() || listing != "" && own.Connection.ListingID != listing {
			continue
		}
		other, err := gather(ctx, s.log, c.ConnectionID, month, s.upTo, func(f *Facts) error {
			for n := range f.Stretches {
				if _, err := plan.For(f.Stretches[n].Quote.BandwidthMbps); err != nil {
					return err
				}
				f.Stretches[n].Quote.Plan = plan
			}
			f.openUsage() // the plan may count buckets where the other did not
			return s.count(ctx, f)
		})
		if err != nil {
			return nil, err
		}
		row := BacktestRow{ConnectionID: c.ConnectionID, ListingID: own.Connection.ListingID, Month: month}
		if row.Own, err = own.passthrough(); err != nil {
			return nil, err
		}
		if row.Other, err = other.passthrough(); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// passthrough returns what the lines of the provider's price come to, in the plan's currency.
func (f *Facts) passthrough() (sum domain.Money, err error) {
	sum.Currency = f.Currency()
	items, _, err := f.rateItems(pricing.FreeUse{Passthrough: sum})
	if err != nil {
		return sum, err
	}
	for _, i := range items {
		if sum, err = sum.Add(i.Amount); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
