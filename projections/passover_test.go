package projections_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
)

// sparse is a projection that a few ticks concern, those whose number is 0: it writes a row for each, and for the others it
// does nothing at all.
func (k *ticker) sparse(name string) projections.Projection {
	return projections.Projection{Name: name, Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		for _, e := range batch {
			if e.Event.(ticked).N != 0 {
				continue
			}
			if _, err := tx.Exec(ctx, `INSERT INTO ticks VALUES ($1, 0)`, e.Position); err != nil {
				return err
			}
		}
		return nil
	}}
}

// requireSparse wants a row for each tick that concerns it, and no other.
func (k *ticker) requireSparse() {
	k.Helper()
	var want, rows, distinct int
	err := k.pool.QueryRow(context.Background(), `SELECT (SELECT count(*) FROM events WHERE convert_from(payload, 'UTF8')::json->>'n' = '0'), count(*), count(DISTINCT position) FROM ticks`).
		Scan(&want, &rows, &distinct)
	if err != nil || rows != want || distinct != want {
		k.Errorf("%d rows of %d positions, want %d; %v", rows, distinct, want, err)
	}
}

func (k *ticker) checkpoint(name string) (position events.Position) {
	k.Helper()
	if err := k.pool.QueryRow(context.Background(), `SELECT position FROM subscriptions WHERE name = $1`, name).Scan(&position); err != nil {
		k.Fatal(err)
	}
	return position
}

// some are ticks of which one in rare concerns the sparse projection.
func some(random *rand.Rand, n, rare int) []domain.Event {
	all := make([]domain.Event, n)
	for i := range all {
		all[i] = ticked{random.IntN(rare)}
	}
	return all
}

// TestPassOver holds that pages with nothing in them for a projection cost no transaction, are waited for like others, and
// are in the checkpoint before long.
func TestPassOver(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	var begun atomic.Int64
	config := k.pool.Config()
	config.ConnConfig.Tracer = beforeQuery(func(sql string) {
		if strings.HasPrefix(sql, "begin") {
			begun.Add(1)
		}
	})
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: k.log, Projections: []projections.Projection{k.sparse("sparse")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	var last events.Position
	for range 20 {
		last = k.appendTo(k.log, ticked{1})
		k.waitFor(r, last)
	}
	if n := begun.Load(); n != 0 {
		t.Errorf("%d transactions for pages with nothing in them", n)
	}
	for deadline := time.Now().Add(10 * time.Second); k.checkpoint("sparse") < last; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the checkpoint is at %d and not at %d", k.checkpoint("sparse"), last)
		}
	}
	last = k.appendTo(k.log, ticked{1}, ticked{0}, ticked{1})
	k.waitFor(r, last)
	if at := k.checkpoint("sparse"); at != last || begun.Load() == 0 {
		t.Errorf("with something in it the page left the checkpoint at %d, want %d, after %d transactions", at, last, begun.Load())
	}
	last = k.appendTo(k.log, ticked{1})
	k.waitFor(r, last)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if at := k.checkpoint("sparse"); at != last {
		t.Errorf("a runner that was stopped left the checkpoint at %d, want %d", at, last)
	}
	k.requireSparse()
}

// TestPassOver_Killed has two processes pass over pages while they fail in every way, and forget what they had passed over,
// as those that are killed do: each event that concerns the projection takes effect once, in whichever of them.
func TestPassOver_Killed(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	random := rand.New(rand.NewPCG(8, 1))
	var failures atomic.Int64
	faulty := func(seed uint64) projections.Projection {
		random := rand.New(rand.NewPCG(9, seed))
		p := k.sparse("sparse")
		apply := p.Apply
		p.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			kind := random.IntN(12)
			if kind == 0 {
				failures.Add(1)
				return errors.New("before writing")
			}
			if err := apply(ctx, tx, batch); err != nil {
				return err
			}
			switch kind {
			case 1:
				failures.Add(1)
				return errors.New("after writing")
			case 2:
				failures.Add(1)
				tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			}
			return nil
		}
		return p
	}
	one, stop := k.run(faulty(1))
	two, _ := k.run(faulty(2))
	var last events.Position
	for round := range 80 {
		last = k.appendTo(k.log, some(random, 1+random.IntN(20), 15)...)
		if round == 40 {
			stop()
			k.forgetPassedOver()
			one, _ = k.run(faulty(3))
		}
		time.Sleep(3 * time.Millisecond)
	}
	k.waitFor(one, last)
	k.waitFor(two, last)
	k.requireSparse()
	if failures.Load() == 0 {
		t.Error("nothing failed")
	}
}

// forgetPassedOver puts the checkpoint where the last transaction of a process that was killed left it. It locks the checkpoint
// in a statement of its own: one statement would take its snapshot, wait for the other process's transaction, and then set the
// checkpoint to before what that transaction wrote.
func (k *ticker) forgetPassedOver() {
	k.Helper()
	if err := pgx.BeginFunc(k.Context(), k.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(k.Context(), `SELECT FROM subscriptions WHERE name = 'sparse' FOR UPDATE`); err != nil {
			return err
		}
		_, err := tx.Exec(k.Context(), `
			UPDATE subscriptions SET position = coalesce((SELECT max(position) FROM ticks), 0) WHERE name = 'sparse'`)
		return err
	}); err != nil {
		k.Fatal(err)
	}
}

// TestPassOver_Poison has a bad event after many that concern nothing. It is found and told of, although what was passed
// over before it moves the checkpoint late.
func TestPassOver_Poison(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	last := k.appendTo(k.log, append(some(rand.New(rand.NewPCG(1, 1)), 30, 1), ticks(40)[1:]...)...)
	p := k.sparse("sparse")
	apply := p.Apply
	p.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		if batch[0].Position <= last && batch[len(batch)-1].Position >= last {
			return errors.New("it is poison")
		}
		return apply(ctx, tx, batch)
	}
	r, _ := k.run(p)
	k.waitFor(r, last-1)
	if at := k.checkpoint("sparse"); at != last-1 {
		t.Errorf("the checkpoint is at %d, want %d, before the bad event", at, last-1)
	}
	k.requireNoted("sparse", "it is poison")
	k.requireSparse()
}
