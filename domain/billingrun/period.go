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

// PeriodStream names the stream of the closed periods of one connection.
func PeriodStream(connectionID string) string { return "billed_period-" + connectionID }

// PeriodState is the closed periods of a connection, in the order they were closed. The zero PeriodState has none.
type PeriodState struct {
	Closed []PeriodClosed `json:"closed"`
}

// EvolvePeriod returns the state after the event.
func EvolvePeriod(s PeriodState, e domain.Event) PeriodState {
	if e, ok := e.(PeriodClosed); ok {
		s.Closed = append(slices.Clip(s.Closed), e) // an earlier state must not see it
	}
	return s
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
	p.ID("/connection_id", domain.PrefixConnection, e.ConnectionID)
	p.Time("/period_start", c.Period.PeriodStart)
	p.Check(e.PeriodEnd.After(e.PeriodStart), "/period_end", "must be after the start")
	p.Check(e.UsageVersion >= 0, "/usage_version", "must not be negative")
	p.ID("/invoice_id", domain.PrefixInvoice, e.InvoiceID)
	p.ID("/settlement_id", domain.PrefixSettlement, e.SettlementID)
	p.ID("/run_id", domain.PrefixBillingRun, e.RunID)
	p.Time("/at", c.Period.At)
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

// Overlapping returns a closed period that shares time with [start, end), if there is one.
func (s PeriodState) Overlapping(start, end time.Time) (PeriodClosed, bool) {
	i := slices.IndexFunc(s.Closed, func(c PeriodClosed) bool { return c.PeriodStart.Before(end) && start.Before(c.PeriodEnd) })
	if i < 0 {
		return PeriodClosed{}, false
	}
	return s.Closed[i], true
}
