// Package ledger is the double-entry ledger: what each event that moves money comes to in accounts.
//
// It is a function of the log: [Entries] makes of an event a transaction that sums to zero in each currency, and decides
// nothing. A debit is positive, a credit negative. Amounts are whole minor units. What is entered never changes: what
// corrects an event is another event, with entries of its own.
//
//	event                    debit                                      credit
//	invoice.issued           receivable:C total                         pass-through:P:period its lines, for each provider;
//	                                                                    revenue:platform-fee; tax:payable:country
//	invoice.voided           the reverse of what issued it
//	invoice.paid             bank                                       receivable:C; nothing if a processor received it:
//	                                                                    that is payment.received
//	credit_note.issued       pass-through:P:period; revenue:platform-fee;
//	                         tax:payable:country                        receivable:C total
//	settlement.issued        pass-through:P:period its lines;           payable:P total and tax
//	                         tax:recoverable:country
//	settlement.credited      payable:P total and tax                    pass-through:P:period; tax:recoverable:country
//	payment.received         clearing:stripe; cost:processing           receivable:C; clearing:stripe
//	payment.costed           cost:processing                            clearing:stripe
//	payment.refunded         receivable:C                               clearing:stripe
//	payment.refund_failed    clearing:stripe, if it had been made       receivable:C
//	payment.disputed         receivable:C                               clearing:stripe
//	payment.dispute_closed   clearing:stripe what came back;            receivable:C; clearing:stripe
//	                         cost:processing
//	payout.sent              payable:P                                  clearing:stripe
//	payout.reversed          clearing:stripe                            payable:P
//
// C is the customer, P the provider, and the period is the day on which the billing period begins. Intentions (…requested)
// and payout.paid, which moves money that is the provider's already, have no entries.
//
// No margin: everything that customers pay for a provider's services goes through its pass-through account of the period,
// and everything that it is owed comes out of it. So each is exactly zero, in each currency, once a billing run or a credit
// is in the log, if and only if the platform keeps nothing of it. What the processor keeps is the platform's own cost, which
// no pass-through or payable account ever bears.
//
// A customer's credit balance (it paid too much, or paid before a credit note) is a receivable below zero, until it is
// refunded; a provider's debt (it was paid before a credit or a dispute) is a payable above zero, until it is reversed. A
// lost dispute leaves the receivable open: the customer still owes.
//
// Start reading at [Entries], then [Transaction.Check].
package ledger

import (
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/events"
)

// Accounts. Those that end in a colon are followed by an organisation, a country, or what the package's table says.
const (
	Receivable     = "receivable:"   // customer
	Payable        = "payable:"      // provider
	PassThrough    = "pass-through:" // provider:YYYY-MM-DD
	TaxPayable     = "tax:payable:"
	TaxRecoverable = "tax:recoverable:"
	PlatformFee    = "revenue:platform-fee"
	Processing     = "cost:processing"
	Clearing       = "clearing:stripe" // what the processor holds for the platform
	Bank           = "bank"            // what was paid otherwise than through a processor
)

// Entry is one leg of a transaction.
type Entry struct {
	Account string
	Party   string       // the organisation whose account with the platform it is (receivable, payable), or ""
	Amount  domain.Money // a debit, or below zero a credit
}

// Transaction is what one event comes to.
type Transaction struct {
	Position    events.Position
	EventID     [16]byte
	EventType   string
	Date        time.Time // UTC, the start of the day of the event
	Code        string    // the document's number, or the processor's reference
	Description string
	// Key is how later events speak of it; "" if none does. See [Refers].
	Key     string
	Entries []Entry
}

