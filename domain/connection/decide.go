package connection

import (
	"strings"
	"time"

	"crossbill/domain"
)

// Decide returns the events that a command makes of a state.
//
// A step that was taken already does nothing when it says the same again, whatever the connection has come to since, so
// that every step of a saga can be repeated. What an edge node reports twice, or reports of a connection that is past
// caring, does nothing either: an agent repeats itself, and must never be stuck on an answer.
//
// It returns an Invalid error for wrong fields; NotFound for a connection that does not exist, or a report by an edge node
// that it is not on; a Conflict for one whose
// state does not allow the command, or where the step was taken with other content.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "connection.Decide"
	if c, ok := c.(Request); ok {
		return c.decide(op, s)
	}
	if s.ID == "" {
		return nil, domain.Missing(op, "connection")
	}
	switch c := c.(type) {
	case Allocate:
		return c.decide(op, s)
	case StartTesting:
		return c.decide(op, s)
	case ReportSession:
		return s.report(op, c.EdgeNodeID, c)
	case RequestProbe:
		return c.decide(op, s)
	case ReportProbe:
		return s.report(op, c.EdgeNodeID, c)
	case RequestCutover:
		return c.decide(op, s)
	case Activate:
		return s.report(op, c.EdgeNodeID, c)
	case RequestMove:
		return c.decide(op, s)
	case StartRebuild:
		return c.decide(op, s)
	case ReportStopped:
		return s.report(op, c.EdgeNodeID, c)
	case ReportRestored:
		return s.report(op, c.EdgeNodeID, c)
	case AbandonRebuild:
		return c.decide(op, s)
	case ReleaseBuild:
		return c.decide(op, s)
	case RequestChange:
		return c.decide(op, s)
	case ReportBandwidth:
		return s.report(op, c.EdgeNodeID, c)
	case ConfirmChange:
		return c.decide(op, s)
	case AbandonChange:
		return c.decide(op, s)
	case RequestSuspension:
		return c.decide(op, s)
	case ReportSuspended:
		return s.report(op, c.EdgeNodeID, c)
	case RequestResumption:
		return c.decide(op, s)
	case ReportResumed:
		return s.report(op, c.EdgeNodeID, c)
	case ScheduleTermination:
		return c.decide(op, s)
	case UnscheduleTermination:
		return c.decide(op, s)
	case ConfigureSession:
		return c.decide(op, s)
	case SetSecret:
		return c.decide(op, s)
	case RemoveSecret:
		return c.decide(op, s)
	case ReportMessage:
		return s.report(op, c.EdgeNodeID, c)
	case RequestDecommission:
		return c.decide(op, s)
	case CloseEdge:
		return s.report(op, c.EdgeNodeID, c)
	case Decommission:
		return s.end(op, StateDecommissioned, StateDecommissionRequested, c.At)
	case FailStep:
		return c.decide(op, s)
	case RecoverStep:
		return c.decide(op, s)
	case RetryStep:
		return c.decide(op, s)
	case SkipStep:
		return c.decide(op, s)
	case RollBackStep:
		return c.decide(op, s)
	case RequestCancellation:
		return c.decide(op, s)
	case Cancel:
		return s.end(op, StateCancelled, StateCancelling, c.At)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Request) decide(op string, s State) ([]domain.Event, error) {
	if err := c.check(op); err != nil {
		return nil, err
	}
	if s.ID == "" {
		return []domain.Event{c.event()}, nil
	}
	same := s.ID == c.ConnectionID && s.OrderID == c.OrderID && s.QuoteID == c.QuoteID && s.CustomerID == c.CustomerID &&
		s.ProviderID == c.ProviderID && s.ListingID == c.ListingID && s.ListingVersion == c.ListingVersion &&
		s.BandwidthMbps == c.BandwidthMbps && s.CustomerPortID == c.CustomerPortID && s.ProviderPortID == c.ProviderPortID &&
		s.CustomerBGP.Equal(c.CustomerBGP) && s.ProviderBGP.Equal(c.ProviderBGP) && s.BillingAccountID == c.BillingAccountID
	if !same {
		return nil, domain.Exists(op, "connection", s.ID)
	}
	return nil, nil
}

