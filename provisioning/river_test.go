package provisioning

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
	"crossbill/projections"
)

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = time.Minute

// pump runs the process manager until the test ends.
func (w *world) pump(p *Provisioner) {
	w.Helper()
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: w.pool, Log: w.log, Projections: []projections.Projection{p.Projection()}})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- runner.Run(ctx) }()
	w.Cleanup(func() {
		for _, s := range runner.Status() {
			if s.Err != nil {
				w.Errorf("the process manager failed: %v", s.Err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
}

// apply hands the process manager what comes after a position, as in a rebuild.
func (w *world) apply(ctx context.Context, p *Provisioner, after *events.Position) (int, error) {
	page, err := w.log.ReadAll(ctx, *after, 100)
	if err != nil || len(page) == 0 {
		return 0, err
	}
	if err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return p.Projection().Apply(ctx, tx, page) }); err != nil {
		return 0, err
	}
	*after = page[len(page)-1].Position
	return len(page), nil
}

func (w *world) provisioner(o Options, appender appender) *Provisioner {
	w.Helper()
	o.Pool, o.Log = w.pool, w.log
	p, err := New(o)
	if err != nil {
		w.Fatal(err)
	}
	if appender != nil {
		p.appender = appender
	}
	p.backOff = func(int) time.Duration { return time.Millisecond }
	return p
}

func (w *world) start(p *Provisioner) {
	w.Helper()
	if err := p.Start(context.Background()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			w.Error(err)
		}
	})
}

// await lets the edge report until the deal is where it should be.
func (w *world) await(e *scriptedEdge, d deal, arrived func(o order.State, c connection.State) bool) {
	w.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if e != nil {
			if _, err := e.tick(d); err != nil {
				w.Fatal(err)
			}
		}
		o, c := w.states(d)
		if arrived(o, c) {
			return
		}
		if time.Since(began) > patience {
			w.Fatalf("still order %s, connection %s: %v", o.State, c.State, w.history(d))
		}
	}
}

func completed(o order.State, _ connection.State) bool { return o.State == order.StateCompleted }

// jobsSettled waits until River has nothing left to do now.
func (w *world) jobsSettled() {
	w.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if w.jobs(`state IN ('available', 'running', 'retryable')`) == 0 {
			return
		}
		if time.Since(began) > patience {
			w.Fatal("jobs are still running")
		}
	}
}

func (w *world) jobs(where string) (n int) {
	w.Helper()
	if err := w.pool.QueryRow(context.Background(), `SELECT count(*) FROM river_job WHERE `+where).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

func TestFromOrderToProductionAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, nil)
	w.pump(p)
	w.start(p)
	e := w.edge(w.log, time.Now)

	manual, automatic := w.place(wish{manual: true}), w.place(wish{})
	w.await(e, automatic, completed)
	w.check(automatic, order.StateCompleted, connection.StateProduction)
	if o, _ := w.states(manual); o.State != order.StateAwaitingProvider {
		t.Fatalf("nobody answered, and the order is %s", o.State)
	}
	w.commandOrder(manual, order.Accept{By: "the provider", At: now()})
	w.await(e, manual, completed)
	w.check(manual, order.StateCompleted, connection.StateProduction)
	if _, c := w.states(manual); c.BillingFrom == nil || !c.BillingFrom.Equal(e.opened[c.ID]) {
		t.Errorf("billed from %v, the gate opened at %v", c.BillingFrom, e.opened[c.ID])
	}

	w.commandConnection(manual, connection.RequestDecommission{Reason: "no longer needed", At: now()})
	w.await(e, manual, func(_ order.State, c connection.State) bool { return c.Final() })
	w.check(manual, order.StateCompleted, connection.StateDecommissioned)
	w.check(automatic, order.StateCompleted, connection.StateProduction)
}

