package vault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/subject"
	"crossbill/events/pgtest"
)

// house is a database with a vault in it.
type house struct {
	*testing.T
	pool *pgxpool.Pool
	file KeyFile
	now  time.Time
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return &house{t, pgtest.New(t), KeyFile(filepath.Join(t.TempDir(), "vault.key")), time.Now()}
}

func (h *house) open(source Source) *Vault {
	h.Helper()
	v, err := Open(h.Context(), h.pool, source, Options{Clock: func() time.Time { return h.now }})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(v.Close)
	return v
}

func place(who, text string) Place {
	return Place{EventID: [16]byte{1}, EventType: "test.met", Field: domain.PersonalField{Subject: who, Name: "name", Text: text}}
}

func (h *house) seal(v *Vault, who, text string) string {
	h.Helper()
	ring, err := v.ForWriting(h.Context(), []string{who})
	if err != nil {
		h.Fatal(err)
	}
	sealed, err := ring.Seal(place(who, text))
	if err != nil {
		h.Fatal(err)
	}
	return sealed
}

func (h *house) read(v *Vault, who, sealed string) string {
	h.Helper()
	ring, err := v.ForReading(h.Context(), []string{who})
	if err != nil {
		h.Fatal(err)
	}
	text, err := ring.Open(place(who, sealed))
	if err != nil {
		h.Fatal(err)
	}
	return text
}

func (h *house) want(v *Vault, who, sealed, text string) {
	h.Helper()
	if got := h.read(v, who, sealed); got != text {
		h.Errorf("the text of %s reads %q, want %q", who, got, text)
	}
}

