package events

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/pgtest"
)

// openPartitioned opens a log in a database whose partitions have the given number of events, a power of two.
func openPartitioned(t testing.TB, size int, o Options) (*Log, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t)
	shrinkPartitions(t, pool, size)
	return openOn(t, pool, o), pool
}

// shrinkPartitions gives a database's partitions another size. No event is there yet, and no sequencer has asked.
func shrinkPartitions(t testing.TB, pool *pgxpool.Pool, size int) {
	t.Helper()
	for _, sql := range []string{
		fmt.Sprintf(`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT %d::bigint'`, size),
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		if _, err := pool.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// fill appends n events with given ids and rich metadata to streams of several categories; some streams go on through
// everything, others are short.
func fill(t testing.TB, l *Log, from, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(from)))
	for i := from; i < from+n; {
		var a Append
		for range min(1+r.IntN(200), from+n-i) {
			stream := "note-long"
			switch i % 7 {
			case 1, 2:
				stream = fmt.Sprintf("note-%d", i/40)
			case 3:
				stream = fmt.Sprintf("memo-%d-ü", i/300)
			case 4:
				stream = fmt.Sprintf("note_x-%d", i%5)
			}
			if i%997 == 5 {
				stream = "rare-1"
			}
			a.Streams = append(a.Streams, StreamAppend{stream, Any, []NewEvent{{
				ID: numbered(i), Event: noted{fmt.Sprintf("text %d %s", i, strings.Repeat("ä", i%50))},
				Metadata: Metadata{Actor: fmt.Sprint("actor ", i%3), Correlation: fmt.Sprint(i / 10), Parties: []string{"org_a", "org_b"}[:i%3%2+1]},
			}}})
			i++
		}
		mustAppend(t, l, a)
	}
}

func numbered(i int) [16]byte { return domain.DeriveEventID("numbered", fmt.Sprint(i)) }

// everything is all that can be read of a log.
type everything struct {
	all        []Recorded
	categories map[string][]Recorded
	streams    map[string][]Recorded
}

func readEverything(t testing.TB, l *Log) everything {
	t.Helper()
	e := everything{categories: map[string][]Recorded{}, streams: map[string][]Recorded{}}
	for after := Position(0); ; {
		page, err := l.ReadAll(context.Background(), after, 700)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		e.all, after = append(e.all, page...), page[len(page)-1].Position
	}
	for _, r := range e.all {
		category, _, _ := strings.Cut(r.Stream, "-")
		e.categories[category], e.streams[r.Stream] = nil, nil
	}
	for category := range e.categories {
		for after := Position(0); ; {
			page, err := l.ReadCategory(context.Background(), category, after, 450)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			e.categories[category], after = append(e.categories[category], page...), page[len(page)-1].Position
		}
	}
	for stream := range e.streams {
		for {
			page, err := l.ReadStream(context.Background(), stream, int64(len(e.streams[stream])), 333)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			e.streams[stream] = append(e.streams[stream], page...)
		}
	}
	return e
}

func (e everything) require(t testing.TB, got everything) {
	t.Helper()
	if len(e.all) == 0 || len(e.all) != len(got.all) {
		t.Fatalf("%d events, and before %d", len(got.all), len(e.all))
	}
	for i := range e.all {
		if !reflect.DeepEqual(e.all[i], got.all[i]) {
			t.Fatalf("event\n%+v\nbefore\n%+v", got.all[i], e.all[i])
		}
	}
	if !reflect.DeepEqual(e, got) {
		t.Fatal("streams or categories read otherwise than before")
	}
}

