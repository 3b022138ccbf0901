// Package billingrun is the closing of a period: the invoices and settlements that came of it, in one fact.
//
// It never rates anything; it says what a run issued and from how much of the log, and who asked for it when. Start reading at
// [Completed].
package billingrun

import (
	"time"

	"crossbill/domain"
)

// Completed says that [PeriodStart, PeriodEnd) is closed and what was issued for it.
type Completed struct {
	RunID       string    `json:"run_id"`
	PeriodStart time.Time `json:"period_start"`
	PeriodEnd   time.Time `json:"period_end"`
	LogPosition int64     `json:"log_position"` // everything was computed from the log up to here
	Invoices    []string  `json:"invoices"`
	Settlements []string  `json:"settlements"`
	At          time.Time `json:"at"`

	// InvoiceCount and SettlementCount are given where the documents are too many to be listed.
	InvoiceCount    int `json:"invoice_count,omitempty"`
	SettlementCount int `json:"settlement_count,omitempty"`
}

// EventType is the name in the log.
func (Completed) EventType() string { return "billing_run.completed" }

// Events returns one zero value of every event type of this package: those of a run's own stream, of the requests for it, and
// of a connection's closed periods.
func Events() []domain.Event {
	return []domain.Event{Completed{}, Requested{}, Ended{}, Failed{}, PeriodClosed{}, PeriodAdjusted{}, PeriodReopened{}}
}

// Stream names the stream of one run.
func Stream(id string) string { return "billing_run-" + id }

// Content is what a run did; it is [Completed] without being an event.
type Content Completed

// State is a run. The zero State is one that has not completed.
type State struct {
	Content
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Completed); ok {
		return State{Content: Content(e)}
	}
	return s
}
