package api_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/api"
	"crossbill/api/authority"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/edgeidentity"
	"crossbill/events"
	"crossbill/projections"
)

func init() { operationLists = append(operationLists, identityOperations) }

func identityOperations(m *market) []operation {
	node := "/v1/edge-nodes/" + m.nodeID
	request := requestFor(m.nodeID)
	token := edgeidentity.JoinToken{EdgeNodeID: domain.DeriveID(domain.PrefixEdgeNode, time.Unix(0, 0), "none")}
	return []operation{
		{"createJoinToken", "POST", node + "/join-tokens", m.operatorKey, client.NewJoinToken{}},
		{"joinEdgeNode", "POST", node + ":join", "", client.EdgeJoin{Token: token.String(), CertificateRequest: request}},
		{"renewEdgeCertificate", "POST", node + ":renew", m.agentKey, client.EdgeRenewal{CertificateRequest: request}},
		{"revokeEdgeNode", "POST", node + ":revoke", m.operatorKey, nil},
	}
}

// overTLS stands for a connection with a client certificate: a bearer of a text that m.shown knows has shown the
// certificate, whose key it has. What TLS itself does is tested where the program is, in cmd/crossbill.
func (m *market) overTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			if shown, ok := m.shown.Load(bearer); ok {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown.(*x509.Certificate)}}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// show returns the text that stands for a certificate in PEM.
func (m *market) show(certificate string) (bearer string) {
	m.t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	parsed, err := x509.ParseCertificate(block.Bytes)
	must(m.t, err)
	bearer = "certificate-" + authority.Fingerprint(block.Bytes)
	m.shown.Store(bearer, parsed)
	return bearer
}

// edgeNode registers an edge node and joins as it.
func (m *market) edgeNode() (id, agent string) {
	m.t.Helper()
	node, _, err := client.Decode[client.EdgeNode](m.operator.CreateEdgeNode(context.Background(), nil, newEdgeNode()))
	must(m.t, err)
	return node.Id, m.show(m.join(node.Id, m.token(node.Id)).Certificate)
}

func (m *market) token(nodeID string) string {
	m.t.Helper()
	made, _, err := client.Decode[client.JoinToken](m.operator.CreateJoinToken(context.Background(), nodeID, &client.CreateJoinTokenParams{IdempotencyKey: m.idempotencyKey()}, client.NewJoinToken{}))
	must(m.t, err)
	return made.Token
}

func (m *market) join(nodeID, token string) client.EdgeCertificate {
	m.t.Helper()
	joined, _, err := client.Decode[client.EdgeCertificate](m.client("").JoinEdgeNode(context.Background(), nodeID, nil, client.EdgeJoin{Token: token, CertificateRequest: requestFor(nodeID)}))
	must(m.t, err)
	return joined
}

