package provisioning

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

var errInjected = errors.New("injected")

// faulty passes appends on, and fails one of them: before it happens, or after, as when the answer gets lost or the
// process dies with the work done.
type faulty struct {
	next  appender
	at    int // from 1; 0: never
	after bool
	calls int
}

func (f *faulty) Append(ctx context.Context, a events.Append) (events.Result, error) {
	f.calls++
	if f.calls == f.at && !f.after {
		return events.Result{}, errInjected
	}
	r, err := f.next.Append(ctx, a)
	if f.calls == f.at && f.after && err == nil {
		return events.Result{}, errInjected
	}
	return r, err
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
	timers   []time.Time
	twice    bool // every job is run once more, as after a crash between its last append and its completion
}

func (w *world) line(f *faulty) *line {
	l := &line{world: w, clock: now()}
	p, err := New(Options{Pool: w.pool, Log: w.log, Clock: func() time.Time { return l.clock }, ProbeAttempts: 3})
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
		news, err := l.edge.tick(l.d)
		switch {
		case err != nil && !errors.Is(err, errInjected):
			l.Fatal(err)
		case err != nil || news:
			continue
		case !jump || len(l.timers) == 0:
			return
		}
		slices.SortFunc(l.timers, time.Time.Compare)
		if l.timers[0].After(l.clock) {
			l.clock = l.timers[0]
		}
		l.timers = l.timers[1:]
		l.jobs = append(l.jobs, AdvanceArgs{ConnectionID: l.d.connection, Timer: true})
	}
	l.Fatalf("it never came to rest: %v", l.history(l.d))
}

// collect reads what is new in the log, as the process manager does.
func (l *line) collect() {
	l.Helper()
	page, err := l.log.ReadAll(context.Background(), l.position, events.MaxRead)
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range page {
		l.position = r.Position
		if args, ok := concerned(r); ok {
			l.jobs = append(l.jobs, args)
		}
		if deadline := deadlineSet(r.Event); !deadline.IsZero() {
			l.timers = append(l.timers, deadline)
		}
	}
}

func (l *line) run(job AdvanceArgs) {
	l.Helper()
	step, err := l.p.advance(context.Background(), job)
	switch {
	case errors.Is(err, errInjected):
		l.jobs = append(l.jobs, job)
		return
	case err != nil:
		l.Fatal(err)
	}
	if wait := step.Until.Sub(l.clock); !step.Until.IsZero() && (job.Timer || wait <= longestSnooze) {
		l.timers = append(l.timers, step.Until)
	}
	if l.twice {
		if again, err := l.p.advance(context.Background(), job); err != nil || again.Kind != step.Kind {
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
	reason     string // part of the order's
	appends    int    // of the saga and the edge node together: fewer is a test that misses steps
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
		slices.SortFunc(l.timers, time.Time.Compare)
		for len(l.timers) > 0 && l.timers[0].Before(until) {
			if l.timers[0].After(l.clock) {
				l.clock = l.timers[0]
			}
			l.timers = l.timers[1:]
			l.run(AdvanceArgs{ConnectionID: l.d.connection, Timer: true})
			l.settle(false)
			slices.SortFunc(l.timers, time.Time.Compare)
		}
		l.clock = until
	}
}

func terminate(l *line) {
	l.commandConnection(l.d, connection.RequestDecommission{Reason: "no longer needed", At: l.clock})
}

var scenarios = []scenario{
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
		order: order.StateFailed, connection: connection.StateCancelled, reason: "has 99 Mbps of its 99 left, and 100 are needed", appends: 2},
	{name: "one port is too small for both ends", wish: func(w *world) wish { p := w.port(w.node, 199); return wish{a: p, z: p} },
		order: order.StateFailed, connection: connection.StateCancelled, reason: "has 199 Mbps of its 199 left, and 200 are needed", appends: 2},
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
	}, order: order.StateFailed, connection: connection.StateCancelled, reason: "has no VLAN left", appends: 2},
}

func (s scenario) play(w *world, f *faulty, twice bool) {
	w.Helper()
	l := w.line(f)
	l.twice = twice
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
		l.settle(false)
		act(l)
	}
	l.settle(true)
	w.check(l.d, s.order, s.connection)
	if o, _ := w.states(l.d); !strings.Contains(o.Reason, s.reason) {
		w.Errorf("the reason is %q, want one with %q", o.Reason, s.reason)
	}
}

// Every story is told once without a fault, once with each job run twice, and once with a fault before and one after
// each single append there is: the saga's and the edge reports'. All must come to the same end.
func TestEveryStoryWithAFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := &faulty{next: w.log}
			s.play(w, f, false)
			if f.calls != s.appends {
				t.Errorf("the story took %d appends, want %d", f.calls, s.appends)
			}
			s.play(w, &faulty{next: w.log}, true)
			for at := 1; at <= f.calls; at++ {
				for _, after := range []bool{false, true} {
					broken := &faulty{next: w.log, at: at, after: after}
					s.play(w, broken, false)
					if broken.calls < at {
						t.Errorf("no fault was injected at %d", at)
					}
					if t.Failed() {
						t.Fatalf("with a fault at append %d, after it: %v", at, after)
					}
				}
			}
			if orphans := w.orphans(); len(orphans) > 0 {
				t.Errorf("without an owner: %v", orphans)
			}
		})
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
