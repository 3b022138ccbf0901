// Package invoice is what a customer owes for a period, line by line, each with the events it was computed from.
//
// It checks that an invoice adds up and never computes a price: that is billing's. An issued invoice never changes.
// Start reading at [Issued], then [Decide].
package invoice

import (
	"maps"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
)

// States of an invoice.
const (
	StateIssued = "issued"
	StatePaid   = "paid"
	StateVoid   = "void"
)

// Kinds of lines.
const (
	LinePassthrough = "passthrough" // the provider's price; the same item is in the provider's settlement
	LineFee         = "fee"         // the platform's
)

// PlanRef names the published listing version whose plan a line was rated with.
type PlanRef struct {
	ListingID string `json:"listing_id"`
	Version   int    `json:"version"`
}

// Evidence is a range of one stream's events that a line was computed from.
type Evidence struct {
	Stream      string `json:"stream"`
	FromVersion int64  `json:"from_version"`
	ToVersion   int64  `json:"to_version"` // inclusive
	Count       int    `json:"count"`
	Digest      string `json:"digest"` // SHA-256 over the events' leaf hashes in order, in lower-case hexadecimal

	// From and To are given for readings, which are not all that the range holds but those that share time with [From, To),
	// whole days of UTC. Their digest is one of days, in order: 32 zero bytes, and for each day with readings SHA-256 of the
	// digest before and the line "YYYY-MM-DD d\n", d being the day's own: 32 zero bytes, and for each reading that shares
	// time with the day, in order, SHA-256 of the digest before and its leaf hash.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
}

// Line is one rated item.
type Line struct {
	Number       int          `json:"number"` // counts from 1
	ItemID       string       `json:"item_id"`
	Kind         string       `json:"kind"`
	ProviderID   string       `json:"provider_id"`
	ConnectionID string       `json:"connection_id"`
	ChargeID     string       `json:"charge_id"`
	Description  string       `json:"description"`
	Quantity     string       `json:"quantity"`
	Unit         string       `json:"unit"`
	Exact        string       `json:"exact"` // the amount before its one rounding; "…" ends a number that is cut
	Amount       domain.Money `json:"amount"`
	Steps        []string     `json:"steps"`
	Plan         PlanRef      `json:"plan"`
	QuoteID      string       `json:"quote_id"`
	Evidence     []Evidence   `json:"evidence"`
	Part         string       `json:"part,omitempty"` // of a percentile charge: pricing.PartCommit or pricing.PartOverage
	From         *time.Time   `json:"from,omitempty"` // inclusive; given where a change splits what is billed of the period
	To           *time.Time   `json:"to,omitempty"`   // exclusive; given with From

	TaxCategory string      `json:"tax_category,omitempty"` // of UNTDID 5305; given where the invoice has taxes
	Adjusts     *Adjustment `json:"adjusts,omitempty"`      // nil: it is of the invoice's own period
	Converted   *Conversion `json:"converted,omitempty"`    // nil: the plan's currency is the invoice's
}

// Adjustment says that a line corrects what was billed for a period that was closed before: readings came late. The line's
// exact amount is what the period comes to now, less what was billed.
type Adjustment struct {
	PeriodStart time.Time    `json:"period_start"`
	PeriodEnd   time.Time    `json:"period_end"`
	Billed      domain.Money `json:"billed"` // for the item before, in the invoice's currency
}

// Conversion says that the plan's price is in another currency than the invoice, and at which rate it was converted.
type Conversion struct {
	Amount      string          `json:"amount"` // exact, in Currency; "…" ends a number that is cut
	Currency    domain.Currency `json:"currency"`
	Rate        domain.Decimal  `json:"rate"`         // units of the invoice's currency for one
	RateVersion int             `json:"rate_version"` // of the exchange rate's stream
}

// Issued says what a customer owes for [PeriodStart, PeriodEnd).
type Issued struct {
	InvoiceID   string          `json:"invoice_id"`
	Number      string          `json:"number"`
	CustomerID  string          `json:"customer_id"`
	PeriodStart time.Time       `json:"period_start"`
	PeriodEnd   time.Time       `json:"period_end"`
	Currency    domain.Currency `json:"currency"`
	Lines       []Line          `json:"lines"`
	Passthrough domain.Money    `json:"passthrough"`
	Fee         domain.Money    `json:"fee"`
	Total       domain.Money    `json:"total"`
	LogPosition int64           `json:"log_position"` // it was computed from the log up to here
	RunID       string          `json:"run_id"`
	At          time.Time       `json:"at"`

	// FreeBefore is what the customer's invoices before used of the fee's free tier in this month and currency; nil if no
	// fee on the invoice has a free tier.
	FreeBefore *pricing.FreeUse `json:"free_before,omitempty"`

	// BillingAccountID is the account that its connections' orders named; "" is the customer's default account.
	BillingAccountID string `json:"billing_account_id,omitempty"`
	// BillingAccountVersion and IssuerVersion say which of the account's and the issuer's details the invoice is made out
	// with: those after so many events of their streams. 0: none were known.
	BillingAccountVersion int64  `json:"billing_account_version,omitempty"`
	IssuerVersion         int64  `json:"issuer_version,omitempty"`
	PurchaseOrder         string `json:"purchase_order,omitempty"` // the customer's reference (EN 16931 BT-13)

	Taxes   []tax.Subtotal `json:"taxes,omitempty"`    // one for each category
	Tax     domain.Money   `json:"tax,omitzero"`       // their sum, which is in Total; none if there are no taxes
	DueAt   *time.Time     `json:"due_at,omitempty"`   // nil: the issuer has no terms
	Reissue string         `json:"reissues,omitempty"` // the voided invoice that this one takes the place of
}