// requestFor makes a certificate request.
func requestFor(name string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return requestOf(&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
}

func requestOf(template *x509.CertificateRequest, key crypto.Signer) string {
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// wants asserts the status of a request, and that a problem's detail and hint have the texts.
func (m *market) wants(what string, status int, key, method, path string, body any, texts ...string) []byte {
	m.t.Helper()
	got, p, answer := m.do(key, method, path, body)
	hint := ""
	if p.Hint != nil {
		hint = *p.Hint
	}
	if got != status {
		m.t.Errorf("%s: %d, want %d: %s", what, got, status, answer)
	}
	for _, text := range texts {
		if !strings.Contains(p.Detail+"; "+hint, text) {
			m.t.Errorf("%s: %q with the hint %q says nothing of %q", what, p.Detail, hint, text)
		}
	}
	return answer
}

// A token lets one machine be one node, once and for its time, and is nowhere but in its answer.
func TestJoinTokens(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	path := "/v1/edge-nodes/" + m.nodeID
	join := func(token, request string) client.EdgeJoin {
		return client.EdgeJoin{Token: token, CertificateRequest: request}
	}
	token := m.token(m.nodeID)
	joined := m.join(m.nodeID, token)
	m.wants("what joined", 200, m.show(joined.Certificate), "GET", path+"/desired-state", nil)
	m.wants("the machine that was the node before", 401, m.agentKey, "GET", path+"/desired-state", nil, "no longer", "join token")
	m.wants("a token twice", 401, "", "POST", path+":join", join(token, requestFor(m.nodeID)), "has been used", "new one")
	m.wants("a token of nobody", 401, "", "POST", path+":join", join(edgeidentity.JoinToken{EdgeNodeID: m.nodeID}.String(), requestFor(m.nodeID)), "unknown")

	other, _, err := client.Decode[client.EdgeNode](m.operator.CreateEdgeNode(t.Context(), nil, newEdgeNode()))
	must(t, err)
	token = m.token(m.nodeID)
	for what, at := range map[string]string{"another node": other.Id, "no node": unknownID("edg")} {
		m.wants("a token at "+what, 401, "", "POST", "/v1/edge-nodes/"+at+":join", join(token, requestFor(at)), "unknown")
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	named := func(change func(*x509.CertificateRequest)) *x509.CertificateRequest {
		r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: m.nodeID}}
		change(r)
		return r
	}
	broken := strings.Split(requestOf(named(func(*x509.CertificateRequest) {}), p256), "\n")
	block, _ := pem.Decode([]byte(strings.Join(broken, "\n")))
	block.Bytes[len(block.Bytes)-1] ^= 1 // of its signature
	for what, request := range map[string]string{
		"another name":             requestFor(other.Id),
		"no name":                  requestFor(""),
		"a second name":            requestOf(named(func(r *x509.CertificateRequest) { r.DNSNames = []string{edgeidentity.PlatformName} }), p256),
		"an address":               requestOf(named(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), p256),
		"an organisation":          requestOf(named(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"x"} }), p256),
		"an RSA key":               requestOf(named(func(*x509.CertificateRequest) {}), rsaKey),
		"a P-384 key":              requestOf(named(func(*x509.CertificateRequest) {}), p384),
		"a signature that is none": string(pem.EncodeToMemory(block)),
		"another thing":            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
		"no PEM":                   "x",
		"two requests":             requestFor(m.nodeID) + requestFor(m.nodeID),
	} {
		m.wants("a request with "+what, 422, "", "POST", path+":join", join(token, request))
	}
	// None of that used the token up; of many at once that have it, one joins.
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	codes := make([]int, 8)
	var wait sync.WaitGroup
	for i := range codes {
		request := requestOf(named(func(*x509.CertificateRequest) {}), edKey)
		wait.Go(func() { codes[i], _, _ = m.do("", "POST", path+":join", join(token, request)) })
	}
	wait.Wait()
	if slices.Sort(codes); codes[0] != 201 || codes[1] != 401 || codes[7] != 401 {
		t.Errorf("many that join at once get %v", codes)
	}
	// The same request again, whose answer may have been lost, has the same answer.
	token = m.token(m.nodeID)
	again, once := join(token, requestFor(m.nodeID)), "once"
	var first client.EdgeCertificate
	for range 2 {
		c, _, err := client.Decode[client.EdgeCertificate](m.client("").JoinEdgeNode(t.Context(), m.nodeID, &client.JoinEdgeNodeParams{IdempotencyKey: &once}, again))
		must(t, err)
		if first.Certificate != "" && c.Certificate != first.Certificate {
			t.Error("a join that was repeated gave another certificate")
		}
		first = c
	}

	token = m.token(m.nodeID)
	m.ahead.Add(int64(edgeidentity.TokenLife))
	m.wants("an expired token", 401, "", "POST", path+":join", join(token, requestFor(m.nodeID)), "expired", "new one")

	var tokens []string
	for range edgeidentity.MaxTokens {
		tokens = append(tokens, m.token(m.nodeID))
	}
	m.wants("too many tokens", 409, m.operatorKey, "POST", path+"/join-tokens", client.NewJoinToken{})
	m.wants("revoking", 204, m.operatorKey, "POST", path+":revoke", nil)
	m.wants("a revoked token", 401, "", "POST", path+":join", join(tokens[0], requestFor(m.nodeID)), "revoked")

	// What is kept has no token in it, nor what one could be made of.
	all, err := m.log.ReadAll(t.Context(), 0, events.MaxRead)
	must(t, err)
	found := 0
	for _, e := range all {
		if e.Stream == edgeidentity.Stream(m.nodeID) {
			found++
			if len(e.Metadata.Parties) > 0 {
				t.Errorf("%s is shown to %v", e.Type, e.Metadata.Parties)
			}
			if acts := e.Metadata.Actor == m.nodeID; acts != (e.Type == "edge_identity.joined") {
				t.Errorf("%s is by %s", e.Type, e.Metadata.Actor)
			}
		}
		for _, token := range append(tokens, token) {
			for _, part := range strings.Split(token, ".")[1:2] {
				if strings.Contains(string(e.Data), part) {
					t.Errorf("%s has a token in it: %s", e.Type, e.Data)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d events of the node's identity", found)
	}
	var kept int
	must(t, m.pool.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_keys WHERE convert_from(body, 'UTF8') LIKE '%cbj\_%'`).Scan(&kept))
	if kept > 0 {
		t.Errorf("%d kept answers have a token in them", kept)
	}
}

// A certificate is good while the log says so and no longer, on requests that are under way as well.
func TestCertificates(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	path := "/v1/edge-nodes/" + m.nodeID
	state := path + "/desired-state"
	renew := func(agent string) string {
		t.Helper()
		c, _, err := client.Decode[client.EdgeCertificate](m.client(agent).RenewEdgeCertificate(t.Context(), m.nodeID, nil, client.EdgeRenewal{CertificateRequest: requestFor(m.nodeID)}))
		must(t, err)
		if life := c.NotAfter.Sub(m.now()); life > agentLife || life < agentLife-time.Minute || m.now().Sub(c.NotBefore) < edgeidentity.BackDated {
			t.Errorf("at %v a certificate is made from %v to %v", m.now(), c.NotBefore, c.NotAfter)
		}
		return m.show(c.Certificate)
	}
	first := m.agentKey
	second := renew(first)
	for _, agent := range []string{first, second} {
		m.wants("one of the newest two", 200, agent, "GET", state, nil)
	}
	third := renew(second)
	m.wants("one from before the last renewal", 401, first, "GET", state, nil, "no longer")
	m.wants("and its renewal", 401, first, "POST", path+":renew", client.EdgeRenewal{CertificateRequest: requestFor(m.nodeID)}, "no longer")
	m.wants("a request with another's name", 422, third, "POST", path+":renew", client.EdgeRenewal{CertificateRequest: requestFor(unknownID("edg"))})

	other, err := authority.Open(filepath.Join(t.TempDir(), "other.pem"))
	must(t, err)
	foreign, _, err := other.Sign(requestFor(m.nodeID), m.nodeID, m.now(), time.Hour)
	must(t, err)
	m.wants("another authority's", 401, m.show(foreign), "GET", state, nil, "not of this platform")
	unlisted, _, err := m.authority.Sign(requestFor(m.nodeID), m.nodeID, m.now(), time.Hour)
	must(t, err)
	m.wants("one that is signed and not in the log", 401, m.show(unlisted), "GET", state, nil, "not, or no longer")
	stranger, _, err := m.authority.Sign(requestFor(unknownID("edg")), unknownID("edg"), m.now(), time.Hour)
	must(t, err)
	m.wants("that of a node there is none of", 401, m.show(stranger), "GET", state, nil, "not, or no longer")

	shown, _, err := client.Decode[client.EdgeNodeStatus](m.operator.GetEdgeNode(t.Context(), m.nodeID))
	must(t, err)
	if id := shown.Identity; id == nil || id.State != client.EdgeNodeIdentityStateJoined || "certificate-"+*id.Fingerprint != third {
		t.Errorf("the operator is shown %+v", id)
	}

	// It expires by the platform's clock, to the second.
	certificate, _ := m.shown.Load(third)
	m.ahead.Add(int64(certificate.(*x509.Certificate).NotAfter.Sub(m.now()) + time.Second))
	m.wants("an expired one", 401, third, "GET", state, nil, "expired at", "crossbill edge join")
	shown, _, err = client.Decode[client.EdgeNodeStatus](m.operator.GetEdgeNode(t.Context(), m.nodeID))
	must(t, err)
	if shown.Identity.State != client.EdgeNodeIdentityStateExpired {
		t.Errorf("the operator is shown %+v", shown.Identity)
	}

	// A stolen one ends with the revocation, also in a request that waits.
	agent := m.show(m.join(m.nodeID, m.token(m.nodeID)).Certificate)
	before, waiting := m.now(), make(chan int, 1)
	go func() {
		status, _, _ := m.do(agent, "GET", state+"?after_revision=1099511627776&wait_seconds=60", nil)
		waiting <- status
	}()
	for heard := false; !heard; time.Sleep(10 * time.Millisecond) { // from there on it waits
		must(t, m.pool.QueryRow(t.Context(), `SELECT heard_at > $2 FROM edge_heard WHERE edge_node_id = $1`, m.nodeID, before).Scan(&heard))
	}
	m.wants("revoking", 204, m.operatorKey, "POST", path+":revoke", nil)
	if status := <-waiting; status != 401 {
		t.Errorf("a request that waited while the node was revoked answers %d", status)
	}
	m.wants("after the revocation", 401, agent, "GET", state, nil, "was revoked at", "crossbill edge join")
	m.wants("renewing after it", 401, agent, "POST", path+":renew", client.EdgeRenewal{CertificateRequest: requestFor(m.nodeID)}, "revoked")
	m.wants("revoking again", 204, m.operatorKey, "POST", path+":revoke", nil)
	shown, _, err = client.Decode[client.EdgeNodeStatus](m.operator.GetEdgeNode(t.Context(), m.nodeID))
	must(t, err)
	if shown.Identity.State != client.EdgeNodeIdentityStateRevoked || shown.Identity.RevokedAt == nil {
		t.Errorf("the operator is shown %+v", shown.Identity)
	}
}

// TestNodesSeeNothingOfEachOther walks the whole contract with another node's certificate, from end to end: what is the
// first node's answers as what is not there, and no answer has the first node's secrets. Nor has any table, read with
// PostgreSQL's own rules alone.
func TestNodesSeeNothingOfEachOther(t *testing.T) {
	t.Parallel()
	m, edge := live(t)
	const secret = "k3Y-of-the-first-nodes-router"
	id := m.order.ConnectionId
	_, _, err := client.Decode[client.BGPSession](m.customer.ConfigureBGPSession(t.Context(), id, client.SideA, &client.ConfigureBGPSessionParams{IdempotencyKey: m.idempotencyKey()},
		client.BGPSessionSettings{Md5Secret: ptr(secret)}))
	must(t, err)
	edge.await(func(c client.DesiredConnection) bool { return c.A.Md5Secret != nil && *c.A.Md5Secret == secret }) // it is there to be found
	m.keepBooks()
	otherID, other := m.edgeNode()
	m.settle()

	before, tried := m.head(), 0
	for _, o := range m.walk() {
		if slices.Contains(public, o.id) {
			continue
		}
		status, _, answer := m.send(o, other, o.path, o.body)
		want := http.StatusForbidden
		if slices.Contains(o.scopes(), api.ScopeEdge) {
			tried++
			want = http.StatusNotFound
		}
		if status != want {
			t.Errorf("%s of another node answers %d, want %d: %s", o.id, status, want, answer)
		}
		if strings.Contains(string(answer), secret) {
			t.Errorf("%s shows another node's secret", o.id)
		}
	}
	if tried < 4 || m.head() != before {
		t.Errorf("%d operations of agents were tried, and %d events appended", tried, m.head()-before)
	}
	// Under its own name it is told nothing of the other, and can say nothing about it.
	own := "/v1/edge-nodes/" + otherID
	if answer := m.wants("its own state", 200, other, "GET", own+"/desired-state", nil); strings.Contains(string(answer), id) || strings.Contains(string(answer), secret) {
		t.Errorf("another node's desired state is %s", answer)
	}
	m.wants("the other's connection", 404, other, "POST", own+"/observations", client.ObservationReport{Kind: client.EdgeKindEbpf, Observations: []client.Observation{{ConnectionId: id, Removed: ptr(true)}}})
	m.wants("the other's readings", 404, other, "POST", own+"/readings", client.ReadingBatch{Readings: []client.Reading{aReading(id, m.now())}})

	rows, err := m.pool.Query(t.Context(), `
		SELECT c.table_name, string_agg('r.' || quote_ident(c.column_name), ', ' ORDER BY c.ordinal_position)
		  FROM information_schema.columns AS c
		 WHERE c.table_schema = current_schema() AND c.table_name IN (SELECT tablename FROM pg_policies)
		   AND has_column_privilege('crossbill_tenant', c.table_name, c.column_name, 'SELECT')
		 GROUP BY 1`)
	must(t, err)
	columns := map[string]string{}
	var table, of string
	_, err = pgx.ForEachRow(rows, []any{&table, &of}, func() error { columns[table] = of; return nil })
	must(t, err)
	found := 0
	for table, columns := range columns {
		for node, wanted := range map[string]bool{m.nodeID: true, otherID: false} {
			rows, err := projections.Door{Pool: m.pool}.Query(projections.Viewing(t.Context(), projections.Node(node)), `SELECT ROW(`+columns+`)::text FROM `+table+` AS r`)
			must(t, err)
			texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			for _, row := range texts {
				if strings.Contains(row, secret) || strings.Contains(row, id) {
					if found++; !wanted {
						t.Errorf("%s shows another node %s", table, row)
					}
				}
			}
		}
	}
	if found == 0 || len(columns) < 12 {
		t.Errorf("of %d tables the node itself sees %d rows of its own", len(columns), found)
	}
}
