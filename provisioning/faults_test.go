package provisioning

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/port"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
)

var errInjected = errors.New("injected")

// When an append fails.
const (
	before  = "before"  // it does not happen, once
	after   = "after"   // it happens, and the answer gets lost, or the process dies with the work done
	lasting = "lasting" // it does not happen, whenever it is tried, until a person has mended what is wrong; of the saga's own
)

// faulty passes appends on, and has one of them fail, or each in its turn.
type faulty struct {
	next  appender
	kind  string // [before], [after] or [lasting]; "" for no fault
	at    int    // which append, from 1; 0: each of them
	calls int
	stuck string         // what fails now, and lasts
	happy []what         // what happened, in order
	count map[string]int // how often what happened, by name
	hit   map[what]bool  // what had its fault
}

// what is the nth thing that an append does under a name.
type what struct {
	name string
	nth  int
}

// lasts reports whether a fault there can last: an edge node repeats its reports by itself, and that a person is needed is
// recorded at some later time.
func (w what) lasts() bool {
	return !strings.HasPrefix(w.name, "edge: ") && w.name != recovery && w.name != "connection.step_failed"
}

func (f *faulty) Append(ctx context.Context, a events.Append) (events.Result, error) {
	if f.count == nil {
		f.count, f.hit = map[string]int{}, map[what]bool{}
	}
	f.calls++
	name := effect(a)
	this := what{name, f.count[name]}
	fails := f.at == f.calls || f.at == 0 && !f.hit[this] && f.kind != ""
	switch {
	case f.kind == lasting && fails && this.lasts():
		f.stuck, f.hit[this] = name, true
		return events.Result{}, errInjected
	case f.stuck == name && name != "":
		return events.Result{}, errInjected
	case f.kind == before && fails:
		f.hit[this] = true
		return events.Result{}, errInjected
	}
	r, err := f.next.Append(ctx, a)
	if err != nil {
		return r, err
	}
	f.count[name]++
	f.happy = append(f.happy, this)
	if f.kind == after && fails && (name != recovery || this.nth%2 == 0) { // that it goes on is recorded again, with no end else
		f.hit[this] = true
		return events.Result{}, errInjected
	}
	return r, nil
}

// recovery is the name of an append that only says that a trouble is over.
const recovery = "connection.step_recovered"

// effect names what an append of a saga does, whatever troubles it ends besides, or of an edge node.
func effect(a events.Append) string {
	var types []string
	edge := ""
	for _, stream := range a.Streams {
		for _, e := range stream.Events {
			if e.Metadata.Actor != actor {
				edge = "edge: "
			}
			if e.Event.EventType() != recovery {
				types = append(types, e.Event.EventType())
			}
		}
	}
	if len(types) == 0 {
		return recovery
	}
	return edge + strings.Join(types, " ")
}

// line runs one saga step by step in this goroutine, as the process manager and River would: a job for each event that
// asks for one, failed jobs again, timers when the clock reaches them, and the edge node in between. The clock jumps.
type line struct {
	*world
	d        deal
	p        *Provisioner
	edge     *scriptedEdge
	clock    time.Time
	position events.Position
	jobs     []AdvanceArgs
	timers   []timer
	more     []string  // orders placed since, for the same connection
	ends     time.Time // when the last of them is to end it
	at       deal      // that a person is needed for
	others   []deal    // that the same edge node carries
	faulty   *faulty
	rollBack bool          // the person who mends a fault has it rolled back instead
	person   func(l *line) // what a person does about what does not come of a fault
	undone   *connection.Trouble
	undoneAt deal // whose trouble that was
	steps    *stepsTaken
	twice    bool // every job is run once more, as after a crash between its last append and its completion
	read     int  // how many writes there were when the log was read last

	ordered     map[string]order.State      // by stream, as far as the log was read
	connections map[string]connection.State // likewise
}

