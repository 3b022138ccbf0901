package connection

import (
	"time"

	"crossbill/domain"
)

func (c RequestSuspension) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.ResumptionRequestedAt != nil:
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s is being resumed", s.ID).WithHint("suspend it again when it is in production")
	case s.SuspensionRequestedAt != nil, s.State == StateSuspended:
		return nil, nil
	case s.State == StateChangePending:
		return nil, s.movable(op)
	case s.State != StateProduction:
		return nil, s.refuse(op).WithHint("a connection is suspended while it is in production")
	}
	return []domain.Event{SuspensionRequested{ConnectionID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
}

func (c RequestResumption) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.ResumptionRequestedAt != nil:
		return nil, nil
	case s.SuspensionRequestedAt != nil:
		return nil, domain.Errorf(domain.Conflict, op, "the edge node has not closed the gate of the connection %s yet", s.ID).
			WithHint("resume it when it is suspended")
	case s.State != StateSuspended:
		return nil, s.refuse(op).WithHint("only what is suspended is resumed")
	}
	return []domain.Event{ResumptionRequested{ConnectionID: s.ID, At: domain.Instant(c.At)}}, nil
}

func (c ReportSuspended) decide(op string, s State) ([]domain.Event, error) {
	since := domain.Instant(c.SuspendedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/suspended_at", c.SuspendedAt)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	last := s.lastSuspension()
	switch {
	case s.pastEdge(), s.State == StateSuspended:
		return nil, nil // known, or too late to matter
	case last != nil && !since.After(*last.To):
		return nil, nil // of the suspension before
	case s.SuspensionRequestedAt == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s was not to be suspended", s.ID).
			WithHint("the edge node must be brought to its desired state")
	}
	p.Check(!since.After(c.At.Add(domain.MaxClockSkew)), "/suspended_at", "must not be in the future")
	p.Check(!since.Before(s.SuspensionRequestedAt.Add(-domain.MaxClockSkew)), "/suspended_at", "must not be before the suspension was requested")
	p.Check(!since.Before(*s.BillingFrom), "/suspended_at", "must not be before the gate was opened")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Suspended{ConnectionID: s.ID, At: since}}, nil
}

func (c ReportResumed) decide(op string, s State) ([]domain.Event, error) {
	since := domain.Instant(c.ResumedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/resumed_at", c.ResumedAt)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	last := s.lastSuspension()
	switch {
	case s.pastEdge(), last == nil:
		return nil, nil // there was no suspension to be over
	case last.To != nil || !since.After(last.From):
		return nil, nil // known, or of the suspension before
	case s.ResumptionRequestedAt == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the gate of the connection %s was not to be opened", s.ID).
			WithHint("the edge node must be brought to its desired state")
	}
	p.Check(!since.After(c.At.Add(domain.MaxClockSkew)), "/resumed_at", "must not be in the future")
	p.Check(!since.Before(s.ResumptionRequestedAt.Add(-domain.MaxClockSkew)), "/resumed_at", "must not be before the resumption was requested")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Resumed{ConnectionID: s.ID, At: since}}, nil
}

// lastSuspension is the one that lasts or, if none does, the one before; nil if there never was one.
func (s State) lastSuspension() *Suspension {
	if len(s.Suspensions) == 0 {
		return nil
	}
	return &s.Suspensions[len(s.Suspensions)-1]
}

// SuspendedSince returns since when the gate is closed, or nil.
func (s State) SuspendedSince() *time.Time {
	if last := s.lastSuspension(); s.State == StateSuspended && last != nil {
		return &last.From
	}
	return nil
}
