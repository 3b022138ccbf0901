package provisioning

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/events"
)

// A step is decided on what was loaded. If the order moves on before the append, the step must not be recorded.
func TestAStepIsForTheStateItWasDecidedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, moved := w.place(wish{}), false
	p := w.provisioner(Options{}, appenderFunc(func(ctx context.Context, a events.Append) (events.Result, error) {
		if !moved {
			moved = true
			w.commandOrder(d, order.Cancel{Reason: "changed plans", At: now()})
		}
		return w.log.Append(ctx, a)
	}))
	if _, err := p.advance(t.Context(), AdvanceArgs{OrderID: d.order}); err != nil {
		t.Fatal(err)
	}
	w.check(d, order.StateCancelled, connection.StateCancelled)
	if types := w.history(d); types[1] != "order.cancelled" || types[2] != "connection.requested" {
		t.Errorf("the order was accepted too: %v", types)
	}
}

// A job goes on from what its own steps made of the saga. What others appended meanwhile may have started a job that was over
// before the step was taken, so that this one must see it before it rests.
func TestASagaRestsOnWhatTheLogSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, moved := w.place(wish{}), false
	p := w.provisioner(Options{}, appenderFunc(func(ctx context.Context, a events.Append) (events.Result, error) {
		if _, last := a.Streams[0].Events[0].Event.(connection.TestingStarted); last {
			moved = true
			w.commandOrder(d, order.Cancel{Reason: "changed plans", At: now()})
		}
		return w.log.Append(ctx, a)
	}))
	if _, err := p.advance(t.Context(), AdvanceArgs{OrderID: d.order}); err != nil || !moved {
		t.Fatal(err, moved)
	}
	if o, c := w.states(d); o.State != order.StateCancelling || c.State != connection.StateCancelling {
		t.Errorf("the order is %s, its connection %s", o.State, c.State)
	}
}

// What a saga records starts no job but for its deadline; what others record does.
func TestASagaStartsNoJobForItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, nil)
	d, position := w.place(wish{}), events.Position(0)
	if _, err := w.apply(t.Context(), p, &position); err != nil {
		t.Fatal(err)
	}
	if _, err := p.advance(t.Context(), AdvanceArgs{OrderID: d.order}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after         string
		do            func()
		now, deadline int
	}{
		{"its steps", func() {}, 1, 2},
		{"a cancellation", func() { w.commandOrder(d, order.Cancel{Reason: "changed plans", At: now()}) }, 2, 2},
	} {
		c.do()
		if _, err := w.apply(t.Context(), p, &position); err != nil {
			t.Fatal(err)
		}
		if jobs, timers := w.jobs(`state = 'available'`), w.jobs(`args ->> 'timer' = 'true'`); jobs != c.now || timers != c.deadline {
			t.Errorf("after %s there are %d jobs and %d for a deadline, want %d and %d", c.after, jobs, timers, c.now, c.deadline)
		}
	}
}

// A job that loses every race ends in an error, so that River tries it later, and does not spin.
func TestRacesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, calls := w.place(wish{}), 0
	p := w.provisioner(Options{}, appenderFunc(func(context.Context, events.Append) (events.Result, error) {
		calls++
		return events.Result{}, domain.Errorf(domain.Conflict, "test", "always")
	}))
	if _, err := p.advance(t.Context(), AdvanceArgs{OrderID: d.order}); domain.CodeOf(err) != domain.Conflict || calls != maxRacesPerJob+1 {
		t.Errorf("%d appends, then %v", calls, err)
	}
}