// Check returns an Internal error unless the transaction sums to zero in each currency.
func (t Transaction) Check() error {
	sums := make(map[domain.Currency]domain.Money)
	for _, e := range t.Entries {
		if !e.Amount.Currency.Valid() {
			return domain.Errorf(domain.Internal, "ledger.Check", "event %d (%s) has an entry on %s without a currency", t.Position, t.EventType, e.Account)
		}
		sum := sums[e.Amount.Currency]
		sum.Currency = e.Amount.Currency
		sum, err := sum.Add(e.Amount)
		if err != nil {
			return err
		}
		sums[e.Amount.Currency] = sum
	}
	for _, sum := range sums {
		if sum.Minor != 0 {
			return domain.Errorf(domain.Internal, "ledger.Check", "the entries of event %d (%s) come to %s, not to nothing", t.Position, t.EventType, sum).
				WithHint("the event does not add up, or the ledger has no right rule for it; see the table of package ledger")
		}
	}
	return nil
}

// add adds an entry; one over nothing is none.
func (t *Transaction) add(account, party string, amount domain.Money) {
	if amount.Minor != 0 {
		t.Entries = append(t.Entries, Entry{account, party, amount})
	}
}

// move debits one account and credits another.
func (t *Transaction) move(debit, credit, party string, amount domain.Money) {
	t.add(debit, partyOf(debit, party), amount)
	t.add(credit, partyOf(credit, party), amount.Neg())
}

// partyOf is the organisation if the account is its own.
func partyOf(account, organisation string) string {
	if account == Receivable+organisation || account == Payable+organisation {
		return organisation
	}
	return ""
}

// taxes adds what is owed to, or to be had from, each country.
func (t *Transaction) taxes(account string, taxes []tax.Subtotal, sign int64) {
	for _, s := range taxes {
		t.add(account+string(s.Country), "", times(s.Tax, sign))
	}
}

func times(m domain.Money, sign int64) domain.Money {
	return domain.Money{Minor: m.Minor * sign, Currency: m.Currency}
}

func passThrough(provider string, periodStart time.Time) string {
	return PassThrough + provider + ":" + periodStart.UTC().Format(time.DateOnly)
}

// Refers returns the keys of the earlier transactions that [Entries] needs for an event.
func Refers(event domain.Event) []string {
	switch e := event.(type) {
	case invoice.Voided:
		return []string{e.InvoiceID}
	case invoice.Paid:
		return []string{e.InvoiceID, receivedKey(e.InvoiceID, e.Reference)}
	case settlement.Credited:
		return []string{e.SettlementID}
	case payment.DisputeClosed:
		return []string{disputeKey(e.PaymentID, e.Dispute)}
	}
	return nil
}

func receivedKey(invoiceID, reference string) string { return invoiceID + "/" + reference }
func disputeKey(paymentID, dispute string) string    { return paymentID + "/" + dispute }

// Entries returns what an event comes to. A transaction without entries is of an event that moves no money. earlier has the
// transactions that the event [Refers] to, by key, as far as there are any.
//
// It returns an Internal error for an event that does not add up, that refers to a document which is not in the ledger, or
// that is of a new type of a document's stream: somebody has to decide what it moves.
func Entries(e events.Recorded, earlier map[string]Transaction) (Transaction, error) {
	t := Transaction{Position: e.Position, EventID: e.ID, EventType: e.Type}
	if err := t.post(e.Event, earlier); err != nil || len(t.Entries) == 0 {
		return Transaction{}, err
	}
	return t, t.Check()
}

func (t *Transaction) post(event domain.Event, earlier map[string]Transaction) error {
	switch e := event.(type) {
	case invoice.Issued:
		t.invoice(e)
	case invoice.Voided:
		issued, err := t.of(earlier, e.InvoiceID)
		if err != nil {
			return err
		}
		t.about(e.At, issued.Code, "Void invoice "+issued.Code)
		for _, entry := range issued.Entries {
			t.add(entry.Account, entry.Party, entry.Amount.Neg())
		}
	case invoice.Paid:
		return t.paid(e, earlier)
	case invoice.Credited, invoice.NumberTaken: // the credit note's own event has the entries
	case creditnote.Issued:
		t.creditNote(e)
	case settlement.Issued:
		t.settlement(e)
	case settlement.Credited:
		return t.settlementCredit(e, earlier)
	default:
		return t.movement(event, earlier)
	}
	return nil
}