func (w *world) line(f *faulty) *line {
	l := &line{world: w, clock: now(), faulty: f, steps: &stepsTaken{Handler: slog.DiscardHandler}, read: -1,
		ordered: map[string]order.State{}, connections: map[string]connection.State{}}
	p, err := New(Options{Pool: w.pool, Log: w.log, Clock: func() time.Time { return l.clock }, ProbeAttempts: 3, StepAttempts: 3, Logger: slog.New(l.steps)})
	if err != nil {
		w.Fatal(err)
	}
	head, err := w.log.Head(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	p.appender = f
	l.p, l.position, l.edge = p, head.Position, w.edge(f, func() time.Time { return l.clock })
	return l
}

// timer is a job for later.
type timer struct {
	at  time.Time
	job AdvanceArgs
}

func sooner(x, y timer) int { return x.at.Compare(y.at) }

// settle runs until nothing happens any more; with jump, until nothing is waited for either.
func (l *line) settle(jump bool) {
	l.Helper()
	for range 1000 {
		l.clock = l.clock.Add(time.Millisecond)
		l.collect()
		if len(l.jobs) > 0 {
			job := l.jobs[0]
			l.jobs = l.jobs[1:]
			l.run(job)
			continue
		}
		news, err := l.tick()
		switch {
		case err != nil && !errors.Is(err, errInjected):
			l.Fatal(err)
		case err != nil || news:
			continue
		case l.answer():
			continue
		case !jump || len(l.timers) == 0:
			return
		}
		slices.SortStableFunc(l.timers, sooner)
		if l.timers[0].at.After(l.clock) {
			l.clock = l.timers[0].at
		}
		l.jobs = append(l.jobs, l.timers[0].job)
		l.timers = l.timers[1:]
	}
	_, c := l.states(l.d)
	l.Fatalf("it never came to rest, %+v: %v", c, l.history(l.d))
}

// tick has the edge node report of all that it carries.
func (l *line) tick() (news bool, err error) {
	for _, d := range append([]deal{l.d}, l.others...) {
		again, err := l.edge.look(l.connections[connection.Stream(d.connection)])
		if news = news || again; err != nil {
			return news, err
		}
	}
	return news, nil
}

// answer plays the operator, when a step is tried no more: it mends what is wrong, and says how the saga is to go on.
func (l *line) answer() bool {
	l.Helper()
	l.at = l.d
	c := l.connections[connection.Stream(l.d.connection)]
	for _, d := range l.others {
		if c.Trouble == nil {
			l.at = d
			c = l.connections[connection.Stream(d.connection)]
		}
	}
	t := c.Trouble
	if t == nil || t.State != connection.TroubleOperator {
		return false
	}
	if t.NextRetryAt != nil || !slices.Contains(c.Actions(), connection.ActionRetry) {
		l.Fatalf("nothing can be done about %+v", t)
	}
	switch {
	case l.faulty.stuck == "" && len(l.others) > 0 && l.obstacle(t.OrderID) == errInjected.Error():
		retry(l) // of a group both failed, and the fault is mended
		return true
	case l.faulty.stuck == "":
		if l.person == nil {
			l.Fatalf("nobody expected %+v: %v", t, l.history(l.d))
		}
		l.person(l)
		return true
	case t.Attempts != 3 || l.obstacle(t.OrderID) != errInjected.Error():
		l.Fatalf("%+v, because %q", t, l.obstacle(t.OrderID))
	}
	l.faulty.stuck = ""
	if l.rollBack && slices.Contains(c.Actions(), connection.ActionRollBack) {
		l.undone, l.undoneAt = t, l.at
		rollBack(l)
	} else {
		retry(l)
	}
	return true
}

func retry(l *line) {
	l.commandConnection(l.at, connection.RetryStep{Reason: "mended", At: l.clock})
}

// rollBack is what the API does: what was done is undone, and the order fails, in one append.
func rollBack(l *line) {
	l.Helper()
	_, c := l.states(l.at)
	if id := c.RollsBack(); id != "" {
		l.commandOrder(deal{order: id, connection: l.at.connection}, order.Fail{Reason: "rolled back", At: l.clock})
	}
	l.commandConnection(l.at, connection.RollBackStep{Reason: "no way", At: l.clock})
}

func skip(l *line) {
	l.commandConnection(l.at, connection.SkipStep{Reason: "the node burnt down", At: l.clock})
}

// checkUndone holds what was rolled back to nothing left of it: of a new connection nothing at all, of any other order that
// the connection is what it was before.
func (l *line) checkUndone() {
	l.Helper()
	l.at = l.undoneAt
	ordered, _, err := events.Load(context.Background(), l.log, order.Stream(l.undone.OrderID), order.Evolve)
	if err != nil {
		l.Fatal(err)
	}
	_, c := l.states(l.at)
	if ordered.ItemKind() == order.ItemAdd && ordered.State == order.StateCompleted { // a move: no order is of it
		l.check(l.at, order.StateCompleted, connection.StateProduction)
		if c.Trouble != nil || c.EdgeNodeID != l.edge.first[c.ID][0] || c.RebuildFailure == "" {
			l.Errorf("%+v was rolled back to %+v: %v", l.undone, c, l.history(l.at))
		}
		return
	}
	if ordered.State != order.StateFailed || ordered.Reason != "rolled back" || c.Trouble != nil || c.Change != nil || c.Termination != nil {
		l.Errorf("%+v was rolled back to order %s (%s), %+v: %v", l.undone, ordered.State, ordered.Reason, c, l.history(l.at))
	}
	if ordered.ItemKind() == order.ItemAdd {
		if !c.Final() || c.OnEdge || len(l.held(c.ID)) > 0 || c.BillingFrom != nil && !c.BillingFrom.Equal(*c.BillingTo) {
			l.Errorf("%+v was rolled back to %+v, which holds %v", l.undone, c, l.held(c.ID))
		}
		return
	}
	made, _ := l.states(l.at)
	l.check(l.at, made.State, c.State)
	if c.State != connection.StateProduction && c.State != connection.StateSuspended || c.BandwidthMbps != c.Spans[0].BandwidthMbps {
		l.Errorf("%+v was rolled back to %+v", l.undone, c)
	}
}

// stepsTaken collects the kinds of steps that a provisioner says it took.
type stepsTaken struct {
	slog.Handler
	mu    sync.Mutex
	kinds []StepKind
}

// Enabled implements slog.Handler.
func (s *stepsTaken) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (s *stepsTaken) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if kind, ok := a.Value.Any().(StepKind); ok && r.Message == "saga step" {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.kinds = append(s.kinds, kind)
		}
		return true
	})
	return nil
}

// collect reads what is new in the log, as the process manager does. Others' lines may be in the same log.
func (l *line) collect() {
	l.Helper()
	writes := l.writes + l.faulty.calls
	if writes == l.read {
		return
	}
	l.read = writes
	page, err := l.log.ReadAll(context.Background(), l.position, events.MaxRead)
	if err != nil {
		l.Fatal(err)
	}
	if len(page) == events.MaxRead {
		l.read = -1
	}
	for _, r := range page {
		l.position = r.Position
		if !l.own[r.Stream] {
			continue
		}
		l.ordered[r.Stream], l.connections[r.Stream] = order.Evolve(l.ordered[r.Stream], r.Event), connection.Evolve(l.connections[r.Stream], r.Event)
		args, ok := concerned(r)
		same := func(job AdvanceArgs) bool {
			return job.OrderID == args.OrderID && job.ConnectionID == args.ConnectionID && !job.Timer
		}
		if ok && !slices.ContainsFunc(l.jobs, same) {
			l.jobs = append(l.jobs, args)
		}
		if deadline := l.p.deadlineSet(r.Event); !deadline.IsZero() {
			args.Timer = true
			l.timers = append(l.timers, timer{deadline, args})
		}
	}
}

