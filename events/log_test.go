package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	ctx := t.Context()
	a := one("note-a", NoStream, nil, "1", "2")
	a.Streams = append(a.Streams, one("other-b", Any, nil, "3").Streams...)
	a.Streams[0].Events[1].Metadata = Metadata{Actor: "key_1", Correlation: "c", Causation: "d", Traceparent: "00-1", Parties: []string{"org_1", "org_2"}}
	if r := mustAppend(t, l, a); r != (Result{First: 1, Last: 3}) {
		t.Fatalf("result %+v", r)
	}
	mustAppend(t, l, one("note-a", 2, nil, "4"))
	all, err := l.ReadAll(ctx, 0, 10)
	if err != nil || len(all) != 4 {
		t.Fatalf("%d events, %v", len(all), err)
	}
	for i, want := range []struct {
		stream  string
		version int64
	}{{"note-a", 1}, {"note-a", 2}, {"other-b", 1}, {"note-a", 3}} {
		r := all[i]
		if r.Position != Position(i+1) || r.Stream != want.stream || r.Version != want.version || r.Type != "test.noted" || r.Schema != 1 ||
			string(r.Data) != payloadOf(fmt.Sprint(i+1)) || r.Event != (noted{fmt.Sprint(i + 1)}) || r.ID == [16]byte{} || r.Salt == [16]byte{} {
			t.Errorf("event %d: %+v", i+1, r)
		}
		if r.RecordedAt.Location() != time.UTC || time.Since(r.RecordedAt) > time.Minute || r.RecordedAt.Nanosecond()%1000 != 0 {
			t.Errorf("recorded at %v", r.RecordedAt)
		}
	}
	if m := all[1].Metadata; !m.equal(a.Streams[0].Events[1].Metadata) || m.equal(all[0].Metadata) {
		t.Errorf("metadata %+v", m)
	}
	if page, err := l.ReadStream(ctx, "note-a", 1, 1); err != nil || len(page) != 1 || page[0].Position != 2 {
		t.Errorf("stream: %v, %v", page, err)
	}
	if page, err := l.ReadCategory(ctx, "note", 1, 10); err != nil || len(page) != 2 || page[1].Position != 4 {
		t.Errorf("category: %v, %v", page, err)
	}
	if page, err := l.ReadCategory(ctx, "not", 0, 10); err != nil || len(page) != 0 {
		t.Errorf("a prefix of a category: %v, %v", page, err)
	}
	for _, limit := range []int{-1, 0, MaxRead + 1} {
		_, err := l.ReadAll(ctx, 0, limit)
		requireCode(t, err, domain.Invalid)
	}
	if h := requireSound(t, pool); h.Position != 4 {
		t.Errorf("head %+v", h)
	}
}

func TestExpectedVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version  int // of the stream before
		expected ExpectedVersion
		ok       bool
	}{
		{0, NoStream, true}, {0, Any, true}, {0, StreamExists, false}, {0, 1, false}, {0, 7, false},
		{1, NoStream, false}, {1, Any, true}, {1, StreamExists, true}, {1, 1, true}, {1, 2, false},
		{3, NoStream, false}, {3, Any, true}, {3, StreamExists, true}, {3, 3, true}, {3, 2, false}, {3, 4, false},
	} {
		t.Run(fmt.Sprintf("at %d expect %d", c.version, c.expected), func(t *testing.T) {
			t.Parallel()
			l, pool := openLog(t)
			for range c.version {
				mustAppend(t, l, one("note-a", Any, nil, "before"))
			}
			r, err := l.Append(t.Context(), one("note-a", c.expected, nil, "x", "y"))
			if c.ok {
				if want := (Result{First: Position(c.version + 1), Last: Position(c.version + 2)}); err != nil || r != want {
					t.Errorf("%+v, %v", r, err)
				}
			} else {
				requireCode(t, err, domain.Conflict)
				var conflict *VersionConflict
				if !errors.As(err, &conflict) || *conflict != (VersionConflict{"note-a", c.expected, int64(c.version)}) {
					t.Errorf("cause %+v", conflict)
				}
				if len(texts(t, l)) != c.version {
					t.Error("something was appended")
				}
			}
			requireSound(t, pool)
		})
	}
}