// movement is of events that move money, and not what is owed.
func (t *Transaction) movement(event domain.Event, earlier map[string]Transaction) error {
	switch e := event.(type) {
	case payment.Received:
		t.about(e.At, e.Reference, "Payment")
		t.Key = receivedKey(e.InvoiceID, e.Reference)
		t.move(Clearing, Receivable+e.CustomerID, e.CustomerID, e.Amount)
		t.move(Processing, Clearing, "", e.ProcessingCost)
	case payment.Costed:
		t.about(e.At, "", "Cost of a payment")
		t.move(Processing, Clearing, "", e.ProcessingCost)
	case payment.Refunded:
		t.about(e.At, e.Reference, "Refund")
		t.move(Receivable+e.CustomerID, Clearing, e.CustomerID, e.Amount)
	case payment.RefundFailed:
		if e.Reference != "" { // made, and come back
			t.about(e.At, e.Reference, "Refund that came back")
			t.move(Clearing, Receivable+e.CustomerID, e.CustomerID, e.Amount)
		}
	case payment.Disputed:
		t.about(e.At, e.Dispute, "Dispute")
		t.Key = disputeKey(e.PaymentID, e.Dispute)
		t.move(Receivable+e.CustomerID, Clearing, e.CustomerID, e.Amount)
	case payment.DisputeClosed:
		return t.disputeClosed(e, earlier)
	case payout.Sent:
		t.about(e.At, e.Transfer, "Payout")
		t.move(Payable+e.ProviderID, Clearing, e.ProviderID, e.Amount)
	case payout.Reversed:
		t.about(e.At, e.Reference, "Reversal of a payout")
		t.move(Clearing, Payable+e.ProviderID, e.ProviderID, e.Amount)
	case payment.Requested, payment.Opened, payment.Repriced, payment.Cancelled, payment.Failed, payment.RefundRequested: // nothing moved
	case payout.Requested, payout.Paid, payout.Failed, payout.ReversalRequested, payout.ReversalFailed: // nothing of the platform's moved
	default:
		if documents[event.EventType()] {
			return domain.Errorf(domain.Internal, "ledger.Entries", "event %d is a %T, for which the ledger has no rule", t.Position, event)
		}
	}
	return nil
}

// documents are the types of events that need a rule, if only that they move nothing.
var documents = func() map[string]bool {
	types := make(map[string]bool)
	for _, family := range [][]domain.Event{invoice.Events(), creditnote.Events(), settlement.Events(), payment.Events(), payout.Events()} {
		for _, e := range family {
			types[e.EventType()] = true
		}
	}
	return types
}()

func (t *Transaction) about(at time.Time, code, description string) {
	t.Date, t.Code, t.Description = at.UTC().Truncate(24*time.Hour), code, description
}

// of returns the earlier transaction of a key.
func (t *Transaction) of(earlier map[string]Transaction, key string) (Transaction, error) {
	found, ok := earlier[key]
	if !ok {
		return Transaction{}, domain.Errorf(domain.Internal, "ledger.Entries", "event %d (%s) is about %s, which is not in the ledger", t.Position, t.EventType, key)
	}
	return found, nil
}

func (t *Transaction) invoice(e invoice.Issued) {
	t.about(e.At, e.Number, "Invoice "+e.Number)
	t.Key = e.InvoiceID
	t.Entries = []Entry{{Receivable + e.CustomerID, e.CustomerID, e.Total}} // even if it is over nothing: what is about it finds it
	shares := make(shares, 0, 1)
	for _, l := range e.Lines {
		if l.Kind == invoice.LinePassthrough {
			shares.add(l.ProviderID, l.Amount)
		}
	}
	for _, s := range shares {
		t.add(passThrough(s.provider, e.PeriodStart), "", s.amount.Neg())
	}
	t.add(PlatformFee, "", e.Fee.Neg())
	t.taxes(TaxPayable, e.Taxes, -1)
}

