package connection

import (
	"slices"
	"strings"
	"time"

	"crossbill/domain"
)

// Kinds of trouble, an axis beside the state: a connection in production whose change fails carries traffic and is billed
// all the while, and goes on from the state that it has.
const (
	TroubleError    = "error"    // a step failed, and is tried again by itself
	TroubleOperator = "operator" // it is tried no more: a person is needed
)

// What a person can do about a step that is tried no more.
const (
	ActionRetry    = "retry"    // try it again, as often as the first time; or wait for the edge node once more
	ActionSkip     = "skip"     // go on without it
	ActionRollBack = "rollback" // undo what was done for the order, which fails
)

// Steps of a saga that a person can do more about than to try them again. All others either undo something already, so
// that to give them up would leave it half undone, or only write down what is so.
const (
	StepAcceptOrder        = "accept_order"
	StepAllocate           = "allocate"
	StepStartTesting       = "start_testing"
	StepRequestProbe       = "request_probe"
	StepRequestCutover     = "request_cutover"
	StepRequestChange      = "request_change"
	StepConfirmChange      = "confirm_change"
	StepRequestTermination = "request_termination"
	StepAwaitSuspension    = "await_suspension"
	StepAwaitResumption    = "await_resumption"
	StepAwaitRemoval       = "await_removal"
	StepStartRebuild       = "start_rebuild"
)

// MaxStep bounds the name of a step, in characters.
const MaxStep = 40

// Trouble is a step of a saga that failed, since it first did.
type Trouble struct {
	State       string     `json:"state"`
	OrderID     string     `json:"order_id"` // whose saga it is
	Step        string     `json:"step"`
	Since       time.Time  `json:"since"`
	Attempts    int        `json:"attempts"`                // since the saga came to it, or a person had it tried again
	NextRetryAt *time.Time `json:"next_retry_at,omitempty"` // nil if a person is needed
}

