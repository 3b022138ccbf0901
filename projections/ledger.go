package projections

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"crossbill/billing/ledger"
	"crossbill/domain"
	"crossbill/events"
)

// LedgerModel is the name of the read model that keeps the ledger.
const LedgerModel = "ledger"

// Limits of what is asked of the ledger.
const (
	MaxLedgerBalances = 100_000 // accounts and currencies in a trial balance
	maxDifferences    = 20      // that a check names
	journalPage       = 500     // transactions, or accounts, in memory at a time
)

func applyLedger(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	known, err := earlierEntries(ctx, tx, batch)
	if err != nil {
		return err
	}
	var entered []ledger.Transaction
	for _, e := range batch {
		if e.Event == nil {
			return domain.Errorf(domain.Internal, "projections.applyLedger", "event %d (%s) has not been decoded", e.Position, e.Type).
				WithHint("run a version of crossbill that knows this event type")
		}
		t, err := ledger.Entries(e, known)
		if err != nil {
			return err
		}
		if len(t.Entries) == 0 {
			continue
		}
		if _, twice := known[t.Key]; t.Key != "" && !twice {
			known[t.Key] = t
		}
		entered = append(entered, t)
	}
	if len(entered) == 0 {
		return nil
	}
	if err := insertLedger(ctx, tx, entered); err != nil {
		return err
	}
	return requireBalanced(ctx, tx, entered[0].Position, entered[len(entered)-1].Position)
}

// earlierEntries reads the transactions before the batch that its events refer to, by key.
func earlierEntries(ctx context.Context, tx pgx.Tx, batch []events.Recorded) (map[string]ledger.Transaction, error) {
	known := make(map[string]ledger.Transaction)
	var keys []string
	for _, e := range batch {
		for _, key := range ledger.Refers(e.Event) {
			keys = append(keys, storable(key))
		}
	}
	if len(keys) == 0 {
		return known, nil
	}
	rows, err := tx.Query(ctx, `
		SELECT t.key, t.position, t.code, e.account, coalesce(e.party_id, ''), e.currency, e.minor
		  FROM ledger_transactions AS t -- ledger_transactions_key
		  JOIN ledger_entries AS e USING (position) -- primary key
		 WHERE t.key = ANY ($1) ORDER BY t.position, e.leg`, keys)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var t ledger.Transaction
		var e ledger.Entry
		if err := rows.Scan(&t.Key, &t.Position, &t.Code, &e.Account, &e.Party, &e.Amount.Currency, &e.Amount.Minor); err != nil {
			return nil, err
		}
		found, ok := known[t.Key]
		if !ok {
			found = t
		}
		if found.Position == t.Position { // the first of a key counts
			found.Entries = append(found.Entries, e)
			known[t.Key] = found
		}
	}
	return known, rows.Err()
}

func insertLedger(ctx context.Context, tx pgx.Tx, entered []ledger.Transaction) error {
	var t struct {
		positions             []int64
		ids                   [][16]byte
		types                 []string
		dates                 []time.Time
		codes, texts, keys    []string
		of, legs, minor       []int64
		accounts, parties, in []string
	}
	for _, one := range entered {
		t.positions, t.ids, t.types = append(t.positions, int64(one.Position)), append(t.ids, one.EventID), append(t.types, one.EventType)
		t.dates, t.codes = append(t.dates, one.Date), append(t.codes, storable(one.Code))
		t.texts, t.keys = append(t.texts, storable(one.Description)), append(t.keys, storable(one.Key))
		for n, e := range one.Entries {
			t.of, t.legs, t.minor = append(t.of, int64(one.Position)), append(t.legs, int64(n+1)), append(t.minor, e.Amount.Minor)
			t.accounts, t.parties, t.in = append(t.accounts, e.Account), append(t.parties, e.Party), append(t.in, string(e.Amount.Currency))
		}
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO ledger_transactions (position, event_id, event_type, dated, code, description, key)
		SELECT position, event_id, event_type, dated, code, description, nullif(key, '')
		FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::date[], $5::text[], $6::text[], $7::text[])
			AS t (position, event_id, event_type, dated, code, description, key)`,
		t.positions, t.ids, t.types, t.dates, t.codes, t.texts, t.keys); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO ledger_entries (position, leg, account, party_id, currency, minor)
		SELECT position, leg, account, nullif(party_id, ''), currency, minor
		FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[])
			AS t (position, leg, account, party_id, currency, minor)`,
		t.of, t.legs, t.accounts, t.parties, t.in, t.minor)
	return err
}

