// Package feeallowance is what a customer's invoices have used of the fee's free tier, month by month.
//
// It exists so that two invoices of one month never use the same part of it: each is appended with what it used, on top
// of what was there. It never says how much is free: that is the fee schedule's, frozen by each quote. Start reading at
// [Used], then [State.Before].
package feeallowance

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Used says what one invoice has used: all of its connections, and all of their passthrough.
type Used struct {
	CustomerID  string       `json:"customer_id"`
	PeriodStart time.Time    `json:"period_start"` // of the invoice; its month (UTC) is the one that counts
	InvoiceID   string       `json:"invoice_id"`
	Connections int          `json:"connections"`
	Passthrough domain.Money `json:"passthrough"`
	RunID       string       `json:"run_id"`
	At          time.Time    `json:"at"`
}

// EventType is the name in the log.
func (Used) EventType() string { return "fee_allowance.used" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Used{}} }

// Stream names the stream of one customer.
func Stream(customerID string) string { return "fee_allowance-" + customerID }

// Counts reports whether what an invoice used is of the month (UTC) of an instant, and of a currency.
func (u Used) Counts(month time.Time, c domain.Currency) bool {
	start, month := u.PeriodStart.UTC(), month.UTC()
	return start.Year() == month.Year() && start.Month() == month.Month() && u.Passthrough.Currency == c
}

// State is what the invoices of a customer have used. The zero State is nothing.
type State struct {
	CustomerID string `json:"customer_id"`
	Used       []Used `json:"used"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Used); ok {
		s.CustomerID = e.CustomerID
		s.Used = append(slices.Clip(s.Used), e)
	}
	return s
}

// Before returns what was used of the month of an instant in a currency before an invoice used some; if that is none of
// them, what all have used. It returns an Internal error for more money than there is.
func (s State) Before(invoiceID string, month time.Time, c domain.Currency) (pricing.FreeUse, error) {
	used := pricing.FreeUse{Passthrough: domain.Money{Currency: c}}
	for _, u := range s.Used {
		if u.InvoiceID == invoiceID {
			break
		}
		if u.Counts(month, c) {
			var err error
			if used, err = used.Add(u.Connections, u.Passthrough); err != nil {
				return used, err
			}
		}
	}
	return used, nil
}

// Command is what can be asked of a customer's allowance.
type Command interface{ command() }

// Use records what an invoice used. The same invoice again does nothing.
type Use struct {
	Used Used
}

func (Use) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, and a Conflict
// for an invoice that used something else.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "feeallowance.Decide"
	use, ok := c.(Use)
	if !ok {
		return nil, domain.UnknownCommand(op, c)
	}
	u := use.Used
	u.PeriodStart, u.At = domain.Instant(u.PeriodStart), domain.Instant(u.At)
	var p domain.Problems
	p.ID("/customer_id", domain.PrefixOrganisation, u.CustomerID)
	p.Check(s.CustomerID == "" || s.CustomerID == u.CustomerID, "/customer_id", "is not the allowance's own")
	p.ID("/invoice_id", domain.PrefixInvoice, u.InvoiceID)
	p.ID("/run_id", domain.PrefixBillingRun, u.RunID)
	p.Time("/period_start", use.Used.PeriodStart)
	p.Time("/at", use.Used.At)
	p.Check(u.Connections >= 1, "/connections", "must be at least 1")
	p.Check(u.Passthrough.Currency.Valid(), "/passthrough/currency", "%.10q is not a currency that Crossbill bills in", string(u.Passthrough.Currency))
	p.Check(u.Passthrough.Minor >= 0, "/passthrough", "must not be negative")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	n := slices.IndexFunc(s.Used, func(o Used) bool { return o.InvoiceID == u.InvoiceID })
	switch {
	case n < 0:
		return []domain.Event{u}, nil
	case s.Used[n] == u:
		return nil, nil
	}
	return nil, domain.Differs(op, "invoice", u.InvoiceID, "use of the free tier")
}
