package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/pgtest"
	"crossbill/events/postgres"
	"crossbill/migrations"
)

// TestConnectionsCut has sessions of the sequencer cut off at any point of a flush, while callers append without ids of
// their own. Every caller must get its acknowledgement, and every event must be there once.
func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	stop := make(chan struct{})
	const writers, rounds = 8, 25
	results := make([][]Result, writers)
	var acknowledged atomic.Int64
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := l.Append(context.Background(), one(fmt.Sprintf("note-%d", w), ExpectedVersion(i), nil, fmt.Sprintf("%d.%d", w, i)))
				if err != nil || r.Duplicate {
					t.Errorf("append %d of %d: %+v, %v", i, w, r, err)
					return
				}
				results[w] = append(results[w], r)
				acknowledged.Add(1)
			}
		})
	}
	cuts := 0
	for i := range rounds {
		var n int
		if err := pool.QueryRow(t.Context(), `
			SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			 WHERE datname = current_database() AND application_name LIKE 'crossbill %'
		`).Scan(&n); err != nil {
			t.Error(err)
		}
		cuts += n
		// Who is cut off again before it is back gets nothing done, on a busy machine for ever.
		for before, until := acknowledged.Load(), time.Now().Add(10*time.Second); acknowledged.Load() == before && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(60*time.Millisecond + time.Duration(i*137)*time.Microsecond)
	}
	close(stop)
	writing.Wait()
	if cuts < rounds {
		t.Errorf("only %d sessions were cut", cuts)
	}
	got, total := texts(t, l), 0
	for w, mine := range results {
		total += len(mine)
		for i, r := range mine {
			if want := fmt.Sprintf("%d.%d", w, i); r.First != r.Last || got[r.First-1] != want {
				t.Errorf("%s was acknowledged at %d, where %s is", want, r.First, got[r.First-1])
			}
		}
	}
	if len(got) != total || total < rounds {
		t.Errorf("%d events, %d acknowledged", len(got), total)
	}
	requireSound(t, pool)
}

// TestCommitAnswerLost loses the connection right before, or right after, the server gets the commit. The caller must be
// told that the events are recorded, and they must be so once: by this attempt or by the next.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	for name, delivered := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			config := pgtest.New(t).Config()
			dial := config.ConnConfig.DialFunc
			config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return &losingConn{conn, &armed, delivered}, err
			}
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			l := openOn(t, pool, Options{})
			mustAppend(t, l, one("note-a", NoStream, nil, "1"))
			asked := 0
			a := one("note-a", 1, nil, "2", "3")
			a.Ask = func(ctx context.Context, tx pgx.Tx) error {
				asked++
				armed.Store(asked == 1)
				_, err := tx.Exec(ctx, `INSERT INTO reserved_keys VALUES ('k', 'x', 'o')`)
				return err
			}
			if r := mustAppend(t, l, a); r != (Result{First: 2, Last: 3}) {
				t.Errorf("result %+v", r)
			}
			if want := map[bool]int{true: 1, false: 2}[delivered]; asked != want || armed.Load() {
				t.Errorf("asked %d times, want %d; armed %t", asked, want, armed.Load())
			}
			if got := texts(t, l); !slices.Equal(got, []string{"1", "2", "3"}) {
				t.Errorf("events %v", got)
			}
			requireSound(t, pool)
		})
	}
}

// losingConn breaks, once armed, at the write that carries a commit, which is the one with the notification.
type losingConn struct {
	net.Conn
	armed     *atomic.Bool
	delivered bool // the write reaches the server, and the answer does not come back
}

func (c *losingConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(notifyChannel)) && c.armed.CompareAndSwap(true, false) {
		if c.delivered {
			c.Conn.Write(b)
			c.Conn.Read(make([]byte, 1)) // the answer, which says that it is done
		}
		c.Conn.Close()
		return 0, errors.New("the connection broke")
	}
	return c.Conn.Write(b)
}

