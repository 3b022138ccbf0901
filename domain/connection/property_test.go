package connection

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// table is the state machine, written down apart from the code: the state each event leads to from each state. An event
// that is missing in a state must not happen in it.
var table = map[string]map[string]string{
	"":             {"connection.requested": StateRequested},
	StateRequested: {"connection.allocated": StateAllocated, "connection.cancellation_requested": StateCancelling},
	StateAllocated: {"connection.testing_started": StateTesting, "connection.cancellation_requested": StateCancelling},
	StateTesting: {
		"bgp_session.changed": StateTesting, "connection.probe_requested": StateTesting, "connection.probed": StateTesting,
		"connection.cutover_requested": StateTesting, "connection.activated": StateProduction,
		"connection.cancellation_requested": StateCancelling,
	},
	StateProduction: {
		"bgp_session.changed": StateProduction, "connection.change_requested": StateChangePending,
		"connection.suspension_requested": StateProduction, "connection.suspended": StateSuspended, "connection.move_requested": StateChangePending,
		"connection.decommission_requested": StateDecommissionRequested,
		"connection.termination_scheduled":  StateProduction, "connection.termination_unscheduled": StateProduction,
	},
	StateChangePending: {
		"bgp_session.changed": StateChangePending, "connection.changed": StateProduction, "connection.change_abandoned": StateProduction,
		"connection.rebuild_started": StateChangePending, "connection.traffic_stopped": StateChangePending, "connection.rebuilt": StateChangePending,
		"connection.rebuild_abandoned": StateChangePending, "connection.traffic_restored": StateChangePending,
		"connection.probe_requested": StateChangePending, "connection.probed": StateChangePending, "connection.cutover_requested": StateChangePending,
		"connection.decommission_requested": StateDecommissionRequested,
		"connection.termination_scheduled":  StateChangePending, "connection.termination_unscheduled": StateChangePending,
	},
	StateSuspended: {
		"bgp_session.changed": StateSuspended, "connection.resumption_requested": StateSuspended, "connection.resumed": StateProduction,
		"connection.decommission_requested": StateDecommissionRequested,
		"connection.termination_scheduled":  StateSuspended, "connection.termination_unscheduled": StateSuspended,
	},
	StateDecommissionRequested: {
		"bgp_session.changed": StateDecommissionRequested, "connection.edge_closed": StateDecommissionRequested,
		"connection.decommissioned": StateDecommissioned, "connection.message_changed": StateDecommissionRequested,
	},
	StateDecommissioned: {},
	StateCancelling: {
		"bgp_session.changed": StateCancelling, "connection.edge_closed": StateCancelling, "connection.cancelled": StateCancelled,
		"connection.message_changed": StateCancelling,
	},
	StateCancelled: {},
}

// asides happen to a connection that has sessions, and lead nowhere.
var asides = map[string][]string{
	"bgp_session.configured":     {StateAllocated, StateTesting, StateProduction, StateChangePending, StateSuspended},
	"bgp_session.secret_set":     {StateAllocated, StateTesting, StateProduction, StateChangePending, StateSuspended},
	"bgp_session.secret_removed": {StateAllocated, StateTesting, StateProduction, StateChangePending, StateSuspended},
	"connection.message_changed": {StateTesting, StateProduction, StateChangePending, StateSuspended},
}

// settles are the ends of a rebuild, of which a move leads back to production: a change is ended by an event of its own.
var settles = []string{"connection.rebuilt", "connection.rebuild_abandoned", "connection.traffic_restored"}

// troubles come and go in every state that has a next one, and lead nowhere.
var troubles = []string{"connection.step_failed", "connection.step_recovered", "connection.step_retried", "connection.step_rolled_back"}

func init() {
	for state := range table {
		for _, event := range troubles {
			if state != "" {
				table[state][event] = state
			}
		}
	}
	for _, state := range []string{StateCancelling, StateDecommissionRequested, StateProduction, StateChangePending, StateSuspended} {
		table[state]["connection.step_skipped"] = state
	}
	for _, state := range []string{StateProduction, StateChangePending, StateSuspended, StateDecommissionRequested} {
		table[state]["connection.build_removed"], table[state]["connection.build_released"] = state, state
	}
	for event, states := range asides {
		for _, state := range states {
			table[state][event] = state
		}
	}
}

