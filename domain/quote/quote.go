// Package quote is a price promised to one customer for a time: the provider's own price and the platform's fee, apart.
//
// A quote never changes: it freezes the listing's version, the plan, the fee and the SLA it was made from, under a hash that
// an order repeats. Start reading at [Issued], then [Decide].
package quote

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
)

// States of a quote.
const (
	StateIssued    = "issued"
	StateAccepted  = "accepted"  // an order was placed from it
	StateExpired   = "expired"   // never recorded: see [State.StateAt]
	StateWithdrawn = "withdrawn" // taken back before an order came
)

// Kinds of lines.
const (
	LinePassthrough = "passthrough" // the provider's price
	LineFee         = "fee"         // the platform's
)

// Line is an amount for a full month at the estimated usage, or one that is charged once.
type Line struct {
	ChargeID    string       `json:"charge_id"`
	Kind        string       `json:"kind"`
	Description string       `json:"description"`
	Amount      domain.Money `json:"amount"`
	Part        string       `json:"part,omitempty"`     // of a percentile charge: pricing.PartCommit or pricing.PartOverage
	OneTime     bool         `json:"one_time,omitempty"` // charged once, when the connection is put into production
}

// OneTime is what comes on top in the month in which the connection is put into production.
type OneTime struct {
	Passthrough domain.Money `json:"passthrough"`
	Fee         domain.Money `json:"fee"`
	Total       domain.Money `json:"total"`
}

// Issued says what a connection costs until ValidUntil.
type Issued struct {
	QuoteID            string         `json:"quote_id"`
	CustomerID         string         `json:"customer_id"`
	ProviderID         string         `json:"provider_id"`
	ListingID          string         `json:"listing_id"`
	ListingVersion     int            `json:"listing_version"`
	BandwidthMbps      int            `json:"bandwidth_mbps"`
	EstimatedGB        domain.Decimal `json:"estimated_gb"` // a month, taken by every usage charge for its own metric
	Plan               pricing.Plan   `json:"plan"`
	FeeScheduleID      string         `json:"fee_schedule_id"`
	FeeScheduleVersion int            `json:"fee_schedule_version"`
	BasisPoints        int            `json:"basis_points"`
	Lines              []Line         `json:"lines"`
	Passthrough        domain.Money   `json:"passthrough"` // a full month's
	Fee                domain.Money   `json:"fee"`         // a full month's, were nothing free of it
	Total              domain.Money   `json:"total"`       // a full month's
	ValidUntil         time.Time      `json:"valid_until"` // exclusive
	At                 time.Time      `json:"at"`
	Hash               string         `json:"hash"` // see [Hash]

	EstimatedMbps domain.Decimal    `json:"estimated_mbps,omitzero"` // the 95th percentile, taken by percentile charges
	FeeTerms      *pricing.FeeTerms `json:"fee_terms,omitempty"`     // nil if the fee has no bounds and nothing is free of it
	OneTime       *OneTime          `json:"one_time,omitempty"`      // nil if nothing is charged once

	ConnectionID string  `json:"connection_id,omitempty"` // that it changes; absent if it is for a new one
	Change       *Change `json:"change,omitempty"`        // what it changes; nil if it is for a new connection

	SLA *listing.SLA `json:"sla,omitempty"` // what the provider promises; nil if nothing, or if the quote is from before it was frozen
}

// Accepted says that an order was placed from the quote.
type Accepted struct {
	QuoteID string    `json:"quote_id"`
	OrderID string    `json:"order_id"`
	At      time.Time `json:"at"`
}

// Withdrawn says that no order can be placed from the quote any more.
type Withdrawn struct {
	QuoteID string    `json:"quote_id"`
	At      time.Time `json:"at"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "quote.issued" }

// EventType is the name in the log.
func (Accepted) EventType() string { return "quote.accepted" }

// EventType is the name in the log.
func (Withdrawn) EventType() string { return "quote.withdrawn" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}, Accepted{}, Withdrawn{}} }

// Stream names the stream of one quote.
func Stream(id string) string { return "quote-" + id }

// Fees returns the fee schedule that the quote freezes.
func (c Content) Fees() pricing.FeeSchedule {
	f := pricing.FeeSchedule{BasisPoints: c.BasisPoints}
	if c.FeeTerms != nil {
		f.FeeTerms = *c.FeeTerms
	}
	return f
}

// Content is what a quote says; it is [Issued] without being an event.
type Content Issued

// State is a quote and what became of it. The zero State is one that does not exist.
type State struct {
	Content
	State   string `json:"state"` // as recorded; see [State.StateAt]
	OrderID string `json:"order_id,omitempty"`
}

// StateAt returns the state at a time: an issued quote expires by itself.
func (s State) StateAt(now time.Time) string {
	if s.State == StateIssued && !now.Before(s.ValidUntil) {
		return StateExpired
	}
	return s.State
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Issued:
		return State{Content: Content(e), State: StateIssued}
	case Accepted:
		s.State, s.OrderID = StateAccepted, e.OrderID
	case Withdrawn:
		s.State = StateWithdrawn
	}
	return s
}
