// Package budget is what an organisation means to spend a month, and the alerts when parts of it are spent.
//
// It never computes what was spent and never stops anybody from spending: it is told, and alerts once for each threshold
// and month. Start reading at [State], then [Decide].
package budget

import (
	"slices"
	"time"

	"crossbill/domain"
)

// What a budget is for.
const (
	ScopeOrganisation   = "organisation"    // all that the organisation buys
	ScopeBillingAccount = "billing_account" // what is billed to one of its accounts
	ScopeConnection     = "connection"      // one connection
)

// States of a budget. Closed is final.
const (
	StateOpen   = "open"
	StateClosed = "closed"
)

// Scope is what a budget is for.
type Scope struct {
	Kind string `json:"kind"`
	ID   string `json:"id"` // of the organisation, the account or the connection
}

// Terms are what of a budget can be changed.
type Terms struct {
	Name       string       `json:"name"`
	Amount     domain.Money `json:"amount"`     // for a calendar month (UTC), fees included and tax not; only what is spent in its currency counts
	Thresholds []int        `json:"thresholds"` // percent of the amount, ascending
}

// Opened says that there is a budget from now on.
type Opened struct {
	BudgetID       string    `json:"budget_id"`
	OrganisationID string    `json:"organisation_id"`
	Scope          Scope     `json:"scope"`
	Terms          Terms     `json:"terms"`
	At             time.Time `json:"at"`
}

// Changed says that the budget's terms are others from now on.
type Changed struct {
	BudgetID string    `json:"budget_id"`
	Terms    Terms     `json:"terms"`
	At       time.Time `json:"at"`
}

// Closed says that the budget is not looked after any more.
type Closed struct {
	BudgetID string    `json:"budget_id"`
	At       time.Time `json:"at"`
}

// ThresholdReached says that as much of a month's budget is spent: the alert. There is one for each threshold and month.
type ThresholdReached struct {
	BudgetID       string       `json:"budget_id"`
	OrganisationID string       `json:"organisation_id"`
	Scope          Scope        `json:"scope"`
	Name           string       `json:"name"`
	Month          string       `json:"month"`        // "2026-03", UTC
	Percent        int          `json:"percent"`      // the threshold
	Amount         domain.Money `json:"amount"`       // the budget's, as it then was
	Spent          domain.Money `json:"spent"`        // in the month until At
	LogPosition    int64        `json:"log_position"` // what was spent was computed from the log up to here
	At             time.Time    `json:"at"`
}

// EventType is the name in the log.
func (Opened) EventType() string { return "budget.opened" }

// EventType is the name in the log.
func (Changed) EventType() string { return "budget.changed" }

// EventType is the name in the log.
func (Closed) EventType() string { return "budget.closed" }

// EventType is the name in the log.
func (ThresholdReached) EventType() string { return "budget.threshold_reached" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Opened{}, Changed{}, Closed{}, ThresholdReached{}}
}

// Stream names the stream of one budget.
func Stream(id string) string { return "budget-" + id }

// Alert is a threshold that was reached.
type Alert struct {
	Percent int          `json:"percent"`
	Amount  domain.Money `json:"amount"`
	Spent   domain.Money `json:"spent"`
	At      time.Time    `json:"at"`
}

// State is what is known of a budget. The zero State is one that does not exist.
type State struct {
	ID             string     `json:"id"`
	OrganisationID string     `json:"organisation_id"`
	State          string     `json:"state"`
	Scope          Scope      `json:"scope"`
	Terms          Terms      `json:"terms"`
	Month          string     `json:"month,omitempty"`  // of Alerts: the newest for which there was one
	Alerts         []Alert    `json:"alerts,omitempty"` // of Month
	OpenedAt       time.Time  `json:"opened_at"`
	ClosedAt       *time.Time `json:"closed_at,omitempty"`
}

// Reached reports whether there was an alert for a threshold in a month. Months before the newest with an alert count as
// alerted: nobody is told late of what is over.
func (s State) Reached(month string, percent int) bool {
	if month != s.Month {
		return month < s.Month // "2026-03" sorts as time does
	}
	return slices.ContainsFunc(s.Alerts, func(a Alert) bool { return a.Percent == percent })
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Opened:
		return State{ID: e.BudgetID, OrganisationID: e.OrganisationID, State: StateOpen, Scope: e.Scope, Terms: e.Terms, OpenedAt: e.At}
	case Changed:
		s.Terms = e.Terms
	case Closed:
		s.State, s.ClosedAt = StateClosed, &e.At
	case ThresholdReached:
		if e.Month != s.Month {
			s.Month, s.Alerts = e.Month, nil
		}
		s.Alerts = append(slices.Clip(s.Alerts), Alert{e.Percent, e.Amount, e.Spent, e.At})
	}
	return s
}

// MonthOf names the calendar month (UTC) of an instant.
func MonthOf(t time.Time) string { return t.UTC().Format("2006-01") }

// Waiting reports whether some threshold has not alerted in the month of an instant.
func (s State) Waiting(at time.Time) bool {
	return slices.ContainsFunc(s.Terms.Thresholds, func(percent int) bool { return !s.Reached(MonthOf(at), percent) })
}