// Answer is what a person last did about a trouble.
type Answer struct {
	Action string    `json:"action"`
	Step   string    `json:"step"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// FailStep is the saga's report that a step failed. A connection has one trouble at a time: while one saga's stands,
// another's is refused by saying nothing, and is reported again when it fails again.
type FailStep struct {
	OrderID     string
	Step        string
	NextRetryAt time.Time // zero: it is tried no more
	At          time.Time
}

// RecoverStep ends a trouble: its step was taken, or is not to be taken any more.
type RecoverStep struct {
	OrderID string
	At      time.Time
}

// RetryStep has a step that is tried no more tried again. It is a person's, as are [SkipStep] and [RollBackStep].
type RetryStep struct {
	Reason string
	At     time.Time
}

// SkipStep goes on without the step. The caller makes sure that the edge nodes of [State.Awaited] are gone, see [ActionSkip].
type SkipStep struct {
	Reason string
	At     time.Time
}

// RollBackStep undoes what was done. The caller fails the trouble's order in the same append, see [State.RollsBack].
type RollBackStep struct {
	Reason string
	At     time.Time
}

// HadTrouble reports whether a step of a saga has ever failed, whatever became of it.
func (s State) HadTrouble() bool { return s.troubledOrderID != "" }

func (FailStep) command()     {}
func (RecoverStep) command()  {}
func (RetryStep) command()    {}
func (SkipStep) command()     {}
func (RollBackStep) command() {}

// StepFailed says that a step of a saga failed. Why is not in it: both parties read it.
type StepFailed struct {
	ConnectionID string     `json:"connection_id"`
	OrderID      string     `json:"order_id"`
	Step         string     `json:"step"`
	Attempts     int        `json:"attempts"`
	NextRetryAt  *time.Time `json:"next_retry_at,omitempty"` // absent if a person is needed
	At           time.Time  `json:"at"`
}

// StepRecovered says that the saga goes on.
type StepRecovered struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Step         string    `json:"step"`
	At           time.Time `json:"at"`
}

// StepRetried says that an operator has the step tried again.
type StepRetried struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Step         string    `json:"step"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// StepSkipped says that an operator has the saga go on without the step.
type StepSkipped struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Step         string    `json:"step"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// StepRolledBack says that an operator has what was done undone.
type StepRolledBack struct {
	ConnectionID string    `json:"connection_id"`
	OrderID      string    `json:"order_id"`
	Step         string    `json:"step"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (StepFailed) EventType() string { return "connection.step_failed" }

// EventType is the name in the log.
func (StepRecovered) EventType() string { return "connection.step_recovered" }

// EventType is the name in the log.
func (StepRetried) EventType() string { return "connection.step_retried" }

// EventType is the name in the log.
func (StepSkipped) EventType() string { return "connection.step_skipped" }

// EventType is the name in the log.
func (StepRolledBack) EventType() string { return "connection.step_rolled_back" }

// Actions lists what a person can do now; nothing while the step is tried by itself.
func (s State) Actions() []string {
	t := s.Trouble
	if t == nil || t.State != TroubleOperator {
		return nil
	}
	switch t.Step {
	case StepAwaitRemoval:
		// The edge node alone knows whether anything is left. One that is gone for good leaves nothing by that.
		return []string{ActionRetry, ActionSkip}
	case StepRequestTermination:
		if s.Termination == nil || s.Termination.OrderID != t.OrderID { // it undoes an order that has ended
			return []string{ActionRetry}
		}
		return []string{ActionRetry, ActionRollBack}
	case StepAcceptOrder, StepAllocate, StepStartTesting, StepRequestProbe, StepRequestCutover, StepRequestChange, StepConfirmChange,
		StepStartRebuild, StepAwaitSuspension, StepAwaitResumption:
		return []string{ActionRetry, ActionRollBack}
	}
	return []string{ActionRetry}
}

// RollsBack returns the order that fails with a rollback of the trouble: "" if none does, as of a suspension or a move.
func (s State) RollsBack() string {
	if s.Trouble == nil || s.Rebuild != nil && s.Change == nil || s.Trouble.Step == StepAwaitSuspension || s.Trouble.Step == StepAwaitResumption {
		return ""
	}
	return s.Trouble.OrderID
}

func (c FailStep) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Text("/step", c.Step, MaxStep)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	e := StepFailed{ConnectionID: s.ID, OrderID: c.OrderID, Step: c.Step, Attempts: 1, At: domain.Instant(c.At)}
	if !c.NextRetryAt.IsZero() {
		next := domain.Instant(c.NextRetryAt)
		e.NextRetryAt = &next
	}
	if t := s.Trouble; t != nil {
		switch {
		case t.State == TroubleOperator, t.OrderID != c.OrderID:
			return nil, nil // a person answers that one first
		case t.NextRetryAt != nil && e.NextRetryAt != nil && t.Step == c.Step && t.NextRetryAt.Equal(*e.NextRetryAt):
			return nil, nil
		case t.Step == c.Step:
			e.Attempts = t.Attempts + 1
		}
	}
	return []domain.Event{e}, nil
}

func (c RecoverStep) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.Trouble == nil || s.Trouble.OrderID != c.OrderID {
		return nil, nil
	}
	return []domain.Event{StepRecovered{ConnectionID: s.ID, OrderID: c.OrderID, Step: s.Trouble.Step, At: domain.Instant(c.At)}}, nil
}