// A job that waits for nothing but time comes back by itself if the time is short or if it is a deadline's own.
func TestJobsSnoozeUntilTheirTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{ProbePause: 20 * time.Second}, nil)
	far := w.place(wish{manual: true})
	soon := w.place(wish{manual: true, deadline: now().Add(longestSnooze / 2)})
	l := w.line(&faulty{next: w.log})
	delivered := w.place(wish{})
	l.d = delivered
	l.jobs = append(l.jobs, AdvanceArgs{OrderID: delivered.order})
	l.settle(false)
	for _, c := range []struct {
		name     string
		args     AdvanceArgs
		from, to time.Duration // 0: it is done
	}{
		{"a deadline's job that is early", AdvanceArgs{OrderID: far.order, Timer: true}, 71 * time.Hour, 72 * time.Hour},
		{"an event's job, far from the deadline", AdvanceArgs{OrderID: far.order}, 0, 0},
		{"an event's job, close to the deadline", AdvanceArgs{ConnectionID: soon.connection}, time.Millisecond, longestSnooze / 2},
		{"a deadline's job that has nothing to wait for", AdvanceArgs{OrderID: delivered.order, Timer: true}, 0, 0},
	} {
		err := (&worker{provisioner: p}).Work(t.Context(), &river.Job[AdvanceArgs]{Args: c.args})
		var snooze *river.JobSnoozeError
		switch {
		case c.to == 0 && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.to != 0 && (!errors.As(err, &snooze) || snooze.Duration < c.from || snooze.Duration > c.to):
			t.Errorf("%s: %v, want a snooze of %s to %s", c.name, err, c.from, c.to)
		}
	}
	w.check(delivered, order.StateCompleted, connection.StateProduction)
}

// A job that failed is tried again after its back-off, and that is what the connection says of it.
func TestFailedJobsBackOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.line(&faulty{next: w.log, kind: lasting, at: 1})
	l.d = l.place(wish{at: l.clock})
	job := AdvanceArgs{OrderID: l.d.order}
	for attempt, wait := range []time.Duration{time.Second, 2 * time.Second} {
		l.run(job)
		if _, c := l.states(l.d); c.Trouble == nil || c.Trouble.Attempts != attempt+1 || c.Trouble.NextRetryAt == nil || !c.Trouble.NextRetryAt.Equal(l.clock.Add(wait)) {
			t.Errorf("after %d attempts at %s: %+v", attempt+1, l.clock, c.Trouble)
		}
		before := time.Now()
		next := (&worker{provisioner: l.p}).NextRetry(&river.Job[AdvanceArgs]{JobRow: &rivertype.JobRow{Attempt: attempt + 1}, Args: job})
		if next.Before(before.Add(wait)) || next.After(time.Now().Add(wait)) {
			t.Errorf("after %d attempts at %s, the next is at %s", attempt+1, before, next)
		}
	}
}

// A change that a person is needed for goes on when the connection ends: its trouble ended with that, and nothing else would.
func TestAChangeInTroubleHearsOfTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &faulty{next: w.log}
	l := w.line(f)
	l.d = l.place(wish{at: l.clock})
	l.settle(false)
	f.kind, f.at = lasting, f.calls+1
	reorder(400, listing.ApprovalAutomatic)(l)
	for range 3 {
		l.run(AdvanceArgs{OrderID: l.more[0]})
	}
	if _, c := l.states(l.d); c.Trouble == nil || c.Trouble.State != connection.TroubleOperator || c.Trouble.OrderID != l.more[0] {
		t.Fatalf("the trouble is %+v", c.Trouble)
	}
	f.kind, f.stuck, l.jobs = "", "", nil
	l.collect()
	l.jobs = nil // all have run, and wait for a person
	terminate(l)
	l.settle(false)
	wants("failed: is decommission requested")(l)
	w.check(l.d, order.StateCompleted, connection.StateDecommissioned)
}

// Another build has the time for its tests that a new connection has.
func TestARebuildHasTheTimeOfATest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.line(&faulty{next: w.log})
	l.d = l.place(wish{at: l.clock})
	l.settle(false)
	l.edge.noNewBGP = true
	asked := l.clock
	move(l)
	l.settle(false)
	if _, c := l.states(l.d); c.Rebuild == nil || c.Rebuild.Deadline.Before(asked.Add(DefaultTestingDeadline)) || c.Rebuild.Deadline.After(l.clock.Add(DefaultTestingDeadline)) {
		t.Errorf("asked for at %s: %+v", asked, c.Rebuild)
	}
}