// walk is one random life.
type walk struct {
	t       *testing.T
	seed    uint64
	state   State
	history []domain.Event
	happens map[string]int // events by type
}

// Random commands, in an order that mostly makes sense and often does not: the connection never leaves the table, billing
// starts and stops at most once and in this order, a step repeated at any later time does nothing, and the history reads
// back to the same state.
func TestRandomCommands(t *testing.T) {
	t.Parallel()
	ends, happened := map[string]int{}, map[string]int{}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 11))
		w := walk{t: t, seed: seed, happens: map[string]int{}}
		for second := range 120 {
			w.do(randomCommand(rng, w.state, second))
		}
		ends[w.state.State]++
		for e, n := range w.happens {
			happened[e] += n
		}
		scenario.CheckReplay(t, Evolve, w.history...)
	}
	for _, e := range Events() { // walks that never get anywhere prove nothing
		if happened[e.EventType()] < 50 {
			t.Errorf("%s happened %d times", e.EventType(), happened[e.EventType()])
		}
	}
	if ends[StateDecommissioned] < 50 || ends[StateCancelled] < 50 {
		t.Errorf("the walks ended %v", ends)
	}
}

func (w *walk) do(c Command) {
	w.t.Helper()
	before := w.state
	sessions := maps.Clone(before.Sessions)
	events, err := Decide(w.state, c)
	if err != nil {
		if events != nil || domain.CodeOf(err) == domain.Internal {
			w.t.Fatalf("seed %d: %T on %q gave %v and %v", w.seed, c, before.State, events, err)
		}
		return
	}
	for _, e := range events {
		from := w.state.State
		want, ok := table[from][e.EventType()]
		w.state = Evolve(w.state, e)
		w.history = append(w.history, e)
		w.happens[e.EventType()]++
		if slices.Contains(settles, e.EventType()) && w.state.Change == nil && w.state.Rebuild == nil {
			want = StateProduction
		}
		if !ok || w.state.State != want {
			w.t.Fatalf("seed %d: %s took the connection from %q to %q", w.seed, e.EventType(), from, w.state.State)
		}
	}
	if !maps.Equal(before.Sessions, sessions) {
		w.t.Fatalf("seed %d: %T changed the state before it", w.seed, c)
	}
	w.checkBilling(before)
	w.checkSold()
	w.checkEdge()
	w.checkRebuild()
	w.checkGates(before, events)
	w.checkTrouble(before)
	if again, err := Decide(w.state, c); err != nil || again != nil {
		w.t.Fatalf("seed %d: %T again on %q gave %v and %v", w.seed, c, w.state.State, again, err)
	}
}

func (w *walk) checkBilling(before State) {
	w.t.Helper()
	s := w.state
	fail := func(what string) { w.t.Fatalf("seed %d: %s: %+v", w.seed, what, s) }
	switch s.Billing {
	case BillingNone, "":
		if s.BillingFrom != nil || s.BillingTo != nil {
			fail("billed without accruing")
		}
	case BillingAccruing:
		if s.State != StateProduction && s.State != StateChangePending && s.State != StateSuspended || s.BillingFrom == nil || s.BillingTo != nil {
			fail("accrues outside production")
		}
	case BillingStopped:
		if s.BillingFrom == nil || s.BillingTo == nil || s.BillingTo.Before(*s.BillingFrom) {
			fail("stopped before it started")
		}
	}
	if (s.BillingFrom == nil) != (len(s.Spans) == 0) || s.BillingFrom != nil && !s.Spans[0].From.Equal(*s.BillingFrom) {
		fail("what is sold does not begin with billing")
	}
	if before.BillingFrom != nil && !s.BillingFrom.Equal(*before.BillingFrom) || before.BillingTo != nil && !s.BillingTo.Equal(*before.BillingTo) {
		fail("the billed time moved")
	}
	if len(s.Spans) != w.happens["connection.activated"]+w.happens["connection.changed"] || len(s.Suspensions) != w.happens["connection.suspended"] {
		fail("what is billed is not what happened")
	}
	if w.happens["connection.activated"] > 1 || w.happens["connection.decommission_requested"] > 1 {
		fail("billing started or stopped twice")
	}
}

