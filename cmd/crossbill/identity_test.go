package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/edgeidentity"
	"crossbill/edge"
	"crossbill/events/pgtest"
)

// identityWait bounds one wait of these tests, on machines that are much slower than they should be.
const identityWait = 3 * time.Minute

// identityTest is a platform that serves edge nodes, and one node that is registered.
type identityTest struct {
	t        *testing.T
	dir, url string // of the data, and of the database
	platform *platform.Platform
	operator *client.Client
	node     string
}

func newIdentityTest(t *testing.T, life time.Duration) *identityTest {
	t.Helper()
	i := &identityTest{t: t, dir: t.TempDir(), url: pgtest.URL(t)}
	i.platform = i.start(i.dir, life)
	var err error
	if i.operator, err = client.New(i.platform.URL, i.platform.OperatorKey); err != nil {
		t.Fatal(err)
	}
	i.node = i.register("pop-1", "192.0.2.1")
	return i
}

// start starts a node of the platform with its secrets in the directory.
func (i *identityTest) start(dir string, life time.Duration) *platform.Platform {
	i.t.Helper()
	p, err := platform.Start(i.t.Context(), platform.Config{DataDir: dir, DatabaseURL: i.url, Listen: []string{"127.0.0.1:0"}, EdgeListen: []string{"127.0.0.1:0"},
		CertificateLife: life, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			i.t.Error(err)
		}
	})
	return p
}

func (i *identityTest) register(name, routerID string) string {
	i.t.Helper()
	node, _, err := client.Decode[client.EdgeNode](i.operator.CreateEdgeNode(i.t.Context(), nil, client.NewEdgeNode{
		Name: name, Metro: "Amsterdam", Facility: "First hall", Asn: 64512, RouterId: routerID,
	}))
	if err != nil {
		i.t.Fatal(err)
	}
	return node.Id
}

func (i *identityTest) token(node string) string {
	i.t.Helper()
	made, _, err := client.Decode[client.JoinToken](i.operator.CreateJoinToken(i.t.Context(), node, nil, client.NewJoinToken{}))
	if err != nil {
		i.t.Fatal(err)
	}
	return made.Token
}

// status is what the operator is shown of the node.
func (i *identityTest) status() client.EdgeNodeStatus {
	i.t.Helper()
	shown, _, err := client.Decode[client.EdgeNodeStatus](i.operator.GetEdgeNode(i.t.Context(), i.node))
	if err != nil {
		i.t.Fatal(err)
	}
	return shown
}

func (i *identityTest) await(what string, f func() bool) {
	i.t.Helper()
	for deadline := time.Now().Add(identityWait); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			i.t.Fatalf("not within %v: %s", identityWait, what)
		}
	}
}

// agent runs the program's agent on a state directory, with the software edge, and returns what it has said so far.
func (i *identityTest) agent(stateDir string) (said func() string) {
	i.t.Helper()
	path := filepath.Join(i.t.TempDir(), "agent.log")
	log, err := os.Create(path)
	if err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"edge", "--software", "--state-dir", stateDir}, io.Discard, log) }()
	i.t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			i.t.Errorf("the agent ended with %d: %s", code, said())
		}
		log.Close()
	})
	return func() string {
		content, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(content)
	}
}

// joinWith runs the program's join.
func (i *identityTest) joinWith(url, token, stateDir string) (code int, said string) {
	i.t.Helper()
	file := filepath.Join(i.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		i.t.Fatal(err)
	}
	var out bytes.Buffer
	code = run(i.t.Context(), []string{"edge", "join", "--platform", url, "--token-file", file, "--state-dir", stateDir}, &out, &out)
	return code, out.String()
}

