package projections

import (
	"context"
	"math/big"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/events"
)

// applyRecurring keeps what each connection comes to in a full month, from when on: the terms of its quotes.
func applyRecurring(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var writes pgx.Batch
	for _, e := range batch {
		for _, f := range []family{quotes.family, connectionEvents} {
			if _, _, err := f.id(e); err != nil {
				return err
			}
		}
		switch d := e.Event.(type) {
		case quote.Issued:
			price, fee, err := recurringOf(d)
			if err != nil {
				return err
			}
			writes.Queue(`
				INSERT INTO read_recurring_prices (quote_id, customer_id, provider_id, currency, price, fee)
				VALUES ($1, $2, $3, $4, $5, $6)`,
				d.QuoteID, d.CustomerID, d.ProviderID, string(d.Plan.Currency), price.Minor, fee.Minor)
		case connection.Requested:
			queueTerms(&writes, d.ConnectionID, e.Position, d.QuoteID, nil)
		case connection.Activated:
			writes.Queue(`UPDATE read_recurring_terms SET since = $2 WHERE connection_id = $1 AND since IS NULL`, d.ConnectionID, d.At)
		case connection.Changed:
			queueTerms(&writes, d.ConnectionID, e.Position, d.QuoteID, &d.At)
		case connection.DecommissionRequested:
			writes.Queue(`
				INSERT INTO read_recurring_terms (connection_id, position, since, customer_id, provider_id, currency, price, fee)
				SELECT connection_id, $2, $3, customer_id, provider_id, currency, 0, 0
				FROM read_recurring_terms -- primary key
				WHERE connection_id = $1 ORDER BY position DESC LIMIT 1`, d.ConnectionID, int64(e.Position), d.EffectiveAt)
		}
	}
	if writes.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, &writes).Close()
}

func queueTerms(writes *pgx.Batch, connectionID string, at events.Position, quoteID string, since *time.Time) {
	writes.Queue(`
		INSERT INTO read_recurring_terms (connection_id, position, since, customer_id, provider_id, currency, price, fee)
		SELECT $1, $2, $3, customer_id, provider_id, currency, price, fee
		FROM read_recurring_prices -- primary key
		WHERE quote_id = $4`, connectionID, int64(at), since, quoteID)
}

// recurringOf returns a quote's price of a full month without usage, and the platform's fee on it, were nothing free of it.
// Of a plan that has no such price, which no quote should be of, both are nothing.
func recurringOf(q quote.Issued) (price, fee domain.Money, err error) {
	price, fee = domain.Money{Currency: q.Plan.Currency}, domain.Money{Currency: q.Plan.Currency}
	minor, ok := monthly(q.Plan, pricing.Expected{BandwidthMbps: q.BandwidthMbps, Bytes: new(big.Int), Running: true})
	if !ok || minor == 0 {
		return price, fee, nil
	}
	price.Minor = minor
	schedule := pricing.FeeSchedule{BasisPoints: q.BasisPoints}
	if q.FeeTerms != nil {
		schedule.FeeTerms = *q.FeeTerms
	}
	exact, _ := schedule.Rate(price)
	fee, err = domain.RoundMoney(exact, price.Currency)
	return price, fee, err
}

// RecurringMonth is how monthly recurring revenue came from one month's end to the next, in one currency. Start + New +
// Returned + Expansion − Contraction − Churn = End. Only what comes of customers is compared, not of single connections.
type RecurringMonth struct {
	Month           int // of those asked for, from 0
	Start           domain.Money
	New             domain.Money // of customers that never had any before
	Returned        domain.Money // of customers that had none at the start, but had before
	Expansion       domain.Money
	Contraction     domain.Money
	Churn           domain.Money // of customers that have none at the end
	End             domain.Money
	StartCustomers  int
	EndCustomers    int
	NewCustomers    int
	ReturnCustomers int
	ChurnCustomers  int
}