// requireBalanced looks at what was written once more: what [ledger.Transaction.Check] held to zero must be zero there too.
func requireBalanced(ctx context.Context, tx pgx.Tx, first, last events.Position) error {
	rows, err := tx.Query(ctx, `
		SELECT position FROM ledger_entries -- primary key
		 WHERE position BETWEEN $1 AND $2 GROUP BY position, currency HAVING sum(minor) <> 0`, int64(first), int64(last))
	if err != nil {
		return err
	}
	off, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(off) > 0 {
		err = domain.Errorf(domain.Internal, "projections.applyLedger", "the entries that were written of event %d do not come to nothing", off[0])
	}
	return err
}

// LedgerBalance is what an account comes to in one currency; a credit is below zero.
type LedgerBalance struct {
	Account string
	Amount  domain.Money
}

// TrialBalance returns the balances of all accounts that are not at zero, by account and currency, after the event at a
// position. It returns an Invalid error for more than [MaxLedgerBalances].
func (q Queries) TrialBalance(ctx context.Context, at events.Position) ([]LedgerBalance, error) {
	const op = "projections.TrialBalance"
	rows, err := q.DB.Query(ctx, `
		SELECT account, currency, sum(minor)::text FROM ledger_entries -- ledger_entries_account, all of it
		 WHERE position <= $1 GROUP BY 1, 2 HAVING sum(minor) <> 0 ORDER BY 1, 2 LIMIT $2`, int64(at), MaxLedgerBalances+1)
	if err != nil {
		return nil, unavailable(op, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b LedgerBalance, err error) {
		var sum string
		if err := row.Scan(&b.Account, &b.Amount.Currency, &sum); err != nil {
			return b, err
		}
		if b.Amount.Minor, err = strconv.ParseInt(sum, 10, 64); err != nil {
			return b, domain.Errorf(domain.Internal, op, "%s in %s is too large: %s minor units", b.Account, b.Amount.Currency, sum)
		}
		return b, nil
	})
	if err == nil && len(all) > MaxLedgerBalances {
		return nil, domain.Errorf(domain.Invalid, op, "the trial balance has more than %d lines", MaxLedgerBalances).WithHint("export the journal")
	}
	return all, unavailable(op, err)
}

// LedgerDifference is something that the ledger must have at zero and has not.
type LedgerDifference struct {
	What   string // an event's transaction, an account, or the trial balance
	Amount string // minor units
	In     domain.Currency
}

// LedgerDifferences looks for what is wrong in the ledger after the event at a position: entries of an event, the trial
// balance, or what passes through to a provider of a period, that do not come to zero in a currency. It names the first few.
// The position must be the end of an append, such as the log's head: an invoice and its settlement are two events of one.
func (q Queries) LedgerDifferences(ctx context.Context, at events.Position) ([]LedgerDifference, error) {
	const op = "projections.LedgerDifferences"
	rows, err := q.DB.Query(ctx, `
		(SELECT 'the entries of event ' || position, sum(minor)::text, currency FROM ledger_entries
		  WHERE position <= $1 GROUP BY position, currency HAVING sum(minor) <> 0 ORDER BY position, currency LIMIT $2)
		UNION ALL
		(SELECT 'the trial balance', sum(minor)::text, currency FROM ledger_entries
		  WHERE position <= $1 GROUP BY currency HAVING sum(minor) <> 0 ORDER BY currency LIMIT $2)
		UNION ALL
		(SELECT account, sum(minor)::text, currency FROM ledger_entries -- ledger_entries_account
		  WHERE position <= $1 AND account >= 'pass-through:' AND account < 'pass-through;' -- ';' is what follows ':'
		  GROUP BY account, currency HAVING sum(minor) <> 0 ORDER BY account, currency LIMIT $2)`, int64(at), maxDifferences)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LedgerDifference])
	return found, unavailable(op, err)
}

// LedgerSize returns how many transactions and entries there are up to a position.
func (q Queries) LedgerSize(ctx context.Context, at events.Position) (transactions, entries int64, err error) {
	const op = "projections.LedgerSize"
	rows, err := q.DB.Query(ctx, `SELECT count(DISTINCT position), count(*) FROM ledger_entries WHERE position <= $1`, int64(at))
	if err != nil {
		return 0, 0, unavailable(op, err)
	}
	size, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[struct{ Transactions, Entries int64 }])
	return size.Transactions, size.Entries, unavailable(op, err)
}

