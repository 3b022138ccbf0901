package projections_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// ticked is an event for these tests, rung one that an older program does not know.
type (
	ticked struct {
		N int `json:"n"`
	}
	rung struct{}
)

func (ticked) EventType() string { return "test.ticked" }
func (rung) EventType() string   { return "test.rung" }

// ticker is a log of ticks and a table that a projection of them writes.
type ticker struct {
	*testing.T
	pool *pgxpool.Pool
	log  *events.Log
}

func newTicker(t *testing.T) *ticker {
	t.Helper()
	tick := &ticker{T: t, pool: pgtest.New(t)}
	tick.log = tick.open(ticked{})
	if _, err := tick.pool.Exec(t.Context(), `CREATE TABLE ticks (position bigint NOT NULL, n bigint NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return tick
}

func (k *ticker) open(known ...domain.Event) *events.Log {
	k.Helper()
	codec, err := events.NewCodec(known)
	if err != nil {
		k.Fatal(err)
	}
	log, err := events.Open(k.Context(), k.pool, codec, events.Options{})
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(log.Close)
	return log
}

func (k *ticker) append(n int) (last events.Position) {
	k.Helper()
	return k.appendTo(k.log, ticks(n)...)
}

func ticks(n int) []domain.Event {
	all := make([]domain.Event, n)
	for i := range all {
		all[i] = ticked{i}
	}
	return all
}

func (k *ticker) appendTo(log *events.Log, facts ...domain.Event) events.Position {
	k.Helper()
	a := events.StreamAppend{Stream: "tick-a", Expected: events.Any}
	for _, fact := range facts {
		a.Events = append(a.Events, events.NewEvent{Event: fact})
	}
	r, err := log.Append(k.Context(), events.Append{Streams: []events.StreamAppend{a}})
	if err != nil {
		k.Fatal(err)
	}
	return r.Last
}

// run starts a runner of the projections. stop ends it, and so does the test's end.
func (k *ticker) run(all ...projections.Projection) (r *projections.Runner, stop func()) {
	k.Helper()
	r, err := projections.NewRunner(projections.RunnerOptions{Pool: k.pool, Log: k.log, Projections: all})
	if err != nil {
		k.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			k.Error(err)
		}
	})
	k.Cleanup(stop)
	return r, stop
}

func (k *ticker) waitFor(r *projections.Runner, position events.Position, names ...string) {
	k.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.WaitFor(ctx, position, names...); err != nil {
		k.Fatal(err)
	}
}

// count is a projection that writes a row for each event, and insists that they come in order and without a gap.
func (k *ticker) count(name string) projections.Projection {
	return projections.Projection{Name: name, Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		var last events.Position
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM ticks`).Scan(&last); err != nil {
			return err
		}
		for i, e := range batch {
			if e.Position != last+events.Position(i)+1 {
				k.Errorf("position %d after %d", e.Position, last)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO ticks VALUES ($1, $2)`, e.Position, e.Event.(ticked).N); err != nil {
				return err
			}
		}
		return nil
	}}
}

// requireOnce wants every event in the table once.
func (k *ticker) requireOnce(last events.Position) {
	k.Helper()
	var rows, distinct, top events.Position
	err := k.pool.QueryRow(context.Background(), `SELECT count(*), count(DISTINCT position), coalesce(max(position), 0) FROM ticks`).Scan(&rows, &distinct, &top)
	if err != nil || rows != last || distinct != last || top != last {
		k.Errorf("%d rows of %d positions up to %d, want %d; %v", rows, distinct, top, last, err)
	}
}

// TestExactlyOnce has two processes run the same projection while it fails in every way it can, and each event take
// effect once.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	var calls, failures atomic.Int64
	faulty := func(seed uint64) projections.Projection {
		random := rand.New(rand.NewPCG(7, seed))
		p := k.count("count")
		apply := p.Apply
		p.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			kind := random.IntN(10)
			if calls.Add(1); kind < 5 {
				failures.Add(1)
			}
			if kind == 0 {
				return errors.New("before writing")
			}
			if err := apply(ctx, tx, batch); err != nil {
				return err
			}
			switch kind {
			case 1:
				return errors.New("after writing")
			case 2:
				panic("after writing")
			case 3:
				tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			case 4:
				tx.Exec(ctx, `SELECT 1/0`) // and passes over it
			}
			return nil
		}
		return p
	}
	one, _ := k.run(faulty(1))
	two, _ := k.run(faulty(2))
	var last events.Position
	for range 60 {
		last = k.append(1 + rand.IntN(20))
		time.Sleep(5 * time.Millisecond)
	}
	k.waitFor(one, last)
	k.waitFor(two, last)
	k.requireOnce(last)
	if failures.Load() == 0 {
		t.Errorf("no failure in %d calls", calls.Load())
	}
}

// TestOvertaken has another process apply the same events between this one's reading them and its locking the
// checkpoint.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	k.append(5)
	if _, err := k.pool.Exec(t.Context(), `INSERT INTO subscriptions (name) VALUES ('count')`); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	overtake := func() {
		for _, sql := range []string{`INSERT INTO ticks SELECT position, 0 FROM events`, `UPDATE subscriptions SET position = 5`} {
			if _, err := k.pool.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	}
	overtaken := false
	config := k.pool.Config()
	config.ConnConfig.Tracer = beforeQuery(func(sql string) {
		if strings.HasPrefix(sql, "begin") {
			once.Do(func() { overtake(); overtaken = true })
		}
	})
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: k.log, Projections: []projections.Projection{k.count("count")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	k.waitFor(r, 5)
	last := k.append(5)
	k.waitFor(r, last)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	k.requireOnce(last)
	if !overtaken {
		t.Error("nobody was overtaken")
	}
}

// beforeQuery is called with each statement before it is sent.
type beforeQuery func(sql string)

func (f beforeQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	f(q.SQL)
	return ctx
}

func (beforeQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestPoison has an event that a projection can't take: what comes before is applied, the error says where it is, the
// other projections go on, and once the defect is mended it goes on by itself.
func TestPoison(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	last := k.append(40)
	var mended atomic.Bool
	poisoned := k.count("poisoned")
	apply := poisoned.Apply
	poisoned.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		for _, e := range batch {
			if e.Position == 23 && !mended.Load() {
				return errors.New("it is poison")
			}
		}
		return apply(ctx, tx, batch)
	}
	healthy := projections.Projection{Name: "healthy", Apply: func(context.Context, pgx.Tx, []events.Recorded) error { return nil }}
	r, _ := k.run(poisoned, healthy)
	k.waitFor(r, last, "healthy")
	k.waitFor(r, 22, "poisoned")
	k.requireOnce(22)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := r.WaitFor(ctx, 23, "poisoned")
	if domain.CodeOf(err) != domain.Unavailable || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "events 23 to 23: it is poison") {
		t.Errorf("error %v", err)
	}
	s := r.Status()[0]
	if s.Name != "poisoned" || s.State != projections.Retrying || s.Position != 22 || s.Attempts < 2 || s.Err == nil {
		t.Errorf("status %+v", s)
	}
	k.requireNoted("poisoned", "it is poison")
	mended.Store(true)
	k.waitFor(r, last)
	k.requireOnce(last)
	k.requireNoted("poisoned", "")
	if s := r.Status()[0]; s.State != projections.Running || s.Err != nil || s.Attempts != 0 {
		t.Errorf("status %+v", s)
	}
}

// requireNoted wants the projection's row to have an error with the text, or none, within moments.
func (k *ticker) requireNoted(name, text string) {
	k.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var noted string
		err := k.pool.QueryRow(context.Background(), `SELECT coalesce((SELECT error FROM subscriptions WHERE name = $1), '')`, name).Scan(&noted)
		if err != nil {
			k.Fatal(err)
		}
		if (noted == "") == (text == "") && strings.Contains(noted, text) {
			return
		}
		if time.Now().After(deadline) {
			k.Fatalf("noted %q, want %q", noted, text)
		}
	}
}

// TestUnknownEventStops has a newer program write an event that this one does not know. It is never passed over.
func TestUnknownEventStops(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	newer := k.open(ticked{}, rung{})
	k.append(5)
	at := k.appendTo(newer, rung{})
	last := k.append(5)
	r, stop := k.run(k.count("count"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := r.WaitFor(ctx, last)
	if domain.CodeOf(err) != domain.Unavailable || !errors.Is(err, events.ErrUndecodable) || !strings.Contains(err.Error(), "test.rung") || ctx.Err() != nil {
		t.Errorf("error %v", err)
	}
	s := r.Status()[0]
	if s.State != projections.Stopped || s.Position != at-1 || !errors.Is(s.Err, events.ErrUndecodable) {
		t.Errorf("status %+v", s)
	}
	k.requireOnce(at - 1)
	k.requireNoted("count", "test.rung")
	stop()

	k.log = newer
	known := k.count("count")
	apply := known.Apply
	known.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		for i, e := range batch {
			if e.Event == (rung{}) {
				batch[i].Event = ticked{}
			}
		}
		return apply(ctx, tx, batch)
	}
	r, _ = k.run(known)
	k.waitFor(r, last)
	k.requireOnce(last)
}

// TestWaitFor holds the time from an append's return to its effect to milliseconds.
func TestWaitFor(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	r, _ := k.run(k.count("count"), projections.Projection{Name: "other", Apply: func(context.Context, pgx.Tx, []events.Recorded) error { return nil }})
	k.waitFor(r, 0)
	var quick int
	const rounds, soon = 30, 100 * time.Millisecond // far more than it takes, far less than any polling
	for range rounds {
		last := k.append(1)
		begin := time.Now()
		k.waitFor(r, last)
		if time.Since(begin) < soon {
			quick++
		}
	}
	if quick < rounds*2/3 {
		t.Errorf("%d of %d waits took less than %v", quick, rounds, soon)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := r.WaitFor(ctx, rounds+1, "other"); domain.CodeOf(err) != domain.Unavailable || time.Since(begin) > 5*time.Second {
		t.Errorf("a wait for what does not come: %v after %v", err, time.Since(begin))
	}
	if err := r.WaitFor(t.Context(), 0, "none"); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a projection that is not there: %v", err)
	}
}

// TestTakeover ends the process that works on a projection; the one that stood by goes on within moments, and a third
// that runs nothing itself can wait for it.
func TestTakeover(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	hanging := k.count("count")
	hanging.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		if _, err := tx.Exec(ctx, `SELECT`); err != nil { // begins the transaction
			return err
		}
		close(entered)
		<-leave
		return ctx.Err() // its process is gone by then
	}
	_, stop := k.run(hanging)
	last := k.append(10)
	<-entered
	second, _ := k.run(k.count("count"))
	for deadline := time.Now().Add(10 * time.Second); second.Status()[0].State != projections.Standby; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", second.Status())
		}
	}
	k.requireOnce(0)
	go func() { time.Sleep(10 * time.Millisecond); close(leave) }()
	stop()
	begin := time.Now()
	onlooker, err := projections.NewRunner(projections.RunnerOptions{Pool: k.pool, Log: k.log, Projections: []projections.Projection{k.count("count")}})
	if err != nil {
		t.Fatal(err)
	}
	k.waitFor(onlooker, last)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the takeover took %v", took)
	}
	k.requireOnce(last)
}

func TestNewRunner(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, pgx.Tx, []events.Recorded) error { return nil }
	for name, all := range map[string][]projections.Projection{
		"no name":     {{Apply: nothing}},
		"no function": {{Name: "x"}},
		"twice":       {{Name: "x", Apply: nothing}, {Name: "x", Apply: nothing}},
	} {
		if _, err := projections.NewRunner(projections.RunnerOptions{Projections: all}); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