func mustArchive(t testing.TB, pool *pgxpool.Pool, o ArchiveOptions) []Archived {
	t.Helper()
	o.Logger = quiet
	done, err := Archive(context.Background(), pool, o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func requireSoundWith(t testing.TB, pool *pgxpool.Pool, dir string) {
	t.Helper()
	if _, err := VerifyRecords(context.Background(), pool, ArchivedRecordsIn(pool, dir), nil, ""); err != nil {
		t.Fatal(err)
	}
}

func partitionsOf(t testing.TB, pool *pgxpool.Pool) (names []string) {
	t.Helper()
	err := pool.QueryRow(context.Background(), `
		SELECT array_agg(inhrelid::regclass::text ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'events'::regclass
	`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestArchive archives most of a log, with several blocks and chunks to a file, and wants to read exactly what was there
// before: by a node that was open all the time, by one that opens later, from anywhere, in pages of any size.
func TestArchive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "archive")
	l, pool := openPartitioned(t, 1024, Options{ArchiveDir: dir})
	fill(t, l, 0, 5000)
	before := readEverything(t, l)
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	done := mustArchive(t, pool, ArchiveOptions{Dir: dir, KeepPartitions: 1})
	if len(done) != 3 || done[2].First != 2049 || done[2].Last != 3072 {
		t.Fatalf("archived %+v", done)
	}
	for _, d := range done {
		info, err := os.Stat(filepath.Join(dir, d.File))
		if err != nil || info.Size() != d.Bytes || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", d.File, info, err)
		}
		if sum, err := sumFile(filepath.Join(dir, d.File)); err != nil || sum != d.SHA256 {
			t.Errorf("%s: sum %x, want %x, %v", d.File, sum, d.SHA256, err)
		}
	}
	if names := partitionsOf(t, pool); !slices.Equal(names, []string{"events_p00003", "events_p00004", "events_p00005"}) {
		t.Errorf("partitions %v", names)
	}
	before.require(t, readEverything(t, l))
	later := openOn(t, pool, Options{ArchiveDir: dir})
	before.require(t, readEverything(t, later))
	requireSoundWith(t, pool, dir)

	r := rand.New(rand.NewPCG(2, 3))
	for range 300 {
		after, limit := r.IntN(5100), 1+r.IntN(1500)
		want := before.all[min(after, 5000):min(after+limit, 5000)]
		page, err := later.ReadAll(t.Context(), Position(after), limit)
		if err != nil || len(page) != len(want) || len(page) > 0 && !reflect.DeepEqual(page, want) {
			t.Fatalf("ReadAll after %d, limit %d: %d events, want %d, %v", after, limit, len(page), len(want), err)
		}
		long := before.streams["note-long"]
		after = r.IntN(len(long) + 10)
		want = long[min(after, len(long)):min(after+limit, len(long))]
		page, err = later.ReadStream(t.Context(), "note-long", int64(after), limit)
		if err != nil || len(page) != len(want) || len(page) > 0 && !reflect.DeepEqual(page, want) {
			t.Fatalf("ReadStream after %d, limit %d: %d events, want %d, %v", after, limit, len(page), len(want), err)
		}
	}
	for stream, want := range map[string]int64{"note-nobody": 0, "note-1": int64(len(before.streams["note-1"])), "note-long": int64(len(before.streams["note-long"]))} {
		n, version, err := Load(t.Context(), later, stream, func(n int64, _ domain.Event) int64 { return n + 1 })
		if err != nil || n != want || version != want {
			t.Errorf("Load(%s): %d events, version %d, want %d, %v", stream, n, version, want, err)
		}
	}
	if page, err := later.ReadCategory(t.Context(), "nothing", 0, 10); err != nil || len(page) != 0 {
		t.Errorf("a category that is not there: %d events, %v", len(page), err)
	}

	// Again, there is nothing to do; later there is, for nodes that are open all the while.
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir, KeepPartitions: 1}); len(done) != 0 {
		t.Errorf("archived again: %+v", done)
	}
	fill(t, l, 5000, 3000)
	before = readEverything(t, l)
	for i, want := range map[Position]int{4096: 0, 4097: 1} {
		if done := mustArchive(t, pool, ArchiveOptions{Dir: dir, Before: i}); len(done) != want {
			t.Errorf("before %d: archived %+v", i, done)
		}
	}
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir}); len(done) != 3 {
		t.Errorf("without a bound: archived %+v", done)
	}
	before.require(t, readEverything(t, later))
	before.require(t, readEverything(t, l))
	requireSoundWith(t, pool, dir)
	if now, err := l.Head(t.Context()); err != nil || now.Position != 8000 || head.Position != 5000 {
		t.Errorf("head %+v, %v", now, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestArchiveKeepsTheLastEvent fills partitions exactly to their end: the last one stays, however little is to be kept.
func TestArchiveKeepsTheLastEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir}); len(done) != 0 {
		t.Errorf("of an empty log: archived %+v", done)
	}
	fill(t, l, 0, 16)
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir}); len(done) != 1 {
		t.Errorf("archived %+v", done)
	}
	fill(t, l, 16, 1)
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir}); len(done) != 1 {
		t.Errorf("archived %+v", done)
	}
	if got := texts(t, l); len(got) != 17 {
		t.Errorf("%d events", len(got))
	}
	requireSoundWith(t, pool, dir)
}