// The deadline is kept by a job that River has scheduled: nothing else happens that could wake the saga.
func TestDeadlineWakesTheSaga(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{TestingDeadline: 500 * time.Millisecond}, nil)
	w.pump(p)
	w.start(p)
	unanswered := w.place(wish{manual: true, deadline: now().Add(500 * time.Millisecond)})
	untested := w.place(wish{})
	w.await(nil, unanswered, func(o order.State, _ connection.State) bool { return o.Final() })
	w.check(unanswered, order.StateFailed, connection.StateCancelled)
	w.await(nil, untested, func(_ order.State, c connection.State) bool { return c.State == connection.StateCancelling })
	if o, _ := w.states(untested); o.State != order.StateInProgress || len(w.held(untested.connection)) != 3 {
		t.Errorf("the order is %s and %v is held although the edge node still has the connection", o.State, w.held(untested.connection))
	}
	w.await(w.edge(w.log, time.Now), untested, func(o order.State, _ connection.State) bool { return o.Final() })
	w.check(untested, order.StateFailed, connection.StateCancelled)
}

// A replay of the process manager starts jobs for all that ever happened. They find nothing to do.
func TestReplayProvisionsNothingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, nil)
	w.pump(p)
	w.start(p)
	e := w.edge(w.log, time.Now)
	delivered, ended, waiting := w.place(wish{}), w.place(wish{}), w.place(wish{manual: true})
	w.await(e, delivered, completed)
	w.await(e, ended, completed)
	w.commandConnection(ended, connection.RequestDecommission{Reason: "no longer needed", At: now()})
	w.await(e, ended, func(_ order.State, c connection.State) bool { return c.Final() })
	w.jobsSettled()

	before, err := w.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	jobs, again := w.jobs("true"), events.Position(0)
	for again < before.Position {
		if _, err := w.apply(t.Context(), p, &again); err != nil {
			t.Fatal(err)
		}
	}
	if w.jobs("true") == jobs {
		t.Fatal("the replay started no job")
	}
	w.jobsSettled()
	after, err := w.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("the replay appended %d events: %v", after.Position-before.Position, w.history(delivered))
	}
	w.check(delivered, order.StateCompleted, connection.StateProduction)
	w.check(ended, order.StateCompleted, connection.StateDecommissioned)
	w.check(waiting, order.StateAwaitingProvider, connection.StateRequested)
}

// stalled is a process that hangs in an append and wakes up when everybody has given it up for dead.
type stalled struct {
	next    appender
	at      int
	calls   int
	mu      sync.Mutex
	reached chan struct{}
	wake    chan struct{}
}

func (s *stalled) Append(ctx context.Context, a events.Append) (events.Result, error) {
	s.mu.Lock()
	s.calls++
	stall := s.calls == s.at
	s.mu.Unlock()
	if stall {
		close(s.reached)
		<-s.wake
		ctx = context.WithoutCancel(ctx)
	}
	return s.next.Append(ctx, a)
}

// Another node takes up at once what a dead one had running, and the dead one may even come back with its append.
func TestAnotherNodeTakesUpWhatADeadOneLeft(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 3; at++ { // acceptance, allocation, start of testing
		w := newWorld(t)
		dead := &stalled{next: w.log, at: at, reached: make(chan struct{}), wake: make(chan struct{})}
		first := w.provisioner(Options{Workers: 1}, dead)
		w.pump(first)
		w.start(first)
		d := w.place(wish{})
		<-dead.reached

		second := w.provisioner(Options{}, nil)
		w.start(second)
		w.await(w.edge(w.log, time.Now), d, completed)
		w.check(d, order.StateCompleted, connection.StateProduction)
		close(dead.wake)
		w.jobsSettled()
		w.check(d, order.StateCompleted, connection.StateProduction)
	}
}

// The process manager's jobs and its checkpoint are one transaction: if that is lost, so are the jobs.
func TestJobsComeAndGoWithTheCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, nil)
	w.place(wish{})
	page, err := w.log.ReadAll(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
		return errors.Join(p.Projection().Apply(t.Context(), tx, page), errInjected)
	})
	if err == nil || w.jobs("true") != 0 {
		t.Fatalf("%d jobs without a checkpoint (%v)", w.jobs("true"), err)
	}
	err = pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error { return p.Projection().Apply(t.Context(), tx, page) })
	if err != nil {
		t.Fatal(err)
	}
	if now, later := w.jobs(`state = 'available'`), w.jobs(`state = 'scheduled' AND args ->> 'timer' = 'true'`); now != 1 || later != 1 {
		t.Errorf("%d jobs for now and %d for a deadline, want one for the order and its connection, one for the deadline", now, later)
	}
}

