package events

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"crossbill/domain"
)

const testOrigin = "log.test/main"

func newSigner(t testing.TB) *Signer {
	t.Helper()
	s, err := LoadOrCreateSigner(filepath.Join(t.TempDir(), "key"), testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVerifyFindsEveryFlip changes one thing in a log of 40 events, in the middle, and wants it found and named.
func TestVerifyFindsEveryFlip(t *testing.T) {
	t.Parallel()
	const at = "the event at position 17 "
	for name, c := range map[string]struct{ sql, want string }{
		"payload":             {`UPDATE events SET payload = set_bit(payload, 3, 1 - get_bit(payload, 3)) WHERE position = 17`, at},
		"metadata":            {`UPDATE events SET metadata = set_bit(metadata, 0, 1 - get_bit(metadata, 0)) WHERE position = 17`, at},
		"salt":                {`UPDATE events SET salt = set_bit(salt, 127, 1 - get_bit(salt, 127)) WHERE position = 17`, at},
		"short salt":          {`UPDATE events SET salt = substring(salt FROM 2) WHERE position = 17`, at},
		"leaf hash":           {`UPDATE events SET leaf_hash = set_bit(leaf_hash, 9, 1 - get_bit(leaf_hash, 9)) WHERE position = 17`, at},
		"type":                {`UPDATE events SET type = 'test.noteD' WHERE position = 17`, at},
		"stream":              {`UPDATE events SET stream = 'note-b' WHERE position = 17`, at},
		"version":             {`UPDATE events SET version = 100 WHERE position = 17`, at},
		"schema":              {`UPDATE events SET schema = 0 WHERE position = 17`, at},
		"recorded time":       {`UPDATE events SET recorded_at = recorded_at + interval '1 microsecond' WHERE position = 17`, at},
		"event id":            {`UPDATE events SET event_id = gen_random_uuid() WHERE position = 17`, at},
		"missing":             {`DELETE FROM events WHERE position = 17`, at + "is missing"},
		"missing at the end":  {`DELETE FROM events WHERE position = 40`, "the event at position 40 is missing"},
		"head root":           {`UPDATE log_head SET root = set_bit(root, 5, 1 - get_bit(root, 5))`, "the head row"},
		"head frontier":       {`UPDATE log_head SET frontier = set_bit(frontier, 5, 1 - get_bit(frontier, 5))`, "frontier"},
		"head behind":         {`UPDATE log_head SET position = 39`, "39 events"},
		"head ahead":          {`UPDATE log_head SET position = 41`, "the event at position 41 is missing"},
		"stream row":          {`UPDATE streams SET version = version - 1`, "note-a"},
		"stream row position": {`UPDATE streams SET position = position - 1`, "note-a"},
		"no stream row":       {`DELETE FROM streams`, "note-a"},
		"stray": {`INSERT INTO events SELECT 41, 41, recorded_at, gen_random_uuid(), schema, stream, type, salt, leaf_hash, metadata, payload
		             FROM events WHERE position = 40; UPDATE streams SET version = 41, position = 41`, "position 41, past the head"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, pool := openLog(t)
			for range 10 {
				mustAppend(t, l, one("note-a", Any, nil, "1", "2", "3", "4"))
			}
			requireSound(t, pool)
			if _, err := pool.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			_, err := Verify(t.Context(), pool, nil, "")
			var e *domain.Error
			if !errors.As(err, &e) || e.Code != domain.Conflict || e.Hint == "" || !strings.Contains(e.Message, c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestVerifyAgainstCheckpoint rewrites history so that it agrees with itself; only the checkpoint tells.
func TestVerifyAgainstCheckpoint(t *testing.T) {
	t.Parallel()
	signer := newSigner(t)
	l, pool := openSigned(t, signer)
	empty := checkpoint(t, l)
	mustAppend(t, l, one("note-a", Any, nil, "1", "2", "3"))
	older := checkpoint(t, l)
	mustAppend(t, l, one("note-b", Any, nil, "4", "5"))
	newer := checkpoint(t, l)
	for size, c := range map[Position][]byte{0: empty, 3: older, 5: newer} {
		h, err := Verify(t.Context(), pool, c, signer.VerifierKey())
		if err != nil || h.Position != size {
			t.Errorf("checkpoint of %d: %+v, %v", size, h, err)
		}
		want, err := ParseCheckpoint(c, signer.VerifierKey())
		if err != nil || h != want {
			t.Errorf("proven %+v, the checkpoint says %+v, %v", h, want, err)
		}
	}

	forged, otherPool := openSigned(t, signer)
	mustAppend(t, forged, one("note-a", Any, nil, "1", "2", "3"))
	mustAppend(t, forged, one("note-b", Any, nil, "4", "6"))
	requireSound(t, otherPool)
	for _, c := range [][]byte{older, newer} {
		_, err := Verify(t.Context(), otherPool, c, signer.VerifierKey())
		requireCode(t, err, domain.Conflict)
	}
	shorter, shorterPool := openSigned(t, signer)
	mustAppend(t, shorter, one("note-a", Any, nil, "1"))
	_, err := Verify(t.Context(), shorterPool, older, signer.VerifierKey())
	requireCode(t, err, domain.Conflict)
}

func openSigned(t *testing.T, s *Signer) (*Log, *pgxpool.Pool) {
	t.Helper()
	_, pool := openLog(t)
	return openOn(t, pool, Options{Signer: s}), pool
}

func checkpoint(t *testing.T, l *Log) []byte {
	t.Helper()
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpointForm(t *testing.T) {
	t.Parallel()
	signer := newSigner(t)
	l, _ := openSigned(t, signer)
	mustAppend(t, l, one("note-a", Any, nil, "1"))
	c := checkpoint(t, l)
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n1\n%s\n", testOrigin, base64.StdEncoding.EncodeToString(head.Root[:]))
	if !strings.HasPrefix(string(c), text+"\n— "+testOrigin+" ") {
		t.Errorf("checkpoint\n%s", c)
	}
	sign := func(text string) []byte {
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	if h, err := ParseCheckpoint(sign(text+"an extension\n"), signer.VerifierKey()); err != nil || h != head {
		t.Errorf("with an extension: %+v, %v", h, err)
	}
	root := base64.StdEncoding.EncodeToString(head.Root[:])
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"size changed":  []byte(strings.Replace(string(c), "\n1\n", "\n2\n", 1)),
		"root changed":  []byte(strings.Replace(string(c), root[:4], "AAAA", 1)),
		"other origin":  sign("log.test/other\n1\n" + root + "\n"),
		"no root":       sign(testOrigin + "\n1\n"),
		"short root":    sign(testOrigin + "\n1\nAAAA\n"),
		"negative size": sign(testOrigin + "\n-1\n" + root + "\n"),
		"size as 01":    sign(testOrigin + "\n01\n" + root + "\n"),
	} {
		if _, err := ParseCheckpoint(bad, signer.VerifierKey()); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseCheckpoint(c, newSigner(t).VerifierKey()); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("with another key: %v", err)
	}
	if _, err := ParseCheckpoint(c, "nonsense"); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("with no key: %v", err)
	}
}

func TestLoadOrCreateSigner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	keys := make([]string, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			s, err := LoadOrCreateSigner(path, testOrigin)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = s.VerifierKey()
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] || k == "" {
			t.Fatalf("keys %q", keys)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	_, err := LoadOrCreateSigner(path, "another")
	requireCode(t, err, domain.Invalid)
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadOrCreateSigner(path, testOrigin)
	requireCode(t, err, domain.Invalid)
	_, err = LoadOrCreateSigner(filepath.Join(path, "below", "a file"), testOrigin)
	requireCode(t, err, domain.Internal)
	// Many keys, since a plus sign in the base64 must not be taken for a separator.
	for i := range 50 {
		s, err := LoadOrCreateSigner(filepath.Join(t.TempDir(), fmt.Sprint(i)), testOrigin)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := note.Sign(&note.Note{Text: testOrigin + "\n0\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"}, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCheckpoint(signed, s.VerifierKey()); err != nil {
			t.Error(err)
		}
	}
}
