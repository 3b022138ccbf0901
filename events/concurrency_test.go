package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/domain"
)

// TestWritersAndTail has 16 writers on two nodes and a reader that follows each node. A reader must see every event
// once, in order, without a gap, and every acknowledged append where the acknowledgement said.
func TestWritersAndTail(t *testing.T) {
	t.Parallel()
	const writers, appends = 16, 60
	l, pool := openLog(t)
	other := openOn(t, pool, Options{})
	nodes := []*Log{l, other}

	var acknowledged sync.Map // text → position
	var total atomic.Int64
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			node := nodes[w%2]
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range appends {
				// A stream of its own, and one that all fight for.
				mine, text := fmt.Sprintf("note-%d", w), fmt.Sprintf("%d.%d", w, i)
				n := 1 + random.IntN(3)
				if random.IntN(10) == 0 {
					n = copyFrom + random.IntN(copyFrom) // some by COPY
				}
				batch := make([]string, n)
				for j := range batch {
					batch[j] = fmt.Sprintf("%s.%d", text, j)
				}
				a := one(mine, Any, nil, batch...)
				a.Streams = append(a.Streams, one("note-shared", Any, nil, text+".shared").Streams...)
				r, err := node.Append(context.Background(), a)
				if err != nil {
					t.Error(err)
					return
				}
				if int(r.Last-r.First) != n {
					t.Errorf("%d events from %d to %d", n+1, r.First, r.Last)
				}
				for j, text := range append(batch, text+".shared") {
					acknowledged.Store(text, r.First+Position(j))
				}
				total.Add(int64(n + 1))
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()

	var reading sync.WaitGroup
	for _, node := range nodes {
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			seen, versions, last := Position(0), map[string]int64{}, time.Time{}
			for {
				select {
				case <-done:
					if seen == Position(total.Load()) {
						return
					}
				default:
				}
				wait, stop := context.WithTimeout(ctx, 100*time.Millisecond)
				node.Wait(wait, seen)
				stop()
				page, err := node.ReadAll(ctx, seen, 100)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range page {
					if r.Position != seen+1 {
						t.Errorf("position %d after %d", r.Position, seen)
						return
					}
					if r.Version != versions[r.Stream]+1 || r.RecordedAt.Before(last) {
						t.Errorf("position %d: version %d of %s after %d, recorded %v after %v", r.Position, r.Version, r.Stream, versions[r.Stream], r.RecordedAt, last)
						return
					}
					seen, versions[r.Stream], last = r.Position, r.Version, r.RecordedAt
				}
			}
		})
	}
	reading.Wait()
	if t.Failed() {
		return
	}
	all := Position(0)
	for {
		page, err := l.ReadAll(t.Context(), all, MaxRead)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			all = r.Position
			if where, ok := acknowledged.LoadAndDelete(r.Event.(noted).Text); !ok || where != r.Position {
				t.Fatalf("%s is at %d and was acknowledged at %v", r.Event.(noted).Text, r.Position, where)
			}
		}
	}
	acknowledged.Range(func(text, where any) bool { t.Errorf("%s, acknowledged at %v, is lost", text, where); return true })
	if h := requireSound(t, pool); int64(h.Position) != total.Load() {
		t.Errorf("head %d, %d acknowledged", h.Position, total.Load())
	}
}

// TestOneWinner has many writers, on two nodes, race for the same version of a stream again and again.
func TestOneWinner(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	nodes := []*Log{l, openOn(t, pool, Options{})}
	for version := range 20 {
		var won atomic.Int32
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				_, err := nodes[w%2].Append(context.Background(), one("note-a", ExpectedVersion(version), nil, fmt.Sprint(w)))
				var conflict *VersionConflict
				switch {
				case err == nil:
					won.Add(1)
				case !errors.As(err, &conflict) || conflict.Actual != int64(version+1):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d winners of version %d", won.Load(), version+1)
		}
	}
	requireSound(t, pool)
}

