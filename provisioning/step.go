package provisioning

import (
	"fmt"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
)

// StepKind says what a saga is to do next. Every kind but Wait and Done is one append to the log. What a person can do about
// one that fails for good is in [connection.State.Actions].
type StepKind string

// The closed set of steps.
const (
	Wait               StepKind = "wait"                            // for an event, or for Step.Until
	Done               StepKind = "done"                            // nothing is left to do, ever or until something new is asked for
	AcceptOrder        StepKind = connection.StepAcceptOrder        // the listing approves by itself
	Allocate           StepKind = connection.StepAllocate           // ports, VLANs, tag, addresses; an Undo when there are none
	StartTesting       StepKind = connection.StepStartTesting       // the edge node sets it up; nothing but the probe crosses
	RequestProbe       StepKind = connection.StepRequestProbe       // one test packet each way
	RequestCutover     StepKind = connection.StepRequestCutover     // the edge node lets traffic cross
	CompleteOrder      StepKind = "complete_order"                  // the connection is in production
	RequestUndo        StepKind = "request_undo"                    // the edge node takes down what it set up
	RequestTermination StepKind = connection.StepRequestTermination // likewise, of a connection whose order ended as it went into production
	Undo               StepKind = "undo"                            // cancels the connection, releases what it holds, fails the order or ends its cancellation
	FinishDecommission StepKind = "finish_decommission"             // the edge node has taken it down: releases what it holds, ends the order's cancellation
	FailOrder          StepKind = "fail_order"                      // it can't be carried out, and nothing was begun for it
	RequestChange      StepKind = connection.StepRequestChange      // another bandwidth or plan; what a wider one needs is reserved before
	ConfirmChange      StepKind = connection.StepConfirmChange      // of the plan alone: nothing for the edge node to do
	AwaitSuspension    StepKind = connection.StepAwaitSuspension    // the edge node has not closed the gate in time: a person is told
	AwaitResumption    StepKind = connection.StepAwaitResumption    // it has not opened it again in time: likewise
	AwaitRemoval       StepKind = connection.StepAwaitRemoval       // it has not removed the connection in time: likewise
	AbandonChange      StepKind = "abandon_change"                  // the old terms stay in force, the order fails
	StartRebuild       StepKind = connection.StepStartRebuild       // of a move: what another build needs is reserved, or it is given up
	AbandonRebuild     StepKind = "abandon_rebuild"                 // the old build goes on, or comes back
	AwaitRestoration   StepKind = "await_restoration"               // the edge node has not let traffic cross the old build again in time: a person is told
	ReleaseBuild       StepKind = "release_build"                   // nothing is left of a build: what was reserved for it is free
)

// Step is one thing to do.
type Step struct {
	Kind    StepKind
	Reason  string    // with RequestUndo, RequestTermination, Undo, FailOrder, AbandonChange and AbandonRebuild: what the customer is told
	Attempt int       // with RequestProbe: 1 is the first
	Until   time.Time // with Wait: when time alone changes the answer; zero if only an event does
}

// Policy holds the numbers that [Next] decides by.
type Policy struct {
	ProbeAttempts int
	ProbePause    time.Duration // after a failed probe, times the number of those that failed
	ChangeWithin  time.Duration // the edge node applies a change, or it is given up
	EdgeWithin    time.Duration // the edge node suspends, resumes or removes a connection, or a person is told
	StepAttempts  int           // a step that fails as often is tried no more until a person says so
}

// Next says what the saga of an order and its connection is to do now. It is a function of its arguments alone: the
// same states give the same step on every node and at every repetition, and each step changes the states such that
// Next goes on from there. That is all that makes a crash at any point harmless.
//
// A step that a person is needed for is not taken; when something else is to be done by now, as when the customer cancels
// the order, that is.
func Next(o order.State, c connection.State, now time.Time, policy Policy) Step {
	step := next(o, c, now, policy)
	if held(o, c, step.Kind) {
		return Step{Kind: Wait}
	}
	return step
}

// held reports whether a step waits for a person. The end of a connection is a step of every saga that waits for it.
func held(o order.State, c connection.State, kind StepKind) bool {
	t := c.Trouble
	return t != nil && t.State == connection.TroubleOperator && t.Step == string(kind) && (t.OrderID == o.ID || kind == AwaitRemoval || kind == FinishDecommission)
}

func next(o order.State, c connection.State, now time.Time, policy Policy) Step {
	switch o.ItemKind() {
	case order.ItemModify:
		return nextOfChange(o, c, now, policy)
	case order.ItemRemove:
		return nextOfRemoval(o, c, now, policy)
	}
	switch c.State {
	case connection.StateRequested, connection.StateAllocated:
		return beforeTheEdge(o, c, now)
	case connection.StateTesting:
		if o.State != order.StateInProgress {
			return Step{Kind: RequestUndo, Reason: endedReason(o)}
		}
		return underTest(c, now, policy)
	case connection.StateCancelling:
		if c.OnEdge {
			return within(c, AwaitRemoval, *c.EndRequestedAt, now, policy)
		}
		return Step{Kind: Undo, Reason: c.Reason}
	case connection.StateProduction, connection.StateChangePending, connection.StateSuspended,
		connection.StateDecommissionRequested, connection.StateDecommissioned:
		switch {
		case o.State == order.StateInProgress: // even if terminated before the saga came to it: it was delivered
			return Step{Kind: CompleteOrder}
		case c.State == connection.StateProduction && o.State != order.StateCompleted:
			return Step{Kind: RequestTermination, Reason: endedReason(o)}
		case c.SuspensionRequestedAt != nil:
			return within(c, AwaitSuspension, *c.SuspensionRequestedAt, now, policy)
		case c.ResumptionRequestedAt != nil:
			return within(c, AwaitResumption, *c.ResumptionRequestedAt, now, policy)
		case c.State == connection.StateDecommissionRequested:
			return nextOfEnd(c, now, policy)
		case c.Rebuild != nil && c.Change == nil: // else it is the changing order's
			return nextOfRebuild(c, now, policy)
		case c.Leaving != nil:
			return nextOfLeaving(c, now, policy)
		}
		return Step{Kind: Done}
	}
	return Step{Kind: Done} // cancelled, or nothing was ordered
}

