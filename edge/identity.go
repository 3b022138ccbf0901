package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/edgeidentity"
)

// identityFile is its name in the state directory.
const identityFile = "identity.json"

// identityLook is how often an agent looks whether another certificate has been put beside it, by a join.
const identityLook = 5 * time.Second

// storedIdentity is who a machine is to its platform. Only its owner may read the file.
type storedIdentity struct {
	Platform    string `json:"platform"` // its address
	EdgeNodeID  string `json:"edge_node_id"`
	PrivateKey  string `json:"private_key"` // PKCS #8 in PEM; it was made here and is nowhere else
	Certificate string `json:"certificate"` // PEM
	Authority   string `json:"authority"`   // PEM; whose certificates the platform has
}

// Identity is a node's key and certificate, which it shows the platform and renews. It is safe for concurrent use.
type Identity struct {
	path    string
	current atomic.Pointer[heldIdentity]
}

// heldIdentity is one certificate and the connections that were made with it.
type heldIdentity struct {
	storedIdentity
	leaf      *x509.Certificate
	transport *http.Transport
}

// Join makes a key, has the platform at the address make a certificate of it with a join token, and puts both into the
// state directory, in the place of what was there. It talks only to the platform that the token names.
// It returns an Invalid error for a token or an address that is none, Unauthorised for a token that can't be used, and
// Unavailable if the platform can't be reached or is another.
func Join(ctx context.Context, platformURL, token, stateDir string) (edgeNodeID string, _ error) {
	const op = "edge.Join"
	t, err := edgeidentity.ParseJoinToken(token)
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(platformURL); err != nil || u.Scheme != "https" || u.Host == "" {
		return "", domain.Errorf(domain.Invalid, op, "the platform's address %.200q is not of the form https://host:port", platformURL).
			WithHint("crossbill serve prints where it serves edge nodes, and needs --edge-listen for it")
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", domain.Errorf(domain.Internal, op, "make the state directory: %w", err)
	}
	request, key, err := newRequest(t.EdgeNodeID)
	if err != nil {
		return "", domain.Errorf(domain.Internal, op, "make a key: %w", err)
	}
	transport := newTransport(pinned(t.Authority))
	defer transport.CloseIdleConnections()
	c, err := client.New(platformURL, "", client.WithHTTPClient(&http.Client{Transport: transport, Timeout: requestTimeout}))
	if err != nil {
		return "", domain.Errorf(domain.Invalid, op, "the platform's address %.200q is not usable: %w", platformURL, err)
	}
	idempotencyKey := rand.Text()
	send := func() (client.EdgeCertificate, error) {
		answer, _, err := client.Decode[client.EdgeCertificate](c.JoinEdgeNode(ctx, t.EdgeNodeID,
			&client.JoinEdgeNodeParams{IdempotencyKey: &idempotencyKey}, client.EdgeJoin{Token: t.String(), CertificateRequest: request}))
		return answer, err
	}
	answer, err := send()
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*client.ProblemError)) {
		answer, err = send() // the token may be used up and the answer lost: the same request has the same answer
	}
	if err != nil {
		return "", joinFailed(op, err)
	}
	i := &Identity{path: filepath.Join(stateDir, identityFile)}
	stored := storedIdentity{Platform: platformURL, EdgeNodeID: t.EdgeNodeID, PrivateKey: key, Certificate: answer.Certificate, Authority: answer.Authority}
	if err := i.replace(stored, nil); err != nil {
		return "", err
	}
	return t.EdgeNodeID, nil
}

func joinFailed(op string, err error) error {
	var problem *client.ProblemError
	if !errors.As(err, &problem) {
		return domain.Errorf(domain.Unavailable, op, "the platform can't be reached: %w", err)
	}
	e := domain.Errorf(domain.Code(problem.Code), op, "the platform refuses: %s", problem.Detail)
	if problem.Hint != nil {
		e = e.WithHint("%s", *problem.Hint)
	}
	return e
}

// OpenIdentity reads who the machine is from the state directory. platformURL is where the platform is reached if not
// where the node joined.
// It returns an Invalid error, with what to do, if the machine has not joined or the file is damaged or others may read it.
func OpenIdentity(stateDir, platformURL string) (*Identity, error) {
	const op = "edge.OpenIdentity"
	i := &Identity{path: filepath.Join(stateDir, identityFile)}
	info, err := os.Stat(i.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, domain.Errorf(domain.Invalid, op, "this machine has not joined as an edge node: there is no %s", i.path).
			WithHint("run crossbill edge join with a token that an operator has made for the node")
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, domain.Errorf(domain.Invalid, op, "others may read the node's key in %s", i.path).WithHint("chmod 600 %s, and join again if others have", i.path)
	}
	stored, err := i.read()
	if err == nil {
		if platformURL != "" {
			stored.Platform = platformURL
		}
		err = i.hold(stored)
	}
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "%s can't be used: %w", i.path, err).WithHint("join again with a new token")
	}
	return i, nil
}

func (i *Identity) read() (stored storedIdentity, _ error) {
	content, err := os.ReadFile(i.path)
	if err != nil {
		return stored, err
	}
	return stored, json.Unmarshal(content, &stored)
}

// EdgeNodeID is the node that the machine is.
func (i *Identity) EdgeNodeID() string { return i.current.Load().EdgeNodeID }