// TestEdgeIdentity follows a machine's life as an edge node over real TLS: it joins, its running agent renews the
// certificate by itself, is revoked, and takes up what it is joined with anew.
func TestEdgeIdentity(t *testing.T) {
	t.Parallel()
	const life = 64 * time.Second // the agent renews after half of it, which is what this test takes
	i := newIdentityTest(t, life)
	state := t.TempDir()

	var errs bytes.Buffer
	if code := run(t.Context(), []string{"edge", "--software", "--state-dir", state}, io.Discard, &errs); code == 0 || !strings.Contains(errs.String(), "crossbill edge join") {
		t.Errorf("an agent that has not joined: %d %s", code, &errs)
	}
	token := i.token(i.node)
	if code, said := i.joinWith(i.platform.EdgeURLs[0], token, state); code != 0 || !strings.Contains(said, i.node) {
		t.Fatalf("joining: %d %s", code, said)
	}
	if code, said := i.joinWith(i.platform.EdgeURLs[0], token, t.TempDir()); code == 0 || !strings.Contains(said, "has been used") || !strings.Contains(said, "hint") {
		t.Errorf("joining with a token twice: %d %s", code, said)
	}
	path := filepath.Join(state, "identity.json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", info.Mode(), err)
	}
	first := *i.status().Identity
	if first.State != client.EdgeNodeIdentityStateJoined || first.JoinTokens != 0 {
		t.Errorf("joined: %+v", first)
	}
	stolen := copyIdentity(t, state)

	said := i.agent(state)
	i.await("the agent is heard", func() bool { return i.status().LastSeenAt != nil })
	i.await("the agent renews its certificate", func() bool { return *i.status().Identity.Fingerprint != *first.Fingerprint })
	renewed := *i.status().Identity
	if life := renewed.NotAfter.Sub(*first.NotAfter); life < 20*time.Second {
		t.Errorf("it was renewed after %v", life)
	}
	i.await("it has the certificate in its file", func() bool { return readIdentity(t, state)["certificate"] != readIdentity(t, stolen)["certificate"] })
	if readIdentity(t, state)["private_key"] == readIdentity(t, stolen)["private_key"] {
		t.Error("it renewed with the old key")
	}

	// Revoked: at once for who has a copy, and for the agent, which goes on and says what to do.
	if _, _, err := client.Decode[struct{}](i.operator.RevokeEdgeNode(t.Context(), i.node, nil)); err != nil {
		t.Fatal(err)
	}
	for what, dir := range map[string]string{"the stolen copy": stolen, "the agent's own": state} {
		if _, err := i.ask(dir); err == nil || !strings.Contains(err.Error(), "revoked") || !strings.Contains(err.Error(), "crossbill edge join") {
			t.Errorf("%s after the revocation: %v", what, err)
		}
	}
	i.await("the agent says that it is revoked", func() bool { return strings.Contains(said(), "was revoked at") })

	// Joined again beside the running agent.
	if code, said := i.joinWith(i.platform.EdgeURLs[0], i.token(i.node), state); code != 0 {
		t.Fatalf("joining again: %d %s", code, said)
	}
	since := time.Now()
	i.await("the agent takes the new certificate up", func() bool { return i.status().LastSeenAt.After(since) })
	if _, err := i.ask(stolen); err == nil {
		t.Error("the stolen copy is good again")
	}
}

// ask asks for the desired state with the identity in a state directory.
func (i *identityTest) ask(stateDir string) (edge.DesiredState, error) {
	i.t.Helper()
	identity, err := edge.OpenIdentity(stateDir, "")
	if err != nil {
		i.t.Fatal(err)
	}
	platform, err := edge.NewAPI(identity)
	if err != nil {
		i.t.Fatal(err)
	}
	return platform.DesiredState(i.t.Context(), 0, 0)
}

