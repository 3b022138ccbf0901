package billingrun

import (
	"slices"
	"time"

	"crossbill/domain"
)

// PeriodClosed says that a connection is billed for [PeriodStart, PeriodEnd): by which invoice, and with which readings.
//
// It is appended with the invoice, at the exact version at which the connection's closed periods were read. So no two
// runs bill a connection for the same time, however they meet.
type PeriodClosed struct {
	ConnectionID string    `json:"connection_id"`
	PeriodStart  time.Time `json:"period_start"`
	PeriodEnd    time.Time `json:"period_end"`
	UsageVersion int64     `json:"usage_version"` // readings of the period that came after this version of its stream are late
	InvoiceID    string    `json:"invoice_id"`
	SettlementID string    `json:"settlement_id"`
	RunID        string    `json:"run_id"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (PeriodClosed) EventType() string { return "billed_period.closed" }

// PeriodAdjusted says that readings which came after a period was closed are billed: by which invoice, and up to which
// version of the readings' stream.
type PeriodAdjusted struct {
	ConnectionID string    `json:"connection_id"`
	PeriodStart  time.Time `json:"period_start"` // of the closed period
	PeriodEnd    time.Time `json:"period_end"`
	UsageVersion int64     `json:"usage_version"` // readings of the period after this version of their stream are late again
	InvoiceID    string    `json:"invoice_id"`
	SettlementID string    `json:"settlement_id"`
	RunID        string    `json:"run_id"`
	At           time.Time `json:"at"`
}

// PeriodReopened says that the invoice of a period, or of its adjustments, is void: what it billed is not billed.
type PeriodReopened struct {
	ConnectionID string    `json:"connection_id"`
	PeriodStart  time.Time `json:"period_start"`
	PeriodEnd    time.Time `json:"period_end"`
	InvoiceID    string    `json:"invoice_id"` // that is void
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (PeriodAdjusted) EventType() string { return "billed_period.adjusted" }

// EventType is the name in the log.
func (PeriodReopened) EventType() string { return "billed_period.reopened" }

// PeriodStream names the stream of the closed periods of one connection.
func PeriodStream(connectionID string) string { return "billed_period-" + connectionID }

// PeriodState is the closed periods of a connection, in the order they were closed. The zero PeriodState has none.
type PeriodState struct {
	Closed      []PeriodClosed   `json:"closed"`
	Adjustments []PeriodAdjusted `json:"adjustments,omitempty"` // of the closed periods
	Reopened    []PeriodReopened `json:"reopened,omitempty"`    // of void invoices in whose place no other has come yet
}

// EvolvePeriod returns the state after the event.
func EvolvePeriod(s PeriodState, e domain.Event) PeriodState {
	switch e := e.(type) { // an earlier state must not see what is added, nor miss what is taken away
	case PeriodClosed:
		s.Closed = append(slices.Clip(s.Closed), e)
		s.Reopened = s.notReplaced(e.PeriodStart, e.PeriodEnd)
	case PeriodAdjusted:
		s.Adjustments = append(slices.Clip(s.Adjustments), e)
		s.Reopened = s.notReplaced(e.PeriodStart, e.PeriodEnd)
	case PeriodReopened:
		s.Reopened = append(slices.Clip(s.Reopened), e)
		s.Closed = slices.DeleteFunc(slices.Clone(s.Closed), func(c PeriodClosed) bool { return c.InvoiceID == e.InvoiceID })
		s.Adjustments = slices.DeleteFunc(slices.Clone(s.Adjustments), func(a PeriodAdjusted) bool { return a.InvoiceID == e.InvoiceID })
	}
	return s
}

// notReplaced returns what is reopened but for the void invoices that billed a period which is billed now.
func (s PeriodState) notReplaced(start, end time.Time) []PeriodReopened {
	replaced := make(map[string]bool)
	for _, r := range s.Reopened {
		replaced[r.InvoiceID] = replaced[r.InvoiceID] || r.PeriodStart.Equal(start) && r.PeriodEnd.Equal(end)
	}
	var rest []PeriodReopened
	for _, r := range s.Reopened {
		if !replaced[r.InvoiceID] {
			rest = append(rest, r)
		}
	}
	return rest
}

// Replaces returns the newest void invoice that billed one of the periods and in whose place no other has come yet; ok is
// false if there is none. The periods are the starts and ends.
func (s PeriodState) Replaces(periods ...[2]time.Time) (newest PeriodReopened, ok bool) {
	for _, r := range s.Reopened {
		if slices.ContainsFunc(periods, func(p [2]time.Time) bool { return r.PeriodStart.Equal(p[0]) && r.PeriodEnd.Equal(p[1]) }) {
			newest, ok = r, true
		}
	}
	return newest, ok
}

// Billed returns up to which version of the readings' stream a closed period is billed, and by which invoices, the first
// of them the one that closed it.
func (s PeriodState) Billed(c PeriodClosed) (usageVersion int64, invoices []string) {
	usageVersion, invoices = c.UsageVersion, []string{c.InvoiceID}
	for _, a := range s.Adjustments {
		if a.PeriodStart.Equal(c.PeriodStart) && a.PeriodEnd.Equal(c.PeriodEnd) {
			usageVersion, invoices = max(usageVersion, a.UsageVersion), append(invoices, a.InvoiceID)
		}
	}
	return usageVersion, invoices
}

// AdjustPeriod records that late readings of a closed period are billed.
type AdjustPeriod struct {
	Adjustment PeriodAdjusted
}

// DecideAdjustment returns the events that a command makes of a state. The same adjustment again does nothing. It returns an
// Invalid error for wrong fields, and a Conflict for a period that is not closed or is billed up to that version already.
func DecideAdjustment(s PeriodState, c AdjustPeriod) ([]domain.Event, error) {
	const op = "billingrun.DecideAdjustment"
	e := c.Adjustment
	e.PeriodStart, e.PeriodEnd, e.At = domain.Instant(e.PeriodStart), domain.Instant(e.PeriodEnd), domain.Instant(e.At)
	if slices.Contains(s.Adjustments, e) {
		return nil, nil
	}
	var p domain.Problems
	closing := PeriodClosed(e)
	if closing.SettlementID == "" { // only the fee is adjusted
		closing.SettlementID = domain.DeriveID(domain.PrefixSettlement, e.PeriodStart)
	}
	checkClose(&p, closing)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	closed, ok := s.Overlapping(e.PeriodStart, e.PeriodEnd)
	if !ok || !closed.PeriodStart.Equal(e.PeriodStart) || !closed.PeriodEnd.Equal(e.PeriodEnd) {
		return nil, domain.Errorf(domain.Conflict, op, "%s is not billed for %s to %s: there is nothing to adjust", e.ConnectionID,
			e.PeriodStart.Format(time.RFC3339), e.PeriodEnd.Format(time.RFC3339))
	}
	if billed, _ := s.Billed(closed); e.UsageVersion <= billed {
		return nil, domain.Errorf(domain.Conflict, op, "%s is billed up to version %d of its readings already", e.ConnectionID, billed)
	}
	return []domain.Event{e}, nil
}

// Reopen takes back what a void invoice closed and adjusted.
type Reopen struct {
	InvoiceID string
	At        time.Time
}

// DecideReopening returns the events that a command makes of a state: one for each period that the invoice closed or
// adjusted, none for an invoice that did neither. It returns a Conflict where a later invoice adjusted what this one
// closed: that one is to be voided first.
func DecideReopening(s PeriodState, c Reopen) ([]domain.Event, error) {
	const op = "billingrun.DecideReopening"
	var all []domain.Event
	add := func(id string, start, end time.Time) {
		all = append(all, PeriodReopened{ConnectionID: id, PeriodStart: start, PeriodEnd: end, InvoiceID: c.InvoiceID, At: domain.Instant(c.At)})
	}
	for _, closed := range s.Closed {
		if closed.InvoiceID != c.InvoiceID {
			continue
		}
		if _, by := s.Billed(closed); by[len(by)-1] != c.InvoiceID {
			return nil, domain.Errorf(domain.Conflict, op, "invoice %s adjusts what this one billed of %s", by[len(by)-1], closed.ConnectionID).
				WithHint("void that one first, or correct this one with a credit note")
		}
		add(closed.ConnectionID, closed.PeriodStart, closed.PeriodEnd)
	}
	for _, a := range s.Adjustments {
		if a.InvoiceID == c.InvoiceID {
			add(a.ConnectionID, a.PeriodStart, a.PeriodEnd)
		}
	}
	return all, nil
}

// ClosePeriod closes one period of a connection.
type ClosePeriod struct {
	Period PeriodClosed
}

// DecidePeriod returns the events that a command makes of a state; it is Decide for [PeriodStream]. The same period of
// the same invoice again does nothing. It returns an Invalid error for wrong fields and a Conflict for a period that
// shares time with a closed one.
func DecidePeriod(s PeriodState, c ClosePeriod) ([]domain.Event, error) {
	const op = "billingrun.DecidePeriod"
	e := c.Period
	e.PeriodStart, e.PeriodEnd, e.At = domain.Instant(e.PeriodStart), domain.Instant(e.PeriodEnd), domain.Instant(e.At)
	var p domain.Problems
	checkClose(&p, e)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if other, overlaps := s.Overlapping(e.PeriodStart, e.PeriodEnd); overlaps {
		if other.InvoiceID == e.InvoiceID && other.PeriodStart.Equal(e.PeriodStart) && other.PeriodEnd.Equal(e.PeriodEnd) {
			return nil, nil
		}
		return nil, domain.Errorf(domain.Conflict, op, "%s is billed for %s to %s by %s already", e.ConnectionID,
			other.PeriodStart.Format(time.RFC3339), other.PeriodEnd.Format(time.RFC3339), other.InvoiceID).
			WithHint("choose a period that shares no time with it")
	}
	return []domain.Event{e}, nil
}

func checkClose(p *domain.Problems, e PeriodClosed) {
	p.ID("/connection_id", domain.PrefixConnection, e.ConnectionID)
	p.Time("/period_start", e.PeriodStart)
	p.Check(e.PeriodEnd.After(e.PeriodStart), "/period_end", "must be after the start")
	p.Check(e.UsageVersion >= 0, "/usage_version", "must not be negative")
	p.ID("/invoice_id", domain.PrefixInvoice, e.InvoiceID)
	p.ID("/settlement_id", domain.PrefixSettlement, e.SettlementID)
	p.ID("/run_id", domain.PrefixBillingRun, e.RunID)
	p.Time("/at", e.At)
}

// Overlapping returns a closed period that shares time with [start, end), if there is one.
func (s PeriodState) Overlapping(start, end time.Time) (PeriodClosed, bool) {
	i := slices.IndexFunc(s.Closed, func(c PeriodClosed) bool { return c.PeriodStart.Before(end) && start.Before(c.PeriodEnd) })
	if i < 0 {
		return PeriodClosed{}, false
	}
	return s.Closed[i], true
}
