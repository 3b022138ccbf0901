package projections_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/events"
	"crossbill/projections"
)

// recordMoney records an invoice of 412.00 with its settlement of 400.00, credit notes, payments and payouts.
func (b *bench) recordMoney() {
	b.Helper()
	b.record("invoice-"+id("inv", 11), invoiced(11, acme))
	b.record("settlement-"+id("set", 11), settled(11, cloudCo))
	b.record("payment-"+id("pay", 1), payment.Received{PaymentID: id("pay", 1), InvoiceID: id("inv", 11), CustomerID: acme, Processor: payment.Stripe,
		Reference: "pi_11", Amount: usd(41200), ProcessingCost: domain.Money{Minor: 900, Currency: "JPY"}, At: at(200)})
	b.record("invoice-"+id("inv", 11), invoice.Paid{InvoiceID: id("inv", 11), Reference: "pi_11", Amount: usd(41200), At: at(200)})
	b.record("payout-"+id("pot", 1), payout.Requested{PayoutID: id("pot", 1), ProviderID: cloudCo, SettlementID: id("set", 11), InvoiceID: id("inv", 11), Amount: usd(40000), At: at(201)},
		payout.Sent{PayoutID: id("pot", 1), ProviderID: cloudCo, SettlementID: id("set", 11), Amount: usd(40000), Transfer: "tr_1", At: at(202)})
	b.record("credit_note-"+id("crn", 11), creditnote.Issued{CreditNoteID: id("crn", 11), Number: "CN-11", InvoiceID: id("inv", 11), InvoiceNumber: "2026-0011", CustomerID: acme,
		PeriodStart: at(0), PeriodEnd: at(60), Currency: "USD", Lines: []creditnote.Line{{Number: 1, Kind: invoice.LinePassthrough, ProviderID: cloudCo, Amount: usd(10000)}},
		Passthrough: usd(10000), Fee: usd(300), Total: usd(10300), At: at(203)})
	b.record("settlement-"+id("set", 11), settlement.Credited{SettlementID: id("set", 11), Number: "SC-11", CreditNoteID: id("crn", 11), Reason: "Outage",
		Lines: []settlement.CreditedLine{{ItemID: id("itm", 11), Amount: usd(10000)}}, Total: usd(10000), At: at(203)})
}

func (b *bench) ledger() events.Position {
	b.Helper()
	b.project(byName(b.T, projections.LedgerModel))
	head, err := b.log.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return head.Position
}

func (b *bench) balances(at events.Position) string {
	b.Helper()
	all, err := b.q.TrialBalance(b.Context(), at)
	if err != nil {
		b.Fatal(err)
	}
	var lines []string
	for _, balance := range all {
		lines = append(lines, balance.Account+" "+balance.Amount.String())
	}
	return strings.Join(lines, "\n")
}

func TestLedger(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordMoney()
	head := b.ledger()
	want := strings.NewReplacer("ACME", acme, "CLOUD", cloudCo).Replace(`clearing:stripe -900 JPY
clearing:stripe 12.00 USD
cost:processing 900 JPY
payable:CLOUD 100.00 USD
receivable:ACME -103.00 USD
revenue:platform-fee -9.00 USD`)
	if got := b.balances(head); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := b.balances(2), strings.NewReplacer("ACME", acme, "CLOUD", cloudCo).Replace("payable:CLOUD -400.00 USD\nreceivable:ACME 412.00 USD\nrevenue:platform-fee -12.00 USD"); got != want {
		t.Errorf("after the settlement: got\n%s\nwant\n%s", got, want)
	}
	found, err := b.q.LedgerDifferences(t.Context(), head)
	if err != nil || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
	if transactions, entries, err := b.q.LedgerSize(t.Context(), head); err != nil || transactions != 6 || entries != 16 {
		t.Errorf("%d transactions of %d entries, %v", transactions, entries, err)
	}

	var out bytes.Buffer
	day := at(0).Truncate(24 * time.Hour)
	if err := b.q.WriteJournal(t.Context(), &out, projections.JournalRange{At: head}); err != nil {
		t.Fatal(err)
	}
	whole := out.String()
	for _, part := range []string{"commodity 1. JPY\ncommodity 1.00 USD\n", "account receivable:" + acme + "  ; type: A\n", "(tr_1) Payout  ; event:",
		"    payable:" + cloudCo + "  400.00 USD\n    clearing:stripe  -400.00 USD\n", "(CN-11) Credit note CN-11 on invoice 2026-0011"} {
		if !strings.Contains(whole, part) {
			t.Errorf("the journal lacks %q:\n%s", part, whole)
		}
	}
	for name, r := range map[string]projections.JournalRange{"before": {At: head, To: day}, "after": {At: head, From: day.AddDate(0, 0, 1)}, "none yet": {}} {
		if page, err := b.q.Journal(t.Context(), r, projections.JournalPlace{}, 10); err != nil || len(page) != 0 {
			t.Errorf("%s: %d transactions, %v", name, len(page), err)
		}
	}
	first, err := b.q.Journal(t.Context(), projections.JournalRange{At: head, From: day, To: day.AddDate(0, 0, 1)}, projections.JournalPlace{}, 2)
	if err != nil || len(first) != 2 || len(first[0].Entries) != 3 {
		t.Fatalf("%+v %v", first, err)
	}
	rest, err := b.q.Journal(t.Context(), projections.JournalRange{At: head}, projections.JournalPlace{Date: first[1].Date, Position: first[1].Position}, 100)
	if err != nil || len(rest) != 4 || rest[0].Position != first[1].Position+1 {
		t.Errorf("the second page is %+v, %v", rest, err)
	}
	if accounts, err := b.q.LedgerAccounts(t.Context(), "cost:", 2); err != nil || strings.Join(accounts, " ") != "cost:processing pass-through:"+cloudCo+":"+day.Format(time.DateOnly) {
		t.Errorf("%v %v", accounts, err)
	}
}