func (c RetryStep) decide(op string, s State) ([]domain.Event, error) {
	t, err := s.answer(op, ActionRetry, c.Reason, c.At)
	if t == nil || err != nil {
		return nil, err
	}
	return []domain.Event{StepRetried{ConnectionID: s.ID, OrderID: t.OrderID, Step: t.Step, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
}

func (c SkipStep) decide(op string, s State) ([]domain.Event, error) {
	t, err := s.answer(op, ActionSkip, c.Reason, c.At)
	if t == nil || err != nil {
		return nil, err
	}
	at := domain.Instant(c.At)
	all := []domain.Event{StepSkipped{ConnectionID: s.ID, OrderID: t.OrderID, Step: t.Step, Reason: c.Reason, At: at}}
	if s.Leaving != nil && s.Leaving.RemovedAt == nil {
		all = append(all, BuildRemoved{ConnectionID: s.ID, EdgeNodeID: s.Leaving.EdgeNodeID, ClosedAt: at, At: at})
	}
	if s.OnEdge && s.pastEdge() {
		closed := at
		if s.BillingTo != nil {
			closed = *s.BillingTo
		}
		all = append(all, EdgeClosed{ConnectionID: s.ID, ClosedAt: closed, At: at})
	}
	return all, nil
}

func (c RollBackStep) decide(op string, s State) ([]domain.Event, error) {
	t, err := s.answer(op, ActionRollBack, c.Reason, c.At)
	if t == nil || err != nil {
		return nil, err
	}
	at := domain.Instant(c.At)
	all := []domain.Event{StepRolledBack{ConnectionID: s.ID, OrderID: t.OrderID, Step: t.Step, Reason: c.Reason, At: at}}
	if t.Step == StepRequestTermination {
		all = append(all, TerminationUnscheduled{ConnectionID: s.ID, OrderID: t.OrderID, At: at})
	}
	return append(all, s.abandoned(c.Reason, at)...), nil
}

// answer returns the trouble that a person answers; nil if that was done before.
func (s State) answer(op, action, reason string, at time.Time) (*Trouble, error) {
	var p domain.Problems
	p.Text("/reason", reason, domain.MaxReason)
	p.Time("/at", at)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	t, possible := s.Trouble, s.Actions()
	switch {
	case slices.Contains(possible, action):
		return t, nil
	case (t == nil || t.State == TroubleError) && s.LastAnswer != nil && s.LastAnswer.Action == action && s.LastAnswer.Reason == reason:
		return nil, nil
	case t == nil:
		return nil, domain.Errorf(domain.Conflict, op, "no step of the connection %s needs a person", s.ID).WithHint("read the connection again")
	case t.State == TroubleError:
		return nil, domain.Errorf(domain.Conflict, op, "the step %s of the connection %s is still tried by itself", t.Step, s.ID).
			WithHint("the next time is at %s", t.NextRetryAt.Format(time.RFC3339))
	case action == ActionSkip:
		return nil, domain.Errorf(domain.Conflict, op, "the step %s can't be skipped: something would be left half-done", t.Step).
			WithHint("what can be done: %s", strings.Join(possible, ", "))
	}
	return nil, domain.Errorf(domain.Conflict, op, "the step %s can't be rolled back: it is of an undoing, or nothing is left to undo", t.Step).
		WithHint("what can be done: %s", strings.Join(possible, ", "))
}

// withTrouble is the part of [Evolve] about trouble.
func (s State) withTrouble(e domain.Event) State {
	switch e := e.(type) {
	case StepFailed:
		t := Trouble{State: TroubleError, OrderID: e.OrderID, Step: e.Step, Since: e.At, Attempts: e.Attempts, NextRetryAt: e.NextRetryAt}
		if e.NextRetryAt == nil {
			t.State = TroubleOperator
		}
		if before := s.Trouble; before != nil && before.OrderID == e.OrderID && before.Step == e.Step {
			t.Since = before.Since
		}
		s.Trouble, s.troubledOrderID = &t, e.OrderID
	case StepRecovered:
		s.Trouble = nil
	case StepRetried:
		again := Trouble{OrderID: e.OrderID, Step: e.Step, Since: e.At}
		if s.Trouble != nil {
			again = *s.Trouble
		}
		again.State, again.Attempts, again.NextRetryAt = TroubleError, 0, &e.At
		s.Trouble, s.LastAnswer = &again, &Answer{ActionRetry, e.Step, e.Reason, e.At}
	case StepSkipped:
		s.Trouble, s.LastAnswer = nil, &Answer{ActionSkip, e.Step, e.Reason, e.At}
	case StepRolledBack:
		s.Trouble, s.LastAnswer = nil, &Answer{ActionRollBack, e.Step, e.Reason, e.At}
		switch e.Step {
		case StepAwaitSuspension:
			s.SuspensionRequestedAt, s.SuspensionReason = nil, ""
		case StepAwaitResumption:
			s.ResumptionRequestedAt = nil
		}
	}
	return s
}