func (l *line) run(job AdvanceArgs) {
	l.Helper()
	step, err := l.p.advance(context.Background(), job)
	switch {
	case errors.Is(err, errInjected):
		if _, err := l.p.report(context.Background(), err); err != nil && !errors.Is(err, errInjected) {
			l.Fatal(err)
		}
		l.jobs = append(l.jobs, job)
		return
	case err != nil:
		l.Fatal(err)
	}
	if wait := step.Until.Sub(l.clock); !step.Until.IsZero() && (job.Timer || wait <= longestSnooze) {
		job.Timer = true
		l.timers = append(l.timers, timer{step.Until, job})
	}
	if l.twice {
		again, err := l.p.advance(context.Background(), job)
		if err == nil && job.OrderID != "" && again.Until.IsZero() { // it took no step, after which all the connection's orders are looked at
			var o order.State
			o, _, err = events.Load(context.Background(), l.log, order.Stream(job.OrderID), order.Evolve)
			if err == nil && o.ConnectionID != "" {
				again, err = l.p.advance(context.Background(), AdvanceArgs{ConnectionID: o.ConnectionID})
			}
		}
		if err != nil || !again.Until.Equal(step.Until) {
			l.Fatalf("the second run of a job came to %v, %v after %v", again, err, step)
		}
	}
}

// scenario is a story with a known end.
type scenario struct {
	name       string
	wish       func(w *world) wish
	edge       func(e *scriptedEdge)
	acts       []func(l *line) // what the parties do, each when all is quiet
	order      string
	connection string
	reason     string        // part of the order's
	person     func(l *line) // what an operator does when it is needed without any fault
	then       func(l *line) // what must be true besides
	appends    int           // of the saga and the edge node together: fewer is a test that misses steps
}

func accept(l *line) { l.commandOrder(l.d, order.Accept{By: "the provider", At: l.clock}) }

// The provider asks, and the customer has twice the time that the provider has.
func ask(l *line) {
	l.commandOrder(l.d, order.Ask{Question: "Which rack?", AnswerBy: l.clock.Add(144 * time.Hour), At: l.clock})
}

func answer(l *line) { l.commandOrder(l.d, order.Answer{Number: 1, Answer: "Rack 7", At: l.clock}) }

// later lets time pass, with every timer that falls due in it.
func later(d time.Duration) func(l *line) {
	return func(l *line) {
		until := l.clock.Add(d)
		slices.SortStableFunc(l.timers, sooner)
		for len(l.timers) > 0 && l.timers[0].at.Before(until) {
			if l.timers[0].at.After(l.clock) {
				l.clock = l.timers[0].at
			}
			job := l.timers[0].job
			l.timers = l.timers[1:]
			l.run(job)
			l.settle(false)
			slices.SortStableFunc(l.timers, sooner)
		}
		l.clock = until
	}
}

// rest lets months pass over what is at rest, so that no timer of what was done before is left: each thing must have one of its own.
func (l *line) rest() {
	l.Helper()
	for _, d := range append([]deal{l.d}, l.others...) {
		o, c := l.states(d)
		if o.State != order.StateCompleted || c.State != connection.StateProduction && c.State != connection.StateSuspended || c.Leaving != nil ||
			c.Termination != nil || c.SuspensionRequestedAt != nil || c.ResumptionRequestedAt != nil {
			return
		}
	}
	later(2000 * time.Hour)(l)
}

func terminate(l *line) {
	l.commandConnection(l.d, connection.RequestDecommission{Reason: "no longer needed", At: l.clock})
}

// reorder places an order that brings the connection to a bandwidth and the next version of its listing.
func reorder(mbps int, approval string) func(l *line) {
	return func(l *line) {
		l.Helper()
		o, c := l.states(l.d)
		id := l.id(domain.PrefixOrder)
		l.more = append(l.more, id)
		l.record(order.Stream(id), order.Placed{OrderID: id, QuoteID: l.id(domain.PrefixQuote), CustomerID: o.CustomerID, ProviderID: o.ProviderID,
			ListingID: o.ListingID, ListingVersion: c.ListingVersion + 1, ConnectionID: l.d.connection, PortID: o.PortID, BandwidthMbps: mbps, BGP: o.BGP,
			Approval: approval, Deadline: l.clock.Add(72 * time.Hour), At: l.clock, Item: order.ItemModify})
	}
}

// end places an order that ends the connection at a date.
func end(in time.Duration) func(l *line) {
	return func(l *line) {
		l.Helper()
		_, c := l.states(l.d)
		id := l.id(domain.PrefixOrder)
		l.more = append(l.more, id)
		placed, err := order.Decide(order.State{}, order.PlaceRemoval{OrderID: id, Connection: c, At: l.clock})
		if err != nil {
			l.Fatal(err)
		}
		l.record(order.Stream(id), placed...)
		l.ends = domain.Instant(l.clock.Add(in))
		l.commandConnection(l.d, connection.ScheduleTermination{OrderID: id, Reason: "moving", EffectiveAt: l.ends, At: l.clock})
	}
}

func quiet(*line) {}

// rebuild places an order for a change that is not in place.
func rebuild(mbps int) func(l *line) {
	return func(l *line) {
		l.Helper()
		o, c := l.states(l.d)
		id := l.id(domain.PrefixOrder)
		l.more = append(l.more, id)
		l.record(order.Stream(id), order.Placed{OrderID: id, QuoteID: l.id(domain.PrefixQuote), CustomerID: o.CustomerID, ProviderID: o.ProviderID,
			ListingID: o.ListingID, ListingVersion: c.ListingVersion + 1, ConnectionID: l.d.connection, PortID: o.PortID, BandwidthMbps: mbps, BGP: o.BGP,
			Approval: listing.ApprovalAutomatic, Deadline: l.clock.Add(72 * time.Hour), At: l.clock, Item: order.ItemModify,
			Rebuild: &order.Rebuild{ProviderPortID: c.ProviderPortID, ProviderBGP: c.ProviderBGP}})
	}
}