// LedgerAccounts returns a page of the accounts that there are, in order, after one.
func (q Queries) LedgerAccounts(ctx context.Context, after string, limit int) ([]string, error) {
	const op = "projections.LedgerAccounts"
	rows, err := q.DB.Query(ctx, `
		WITH RECURSIVE accounts (account) AS ( -- from one to the next in ledger_entries_account: it is not read through
			(SELECT account FROM ledger_entries WHERE account > $1 ORDER BY account LIMIT 1)
			UNION ALL
			SELECT (SELECT e.account FROM ledger_entries AS e WHERE e.account > a.account ORDER BY e.account LIMIT 1)
			  FROM accounts AS a WHERE a.account IS NOT NULL
		)
		SELECT account FROM accounts WHERE account IS NOT NULL LIMIT $2`, after, limit)
	if err != nil {
		return nil, unavailable(op, err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return accounts, unavailable(op, err)
}

// LedgerCurrencies returns the currencies that there are entries in.
func (q Queries) LedgerCurrencies(ctx context.Context, at events.Position) ([]domain.Currency, error) {
	const op = "projections.LedgerCurrencies"
	rows, err := q.DB.Query(ctx, `SELECT DISTINCT currency FROM ledger_entries WHERE position <= $1 ORDER BY 1`, int64(at))
	if err != nil {
		return nil, unavailable(op, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[domain.Currency])
	return all, unavailable(op, err)
}

// JournalRange is what of the journal is asked for: the transactions of events up to a position that are dated in [From, To).
type JournalRange struct {
	At       events.Position
	From, To time.Time // whole days, UTC; zero: from the first, to the last
}

// JournalPlace is a transaction's place in the journal.
type JournalPlace struct {
	Date     time.Time
	Position events.Position
}

// Journal returns a page of transactions by date, and within a day in the order of the log, after a place (the zero one:
// from the start). What it returns of a range does not change while others are entered.
func (q Queries) Journal(ctx context.Context, r JournalRange, after JournalPlace, limit int) ([]ledger.Transaction, error) {
	const op = "projections.Journal"
	rows, err := q.DB.Query(ctx, `
		SELECT t.position, t.event_id, t.event_type, t.dated, t.code, t.description, e.account, coalesce(e.party_id, ''), e.currency, e.minor
		  FROM (SELECT * FROM ledger_transactions -- ledger_transactions_dated
		         WHERE (dated, position) > ($1, $2) AND position <= $3 AND ($4::date IS NULL OR dated >= $4) AND ($5::date IS NULL OR dated < $5)
		         ORDER BY dated, position LIMIT $6) AS t
		  JOIN ledger_entries AS e USING (position) -- primary key
		 ORDER BY t.dated, t.position, e.leg`,
		after.Date, int64(after.Position), int64(r.At), timeOrNull(r.From), timeOrNull(r.To), limit)
	if err != nil {
		return nil, unavailable(op, err)
	}
	defer rows.Close()
	var page []ledger.Transaction
	for rows.Next() {
		var t ledger.Transaction
		var e ledger.Entry
		var id uuid.UUID
		if err := rows.Scan(&t.Position, &id, &t.EventType, &t.Date, &t.Code, &t.Description, &e.Account, &e.Party, &e.Amount.Currency, &e.Amount.Minor); err != nil {
			return nil, unavailable(op, err)
		}
		if n := len(page); n == 0 || page[n-1].Position != t.Position {
			t.EventID = id
			page = append(page, t)
		}
		last := &page[len(page)-1]
		last.Entries = append(last.Entries, e)
	}
	return page, unavailable(op, rows.Err())
}

// WriteJournal writes a range of the journal, page by page, so that neither its length nor a slow reader holds memory or a
// connection to the database.
func (q Queries) WriteJournal(ctx context.Context, w io.Writer, r JournalRange) error {
	out := ledger.NewJournal(w, r.At)
	currencies, err := q.LedgerCurrencies(ctx, r.At)
	if err != nil {
		return err
	}
	for _, c := range currencies {
		if err := out.Commodity(c); err != nil {
			return err
		}
	}
	for account := ""; ; {
		page, err := q.LedgerAccounts(ctx, account, journalPage)
		if err != nil {
			return err
		}
		for _, account = range page {
			if err := out.Account(account); err != nil {
				return err
			}
		}
		if len(page) < journalPage {
			break
		}
	}
	for after := (JournalPlace{}); ; {
		page, err := q.Journal(ctx, r, after, journalPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			if err := out.Transaction(t); err != nil {
				return err
			}
			after = JournalPlace{t.Date, t.Position}
		}
		if len(page) < journalPage {
			return out.Flush()
		}
	}
}