func (c StartTesting) decide(op string, s State) ([]domain.Event, error) {
	deadline := domain.Instant(c.Deadline)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/deadline", c.Deadline)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.TestingDeadline != nil && s.TestingDeadline.Equal(deadline):
		return nil, nil
	case s.TestingDeadline != nil:
		return nil, domain.Differs(op, "connection", s.ID, "testing deadline")
	case s.State == StateRequested:
		return nil, s.refuse(op).WithHint("allocate it first")
	case s.State != StateAllocated:
		return nil, s.refuse(op)
	}
	p.Check(deadline.After(c.At) && !deadline.After(c.At.Add(MaxTesting)), "/deadline", "must be in the future, by at most %s", MaxTesting)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{TestingStarted{ConnectionID: s.ID, Deadline: deadline, At: domain.Instant(c.At)}}, nil
}

func (c RequestProbe) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/probe_id", domain.PrefixProbe, c.ProbeID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	rebuild := s.rebuilding()
	if rebuild {
		s = s.UnderTest()
	}
	switch {
	case s.LastProbe != nil && s.LastProbe.ID == c.ProbeID:
		return nil, nil
	case s.State != StateTesting && !rebuild:
		return nil, s.refuse(op).WithHint("a connection is probed while it is testing")
	case s.ProbePending():
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s has a probe under way, %s", s.ID, s.LastProbe.ID).
			WithHint("wait for its report")
	case s.ProbePassed():
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s has passed its probe", s.ID).WithHint("request the cutover")
	case !s.Established():
		return nil, s.needsSessions(op)
	}
	return []domain.Event{ProbeRequested{ConnectionID: s.ID, ProbeID: c.ProbeID, At: domain.Instant(c.At), Rebuild: rebuild}}, nil
}

func (c RequestCutover) decide(op string, s State) ([]domain.Event, error) {
	rebuild := s.rebuilding()
	if rebuild {
		s = s.UnderTest()
	}
	switch {
	case s.CutoverRequestedAt != nil:
		return nil, nil
	case s.State != StateTesting && !rebuild:
		return nil, s.refuse(op).WithHint("the gate is opened after testing")
	case !s.ProbePassed():
		return nil, domain.Errorf(domain.Conflict, op, "no probe of the connection %s has passed", s.ID).WithHint("request a probe")
	case !s.Established():
		return nil, s.needsSessions(op)
	}
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{CutoverRequested{ConnectionID: s.ID, At: domain.Instant(c.At), Rebuild: rebuild}}, nil
}

func (c RequestCancellation) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch s.State {
	case StateRequested, StateAllocated, StateTesting:
		return []domain.Event{CancellationRequested{ConnectionID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
	case StateCancelling, StateCancelled:
		if s.Reason == c.Reason {
			return nil, nil
		}
		return nil, domain.Differs(op, "connection", s.ID, "reason of its cancellation")
	case StateProduction, StateChangePending, StateSuspended:
		return nil, s.refuse(op).WithHint("terminate it instead")
	}
	return nil, s.refuse(op)
}

// end decides the last step: to the final state, from the state that waits for the edge node to have nothing left.
func (s State) end(op, to, from string, at time.Time) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", at)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.State == to:
		return nil, nil
	case s.State != from:
		return nil, s.refuse(op)
	case len(s.Awaited()) > 0:
		return nil, domain.Errorf(domain.Conflict, op, "the edge node %s has not removed the connection %s yet", s.Awaited()[0], s.ID).
			WithHint("wait for its report")
	case to == StateCancelled:
		return []domain.Event{Cancelled{ConnectionID: s.ID, Reason: s.Reason, At: domain.Instant(at)}}, nil
	}
	return []domain.Event{Decommissioned{ConnectionID: s.ID, ClosedAt: *s.EdgeClosedAt, At: domain.Instant(at)}}, nil
}

// refuse returns the Conflict for a command that the state does not allow.
func (s State) refuse(op string) *domain.Error {
	e := domain.InState(op, "connection", s.ID, s.State)
	if s.Final() {
		return e.WithHint("order a new connection")
	}
	return e.WithHint("read the connection again")
}

// needsSessions returns the Conflict for a step that needs BGP on both sides, naming the sessions that are missing.
func (s State) needsSessions(op string) error {
	waiting := make([]string, 0, 4)
	for _, name := range s.notEstablished() {
		waiting = append(waiting, name.Side+" ("+domain.FamilyName(name.Family)+")")
	}
	return domain.Errorf(domain.Conflict, op, "BGP of the connection %s is not established on side %s", s.ID, strings.Join(waiting, " and ")).
		WithHint("configure the router as the connection's attachment says")
}
