// Package payment is what a customer pays for an invoice through a payment processor: asked for, received, given back.
//
// One stream is one payment (at Stripe: one payment intent). What is about to be asked of the processor is an event before
// it is asked (Requested, Repriced, RefundRequested), so that whoever finds it unanswered asks again under the same key and
// nothing is moved twice. It never decides what is owed: the invoice says that. Start reading at [State], then [Decide].
package payment

import (
	"slices"
	"strconv"
	"time"

	"crossbill/domain"
)

// Stripe is the processor there is.
const Stripe = "stripe"

// States of a payment.
const (
	StateRequested = "requested" // it may be at the processor, under a reference that is not known yet
	StateOpen      = "open"      // the payer can pay it
	StateReceived  = "received"
	StateCancelled = "cancelled" // it can't be paid any more
)

// States of a refund.
const (
	Pending = "pending" // it may be made already: nobody knows until the processor answered
	Made    = "made"
	NotMade = "not_made" // nothing was given back, or it came back
)

// Outcomes of a dispute.
const (
	DisputeWon  = "won"  // the money stays, or came back
	DisputeLost = "lost" // the payer has the money
)

// Requested says that the payer is about to be asked for an amount.
type Requested struct {
	PaymentID  string       `json:"payment_id"`
	InvoiceID  string       `json:"invoice_id"`
	CustomerID string       `json:"customer_id"`
	Processor  string       `json:"processor"`
	Amount     domain.Money `json:"amount"`
	At         time.Time    `json:"at"`
}

// Opened says under which reference the processor has it.
type Opened struct {
	PaymentID string    `json:"payment_id"`
	Reference string    `json:"reference"` // pi_…
	At        time.Time `json:"at"`
}

// Repriced says that the payer is about to be asked for another amount: what is due of the invoice changed.
type Repriced struct {
	PaymentID string       `json:"payment_id"`
	Amount    domain.Money `json:"amount"`
	At        time.Time    `json:"at"`
}

// Cancelled says that it can't be paid any more. It was never received.
type Cancelled struct {
	PaymentID string    `json:"payment_id"`
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"`
}

// Received says that the money is there.
type Received struct {
	PaymentID  string       `json:"payment_id"`
	InvoiceID  string       `json:"invoice_id"`
	CustomerID string       `json:"customer_id"`
	Processor  string       `json:"processor"`
	Reference  string       `json:"reference"`        // pi_…
	Charge     string       `json:"charge,omitempty"` // ch_…, which transfers can draw on
	Amount     domain.Money `json:"amount"`

	// ProcessingCost is what the processor kept for it, in the currency of the balance it went to. It is the platform's own.
	// None: it was not known yet, and a Costed event may follow.
	ProcessingCost domain.Money `json:"processing_cost,omitzero"`
	At             time.Time    `json:"at"`
}

// Costed says what the processor kept for a payment that was received before that was known.
type Costed struct {
	PaymentID      string       `json:"payment_id"`
	InvoiceID      string       `json:"invoice_id"`
	ProcessingCost domain.Money `json:"processing_cost"`
	At             time.Time    `json:"at"`
}

// Failed says that the payer tried and could not. It can be tried again.
type Failed struct {
	PaymentID string    `json:"payment_id"`
	Reference string    `json:"reference"`
	Reason    string    `json:"reason"` // the processor's code
	At        time.Time `json:"at"`
}

// RefundRequested says that an amount is about to be given back, as the payment's own refund of that number, from 1.
type RefundRequested struct {
	PaymentID    string       `json:"payment_id"`
	Refund       int          `json:"refund"`
	CreditNoteID string       `json:"credit_note_id,omitempty"` // that it is for; "": more was paid than was due
	Amount       domain.Money `json:"amount"`
	At           time.Time    `json:"at"`
}

