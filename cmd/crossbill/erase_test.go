package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/subject"
	"crossbill/events"
)

// keeper runs commands on a data directory whose node is running or not.
type keeper struct {
	*testing.T
	dir string
	org string
}

// run runs a command, which is to end well if and only if fails is empty, and to say what is in want or fails.
func (k *keeper) run(want, fails string, args ...string) {
	k.Helper()
	var out, errs bytes.Buffer
	code := run(k.Context(), append(args, "--data-dir", k.dir), &out, &errs)
	if (code == 0) != (fails == "") || !strings.Contains(out.String(), want) || !strings.Contains(errs.String(), fails) {
		k.Errorf("%s: code %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	}
}

// issue records a key of a person.
func (k *keeper) issue(log *events.Log, id, name string) (stream string) {
	k.Helper()
	_, _, s, err := api.NewKey(time.Now().UTC(), rand.Reader, k.org, apikey.Principal{Kind: apikey.KindPerson, ID: id, Name: name}, api.ScopeTrade)
	if err != nil {
		k.Fatal(err)
	}
	if _, err := log.Append(k.Context(), events.Append{Streams: []events.StreamAppend{s}}); err != nil {
		k.Fatal(err)
	}
	return s.Stream
}

func (k *keeper) wantName(log *events.Log, stream, want string) {
	k.Helper()
	key, version, err := events.Load(k.Context(), log, stream, apikey.Evolve)
	if err != nil || version == 0 || key.Principal.Name != want {
		k.Errorf("the key's holder is %q, want %q, %v", key.Principal.Name, want, err)
	}
}

// hear makes the node read the log to its end, as its projections do.
func (k *keeper) hear(log *events.Log) {
	k.Helper()
	if _, err := log.ReadAll(k.Context(), 0, events.MaxRead); err != nil {
		k.Fatal(err)
	}
}

// wantDump dumps the whole database as an operator would and looks for texts, as they are and as dumps show bytes.
func (k *keeper) wantDump(url, there string, nowhere ...string) {
	k.Helper()
	pgDump, err := exec.LookPath("pg_dump")
	if err != nil {
		k.Log("there is no pg_dump here; events/personal_test.go reads the tables itself")
		return
	}
	out, err := exec.CommandContext(k.Context(), pgDump, url).Output()
	if err != nil {
		k.Fatalf("pg_dump: %v", err)
	}
	has := func(text string) bool {
		return bytes.Contains(out, []byte(text)) || bytes.Contains(out, []byte(hex.EncodeToString([]byte(text))))
	}
	if !has(there) {
		k.Errorf("a dump of %d bytes does not show %s, so that it would not show what it must not", len(out), there)
	}
	for _, text := range nowhere {
		if has(text) {
			k.Errorf("a dump of the database has %q", text)
		}
	}
}

// TestEraseCommand erases beside a running node, and on the data directory of one that has stopped.
func TestEraseCommand(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "crossbill-erase-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711) // the server's account has to pass through
	k := &keeper{t, filepath.Join(dir, "data"), domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "org")}
	backup := filepath.Join(dir, "keys.backup")
	config := platform.Config{DataDir: k.dir, Listen: []string{"127.0.0.1:0"}, ReadingInterval: time.Minute, Logger: slog.New(slog.DiscardHandler)}
	k.run("", "no data directory", "erase", "org/ada", "--yes")
	p, err := platform.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			p.Stop()
		}
	})
	if info, err := os.Stat(filepath.Join(k.dir, platform.MasterKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the master key: %v, %v", info, err)
	}
	ada, bob := k.issue(p.Log, "ada", "Ada Lovelace"), k.issue(p.Log, "bob", "Bob Builder")
	adas, bobs := subject.Of(k.org, "ada"), subject.Of(k.org, "bob")

	master, err := os.ReadFile(filepath.Join(k.dir, platform.MasterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	rawMaster, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(master)))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"Ada Lovelace", "Bob Builder", strings.TrimSpace(string(master)), string(rawMaster)}
	url := p.Pool.Config().ConnString()
	k.wantDump(url, `"kind":"person","id":"ada"`, secrets...)

	k.run("2 keys in", "", "keys", "backup", backup)
	k.run("", "exists", "keys", "backup", backup)
	k.run("", "nothing was erased", "erase", adas) // nobody typed it again
	k.run("", "knows no subject", "erase", k.org+"/nobody", "--yes")
	k.run("", "reason", "erase", adas, "--yes", "--reason", "she asked")
	k.wantName(p.Log, ada, "Ada Lovelace")
	k.run("erased "+adas, "", "erase", adas, "--yes")
	k.run("was erased before", "", "erase", adas, "--yes")
	k.hear(p.Log)
	k.wantName(p.Log, ada, domain.Erased)
	k.wantDump(url, `"kind":"person","id":"ada"`, secrets...)
	k.run("0 keys restored, 1 were there, 1 left out", "", "keys", "restore", backup)
	k.run("1 keys are encrypted", "", "keys", "rotate")
	k.wantName(p.Log, k.issue(p.Log, "bob", "Bob Builder"), "Bob Builder")
	k.run("", "master key", "keys", "restore", backup)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped = true

	k.run("erased "+bobs, "", "erase", bobs, "--yes", "--reason", subject.ReasonOrder)
	k.run("verified", "", "log", "verify")
	if p, err = platform.Start(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	stopped = false
	k.wantName(p.Log, ada, domain.Erased)
	k.wantName(p.Log, bob, domain.Erased)
}
