package events

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/postgres"
	"crossbill/migrations"
)

var soakFor = flag.Duration("soak", 7*time.Second, "how long TestThreeProcesses goes on; `make soak-log` takes 30s")

const soakWriters = 4 // in each process

func init() { children["soak"] = soak }

// TestThreeProcesses has three processes append to one log, on a server with fsync on, while one of them is killed with
// SIGKILL and started again, and the server is restarted twice: once in good order and once after a SIGKILL of its own. It takes 7
// seconds, and with -soak (as `make soak-log` has it) as long as that says.
//
// Each process writes down and syncs every acknowledgement before it goes on. Afterwards the log is held against that:
// it must have every event that was acknowledged where the acknowledgement says, every event once, no event that nobody
// was told of, no gap, and a head whose root is that of its rows. A reader follows all the while and must see the same.
func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "soak") // short: the server's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711)
	server := startServer(t, dir)
	t.Cleanup(func() { server.Stop(context.Background()) })
	pool, err := pgxpool.New(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := migrations.Apply(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var dirs []string
	var processes []*child
	// at waits for that part of the time, and then until every process that lives has got on since.
	at := func(part float64, living ...int) {
		t.Helper()
		time.Sleep(time.Until(begin.Add(time.Duration(part * float64(*soakFor)))))
		for _, i := range living {
			before := writtenDown(dirs[i])
			waitFor(t, "a process to get on", func() bool { return writtenDown(dirs[i]) > before })
		}
	}
	restart := func() {
		server.Stop(context.Background())
		server = startServer(t, dir)
	}

	for _, name := range []string{"one", "two", "three"} {
		d := filepath.Join(dir, name)
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		dirs, processes = append(dirs, d), append(processes, startChild(t, "soak", server.URL, d))
	}
	follower := follow(t, pool)
	at(0.25, 0, 1, 2)
	restart()
	at(0.5, 0, 1, 2)
	processes[1].kill()
	at(0.6, 0, 2)
	before := countAcknowledged(t, dirs[1])
	processes[1] = startChild(t, "soak", server.URL, dirs[1])
	at(0.75, 0, 1, 2)
	killServer(t, dir)
	restart()
	at(1, 0, 1, 2)
	for _, p := range processes {
		p.finish()
	}
	took := time.Since(begin)

	acknowledged := 0
	got, head := requireRows(t, pool)
	for _, d := range dirs {
		acknowledged += requireAcknowledged(t, d, got)
	}
	if len(got) != acknowledged {
		t.Errorf("the log has %d events, and %d are acknowledged", len(got), acknowledged)
	}
	if after := countAcknowledged(t, dirs[1]); before == 0 || after <= before {
		t.Errorf("the process that was killed had %d acknowledgements before and has %d after", before, after)
	}
	if seen := follower(head.Position); seen != head.Position {
		t.Errorf("the reader came to %d of %d", seen, head.Position)
	}
	t.Logf("%v of 3 processes, 1 SIGKILL, 2 restarts: %d events, all acknowledged, none twice; root %x", took.Round(time.Millisecond), head.Position, head.Root[:8])
}

func startServer(t *testing.T, dir string) *postgres.Server {
	t.Helper()
	s, err := postgres.Start(context.Background(), postgres.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// killServer crashes PostgreSQL: what it had only in memory is gone.
func killServer(t *testing.T, dir string) {
	t.Helper()
	note, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(note), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// soak is a process of the test.
func soak(l *Log, dir string, end <-chan struct{}) error {
	var wg sync.WaitGroup
	failed := make([]error, soakWriters)
	for w := range soakWriters {
		wg.Go(func() { failed[w] = soakWriter(l, dir, w, end) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// soakWriter appends until the end. A process that was killed goes on after its last acknowledgement, with the same ids:
// what it appended without hearing of it is found to be recorded.
func soakWriter(l *Log, dir string, w int, end <-chan struct{}) error {
	name := fmt.Sprintf("%s.%d", filepath.Base(dir), w)
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(w)), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	acknowledged, err := readAcknowledged(file)
	if err != nil {
		return err
	}
	version := 0
	for i := range acknowledged {
		version += soakBatch(i)
	}
	for i := len(acknowledged); ; i++ {
		select {
		case <-end:
			return nil
		default:
		}
		a := soakAppend(name, i, version)
		r, err := l.Append(context.Background(), a)
		if err != nil || r.Duplicate && (i == 0 || i > len(acknowledged)) {
			return fmt.Errorf("append %d of %s: %+v, %w", i, name, r, err)
		}
		if _, err := fmt.Fprintf(file, "%d %d %d\n", i, r.First, r.Last); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		version += soakBatch(i)
	}
}

// soakBatch is how many events append i has in the writer's own stream: some go by COPY.
func soakBatch(i int) int {
	if i%16 == 5 {
		return copyFrom + 2
	}
	return 2
}

// soakAppend is append i of a writer: to its own stream at the version expected, and to one that all share.
func soakAppend(name string, i, version int) Append {
	own := StreamAppend{Stream: "own-" + name, Expected: ExpectedVersion(version)}
	for j := range soakBatch(i) {
		own.Events = append(own.Events, soakEvent(name, i, j))
	}
	shared := StreamAppend{Stream: "all-all", Expected: Any, Events: []NewEvent{soakEvent(name, i, soakBatch(i))}}
	return Append{Streams: []StreamAppend{own, shared}}
}

func soakEvent(name string, i, j int) NewEvent {
	text := soakText(name, i, j)
	return NewEvent{ID: domain.DeriveEventID("soak", text), Event: noted{text}}
}

func soakText(name string, i, j int) string { return fmt.Sprintf("%s.%d.%d", name, i, j) }

// readAcknowledged reads what a writer has written down. A process that is killed writes a line or does not.
func readAcknowledged(file *os.File) (all []Result, err error) {
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var i int
		var r Result
		if _, err := fmt.Sscanf(lines.Text(), "%d %d %d", &i, &r.First, &r.Last); err != nil || i != len(all) {
			return nil, fmt.Errorf("line %d of %s is %q: %w", len(all), file.Name(), lines.Text(), err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// acknowledgedBy reads the acknowledgements of a process, by writer.
func acknowledgedBy(t *testing.T, dir string) (all [soakWriters][]Result) {
	t.Helper()
	for w := range all {
		file, err := os.Open(filepath.Join(dir, fmt.Sprint(w)))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if all[w], err = readAcknowledged(file); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// writtenDown is how much a process has written down.
func writtenDown(dir string) (bytes int64) {
	for w := range soakWriters {
		if info, err := os.Stat(filepath.Join(dir, fmt.Sprint(w))); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func countAcknowledged(t *testing.T, dir string) (n int) {
	t.Helper()
	for _, mine := range acknowledgedBy(t, dir) {
		n += len(mine)
	}
	return n
}

// requireAcknowledged looks each acknowledgement of a process up in the log and returns how many events they are.
func requireAcknowledged(t *testing.T, dir string, got []string) (events int) {
	t.Helper()
	for w, mine := range acknowledgedBy(t, dir) {
		if len(mine) == 0 {
			t.Errorf("writer %d of %s got %d acknowledgements", w, dir, len(mine))
		}
		name := fmt.Sprintf("%s.%d", filepath.Base(dir), w)
		for i, r := range mine {
			size := soakBatch(i) + 1
			if int(r.Last-r.First)+1 != size || int(r.Last) > len(got) {
				t.Fatalf("append %d of %s is acknowledged at %+v; the log has %d events", i, name, r, len(got))
			}
			for j := range size {
				if text := got[int(r.First)-1+j]; text != soakText(name, i, j) {
					t.Fatalf("%s is acknowledged at %d, where %s is", soakText(name, i, j), int(r.First)+j, text)
				}
			}
			events += size
		}
	}
	return events
}

// requireRows reads the whole table and returns the texts. Positions and versions must have no gap, no text may occur
// twice, and the root must be the head's: by the definition of RFC 6962 section 2.1, and not by the log's own tree.
func requireRows(t *testing.T, pool *pgxpool.Pool) (got []string, head Head) {
	t.Helper()
	head = requireSound(t, pool)
	rows, err := pool.Query(t.Context(), `
		SELECT position, version, recorded_at, event_id, schema, stream, type, metadata, payload, salt FROM events ORDER BY position
	`)
	if err != nil {
		t.Fatal(err)
	}
	var r leafRecord
	var salt []byte
	var leaves [][sha256.Size]byte
	versions, seen := map[string]int64{}, map[string]bool{}
	_, err = pgx.ForEachRow(rows, []any{&r.position, &r.version, &r.recordedAt, &r.id, &r.schema, &r.stream, &r.eventType, &r.metadata, &r.payload, &salt}, func() error {
		r.salt = [16]byte(salt)
		leaves = append(leaves, sha256.Sum256(append([]byte{0}, r.appendTo(nil)...)))
		text := strings.TrimSuffix(strings.TrimPrefix(string(r.payload), `{"text":"`), `"}`)
		got = append(got, text)
		if int(r.position) != len(got) || r.version != versions[r.stream]+1 || seen[text] {
			return fmt.Errorf("event %d is at position %d, version %d of %s after %d, and was there before: %t",
				len(got), r.position, r.version, r.stream, versions[r.stream], seen[text])
		}
		versions[r.stream], seen[text] = r.version, true
		r.metadata, r.payload = nil, nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if int(head.Position) != len(got) || head.Root != treeHash(leaves) {
		t.Errorf("the head says %d events and root %x; the rows are %d with %x", head.Position, head.Root, len(got), treeHash(leaves))
	}
	return got, head
}

// treeHash is MTH of RFC 6962 section 2.1, word for word.
func treeHash(leaves [][sha256.Size]byte) [sha256.Size]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1 // the largest power of two smaller than n
	for 2*k < len(leaves) {
		k *= 2
	}
	left, right := treeHash(leaves[:k]), treeHash(leaves[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// follow reads the log from a node of its own while it is written. The function it returns waits until the reader is at
// a position, and returns how far it has come.
func follow(t *testing.T, pool *pgxpool.Pool) func(Position) Position {
	t.Helper()
	l := openOn(t, pool, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	reached, done := newTail(), make(chan struct{})
	go func() {
		defer close(done)
		seen := Position(0)
		for ctx.Err() == nil {
			page, err := l.Next(ctx, "", seen, 500)
			if err != nil && ctx.Err() == nil {
				if domain.CodeOf(err) != domain.Unavailable {
					t.Error(err)
					return
				}
				time.Sleep(50 * time.Millisecond) // the server is being restarted
			}
			for _, r := range page {
				if seen++; r.Position != seen {
					t.Errorf("the reader gets position %d for %d", r.Position, seen)
					return
				}
			}
			reached.advance(seen)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func(position Position) Position {
		for patience := time.After(20 * time.Second); ; {
			at, moved, _ := reached.now()
			if at >= position {
				return at
			}
			select {
			case <-moved:
			case <-done:
				return at
			case <-patience:
				return at
			}
		}
	}
}

// TestTreeHash holds the test's own root to a vector of TestTreeVectors.
func TestTreeHash(t *testing.T) {
	t.Parallel()
	empty := sha256.Sum256([]byte{0})
	zero := sha256.Sum256([]byte{0, 0})
	ten := sha256.Sum256([]byte{0, 0x10})
	got := treeHash([][sha256.Size]byte{empty, zero, ten})
	if want := "\xae\xb6\xbc\xfe"; !bytes.HasPrefix(got[:], []byte(want)) {
		t.Errorf("root %x", got)
	}
}