func TestMultiStreamIsAtomic(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	mustAppend(t, l, one("note-b", NoStream, nil, "b"))
	a := one("note-a", NoStream, nil, "1")
	a.Streams = append(a.Streams, one("note-b", NoStream, nil, "2").Streams...)
	_, err := l.Append(t.Context(), a)
	requireCode(t, err, domain.Conflict)
	if got := texts(t, l); !slices.Equal(got, []string{"b"}) {
		t.Errorf("events %v", got)
	}
	// The same stream twice: the second expectation is on top of the first part.
	a = one("note-c", NoStream, nil, "1", "2")
	a.Streams = append(a.Streams, one("note-c", 2, nil, "3").Streams...)
	if r := mustAppend(t, l, a); r != (Result{First: 2, Last: 4}) {
		t.Errorf("%+v", r)
	}
	requireSound(t, pool)
}

func TestRepetition(t *testing.T) {
	t.Parallel()
	type try struct {
		a        Append
		result   Result // of a success
		conflict bool
	}
	first := one("note-a", NoStream, []byte{1, 2}, "x", "y")
	for name, tries := range map[string][]try{
		"the same again": {{a: first, result: Result{First: 1, Last: 2}}, {a: first, result: Result{1, 2, true}}, {a: first, result: Result{1, 2, true}}},
		"the same again, any version": {{a: first, result: Result{First: 1, Last: 2}},
			{a: one("note-a", Any, []byte{1, 2}, "x", "y"), result: Result{1, 2, true}}},
		"after others": {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", 2, nil, "z"), result: Result{First: 3, Last: 3}},
			{a: first, result: Result{1, 2, true}}},
		"a part of it": {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", 1, []byte{2}, "y"), result: Result{2, 2, true}}},
		"two as one": {{a: one("note-a", NoStream, []byte{1}, "x"), result: Result{First: 1, Last: 1}},
			{a: one("note-a", 1, []byte{2}, "y"), result: Result{First: 2, Last: 2}}, {a: first, result: Result{1, 2, true}}},
		"other bytes":   {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", Any, []byte{1, 2}, "x", "Y"), conflict: true}},
		"other stream":  {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-b", Any, []byte{1, 2}, "x", "y"), conflict: true}},
		"more than it":  {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", NoStream, []byte{1, 2, 3}, "x", "y", "z"), conflict: true}},
		"overlap":       {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", 1, []byte{2, 3}, "y", "z"), conflict: true}},
		"another order": {{a: first, result: Result{First: 1, Last: 2}}, {a: one("note-a", NoStream, []byte{2, 1}, "y", "x"), conflict: true}},
		"without ids": {{a: one("note-a", Any, nil, "x"), result: Result{First: 1, Last: 1}},
			{a: one("note-a", Any, nil, "x"), result: Result{First: 2, Last: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, pool := openLog(t)
			for i, try := range tries {
				// A repetition has another trace, and is one all the same.
				a := try.a
				a.Streams = slices.Clone(a.Streams)
				a.Streams[0].Events = slices.Clone(a.Streams[0].Events)
				a.Streams[0].Events[0].Metadata.Traceparent = fmt.Sprint(i)
				r, err := l.Append(t.Context(), a)
				if try.conflict {
					requireCode(t, err, domain.Conflict)
				} else if err != nil || r != try.result {
					t.Errorf("try %d: %+v, %v; want %+v", i, r, err, try.result)
				}
			}
			requireSound(t, pool)
		})
	}
}

// TestOneFlush puts appends into one flush and looks that each has the outcome it would have alone.
func TestOneFlush(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	mustAppend(t, l, one("note-a", NoStream, []byte{1}, "1"))
	refused := one("note-c", NoStream, nil, "refused")
	refused.Ask = func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO reserved_keys VALUES ('k', 'refused', 'o')`); err != nil {
			return err
		}
		return domain.Errorf(domain.Conflict, "test", "no")
	}
	asked := one("note-c", NoStream, nil, "4")
	asked.Ask = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reserved_keys VALUES ('k', 'asked', 'o')`)
		return err
	}
	failing := one("note-d", NoStream, nil, "failing")
	failing.Ask = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reserved_keys VALUES ('k', 'asked', 'o')`)
		return err
	}
	panicking := one("note-d", NoStream, nil, "panicking")
	panicking.Ask = func(context.Context, pgx.Tx) error { panic("at the disco") }
	ending := one("note-d", NoStream, nil, "ending")
	ending.Ask = func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }
	swallowing := one("note-d", NoStream, nil, "swallowing")
	swallowing.Ask = func(ctx context.Context, tx pgx.Tx) error {
		tx.Exec(ctx, `SELECT 1/0`)
		return nil
	}
	for i, want := range flushTogether(t, l, []expectation{
		{one("note-a", 1, []byte{2}, "2"), Result{First: 2, Last: 2}, ""},
		{one("note-a", 1, nil, "stale"), Result{}, domain.Conflict},           // the one before has moved it
		{one("note-a", 2, nil, "3"), Result{First: 3, Last: 3}, ""},           // and this knows
		{one("note-a", 1, []byte{2}, "2"), Result{2, 2, true}, ""},            // as the first of this flush
		{one("note-a", Any, []byte{2}, "other"), Result{}, domain.Conflict},   // its id with other bytes
		{one("note-a", NoStream, []byte{1}, "1"), Result{1, 1, true}, ""},     // of an earlier flush
		{one("note-b", StreamExists, nil, "none"), Result{}, domain.Conflict}, // no such stream
		{refused, Result{}, domain.Conflict},
		{asked, Result{First: 4, Last: 4}, ""},
		{failing, Result{}, domain.Internal},
		{panicking, Result{}, domain.Internal},
		{ending, Result{}, domain.Internal},
		{swallowing, Result{}, domain.Internal},
		{one("note-d", NoStream, nil, "5", "6"), Result{First: 5, Last: 6}, ""},
	}) {
		if want.err != nil || want.result != want.want {
			t.Errorf("append %d: %+v, %v; want %+v", i, want.result, want.err, want.want)
		}
	}
	if got := texts(t, l); !slices.Equal(got, []string{"1", "2", "3", "4", "5", "6"}) {
		t.Errorf("events %v", got)
	}
	var keys []string
	if err := pool.QueryRow(t.Context(), `SELECT array_agg(key) FROM reserved_keys`).Scan(&keys); err != nil || !slices.Equal(keys, []string{"asked"}) {
		t.Errorf("reserved %v, %v", keys, err)
	}
	requireSound(t, pool)
}

// TestRefusalUndoesItsEffects has an ask function refuse after it wrote, in a flush that commits.
func TestRefusalUndoesItsEffects(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	asking := func(key string, refusal error) Append {
		a := one("note-"+key, NoStream, nil, key)
		a.Ask = func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO reserved_keys VALUES ('k', $1, 'o')`, key)
			return errors.Join(err, refusal)
		}
		return a
	}
	for i, c := range flushTogether(t, l, []expectation{
		{asking("a", nil), Result{First: 1, Last: 1}, ""},
		{asking("b", domain.Errorf(domain.Forbidden, "test", "no")), Result{}, domain.Forbidden},
		{asking("b", nil), Result{First: 2, Last: 2}, ""}, // the name is free again
		{asking("a", nil), Result{}, domain.Conflict},     // a stream of that name is there, so nothing is asked
	}) {
		if c.err != nil || c.result != c.want {
			t.Errorf("append %d: %+v, %v; want %+v", i, c.result, c.err, c.want)
		}
	}
	var keys []string
	if err := pool.QueryRow(t.Context(), `SELECT array_agg(key ORDER BY key) FROM reserved_keys`).Scan(&keys); err != nil || !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("reserved %v, %v", keys, err)
	}
	requireSound(t, pool)
}