// Whatever is waited for has a timer of its own: those of what came before it may have run out.
func TestEveryWaitHasATimer(t *testing.T) {
	t.Parallel()
	p, err := New(Options{Pool: newWorld(t).pool, Log: new(events.Log), ChangeWithin: time.Hour, EdgeWithin: 3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	at, by := now(), now().Add(time.Minute)
	for e, want := range map[domain.Event]time.Time{
		order.Approved{Deadline: by}:                     by,
		order.QuestionAsked{AnswerBy: by}:                by,
		order.QuestionAnswered{Deadline: by}:             by,
		connection.TestingStarted{Deadline: by}:          by,
		connection.ChangeRequested{At: at}:               at.Add(time.Hour),
		connection.RebuildAbandoned{At: at}:              at.Add(3 * time.Hour),
		connection.Rebuilt{At: at}:                       at.Add(3 * time.Hour),
		connection.TerminationScheduled{EffectiveAt: by}: by,
		connection.SuspensionRequested{At: at}:           at.Add(3 * time.Hour),
		connection.ResumptionRequested{At: at}:           at.Add(3 * time.Hour),
		connection.DecommissionRequested{At: at}:         at.Add(3 * time.Hour),
		connection.CancellationRequested{At: at}:         at.Add(3 * time.Hour),
		connection.StepRetried{At: at}:                   at.Add(3 * time.Hour),
		connection.Suspended{At: at}:                     {},
	} {
		if got := p.deadlineSet(e); !got.Equal(want) {
			t.Errorf("%T has a timer at %s, want %s", e, got, want)
		}
	}
	if got := p.deadlineSet(order.Placed{Deadline: by}); !got.Equal(by) { // not comparable, as the next
		t.Errorf("an order has a timer at %s, want %s", got, by)
	}
	if got := p.deadlineSet(connection.RebuildStarted{Deadline: by}); !got.Equal(by) {
		t.Errorf("a rebuild has a timer at %s, want %s", got, by)
	}
}

func TestBackOffDoublesUpToALimit(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: maxBackOff, maxAttempts: maxBackOff} {
		if got := backOff(attempt); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
	}
}

// A customer may cancel in the very moment that the connection goes into production. Then it is taken down again, and
// billed for no time.
func TestCancelledOnTheWayIntoProduction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var l *line
	l = w.line(&faulty{next: appenderFunc(func(ctx context.Context, a events.Append) (events.Result, error) {
		if _, completes := a.Streams[0].Events[0].Event.(order.Completed); completes {
			w.commandOrder(l.d, order.Cancel{Reason: "changed plans", At: l.clock})
		}
		return w.log.Append(ctx, a)
	})})
	l.d = w.place(wish{at: l.clock})
	l.settle(true)
	o, c := w.states(l.d)
	if types := w.history(l.d); !slices.Equal(types[len(types)-2:], []string{"connection.edge_closed", "connection.decommissioned"}) || types[3] != "order.cancelled" {
		t.Errorf("the order was not cancelled last: %v", types)
	}
	if o.State != order.StateCancelled || c.State != connection.StateDecommissioned || c.Reason != "the order was cancelled: changed plans" {
		t.Fatalf("ended as order %s, connection %s (%s): %v", o.State, c.State, c.Reason, w.history(l.d))
	}
	if !c.BillingTo.Equal(*c.BillingFrom) {
		t.Errorf("billed from %s to %s", c.BillingFrom, c.BillingTo)
	}
	if held := w.held(l.d.connection); len(held) != 0 {
		t.Errorf("still held: %v", held)
	}
}
