package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

var errCrash = errors.New("crash")

var quiet = slog.New(slog.DiscardHandler)

// TestArchiveCrash ends archiving after each of its steps, in every partition, as a crash would. Then everything can be
// read, archiving again ends it, and nothing is left over.
func TestArchiveCrash(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"written", "checked", "renamed", "ids kept", "dropped, not committed", "switched over"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
			fill(t, l, 0, 37)
			before := readEverything(t, l)
			crash := func(name string) error {
				if name == step {
					return errCrash
				}
				return nil
			}
			archived := 0
			for run := range 3 {
				done, err := Archive(t.Context(), pool, ArchiveOptions{Dir: dir, Logger: quiet, after: crash})
				if !errors.Is(err, errCrash) {
					t.Fatalf("archived %+v, error %v", done, err)
				}
				if step == "switched over" || step == "renamed" && run > 0 { // a file that is renamed is not made again
					archived++
				}
				before.require(t, readEverything(t, l))
				before.require(t, readEverything(t, openOn(t, pool, Options{ArchiveDir: dir})))
				requireSoundWith(t, pool, dir)
				if r := mustAppend(t, l, Append{Streams: []StreamAppend{{before.all[2].Stream, Any, []NewEvent{{ID: numbered(2), Event: before.all[2].Event}}}}}); r != (Result{3, 3, true}) {
					t.Errorf("repetition: %+v", r)
				}
			}
			if done := mustArchive(t, pool, ArchiveOptions{Dir: dir}); len(done) != 4-archived {
				t.Errorf("then archived %+v", done)
			}
			before.require(t, readEverything(t, l))
			requireSoundWith(t, pool, dir)
			if files, _ := os.ReadDir(dir); len(files) != 4 {
				t.Errorf("files %v", files)
			}
			var tables []string
			err := pool.QueryRow(t.Context(), `SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relname ~ '^(events|log_archived_ids)_p'`).Scan(&tables)
			want := []string{"events_p00004", "events_p00005", "log_archived_ids_p00000", "log_archived_ids_p00001", "log_archived_ids_p00002", "log_archived_ids_p00003"}
			if err != nil || !slices.Equal(tables, want) {
				t.Errorf("tables %v, %v", tables, err)
			}
		})
	}
}

// TestArchiveWritesBadFilesAgain leaves files of an earlier run that are cut or changed.
func TestArchiveWritesBadFilesAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(content []byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"empty":   func([]byte) []byte { return nil },
		"changed": func(b []byte) []byte { b[len(b)/3] ^= 4; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
			fill(t, l, 0, 9)
			before := readEverything(t, l)
			_, err := Archive(t.Context(), pool, ArchiveOptions{Dir: dir, Logger: quiet, after: func(step string) error {
				if step == "renamed" {
					return errCrash
				}
				return nil
			}})
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			change(t, dir, spoil)
			mustArchive(t, pool, ArchiveOptions{Dir: dir})
			before.require(t, readEverything(t, l))
			requireSoundWith(t, pool, dir)
		})
	}
}

// change changes the only archive in a directory.
func change(t *testing.T, dir string, f func([]byte) []byte) (path string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.archive"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], f(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return files[0]
}