// TestFlushOfMany is 500 appends in one flush, of which 50 expect a version that is gone: 450 succeed, and each of the
// others learns by a typed error of its own what it expected and what there is.
func TestFlushOfMany(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	mustAppend(t, l, one("note-old", NoStream, nil, "old"))
	halfStale := one("note-half", NoStream, nil, "good") // its first stream is as expected: it is refused whole
	halfStale.Streams = append(halfStale.Streams, one("note-old", 9, nil, "stale").Streams...)
	stale := []struct {
		a    Append
		want VersionConflict
	}{
		{one("note-old", NoStream, nil, "stale"), VersionConflict{"note-old", NoStream, 1}},
		{one("note-old", 7, nil, "stale"), VersionConflict{"note-old", 7, 1}},
		{one("note-none", StreamExists, nil, "stale"), VersionConflict{"note-none", StreamExists, 0}},
		{one("note-0", NoStream, nil, "stale"), VersionConflict{"note-0", NoStream, 2}}, // a neighbour of this flush made it
		{halfStale, VersionConflict{"note-old", 9, 1}},
	}
	var all []expectation
	position := Position(1)
	for i := range 500 {
		if i%10 == 3 {
			all = append(all, expectation{a: stale[i/10%len(stale)].a, code: domain.Conflict})
			continue
		}
		position += 2
		all = append(all, expectation{one(fmt.Sprintf("note-%d", i), NoStream, nil, "new", "new"), Result{First: position - 1, Last: position}, ""})
	}
	refused := 0
	for i, c := range flushTogether(t, l, all) {
		if c.err != nil || c.result != c.want {
			t.Fatalf("append %d: %+v, %v; want %+v", i, c.result, c.err, c.want)
		}
		if all[i].code == "" {
			continue
		}
		refused++
		var conflict *VersionConflict
		if want := stale[i/10%len(stale)].want; !errors.As(c.refusal, &conflict) || *conflict != want {
			t.Errorf("append %d: cause %+v, want %+v", i, conflict, want)
		}
	}
	if h := requireSound(t, pool); refused != 50 || h.Position != 1+2*450 {
		t.Errorf("head %d, %d refused", h.Position, refused)
	}
	if slices.ContainsFunc(texts(t, l), func(text string) bool { return text != "old" && text != "new" }) {
		t.Error("something of a refused append is in the log")
	}
	var moves int
	if err := pool.QueryRow(t.Context(), `SELECT count(DISTINCT recorded_at) FROM events`).Scan(&moves); err != nil || moves != 2 {
		t.Errorf("%d flushes, %v", moves, err)
	}
}