func readIdentity(t *testing.T, dir string) (stored map[string]string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err == nil {
		err = json.Unmarshal(content, &stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func writeIdentity(t *testing.T, stored map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	content, err := json.Marshal(stored)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "identity.json"), content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyIdentity(t *testing.T, dir string) string {
	t.Helper()
	return writeIdentity(t, readIdentity(t, dir))
}

// TestEdgeTLS tries what must not work over real TLS, and what each side is told.
func TestEdgeTLS(t *testing.T) {
	t.Parallel()
	i := newIdentityTest(t, 0)
	state := t.TempDir()
	if code, said := i.joinWith(i.platform.EdgeURLs[0], i.token(i.node), state); code != 0 {
		t.Fatalf("joining: %d %s", code, said)
	}
	if _, err := i.ask(state); err != nil {
		t.Fatal(err)
	}
	identity, err := edge.OpenIdentity(state, "")
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Until(*i.status().Identity.NotAfter); life > edgeidentity.CertificateLife || life < edgeidentity.CertificateLife-identityWait {
		t.Errorf("a certificate is good for %v", life)
	}
	// With the certificate a caller is the node, whatever key it sends as well.
	both, err := client.New(i.platform.EdgeURLs[0], i.platform.OperatorKey, client.WithHTTPClient(&http.Client{Transport: identity}))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Decode[client.EdgeNodePage](both.ListEdgeNodes(t.Context(), nil)); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("an operator's key with a node's certificate: %v", err)
	}

	// Another platform's address: the token is not sent to it, and the node's own connection is refused.
	other := newIdentityTest(t, 0)
	token := i.token(i.node)
	if code, said := i.joinWith(other.platform.EdgeURLs[0], token, t.TempDir()); code == 0 || !strings.Contains(said, "not the platform that the join token names") {
		t.Errorf("joining at another platform: %d %s", code, said)
	}
	moved := readIdentity(t, state)
	moved["platform"] = other.platform.EdgeURLs[0]
	if _, err := i.ask(writeIdentity(t, moved)); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a platform of another authority: %v", err)
	}
	for what, url := range map[string]string{"plain HTTP": i.platform.URL, "no address": "nonsense"} {
		if code, said := i.joinWith(url, token, t.TempDir()); code == 0 || !strings.Contains(said, "https://") {
			t.Errorf("joining over %s: %d %s", what, code, said)
		}
	}
	if code, said := i.joinWith(i.platform.EdgeURLs[0], "nonsense", t.TempDir()); code == 0 || !strings.Contains(said, "no join token") {
		t.Errorf("joining with nonsense: %d %s", code, said)
	}
	if code, said := i.joinWith("https://127.0.0.1:1", token, t.TempDir()); code == 0 || !strings.Contains(said, "can't be reached") {
		t.Errorf("joining where nobody is: %d %s", code, said)
	}

	// A second node of the platform, with the same secrets, and certificates that are short.
	brief := i.start(i.dir, time.Second)
	short := t.TempDir()
	if code, said := i.joinWith(brief.EdgeURLs[0], token, short); code != 0 {
		t.Fatalf("the token that went nowhere else: %d %s", code, said)
	}
	i.await("the certificate expires, and says so", func() bool {
		_, err := i.ask(short)
		return err != nil && strings.Contains(err.Error(), "expired at") && strings.Contains(err.Error(), "crossbill edge join")
	})

	// Damaged or open files.
	for what, change := range map[string]func(map[string]string){
		"another's key":  func(s map[string]string) { s["private_key"] = readIdentity(t, short)["private_key"] },
		"no certificate": func(s map[string]string) { s["certificate"] = "" },
		"no authority":   func(s map[string]string) { s["authority"] = "" },
		"another's name": func(s map[string]string) {
			s["edge_node_id"] = domain.DeriveID(domain.PrefixEdgeNode, time.Unix(0, 0), "x")
		},
		"a name that is none": func(s map[string]string) { s["edge_node_id"] = "edge-1" },
	} {
		stored := readIdentity(t, state)
		change(stored)
		if _, err := edge.OpenIdentity(writeIdentity(t, stored), ""); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("an identity with %s: %v", what, err)
		}
	}
	if err := os.Chmod(filepath.Join(state, "identity.json"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.OpenIdentity(state, ""); domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	authorities, err := filepath.Glob(filepath.Join(i.dir, "edge-authority*"))
	if err != nil || !slices.Equal(authorities, []string{filepath.Join(i.dir, "edge-authority.pem")}) {
		t.Fatal(authorities, err)
	}
	if info, err := os.Stat(authorities[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the authority's key: %v %v", info.Mode(), err)
	}
}