// RecurringRevenue returns the movements of monthly recurring revenue between ends of months, which must be in order: the
// first movement is from the first end to the second. It is of the platform's fees, or of a provider's prices if one is
// named. A month and currency without any revenue is left out.
//
// What counts at an end is what was in force in the last moment before it.
func (q Queries) RecurringRevenue(ctx context.Context, providerID string, ends []time.Time) ([]RecurringMonth, error) {
	const op = "projections.RecurringRevenue"
	amount, whose := "fee", "$1 = ''"
	if providerID != "" {
		amount, whose = "price", "provider_id = $1"
	}
	rows, err := q.DB.Query(ctx, `
		WITH at_end AS (
			SELECT b.n, t.customer_id, t.currency, sum(t.amount) AS amount
			  FROM unnest($2::timestamptz[]) WITH ORDINALITY AS b (at, n)
			 CROSS JOIN LATERAL (
				SELECT DISTINCT ON (connection_id) customer_id, currency, `+amount+` AS amount
				  FROM read_recurring_terms -- read_recurring_terms_provider, or for an operator all of it
				 WHERE `+whose+` AND since < b.at
				 ORDER BY connection_id, position DESC) AS t
			 WHERE t.amount > 0
			 GROUP BY 1, 2, 3
		), moved AS (
			SELECT n, customer_id, currency, coalesce(a.amount, 0) AS was, coalesce(z.amount, 0) AS is_now,
			       a.amount IS NULL AND EXISTS (
				SELECT 1 FROM read_recurring_terms AS k -- read_recurring_terms_customer
				 WHERE k.customer_id = z.customer_id AND k.currency = z.currency AND k.since < ($2::timestamptz[])[n - 1]
				   AND k.`+amount+` > 0 AND `+whose+`) AS known
			  FROM (SELECT n + 1 AS n, customer_id, currency, amount FROM at_end) AS a
			  FULL JOIN at_end AS z USING (n, customer_id, currency)
			 WHERE n BETWEEN 2 AND cardinality($2::timestamptz[])
		)
		SELECT n - 2, currency, sum(was)::text,
		       coalesce(sum(is_now) FILTER (WHERE was = 0 AND NOT known), 0)::text,
		       coalesce(sum(is_now) FILTER (WHERE was = 0 AND known), 0)::text,
		       coalesce(sum(is_now - was) FILTER (WHERE was > 0 AND is_now > was), 0)::text,
		       coalesce(sum(was - is_now) FILTER (WHERE is_now > 0 AND is_now < was), 0)::text,
		       coalesce(sum(was) FILTER (WHERE is_now = 0), 0)::text,
		       sum(is_now)::text, count(*) FILTER (WHERE was > 0), count(*) FILTER (WHERE is_now > 0),
		       count(*) FILTER (WHERE was = 0 AND NOT known), count(*) FILTER (WHERE was = 0 AND known), count(*) FILTER (WHERE is_now = 0)
		  FROM moved GROUP BY 1, 2 ORDER BY 1, 2`, providerID, ends)
	if err != nil {
		return nil, unavailable(op, err)
	}
	months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m RecurringMonth, err error) {
		var currency domain.Currency
		var sums [7]string
		if err := row.Scan(&m.Month, &currency, &sums[0], &sums[1], &sums[2], &sums[3], &sums[4], &sums[5], &sums[6],
			&m.StartCustomers, &m.EndCustomers, &m.NewCustomers, &m.ReturnCustomers, &m.ChurnCustomers); err != nil {
			return m, err
		}
		for n, into := range []*domain.Money{&m.Start, &m.New, &m.Returned, &m.Expansion, &m.Contraction, &m.Churn, &m.End} {
			if *into, err = minorUnits(op, sums[n], currency); err != nil {
				return m, err
			}
		}
		return m, nil
	})
	return months, unavailable(op, err)
}

// minorUnits reads a sum that PostgreSQL made of minor units, which can be past the range of money.
func minorUnits(op, sum string, c domain.Currency) (domain.Money, error) {
	minor, err := strconv.ParseInt(sum, 10, 64)
	if err != nil {
		return domain.Money{}, domain.Errorf(domain.Internal, op, "a sum in %s is too large: %s minor units", c, sum)
	}
	return domain.Money{Minor: minor, Currency: c}, nil
}

// MarginMonth is what the ledger says of a month of the platform's own business, in one currency.
type MarginMonth struct {
	Month       string       // "2026-03", of the days that entries are dated by, UTC
	Fees        domain.Money // revenue: fees invoiced, less those credited and of void invoices
	Cost        domain.Money // of payment processing
	Passthrough domain.Money // invoiced for providers, less credited and void: no revenue of the platform's
}

// GrossMargin returns, by month and currency, what the entries of the ledger that are dated in [from, to) and of events up to
// a position come to. What has neither fees, cost nor passthrough is left out.
func (q Queries) GrossMargin(ctx context.Context, at events.Position, from, to time.Time) ([]MarginMonth, error) {
	const op = "projections.GrossMargin"
	rows, err := q.DB.Query(ctx, `
		SELECT to_char(t.dated, 'YYYY-MM'), e.currency,
		       coalesce(-sum(e.minor) FILTER (WHERE e.account = 'revenue:platform-fee'), 0)::text,
		       coalesce(sum(e.minor) FILTER (WHERE e.account = 'cost:processing'), 0)::text,
		       coalesce(-sum(e.minor) FILTER (WHERE e.account >= 'pass-through:' AND e.account < 'pass-through;' -- ';' is what follows ':'
		                                        AND t.event_type IN ('invoice.issued', 'invoice.voided', 'credit_note.issued')), 0)::text
		  FROM ledger_transactions AS t -- ledger_transactions_dated
		  JOIN ledger_entries AS e USING (position) -- primary key
		 WHERE t.dated >= $2::date AND t.dated < $3::date AND t.position <= $1
		   AND (e.account IN ('revenue:platform-fee', 'cost:processing') OR e.account >= 'pass-through:' AND e.account < 'pass-through;')
		 GROUP BY 1, 2 ORDER BY 1, 2`, int64(at), from, to)
	if err != nil {
		return nil, unavailable(op, err)
	}
	months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m MarginMonth, err error) {
		var currency domain.Currency
		var sums [3]string
		if err := row.Scan(&m.Month, &currency, &sums[0], &sums[1], &sums[2]); err != nil {
			return m, err
		}
		for n, into := range []*domain.Money{&m.Fees, &m.Cost, &m.Passthrough} {
			if *into, err = minorUnits(op, sums[n], currency); err != nil {
				return m, err
			}
		}
		return m, nil
	})
	return months, unavailable(op, err)
}
