package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/settlement"
)

// MaxRevenueSums is how many sums one question about revenue may have for an answer.
const MaxRevenueSums = 10_000

// keepRevenue adds up what is left of the lines of settlements for each connection: what was credited since is no revenue of
// the month that it was settled for.
func keepRevenue(ctx context.Context, tx pgx.Tx, changed []*folded[settlement.State]) error {
	for _, row := range changed {
		s := row.state
		sums := make(map[string]domain.Money)
		var ids, amounts []string
		for _, l := range s.Lines {
			sum, seen := sums[l.ConnectionID]
			if !seen {
				sum.Currency = s.Currency
				ids = append(ids, l.ConnectionID)
			}
			sum, err := sum.Add(l.Amount)
			if off, credited := s.ByItem[l.ItemID]; err == nil && credited {
				sum, err = sum.Add(off.Neg())
			}
			if err != nil {
				return err
			}
			sums[l.ConnectionID] = sum
		}
		for _, id := range ids {
			amounts = append(amounts, sums[id].Amount())
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO read_revenue (settlement_id, connection_id, provider_id, period_start, currency, amount)
			SELECT $1, id, $2, $3, $4, amount::numeric FROM unnest($5::text[], $6::text[]) AS t (id, amount)
			ON CONFLICT (settlement_id, connection_id) DO UPDATE SET amount = EXCLUDED.amount`,
			s.SettlementID, s.ProviderID, s.PeriodStart, string(s.Currency), ids, amounts); err != nil {
			return err
		}
	}
	return nil
}

// What revenue can be added up by.
const (
	RevenueByMonth      = "month"
	RevenueByListing    = "listing"
	RevenueByCustomer   = "customer"
	RevenueByConnection = "connection"
)

// RevenueSum is what is settled with a provider for a month, in one currency, less what was credited since.
type RevenueSum struct {
	Month  string // "2026-03", in which the periods begin
	Key    string // the month, or an id
	Amount domain.Money
}

// Revenue returns what is settled with a provider for periods that begin in [from, to), by month and a key (RevenueBy…), in
// order. It returns an Invalid error for more than [MaxRevenueSums] sums.
func (q Queries) Revenue(ctx context.Context, providerID, by string, from, to time.Time) ([]RevenueSum, error) {
	const op = "projections.Revenue"
	const month = `to_char(r.period_start AT TIME ZONE 'UTC', 'YYYY-MM')`
	key := map[string]string{
		RevenueByMonth: month, RevenueByListing: `c.doc ->> 'listing_id'`, RevenueByCustomer: `c.customer_id`, RevenueByConnection: `r.connection_id`,
	}[by]
	if key == "" {
		return nil, domain.Errorf(domain.Internal, op, "revenue can't be added up by %q", by)
	}
	rows, err := q.DB.Query(ctx, `
		SELECT `+month+` AS month, coalesce(`+key+`, '') AS key, r.currency, sum(r.amount)::text
		FROM read_revenue AS r -- read_revenue_provider
		LEFT JOIN read_connections AS c USING (connection_id) -- primary key
		WHERE r.provider_id = $1 AND r.period_start >= $2 AND r.period_start < $3
		GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $4`, providerID, from, to, MaxRevenueSums+1)
	if err != nil {
		return nil, unavailable(op, err)
	}
	sums, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s RevenueSum, err error) {
		var currency, amount string
		if err := row.Scan(&s.Month, &s.Key, &currency, &amount); err != nil {
			return s, err
		}
		s.Amount, err = domain.ParseMoney(amount, domain.Currency(currency))
		return s, err
	})
	if err != nil {
		return nil, unavailable(op, err)
	}
	if len(sums) > MaxRevenueSums {
		return nil, domain.Errorf(domain.Invalid, op, "the revenue has more than %d sums", MaxRevenueSums).WithHint("ask for fewer months, or by something that there is less of")
	}
	return sums, nil
}