// A step that fails for good is told to the operator and shown with the connection. A restart leaves it to a person, who has
// it tried again.
func TestGivenUpStepsAreToldAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var out syncBuffer
	p := w.provisioner(Options{Logger: slog.New(slog.NewTextHandler(&out, nil)), StepAttempts: 3}, appenderFunc(
		func(ctx context.Context, a events.Append) (events.Result, error) {
			if _, failed := a.Streams[0].Events[0].Event.(connection.StepFailed); failed {
				return w.log.Append(ctx, a)
			}
			panic("injected")
		}))
	w.start(p)
	d := w.place(wish{})
	opts := insertOpts(time.Time{})
	opts.MaxAttempts = 3
	if _, err := p.client.Insert(t.Context(), AdvanceArgs{OrderID: d.order, Cause: "test"}, opts); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); w.jobs(`state = 'discarded'`) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the job was not given up")
		}
	}
	if text := out.String(); strings.Count(text, "will be tried again") != 2 || strings.Count(text, "a person is needed") != 1 ||
		!strings.Contains(text, "level=ERROR") || !strings.Contains(text, "hint=") {
		t.Errorf("the operator reads: %s", text)
	}
	_, c := w.states(d)
	if tr := c.Trouble; tr == nil || tr.State != connection.TroubleOperator || tr.Attempts != 3 || tr.OrderID != d.order || tr.Step != string(AcceptOrder) ||
		!strings.Contains(w.obstacle(d.order), "panic: injected") {
		t.Errorf("the connection shows %+v, because %q", tr, w.obstacle(d.order))
	}

	if err := p.Stop(t.Context()); err != nil { // or it takes the mended one's jobs, and gives them up again
		t.Fatal(err)
	}
	mended := w.provisioner(Options{}, nil)
	w.pump(mended)
	w.start(mended)
	for began := time.Now(); w.jobs(`state = 'completed'`) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the job was not taken up")
		}
	}
	if o, _ := w.states(d); o.State != order.StateAcknowledged {
		t.Fatalf("without a person the order came to be %s", o.State)
	}
	w.commandConnection(d, connection.RetryStep{Reason: "mended", At: now()})
	w.await(nil, d, func(_ order.State, c connection.State) bool { return c.State == connection.StateTesting })
	if _, c := w.states(d); c.Trouble != nil || w.obstacle(d.order) != "" {
		t.Errorf("it goes on with %+v, because %q", c.Trouble, w.obstacle(d.order))
	}
}

// A failure that can't be recorded, and that nobody would hear of, is tried for good.
func TestWhatCanNotBeRecordedIsTriedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, appenderFunc(func(context.Context, events.Append) (events.Result, error) { return events.Result{}, errInjected }))
	w.start(p)
	d := w.place(wish{})
	opts := insertOpts(time.Time{})
	opts.MaxAttempts = 2
	if _, err := p.client.Insert(t.Context(), AdvanceArgs{OrderID: d.order, Cause: "test"}, opts); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); w.jobs(`state = 'scheduled'`) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the job is not to be tried later")
		}
	}
	if n := w.jobs(`state = 'discarded'`); n != 0 {
		t.Errorf("%d jobs were given up", n)
	}
}

type appenderFunc func(context.Context, events.Append) (events.Result, error)

