package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crossbill/cmd/internal/platform"
	"crossbill/events/pgtest"
)

// shell runs the program as users do, each command a process, with a file of profiles of its own.
type shell struct {
	t   *testing.T
	dir string
}

func (s shell) run(stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := command(s.t.Context(), args...)
	cmd.Env = append(cmd.Env, "CROSSBILL_CONFIG="+filepath.Join(s.dir, "profiles.json"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok runs a command that has to succeed.
func (s shell) ok(args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.run("", args...)
	if code != 0 {
		s.t.Fatalf("%s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// object runs a command whose answer is read as programs do.
func (s shell) object(args ...string) map[string]any {
	s.t.Helper()
	stdout := s.ok(append(args, "-o", "json")...)
	var object map[string]any
	if err := json.Unmarshal([]byte(stdout), &object); err != nil {
		s.t.Fatalf("%s wrote no JSON object: %v\n%s", strings.Join(args, " "), err, stdout)
	}
	return object
}

// serve starts a node and returns where it serves.
func serve(t *testing.T, dataDir string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, "serve", "--listen", "127.0.0.1:0", "--data-dir", dataDir)
	cmd.Env = append(cmd.Env, "DATABASE_URL="+pgtest.URL(t))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	var said bytes.Buffer
	if !awaitLine(io.TeeReader(out, &said), "crossbill serves ") {
		t.Fatalf("the node did not start: %s", said.String())
	}
	go io.Copy(io.Discard, out)
	return regexp.MustCompile(`http://\S+`).FindString(said.String())
}

// TestCommandLine tries the commands as a new user would: profiles, an operator who registers a provider, a provider who
// lists a service, a search, tables and JSON, wrong input.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := serve(t, filepath.Join(dir, "data"))
	s := shell{t, dir}

	s.ok("profiles", "set", "operator", "--url", url, "--api-key-file", filepath.Join(dir, "data", platform.OperatorKeyFile))
	if info, err := os.Stat(filepath.Join(dir, "profiles.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the profiles' file: %v %v", info.Mode(), err)
	}
	if _, stderr, code := s.run("nonsense\n", "profiles", "set", "other", "--url", url); code != 2 || !strings.Contains(stderr, "cbk_") {
		t.Errorf("a key that is none: exit %d, %s", code, stderr)
	}

	s.ok("fee-schedules", "publish", "--basis-points", "300")
	provider := s.object("organisations", "create", "--name", "Harbour Networks", "--slug", "harbour", "--roles", "provider,customer")
	id := provider["organisation"].(map[string]any)["id"].(string)
	key := provider["api_key"].(map[string]any)["secret"].(string)
	if _, stderr, code := s.run(key+"\n", "profiles", "set", "harbour", "--url", url); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if list := s.ok("profiles", "list"); !strings.Contains(list, "* operator") || !strings.Contains(list, "  harbour") || strings.Contains(list, key) {
		t.Errorf("the profiles are\n%s", list)
	}
	node := s.object("edge-nodes", "create", "--name", "ams-1", "--metro", "Amsterdam", "--facility", "Dock 1", "--asn", "64512", "--router-id", "192.0.2.1")
	nodeID := node["id"].(string)
	port := s.object("ports", "create", "--edge-node-id", nodeID, "--organisation-id", id, "--name", "p", "--interface", "eth1", "--capacity-mbps", "1000")["id"].(string)

	s.ok("profiles", "use", "harbour")
	listing := s.object("listings", "create", "--title", "Private wave", "--description", "A wave to the harbour.", "--category", "private_connect",
		"--port-id", port, "--metro", "Amsterdam", "--bandwidths-mbps", "100,1000", "--approval", "automatic", "--bgp.asn", "64500", "--bgp.prefixes", "192.0.2.0/24",
		"--plan.currency", "USD", "--plan.charges", `[{"id":"port","kind":"recurring","description":"Port","amount":"400"}]`)["id"].(string)
	published := s.ok("listings", "publish", listing)
	for _, want := range []string{listing, "published", "Private wave", "terms"} {
		if !strings.Contains(published, want) {
			t.Errorf("publishing wrote no %q:\n%s", want, published)
		}
	}
	events := s.ok("events", "list")
	if head, rest, _ := strings.Cut(events, "\n"); !regexp.MustCompile(`^POSITION +RECORDED AT +TYPE +STREAM`).MatchString(head) || !strings.Contains(rest, "listing.published") {
		t.Errorf("the events are\n%s", events)
	}
	position := strconv.FormatFloat(s.object("health")["log_position"].(float64), 'f', 0, 64)
	found := s.ok("listings", "search", "--q", "waves", "--at-position", position)
	if lines := strings.Split(strings.TrimSpace(found), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "ID ") || !strings.HasPrefix(lines[1], listing) {
		t.Errorf("the search found\n%s", found)
	}
	quote := s.object("quotes", "create", "--listing-id", listing, "--bandwidth-mbps", "100")
	if total := quote["total"].(map[string]any); total["amount"] != "412.00" {
		t.Errorf("the quote's total is %v", total)
	}
	if shown := s.ok("quotes", "show", quote["id"].(string)); !strings.Contains(shown, "412.00 USD") || !regexp.MustCompile(`fee +platform_fee .* 12.00 USD`).MatchString(shown) {
		t.Errorf("the quote reads\n%s", shown)
	}
	if key := s.ok("log", "key"); !strings.Contains(key, "+") {
		t.Errorf("the log's key is %q", key)
	}

	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "/bandwidth_mbps", []string{"quotes", "create", "--listing-id", listing, "--bandwidth-mbps", "7"}},
		{2, "whole number", []string{"quotes", "create", "--listing-id", listing, "--bandwidth-mbps", "ten"}},
		{2, "not an amount", []string{"orders", "place", "--max-total", "10"}},
		{2, "not JSON", []string{"listings", "create", "--plan.charges", "{"}},
		{3, "there is no order", []string{"orders", "show", strings.Replace(quote["id"].(string), "quo_", "ord_", 1)}},
		{2, "no profile", []string{"orders", "list", "--profile", "nobody"}},
		{5, "(401)", []string{"orders", "list", "--platform", strings.Replace(url, "127.0.0.1", "localhost", 1)}}, // the key is for the profile's own address
		{6, "does not answer", []string{"orders", "list", "--platform", "http://127.0.0.1:1"}},
		{2, "--output", []string{"orders", "list", "-o", "xml"}},
	} {
		if stdout, stderr, code := s.run("", c.args...); code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%v: exit %d, want %d: %s%s", c.args, code, c.code, stdout, stderr)
		}
	}
	if suggestions := s.ok("__complete", "orders", "list", "--profile", ""); !strings.Contains(suggestions, "harbour") {
		t.Errorf("completion of profiles: %s", suggestions)
	}
	if suggestions := s.ok("__complete", "listings", "create", "--approval", ""); !strings.Contains(suggestions, "manual") {
		t.Errorf("completion of a closed set: %s", suggestions)
	}
}

// TestWatch follows events and an order while they happen.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := serve(t, filepath.Join(dir, "data"))
	s := shell{t, dir}
	s.ok("profiles", "set", "operator", "--url", url, "--api-key-file", filepath.Join(dir, "data", platform.OperatorKeyFile))

	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	watch := command(ctx, "events", "watch", "--after", "0")
	watch.Env = append(watch.Env, "CROSSBILL_CONFIG="+filepath.Join(dir, "profiles.json"))
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	defer once.Do(func() { stop(); watch.Wait() })
	s.ok("organisations", "create", "--name", "A", "--slug", "a", "--roles", "customer")
	if !awaitLine(out, "organisation.registered") {
		t.Error("the watch did not show what happened")
	}
	once.Do(func() { stop(); watch.Wait() })
}