// TestSameIDsAtOnce has two nodes append the same events at the same time: one records them, both succeed.
func TestSameIDsAtOnce(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	nodes := []*Log{l, openOn(t, pool, Options{})}
	for i := range 20 {
		var wg sync.WaitGroup
		var fresh atomic.Int32
		results := make([]Result, 8)
		for w := range results {
			wg.Go(func() {
				r, err := nodes[w%2].Append(context.Background(), one("note-a", Any, []byte{byte(2 * i), byte(2*i + 1)}, "x", "y"))
				if err != nil {
					t.Error(err)
				}
				if !r.Duplicate {
					fresh.Add(1)
				}
				results[w] = r
			})
		}
		wg.Wait()
		if fresh.Load() != 1 {
			t.Fatalf("%d appends say that they recorded the events", fresh.Load())
		}
		for _, r := range results {
			if r.First != results[0].First || r.Last != r.First+1 {
				t.Fatalf("results %v", results)
			}
		}
	}
	if h := requireSound(t, pool); h.Position != 40 {
		t.Errorf("head %d", h.Position)
	}
}

// TestWaitAcrossNodes wants a reader on another node woken by the notification and not by polling.
func TestWaitAcrossNodes(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	reader := openOn(t, pool, Options{})
	waitFor(t, "the reader to listen", func() bool {
		var n int
		pool.QueryRow(context.Background(), `
			SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'crossbill listener'
			   AND query LIKE '%log_head%' AND state = 'idle'
		`).Scan(&n)
		return n == 2
	})
	quick := 0
	for i := range 20 {
		woken := make(chan time.Time)
		go func() {
			if err := reader.Wait(context.Background(), Position(i)); err != nil {
				t.Error(err)
			}
			woken <- time.Now()
		}()
		mustAppend(t, l, one("note-a", Any, nil, "x"))
		committed := time.Now()
		if (<-woken).Sub(committed) < pollListening/5 {
			quick++
		}
	}
	if quick < 15 {
		t.Errorf("%d of 20 waits ended without polling", quick)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := reader.Wait(ctx, 20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait for what does not come: %v", err)
	}
}

// TestClockBehind has a node whose clock is behind that of the node that wrote last.
func TestClockBehind(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	l, pool := openLog(t)
	ahead := openOn(t, pool, Options{Clock: func() time.Time { return now }})
	behind := openOn(t, pool, Options{Clock: func() time.Time { return now.Add(-time.Hour) }})
	mustAppend(t, ahead, one("note-a", Any, nil, "x"))
	mustAppend(t, behind, one("note-a", Any, nil, "y"))
	page, err := l.ReadAll(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page {
		if want := now.Truncate(time.Microsecond); r.RecordedAt != want {
			t.Errorf("recorded at %v, want %v", r.RecordedAt, want)
		}
	}
	requireSound(t, pool)
}

// TestPartitions crosses from partition to partition, with few events to each, and looks across them for ids and versions.
func TestPartitions(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	for _, sql := range []string{
		`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 8::bigint'`,
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		mustAppend(t, l, one("note-a", ExpectedVersion(i), []byte{byte(i)}, fmt.Sprint(i)))
	}
	large := make([]string, 2*copyFrom)
	mustAppend(t, l, one("note-b", NoStream, nil, large...)) // across many at once
	for i := range 30 {
		if r := mustAppend(t, l, one("note-a", Any, []byte{byte(i)}, fmt.Sprint(i))); r != (Result{Position(i + 1), Position(i + 1), true}) {
			t.Errorf("repetition of %d: %+v", i, r)
		}
	}
	_, err := l.Append(t.Context(), one("note-a", 29, nil, "x"))
	requireCode(t, err, domain.Conflict)
	head := requireSound(t, pool)
	var partitions, events int
	err = pool.QueryRow(t.Context(), `SELECT count(DISTINCT tableoid), count(*) FROM events`).Scan(&partitions, &events)
	if want := (events + 7) / 8; err != nil || partitions != want || Position(events) != head.Position {
		t.Errorf("%d events in %d partitions, want %d, %v", events, partitions, want, err)
	}
	var ahead bool
	err = pool.QueryRow(t.Context(), `SELECT to_regclass('events_p' || lpad($1::text, 5, '0')) IS NOT NULL`, fmt.Sprint(partitions)).Scan(&ahead)
	if wantAhead := events%8 == 0 || events%8 > 4; err != nil || ahead != wantAhead {
		t.Errorf("%d events: the next partition exists: %t, %v", events, ahead, err)
	}
	if page, err := l.ReadStream(t.Context(), "note-a", 5, 20); err != nil || len(page) != 20 || page[19].Version != 25 {
		t.Errorf("a stream across partitions: %d events, %v", len(page), err)
	}
}
