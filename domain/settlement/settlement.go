// Package settlement is what the platform owes a provider for a period: the passthrough lines of its customers' invoices,
// the same items with the same amounts.
//
// It checks that a settlement adds up and never computes a price. An issued settlement never changes. Start reading at
// [Issued], then [Decide].
package settlement

import (
	"time"

	"crossbill/domain"
)

// StateIssued is the one state of a settlement so far.
const StateIssued = "issued"

// Line is one rated item, as the customer's invoice has it.
type Line struct {
	ItemID       string       `json:"item_id"`
	InvoiceID    string       `json:"invoice_id"`
	ConnectionID string       `json:"connection_id"`
	ChargeID     string       `json:"charge_id"`
	Description  string       `json:"description"`
	Amount       domain.Money `json:"amount"`
}

// Issued says what a provider is owed for [PeriodStart, PeriodEnd).
type Issued struct {
	SettlementID string          `json:"settlement_id"`
	ProviderID   string          `json:"provider_id"`
	PeriodStart  time.Time       `json:"period_start"`
	PeriodEnd    time.Time       `json:"period_end"`
	Currency     domain.Currency `json:"currency"`
	Lines        []Line          `json:"lines"`
	Total        domain.Money    `json:"total"`
	LogPosition  int64           `json:"log_position"` // it was computed from the log up to here
	RunID        string          `json:"run_id"`
	At           time.Time       `json:"at"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "settlement.issued" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}} }

// Stream names the stream of one settlement.
func Stream(id string) string { return "settlement-" + id }

// Content is what a settlement says; it is [Issued] without being an event.
type Content Issued

// State is a settlement. The zero State is one that does not exist.
type State struct {
	Content
	State string `json:"state"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Issued); ok {
		return State{Content: Content(e), State: StateIssued}
	}
	return s
}
