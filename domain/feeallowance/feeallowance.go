// Package feeallowance is what a customer's invoices have used of the fee's free tier, month by month.
//
// It exists so that two invoices of one month never use the same part of it: each is appended with what it used, on top
// of what was there. What a void invoice used is given back. It never says how much is free: that is the fee schedule's,
// frozen by each quote. Start reading at [Used], then [State.Before].
package feeallowance

import (
	"maps"
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

// Released says that what an invoice used, all of it, is there to be used again: the invoice is void.
type Released struct {
	CustomerID  string       `json:"customer_id"`
	PeriodStart time.Time    `json:"period_start"` // as the use says it, like the rest
	InvoiceID   string       `json:"invoice_id"`
	Connections int          `json:"connections"`
	Passthrough domain.Money `json:"passthrough"`
	At          time.Time    `json:"at"`
}

// EventType is the name in the log.
func (Used) EventType() string { return "fee_allowance.used" }

// EventType is the name in the log.
func (Released) EventType() string { return "fee_allowance.released" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Used{}, Released{}} }

// Stream names the stream of one customer.
func Stream(customerID string) string { return "fee_allowance-" + customerID }

// Counts reports whether what an invoice used is of the month (UTC) of an instant, and of a currency.
func (u Used) Counts(month time.Time, c domain.Currency) bool {
	return counts(u.PeriodStart, u.Passthrough.Currency, month, c)
}

// Counts is [Used.Counts] for what was given back.
func (r Released) Counts(month time.Time, c domain.Currency) bool {
	return counts(r.PeriodStart, r.Passthrough.Currency, month, c)
}

func counts(start time.Time, currency domain.Currency, month time.Time, c domain.Currency) bool {
	start, month = start.UTC(), month.UTC()
	return start.Year() == month.Year() && start.Month() == month.Month() && currency == c
}

// State is what the invoices of a customer have used. The zero State is nothing.
type State struct {
	CustomerID string `json:"customer_id"`
	Used       []Used `json:"used"`
	// Released are, by the invoice that is void, how many uses there were when its own was given back: those before did not
	// know of it.
	Released map[string]int `json:"released,omitempty"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) { // an earlier state must not see what is added
	case Used:
		s.CustomerID = e.CustomerID
		s.Used = append(slices.Clip(s.Used), e)
	case Released:
		released := map[string]int{e.InvoiceID: len(s.Used)}
		maps.Copy(released, s.Released)
		s.Released = released
	}
	return s
}

// Before returns what was used of the month of an instant in a currency before an invoice used some; if that is none of
// them, what all have used. What was given back by then does not count. It returns an Internal error for more money than
// there is.
func (s State) Before(invoiceID string, month time.Time, c domain.Currency) (pricing.FreeUse, error) {
	used := pricing.FreeUse{Passthrough: domain.Money{Currency: c}}
	own := slices.IndexFunc(s.Used, func(u Used) bool { return u.InvoiceID == invoiceID })
	if own < 0 {
		own = len(s.Used)
	}
	for _, u := range s.Used[:own] {
		at, released := s.Released[u.InvoiceID]
		if u.Counts(month, c) && !(released && at <= own) {
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

// Release gives back what an invoice used. It does nothing for one that used none, or whose use was given back.
type Release struct {
	InvoiceID string
	At        time.Time
}

func (Use) command()     {}
func (Release) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, and a Conflict
// for an invoice that used something else.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "feeallowance.Decide"
	switch c := c.(type) {
	case Use:
		return c.decide(op, s)
	case Release:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Release) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	n := slices.IndexFunc(s.Used, func(u Used) bool { return u.InvoiceID == c.InvoiceID })
	if _, released := s.Released[c.InvoiceID]; n < 0 || released {
		return nil, nil
	}
	u := s.Used[n]
	return []domain.Event{Released{
		CustomerID: u.CustomerID, PeriodStart: u.PeriodStart, InvoiceID: u.InvoiceID, Connections: u.Connections, Passthrough: u.Passthrough,
		At: domain.Instant(c.At),
	}}, nil
}

func (use Use) decide(op string, s State) ([]domain.Event, error) {
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
