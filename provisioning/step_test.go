package provisioning

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
)

func TestNext(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	policy := Policy{ProbeAttempts: 3, ProbePause: 10 * time.Second, ChangeWithin: 30 * time.Second, EdgeWithin: 100 * time.Second}

	// A connection in testing until noon + 120 s, with BGP up, changed by each case.
	onTest := func(change func(c *connection.State)) connection.State {
		deadline := at(120)
		c := connection.State{ID: "con", State: connection.StateTesting, OnEdge: true, TestingDeadline: &deadline,
			Sessions: map[string]connection.Session{"a": {State: "established"}, "z": {State: "established"}}}
		if change != nil {
			change(&c)
		}
		return c
	}
	probed := func(failed int, passed bool, seconds int) func(c *connection.State) {
		return func(c *connection.State) {
			reported := at(seconds)
			c.FailedProbes, c.LastProbe = failed, &connection.Probe{ID: "prb", ReportedAt: &reported, Passed: passed, Detail: "no answer"}
		}
	}
	down := func(sides ...string) func(c *connection.State) {
		return func(c *connection.State) {
			for _, side := range sides {
				c.Sessions[side] = connection.Session{State: "active"}
			}
		}
	}
	both := func(changes ...func(c *connection.State)) func(c *connection.State) {
		return func(c *connection.State) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	cutover := func(c *connection.State) { requested := at(5); c.CutoverRequestedAt = &requested }

	requested, allocated := connection.State{State: connection.StateRequested}, connection.State{State: connection.StateAllocated}
	in := func(state string) order.State { return order.State{State: state, Deadline: at(60), Reason: "why"} }
	asked := in(order.StateAwaitingProvider)
	asked.Questions = []order.Question{{Number: 1, AnswerBy: at(90)}}
	running := in(order.StateInProgress)
	wait := Step{Kind: Wait}
	troubled := func(c connection.State, step, state string) connection.State {
		c.Trouble = &connection.Trouble{State: state, Step: step}
		return c
	}
	removed := Step{Kind: Wait, Until: at(100)} // when it was asked for at 0

	// An order for another quote of a connection of 100 Mbps, and what the connection may be meanwhile.
	modify := func(state string) order.State {
		o := in(state)
		o.ID, o.Item, o.QuoteID = "ord", order.ItemModify, "new"
		return o
	}
	serving := func(change func(c *connection.State)) connection.State {
		c := connection.State{ID: "con", State: connection.StateProduction, OnEdge: true, BandwidthMbps: 100, QuoteID: "old"}
		if change != nil {
			change(&c)
		}
		return c
	}
	pending := func(by string, mbps int) func(c *connection.State) {
		return func(c *connection.State) {
			c.State, c.ChangeOrderID = connection.StateChangePending, by
			c.Change = &connection.Change{OrderID: by, QuoteID: "new", BandwidthMbps: mbps, InPlace: true, RequestedAt: at(0)}
		}
	}
	changed := func(c *connection.State) { c.ChangeOrderID, c.QuoteID = "ord", "new" }
	abandoned := func(c *connection.State) { c.ChangeOrderID = "ord" }
	suspended := func(c *connection.State) { c.State = connection.StateSuspended }
	ending := func(by string, seconds int) func(c *connection.State) {
		return func(c *connection.State) {
			c.Termination = &connection.Termination{OrderID: by, Reason: "moved", EffectiveAt: at(seconds)}
		}
	}
	leaving := func(onEdge bool) func(c *connection.State) {
		return func(c *connection.State) { c.State, c.OnEdge = connection.StateDecommissionRequested, onEdge }
	}
	gone := func(c *connection.State) { c.State, c.OnEdge = connection.StateDecommissioned, false }
	remove := func(state string) order.State { return order.State{ID: "ord", Item: order.ItemRemove, State: state} }
	untilDeadline := Step{Kind: Wait, Until: at(120)}

	for _, c := range []struct {
		name  string
		order order.State
		con   connection.State
		now   int
		want  Step
	}{
		{"nothing was ordered", order.State{}, connection.State{}, 0, Step{Kind: Done}},
		{"a person has time to approve", in(order.StateAwaitingApproval), requested, 59, Step{Kind: Wait, Until: at(60)}},
		{"the person's time is over", in(order.StateAwaitingApproval), requested, 60, Step{Kind: Undo, Reason: "nobody approved the order by 2026-03-01T12:01:00Z"}},
		{"automatic approval", in(order.StateAcknowledged), requested, 0, Step{Kind: AcceptOrder}},
		{"the provider has time", in(order.StateAwaitingProvider), requested, 59, Step{Kind: Wait, Until: at(60)}},
		{"the provider's time is over", in(order.StateAwaitingProvider), requested, 60, Step{Kind: Undo, Reason: "the provider did not answer by 2026-03-01T12:01:00Z"}},
		{"the customer has time", asked, requested, 89, Step{Kind: Wait, Until: at(90)}},
		{"the customer's time is over", asked, requested, 90, Step{Kind: Undo, Reason: "the customer did not answer the provider's question by 2026-03-01T12:01:30Z"}},
		{"being cancelled, nothing reserved", in(order.StateCancelling), requested, 0, Step{Kind: Undo, Reason: "the order was cancelled: why"}},
		{"being cancelled, allocated", in(order.StateCancelling), allocated, 0, Step{Kind: Undo, Reason: "the order was cancelled: why"}},
		{"being cancelled while testing", in(order.StateCancelling), onTest(nil), 0, Step{Kind: RequestUndo, Reason: "the order was cancelled: why"}},
		{"accepted", running, requested, 0, Step{Kind: Allocate}},
		{"allocated", running, allocated, 0, Step{Kind: StartTesting}},
		{"rejected", in(order.StateRejected), requested, 0, Step{Kind: Undo, Reason: "the order was rejected: why"}},
		{"cancelled early", in(order.StateCancelled), requested, 0, Step{Kind: Undo, Reason: "the order was cancelled: why"}},
		{"cancelled when allocated", in(order.StateCancelled), allocated, 0, Step{Kind: Undo, Reason: "the order was cancelled: why"}},
		{"failed when allocated", in(order.StateFailed), allocated, 0, Step{Kind: Undo, Reason: "the order failed: why"}},
		{"cancelled while testing", in(order.StateCancelled), onTest(nil), 0, Step{Kind: RequestUndo, Reason: "the order was cancelled: why"}},

		{"BGP down on the customer's side", running, onTest(down("a")), 0, untilDeadline},
		{"BGP down on the provider's side", running, onTest(down("z")), 0, untilDeadline},
		{"BGP up", running, onTest(nil), 0, Step{Kind: RequestProbe, Attempt: 1}},
		{"probe under way", running, onTest(func(c *connection.State) { c.LastProbe = &connection.Probe{ID: "prb"} }), 0, untilDeadline},
		{"probe failed just now", running, onTest(probed(1, false, 0)), 9, Step{Kind: Wait, Until: at(10)}},
		{"probe failed a while ago", running, onTest(probed(1, false, 0)), 10, Step{Kind: RequestProbe, Attempt: 2}},
		{"two probes failed just now", running, onTest(probed(2, false, 0)), 19, Step{Kind: Wait, Until: at(20)}},
		{"two probes failed a while ago", running, onTest(probed(2, false, 0)), 20, Step{Kind: RequestProbe, Attempt: 3}},
		{"the pause ends after the deadline", running, onTest(probed(2, false, 115)), 116, untilDeadline},
		{"all probes failed", running, onTest(probed(3, false, 0)), 0, Step{Kind: RequestUndo, Reason: "no test packet crossed (no answer) in 3 attempts"}},
		{"probe passed", running, onTest(probed(0, true, 0)), 0, Step{Kind: RequestCutover}},
		{"probe passed at last", running, onTest(probed(3, true, 0)), 0, Step{Kind: RequestCutover}},
		{"probe passed and BGP down since", running, onTest(both(probed(0, true, 0), down("z"))), 0, untilDeadline},
		{"probe failed and BGP down since", running, onTest(both(probed(1, false, 0), down("a"))), 60, untilDeadline},
		{"cutover requested", running, onTest(both(probed(0, true, 0), cutover)), 0, untilDeadline},

		{"deadline, BGP down on one side", running, onTest(down("z")), 120, Step{Kind: RequestUndo, Reason: "BGP was not established with the router of the provider by 2026-03-01T12:02:00Z"}},
		{"deadline, BGP up", running, onTest(nil), 121, Step{Kind: RequestUndo, Reason: "no test packet crossed by 2026-03-01T12:02:00Z"}},
		{"deadline, cutover requested", running, onTest(both(probed(0, true, 0), cutover)), 120, Step{Kind: RequestUndo, Reason: "the edge node did not let traffic cross by 2026-03-01T12:02:00Z"}},

		{"being undone, still on the edge", running, connection.State{State: connection.StateCancelling, OnEdge: true, Reason: "late"}, 0, removed},
		{"being undone, on the edge for too long", running, connection.State{State: connection.StateCancelling, OnEdge: true, Reason: "late"}, 100, Step{Kind: AwaitRemoval}},
		{"a step that a person is needed for", running, troubled(requested, "allocate", "operator"), 0, wait},
		{"a step that is tried again by itself", running, troubled(requested, "allocate", "error"), 0, Step{Kind: Allocate}},
		{"cancelled while a person is needed", in(order.StateCancelling), troubled(requested, "allocate", "operator"), 0, Step{Kind: Undo, Reason: "the order was cancelled: why"}},
		{"being undone, gone from the edge", running, connection.State{State: connection.StateCancelling, EdgeRemoved: true, Reason: "late"}, 0, Step{Kind: Undo, Reason: "late"}},
		{"undone", in(order.StateFailed), connection.State{State: connection.StateCancelled}, 0, Step{Kind: Done}},

		{"in production", running, connection.State{State: connection.StateProduction, OnEdge: true}, 999, Step{Kind: CompleteOrder}},
		{"delivered", in(order.StateCompleted), connection.State{State: connection.StateProduction, OnEdge: true}, 999, Step{Kind: Done}},
		{"cancelled on the way into production", in(order.StateCancelled), connection.State{State: connection.StateProduction, OnEdge: true}, 0, Step{Kind: RequestTermination, Reason: "the order was cancelled: why"}},
		{"being cancelled and in production", in(order.StateCancelling), connection.State{State: connection.StateProduction, OnEdge: true}, 0, Step{Kind: RequestTermination, Reason: "the order was cancelled: why"}},
		{"being cancelled and being taken down", in(order.StateCancelling), connection.State{State: connection.StateDecommissionRequested, OnEdge: true}, 0, removed},
		{"cancelled and being taken down", in(order.StateCancelled), connection.State{State: connection.StateDecommissionRequested, OnEdge: true}, 0, removed},
		{"cancelled and taken down", in(order.StateCancelled), connection.State{State: connection.StateDecommissionRequested, EdgeRemoved: true}, 0, Step{Kind: FinishDecommission}},
		{"terminated before the order was completed", running, connection.State{State: connection.StateDecommissionRequested, OnEdge: true}, 0, Step{Kind: CompleteOrder}},
		{"terminated, still on the edge", in(order.StateCompleted), connection.State{State: connection.StateDecommissionRequested, OnEdge: true}, 0, removed},
		{"terminated, gone from the edge", in(order.StateCompleted), connection.State{State: connection.StateDecommissionRequested, EdgeRemoved: true}, 0, Step{Kind: FinishDecommission}},
		{"decommissioned", in(order.StateCompleted), connection.State{State: connection.StateDecommissioned}, 0, Step{Kind: Done}},

		{"change: a person has time to approve", modify(order.StateAwaitingApproval), serving(nil), 59, Step{Kind: Wait, Until: at(60)}},
		{"change: the person's time is over", modify(order.StateAwaitingApproval), serving(nil), 60, Step{Kind: FailOrder, Reason: "nobody approved the order by 2026-03-01T12:01:00Z"}},
		{"change: automatic approval", modify(order.StateAcknowledged), serving(nil), 0, Step{Kind: AcceptOrder}},
		{"change: the provider has time", modify(order.StateAwaitingProvider), serving(nil), 59, Step{Kind: Wait, Until: at(60)}},
		{"change: the provider's time is over", modify(order.StateAwaitingProvider), serving(nil), 60, Step{Kind: FailOrder, Reason: "the provider did not answer by 2026-03-01T12:01:00Z"}},
		{"change: accepted", modify(order.StateInProgress), serving(nil), 0, Step{Kind: RequestChange}},
		{"change: accepted after another", modify(order.StateInProgress), serving(func(c *connection.State) { c.ChangeOrderID = "other" }), 0, Step{Kind: RequestChange}},
		{"change: accepted during another", modify(order.StateInProgress), serving(pending("other", 300)), 0,
			Step{Kind: FailOrder, Reason: "the connection con is being changed by the order other: wait until that change is in force or given up"}},
		{"change: accepted while suspended", modify(order.StateInProgress), serving(suspended), 0, Step{Kind: FailOrder, Reason: "the connection con is suspended: resume it first"}},
		{"change: the edge has time", modify(order.StateInProgress), serving(pending("ord", 200)), 29, Step{Kind: Wait, Until: at(30)}},
		{"change: the edge's time is over", modify(order.StateInProgress), serving(pending("ord", 200)), 30, Step{Kind: AbandonChange, Reason: "the edge node did not apply the change by 2026-03-01T12:00:30Z"}},
		{"change: of the plan alone", modify(order.StateInProgress), serving(pending("ord", 100)), 0, Step{Kind: ConfirmChange}},
		{"change: cancelled while it is pending", modify(order.StateCancelling), serving(pending("ord", 200)), 0, Step{Kind: AbandonChange, Reason: "the order was cancelled: why"}},
		{"change: the end comes later", modify(order.StateInProgress), serving(both(pending("ord", 200), ending("other", 11))), 10, Step{Kind: Wait, Until: at(30)}},
		{"change: the end comes first", modify(order.StateInProgress), serving(both(pending("ord", 200), ending("other", 10))), 10, Step{Kind: AbandonChange, Reason: "the connection is to have ended by 2026-03-01T12:00:10Z"}},
		{"change: in force", modify(order.StateInProgress), serving(changed), 0, Step{Kind: CompleteOrder}},
		{"change: in force, and ended since", modify(order.StateInProgress), serving(both(changed, leaving(true))), 0, Step{Kind: CompleteOrder}},
		{"change: ended before it was in force", modify(order.StateInProgress), serving(both(abandoned, leaving(true))), 0, Step{Kind: FailOrder, Reason: "the connection is being taken down"}},
		{"change: cancelled before it was asked for", modify(order.StateCancelling), serving(nil), 0, Step{Kind: FailOrder, Reason: "the order was cancelled: why"}},
		{"change: completed", modify(order.StateCompleted), serving(changed), 0, Step{Kind: Done}},
		{"change: rejected", modify(order.StateRejected), serving(nil), 0, Step{Kind: Done}},

		{"removal: its date has not come", remove(order.StateInProgress), serving(ending("ord", 50)), 49, Step{Kind: Wait, Until: at(50)}},
		{"removal: its date has come", remove(order.StateInProgress), serving(ending("ord", 50)), 50, Step{Kind: RequestTermination, Reason: "moved"}},
		{"removal: the date is another order's", remove(order.StateInProgress), serving(ending("other", 50)), 50, Step{Kind: Done}},
		{"removal: suspended when its date comes", remove(order.StateInProgress), serving(both(suspended, ending("ord", 50))), 50, Step{Kind: RequestTermination, Reason: "moved"}},
		{"removal: still on the edge", remove(order.StateInProgress), serving(leaving(true)), 0, removed},
		{"removal: gone from the edge", remove(order.StateInProgress), serving(leaving(false)), 0, Step{Kind: FinishDecommission}},
		{"removal: done", remove(order.StateInProgress), serving(gone), 0, Step{Kind: CompleteOrder}},
		{"removal: completed", remove(order.StateCompleted), serving(gone), 0, Step{Kind: Done}},
		{"removal: taken back", remove(order.StateCancelled), serving(ending("ord", 50)), 50, Step{Kind: Done}},
	} {
		ended := at(0)
		c.con.EndRequestedAt = &ended
		if got := Next(c.order, c.con, at(c.now), policy); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestReasonsFitAnEvent(t *testing.T) {
	t.Parallel()
	o := order.State{State: order.StateCancelled, Reason: strings.Repeat("ü", domain.MaxReason)}
	step := Next(o, connection.State{State: connection.StateRequested}, time.Time{}, Policy{})
	var p domain.Problems
	p.Text("/reason", step.Reason, domain.MaxReason)
	if err := p.Err(""); err != nil {
		t.Error(err)
	}
}
