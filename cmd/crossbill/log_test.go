package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/events/pgtest"
)

// logTest is a node with a short log, and what someone has kept of it.
type logTest struct {
	t         *testing.T
	url, dir  string
	pool      *pgxpool.Pool
	key, kept string // files
	orgStream string
}

func newLogTest(t *testing.T) *logTest {
	t.Helper()
	l := &logTest{t: t, url: pgtest.URL(t), dir: t.TempDir()}
	p, err := platform.Start(t.Context(), platform.Config{DataDir: l.dir, DatabaseURL: l.url, Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.New(p.URL, p.OperatorKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	l.key = l.file("key.txt", text(client.Text(c.GetLogKey(t.Context()))))
	l.kept = l.file("kept.txt", text(client.Text(c.GetCheckpoint(t.Context()))))
	made, _, err := client.Decode[client.OrganisationWithKey](c.CreateOrganisation(t.Context(), nil,
		client.NewOrganisation{Name: "One", Slug: "one", Roles: []client.Role{client.RoleCustomer}}))
	if err != nil {
		t.Fatal(err)
	}
	l.orgStream = "organisation-" + made.Organisation.Id
	l.file("later.txt", text(client.Text(c.GetCheckpoint(t.Context()))))
	l.file("event.bundle", text(client.Text(c.GetEventProof(t.Context(), 1, nil))))
	if l.pool, err = pgxpool.New(t.Context(), l.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.pool.Close)
	return l
}

func (l *logTest) path(name string) string { return filepath.Join(l.dir, name) }

func (l *logTest) file(name, content string) string {
	l.t.Helper()
	if err := os.WriteFile(l.path(name), []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return l.path(name)
}

// run runs a command that is to end well, and returns what it says.
func (l *logTest) run(args ...string) string {
	l.t.Helper()
	var out, errs bytes.Buffer
	if code := run(l.t.Context(), append([]string{"log"}, args...), &out, &errs); code != 0 {
		l.t.Fatalf("%s: %s", args, &errs)
	}
	return out.String()
}

// refused runs a command that is to fail, with these words and a hint.
func (l *logTest) refused(words string, args ...string) {
	l.t.Helper()
	var out, errs bytes.Buffer
	code := run(l.t.Context(), append([]string{"log"}, args...), &out, &errs)
	if code == 0 || !strings.Contains(errs.String(), words) || !strings.Contains(errs.String(), "hint:") {
		l.t.Errorf("%s: exit status %d, %q%q, want %q and a hint", args, code, &out, &errs, words)
	}
}

func (l *logTest) database(args ...string) []string {
	return append(args, "--database-url", l.url, "--data-dir", l.dir)
}

// nowhere are flags that make sure that neither database nor data directory is looked at.
func (l *logTest) nowhere(args ...string) []string {
	return append(args, "--database-url", "postgres://nowhere.invalid/x", "--data-dir", l.path("none"))
}

func TestLogVerifyAndExport(t *testing.T) {
	t.Parallel()
	l := newLogTest(t)
	if said := l.run(l.database("verify")...); !strings.Contains(said, "verified ") || !strings.Contains(said, "--checkpoint") {
		t.Errorf("verify says %q", said)
	}
	if said := l.run(l.database("verify", "--checkpoint", l.kept, "--key", l.key)...); !strings.Contains(said, "5 events more") {
		t.Errorf("verify says %q", said)
	}
	bundle := l.path("org.bundle")
	if said := l.run(l.database("export", "--out", bundle, "--stream", l.orgStream, "--positions", "1-2", "--since", l.kept)...); !strings.Contains(said, "wrote 4 events") {
		t.Errorf("export says %q", said)
	}
	said := l.run(l.nowhere("verify", "--bundle", bundle, "--key", l.key, "--checkpoint", l.kept)...)
	if !strings.Contains(said, "4 events") || !strings.Contains(said, l.orgStream+": versions 1 to 2, none") || !strings.Contains(said, "only grew") {
		t.Errorf("verify of the bundle says %q", said)
	}
	if said := l.run(l.nowhere("verify", "--bundle", l.path("event.bundle"), "--key", l.key)...); !strings.Contains(said, "1 events") {
		t.Errorf("verify of the API's bundle says %q", said)
	}
	lines := strings.Split(strings.TrimSpace(l.run(l.nowhere("verify", "--bundle", bundle, "--key", l.key, "--show")...)), "\n")
	var last shownEvent
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 4 || last.Stream != l.orgStream || !strings.Contains(string(last.Data), `"role":"owner"`) {
		t.Errorf("it shows %q, %v", lines, err)
	}

	// Under a checkpoint it is the same file however often and from wherever it is made, and no signing key is needed.
	again, third := l.path("again.bundle"), l.path("third.bundle")
	l.run(l.database("export", "--out", again, "--positions", "1,2", "--checkpoint", l.path("later.txt"))...)
	l.run("export", "--out", third, "--positions", "2-2", "--positions", "1", "--checkpoint", l.path("later.txt"), "--key", l.key, "--database-url", l.url, "--data-dir", l.path("none"))
	one, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.ReadFile(third); err != nil || !bytes.Equal(one, two) || !bytes.Contains(one, []byte("event 2\n")) {
		t.Errorf("the same export gave another file: %v", err)
	}
	if out := l.run(l.database("export", "--out", "-", "--positions", "1,2", "--checkpoint", l.path("later.txt"))...); out != string(one) {
		t.Error("standard output has another bundle")
	}
	if info, err := os.Stat(bundle); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bundle's mode is %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(l.path(".bundle-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestLogCommandsRefuse(t *testing.T) {
	t.Parallel()
	l := newLogTest(t)
	out := l.path("out.bundle")
	l.refused("--key takes", "verify", "--bundle", l.path("event.bundle"))
	l.refused("--key takes", l.database("verify", "--checkpoint", l.kept)...)
	l.refused("no verifier key", "verify", "--bundle", l.path("event.bundle"), "--key", "nonsense")
	l.refused("is no bundle", "verify", "--bundle", l.kept, "--key", l.key)
	l.refused("what is to be exported was not said", l.database("export", "--out", out)...)
	for _, bad := range []string{"0", "x", "2-1", "1-", "-1", "1-2-3"} {
		l.refused("is no position", l.database("export", "--out", out, "--positions", bad)...)
	}
	l.refused("log's key is not at", "export", "--out", out, "--positions", "1", "--database-url", l.url, "--data-dir", l.path("none"))

	content, err := os.ReadFile(l.path("event.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte("record ")) + 100
	content[at] ^= 1
	l.refused("the event at position 1 ", "verify", "--bundle", l.file("flipped.bundle", string(content)), "--key", l.key)

	// Events as they were not recorded are found, and not handed out.
	if _, err := l.pool.Exec(t.Context(), `UPDATE events SET payload = set_bit(payload, 20, 1 - get_bit(payload, 20)) WHERE position = 2`); err != nil {
		t.Fatal(err)
	}
	l.refused("the event at position 2 ", l.database("verify")...)
	l.refused("the event at position 2 ", l.database("export", "--out", out, "--positions", "1-3")...)
	if _, err := os.Stat(out); err == nil {
		t.Error("a bundle was written")
	}
}