func (h *house) destroy(who string) {
	h.Helper()
	err := pgx.BeginFunc(h.Context(), h.pool, func(tx pgx.Tx) error {
		known, err := Destroy(h.Context(), tx, who, time.Now())
		if err == nil && !known {
			err = errors.New("the vault does not know " + who)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) exec(sql string, args ...any) {
	h.Helper()
	if _, err := h.pool.Exec(h.Context(), sql, args...); err != nil {
		h.Fatal(err)
	}
}

func (h *house) backup(v *Vault) []byte {
	h.Helper()
	var b bytes.Buffer
	if _, err := v.Backup(h.Context(), &b); err != nil {
		h.Fatal(err)
	}
	return b.Bytes()
}

func (h *house) wantRestored(v *Vault, backup []byte, want Restored) {
	h.Helper()
	if got, err := v.Restore(h.Context(), bytes.NewReader(backup)); err != nil || got != want {
		h.Errorf("restored %+v, want %+v, %v", got, want, err)
	}
}

func wantCode(t *testing.T, err error, code domain.Code) {
	t.Helper()
	if domain.CodeOf(err) != code {
		t.Errorf("error %v, want code %q", err, code)
	}
}

func FuzzSeal(f *testing.F) {
	k, err := newSubjectKey([8]byte{7}, make([]byte, keySize))
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", "Ada", "\x80", "\x00", "a\x80\x00\x00", strings.Repeat("x", padTo-1), strings.Repeat("x", padTo), domain.Erased, sealedPrefix} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := place("org/a", text)
		p.Field.Text = k.seal(p, text)
		if again := k.seal(place("org/a", text), text); again != p.Field.Text {
			t.Error("the same text at the same place is sealed differently")
		}
		ring := Ring{"org/a": {byID: map[[8]byte]*subjectKey{k.id: k}}}
		if got, err := ring.Open(p); err != nil || got != text {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
	})
}

// Every part of a place, and every byte of what is sealed, is authenticated.
func TestSealIsBound(t *testing.T) {
	t.Parallel()
	k, err := newSubjectKey([8]byte{7}, make([]byte, keySize))
	if err != nil {
		t.Fatal(err)
	}
	p := place("org/a", "Ada")
	sealed := k.seal(p, "Ada")
	_, raw, ok := parseSealed(sealed)
	if !ok || !Sealed(sealed) {
		t.Fatal(sealed)
	}
	nonces := map[string]string{}
	for name, change := range map[string]func(*Place){
		"nothing": func(*Place) {}, "event": func(p *Place) { p.EventID[15]++ }, "type": func(p *Place) { p.EventType += "x" },
		"field": func(p *Place) { p.Field.Name = "mail" }, "subject": func(p *Place) { p.Field.Subject = "org/b" },
		"border": func(p *Place) { p.EventType, p.Field.Name = "test.metn", "ame" },
	} {
		other := place("org/a", "Ada")
		change(&other)
		if text, err := k.open(other, raw); (err == nil) != (name == "nothing") {
			t.Errorf("with another %s it opens to %q, %v", name, text, err)
		}
		_, elsewhere, _ := parseSealed(k.seal(other, "Ada"))
		if before, taken := nonces[string(elsewhere[:nonceSize])]; taken {
			t.Errorf("another %s has the nonce of another %s", name, before)
		}
		nonces[string(elsewhere[:nonceSize])] = name
	}
	if _, other, _ := parseSealed(k.seal(p, "Adb")); nonces[string(other[:nonceSize])] != "" {
		t.Error("another text has the same nonce")
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if text, err := k.open(p, changed); err == nil {
			t.Errorf("with byte %d changed it opens to %q", i, text)
		}
		if _, err := k.open(p, raw[:i]); err == nil {
			t.Errorf("its first %d bytes open", i)
		}
	}
	for _, text := range []string{"Ada", "enc1.", "enc1.00.", "enc1.0000000000000007", "enc1.zz00000000000007.AAAA", "enc1.0000000000000007.=", "enc1.000000000000000700.AAAA"} {
		if Sealed(text) {
			t.Errorf("%q is taken for a sealed text", text)
		}
	}
	if len(k.seal(p, "A")) != len(k.seal(p, strings.Repeat("A", padTo-1))) || len(k.seal(p, "A")) == len(k.seal(p, strings.Repeat("A", padTo))) {
		t.Error("lengths of texts can be seen, or are padded without end")
	}
}

func TestKeysAreKeptForAWhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	ada, bob := h.seal(v, "org/ada", "Ada"), h.seal(v, "org/bob", "Bob")
	h.destroy("org/ada")
	h.now = h.now.Add(KeepFor - 1)
	h.want(v, "org/ada", ada, "Ada")
	h.now = h.now.Add(1)
	h.want(v, "org/ada", ada, domain.Erased)
	h.want(v, "org/bob", bob, "Bob")
	h.destroy("org/bob")
	v.Forget("org/bob")
	h.want(v, "org/bob", bob, domain.Erased)
	ring, err := v.ForWriting(t.Context(), []string{"org/ada"})
	if err != nil || !ring.Erased("org/ada") {
		t.Errorf("%+v, %v", ring, err)
	}
	if _, err := ring.Seal(place("org/ada", "Ada")); domain.CodeOf(err) != domain.Internal {
		t.Errorf("sealed for an erased person: %v", err)
	}
	var rows int
	if err := h.pool.QueryRow(t.Context(), `SELECT count(*) FROM subject_keys WHERE subject = 'org/ada'`).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("an erased person has %d rows, %v", rows, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	for page := range 4 {
		subjects := make([]string, MaxKept/2)
		for i := range subjects {
			subjects[i] = fmt.Sprint("org/", page, ".", i)
		}
		ring, err := v.ForReading(t.Context(), subjects)
		if err != nil || len(ring) != len(subjects) {
			t.Fatalf("%d of %d, %v", len(ring), len(subjects), err)
		}
		if n := len(v.young) + len(v.older); n > MaxKept || n < MaxKept/2 {
			t.Errorf("after %d pages the keys of %d subjects are kept", page+1, n)
		}
	}
}

// Nodes that start together, without a key yet, come to one master key; a node with another one does not start.
func TestMasterKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var starting sync.WaitGroup
	for range 8 {
		starting.Go(func() {
			v, err := Open(t.Context(), h.pool, h.file, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			v.Close()
		})
	}
	starting.Wait()
	info, err := os.Stat(string(h.file))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(string(h.file))
	if err != nil {
		t.Fatal(err)
	}
	h.open(Keys(content)) // the environment may have it instead

	elsewhere := KeyFile(filepath.Join(t.TempDir(), "vault.key"))
	_, err = Open(t.Context(), h.pool, elsewhere, Options{})
	wantCode(t, err, domain.Invalid)
	if _, err := os.Stat(string(elsewhere)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made where one is missing: %v", err)
	}
	other, err := newMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]Source{"another": Keys(other.text), "none": Keys(""), "no key": Keys("password"), "short": Keys(base64.StdEncoding.EncodeToString(make([]byte, 16)))} {
		if _, err := Open(t.Context(), h.pool, source, Options{}); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(string(h.file), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), h.pool, h.file, Options{})
	wantCode(t, err, domain.Invalid)
}

// A wrapped key is of one subject: put in another's place it opens nothing.
func TestWrappedKeysDoNotMove(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	h.seal(v, "org/ada", "Ada")
	h.exec(`UPDATE subject_keys SET subject = 'org/bob'`)
	_, err := v.ForReading(t.Context(), []string{"org/bob"})
	wantCode(t, err, domain.Internal)
	h.exec(`UPDATE subject_keys SET subject = 'org/ada', wrapped = '\x00'`)
	_, err = h.open(h.file).ForReading(t.Context(), []string{"org/ada"})
	wantCode(t, err, domain.Internal)
}

func TestRotate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	sealed := make([]string, 2*storedPage+10)
	for i := range sealed {
		sealed[i] = fmt.Sprint("org/", i)
	}
	if _, err := v.ForWriting(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	ada := h.seal(v, "org/ada", "Ada")
	h.seal(v, "org/bob", "Bob")
	h.destroy("org/bob")
	before, err := os.ReadFile(string(h.file))
	if err != nil {
		t.Fatal(err)
	}
	old := h.backup(v)
	running := h.open(h.file) // has the old key in memory

	n, err := h.open(h.file).Rotate(t.Context(), false)
	if err != nil || n != len(sealed)+1 {
		t.Fatalf("%d keys, %v", n, err)
	}
	after, err := os.ReadFile(string(h.file))
	if err != nil || bytes.Contains(after, bytes.TrimSpace(before)) || len(after) != len(before) {
		t.Errorf("the file holds %d keys, %v", bytes.Count(after, []byte("\n")), err)
	}
	if info, err := os.Stat(string(h.file)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	h.want(running, "org/ada", ada, "Ada") // it reads the file again
	if again := h.seal(running, "org/ada", "Ada"); again != ada {
		t.Error("a repetition is no longer known as one")
	}
	h.want(h.open(h.file), "org/new", h.seal(running, "org/new", "New"), "New")
	_, err = Open(t.Context(), h.pool, Keys(before), Options{})
	wantCode(t, err, domain.Invalid)
	_, err = h.open(h.file).Restore(t.Context(), bytes.NewReader(old)) // worth nothing without the old key
	wantCode(t, err, domain.Invalid)
	h.wantRestored(h.open(Keys(string(after)+" "+string(before))), old, Restored{Present: len(sealed) + 1})

	if _, err := h.open(h.file).Rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(string(h.file))
	if err != nil || !bytes.HasSuffix(kept, after) || len(kept) != 2*len(after) {
		t.Errorf("the old key is not kept: %v", err)
	}
	fromText := h.open(Keys(kept))
	_, err = fromText.Rotate(t.Context(), false)
	wantCode(t, err, domain.Invalid) // the first key is the one in use
	next, err := newMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.open(Keys(next.text+","+string(kept))).Rotate(t.Context(), false); err != nil {
		t.Error(err)
	}
	h.want(h.open(Keys(next.text)), "org/ada", ada, "Ada")
}

// A node that does not know of a rotation yet makes no key that nobody could unwrap.
func TestMintWhileTheMasterKeyChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	stale, err := h.file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := v.mint(t.Context(), []string{"org/ada"}, stale[0]); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := h.pool.QueryRow(t.Context(), `SELECT count(*) FROM subject_keys`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d keys were made, %v", rows, err)
	}
	h.want(v, "org/ada", h.seal(v, "org/ada", "Ada"), "Ada")
}

func TestBackup(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	texts := map[string]string{}
	for i := range 5 {
		who := fmt.Sprint("org/", i)
		texts[who] = h.seal(v, who, "Text of "+who)
	}
	backup := h.backup(v)
	if bytes.Contains(backup, []byte("Text of")) || !bytes.Contains(backup, []byte("org/3")) {
		t.Errorf("the backup is\n%s", backup)
	}
	h.wantRestored(v, backup, Restored{Present: 5})

	// The keys are lost, somebody is met anew, one is erased, and another is known by the log alone to be.
	h.exec(`TRUNCATE subject_keys, key_vault`)
	v = h.open(h.file)
	h.want(v, "org/0", texts["org/0"], domain.Unreadable)
	anew := h.seal(v, "org/1", "Text of org/1")
	h.seal(v, "org/2", "x")
	h.destroy("org/2")
	h.exec(`INSERT INTO streams (stream, version, position) VALUES ($1, 1, 1)`, subject.Stream("org/3"))
	h.wantRestored(v, backup, Restored{Restored: 3, Erased: 2})
	for who, sealed := range texts {
		switch who {
		case "org/2", "org/3":
			h.want(v, who, sealed, domain.Erased)
		default:
			h.want(v, who, sealed, "Text of "+who)
		}
	}
	h.want(v, "org/1", anew, "Text of org/1")
	if h.seal(v, "org/1", "Text of org/1") != anew {
		t.Error("the key in use is another one after the restore")
	}
	h.wantRestored(v, backup, Restored{Present: 3, Erased: 2})
	var live int
	if err := h.pool.QueryRow(t.Context(), `SELECT count(wrapped) FROM subject_keys WHERE subject IN ('org/2', 'org/3')`).Scan(&live); err != nil || live != 0 {
		t.Errorf("erased persons have %d keys, %v", live, err)
	}
	if after := h.backup(v); bytes.Contains(after, []byte("org/2")) || bytes.Count(after, []byte("org/1")) != 2 {
		t.Errorf("the second backup is\n%s", after)
	}
}

// Any damage to a backup is found before anything of it is restored.
func TestDamagedBackup(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	h.seal(v, "org/a", "A")
	h.seal(v, "org/b", "B")
	backup := h.backup(v)
	h.exec(`TRUNCATE subject_keys`)
	refuse := func(name string, damaged []byte) {
		t.Helper()
		if r, err := v.Restore(t.Context(), bytes.NewReader(damaged)); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for i := range backup {
		damaged := bytes.Clone(backup)
		damaged[i] ^= 0x04
		if i != len(backup)-1 { // the last line's end
			refuse(fmt.Sprintf("byte %d changed", i), damaged)
		}
	}
	for i := range len(backup) - 1 {
		refuse(fmt.Sprintf("cut off at %d", i), backup[:i])
	}
	lines := bytes.SplitAfter(backup, []byte("\n"))
	refuse("a key less", bytes.Join([][]byte{lines[0], lines[1], lines[3]}, nil))
	refuse("a key twice", bytes.Join([][]byte{lines[0], lines[1], lines[1], lines[3]}, nil))
	refuse("more after the end", append(bytes.Clone(backup), lines[1]...))
	refuse("a long line", append(bytes.Repeat([]byte("x"), 2*maxBackupLine), backup...))
	var rows int
	if err := h.pool.QueryRow(t.Context(), `SELECT count(*) FROM subject_keys`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d keys were restored, %v", rows, err)
	}
	h.wantRestored(v, backup, Restored{Restored: 2})
}

// A person the vault does not know can be barred, so that no backup brings a key back.
func TestBar(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(h.file)
	sealed := h.seal(v, "org/ada", "Ada")
	backup := h.backup(v)
	h.exec(`TRUNCATE subject_keys`)
	for range 2 {
		if err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error { return Bar(t.Context(), tx, "org/ada", time.Now()) }); err != nil {
			t.Fatal(err)
		}
	}
	h.wantRestored(v, backup, Restored{Erased: 1})
	h.want(v, "org/ada", sealed, domain.Erased)
}
