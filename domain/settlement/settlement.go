// Package settlement is what the platform owes a provider for a period: the passthrough lines of its customers' invoices,
// the same items with the same amounts.
//
// It checks that a settlement adds up and never computes a price. An issued settlement never changes. Start reading at
// [Issued], then [Decide].
package settlement

import (
	"maps"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/tax"
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

	InvoiceLine int        `json:"invoice_line,omitempty"` // the line's number on the invoice
	TaxCategory string     `json:"tax_category,omitempty"` // of the provider's tax; given where the settlement has taxes
	Adjusts     *time.Time `json:"adjusts,omitempty"`      // the start of the closed period that it corrects; nil: it is of this one
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

	// What makes it a self-billed invoice: the platform makes it out in the provider's name (EN 16931, type 389). The
	// provider's own details are those of its billing account; 0 and "": none were known.
	Number                 string         `json:"number,omitempty"`
	ProviderAccountID      string         `json:"provider_account_id,omitempty"`
	ProviderAccountVersion int64          `json:"provider_account_version,omitempty"`
	IssuerVersion          int64          `json:"issuer_version,omitempty"`
	Taxes                  []tax.Subtotal `json:"taxes,omitempty"`
	Tax                    domain.Money   `json:"tax,omitzero"` // their sum, on top of Total; none if there are no taxes
}

// Credited says that a credit note to a customer, or the voiding of its invoice, took something off what the provider is owed. It is the platform's
// self-billed credit note (EN 16931, type 261).
type Credited struct {
	SettlementID string         `json:"settlement_id"`
	Number       string         `json:"number"`
	CreditNoteID string         `json:"credit_note_id,omitempty"` // to the customer, or
	InvoiceID    string         `json:"invoice_id,omitempty"`     // the customer's invoice, which is void
	Reason       string         `json:"reason"`
	Lines        []CreditedLine `json:"lines"`
	Total        domain.Money   `json:"total"` // the sum of the lines
	Taxes        []tax.Subtotal `json:"taxes,omitempty"`
	Tax          domain.Money   `json:"tax,omitzero"`
	At           time.Time      `json:"at"`
}

// CreditedLine is what is taken off an item of the settlement; amounts are positive.
type CreditedLine struct {
	ItemID string       `json:"item_id"`
	Amount domain.Money `json:"amount"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "settlement.issued" }

// EventType is the name in the log.
func (Credited) EventType() string { return "settlement.credited" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}, Credited{}} }

// Stream names the stream of one settlement.
func Stream(id string) string { return "settlement-" + id }

// Content is what a settlement says; it is [Issued] without being an event.
type Content Issued

// State is a settlement. The zero State is one that does not exist.
type State struct {
	Content
	State string `json:"state"`

	Credited domain.Money            `json:"credited,omitzero"`        // without tax
	TaxBack  domain.Money            `json:"tax_credited,omitzero"`    // of the taxes
	ByItem   map[string]domain.Money `json:"credited_items,omitempty"` // by item
	Credits  []Credited              `json:"credits,omitempty"`
}

// Owed returns what the provider is owed: the total and the tax, less what was credited of both.
func (s State) Owed() domain.Money {
	return domain.Money{Minor: s.Total.Minor + s.Tax.Minor - s.Credited.Minor - s.TaxBack.Minor, Currency: s.Currency}
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Issued:
		return State{Content: Content(e), State: StateIssued}
	case Credited:
		s.Credited = domain.Money{Minor: s.Credited.Minor + e.Total.Minor, Currency: s.Currency}
		if e.Tax != (domain.Money{}) {
			s.TaxBack = domain.Money{Minor: s.TaxBack.Minor + e.Tax.Minor, Currency: s.Currency}
		}
		s.Credits = append(slices.Clip(s.Credits), e) // an earlier state must not see it
		byItem := maps.Clone(s.ByItem)
		if byItem == nil {
			byItem = make(map[string]domain.Money)
		}
		for _, l := range e.Lines {
			byItem[l.ItemID] = domain.Money{Minor: byItem[l.ItemID].Minor + l.Amount.Minor, Currency: s.Currency}
		}
		s.ByItem = byItem
	}
	return s
}