// checkSold holds what is billed to a partition of the billed time: every instant of it is in exactly one span, and each
// span in the suspensions or between them, with none twice.
func (w *walk) checkSold() {
	w.t.Helper()
	s := w.state
	if s.BillingFrom == nil {
		return
	}
	end := scenario.After(1 << 20)
	if s.BillingTo != nil {
		end = *s.BillingTo
	}
	billed, from := time.Duration(0), *s.BillingFrom
	for i, span := range s.Spans {
		to := end
		if i+1 < len(s.Spans) {
			to = s.Spans[i+1].From
		}
		if !span.From.Equal(from) || to.Before(span.From) || i+1 < len(s.Spans) && !to.After(span.From) {
			w.t.Fatalf("seed %d: span %d is from %s to %s after %s: %+v", w.seed, i, span.From, to, from, s.Spans)
		}
		billed, from = billed+to.Sub(span.From), to
	}
	if billed != end.Sub(*s.BillingFrom) {
		w.t.Fatalf("seed %d: %s are sold of %s", w.seed, billed, end.Sub(*s.BillingFrom))
	}
	open := *s.BillingFrom // since when the gate is, for the last time before
	for i, closed := range s.Suspensions {
		last := i == len(s.Suspensions)-1
		if closed.From.Before(open) || closed.To == nil && !last || closed.To != nil && !closed.To.After(closed.From) {
			w.t.Fatalf("seed %d: the gate, open since %s, was closed %+v", w.seed, open, s.Suspensions)
		}
		if closed.To != nil {
			open = *closed.To
		}
		if lasts := closed.To == nil; last && lasts != (s.State == StateSuspended) && s.BillingTo == nil {
			w.t.Fatalf("seed %d: %s with the suspensions %+v", w.seed, s.State, s.Suspensions)
		}
	}
	if (s.Change != nil || s.Rebuild != nil) != (s.State == StateChangePending) || s.ResumptionRequestedAt != nil && s.State != StateSuspended ||
		s.SuspensionRequestedAt != nil && s.State != StateProduction {
		w.t.Fatalf("seed %d: %s waits for what it can't: %+v", w.seed, s.State, s)
	}
}

// checkEdge holds the final states to nothing left on the edge, and the gate to a probe that passed.
func (w *walk) checkEdge() {
	w.t.Helper()
	s := w.state
	if s.Final() && (s.OnEdge || len(s.Desired()) > 0) {
		w.t.Fatalf("seed %d: ended with something on the edge: %+v", w.seed, s)
	}
	if phase := s.DesiredPhase(); (s.State == StateSuspended && s.ResumptionRequestedAt == nil) && phase != PhaseSuspended {
		w.t.Fatalf("seed %d: suspended and to be in %s", w.seed, phase)
	}
	if s.DesiredPhase() == PhaseProduction && !s.ProbePassed() {
		w.t.Fatalf("seed %d: the gate is to open without a probe that passed: %+v", w.seed, s)
	}
}