// TestArchivedIDs repeats appends whose events are archived, in part or whole, as they were and otherwise.
func TestArchivedIDs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
	for i := range 30 {
		mustAppend(t, l, one("note-a", ExpectedVersion(i), []byte{byte(i)}, fmt.Sprint(i)))
	}
	mustAppend(t, l, one("note-b", NoStream, []byte{100, 101, 102, 103, 104}, "a", "b", "c", "d", "e")) // positions 31 to 35
	mustAppend(t, l, one("note-c", NoStream, nil, make([]string, 10)...))
	if done := mustArchive(t, pool, ArchiveOptions{Dir: dir, Before: 33}); len(done) != 4 { // in the middle of the append to note-b
		t.Fatalf("archived %+v", done)
	}
	unaware := openOn(t, pool, Options{}) // appending needs no archive
	for _, l := range []*Log{l, unaware} {
		for i := range 30 {
			if r := mustAppend(t, l, one("note-a", ExpectedVersion(i), []byte{byte(i)}, fmt.Sprint(i))); r != (Result{Position(i + 1), Position(i + 1), true}) {
				t.Errorf("repetition of %d: %+v", i, r)
			}
		}
		if r := mustAppend(t, l, one("note-b", NoStream, []byte{100, 101, 102, 103, 104}, "a", "b", "c", "d", "e")); r != (Result{31, 35, true}) {
			t.Errorf("repetition across the end of an archive: %+v", r)
		}
		for name, a := range map[string]Append{
			"other payload":    one("note-a", Any, []byte{3}, "other"),
			"other stream":     one("note-z", Any, []byte{3}, "3"),
			"in part":          one("note-a", Any, []byte{29, 200}, "29", "new"),
			"other order":      one("note-b", Any, []byte{101, 100}, "b", "a"),
			"version":          one("note-a", 29, nil, "x"),
			"stream is there":  one("note-a", NoStream, nil, "x"),
			"across, in part":  one("note-b", Any, []byte{101, 102, 201}, "b", "c", "new"),
			"across, not same": one("note-b", Any, []byte{101, 102}, "b", "x"),
		} {
			if _, err := l.Append(t.Context(), a); domain.CodeOf(err) != domain.Conflict {
				t.Errorf("%s: %v", name, err)
			}
		}
		if r := mustAppend(t, l, one("note-a", StreamExists, nil, "goes on")); r.Duplicate {
			t.Errorf("a new event: %+v", r)
		}
	}
	page, err := l.ReadStream(t.Context(), "note-a", 30, 10)
	if err != nil || len(page) != 2 || page[0].Version != 31 || page[1].Version != 32 {
		t.Errorf("the stream goes on with %+v, %v", page, err)
	}
	// Nobody has made an archived partition again.
	if names := partitionsOf(t, pool); names[0] != "events_p00004" {
		t.Errorf("partitions %v", names)
	}
	requireSoundWith(t, pool, dir)
}