// nextOfEnd decides while edge nodes take the connection down.
func nextOfEnd(c connection.State, now time.Time, policy Policy) Step {
	if len(c.Awaited()) > 0 {
		return within(c, AwaitRemoval, c.AwaitedSince(), now, policy)
	}
	return Step{Kind: FinishDecommission}
}

// within waits for the edge node, from when it was asked or a person had it waited for again; then it is the given step.
func within(c connection.State, kind StepKind, asked, now time.Time, policy Policy) Step {
	if a := c.LastAnswer; a != nil && a.Step == string(kind) && a.At.After(asked) {
		asked = a.At
	}
	if by := asked.Add(policy.EdgeWithin); now.Before(by) {
		return Step{Kind: Wait, Until: by}
	}
	return Step{Kind: kind}
}

// beforeTheEdge decides while no edge node knows of the connection, so that giving it up takes one append.
func beforeTheEdge(o order.State, c connection.State, now time.Time) Step {
	switch o.State {
	case order.StateAwaitingApproval:
		if now.Before(o.Deadline) {
			return Step{Kind: Wait, Until: o.Deadline}
		}
		return Step{Kind: Undo, Reason: "nobody approved the order by " + stamp(o.Deadline)}
	case order.StateAcknowledged:
		return Step{Kind: AcceptOrder}
	case order.StateAwaitingProvider:
		who, by := o.Needs()
		switch {
		case now.Before(by):
			return Step{Kind: Wait, Until: by}
		case who == order.NeedsCustomer:
			return Step{Kind: Undo, Reason: "the customer did not answer the provider's question by " + stamp(by)}
		}
		return Step{Kind: Undo, Reason: "the provider did not answer by " + stamp(by)}
	case order.StateInProgress:
		if c.State == connection.StateRequested {
			return Step{Kind: Allocate}
		}
		return Step{Kind: StartTesting}
	case order.StateRejected, order.StateFailed, order.StateCancelling, order.StateCancelled:
		return Step{Kind: Undo, Reason: endedReason(o)}
	}
	return Step{Kind: Done}
}

// underTest decides while the edge node sets the connection up and nothing may cross yet.
func underTest(c connection.State, now time.Time, policy Policy) Step {
	deadline := *c.TestingDeadline
	if !now.Before(deadline) {
		return Step{Kind: RequestUndo, Reason: short(missing(c) + " by " + stamp(deadline))}
	}
	wait := Step{Kind: Wait, Until: deadline}
	switch {
	case c.CutoverRequestedAt != nil, !c.Established(), c.ProbePending():
		return wait
	case c.ProbePassed():
		return Step{Kind: RequestCutover}
	case c.LastProbe == nil:
		return Step{Kind: RequestProbe, Attempt: 1}
	}
	if c.FailedProbes >= policy.ProbeAttempts {
		return Step{Kind: RequestUndo, Reason: short(missing(c) + fmt.Sprintf(" in %d attempts", c.FailedProbes))}
	}
	again := c.LastProbe.ReportedAt.Add(time.Duration(c.FailedProbes) * policy.ProbePause)
	if now.Before(again) {
		return Step{Kind: Wait, Until: earlier(again, deadline)}
	}
	return Step{Kind: RequestProbe, Attempt: c.FailedProbes + 1}
}

// missing says what the connection still lacks for production, in the words of the market.
func missing(c connection.State) string {
	var down []string
	for _, name := range c.SessionNames() {
		party := map[string]string{connection.SideA: "customer", connection.SideZ: "provider"}[name.Side]
		if len(c.Families()) > 1 {
			party += " (" + domain.FamilyName(name.Family) + ")"
		}
		if session, _ := c.Session(name); session.State != connection.SessionEstablished {
			down = append(down, party)
		}
	}
	switch {
	case len(down) > 0:
		return "BGP was not established with the router of the " + strings.Join(down, " and that of the ")
	case c.CutoverRequestedAt != nil:
		return "the edge node did not let traffic cross"
	case c.LastProbe != nil && !c.ProbePending() && c.LastProbe.Detail != "":
		return "no test packet crossed (" + c.LastProbe.Detail + ")"
	}
	return "no test packet crossed"
}

func endedReason(o order.State) string {
	reason := "the order was " + o.State
	switch o.State {
	case order.StateFailed:
		reason = "the order failed"
	case order.StateCancelling:
		reason = "the order was " + order.StateCancelled
	}
	if o.Reason != "" {
		reason += ": " + o.Reason
	}
	return short(reason)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