type expectation struct {
	a    Append
	want Result
	code domain.Code
}

type came struct {
	want, result Result
	err          error // unless the expected one came
	refusal      error // as it came
}

// flushTogether holds the head row until all appends wait, so that one flush takes them.
func flushTogether(t *testing.T, l *Log, all []expectation) []came {
	t.Helper()
	release := holdHead(t, l)
	first := make(chan struct{}) // occupies the sequencer, which waits for the head
	go func() {
		defer close(first)
		l.Append(context.Background(), one("note-x", StreamExists, nil, "never"))
	}()
	waitFor(t, "the sequencer to be busy", func() bool { return blockedOnHead(t, l) })
	out := make([]came, len(all))
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() {
			r, err := l.Append(context.Background(), e.a)
			refusal := err
			if err != nil && domain.CodeOf(err) == e.code {
				err = nil
			} else if err == nil && e.code != "" {
				err = fmt.Errorf("no error")
			}
			out[i] = came{e.want, r, err, refusal}
		})
		waitFor(t, "the append to be queued", func() bool { return queueLength(l) == i+1 })
	}
	release()
	<-first
	wg.Wait()
	return out
}

func queueLength(l *Log) int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return len(l.queue.items)
}

// holdHead locks the head row as another node's flush would.
func holdHead(t *testing.T, l *Log) (release func()) {
	t.Helper()
	tx, err := l.pool.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), `SELECT FROM log_head FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { tx.Rollback(context.Background()) })
	t.Cleanup(release)
	return release
}

func blockedOnHead(t *testing.T, l *Log) bool {
	t.Helper()
	var blocked bool
	err := l.pool.QueryRow(context.Background(), `
		SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
		       AND application_name = 'crossbill sequencer' AND wait_event_type = 'Lock')
	`).Scan(&blocked)
	if err != nil {
		t.Fatal(err)
	}
	return blocked
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestCancelled cancels an append in the queue, which withdraws it, and one that is taken, which gets its real outcome.
func TestCancelled(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	release := holdHead(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	type answer struct {
		r   Result
		err error
	}
	takenAnswer, queuedAnswer := make(chan answer, 1), make(chan answer, 1)
	go func() { r, err := l.Append(ctx, one("note-a", Any, nil, "taken")); takenAnswer <- answer{r, err} }()
	waitFor(t, "the sequencer to be busy", func() bool { return blockedOnHead(t, l) })
	go func() { r, err := l.Append(ctx, one("note-a", Any, nil, "queued")); queuedAnswer <- answer{r, err} }()
	waitFor(t, "the append to be queued", func() bool { return queueLength(l) == 1 })
	cancel()
	a := <-queuedAnswer
	requireCode(t, a.err, domain.Unavailable)
	if !errors.Is(a.err, context.Canceled) {
		t.Errorf("error %v", a.err)
	}
	select {
	case a := <-takenAnswer:
		t.Fatalf("an append that was taken was answered before its flush: %+v", a)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if a := <-takenAnswer; a.err != nil || a.r != (Result{First: 1, Last: 1}) {
		t.Errorf("the taken append: %+v", a)
	}
	if _, err := l.Append(ctx, one("note-a", Any, nil, "late")); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("an append with a dead context: %v", err)
	}
	mustAppend(t, l, one("note-a", 1, nil, "after"))
	if got := texts(t, l); !slices.Equal(got, []string{"taken", "after"}) {
		t.Errorf("events %v", got)
	}
	requireSound(t, pool)
}

// TestCancelledAnytime cancels appends at any instant of their way. Each caller is told that its append is recorded, and
// where, or that nothing was appended; and so it is.
func TestCancelledAnytime(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	const writers, appends = 16, 60
	recorded := make([]map[string]Result, writers)
	var wg sync.WaitGroup
	var gone atomic.Int64
	for w := range writers {
		recorded[w] = map[string]Result{}
		random := rand.New(rand.NewPCG(3, uint64(w)))
		wg.Go(func() {
			for i := range appends {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(4000))*time.Microsecond)
				text := fmt.Sprintf("%d.%d", w, i)
				r, err := l.Append(ctx, one(fmt.Sprintf("note-%d", w), ExpectedVersion(len(recorded[w])), nil, text))
				switch {
				case err == nil:
					recorded[w][text] = r
				case domain.CodeOf(err) == domain.Unavailable && errors.Is(err, context.DeadlineExceeded):
					gone.Add(1)
				default:
					t.Errorf("append %s: %v", text, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	got, total := texts(t, l), 0
	for _, mine := range recorded {
		total += len(mine)
		for text, r := range mine {
			if r.First != r.Last || r.Duplicate || got[r.First-1] != text {
				t.Errorf("%s was acknowledged at %+v, where %s is", text, r, got[r.First-1])
			}
		}
	}
	if len(got) != total {
		t.Errorf("%d events are recorded, and callers know of %d", len(got), total)
	}
	if gone.Load() == 0 || total == 0 {
		t.Errorf("%d recorded and %d cancelled: the test met only one of the two", total, gone.Load())
	}
	requireSound(t, pool)
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	release := holdHead(t, l)
	var wg sync.WaitGroup
	results := make(chan error, MaxQueuedAppends+1)
	add := func() {
		wg.Go(func() {
			_, err := l.Append(context.Background(), one("note-a", Any, nil, "x"))
			results <- err
		})
	}
	add()
	waitFor(t, "the sequencer to be busy", func() bool { return blockedOnHead(t, l) })
	for range MaxQueuedAppends {
		add()
	}
	waitFor(t, "the queue to fill", func() bool { return queueLength(l) == MaxQueuedAppends })
	_, err := l.Append(t.Context(), one("note-a", Any, nil, "too many"))
	requireCode(t, err, domain.Unavailable)
	release()
	wg.Wait()
	for range MaxQueuedAppends + 1 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if h := requireSound(t, pool); h.Position != MaxQueuedAppends+1 {
		t.Errorf("head %d", h.Position)
	}
}

// TestQueueFullOfBytes holds the queue to its other limit, with room left for more appends.
func TestQueueFullOfBytes(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for range MaxQueuedBytes / MaxAppendBytes {
		if err := q.push(&pending{bytes: MaxAppendBytes}); err != nil {
			t.Fatal(err)
		}
	}
	requireCode(t, q.push(&pending{bytes: 1}), domain.Unavailable)
	if len(q.take()) != 1 { // as much as a flush may hold
		t.Error("a flush takes more bytes than it may")
	}
	if err := q.push(&pending{bytes: MaxAppendBytes}); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	twice := one("note-a", Any, []byte{1, 1}, "x", "x")
	big := one("note-a", Any, nil, strings.Repeat("x", MaxPayload))
	heavy := one("note-a", Any, nil, slices.Repeat([]string{strings.Repeat("x", MaxPayload/2)}, 40)...)
	for name, a := range map[string]Append{
		"nothing": {}, "no events": one("note-a", Any, nil), "no dash": one("note", Any, nil, "x"), "no id": one("note-", Any, nil, "x"),
		"no category": one("-a", Any, nil, "x"), "NUL": one("note-\x00", Any, nil, "x"), "no UTF-8": one("note-\xff", Any, nil, "x"),
		"long name": one("note-"+strings.Repeat("x", MaxStreamName), Any, nil, "x"), "version": one("note-a", -3, nil, "x"),
		"an id twice": twice, "large event": big, "large append": heavy,
		"many events": one("note-a", Any, nil, make([]string, MaxEventsPerAppend+1)...),
	} {
		_, err := l.Append(t.Context(), a)
		if domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := Append{Streams: []StreamAppend{{Stream: "note-a", Events: []NewEvent{{Event: &noted{}}}}}}
	_, err := l.Append(t.Context(), unknown)
	requireCode(t, err, domain.Internal)
	if h, err := l.Head(t.Context()); err != nil || h.Position != 0 {
		t.Errorf("head %+v, %v", h, err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	waiting := make(chan error)
	go func() { waiting <- l.Wait(context.Background(), 5) }()
	l.Close()
	requireCode(t, <-waiting, domain.Unavailable)
	_, err := l.Append(t.Context(), one("note-a", Any, nil, "x"))
	requireCode(t, err, domain.Unavailable)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	want := ""
	for i := range 3 {
		batch := make([]string, loadPage-1)
		for j := range batch {
			batch[j] = string(rune('a' + (i+j)%26))
			want += batch[j]
		}
		mustAppend(t, l, one("note-a", Any, nil, batch...))
		mustAppend(t, l, one("note-b", Any, nil, "other"))
	}
	fold := func(s string, e domain.Event) string { return s + e.(noted).Text }
	if got, version, err := Load(t.Context(), l, "note-a", fold); err != nil || got != want || version != int64(len(want)) {
		t.Errorf("folded %d of %d events, %v", version, len(want), err)
	}
	if got, version, err := Load(t.Context(), l, "note-none", fold); err != nil || got != "" || version != 0 {
		t.Errorf("no stream: %q, %d, %v", got, version, err)
	}
}
