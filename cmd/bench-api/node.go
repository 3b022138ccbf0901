package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api"
	"crossbill/api/authority"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/vault"
	"crossbill/projections"
	"crossbill/provisioning"
)

// clients is how many requests are under way at once.
const clients = 32

// poolSize is how many connections to the server both sides of a comparison may use.
const poolSize = 16

// node serves the whole API from a database of its own, with the read models and the process manager following, as a node
// of the platform does. Sagas are started and not worked: their work is not what is measured.
type node struct {
	pool     *pgxpool.Pool
	log      *events.Log
	runner   *projections.Runner
	server   *httptest.Server
	tap      *tap
	operator *client.Client
	stops    []func()
	agent    atomic.Pointer[x509.Certificate] // that whoever sends no key has shown
}

func openNode(ctx context.Context, r *run, name string) (_ *node, err error) {
	n := &node{tap: new(tap)}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	migrated, err := r.Database(ctx, name)
	if err != nil {
		return nil, err
	}
	config := migrated.Config()
	migrated.Close()
	config.MaxConns, config.ConnConfig.Tracer = poolSize, n.tap
	if n.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	n.stops = append(n.stops, n.pool.Close)
	dir, err := os.MkdirTemp("", "bench-api-")
	if err != nil {
		return nil, err
	}
	n.stops = append(n.stops, func() { os.RemoveAll(dir) })
	keys, err := vault.Open(ctx, n.pool, vault.KeyFile(filepath.Join(dir, "vault.key")), vault.Options{})
	if err != nil {
		return nil, err
	}
	n.stops = append(n.stops, keys.Close)
	signer, err := events.LoadOrCreateSigner(filepath.Join(dir, "log.key"), "bench.example/log")
	if err != nil {
		return nil, err
	}
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return nil, err
	}
	if n.log, err = events.Open(ctx, n.pool, codec, events.Options{Signer: signer, Vault: keys}); err != nil {
		return nil, err
	}
	n.stops = append(n.stops, n.log.Close)
	if err := provisioning.Migrate(ctx, n.pool); err != nil {
		return nil, err
	}
	provisioner, err := provisioning.New(provisioning.Options{Pool: n.pool, Log: n.log})
	if err != nil {
		return nil, err
	}
	n.runner, err = projections.NewRunner(projections.RunnerOptions{
		Pool: n.pool, Log: n.log, Projections: append(projections.All(), provisioner.Projection()),
	})
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { n.runner.Run(following); close(done) }()
	n.stops = append(n.stops, func() { stop(); <-done })
	edges, err := authority.Open(filepath.Join(dir, "edge-authority.pem"))
	if err != nil {
		return nil, err
	}
	handler, err := api.New(api.Options{
		Authority: edges, Log: n.log, Pool: n.pool, Waiter: n.runner, VerifierKey: signer.VerifierKey(),
	})
	if err != nil {
		return nil, err
	}
	n.server = httptest.NewUnstartedServer(n.overTLS(handler))
	n.server.Config.BaseContext = n.tap.baseContext
	n.server.Start()
	n.stops = append(n.stops, n.server.Close)
	_, operatorKey, err := n.mint(ctx, operatorID, apikey.Principal{Kind: apikey.KindOperator, ID: "bench", Name: "Bench"}, api.ScopeOperate)
	if err != nil {
		return nil, err
	}
	n.operator, err = client.New(n.server.URL, operatorKey, client.WithHTTPClient(httpClient))
	return n, err
}

// overTLS has requests without a key come from the edge node's agent, as after a handshake: connections are kept, so that
// handshakes are no part of what is measured, and the other side of the comparison encrypts nothing either.
func (n *node) overTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if shown := n.agent.Load(); shown != nil && r.Header.Get("Authorization") == "" {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}}
		}
		next.ServeHTTP(w, r)
	})
}

// joinAs gets a certificate of an edge node for overTLS.
func (n *node) joinAs(ctx context.Context, nodeID string) error {
	n.agent.Store(nil)
	token, _, err := client.Decode[client.JoinToken](n.operator.CreateJoinToken(ctx, nodeID, nil, client.NewJoinToken{}))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeID}}, key)
	if err != nil {
		return err
	}
	nobody, err := client.New(n.server.URL, "", client.WithHTTPClient(httpClient))
	if err != nil {
		return err
	}
	joined, _, err := client.Decode[client.EdgeCertificate](nobody.JoinEdgeNode(ctx, nodeID, nil, client.EdgeJoin{
		Token: token.Token, CertificateRequest: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})),
	}))
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(joined.Certificate))
	certificate, err := x509.ParseCertificate(block.Bytes)
	n.agent.Store(certificate)
	return err
}

var operatorID = domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "operator")

// httpClient keeps its connections: what is measured is requests, not handshakes.
var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConns: clients, MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}}

func (n *node) close() {
	for i := len(n.stops) - 1; i >= 0; i-- {
		n.stops[i]()
	}
}

// mint appends a key.
func (n *node) mint(ctx context.Context, organisation string, who apikey.Principal, scopes ...string) (id, token string, _ error) {
	id, token, stream, err := api.NewKey(time.Now().UTC(), rand.Reader, organisation, who, scopes...)
	if err != nil {
		return "", "", err
	}
	_, err = n.log.Append(ctx, events.Append{Streams: []events.StreamAppend{stream}})
	return id, token, err
}

// caughtUp waits until the read models have everything.
func (n *node) caughtUp(ctx context.Context) error {
	head, err := n.log.Head(ctx)
	if err != nil {
		return err
	}
	return n.runner.WaitFor(ctx, head.Position)
}

// settle does what a filled database would otherwise do while it is measured.
func (n *node) settle(ctx context.Context) error {
	if err := n.caughtUp(ctx); err != nil {
		return err
	}
	_, err := n.pool.Exec(ctx, `VACUUM ANALYZE`)
	if err == nil {
		_, err = n.pool.Exec(ctx, `CHECKPOINT`)
	}
	return err
}