// checkRebuild holds another build to its rules: an edge node is told of one build at a time, and of one that is taken away
// until it says that it is gone; no gate opens before the tests; and no two builds hold the same.
func (w *walk) checkRebuild() {
	w.t.Helper()
	s := w.state
	fail := func(what string) { w.t.Fatalf("seed %d: %s: %+v", w.seed, what, s) }
	nodes, open := map[string]bool{}, 0
	for _, d := range s.Desired() {
		if nodes[d.EdgeNodeID] {
			fail("a node is told twice of it")
		}
		nodes[d.EdgeNodeID] = true
		if d.Phase == PhaseProduction {
			open++
		}
		if !s.Concerns(d.EdgeNodeID) {
			fail("a node is told of what it must not report on")
		}
	}
	if s.rebuilding() && s.Change != nil {
		if d, _ := s.DesiredOn(s.Rebuild.Build.EdgeNodeID); d.Mbps != s.Change.BandwidthMbps {
			fail("the new build is not of the bandwidth that was ordered")
		}
	}
	if r := s.Rebuild; r != nil {
		switch {
		case s.Leaving != nil:
			fail("it is rebuilt before the last build is gone")
		case r.CutoverRequestedAt != nil && (r.LastProbe == nil || !r.LastProbe.Passed):
			fail("the gate is to open without a probe that passed")
		case open > 1 && (!s.Elsewhere() || r.CutoverRequestedAt == nil), open == 0 && s.Elsewhere():
			fail("the gates are not as they should be")
		}
	}
	for _, node := range s.Awaited() {
		if !nodes[node] {
			fail("a node is waited for that is told nothing")
		}
	}
}

// checkGates holds what a node says of its gates to the rebuild that is under way: what it says of an earlier one, or of the old
// build, is none of the new one's.
func (w *walk) checkGates(before State, happened []domain.Event) {
	w.t.Helper()
	r := before.Rebuild
	for _, e := range happened {
		var at, least time.Time
		switch e := e.(type) {
		case TrafficStopped:
			at, least = e.At, r.RequestedAt.Add(-domain.MaxClockSkew)
		case Rebuilt:
			if at, least = e.At, r.RequestedAt.Add(-domain.MaxClockSkew); r.StoppedAt != nil {
				least = r.StoppedAt.Add(time.Microsecond)
			}
		case TrafficRestored:
			if at = e.At; r.StoppedAt != nil {
				least = r.StoppedAt.Add(time.Microsecond)
			}
		}
		if at.Before(least) {
			w.t.Fatalf("seed %d: %T of %s, which is before %s: %+v", w.seed, e, at, least, before)
		}
	}
}

// checkTrouble holds trouble to its rules: a person is needed or the next time is known, attempts are counted, it ends with
// the state that it was in, and there is always something that a person can do.
func (w *walk) checkTrouble(before State) {
	w.t.Helper()
	trouble := w.state.Trouble
	if trouble == nil {
		return
	}
	if (trouble.State == TroubleOperator) != (trouble.NextRetryAt == nil) || trouble.Attempts < 0 || trouble.Since.IsZero() {
		w.t.Fatalf("seed %d: %+v", w.seed, trouble)
	}
	if before.State != w.state.State && before.State != "" {
		w.t.Fatalf("seed %d: from %s to %s with %+v", w.seed, before.State, w.state.State, trouble)
	}
	if actions := w.state.Actions(); (trouble.State == TroubleOperator) != slices.Contains(actions, ActionRetry) {
		w.t.Fatalf("seed %d: of %+v can be done %v", w.seed, trouble, actions)
	}
}

