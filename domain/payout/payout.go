// Package payout is a transfer of a provider's share to it: what one paid invoice brings in for one of its settlements.
//
// One stream is one payout (at Stripe: one transfer to the provider's connected account). What is about to be asked of the
// processor is an event before it is asked (Requested, ReversalRequested), so that whoever finds it unanswered asks again
// under the same key and nothing is moved twice. It never decides what a provider is owed: the settlement says that, and
// the customer's payment says when. Start reading at [State], then [Decide].
package payout

import (
	"slices"
	"strconv"
	"time"

	"crossbill/domain"
)

// States of a payout.
const (
	StatePending = "pending" // it may be moved already: nobody knows until the processor answered
	StateSent    = "sent"    // it is on the provider's account at the processor
	StatePaid    = "paid"    // it is on the provider's bank account
	StateFailed  = "failed"  // nothing was moved
)

// States of a reversal.
const (
	Pending = "pending"
	Made    = "made"
	NotMade = "not_made"
)

// Requested says that an amount is about to be moved to a provider.
type Requested struct {
	PayoutID     string       `json:"payout_id"`
	ProviderID   string       `json:"provider_id"`
	SettlementID string       `json:"settlement_id"`
	InvoiceID    string       `json:"invoice_id"` // whose payment funds it
	PaymentID    string       `json:"payment_id"`
	Processor    string       `json:"processor"`
	Destination  string       `json:"destination"`      // acct_…
	Source       string       `json:"source,omitempty"` // ch_…, the charge it draws on; "": the platform's balance
	Amount       domain.Money `json:"amount"`
	At           time.Time    `json:"at"`
}

// Sent says that it was moved.
type Sent struct {
	PayoutID     string       `json:"payout_id"`
	ProviderID   string       `json:"provider_id"`
	SettlementID string       `json:"settlement_id"`
	Amount       domain.Money `json:"amount"`
	Transfer     string       `json:"transfer"` // tr_…
	At           time.Time    `json:"at"`
}

// Paid says that the processor paid it to the provider's bank account, with others perhaps.
type Paid struct {
	PayoutID   string    `json:"payout_id"`
	ProviderID string    `json:"provider_id"`
	Reference  string    `json:"reference"` // po_…, of the provider's account
	At         time.Time `json:"at"`
}

// Failed says that it was not moved, and won't be. What it was for is paid out by another one.
type Failed struct {
	PayoutID     string       `json:"payout_id"`
	ProviderID   string       `json:"provider_id"`
	SettlementID string       `json:"settlement_id"`
	Amount       domain.Money `json:"amount"`
	Reason       string       `json:"reason"`
	At           time.Time    `json:"at"`
}

// ReversalRequested says that an amount is about to be moved back, as the payout's own reversal of that number, from 1.
type ReversalRequested struct {
	PayoutID string       `json:"payout_id"`
	Reversal int          `json:"reversal"`
	Credit   string       `json:"credit"` // what it is for: a credit note's id, a void invoice's, or a lost dispute's reference
	Amount   domain.Money `json:"amount"`
	At       time.Time    `json:"at"`
}

// Reversed says that an amount was moved back from the provider.
type Reversed struct {
	PayoutID     string       `json:"payout_id"`
	ProviderID   string       `json:"provider_id"`
	SettlementID string       `json:"settlement_id"`
	Reversal     int          `json:"reversal"`
	Credit       string       `json:"credit"`
	Amount       domain.Money `json:"amount"`
	Reference    string       `json:"reference"` // trr_…
	At           time.Time    `json:"at"`
}

// ReversalFailed says that a reversal was not made. What it was for is still to be moved back.
type ReversalFailed struct {
	PayoutID string       `json:"payout_id"`
	Reversal int          `json:"reversal"`
	Amount   domain.Money `json:"amount"`
	Reason   string       `json:"reason"`
	At       time.Time    `json:"at"`
}

// EventType is the name in the log.
func (Requested) EventType() string { return "payout.requested" }

// EventType is the name in the log.
func (Sent) EventType() string { return "payout.sent" }