// TestLedger_Batches enters the same history an event at a time, so that what an event refers to is read from the tables.
func TestLedger_Batches(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.recordMoney()
	model := byName(t, projections.LedgerModel)
	b.apply(model, b.after(0))
	want := b.dump()
	b.truncate()
	for _, e := range b.after(0) {
		b.apply(model, []events.Recorded{e})
	}
	if got := b.dump(); got != want || strings.Count(want, "ledger_entries") < 20 {
		t.Errorf("other tables:\n%s", firstDifference(want, got))
	}
}

// TestLedger_Differences breaks the tables and expects each break to be named.
func TestLedger_Differences(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordMoney()
	head := b.ledger()
	for name, c := range map[string]struct{ breaking, want string }{
		"a leg is lost":   {`DELETE FROM ledger_entries WHERE position = 1 AND leg = 1`, "the entries of event 1 -41200 USD; the trial balance -41200 USD"},
		"a sign is wrong": {`UPDATE ledger_entries SET minor = -minor WHERE position = 3 AND currency = 'JPY' AND account LIKE 'cost%'`, "the entries of event 3 -1800 JPY; the trial balance -1800 JPY"},
		"a margin": {`UPDATE ledger_entries SET minor = minor + CASE WHEN account LIKE 'pass%' THEN 1 ELSE -1 END
			WHERE position = 1 AND (account LIKE 'pass%' OR account LIKE 'revenue%')`, "pass-through:" + cloudCo + ":" + at(0).Format(time.DateOnly) + " 1 USD"},
	} {
		tx, err := b.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), c.breaking); err != nil {
			t.Fatal(err)
		}
		found, err := projections.Queries{DB: tx}.LedgerDifferences(t.Context(), head)
		var got []string
		for _, d := range found {
			got = append(got, d.What+" "+d.Amount+" "+string(d.In))
		}
		if err != nil || strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLedger_Parties holds row-level security: a customer sees what it owes, a provider what it is owed, and nobody else any of it.
func TestLedger_Parties(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordMoney()
	b.ledger()
	for _, c := range []struct {
		name   string
		viewer projections.Viewer
		want   string
	}{
		{"the customer", projections.Party(acme), "receivable:" + acme},
		{"the provider", projections.Party(cloudCo), "payable:" + cloudCo},
		{"a stranger", projections.Party(lakeCo), ""},
	} {
		rows, err := projections.Door{Pool: b.pool}.Query(projections.Viewing(t.Context(), c.viewer), `SELECT coalesce(string_agg(DISTINCT account, ' '), '') FROM ledger_entries`)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for rows.Next() {
			if err := rows.Scan(&got); err != nil {
				t.Fatal(err)
			}
		}
		rows.Close()
		if got != c.want || rows.Err() != nil {
			t.Errorf("%s sees %q, %v", c.name, got, rows.Err())
		}
	}
}

// TestLedger_StopsAtWrong stops at an invoice that does not add up, and leaves nothing of the batch.
func TestLedger_StopsAtWrong(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wrong := invoiced(1, acme)
	wrong.Total.Minor++
	b.record("invoice-"+id("inv", 2), invoiced(2, acme))
	b.record("invoice-"+id("inv", 1), wrong)
	if err := b.try(byName(t, projections.LedgerModel), b.after(0)); domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "event 2") {
		t.Errorf("got %v", err)
	}
	if got := b.dump(); got != "" {
		t.Errorf("rows came of it: %s", got)
	}
}