func (f appenderFunc) Append(ctx context.Context, a events.Append) (events.Result, error) {
	return f(ctx, a)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// obstacle returns what is kept for operators of an order.
func (w *world) obstacle(orderID string) (detail string) {
	w.Helper()
	err := w.pool.QueryRow(context.Background(), `SELECT coalesce(max(detail), '') FROM order_obstacles WHERE order_id = $1`, orderID).Scan(&detail)
	if err != nil {
		w.Fatal(err)
	}
	return detail
}

// Many orders for one port at once: all that fit are delivered, each with numbers of its own, and the others fail.
func TestOrdersRaceForTheLastOfAPort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		capacity  int // of the provider's port, Mbps; an order takes 100
		freeVLANs int // 0: all
		orders    int
		fit       int
		reason    string // what both parties are told
		detail    string // what only operators are
	}{
		{"the last VLAN", 800_000, 1, 2, 1, "the provider's port has no VLAN left", "(port)"},
		{"the last bandwidth", 199, 0, 2, 1, "the provider's port has not enough bandwidth left", "(port) has 99 Mbps of its 199 left, and 100 more are needed"},
		{"a crowd", 1200, 0, 16, 12, "the provider's port has not enough bandwidth left", "(port) has 0 Mbps of its 1200 left, and 100 more are needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			z := w.port(w.node, c.capacity)
			if c.freeVLANs > 0 {
				if _, err := w.pool.Exec(t.Context(), `
					INSERT INTO reservations SELECT 'vlan', $1, n, 'con_other', 0 FROM generate_series(2, 4094 - $2::integer) AS n`, z, c.freeVLANs); err != nil {
					t.Fatal(err)
				}
			}
			deals := make([]deal, c.orders)
			for i := range deals {
				deals[i] = w.place(wish{z: z})
			}
			// One node's workers and another's, both at it at once.
			var log syncBuffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			first, second := w.provisioner(Options{Logger: logger}, nil), w.provisioner(Options{Logger: logger}, nil)
			w.start(first)
			w.start(second)
			w.pump(first)
			e := w.edge(w.log, time.Now)
			fit, tags, vlans := 0, map[int]bool{}, map[int]bool{}
			for _, d := range deals {
				w.await(e, d, func(o order.State, _ connection.State) bool { return o.Final() })
				o, s := w.states(d)
				if o.State == order.StateFailed {
					w.check(d, order.StateFailed, connection.StateCancelled)
					if o.Reason != c.reason || s.Reason != c.reason {
						t.Errorf("the order failed because %q, the connection because %q; want %q", o.Reason, s.Reason, c.reason)
					}
					if text := log.String(); !strings.Contains(text, "the port "+z+" "+c.detail) || !strings.Contains(text, d.order) {
						t.Errorf("operators are not told %q of %s:\n%s", c.detail, d.order, text)
					}
					if kept := w.obstacle(d.order); !strings.HasSuffix(kept, z+" "+c.detail) {
						t.Errorf("what is kept for operators is %q, want the port %s %s", kept, z, c.detail)
					}
					continue
				}
				w.check(d, order.StateCompleted, connection.StateProduction)
				if tags[s.Tag] || vlans[s.Z.VLAN] {
					t.Errorf("tag %d or VLAN %d was given twice", s.Tag, s.Z.VLAN)
				}
				if kept := w.obstacle(d.order); kept != "" {
					t.Errorf("what stood in the way of a delivered order is %q", kept)
				}
				fit, tags[s.Tag], vlans[s.Z.VLAN] = fit+1, true, true
			}
			if fit != c.fit {
				t.Errorf("%d of %d orders were delivered, want %d", fit, c.orders, c.fit)
			}
			if load, err := portLoad(t.Context(), w.pool, z); err != nil || load != int64(100*c.fit) {
				t.Errorf("the port carries %d Mbps (%v), want %d", load, err, 100*c.fit)
			}
		})
	}
}

func TestReconcileReleasesOrphansOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.provisioner(Options{}, nil)
	w.pump(p)
	w.start(p)
	e := w.edge(w.log, time.Now)
	live, ended := w.place(wish{}), w.place(wish{mbps: 700})
	w.await(e, live, completed)
	w.await(e, ended, completed)
	kept := w.held(ended.connection)
	w.commandConnection(ended, connection.RequestDecommission{Reason: "no longer needed", At: now()})
	w.await(e, ended, func(_ order.State, c connection.State) bool { return c.Final() })

	// What the ended connection held comes back by another hand, and something of a connection there never was.
	kept = append(kept, Reservation{Kind: "tag", Scope: w.node, Number: 99, Owner: w.id(domain.PrefixConnection)})
	for _, r := range kept {
		if _, err := w.pool.Exec(t.Context(), `INSERT INTO reservations VALUES ($1, $2, $3, $4, $5)`, r.Kind, r.Scope, r.Number, r.Owner, r.Mbps); err != nil {
			t.Fatal(err)
		}
	}
	released, err := p.Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byNumber := func(a, b Reservation) int { return strings.Compare(a.Owner+a.Kind+a.Scope, b.Owner+b.Kind+b.Scope) }
	slices.SortFunc(released, byNumber)
	slices.SortFunc(kept, byNumber)
	if !slices.Equal(released, kept) {
		t.Errorf("released %v, want %v", released, kept)
	}
	held, err := p.Reservations(t.Context(), "")
	if err != nil || len(held) != 3 || held[0].Owner != live.connection {
		t.Errorf("left: %v (%v), want what the live connection holds", held, err)
	}
	if orphans, err := p.Orphans(t.Context()); err != nil || len(orphans) != 0 {
		t.Errorf("still without an owner: %v (%v)", orphans, err)
	}
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.pool.Exec(t.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		t.Fatal(err)
	}
	failures := make(chan error, 3)
	for range cap(failures) {
		go func() { failures <- Migrate(context.Background(), w.pool) }()
	}
	for range cap(failures) {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if n := w.jobs("true"); n != 0 {
		t.Errorf("%d jobs", n)
	}
}

// Two sagas choose the same last thing, and one is overtaken between choosing and appending: it must look again.
func TestOvertakenBetweenChoosingAndAppending(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		capacity int
		occupied string // what is not free
		reason   string // "" when there is enough for both
	}{
		{"bandwidth", 199, "", "the provider's port has not enough bandwidth left"},
		{"VLAN", 1000, `SELECT 'vlan', $1, n, 'con_other', 0 FROM generate_series(2, 4093) AS n WHERE $2 <> ''`, "has no VLAN left"},
		{"tag", 1000, `SELECT 'tag', $2, n, 'con_other', 0 FROM generate_series(1, 16382) AS n WHERE $1 <> ''`, "has no room for another connection"},
		{"nothing is scarce", 1000, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			z := w.port(w.node, c.capacity)
			if c.occupied != "" {
				if _, err := w.pool.Exec(t.Context(), `INSERT INTO reservations `+c.occupied, z, w.node); err != nil {
					t.Fatal(err)
				}
			}
			slow, fast := w.place(wish{z: z}), w.place(wish{z: z})
			overtaking, calls := w.provisioner(Options{}, nil), 0
			overtaken := w.provisioner(Options{}, appenderFunc(func(ctx context.Context, a events.Append) (events.Result, error) {
				if calls++; calls == 2 { // the first is the acceptance
					if _, err := overtaking.advance(ctx, AdvanceArgs{OrderID: fast.order}); err != nil {
						t.Error(err)
					}
				}
				return w.log.Append(ctx, a)
			}))
			if _, err := overtaken.advance(t.Context(), AdvanceArgs{ConnectionID: slow.connection}); err != nil {
				t.Fatal(err)
			}
			o, s := w.states(slow)
			_, f := w.states(fast)
			if f.State != connection.StateTesting {
				t.Fatalf("the overtaking connection is %s", f.State)
			}
			switch {
			case c.reason != "":
				w.check(slow, order.StateFailed, connection.StateCancelled)
				if !strings.Contains(o.Reason, c.reason) {
					t.Errorf("failed because %q, want %q", o.Reason, c.reason)
				}
			case s.State != connection.StateTesting || s.Tag == f.Tag || s.Z.VLAN == f.Z.VLAN:
				t.Errorf("%s with tag %d and VLAN %d, the other has %d and %d", s.State, s.Tag, s.Z.VLAN, f.Tag, f.Z.VLAN)
			}
		})
	}
}