// TestAskCutsConnection has one ask function that always loses the connection; its neighbours must not notice.
func TestAskCutsConnection(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	cutting := one("note-b", NoStream, nil, "cutting")
	cutting.Ask = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}
	var once sync.Once
	unlucky := one("note-c", NoStream, nil, "unlucky") // loses it through no fault of its own
	unlucky.Ask = func(ctx context.Context, tx pgx.Tx) (err error) {
		once.Do(func() { _, err = tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`) })
		return err
	}
	leaving := one("note-d", NoStream, nil, "leaving") // leaves the connection busy
	leaving.Ask = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Query(ctx, `SELECT generate_series(1, 10)`)
		return err
	}
	slow := one("note-e", NoStream, nil, "slow")
	slow.Ask = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
		return err
	}
	for i, c := range flushTogether(t, l, []expectation{
		{a: one("note-a", NoStream, nil, "1"), want: Result{First: 1, Last: 1}},
		{a: cutting, code: domain.Unavailable},
		{a: unlucky, want: Result{First: 2, Last: 2}},
		{a: leaving, code: domain.Internal},
		{a: slow, code: domain.Internal},
		{a: one("note-a", 1, nil, "2"), want: Result{First: 3, Last: 3}},
	}) {
		if c.err != nil || c.result != c.want {
			t.Errorf("append %d: %+v, %v; want %+v", i, c.result, c.err, c.want)
		}
	}
	if got := texts(t, l); !slices.Equal(got, []string{"1", "unlucky", "2"}) {
		t.Errorf("events %v", got)
	}
	requireSound(t, pool)
}

// TestRefusedByPostgres has events that pass every check and that PostgreSQL refuses all the same.
func TestRefusedByPostgres(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	if _, err := pool.Exec(t.Context(), `ALTER TABLE events ADD CHECK (stream <> 'note-bad')`); err != nil {
		t.Fatal(err)
	}
	large := make([]string, copyFrom)
	for i, c := range flushTogether(t, l, []expectation{
		{a: one("note-a", NoStream, nil, "1"), want: Result{First: 1, Last: 1}},
		{a: one("note-bad", NoStream, nil, "x"), code: domain.Internal},
		{a: one("note-b", NoStream, nil, large...), want: Result{First: 2, Last: copyFrom + 1}},
	}) {
		if c.err != nil || c.result != c.want {
			t.Errorf("append %d: %+v, %v; want %+v", i, c.result, c.err, c.want)
		}
	}
	requireSound(t, pool)
}

// TestDamagedHead: nothing is built on a head that does not agree with itself.
func TestDamagedHead(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	mustAppend(t, l, one("note-a", NoStream, nil, "1"))
	if _, err := pool.Exec(t.Context(), `UPDATE log_head SET frontier = set_bit(frontier, 1, 1 - get_bit(frontier, 1))`); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append(t.Context(), one("note-a", 1, nil, "2"))
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.Internal || e.Hint == "" {
		t.Errorf("error %v", err)
	}
	if got := texts(t, l); len(got) != 1 {
		t.Errorf("events %v", got)
	}
}

// TestCloseFinishes closes a log with appends on their way: they are recorded and acknowledged.
func TestCloseFinishes(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	release := holdHead(t, l)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := l.Append(context.Background(), one("note-a", Any, nil, "x")); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "the appends", func() bool { return queueLength(l) == 9 && blockedOnHead(t, l) })
	go func() { time.Sleep(20 * time.Millisecond); release() }()
	l.Close()
	wg.Wait()
	if h := requireSound(t, pool); h.Position != 10 {
		t.Errorf("head %d", h.Position)
	}
}

// TestServerRestarts restarts the server, cleanly and as by a crash, under writers on two nodes.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711)
	start := func() *postgres.Server {
		s, err := postgres.Start(context.Background(), postgres.Options{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	server := start()
	t.Cleanup(func() { server.Stop(context.Background()) })
	pool, err := pgxpool.New(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := migrations.Apply(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	nodes := []*Log{openOn(t, pool, Options{}), openOn(t, pool, Options{})}

	stop := make(chan struct{})
	var writing sync.WaitGroup
	var total atomic.Int64
	for w := range 8 {
		writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r, err := nodes[w%2].Append(context.Background(), one(fmt.Sprintf("note-%d", w), ExpectedVersion(i), nil, "x"))
				if err != nil || r.Duplicate {
					t.Errorf("append %d of %d: %+v, %v", i, w, r, err)
					return
				}
				total.Add(1)
			}
		})
	}
	progress := func() {
		t.Helper()
		before := total.Load()
		waitFor(t, "appends to go on", func() bool { return total.Load() >= before+40 })
	}
	for _, patience := range []time.Duration{time.Minute, -1, time.Minute, -1} { // -1: cut off
		progress()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		server.Stop(ctx)
		cancel()
		server = start()
	}
	progress()
	close(stop)
	writing.Wait()
	h := requireSound(t, pool)
	if int64(h.Position) != total.Load() {
		t.Errorf("%d events, %d acknowledged", h.Position, total.Load())
	}
	reached, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, node := range nodes {
		if err := node.Wait(reached, h.Position-1); err != nil {
			t.Errorf("a node lost sight of the log: %v", err)
		}
	}
}

// TestGivingUp: when the database stays away, each caller learns whether anything can have been recorded.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	cause := errors.New("no route to host")
	for _, ambiguous := range []bool{false, true} {
		batch := []*pending{{outcome: make(chan outcome, 1)}, {outcome: make(chan outcome, 1)}}
		giveUp(batch, cause, ambiguous)
		for _, p := range batch {
			err := (<-p.outcome).err
			want := domain.Unavailable
			if ambiguous {
				want = domain.Internal
			}
			if domain.CodeOf(err) != want || errors.Is(err, ErrUnknownOutcome) != ambiguous || !errors.Is(err, cause) {
				t.Errorf("ambiguous %t: %v", ambiguous, err)
			}
		}
	}
}