// randomCommand returns a command that fits the state half of the time, and any at all otherwise.
func randomCommand(rng *rand.Rand, s State, second int) Command {
	at := scenario.After(second)
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	node := edgeNode
	if rng.IntN(20) == 0 {
		node = scenario.ID(domain.PrefixEdgeNode, 2)
	}
	near := at.Add(time.Duration(rng.IntN(5)-2) * time.Second) // a clock that is a little off
	up := ReportSession{node, pick(SideA, SideZ), "", Session{SessionEstablished, scenario.Noon, 1, 1}, at}
	report := ReportProbe{node, pick(probe1, probe2), rng.IntN(3) > 0, pick("", "no answer"), at}
	if s.ProbePending() && rng.IntN(2) == 0 {
		report.ProbeID = s.LastProbe.ID
	}
	all := []Command{
		request(), allocate(), StartTesting{at.Add(time.Hour), at}, up,
		ReportSession{node, pick(SideA, SideZ, "b"), pick("", domain.IPv4, domain.IPv6), Session{pick(SessionIdle, SessionActive, "up"), near, rng.IntN(3), 0}, at},
		RequestProbe{pick(probe1, probe2), at}, report, RequestCutover{at}, Activate{node, near, at},
		RequestDecommission{pick("moved", "sold", ""), time.Time{}, at, ""}, RequestDecommission{"moved", near, at, ""}, CloseEdge{node, near, at},
		Decommission{at}, RequestCancellation{pick("no BGP", "late", ""), at}, Cancel{at},
	}
	order := scenario.ID(domain.PrefixOrder, 2+second/7)
	change := RequestChange{order, scenario.ID(domain.PrefixQuote, 2+second/7), 1 + rng.IntN(3), []int{100, 200, 1000, 0}[rng.IntN(4)], true, at}
	reported, pending := ReportBandwidth{node, []int{100, 200, 1000}[rng.IntN(3)], at}, order
	if s.Change != nil && rng.IntN(4) > 0 {
		reported.BandwidthMbps, pending = s.Change.BandwidthMbps, s.Change.OrderID
	}
	scheduled := order
	if s.Termination != nil && rng.IntN(4) > 0 {
		scheduled = s.Termination.OrderID
	}
	limit, admin, side := rng.IntN(4), pick(AdminUp, AdminDown, "off"), pick(SideA, SideZ, "b")
	sold := []Command{
		change, reported, ConfirmChange{pending, at}, AbandonChange{pending, pick("full", ""), at},
		RequestSuspension{pick("unpaid", "away", ""), at}, ReportSuspended{node, near, at}, RequestResumption{at}, ReportResumed{node, near, at},
		ScheduleTermination{order, pick("moved", ""), at.Add(time.Duration(rng.IntN(30)-1) * time.Second), at}, UnscheduleTermination{scheduled, at},
		ConfigureSession{side, &admin, nil, nil, at}, ConfigureSession{side, nil, []string{pick("198.51.100.0/24", "192.0.2.0/24")}, &limit, at},
		SetSecret{side, pick("first", "second", "no good"), at}, RemoveSecret{side, at}, ReportMessage{node, pick("", "the port is down"), at},
	}
	if s.Termination != nil && !at.Before(s.Termination.EffectiveAt) && rng.IntN(2) == 0 {
		return RequestDecommission{s.Termination.Reason, s.Termination.EffectiveAt, at, s.Termination.OrderID}
	}
	fitting := map[string][]Command{
		"": all[:1], StateRequested: all[1:2], StateAllocated: all[2:3], StateTesting: {up, all[5], report, all[7], all[8]},
		StateProduction:    append(slices.Clone(all[8:11]), slices.Concat(sold, sold)...),
		StateChangePending: sold[1:4], StateSuspended: sold[6:8],
		StateDecommissionRequested: all[11:13], StateCancelling: {all[11], all[14]},
	}[s.State]
	if len(fitting) > 0 && rng.IntN(2) == 0 {
		return fitting[rng.IntN(len(fitting))]
	}
	if c := rebuilding(rng, s, at); c != nil && rng.IntN(3) > 0 {
		return c
	}
	all = append(all, sold...)
	steps := []string{StepAllocate, StepRequestProbe, StepAwaitSuspension, "complete_order", ""}
	switch {
	case s.SuspensionRequestedAt != nil:
		steps = []string{StepAwaitSuspension}
	case s.ResumptionRequestedAt != nil:
		steps = []string{StepAwaitResumption}
	case s.Termination != nil:
		steps = []string{StepRequestTermination}
	case s.Rebuild != nil:
		steps = []string{StepStartRebuild, StepRequestProbe}
	case len(s.Awaited()) > 0:
		steps = []string{StepAwaitRemoval}
	}
	failed := FailStep{pick(orderID, orderID, scheduled), pick(steps...), at.Add(time.Second), at}
	if rng.IntN(2) == 0 {
		failed.NextRetryAt = time.Time{}
	}
	answers := []Command{RetryStep{pick("mended", ""), at}, SkipStep{"it burnt down", at}, RollBackStep{"no way", at}, RecoverStep{failed.OrderID, at}}
	if slices.Contains(s.Actions(), ActionSkip) && rng.IntN(2) == 0 {
		return answers[1]
	}
	if s.Trouble != nil && rng.IntN(3) == 0 {
		return answers[rng.IntN(len(answers))]
	}
	all = append(all, append(answers, failed, failed, failed, failed)...)
	return all[rng.IntN(len(all))]
}