// Credited says that a credit note took something off the invoice. It stands beside the credit note's own event, so that
// no two credit notes take off the same.
type Credited struct {
	InvoiceID    string         `json:"invoice_id"`
	CreditNoteID string         `json:"credit_note_id"`
	Number       string         `json:"number"`
	Lines        []CreditedLine `json:"lines"`
	Total        domain.Money   `json:"total"` // with tax
	At           time.Time      `json:"at"`
}

// CreditedLine is what a credit note takes off a line of the invoice.
type CreditedLine struct {
	Line   int          `json:"line"`
	Amount domain.Money `json:"amount"`
}

// Paid says that the customer paid the total.
type Paid struct {
	InvoiceID string    `json:"invoice_id"`
	Reference string    `json:"reference"` // of the payment, as who received it names it
	At        time.Time `json:"at"`

	// Amount is what was paid: the total less what was credited by then. Older events have none: it was the total.
	Amount domain.Money `json:"amount,omitzero"`
}

// Voided says that the invoice is not to be paid. Its number stays taken.
type Voided struct {
	InvoiceID string    `json:"invoice_id"`
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"`
}

// NumberTaken says that an issuer's next number belongs to an invoice.
type NumberTaken struct {
	Number    int64  `json:"number"`
	InvoiceID string `json:"invoice_id"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "invoice.issued" }

// EventType is the name in the log.
func (Paid) EventType() string { return "invoice.paid" }

// EventType is the name in the log.
func (Voided) EventType() string { return "invoice.voided" }

// EventType is the name in the log.
func (Credited) EventType() string { return "invoice.credited" }

// EventType is the name in the log.
func (NumberTaken) EventType() string { return "invoice_number.taken" }

// Events returns one zero value of every event type of this package: those of an invoice's own stream, and NumberTaken.
func Events() []domain.Event {
	return []domain.Event{Issued{}, Paid{}, Voided{}, Credited{}, NumberTaken{}}
}

// Stream names the stream of one invoice.
func Stream(id string) string { return "invoice-" + id }

// NumberStream names the stream of an issuer's invoice numbers. Its version is the last number taken, so that numbers
// have no gaps.
func NumberStream(issuer string) string { return "invoice_number-" + issuer }

// Content is what an invoice says; it is [Issued] without being an event.
type Content Issued

// State is an invoice and what became of it. The zero State is one that does not exist.
type State struct {
	Content
	State     string     `json:"state"`
	Reference string     `json:"reference,omitempty"` // of the payment
	Reason    string     `json:"reason,omitempty"`    // why it is void
	ClosedAt  *time.Time `json:"closed_at,omitempty"` // when it was paid or voided

	Credited    domain.Money         `json:"credited,omitzero"` // with tax, by every credit note
	CreditNotes []string             `json:"credit_notes,omitempty"`
	ByLine      map[int]domain.Money `json:"credited_lines,omitempty"` // by line
	PaidAmount  domain.Money         `json:"paid,omitzero"`
}

// Due returns what is still to be paid: nothing of an invoice that is paid or void.
func (s State) Due() domain.Money {
	if s.State != StateIssued {
		return domain.Money{Currency: s.Currency}
	}
	return domain.Money{Minor: s.Total.Minor - s.Credited.Minor, Currency: s.Currency}
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Issued:
		return State{Content: Content(e), State: StateIssued}
	case Paid:
		s.State, s.Reference, s.ClosedAt, s.PaidAmount = StatePaid, e.Reference, &e.At, e.Amount
		if e.Amount == (domain.Money{}) {
			s.PaidAmount = s.Total
		}
	case Credited:
		s.Credited = domain.Money{Minor: s.Credited.Minor + e.Total.Minor, Currency: s.Currency}
		s.CreditNotes = append(slices.Clip(s.CreditNotes), e.CreditNoteID) // an earlier state must not see it
		byLine := maps.Clone(s.ByLine)
		if byLine == nil {
			byLine = make(map[int]domain.Money)
		}
		for _, l := range e.Lines {
			byLine[l.Line] = domain.Money{Minor: byLine[l.Line].Minor + l.Amount.Minor, Currency: s.Currency}
		}
		s.ByLine = byLine
	case Voided:
		s.State, s.Reason, s.ClosedAt = StateVoid, e.Reason, &e.At
	}
	return s
}

// NumberState is the numbers of an issuer. The zero NumberState has none taken.
type NumberState struct {
	Last      int64  `json:"last"`
	InvoiceID string `json:"invoice_id"` // that has it
}

// EvolveNumber returns the state after the event.
func EvolveNumber(s NumberState, e domain.Event) NumberState {
	if e, ok := e.(NumberTaken); ok {
		return NumberState{Last: e.Number, InvoiceID: e.InvoiceID}
	}
	return s
}
