package events

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/subject"
	"crossbill/events/pgtest"
	"crossbill/events/vault"
)

// met is an event with texts about several persons.
type met struct {
	Place string   `json:"place"`
	Who   []person `json:"who"`
}

type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Mail string `json:"mail,omitempty"`
}

func (met) EventType() string { return "test.met" }

func (m met) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	m.Who = slices.Clone(m.Who)
	for i, p := range m.Who {
		m.Who[i].Name = f(domain.PersonalField{Subject: "org/" + p.ID, Name: "name." + p.ID, Text: p.Name})
		m.Who[i].Mail = f(domain.PersonalField{Subject: "org/" + p.ID, Name: "mail." + p.ID, Text: p.Mail})
	}
	return m
}

// Texts that a test looks for in everything that is stored.
const (
	adasName = "Ada Lovelace-Byron"
	adasMail = "ada@analytical.example"
	bobsName = "Bob the Builder-of-Bridges"
)

func ada() person { return person{"ada", adasName, adasMail} }
func bob() person { return person{"bob", bobsName, ""} }

func meeting(id byte, who ...person) Append {
	e := NewEvent{Event: met{"Hall 4711", who}}
	if id != 0 {
		e.ID = testID(id)
	}
	return Append{Streams: []StreamAppend{{Stream: "meeting-a", Expected: Any, Events: []NewEvent{e}}}}
}

// site is a log whose nodes share a master key.
type site struct {
	*testing.T
	pool   *pgxpool.Pool
	source vault.Source
	signer *Signer
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	signer, err := LoadOrCreateSigner(filepath.Join(dir, "log.key"), "test.example/log")
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, pgtest.New(t), vault.KeyFile(filepath.Join(dir, "vault.key")), signer}
}

// node opens the log as another process would. Its clock runs ahead by what ahead holds.
func (s *site) node(ahead *atomic.Int64) *Log {
	s.Helper()
	v, err := vault.Open(s.Context(), s.pool, s.source, vault.Options{Clock: func() time.Time {
		if ahead == nil {
			return time.Now()
		}
		return time.Unix(0, ahead.Load())
	}})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(v.Close)
	return s.open(v)
}

func (s *site) open(v *vault.Vault) *Log {
	s.Helper()
	codec, err := NewCodec([]domain.Event{noted{}, met{}}, subject.Events())
	if err != nil {
		s.Fatal(err)
	}
	l, err := Open(s.Context(), s.pool, codec, Options{Signer: s.signer, Vault: v})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(l.Close)
	return l
}

func (s *site) erase(l *Log, who string) Erasure {
	s.Helper()
	e, err := l.Erase(s.Context(), subject.Erase{Subject: who, By: "operator", Reason: subject.ReasonRequest, At: time.Now()}, false)
	if err != nil {
		s.Fatal(err)
	}
	return e
}

// who returns the persons of the meeting at a position.
func (s *site) who(l *Log, at Position) []person {
	s.Helper()
	page, err := l.ReadAll(s.Context(), at-1, 1)
	if err != nil || len(page) != 1 {
		s.Fatalf("%d events at %d, %v", len(page), at, err)
	}
	return page[0].Event.(met).Who
}

func (s *site) wantWho(l *Log, at Position, want ...person) {
	s.Helper()
	if got := s.who(l, at); !slices.Equal(got, want) {
		s.Errorf("at %d are %+v, want %+v", at, got, want)
	}
}