// another returns an edge node beside the first.
func (w *world) another() string {
	id := w.id(domain.PrefixEdgeNode)
	w.record(edgenode.Stream(id), edgenode.Registered{EdgeNodeID: id, Name: "lab 2", ASN: nodeASN, RouterID: "192.0.2.2", At: now()})
	return id
}

// move has the connection moved to new ports on another node, or on its own.
func move(l *line) { l.moveTo(l.another(), 1000) }

func moveHere(l *line) { l.moveTo(l.node, 1000) }

func (l *line) moveTo(node string, mbps int) {
	l.Helper()
	l.commandConnection(l.d, connection.RequestMove{CustomerPortID: l.port(node, mbps), ProviderPortID: l.port(node, mbps), Reason: "maintenance", At: l.clock})
}

// standing holds the connection to where it must be in the end, and to what its time is sold as; stopped is whether traffic was
// stopped on the way.
func standing(moved, stopped bool, mbps, spans int) func(l *line) {
	return func(l *line) {
		l.Helper()
		_, c := l.states(l.d)
		types := l.history(l.d)
		elsewhere := c.EdgeNodeID != l.node || [2]string{c.EdgeNodeID, strconv.Itoa(c.Tag)} != l.edge.first[c.ID]
		if elsewhere != moved || slices.Contains(types, "connection.traffic_stopped") != stopped || moved != slices.Contains(types, "connection.rebuilt") {
			l.Errorf("it is on %s with the tag %d, after %v", c.EdgeNodeID, c.Tag, types)
		}
		if c.Billing == connection.BillingAccruing && !c.Established() {
			l.Errorf("its sessions are %+v", c.Sessions)
		}
		for _, r := range l.held(c.ID) {
			if r.Kind == reservedTag && (r.Scope != c.EdgeNodeID || r.Number != c.Tag) || r.Kind == reservedVLAN && r.Scope != c.CustomerPortID && r.Scope != c.ProviderPortID {
				l.Errorf("it is %+v and holds %+v", c, r)
			}
		}
		l.sold(mbps, spans, 0)
	}
}

// all holds to several things.
func all(checks ...func(l *line)) func(l *line) {
	return func(l *line) {
		l.Helper()
		for _, check := range checks {
			check(l)
		}
	}
}

// wants holds the orders placed later to their states, with a part of their reasons.
func wants(states ...string) func(l *line) {
	return func(l *line) {
		l.Helper()
		for i, id := range l.more {
			o, _, err := events.Load(context.Background(), l.log, order.Stream(id), order.Evolve)
			if err != nil {
				l.Fatal(err)
			}
			state, reason, _ := strings.Cut(states[i], ": ")
			if o.State != state || !strings.Contains(o.Reason, reason) {
				l.Errorf("order %d came to be %s (%s), want %s", i+1, o.State, o.Reason, states[i])
			}
		}
	}
}

// sold is what a connection must be sold as in the end.
func (l *line) sold(mbps, spans, suspensions int) {
	l.Helper()
	_, c := l.states(l.d)
	if c.BandwidthMbps != mbps || len(c.Spans) != spans || len(c.Suspensions) != suspensions || c.Spans[spans-1].BandwidthMbps != mbps || c.Change != nil {
		l.Errorf("it is sold at %d Mbps in %+v, suspended %+v", c.BandwidthMbps, c.Spans, c.Suspensions)
	}
}

func suspend(l *line) {
	l.commandConnection(l.d, connection.RequestSuspension{Reason: "away", At: l.clock})
}

func resume(l *line) { l.commandConnection(l.d, connection.RequestResumption{At: l.clock}) }

// group is another connection of the group, on the same edge node.
func group(l *line) {
	other := l.place(wish{at: l.clock})
	l.others = append(l.others, other)
}

// apart is another connection on another edge node, in a group whose members are on nodes of their own.
func apart(l *line) {
	l.Helper()
	node := l.another()
	other := l.place(wish{at: l.clock, a: l.port(node, 1000), z: l.port(node, 1000)})
	l.others = append(l.others, other)
	group := l.id(domain.PrefixRedundancyGroup)
	l.join(group, l.d)
	l.join(group, other)
}

// join takes a connection into a group, as the API does.
func (w *world) join(group string, d deal) {
	w.Helper()
	for w.tryJoin(group, d, func() {}) != nil {
	}
}

// tryJoin is one attempt at it. meanwhile is what happens between its reading and its append.
func (w *world) tryJoin(group string, d deal, meanwhile func()) error {
	w.Helper()
	ctx := context.Background()
	beside, err := ReadBeside(ctx, w.pool, w.log, d.connection, group)
	if err != nil {
		w.Fatal(err)
	}
	_, c := w.states(d)
	if c.Final() {
		return nil
	}
	meanwhile()
	on, _, err := events.Load(ctx, w.log, port.Stream(c.CustomerPortID), port.Evolve)
	if err != nil {
		w.Fatal(err)
	}
	m := redundancygroup.Member{ConnectionID: c.ID, PortID: c.CustomerPortID, ProviderPortID: c.ProviderPortID, EdgeNodeID: on.EdgeNodeID}
	added := redundancygroup.ConnectionAdded{GroupID: group, Member: m, At: now()}
	_, err = w.log.Append(ctx, events.Append{Ask: beside.Join(redundancygroup.DiverseEdgeNode, m), Streams: []events.StreamAppend{
		{Stream: redundancygroup.Stream(group), Expected: events.Any, Events: []events.NewEvent{{Event: added}}}}})
	if err != nil && domain.CodeOf(err) != domain.Conflict {
		w.Fatal(err)
	}
	return err
}

// endGroup ends both connections in one append, as the API ends a redundancy group.
func endGroup(l *line) {
	l.Helper()
	var a events.Append
	for _, d := range append([]deal{l.d}, l.others...) {
		_, c := l.states(d)
		decided, err := connection.Decide(c, connection.RequestDecommission{Reason: "moving", At: l.clock})
		if err != nil {
			l.Fatal(err)
		}
		a.Streams = append(a.Streams, events.StreamAppend{Stream: connection.Stream(d.connection), Expected: events.Any, Events: []events.NewEvent{{Event: decided[0]}}})
	}
	if _, err := l.log.Append(context.Background(), a); err != nil {
		l.Fatal(err)
	}
	l.writes++
}