// hold makes connections with the identity from now on. Requests under way end on theirs.
func (i *Identity) hold(stored storedIdentity) error {
	pair, err := tls.X509KeyPair([]byte(stored.Certificate), []byte(stored.PrivateKey))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(stored.Authority)) {
		return errors.New("it has no authority")
	}
	if pair.Leaf.Subject.CommonName != stored.EdgeNodeID || !domain.ValidID(domain.PrefixEdgeNode, stored.EdgeNodeID) {
		return errors.New("its certificate is not the node's")
	}
	before := i.current.Swap(&heldIdentity{storedIdentity: stored, leaf: pair.Leaf, transport: newTransport(&tls.Config{
		RootCAs: roots, ServerName: edgeidentity.PlatformName, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13,
	})})
	if before != nil {
		before.transport.CloseIdleConnections()
	}
	return nil
}

// replace puts another identity into the file and holds it. It takes the place of the given one: where somebody has joined
// since, that stays. Nil, it takes the place of any.
func (i *Identity) replace(stored storedIdentity, of *heldIdentity) error {
	const op = "edge.Identity"
	if err := i.hold(stored); err != nil {
		return domain.Errorf(domain.Internal, op, "the platform's certificate can't be used: %w", err)
	}
	release, err := holdFile(i.path + ".lock")
	if err != nil {
		return domain.Errorf(domain.Internal, op, "lock the certificate: %w", err)
	}
	if of != nil {
		if joined, err := i.read(); err == nil && joined.Certificate != of.Certificate {
			return errors.Join(i.hold(joined), release())
		}
	}
	content, err := json.MarshalIndent(stored, "", "  ")
	if err == nil {
		err = writeFile(i.path, content)
	}
	if err = errors.Join(err, release()); err != nil {
		return domain.Errorf(domain.Internal, op, "keep the certificate: %w", err)
	}
	return nil
}

// RoundTrip shows the platform the newest certificate.
func (i *Identity) RoundTrip(r *http.Request) (*http.Response, error) {
	return i.current.Load().transport.RoundTrip(r)
}

// keep renews the certificate until ctx is done: at half of its life, which the node's clock may be wrong about as long as
// it is not by the other half, and then after that time again, however the clock is set.
func (i *Identity) keep(ctx context.Context, log *slog.Logger) {
	var retry backoff
	due := time.Now().Add(untilHalf(i.current.Load().leaf, time.Now()))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(time.Until(due), identityLook)):
		}
		if i.reload(log) {
			due = time.Now().Add(untilHalf(i.current.Load().leaf, time.Now()))
			continue
		}
		if time.Until(due) > 0 { // by the monotonic clock
			continue
		}
		if err := i.renew(ctx); err != nil {
			if ctx.Err() == nil {
				log.Warn("the node's certificate can't be renewed", "expires", i.current.Load().leaf.NotAfter, "error", err)
			}
			due = time.Now().Add(retry.after())
			continue
		}
		retry.reset()
		leaf := i.current.Load().leaf
		due = time.Now().Add(leaf.NotAfter.Sub(begun(leaf)) / 2)
		log.Info("the node's certificate was renewed", "serial", leaf.SerialNumber.Text(16), "expires", leaf.NotAfter)
	}
}

// untilHalf returns how long a certificate still has to half of its life. One whose time has not begun is renewed at once:
// the clock was set back, and by how much nobody knows.
func untilHalf(leaf *x509.Certificate, now time.Time) time.Duration {
	if now.Before(leaf.NotBefore) {
		return 0
	}
	begun := begun(leaf)
	return max(0, begun.Add(leaf.NotAfter.Sub(begun)/2).Sub(now))
}

// begun is when the certificate was made.
func begun(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(edgeidentity.BackDated) }

// reload holds what another process has put into the file by joining.
func (i *Identity) reload(log *slog.Logger) bool {
	stored, err := i.read()
	if err != nil || stored.Certificate == i.current.Load().Certificate {
		return false
	}
	if err := i.hold(stored); err != nil {
		log.Warn("the identity that was put beside the agent can't be used", "file", i.path, "error", err)
		return false
	}
	log.Info("the node has joined again", "serial", i.current.Load().leaf.SerialNumber.Text(16))
	return true
}

// renew gets a certificate for a new key with the one there is. If the answer is lost the old one is good for another try.
func (i *Identity) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	held := i.current.Load()
	request, key, err := newRequest(held.EdgeNodeID)
	if err != nil {
		return err
	}
	c, err := client.New(held.Platform, "", client.WithHTTPClient(&http.Client{Transport: i}))
	if err != nil {
		return err
	}
	answer, _, err := client.Decode[client.EdgeCertificate](c.RenewEdgeCertificate(ctx, held.EdgeNodeID, &client.RenewEdgeCertificateParams{},
		client.EdgeRenewal{CertificateRequest: request}))
	if err != nil {
		return err
	}
	next := held.storedIdentity
	next.PrivateKey, next.Certificate = key, answer.Certificate // the authority stays the one that was joined with
	return i.replace(next, held)
}

// newRequest makes a key and a request (RFC 2986) for a certificate of it, both in PEM.
func newRequest(edgeNodeID string) (request, key string, _ error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: edgeNodeID}}, private)
	if err != nil {
		return "", "", err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})), nil
}

// newTransport speaks HTTP/1.1: a connection over a link that has gone dead is then given up with the request on it.
func newTransport(config *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.ForceAttemptHTTP2 = config, false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return t
}

// pinned trusts a platform whose certificate is signed by the authority with the given public key's hash, and no other.
func pinned(authority [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		ServerName: edgeidentity.PlatformName, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // what is known is a hash, which VerifyConnection looks for
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, c := range state.PeerCertificates {
				if sha256.Sum256(c.RawSubjectPublicKeyInfo) == authority {
					roots.AddCert(c)
				}
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: edgeidentity.PlatformName})
			if err != nil {
				return fmt.Errorf("it is not the platform that the join token names: %w", err)
			}
			return nil
		},
	}
}