// dump returns the text of every row of every table, and what its binary columns hold as text.
func (s *site) dump() string {
	s.Helper()
	rows, _ := s.pool.Query(s.Context(), `SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		s.Fatalf("%d tables, %v", len(tables), err)
	}
	var b strings.Builder
	for _, table := range tables {
		rows, _ := s.pool.Query(s.Context(), `SELECT t::text FROM ONLY `+table+` t`)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			s.Fatal(err)
		}
		for _, text := range texts {
			b.WriteString(table + " " + text + "\n")
			for _, part := range strings.Split(text, `\x`)[1:] { // bytea is shown in hexadecimal
				end := strings.IndexFunc(part, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
				if end < 0 {
					end = len(part)
				}
				if raw, err := hex.DecodeString(part[:end]); err == nil {
					b.Write(raw)
					b.WriteByte('\n')
				}
			}
		}
	}
	return b.String()
}

// wantNowhere looks for texts, as they are and in the forms that bytes take in JSON and SQL.
func (s *site) wantNowhere(texts ...string) {
	s.Helper()
	dump := strings.ToLower(s.dump())
	if !strings.Contains(dump, "hall 4711") {
		s.Error("the dump does not have what is not secret: it would not have what is")
	}
	for _, text := range texts {
		for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text))[:16]} {
			if strings.Contains(dump, strings.ToLower(form)) {
				s.Errorf("a dump of the database has %s", form)
			}
		}
	}
}

func TestPersonalTexts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l := s.node(nil)
	a := meeting(0, ada(), bob())
	r := mustAppend(t, l, a)
	if !reflect.DeepEqual(a, meeting(0, ada(), bob())) {
		t.Errorf("appending changed the caller's events: %+v", a)
	}
	again := mustAppend(t, l, meeting(0, ada()))
	s.wantWho(l, r.First, ada(), bob())
	s.wantWho(s.node(nil), again.First, ada())
	byStream, err := l.ReadStream(t.Context(), "meeting-a", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	byCategory, err := l.ReadCategory(t.Context(), "meeting", 0, 10)
	if err != nil || !reflect.DeepEqual(byStream, byCategory) || len(byStream) != 2 || byStream[0].Event.(met).Who[0] != ada() {
		t.Errorf("by stream %+v, by category %+v, %v", byStream, byCategory, err)
	}
	s.wantNowhere(adasName, adasMail, bobsName)

	// What is sealed of the same text in two events has nothing in common, and of two short texts not even the length
	// tells them apart.
	var stored [2]met
	for i := range stored {
		e, err := l.codec.Decode("test.met", 1, byStream[i].Data)
		if err != nil {
			t.Fatal(err)
		}
		stored[i] = e.(met)
		if !vault.Sealed(stored[i].Who[0].Name) || !vault.Sealed(stored[i].Who[0].Mail) || stored[i].Place != "Hall 4711" {
			t.Errorf("stored is %+v", stored[i])
		}
	}
	if x, y := stored[0].Who[0].Name, stored[1].Who[0].Name; x == y || x[len(x)-60:] == y[len(y)-60:] {
		t.Error("the same name is sealed twice to the same text")
	}
	if stored[0].Who[1].Mail != "" || len(stored[0].Who[0].Name) != len(stored[0].Who[0].Mail) {
		t.Errorf("stored is %+v", stored[0])
	}
	requireSound(t, s.pool)
}

// TestErase erases on one node what another has just read.
func TestErase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var clock atomic.Int64
	l, other := s.node(nil), s.node(&clock)
	both := mustAppend(t, l, meeting(1, ada(), bob()))
	mustAppend(t, l, one("note-a", Any, nil, "x"))
	s.wantWho(other, both.First, ada(), bob())
	before, err := l.ReadAll(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	erasure := s.erase(s.open(nil), "org/ada") // as the command does: without a master key
	if erasure.Position != 3 || erasure.Already {
		t.Errorf("%+v", erasure)
	}

	gone := person{"ada", domain.Erased, domain.Erased}
	clock.Store(int64(vault.KeepFor - 1))
	s.wantWho(other, both.First, ada(), bob()) // it did not ask again: the limit is what it says, no less
	clock.Store(int64(vault.KeepFor))
	s.wantWho(other, both.First, gone, bob())
	s.wantWho(s.node(nil), both.First, gone, bob())

	// The events, and all that proves them, are what they were.
	after, err := other.ReadAll(t.Context(), 0, 10)
	if err != nil || len(after) != 3 {
		t.Fatalf("%d events, %v", len(after), err)
	}
	for i, b := range before {
		if a := after[i]; string(a.Data) != string(b.Data) || a.LeafHash != b.LeafHash || a.Salt != b.Salt {
			t.Errorf("the event at %d changed", b.Position)
		}
	}
	if h, err := Verify(t.Context(), s.pool, checkpoint, s.signer.VerifierKey()); err != nil || h.Position != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	requireSound(t, s.pool)
	s.wantNowhere(adasName, adasMail, bobsName)
	e := after[2].Event.(subject.Erased)
	if e.Subject != "org/ada" || e.By != "operator" || e.Reason != subject.ReasonRequest || after[2].Metadata.Actor != "operator" {
		t.Errorf("recorded is %+v", after[2])
	}

	var keys, live int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*), count(wrapped) FROM subject_keys`).Scan(&keys, &live); err != nil || keys != 2 || live != 1 {
		t.Errorf("%d of %d keys are left, %v", live, keys, err)
	}
	if again := s.erase(l, "org/ada"); again.Position != 3 || !again.Already {
		t.Errorf("erased again: %+v", again)
	}
	_, err = l.Erase(t.Context(), subject.Erase{Subject: "org/nobody", By: "operator", Reason: subject.ReasonRequest, At: time.Now()}, false)
	requireCode(t, err, domain.NotFound)
	if h, err := l.Head(t.Context()); err != nil || h.Position != 3 {
		t.Errorf("refused erasures left something: %+v, %v", h, err)
	}
}