var scenarios = []scenario{
	{name: "a change that is not in place", acts: []func(*line){quiet, rebuild(400)}, then: all(wants("completed"), standing(true, true, 400, 2)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 18},
	{name: "less by a rebuild, and the room for it is just that of both", wish: func(w *world) wish { return wish{a: w.port(w.node, 100), z: w.port(w.node, 100)} },
		acts: []func(*line){quiet, rebuild(50)}, then: all(wants("completed"), standing(true, true, 50, 2)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 18},
	{name: "a rebuild that there is no room for", acts: []func(*line){quiet, rebuild(20_000)},
		then:  all(wants("failed: has not enough bandwidth left"), standing(false, false, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 11},
	{name: "a rebuild whose BGP never comes up", edge: func(e *scriptedEdge) { e.noNewBGP = true }, acts: []func(*line){quiet, rebuild(400)},
		then:  all(wants("failed: BGP was not established with the router of the customer and that of the provider by"), standing(false, true, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 16},
	{name: "a rebuild whose probes fail", acts: []func(*line){quiet, func(l *line) { l.edge.failProbes = -1; rebuild(400)(l) }},
		then:  all(wants("failed: no test packet crossed (scripted) in 3 attempts"), standing(false, true, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 22},
	{name: "a rebuild whose gate never opens", edge: func(e *scriptedEdge) { e.noNewGate = true }, acts: []func(*line){quiet, rebuild(400)},
		then:  all(wants("failed: the edge node did not let traffic cross by"), standing(false, true, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 19},
	{name: "a rebuild that is never begun", edge: func(e *scriptedEdge) { e.noRebuild = true }, acts: []func(*line){quiet, rebuild(400)},
		then:  all(wants("failed: the edge node did not begin by"), standing(false, false, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 15},
	{name: "a rebuild that fails, and a person is needed for the way back", edge: func(e *scriptedEdge) { e.noNewBGP, e.noRestore = true, true },
		acts: []func(*line){quiet, rebuild(400)}, person: func(l *line) { l.edge.noRestore = false; retry(l) },
		then:  all(wants("failed: BGP was not established"), standing(false, true, 100, 1)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 18},
	{name: "ended while it is rebuilt", edge: func(e *scriptedEdge) { e.noNewBGP = true }, acts: []func(*line){quiet, rebuild(400), terminate},
		then:  wants("failed: is being taken down"),
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 15},
	{name: "moved to another node", acts: []func(*line){quiet, move}, then: standing(true, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 17},
	{name: "moved to other ports of its node", acts: []func(*line){quiet, moveHere}, then: standing(true, true, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 16},
	{name: "moved there and changed after", acts: []func(*line){quiet, move, reorder(400, listing.ApprovalAutomatic)}, then: all(wants("completed"), standing(true, false, 400, 2)),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 21},
	{name: "a move whose BGP never comes up", edge: func(e *scriptedEdge) { e.noNewBGP = true }, acts: []func(*line){quiet, move}, then: standing(false, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 14},
	{name: "a move here whose BGP never comes up", edge: func(e *scriptedEdge) { e.noNewBGP = true }, acts: []func(*line){quiet, moveHere}, then: standing(false, true, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 14},
	{name: "a move whose gate never opens", edge: func(e *scriptedEdge) { e.noNewGate = true }, acts: []func(*line){quiet, move}, then: standing(false, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 17},
	{name: "a move that there is no room for", acts: []func(*line){quiet, func(l *line) { l.moveTo(l.another(), 99) }}, then: standing(false, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 10},
	{name: "moved from a node that is gone", acts: []func(*line){quiet, func(l *line) { l.edge.dead[l.node] = true; move(l) }}, person: skip, then: standing(true, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 17},
	{name: "moved to a node that does not answer", acts: []func(*line){quiet, func(l *line) { n := l.another(); l.edge.dead[n] = true; l.moveTo(n, 1000) }}, person: skip,
		then:  standing(false, false, 100, 1),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 13},
	{name: "ended while it is moved", edge: func(e *scriptedEdge) { e.noNewBGP = true }, acts: []func(*line){quiet, move, terminate},
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 14},
	{name: "ended while it leaves a node", edge: func(e *scriptedEdge) { e.noRemoval = true }, acts: []func(*line){quiet, move, terminate},
		person: func(l *line) { l.edge.noRemoval = false; retry(l) },
		order:  order.StateCompleted, connection: connection.StateDecommissioned, appends: 20},
	{name: "a leg of two is moved, and then the group ends", acts: []func(*line){quiet, group, move, endGroup},
		then:  func(l *line) { l.check(l.others[0], order.StateCompleted, connection.StateDecommissioned) },
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 30},
	{name: "a leg is not moved to the node of the other", acts: []func(*line){quiet, apart, func(l *line) { _, c := l.states(l.others[0]); l.moveTo(c.EdgeNodeID, 1000) }},
		then: all(standing(false, false, 100, 1), func(l *line) {
			if _, c := l.states(l.d); !strings.Contains(c.RebuildFailure, "not be kept apart") {
				l.Errorf("the move was given up because %q", c.RebuildFailure)
			}
		}),
		order: order.StateCompleted, connection: connection.StateProduction, appends: 19},
	{name: "both legs are moved to one node, and one gets there", acts: []func(*line){quiet, apart, func(l *line) {
		node, first := l.another(), l.d
		l.moveTo(node, 1000)
		l.d = l.others[0]
		l.moveTo(node, 1000)
		l.d = first
	}}, then: func(l *line) { // which of them is, is no matter
		_, one := l.states(l.d)
		_, other := l.states(l.others[0])
		if one.EdgeNodeID == other.EdgeNodeID || (one.RebuildFailure == "") == (other.RebuildFailure == "") {
			l.Errorf("one leg is on %s (%s), the other on %s (%s)", one.EdgeNodeID, one.RebuildFailure, other.EdgeNodeID, other.RebuildFailure)
		}
	},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 27},
	{name: "a group ends", acts: []func(*line){quiet, group, endGroup},
		then:  func(l *line) { l.check(l.others[0], order.StateCompleted, connection.StateDecommissioned) },
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 22},
	{name: "never suspended, and that is taken back", edge: func(e *scriptedEdge) { e.noSuspend = true }, acts: []func(*line){quiet, suspend}, person: rollBack,
		then:  func(l *line) { l.sold(100, 1, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 10},
	{name: "never resumed, and that is taken back", edge: func(e *scriptedEdge) { e.noResume = true }, acts: []func(*line){quiet, suspend, resume}, person: rollBack,
		then:  func(l *line) { l.sold(100, 1, 1) },
		order: order.StateCompleted, connection: connection.StateSuspended, appends: 11},
	{name: "removed when a person asks again", edge: func(e *scriptedEdge) { e.noRemoval = true }, acts: []func(*line){quiet, terminate},
		person: func(l *line) { l.edge.noRemoval = false; retry(l) },
		order:  order.StateCompleted, connection: connection.StateDecommissioned, appends: 13},
	{name: "never removed, for the node is gone", edge: func(e *scriptedEdge) { e.noRemoval = true }, acts: []func(*line){quiet, terminate}, person: skip,
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 11},
	{name: "never removed after the tests failed", edge: func(e *scriptedEdge) { e.noBGP, e.noRemoval = true, true }, person: skip,
		order: order.StateFailed, connection: connection.StateCancelled, reason: "BGP was not established", appends: 7},
	{name: "more bandwidth", acts: []func(*line){quiet, reorder(400, listing.ApprovalAutomatic)},
		then:  func(l *line) { wants("completed")(l); l.sold(400, 2, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 13},
	{name: "less bandwidth", wish: func(*world) wish { return wish{mbps: 500} }, acts: []func(*line){quiet, reorder(50, listing.ApprovalAutomatic)},
		then:  func(l *line) { wants("completed")(l); l.sold(50, 2, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 13},
	{name: "another plan", acts: []func(*line){quiet, reorder(100, listing.ApprovalAutomatic)},
		then:  func(l *line) { wants("completed")(l); l.sold(100, 2, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 13},
	{name: "a change that the provider never answers", acts: []func(*line){quiet, reorder(400, listing.ApprovalManual)},
		then:  func(l *line) { wants("failed: did not answer by")(l); l.sold(100, 1, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 10},
	{name: "a change that there is no room for", acts: []func(*line){quiet, reorder(20_000, listing.ApprovalAutomatic)},
		then: func(l *line) {
			wants("failed: the customer's port has not enough bandwidth left")(l)
			if kept := l.obstacle(l.more[0]); !strings.HasSuffix(kept, "has 9900 Mbps of its 10000 left, and 19900 more are needed") {
				l.Errorf("what is kept for operators is %q", kept)
			}
			l.sold(100, 1, 0)
		},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 11},
	{name: "a change that the edge never applies", edge: func(e *scriptedEdge) { e.noChange = true },
		acts:  []func(*line){quiet, reorder(400, listing.ApprovalAutomatic)},
		then:  func(l *line) { wants("failed: the edge node did not apply the change by")(l); l.sold(100, 1, 0) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 12},
	{name: "two changes at once", edge: func(e *scriptedEdge) { e.noChange = true },
		acts: []func(*line){quiet, reorder(400, listing.ApprovalAutomatic), reorder(300, listing.ApprovalAutomatic)},
		then: func(l *line) {
			wants("failed: did not apply", "failed: is being changed by the order")(l)
			l.sold(100, 1, 0)
		},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 14},
	{name: "ended while it is changed", edge: func(e *scriptedEdge) { e.noChange = true },
		acts:  []func(*line){quiet, reorder(400, listing.ApprovalAutomatic), terminate},
		then:  func(l *line) { wants("failed: is being taken down")(l); l.sold(100, 1, 0) },
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 14},
	{name: "a change of what is suspended", acts: []func(*line){quiet, suspend, reorder(400, listing.ApprovalAutomatic)},
		then:  func(l *line) { wants("failed: is suspended")(l); l.sold(100, 1, 1) },
		order: order.StateCompleted, connection: connection.StateSuspended, appends: 12},
	{name: "suspended and resumed", acts: []func(*line){quiet, suspend, resume},
		then:  func(l *line) { l.sold(100, 1, 1) },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 11},
	{name: "ended while it is suspended", acts: []func(*line){quiet, suspend, terminate},
		then:  func(l *line) { l.sold(100, 1, 1) },
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 12},
	{name: "ended at a date", acts: []func(*line){quiet, end(240 * time.Hour)},
		then: func(l *line) {
			wants("completed")(l)
			_, c := l.states(l.d)
			if !c.BillingTo.Equal(l.ends) || c.TerminationOrderID != l.more[0] {
				l.Errorf("billed to %s, ended by %s, to end at %s", c.BillingTo, c.TerminationOrderID, l.ends)
			}
		},
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 13},
	{name: "the end is taken back", acts: []func(*line){quiet, end(240 * time.Hour), func(l *line) {
		l.commandConnection(l.d, connection.UnscheduleTermination{OrderID: l.more[0], At: l.clock})
	}}, then: func(l *line) { wants("in_progress")(l) }, // the caller of the API cancels the order in the same append
		order: order.StateCompleted, connection: connection.StateProduction, appends: 9},
	{name: "manual approval", wish: func(*world) wish { return wish{manual: true} }, acts: []func(*line){accept},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 8},
	{name: "automatic approval", order: order.StateCompleted, connection: connection.StateProduction, appends: 9},
	{name: "both ends on one port", wish: func(w *world) wish { p := w.port(w.node, 200); return wish{a: p, z: p} },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 9},
	{name: "termination", acts: []func(*line){func(*line) {}, terminate},
		order: order.StateCompleted, connection: connection.StateDecommissioned, appends: 11},
	{name: "rejection", wish: func(*world) wish { return wish{manual: true} },
		acts:  []func(*line){func(l *line) { l.commandOrder(l.d, order.Reject{Reason: "no fibre there", At: l.clock}) }},
		order: order.StateRejected, connection: connection.StateCancelled, reason: "no fibre there", appends: 1},
	{name: "provider never answers", wish: func(*world) wish { return wish{manual: true} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "did not answer by", appends: 1},
	{name: "customer cancels before the answer", wish: func(*world) wish { return wish{manual: true} },
		acts:  []func(*line){func(l *line) { l.commandOrder(l.d, order.Cancel{Reason: "changed plans", At: l.clock}) }},
		order: order.StateCancelled, connection: connection.StateCancelled, reason: "changed plans", appends: 1},
	{name: "customer cancels while testing", edge: func(e *scriptedEdge) { e.noBGP = true },
		acts:  []func(*line){func(*line) {}, func(l *line) { l.commandOrder(l.d, order.Cancel{Reason: "changed plans", At: l.clock}) }},
		order: order.StateCancelled, connection: connection.StateCancelled, reason: "changed plans", appends: 7},
	{name: "customer cancels when it is about to go into production", edge: func(e *scriptedEdge) { e.noGate = true },
		acts:  []func(*line){func(*line) {}, func(l *line) { l.commandOrder(l.d, order.Cancel{Reason: "changed plans", At: l.clock}) }},
		order: order.StateCancelled, connection: connection.StateCancelled, reason: "changed plans", appends: 10},
	{name: "provider asks, is answered and accepts", wish: func(*world) wish { return wish{manual: true} },
		acts:  []func(*line){ask, later(24 * time.Hour), answer, later(71 * time.Hour), accept},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 8},
	{name: "provider asks and accepts without an answer", wish: func(*world) wish { return wish{manual: true} },
		acts:  []func(*line){ask, later(100 * time.Hour), accept},
		order: order.StateCompleted, connection: connection.StateProduction, appends: 8},
	{name: "provider asks and is never answered", wish: func(*world) wish { return wish{manual: true} }, acts: []func(*line){ask},
		order: order.StateFailed, connection: connection.StateCancelled, reason: "the customer did not answer the provider's question by", appends: 1},
	{name: "provider asks, is answered and never answers", wish: func(*world) wish { return wish{manual: true} }, acts: []func(*line){ask, answer},
		order: order.StateFailed, connection: connection.StateCancelled, reason: "the provider did not answer by", appends: 1},
	{name: "customer cancels while asked", wish: func(*world) wish { return wish{manual: true} },
		acts:  []func(*line){ask, func(l *line) { l.commandOrder(l.d, order.Cancel{Reason: "changed plans", At: l.clock}) }},
		order: order.StateCancelled, connection: connection.StateCancelled, reason: "changed plans", appends: 1},
	{name: "BGP never comes up", edge: func(e *scriptedEdge) { e.noBGP = true },
		order: order.StateFailed, connection: connection.StateCancelled,
		reason: "BGP was not established with the router of the customer and that of the provider by", appends: 7},
	{name: "two probes fail", edge: func(e *scriptedEdge) { e.failProbes = 2 },
		order: order.StateCompleted, connection: connection.StateProduction, appends: 13},
	{name: "all probes fail", edge: func(e *scriptedEdge) { e.failProbes = -1 },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "no test packet crossed (scripted) in 3 attempts", appends: 13},
	{name: "gate never opens", edge: func(e *scriptedEdge) { e.noGate = true },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "the edge node did not let traffic cross by", appends: 10},
	{name: "capacity is gone", wish: func(w *world) wish { return wish{a: w.port(w.node, 99)} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "the customer's port has not enough bandwidth left", appends: 2},
	{name: "one port is too small for both ends", wish: func(w *world) wish { p := w.port(w.node, 199); return wish{a: p, z: p} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "the customer's port has not enough bandwidth left", appends: 2},
	{name: "other node", wish: func(w *world) wish { return wish{z: w.port(w.id(domain.PrefixEdgeNode), 1000)} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "on different edge nodes", appends: 2},
	{name: "node's own AS number", wish: func(*world) wish { return wish{asn: nodeASN} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "is the edge node's own", appends: 2},
	{name: "no VLAN left", wish: func(w *world) wish {
		full := w.port(w.node, 800_000)
		if _, err := w.pool.Exec(context.Background(), `
			INSERT INTO reservations SELECT 'vlan', $1, n, 'con_other', 1 FROM generate_series(2, 4094) AS n`, full); err != nil {
			w.Fatal(err)
		}
		return wish{z: full}
	}, order: order.StateFailed, connection: connection.StateCancelled, reason: "the provider's port has no VLAN left", appends: 2},
}

func (s scenario) play(w *world, f *faulty, change ...func(l *line)) []StepKind {
	w.Helper()
	l := w.line(f)
	l.person = s.person
	for _, c := range change {
		c(l)
	}
	var v wish
	if s.wish != nil {
		v = s.wish(w)
	}
	v.at = l.clock
	if s.edge != nil {
		s.edge(l.edge)
	}
	l.d = w.place(v)
	for _, act := range s.acts {
		if l.settle(false); l.undone != nil {
			break
		}
		l.rest()
		act(l)
	}
	if l.settle(true); l.undone != nil {
		l.checkUndone()
		return l.steps.kinds
	}
	if _, c := w.states(l.d); c.Trouble != nil {
		w.Errorf("%+v was left", c.Trouble)
	}
	w.check(l.d, s.order, s.connection)
	if s.then != nil {
		s.then(l)
	}
	if o, _ := w.states(l.d); !strings.Contains(o.Reason, s.reason) {
		w.Errorf("the reason is %q, want one with %q", o.Reason, s.reason)
	}
	return l.steps.kinds
}

var eachFault = flag.Bool("each-fault", false, "play each story once more for each of its faults alone")

// Every story is told once without a fault, once with each job run twice, and once each with a fault before, after, and until
// a person has mended it, at every single append there is, the saga's and the edge reports', one after the other: what comes
// after a fault that was got over is what comes without it. All must come to the same end. Then, for each append of the saga's,
// with a fault that a person has rolled back, which leaves nothing. Between them the stories take every kind of step there is.
func TestEveryStoryWithAFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	taken, told := make(map[StepKind]bool), 0
	t.Run("stories", func(t *testing.T) {
		for _, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				kinds := s.tell(w.beside(t))
				mu.Lock()
				defer mu.Unlock()
				told++
				for _, kind := range kinds {
					taken[kind] = true
				}
			})
		}
	})
	for _, kind := range stepKinds(t) {
		if kind != Wait && kind != Done && !taken[kind] && told == len(scenarios) { // -run may leave some out
			t.Errorf("no story takes the step %s", kind)
		}
	}
	if orphans := w.orphans(); len(orphans) > 0 {
		t.Errorf("without an owner: %v", orphans)
	}
}

func (s scenario) tell(w *world) []StepKind {
	w.Helper()
	f := &faulty{next: w.log}
	kinds := s.play(w, f)
	if f.calls != s.appends {
		w.Errorf("the story took %d appends, want %d", f.calls, s.appends)
	}
	s.play(w, &faulty{next: w.log}, func(l *line) { l.twice = true })
	play := func(broken faulty, change ...func(l *line)) {
		w.Helper()
		broken.next = w.log
		s.play(w, &broken, change...)
		for i, this := range f.happy {
			if due := broken.at == i+1 || broken.at == 0; due && !broken.hit[this] && (broken.kind != lasting || this.lasts()) {
				w.Errorf("no fault was injected at %d, %v", i+1, this)
			}
		}
		if w.Failed() {
			w.Fatalf("with a fault %s it, at append %d (0: each), rolled back: %v", broken.kind, broken.at, len(change) > 0)
		}
	}
	for _, kind := range []string{before, after, lasting} {
		play(faulty{kind: kind})
		for i, this := range f.happy {
			if *eachFault && (kind != lasting || this.lasts()) {
				play(faulty{kind: kind, at: i + 1})
			}
		}
	}
	for i, this := range f.happy {
		if this.lasts() {
			play(faulty{kind: lasting, at: i + 1}, func(l *line) { l.rollBack = true })
		}
	}
	return kinds
}

// stepKinds reads from the source which kinds of steps there are, so that none can be forgotten.
func stepKinds(t *testing.T) (kinds []StepKind) {
	t.Helper()
	names := map[string]StepKind{}
	file, err := parser.ParseFile(token.NewFileSet(), "step.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Type != nil && fmt.Sprint(v.Type) == "StepKind" {
			names[v.Names[0].Name] = ""
		}
		return true
	})
	kinds = []StepKind{Wait, Done, AcceptOrder, Allocate, StartTesting, RequestProbe, RequestCutover, CompleteOrder, RequestUndo, RequestTermination,
		Undo, FinishDecommission, FailOrder, RequestChange, ConfirmChange, AbandonChange, AwaitSuspension, AwaitResumption, AwaitRemoval,
		StartRebuild, AbandonRebuild, AwaitRestoration, ReleaseBuild}
	if len(kinds) != len(names) {
		t.Errorf("there are %d kinds of steps, want %d: %v", len(kinds), len(names), names)
	}
	return kinds
}

// effects are the functions that write, and what makes a fault in each of them harmless. All of a saga's are within the
// transaction of an append, so that a fault before and after the append is one before and after each of them.
var effects = map[string]string{
	"append":             "the append of a step",
	"observe":            "the append of an edge node's report",
	"report":             "the append of a step's failure",
	"reserve":            "within an append",
	"hold":               "within an append",
	"release":            "within an append",
	"releaseBuild":       "within an append",
	"keepObstacle":       "within an append",
	"Join":               "within an append",
	"LeaveGroup":         "within an append",
	"keepFailure":        "within an append",
	"forgetFailure":      "within an append",
	"commit":             "within an append",
	"giveBack":           "within an append",
	"start":              "the jobs of a batch, in the transaction that moves the process manager's checkpoint",
	"dropTimers":         "likewise",
	"Start":              "jobs that find nothing to do if they are there already",
	"RebuildCommitments": "what follows from the log, in one transaction",
	"Reconcile":          "what has no owner, in one transaction",
	"Migrate":            "River's tables, in its own transactions",
	"NoteHeard":          "one row, whose next writing is due within half a minute",
	"record":             "one append of a node's silences, which the next look makes again if it is not there",
}

// Whatever writes is known, and so is why a fault in it does no harm.
func TestEveryEffectIsKnown(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	writes := []string{"Append", "Exec", "InsertManyFastTx", "InsertManyFast", "InsertMany", "InsertManyTx", "Insert", "InsertTx", "Migrate", "CopyFrom", "SendBatch", "JobCancel", "JobDelete"}
	found := make(map[string]bool)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if method, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(writes, method.Sel.Name) {
						found[f.Name.Name] = true
					}
				}
				return true
			})
		}
	}
	for name := range found {
		if effects[name] == "" {
			t.Errorf("%s writes: say in effects why a fault in it does no harm", name)
		}
	}
	for name := range effects {
		if !found[name] {
			t.Errorf("%s does not write any more", name)
		}
	}
}

func (w *world) orphans() []Reservation {
	w.Helper()
	p, err := New(Options{Pool: w.pool, Log: w.log})
	if err != nil {
		w.Fatal(err)
	}
	orphans, err := p.Orphans(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return slices.DeleteFunc(orphans, func(r Reservation) bool { return r.Owner == "con_other" })
}