// Refunded says that an amount was given back.
type Refunded struct {
	PaymentID    string       `json:"payment_id"`
	InvoiceID    string       `json:"invoice_id"`
	CustomerID   string       `json:"customer_id"`
	Refund       int          `json:"refund"`
	CreditNoteID string       `json:"credit_note_id,omitempty"`
	Reference    string       `json:"reference"` // re_…
	Amount       domain.Money `json:"amount"`
	At           time.Time    `json:"at"`
}

// RefundFailed says that a refund was not made, or, with a reference, that it was made and came back: the money is again
// with the platform, and is still to be given back.
type RefundFailed struct {
	PaymentID    string       `json:"payment_id"`
	InvoiceID    string       `json:"invoice_id"`
	CustomerID   string       `json:"customer_id"`
	Refund       int          `json:"refund"`
	CreditNoteID string       `json:"credit_note_id,omitempty"`
	Reference    string       `json:"reference,omitempty"` // re_…; "": it was never made
	Amount       domain.Money `json:"amount"`
	Reason       string       `json:"reason"`
	At           time.Time    `json:"at"`
}

// Disputed says that the payer's bank took an amount back, until the dispute is decided.
type Disputed struct {
	PaymentID  string       `json:"payment_id"`
	InvoiceID  string       `json:"invoice_id"`
	CustomerID string       `json:"customer_id"`
	Dispute    string       `json:"dispute"` // du_…
	Amount     domain.Money `json:"amount"`
	Reason     string       `json:"reason"` // the processor's code
	At         time.Time    `json:"at"`
}

// DisputeClosed says how a dispute was decided.
type DisputeClosed struct {
	PaymentID  string       `json:"payment_id"`
	InvoiceID  string       `json:"invoice_id"`
	CustomerID string       `json:"customer_id"`
	Dispute    string       `json:"dispute"`
	Outcome    string       `json:"outcome"`       // DisputeWon or DisputeLost
	Amount     domain.Money `json:"amount"`        // that came back, or is lost
	Cost       domain.Money `json:"cost,omitzero"` // what the processor keeps for the dispute; the platform's own
	At         time.Time    `json:"at"`
}

// EventType is the name in the log.
func (Requested) EventType() string { return "payment.requested" }

// EventType is the name in the log.
func (Opened) EventType() string { return "payment.opened" }

// EventType is the name in the log.
func (Repriced) EventType() string { return "payment.repriced" }

// EventType is the name in the log.
func (Cancelled) EventType() string { return "payment.cancelled" }

// EventType is the name in the log.
func (Received) EventType() string { return "payment.received" }

// EventType is the name in the log.
func (Costed) EventType() string { return "payment.costed" }

// EventType is the name in the log.
func (Failed) EventType() string { return "payment.failed" }

// EventType is the name in the log.
func (RefundRequested) EventType() string { return "payment.refund_requested" }

// EventType is the name in the log.
func (Refunded) EventType() string { return "payment.refunded" }

// EventType is the name in the log.
func (RefundFailed) EventType() string { return "payment.refund_failed" }

// EventType is the name in the log.
func (Disputed) EventType() string { return "payment.disputed" }

// EventType is the name in the log.
func (DisputeClosed) EventType() string { return "payment.dispute_closed" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Requested{}, Opened{}, Repriced{}, Cancelled{}, Received{}, Costed{}, Failed{}, RefundRequested{}, Refunded{},
		RefundFailed{}, Disputed{}, DisputeClosed{}}
}

// Stream names the stream of one payment.
func Stream(id string) string { return "payment-" + id }

// ID names the nth payment of an invoice, from 1: there is another one only after the one before was cancelled.
func ID(invoiceID string, issued time.Time, n int) string {
	return domain.DeriveID(domain.PrefixPayment, issued, "payment", invoiceID, strconv.Itoa(n))
}

// Refund is what is given back of a payment, or is about to be.
type Refund struct {
	CreditNoteID string       `json:"credit_note_id,omitempty"`
	Amount       domain.Money `json:"amount"`
	State        string       `json:"state"`
	Reference    string       `json:"reference,omitempty"`
	At           time.Time    `json:"at"` // of its last change
}