// A node that reads of the erasure forgets the key at once.
func TestEraseIsHeard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l, other := s.node(nil), s.node(new(atomic.Int64)) // whose clock stands still
	r := mustAppend(t, l, meeting(0, ada()))
	s.wantWho(other, r.First, ada())
	s.erase(l, "org/ada")
	if _, err := other.ReadAll(t.Context(), r.Last, 10); err != nil {
		t.Fatal(err)
	}
	s.wantWho(other, r.First, person{"ada", domain.Erased, domain.Erased})
	s.wantWho(l, r.First, person{"ada", domain.Erased, domain.Erased})
}

// A key that came back by another way than crossbill keys restore opens nothing, and erasing again destroys it.
func TestEraseOutlastsADumpOfTheKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l := s.node(nil)
	r := mustAppend(t, l, meeting(0, ada()))
	if _, err := s.pool.Exec(t.Context(), `CREATE TEMP TABLE saved AS TABLE subject_keys; CREATE TABLE kept AS TABLE saved`); err != nil {
		t.Fatal(err)
	}
	s.erase(l, "org/ada")
	if _, err := s.pool.Exec(t.Context(), `TRUNCATE subject_keys; INSERT INTO subject_keys TABLE kept`); err != nil {
		t.Fatal(err)
	}
	s.wantWho(s.node(nil), r.First, person{"ada", domain.Erased, domain.Erased})
	_, err := s.node(nil).Append(t.Context(), meeting(0, ada()))
	requireCode(t, err, domain.Conflict)
	if again := s.erase(l, "org/ada"); !again.Already {
		t.Errorf("%+v", again)
	}
	var live int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(wrapped) FROM subject_keys`).Scan(&live); err != nil || live != 0 {
		t.Errorf("%d keys are left, %v", live, err)
	}
}

func TestPersonalRepetition(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l, other := s.node(nil), s.node(nil)
	first := mustAppend(t, l, meeting(1, ada(), bob()))
	renamed := ada()
	renamed.Name = "Ada King"
	for _, node := range []*Log{l, other, s.node(nil)} {
		if r := mustAppend(t, node, meeting(1, ada(), bob())); !r.Duplicate || r.First != first.First {
			t.Errorf("the same again: %+v", r)
		}
		_, err := node.Append(t.Context(), meeting(1, renamed, bob()))
		requireCode(t, err, domain.Conflict)
	}

	s.erase(l, "org/ada")
	fresh := s.node(nil)
	if r := mustAppend(t, fresh, meeting(1, ada(), bob())); !r.Duplicate || r.First != first.First {
		t.Errorf("the same again, after an erasure: %+v", r)
	}
	changedBob := bob()
	changedBob.Name = "Robert"
	moved := meeting(1, ada(), bob())
	moved.Streams[0].Events[0].Event = met{"Hall 5", []person{ada(), bob()}}
	for name, a := range map[string]Append{
		"another name of who is not erased": meeting(1, ada(), changedBob),
		"another place":                     moved,
		"one person less":                   meeting(1, ada()),
		"a new event":                       meeting(2, ada()),
		"a new event without an id":         meeting(0, ada(), bob()),
	} {
		if r, err := fresh.Append(t.Context(), a); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	s.wantWho(fresh, mustAppend(t, fresh, meeting(3, bob())).First, bob()) // who is not erased
	s.wantWho(fresh, mustAppend(t, fresh, meeting(4, person{ID: "ada"})).First, person{ID: "ada"})
	requireSound(t, s.pool)
	s.wantNowhere(adasName, adasMail, bobsName)
}

// Nodes that meet somebody at the same moment come to one key, so that what one appends is a repetition for the others.
func TestPersonalConcurrently(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	nodes := []*Log{s.node(nil), s.node(nil), s.node(nil)}
	for round := range 10 {
		who := person{fmt.Sprint("p", round), adasName, adasMail}
		var appending sync.WaitGroup
		var fresh atomic.Int64
		for _, node := range nodes {
			for range 3 {
				appending.Go(func() {
					r, err := node.Append(context.Background(), meeting(byte(round+1), who))
					if err != nil {
						t.Error(err)
					} else if !r.Duplicate {
						fresh.Add(1)
					}
				})
			}
		}
		appending.Wait()
		if n := fresh.Load(); n != 1 {
			t.Errorf("recorded %d times", n)
		}
	}
}

// The vault needs no connection of the pool, which the caller may have taken the last one of.
func TestPersonalWithoutAFreeConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	config := s.pool.Config().Copy()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s.pool = pool
	l := s.node(nil)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := l.Append(ctx, meeting(0, ada())); err != nil {
		t.Fatal(err)
	}
	tx.Rollback(t.Context())
	s.wantWho(l, 1, ada())
}

func TestPersonalWithoutVault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bare := s.open(nil)
	_, err := bare.Append(t.Context(), meeting(0, ada()))
	requireCode(t, err, domain.Internal)
	r := mustAppend(t, bare, meeting(0, person{ID: "ada"})) // nothing to hide
	s.wantWho(bare, r.First, person{ID: "ada"})
	r = mustAppend(t, s.node(nil), meeting(0, ada()))
	s.wantWho(bare, r.First, person{"ada", domain.Unreadable, domain.Unreadable})
}

// While the keys can't be had, nothing is read, and nothing appended, in place of what they would show: a read model would
// keep it.
func TestPersonalWhileTheVaultIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mustAppend(t, s.node(nil), meeting(0, ada()))
	v, err := vault.Open(t.Context(), s.pool, s.source, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := s.open(v)
	v.Close()
	page, err := l.ReadAll(t.Context(), 0, 10)
	requireCode(t, err, domain.Unavailable)
	if len(page) != 0 || errors.Is(err, ErrUndecodable) { // which would stop a projection for good
		t.Errorf("%+v, %v", page, err)
	}
	_, err = l.Append(t.Context(), meeting(0, bob()))
	requireCode(t, err, domain.Unavailable)
	mustAppend(t, l, one("note-a", Any, nil, "x"))
}

// What was recorded before there was a vault reads as it is, until its person is erased.
func TestPersonalFromBeforeTheVault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l := s.node(nil)
	s.wantWho(l, s.plain(t, l), ada())
	_, err := l.Erase(t.Context(), subject.Erase{Subject: "org/ada", By: "operator", Reason: subject.ReasonMistake, At: time.Now()}, true)
	if err != nil {
		t.Fatal(err)
	}
	s.wantWho(l, 1, person{"ada", domain.Erased, domain.Erased})
	_, err = l.Append(t.Context(), meeting(0, ada()))
	requireCode(t, err, domain.Conflict)
}

// plain appends a meeting in clear, by the type that the name had before it was personal.
func (s *site) plain(t *testing.T, l *Log) Position {
	t.Helper()
	codec, err := NewCodec([]domain.Event{plainMet{}})
	if err != nil {
		t.Fatal(err)
	}
	old, err := Open(t.Context(), s.pool, codec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	return mustAppend(t, old, Append{Streams: []StreamAppend{{Stream: "meeting-a", Expected: Any, Events: []NewEvent{{Event: plainMet{"Hall 4711", []person{ada()}}}}}}}).First
}

type plainMet met

func (plainMet) EventType() string { return "test.met" }

// A text that was put in another's place, or changed, stops the reading there: nobody may take it for what was recorded.
func TestPersonalTextsDoNotMove(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l := s.node(nil)
	twin := person{"ada", adasMail, adasName}
	mustAppend(t, l, meeting(0, ada()))
	mustAppend(t, l, one("note-a", Any, nil, "x"))
	mustAppend(t, l, meeting(0, twin))
	var payloads []string
	for _, at := range []int{1, 3} {
		var payload []byte
		if err := s.pool.QueryRow(t.Context(), `SELECT payload FROM events WHERE position = $1`, at).Scan(&payload); err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, string(payload))
	}
	swapped := strings.NewReplacer(`"name"`, `"mail"`, `"mail"`, `"name"`).Replace(payloads[1])
	changed := []byte(payloads[1])
	at := strings.Index(payloads[1], `","mail"`) - 4
	if changed[at] == 'A' { // another letter of base64url: what is no base64 is no sealed text
		changed[at] = 'B'
	} else {
		changed[at] = 'A'
	}
	for name, payload := range map[string]string{
		"of another event": payloads[0], "of another field": swapped, "changed": string(changed),
		"of another person": strings.Replace(payloads[1], `"id":"ada"`, `"id":"bob"`, 1),
	} {
		if _, err := s.pool.Exec(t.Context(), `UPDATE events SET payload = $1 WHERE position = 3`, []byte(payload)); err != nil {
			t.Fatal(err)
		}
		page, err := l.ReadAll(t.Context(), 0, 10)
		if name == "of another person" { // whose key there is none of
			if err != nil || len(page) != 3 || page[2].Event.(met).Who[0].Name != domain.Unreadable {
				t.Errorf("%s: %+v, %v", name, page, err)
			}
			continue
		}
		if err != nil || len(page) != 2 {
			t.Errorf("%s: %d events, %v", name, len(page), err)
		}
		_, err = l.ReadAll(t.Context(), 2, 10)
		if !errors.Is(err, ErrUndecodable) || !strings.Contains(fmt.Sprint(err), "position 3") {
			t.Errorf("%s: %v", name, err)
		}
		if _, version, err := Load(t.Context(), l, "meeting-a", func(n int, _ domain.Event) int { return n + 1 }); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: loaded up to version %d, %v", name, version, err)
		}
	}
}