// settlement keeps the entries that a credit goes by even if they are over nothing: adjustments can take off all that is owed.
func (t *Transaction) settlement(e settlement.Issued) {
	number := e.Number
	if number == "" { // older ones have none
		number = e.SettlementID
	}
	t.about(e.At, number, "Settlement "+number)
	t.Key = e.SettlementID
	owed := domain.Money{Minor: -e.Total.Minor - e.Tax.Minor, Currency: e.Currency}
	t.Entries = []Entry{{passThrough(e.ProviderID, e.PeriodStart), "", e.Total}, {Payable + e.ProviderID, e.ProviderID, owed}}
	t.taxes(TaxRecoverable, e.Taxes, 1)
}

func (t *Transaction) creditNote(e creditnote.Issued) {
	t.about(e.At, e.Number, "Credit note "+e.Number+" on invoice "+e.InvoiceNumber)
	shares := make(shares, 0, 1)
	for _, l := range e.Lines {
		if l.Kind == invoice.LinePassthrough {
			shares.add(l.ProviderID, l.Amount)
		}
	}
	for _, s := range shares {
		t.add(passThrough(s.provider, e.PeriodStart), "", s.amount)
	}
	t.add(PlatformFee, "", e.Fee)
	t.taxes(TaxPayable, e.Taxes, 1)
	t.add(Receivable+e.CustomerID, e.CustomerID, e.Total.Neg())
}

// shares are sums by provider, in the order in which the lines name them. A document's providers are few.
type shares []struct {
	provider string
	amount   domain.Money
}

func (s *shares) add(provider string, amount domain.Money) {
	for n := range *s {
		if (*s)[n].provider == provider {
			(*s)[n].amount.Minor += amount.Minor // no more than the document's total, which was added up with a check
			return
		}
	}
	*s = append(*s, struct {
		provider string
		amount   domain.Money
	}{provider, amount})
}

// paid enters what was paid otherwise than through a processor. Events of before there were credit notes name no amount: it
// was the total.
func (t *Transaction) paid(e invoice.Paid, earlier map[string]Transaction) error {
	if _, received := earlier[receivedKey(e.InvoiceID, e.Reference)]; received {
		return nil
	}
	issued, err := t.of(earlier, e.InvoiceID)
	if err != nil {
		return err
	}
	t.about(e.At, e.Reference, "Payment of invoice "+issued.Code)
	for _, entry := range issued.Entries {
		if entry.Party != "" { // the receivable
			amount := e.Amount
			if amount == (domain.Money{}) {
				amount = entry.Amount
			}
			t.move(Bank, entry.Account, entry.Party, amount)
		}
	}
	return nil
}

func (t *Transaction) settlementCredit(e settlement.Credited, earlier map[string]Transaction) error {
	issued, err := t.of(earlier, e.SettlementID)
	if err != nil {
		return err
	}
	t.about(e.At, e.Number, "Credit "+e.Number+" of settlement "+issued.Code)
	for _, entry := range issued.Entries {
		switch {
		case entry.Party != "":
			t.add(entry.Account, entry.Party, domain.Money{Minor: e.Total.Minor + e.Tax.Minor, Currency: e.Total.Currency})
		case isPassThrough(entry.Account):
			t.add(entry.Account, "", e.Total.Neg())
		}
	}
	t.taxes(TaxRecoverable, e.Taxes, -1)
	return nil
}

func isPassThrough(account string) bool {
	return strings.HasPrefix(account, PassThrough)
}

// disputeClosed enters what came back, of what the dispute took, and what the processor keeps for it.
func (t *Transaction) disputeClosed(e payment.DisputeClosed, earlier map[string]Transaction) error {
	opened, err := t.of(earlier, disputeKey(e.PaymentID, e.Dispute))
	if err != nil {
		return err
	}
	t.about(e.At, e.Dispute, "Dispute "+e.Outcome)
	back := e.Amount
	if e.Outcome == payment.DisputeLost {
		back.Minor = -e.Amount.Minor
		for _, entry := range opened.Entries {
			if entry.Party != "" {
				back.Minor += entry.Amount.Minor
			}
		}
	}
	t.move(Clearing, Receivable+e.CustomerID, e.CustomerID, back)
	t.move(Processing, Clearing, "", e.Cost)
	return nil
}