// Dispute is what the payer's bank took back.
type Dispute struct {
	Reference string       `json:"reference"`
	Amount    domain.Money `json:"amount"`
	Outcome   string       `json:"outcome,omitempty"` // "": it is open
}

// State is a payment. The zero State is one that does not exist.
type State struct {
	PaymentID      string       `json:"payment_id"`
	InvoiceID      string       `json:"invoice_id"`
	CustomerID     string       `json:"customer_id"`
	Processor      string       `json:"processor"`
	State          string       `json:"state"`
	Reference      string       `json:"reference,omitempty"`
	Charge         string       `json:"charge,omitempty"`
	Amount         domain.Money `json:"amount"` // asked for; received, once it is
	ProcessingCost domain.Money `json:"processing_cost,omitzero"`
	Refunds        []Refund     `json:"refunds,omitempty"` // refund n at n-1
	Disputes       []Dispute    `json:"disputes,omitempty"`
}

// Kept returns what was received, less what was or is about to be given back and what was lost in disputes.
func (s State) Kept() domain.Money {
	kept := domain.Money{Currency: s.Amount.Currency}
	if s.State == StateReceived {
		kept.Minor = s.Amount.Minor - s.Lost().Minor
		for _, r := range s.Refunds {
			if r.State != NotMade {
				kept.Minor -= r.Amount.Minor
			}
		}
	}
	return kept
}

// Lost returns what was lost in disputes.
func (s State) Lost() domain.Money {
	lost := domain.Money{Currency: s.Amount.Currency}
	for _, d := range s.Disputes {
		if d.Outcome == DisputeLost {
			lost.Minor += d.Amount.Minor
		}
	}
	return lost
}

// InDispute reports whether a dispute is open.
func (s State) InDispute() bool {
	return slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return d.Outcome == "" })
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Requested:
		return State{PaymentID: e.PaymentID, InvoiceID: e.InvoiceID, CustomerID: e.CustomerID, Processor: e.Processor, State: StateRequested, Amount: e.Amount}
	case Opened:
		s.State, s.Reference = StateOpen, e.Reference
	case Repriced:
		s.Amount = e.Amount
	case Cancelled:
		s.State = StateCancelled
	case Received:
		s.PaymentID, s.InvoiceID, s.CustomerID, s.Processor = e.PaymentID, e.InvoiceID, e.CustomerID, e.Processor
		s.State, s.Reference, s.Charge, s.Amount, s.ProcessingCost = StateReceived, e.Reference, e.Charge, e.Amount, e.ProcessingCost
	case Costed:
		s.ProcessingCost = e.ProcessingCost
	case RefundRequested:
		s.Refunds = append(slices.Clip(s.Refunds), Refund{e.CreditNoteID, e.Amount, Pending, "", e.At}) // an earlier state must not see it
	case Refunded:
		s = s.refund(e.Refund, Made, e.Reference, e.At)
	case RefundFailed:
		s = s.refund(e.Refund, NotMade, e.Reference, e.At)
	case Disputed:
		s.Disputes = append(slices.Clip(s.Disputes), Dispute{Reference: e.Dispute, Amount: e.Amount})
	case DisputeClosed:
		s.Disputes = slices.Clone(s.Disputes)
		for i, d := range s.Disputes {
			if d.Reference == e.Dispute {
				s.Disputes[i].Outcome, s.Disputes[i].Amount = e.Outcome, e.Amount
			}
		}
	}
	return s
}

func (s State) refund(n int, to, reference string, at time.Time) State {
	s.Refunds = slices.Clone(s.Refunds)
	if n >= 1 && n <= len(s.Refunds) {
		r := &s.Refunds[n-1]
		r.State, r.At = to, at
		if reference != "" {
			r.Reference = reference
		}
	}
	return s
}
