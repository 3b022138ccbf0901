package connection

import (
	"time"

	"crossbill/domain"
)

func (c ScheduleTermination) decide(op string, s State) ([]domain.Event, error) {
	at, effective := domain.Instant(c.At), domain.Instant(c.EffectiveAt)
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	p.Time("/effective_at", c.EffectiveAt)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.Termination != nil && *s.Termination == (Termination{c.OrderID, c.Reason, effective}):
		return nil, nil
	case s.Termination != nil:
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s is to be terminated at %s already", s.ID, s.Termination.EffectiveAt.Format(time.RFC3339)).
			WithHint("take that back first, or terminate it now")
	case !s.delivered():
		return nil, s.notDelivered(op)
	}
	p.Check(effective.After(at) && !effective.After(at.Add(MaxNotice)), "/effective_at", "must be in the future, by at most %d days", MaxNotice/(24*time.Hour))
	p.Check(effective.After(s.Spans[len(s.Spans)-1].From), "/effective_at", "must be after the connection last changed")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{TerminationScheduled{ConnectionID: s.ID, OrderID: c.OrderID, Reason: c.Reason, EffectiveAt: effective, At: at}}, nil
}

func (c UnscheduleTermination) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.Termination == nil && s.TerminationOrderID == c.OrderID && s.delivered():
		return nil, nil // it was taken back
	case s.Termination == nil || s.Termination.OrderID != c.OrderID:
		return nil, domain.Errorf(domain.Conflict, op, "no such termination of the connection %s is scheduled", s.ID).WithHint("read the connection again")
	}
	return []domain.Event{TerminationUnscheduled{ConnectionID: s.ID, OrderID: c.OrderID, At: domain.Instant(c.At)}}, nil
}

func (c RequestDecommission) decide(op string, s State) ([]domain.Event, error) {
	at, effective := domain.Instant(c.At), domain.Instant(c.EffectiveAt)
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if c.OrderID != "" {
		p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.BillingFrom != nil && (c.EffectiveAt.IsZero() || effective.Equal(at)) {
		// The start is the edge node's clock, which may be ahead: then nothing was billed, and never less than nothing.
		effective = latest(at, s.Spans[len(s.Spans)-1].From)
	}
	switch {
	case s.BillingTo != nil: // a decommission was requested, whatever came of it since
		if s.Reason == c.Reason && (c.EffectiveAt.IsZero() || effective.Equal(*s.BillingTo)) {
			return nil, nil
		}
		return nil, domain.Differs(op, "connection", s.ID, "decommission request")
	case !s.delivered():
		return nil, s.notDelivered(op)
	}
	// A time that was scheduled stands however late the platform comes to it.
	scheduled := s.Termination != nil && effective.Equal(s.Termination.EffectiveAt)
	p.Check(!effective.After(latest(at, s.Spans[len(s.Spans)-1].From)), "/effective_at", "must not be in the future")
	p.Check(scheduled || !effective.Before(at.Add(-MaxBackdating)), "/effective_at", "must not be more than %s ago", MaxBackdating)
	p.Check(!effective.Before(*s.BillingFrom), "/effective_at", "must not be before billing began, %s", s.BillingFrom.Format(time.RFC3339Nano))
	p.Check(effective.Before(*s.BillingFrom) || !effective.Before(s.Spans[len(s.Spans)-1].From), "/effective_at", "must not be before the connection last changed")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{DecommissionRequested{ConnectionID: s.ID, Reason: c.Reason, EffectiveAt: effective, At: at, OrderID: c.OrderID}}, nil
}

// delivered reports whether the connection is in the customer's hands: it was in production, and nobody has ended it.
func (s State) delivered() bool {
	switch s.State {
	case StateProduction, StateChangePending, StateSuspended:
		return true
	}
	return false
}

// notDelivered returns the Conflict for what can only be done to a connection that is in the customer's hands.
func (s State) notDelivered(op string) *domain.Error {
	if s.pastEdge() {
		return s.refuse(op)
	}
	return s.refuse(op).WithHint("it is not in production: cancel it instead")
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