// TestArchiveFlips changes single bits all over an archive. Each must be found and the file named; and a reader gets the
// events that were recorded or an error that names the file, never others and never fewer.
func TestArchiveFlips(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 64, Options{ArchiveDir: dir})
	fill(t, l, 0, 70)
	before := readEverything(t, l)
	mustArchive(t, pool, ArchiveOptions{Dir: dir})
	requireSoundWith(t, pool, dir)
	path := change(t, dir, func(b []byte) []byte { return b })
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	places := []int{0, 19, 20, 21, len(whole) - 1, len(whole) - archiveTrailer, len(whole) - archiveTrailer - 1, len(whole) - 40, len(whole) - 90}
	for i := 0; i < len(whole); i += 23 {
		places = append(places, i+rand.IntN(min(23, len(whole)-i)))
	}
	refused := 0
	for _, at := range places {
		spoilt := slices.Clone(whole)
		spoilt[at] ^= 1 << rand.IntN(8)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := VerifyRecords(t.Context(), pool, ArchivedRecordsIn(pool, dir), nil, "")
		requireNamed(t, err, domain.Conflict, path, fmt.Sprintf("byte %d of %d", at, len(whole)))

		reader := &Log{pool: pool, codec: l.codec, options: l.options, archives: newArchives(pool, dir)}
		page, err := reader.ReadAll(t.Context(), 0, 100)
		if err != nil {
			refused++
			requireNamed(t, err, domain.Conflict, path, fmt.Sprintf("ReadAll, byte %d of %d", at, len(whole)))
		} else {
			everything{all: before.all}.require(t, everything{all: page})
		}
		page, err = reader.ReadStream(t.Context(), "note-long", 0, 100)
		if err != nil {
			requireNamed(t, err, domain.Conflict, path, fmt.Sprintf("ReadStream, byte %d of %d", at, len(whole)))
		} else {
			everything{all: before.streams["note-long"]}.require(t, everything{all: page})
		}
		page, err = reader.ReadCategory(t.Context(), "note", 0, 100)
		if err != nil {
			requireNamed(t, err, domain.Conflict, path, fmt.Sprintf("ReadCategory, byte %d of %d", at, len(whole)))
		} else {
			everything{all: before.categories["note"]}.require(t, everything{all: page})
		}
	}
	if refused < len(places)/2 {
		t.Errorf("only %d of %d changes kept ReadAll from reading", refused, len(places))
	}
	// In the middle of the events, the block is named too.
	spoilt := slices.Clone(whole)
	spoilt[100] ^= 1
	if err := os.WriteFile(path, spoilt, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyRecords(t.Context(), pool, ArchivedRecordsIn(pool, dir), nil, ""); !strings.Contains(fmt.Sprint(err), "the block of the events 1 to 64") {
		t.Errorf("error %v", err)
	}
	// A change is noticed by a reader that had read the file before, too.
	if _, err := l.ReadStream(t.Context(), "note-1", 0, 100); err != nil {
		requireNamed(t, err, domain.Conflict, path, "an open reader")
	}
	for name, c := range map[string]struct {
		do   func() error
		code domain.Code
	}{
		"cut":     {func() error { return os.WriteFile(path, whole[:len(whole)-1], 0o600) }, domain.Conflict},
		"longer":  {func() error { return os.WriteFile(path, append(slices.Clone(whole), 0), 0o600) }, domain.Conflict},
		"empty":   {func() error { return os.WriteFile(path, nil, 0o600) }, domain.Conflict},
		"missing": {func() error { return os.Remove(path) }, domain.Unavailable},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		reader := &Log{pool: pool, codec: l.codec, options: l.options, archives: newArchives(pool, dir)}
		_, err := reader.ReadAll(t.Context(), 0, 10)
		requireNamed(t, err, c.code, path, name)
		_, err = reader.ReadCategory(t.Context(), "note", 0, 10)
		requireNamed(t, err, c.code, path, name)
		_, err = reader.ReadStream(t.Context(), "note-long", 0, 10)
		requireNamed(t, err, c.code, path, name)
		_, err = VerifyRecords(t.Context(), pool, ArchivedRecordsIn(pool, dir), nil, "")
		requireNamed(t, err, c.code, path, name)
	}
	// Without any directory.
	_, err = Verify(t.Context(), pool, nil, "")
	requireNamed(t, err, domain.Unavailable, path, "no directory")
	if page, err := openOn(t, pool, Options{}).ReadAll(t.Context(), 64, 10); err != nil || len(page) != 6 {
		t.Errorf("what is not archived: %d events, %v", len(page), err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	requireSoundWith(t, pool, dir)
}

func requireNamed(t *testing.T, err error, code domain.Code, path, what string) {
	t.Helper()
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != code || e.Hint == "" || !strings.Contains(err.Error(), filepath.Base(path)) {
		t.Errorf("%s: error %v, want code %s and the file's name", what, err, code)
	}
}

// TestArchiveTables changes what the database keeps about archived events. Each change is found.
func TestArchiveTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"id gone":          {`DELETE FROM log_archived_ids WHERE position = 11`, "the event at position 11"},
		"id other":         {`UPDATE log_archived_ids SET event_id = gen_random_uuid() WHERE position = 11`, "the event at position 11"},
		"digest":           {`UPDATE log_archived_ids SET digest = set_bit(digest, 3, 1 - get_bit(digest, 3)) WHERE position = 11`, "the event at position 11"},
		"id too many":      {`INSERT INTO log_archived_ids VALUES (11, gen_random_uuid(), sha256(''))`, "9 ids"},
		"stream behind":    {`UPDATE streams SET version = version - 1 WHERE stream = 'note-a'`, "note-a"},
		"stream ahead":     {`UPDATE streams SET version = version + 1 WHERE stream = 'note-a'`, "note-a"},
		"stream gone":      {`DELETE FROM streams WHERE stream = 'note-a'`, "note-a"},
		"stream elsewhere": {`UPDATE streams SET position = 2 WHERE stream = 'note-b'`, "note-b"},
		"stream too many":  {`INSERT INTO streams VALUES ('note-aa', 1, 11)`, "note-aa"},
		"archive's root":   {`UPDATE log_archives SET subtree_root = sha256('') WHERE partition = 1`, "events-000000000009-"},
		"archive gone":     {`DELETE FROM log_archives WHERE partition = 1`, "position 9"},
		"first gone":       {`DELETE FROM log_archives WHERE partition = 0`, "begins at position 9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
			for range 4 {
				mustAppend(t, l, one("note-a", Any, nil, "1", "2", "3", "4")) // up to position 16
			}
			for range 4 {
				mustAppend(t, l, one("note-b", Any, nil, "1", "2"))
			}
			mustArchive(t, pool, ArchiveOptions{Dir: dir, Before: 17})
			requireSoundWith(t, pool, dir)
			if _, err := pool.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			_, err := VerifyRecords(t.Context(), pool, ArchivedRecordsIn(pool, dir), nil, "")
			var e *domain.Error
			if !errors.As(err, &e) || e.Code != domain.Conflict || e.Hint == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestArchiveRefuses wants nothing archived that could not be proven afterwards.
func TestArchiveRefuses(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"payload":     `UPDATE events SET payload = set_bit(payload, 3, 1 - get_bit(payload, 3)) WHERE position = 5`,
		"leaf":        `UPDATE events SET leaf_hash = sha256('') WHERE position = 5`,
		"later leaf":  `UPDATE events SET leaf_hash = sha256('') WHERE position = 20`,
		"missing":     `DELETE FROM events WHERE position = 5`,
		"stream":      `UPDATE events SET stream = 'note-c' WHERE position = 5`,
		"head's root": `UPDATE log_head SET root = sha256('')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
			fill(t, l, 0, 20)
			if _, err := pool.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			done, err := Archive(t.Context(), pool, ArchiveOptions{Dir: dir})
			requireCode(t, err, domain.Conflict)
			if len(done) != 0 || len(partitionsOf(t, pool)) != 3 {
				t.Errorf("archived %+v, partitions %v", done, partitionsOf(t, pool))
			}
		})
	}
	l, pool := openPartitioned(t, 8, Options{})
	fill(t, l, 0, 20)
	for _, o := range []ArchiveOptions{{}, {Dir: "x", KeepPartitions: -1}, {Dir: "x", Before: -1}} {
		_, err := Archive(t.Context(), pool, o)
		requireCode(t, err, domain.Invalid)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Archive(t.Context(), pool, ArchiveOptions{Dir: file})
	requireCode(t, err, domain.Unavailable)
	_, err = Archive(t.Context(), pool, ArchiveOptions{Dir: t.TempDir(), after: func(string) error {
		_, err := Archive(t.Context(), pool, ArchiveOptions{Dir: t.TempDir()})
		return err
	}})
	requireCode(t, err, domain.Conflict) // one at a time
	if done := mustArchive(t, pool, ArchiveOptions{Dir: t.TempDir()}); len(done) != 2 {
		t.Errorf("the lock was not given back: %+v", done)
	}
}

// TestArchiveUnderLoad archives again and again while several callers append and repeat, and others read everything from
// the start. Nobody may miss an event, and nobody may wait for long.
func TestArchiveUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 256, Options{ArchiveDir: dir})
	fill(t, l, 0, 300)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	var writing, reading sync.WaitGroup
	var longest atomic.Int64
	for w := range 3 {
		writing.Go(func() {
			stream := fmt.Sprintf("load-%d", w)
			for i := 0; ctx.Err() == nil; i++ {
				a := one(stream, ExpectedVersion(10*i), nil, make([]string, 10)...)
				for j := range a.Streams[0].Events {
					a.Streams[0].Events[j].ID = numbered(1_000_000*(w+1) + 10*i + j)
				}
				began := time.Now()
				first, err := l.Append(context.Background(), a)
				if err != nil {
					t.Error(err)
					return
				}
				longest.Store(max(longest.Load(), int64(time.Since(began))))
				if again, err := l.Append(context.Background(), a); err != nil || again != (Result{first.First, first.Last, true}) {
					t.Errorf("repetition of %+v: %+v, %v", first, again, err)
					return
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for ctx.Err() == nil {
				node := &Log{pool: pool, codec: l.codec, options: l.options, archives: newArchives(pool, dir)} // which knows of no archive yet
				readAgainst(t, node)
			}
		})
	}
	archived := 0
	var locked time.Duration
	for ctx.Err() == nil {
		for _, d := range mustArchive(t, pool, ArchiveOptions{Dir: dir}) {
			archived++
			locked = max(locked, d.Locked)
		}
	}
	writing.Wait()
	reading.Wait()
	requireSoundWith(t, pool, dir)
	t.Logf("%d partitions archived, the table locked for %s at most, the longest append took %s", archived, locked, time.Duration(longest.Load()))
	if archived < 5 {
		t.Errorf("only %d partitions were archived", archived)
	}
	if d := time.Duration(longest.Load()); d > 10*time.Second {
		t.Errorf("an append took %s", d)
	}
}

// readAgainst reads a growing log in three ways at once, in small pages, and holds them against each other.
func readAgainst(t *testing.T, l *Log) {
	ctx := context.Background()
	head, err := l.Head(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	var want, got []Position
	for after := Position(0); after < head.Position; {
		page, err := l.ReadAll(ctx, after, 200)
		if err != nil || len(page) == 0 {
			t.Errorf("ReadAll after %d: %d events, %v", after, len(page), err)
			return
		}
		for _, r := range page {
			if after++; r.Position != after {
				t.Errorf("position %d after %d", r.Position, after-1)
				return
			}
			if strings.HasPrefix(r.Stream, "load-") && after <= head.Position {
				want = append(want, after)
			}
		}
	}
	for after := Position(0); after < head.Position; {
		page, err := l.ReadCategory(ctx, "load", after, 150)
		if err != nil {
			t.Errorf("ReadCategory after %d: %v", after, err)
			return
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if after = r.Position; after <= head.Position {
				got = append(got, after)
			}
		}
	}
	if !slices.Equal(want, got) {
		t.Errorf("a category has %d events in one reading and %d in the other", len(want), len(got))
	}
	var last int64
	if err := l.pool.QueryRow(ctx, `SELECT coalesce((SELECT version FROM streams WHERE stream = 'load-1'), 0)`).Scan(&last); err != nil {
		t.Error(err)
	}
	if _, version, err := Load(ctx, l, "load-1", func(int, domain.Event) int { return 0 }); err != nil || version < last {
		t.Errorf("Load: version %d of %d, %v", version, last, err)
	}
}

// TestArchiveWaitsItsTurn has a transaction that has read the table and stays open. Archiving waits for it; appends and
// other readers go on.
func TestArchiveWaitsItsTurn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, pool := openPartitioned(t, 8, Options{ArchiveDir: dir})
	fill(t, l, 0, 20)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM events`); err != nil {
		t.Fatal(err)
	}
	release := sync.OnceValue(func() error { return tx.Rollback(context.Background()) })
	defer time.AfterFunc(15*time.Second, func() { release() }).Stop() // whoever does wait for it must come to an end, to fail
	archived := make(chan error, 1)
	go func() {
		_, err := Archive(context.Background(), pool, ArchiveOptions{Dir: dir, Logger: quiet})
		archived <- err
	}()
	var longest time.Duration
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		at := time.Now()
		mustAppend(t, l, one("note-x", Any, nil, "x"))
		if _, err := l.ReadAll(t.Context(), 18, 5); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(at))
		time.Sleep(5 * time.Millisecond)
	}
	select {
	case err := <-archived:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	t.Logf("the longest append and read took %s", longest)
	if longest > 10*time.Second {
		t.Errorf("an append and a read took %s", longest)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := <-archived; err != nil {
		t.Fatal(err)
	}
	requireSoundWith(t, pool, dir)
}

// TestPartitionsAheadDoNotStall locks the table's definition, as ANALYZE does, while the next partition would be made
// ahead. Appends go on; the partition is made later, and at the latest when it is needed.
func TestPartitionsAheadDoNotStall(t *testing.T) {
	t.Parallel()
	l, pool := openPartitioned(t, 64, Options{})
	fill(t, l, 0, 30)
	release := lockDefinition(t, pool)
	defer time.AfterFunc(15*time.Second, release).Stop() // as above
	began := time.Now()
	fill(t, l, 30, 20)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the appends took %s", took)
	}
	if names := partitionsOf(t, pool); len(names) != 1 {
		t.Errorf("partitions %v", names)
	}
	time.AfterFunc(300*time.Millisecond, release)
	fill(t, l, 50, 20) // needs it
	if names := partitionsOf(t, pool); len(names) != 2 {
		t.Errorf("partitions %v", names)
	}
	requireSound(t, pool)
}

func lockDefinition(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	if _, err := conn.Exec(t.Context(), "begin; lock table events in share update exclusive mode"); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { conn.Exec(context.Background(), "rollback") })
}
