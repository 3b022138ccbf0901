package ledger_test

import (
	"strings"
	"testing"

	"crossbill/billing/ledger"
	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/events"
)

type balance struct {
	account  string
	currency domain.Currency
}

// books are entries added up as a test does it, apart from what it tests.
type books struct {
	t        *testing.T
	balances map[balance]int64
	keyed    map[string]ledger.Transaction
	entered  []ledger.Transaction
	upTo     int // of the world's log
}

func newBooks(t *testing.T) *books {
	return &books{t: t, balances: map[balance]int64{}, keyed: map[string]ledger.Transaction{}}
}

// enter enters what is new in the log, and holds the trial balance to zero after every event.
func (b *books) enter(log []events.Recorded) {
	for _, e := range log[b.upTo:] {
		earlier := map[string]ledger.Transaction{}
		for _, key := range ledger.Refers(e.Event) {
			if found, ok := b.keyed[key]; ok {
				earlier[key] = found
			}
		}
		entered, err := ledger.Entries(e, earlier)
		if err != nil {
			b.t.Fatal(err)
		}
		trial := map[domain.Currency]int64{}
		for _, entry := range entered.Entries {
			b.balances[balance{entry.Account, entry.Amount.Currency}] += entry.Amount.Minor
		}
		for of, sum := range b.balances {
			trial[of.currency] += sum
		}
		for currency, sum := range trial {
			if sum != 0 {
				b.t.Fatalf("after event %d (%s) the trial balance in %s is %d", e.Position, e.Type, currency, sum)
			}
		}
		if entered.Key != "" {
			b.keyed[entered.Key] = entered
		}
		if len(entered.Entries) > 0 {
			b.entered = append(b.entered, entered)
		}
	}
	b.upTo = len(log)
}

// TestHistories holds the ledger to what the documents and payments themselves say, after every step of many histories: no
// margin at all, what each customer owes, what each provider is owed, the fee, the taxes, and what is at the processor.
func TestHistories(t *testing.T) {
	t.Parallel()
	done := map[string]int{}
	for seed := range uint64(150) {
		w, b := newWorld(t, seed), newBooks(t)
		for range 120 {
			w.step()
			b.enter(w.log)
			want := w.owed()
			for of, sum := range b.balances {
				if strings.HasPrefix(of.account, ledger.PassThrough) {
					want[of] = 0
				} else if _, known := want[of]; !known && sum != 0 {
					t.Fatalf("seed %d, event %d: no document knows of %s in %s", seed, len(w.log), of.account, of.currency)
				}
				if provider, ok := strings.CutPrefix(of.account, ledger.Payable); ok && sum > 0 && !w.corrected(provider) {
					t.Fatalf("seed %d, event %d: %s was paid %d %s more than it was owed, and nothing was taken off", seed, len(w.log), provider, sum, of.currency)
				}
			}
			for of, sum := range want {
				if b.balances[of] != sum {
					t.Fatalf("seed %d, event %d: %s is %d %s, and should be %d", seed, len(w.log), of.account, b.balances[of], of.currency, sum)
				}
			}
		}
		for kind, n := range w.done {
			done[kind] += n
		}
	}
	for _, family := range [][]domain.Event{settlement.Events(), creditnote.Events(), payout.Events(),
		{invoice.Issued{}, invoice.Voided{}, invoice.Paid{}, payment.Received{}, payment.Costed{}, payment.Refunded{}, payment.RefundFailed{}, payment.Disputed{}, payment.DisputeClosed{}}} {
		for _, e := range family {
			if done[e.EventType()] < 10 {
				t.Errorf("%s came %d times: the histories say little about it", e.EventType(), done[e.EventType()])
			}
		}
	}
}

// TestWrongEvents holds the ledger to enter nothing of what does not add up, or is about what it does not know.
func TestWrongEvents(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	line := invoice.Line{Kind: invoice.LinePassthrough, ProviderID: "org_p", Amount: usd(100)}
	for name, e := range map[string]domain.Event{
		"an invoice over more than its lines": invoice.Issued{InvoiceID: "inv_1", Currency: "USD", Lines: []invoice.Line{line}, Total: usd(101)},
		"an amount without a currency":        payment.Refunded{Amount: domain.Money{Minor: 1}},
		"a void invoice that was not issued":  invoice.Voided{InvoiceID: "inv_1"},
		"a payment of no invoice":             invoice.Paid{InvoiceID: "inv_1", Reference: "Bank"},
		"a credit of no settlement":           settlement.Credited{SettlementID: "stl_1", Total: usd(1)},
		"the end of no dispute":               payment.DisputeClosed{Outcome: payment.DisputeLost, Amount: usd(1)},
	} {
		entered, err := ledger.Entries(events.Recorded{Position: 7, Type: e.EventType(), Event: e}, nil)
		if domain.CodeOf(err) != domain.Internal {
			t.Errorf("%s is entered as %+v: %v", name, entered, err)
		}
	}
}

// TestOldPayment holds a payment of before there were credit notes, which names no amount, to the invoice's total.
func TestOldPayment(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, 1), newBooks(t)
	w.run()
	i := w.invoices[0]
	w.record(invoice.Stream(i.InvoiceID), invoice.Paid{InvoiceID: i.InvoiceID, Reference: "Bank", At: w.now})
	b.enter(w.log)
	if got := b.balances[balance{ledger.Bank, i.Currency}]; got != i.Total.Minor || got == 0 {
		t.Errorf("at the bank are %d, not %s", got, i.Total)
	}
}

// TestNothingOwed credits a settlement of which adjustments took off all that was owed.
func TestNothingOwed(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	b := newBooks(t)
	b.enter([]events.Recorded{
		{Position: 1, Event: settlement.Issued{SettlementID: "set_1", ProviderID: "org_p", PeriodStart: march, Currency: "USD", Total: usd(0)}},
		{Position: 2, Event: settlement.Credited{SettlementID: "set_1", CreditNoteID: "crn_1", Total: usd(10)}},
	})
	if owed, passed := b.balances[balance{"payable:org_p", "USD"}], b.balances[balance{"pass-through:org_p:2026-03-01", "USD"}]; owed != 10 || passed != -10 {
		t.Errorf("payable is %d and pass-through %d", owed, passed)
	}
}