// EventType is the name in the log.
func (Paid) EventType() string { return "payout.paid" }

// EventType is the name in the log.
func (Failed) EventType() string { return "payout.failed" }

// EventType is the name in the log.
func (ReversalRequested) EventType() string { return "payout.reversal_requested" }

// EventType is the name in the log.
func (Reversed) EventType() string { return "payout.reversed" }

// EventType is the name in the log.
func (ReversalFailed) EventType() string { return "payout.reversal_failed" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Requested{}, Sent{}, Paid{}, Failed{}, ReversalRequested{}, Reversed{}, ReversalFailed{}}
}

// Stream names the stream of one payout.
func Stream(id string) string { return "payout-" + id }

// ID names the nth payout of what an invoice brings in for a settlement, from 1. There is another one only after the one
// before failed, or when its share has grown.
func ID(settlementID, invoiceID string, issued time.Time, n int) string {
	return domain.DeriveID(domain.PrefixPayout, issued, "payout", settlementID, invoiceID, strconv.Itoa(n))
}

// Reversal is what was moved back of a payout, or is about to be.
type Reversal struct {
	Credit    string       `json:"credit"`
	Amount    domain.Money `json:"amount"`
	State     string       `json:"state"`
	Reference string       `json:"reference,omitempty"`
	At        time.Time    `json:"at"` // of its last change
}

// State is a payout. The zero State is one that does not exist.
type State struct {
	PayoutID     string       `json:"payout_id"`
	ProviderID   string       `json:"provider_id"`
	SettlementID string       `json:"settlement_id"`
	InvoiceID    string       `json:"invoice_id"`
	PaymentID    string       `json:"payment_id"`
	Processor    string       `json:"processor"`
	Destination  string       `json:"destination"`
	Source       string       `json:"source,omitempty"`
	Amount       domain.Money `json:"amount"`
	State        string       `json:"state"`
	Transfer     string       `json:"transfer,omitempty"`
	Reference    string       `json:"reference,omitempty"` // of the payment to the bank account
	Reason       string       `json:"reason,omitempty"`    // why it failed
	Reversals    []Reversal   `json:"reversals,omitempty"` // reversal n at n-1
	ChangedAt    time.Time    `json:"changed_at"`
}

// Kept returns what of it is the provider's, if what is about to be moved is: nothing of one that failed, else the amount
// less what was or is about to be moved back.
func (s State) Kept() domain.Money {
	kept := domain.Money{Currency: s.Amount.Currency}
	if s.State == "" || s.State == StateFailed {
		return kept
	}
	kept.Minor = s.Amount.Minor
	for _, r := range s.Reversals {
		if r.State != NotMade {
			kept.Minor -= r.Amount.Minor
		}
	}
	return kept
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Requested:
		return State{PayoutID: e.PayoutID, ProviderID: e.ProviderID, SettlementID: e.SettlementID, InvoiceID: e.InvoiceID, PaymentID: e.PaymentID,
			Processor: e.Processor, Destination: e.Destination, Source: e.Source, Amount: e.Amount, State: StatePending, ChangedAt: e.At}
	case Sent:
		s.State, s.Transfer, s.ChangedAt = StateSent, e.Transfer, e.At
	case Paid:
		s.State, s.Reference, s.ChangedAt = StatePaid, e.Reference, e.At
	case Failed:
		s.State, s.Reason, s.ChangedAt = StateFailed, e.Reason, e.At
	case ReversalRequested:
		s.Reversals = append(slices.Clip(s.Reversals), Reversal{e.Credit, e.Amount, Pending, "", e.At}) // an earlier state must not see it
	case Reversed:
		s = s.reversal(e.Reversal, Made, e.Reference, e.At)
	case ReversalFailed:
		s = s.reversal(e.Reversal, NotMade, "", e.At)
	}
	return s
}

func (s State) reversal(n int, to, reference string, at time.Time) State {
	s.Reversals = slices.Clone(s.Reversals)
	if n >= 1 && n <= len(s.Reversals) {
		r := &s.Reversals[n-1]
		r.State, r.Reference, r.At = to, reference, at
	}
	return s
}