// rebuilding returns a command that brings a move or a rebuild on, or begins one; nil where there is none.
func rebuilding(rng *rand.Rand, s State, at time.Time) Command {
	node2 := scenario.ID(domain.PrefixEdgeNode, 2)
	pick := func(all ...Command) Command { return all[rng.IntN(len(all))] }
	r := s.Rebuild
	switch {
	case s.Leaving != nil && rng.IntN(2) == 0:
		return pick(ReleaseBuild{at}, CloseEdge{s.Leaving.EdgeNodeID, at, at})
	case s.State == StateProduction && r == nil:
		return pick(nil, nil, nil, nil, nil, RequestMove{scenario.ID(domain.PrefixPort, 3), providerPort, "maintenance", at},
			RequestChange{scenario.ID(domain.PrefixOrder, 2+rng.IntN(9)), scenario.ID(domain.PrefixQuote, 2), 2, 200, false, at})
	case r == nil && (s.Change == nil || s.Change.InPlace):
		return nil
	case r == nil || r.Build == nil:
		b := Build{EdgeNodeID: edgeNode, EdgeASN: 64500, Tag: s.Tag%100 + 1, A: allocate().A, Z: allocate().Z}
		if b.A.Prefixes, b.Z.Prefixes, b.A.VLAN, b.Z.VLAN = s.CustomerBGP.Prefixes, s.ProviderBGP.Prefixes, 2+rng.IntN(90), 200; rng.IntN(2) == 0 {
			b.EdgeNodeID = node2
		}
		c := StartRebuild{Build: b, CustomerPortID: s.CustomerPortID, ProviderPortID: s.ProviderPortID, Reason: "as ordered", Deadline: at.Add(time.Hour), At: at}
		if r != nil {
			c.CustomerPortID, c.ProviderPortID = r.CustomerPortID, r.ProviderPortID
		}
		c.Build.A.PortID, c.Build.Z.PortID = c.CustomerPortID, c.ProviderPortID
		return pick(c, c, c, AbandonRebuild{"no room", at})
	}
	node := r.Build.EdgeNodeID
	gate := at.Add(-time.Duration(rng.IntN(8)/7) * time.Hour) // what a node said long ago may come late
	up := func(side string) Command {
		return ReportSession{node, side, "", Session{SessionEstablished, scenario.Noon, 2, 2}, at}
	}
	probe := RequestProbe{scenario.ID(domain.PrefixProbe, 3+rng.IntN(3)), at}
	report := ReportProbe{node, probe.ProbeID, rng.IntN(4) > 0, "", at}
	if r.LastProbe != nil {
		report.ProbeID = r.LastProbe.ID
	}
	if rng.IntN(6) > 0 {
		switch u := s.UnderTest(); {
		case r.AbandonedAt != nil:
			return ReportRestored{s.EdgeNodeID, gate, at}
		case !s.Elsewhere() && r.StoppedAt == nil:
			return ReportStopped{node, gate, at}
		case u.Sessions[SideA].State != SessionEstablished:
			return up(SideA)
		case u.Sessions[SideZ].State != SessionEstablished:
			return up(SideZ)
		case u.ProbePending():
			return report
		case !u.ProbePassed():
			return probe
		case r.CutoverRequestedAt == nil:
			return RequestCutover{at}
		}
		return Activate{node, gate, at}
	}
	return pick(up(SideA), up(SideZ), ReportStopped{node, at, at}, probe, report, RequestCutover{at}, RequestCutover{at}, Activate{node, at, at}, Activate{node, at, at},
		AbandonRebuild{"late", at}, AbandonRebuild{"late", at}, AbandonRebuild{"late", at}, ReportRestored{s.EdgeNodeID, at, at}, ReportRestored{s.EdgeNodeID, at, at})
}
