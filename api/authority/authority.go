// Package authority is the platform's own certificate authority, which edge nodes and the platform know each other by.
//
// It signs and checks, and keeps nothing but its key: who may have a certificate, and whether one is still good, is
// decided by domain/edgeidentity. It is no authority for anything else, and nobody but edge nodes should trust it. Start
// reading at [Open], then [Authority.Sign] and [Authority.ServerConfig].
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"sync"
	"time"

	"crossbill/domain"
	"crossbill/domain/edgeidentity"
	"crossbill/events/wholefile"
)

// Lives of what is no node's. A node's is edgeidentity.CertificateLife.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	// The platform's certificate is made anew at half of its life and begins as long ago, so that a node whose clock is
	// days off still reaches the platform and tells that it is there.
	platformLife = 14 * 24 * time.Hour
	serialBits   = 127 // a positive number of at most 20 octets (RFC 5280 section 4.1.2.2)
)

// Authority signs certificates.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	roots       *x509.CertPool

	mu       sync.Mutex
	platform *tls.Certificate // that the platform shows; made when it is needed
}

// Open reads the authority's key and certificate from a file that only its owner may read, and makes them when there is no
// file yet. Every node of a platform needs the same file.
// It returns Invalid for a file that others may read or that holds no authority, Internal if it can't be read or made.
func Open(path string) (*Authority, error) {
	const op = "authority.Open"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, domain.Errorf(domain.Internal, op, "make the edge authority's key: %w", err)
		}
		info, err = os.Stat(path)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the edge authority's key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, domain.Errorf(domain.Invalid, op, "others may read the edge authority's key in %s", path).WithHint("chmod 600 %s", path)
	}
	pair, err := tls.X509KeyPair(content, content)
	if err == nil && !pair.Leaf.IsCA {
		err = errors.New("its certificate is not an authority's")
	}
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "%s does not hold an authority: %w", path, err).
			WithHint("copy the file from another node of the platform or from a backup; without it every edge node has to join again")
	}
	a := &Authority{certificate: pair.Leaf, key: pair.PrivateKey.(crypto.Signer), roots: x509.NewCertPool()}
	a.roots.AddCert(pair.Leaf)
	return a, nil
}

// create makes the file. Of several processes that do it at once, the first one's stays.
func create(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Crossbill edge authority"}, NotBefore: now.Add(-platformLife), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = wholefile.Create(path, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), encode(certificate)...))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// sign gives the template a serial number nobody can guess and signs it.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	return x509.CreateCertificate(rand.Reader, template, parent, public, key)
}

func encode(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

// PEM is the authority's certificate, which nodes trust.
func (a *Authority) PEM() string { return string(encode(a.certificate.Raw)) }

// Pin is the SHA-256 of the authority's public key, by which a join token names it.
func (a *Authority) Pin() [sha256.Size]byte {
	return sha256.Sum256(a.certificate.RawSubjectPublicKeyInfo)
}

// Sign makes a client certificate for an edge node of its request, in PEM. Nothing of the request but its key goes into
// the certificate. It returns an Invalid error for a request that is not the node's own, or with another kind of key than
// ECDSA P-256 and Ed25519.
func (a *Authority) Sign(request, edgeNodeID string, now time.Time, life time.Duration) (string, edgeidentity.Certificate, error) {
	const op = "authority.Sign"
	public, err := requested(request, edgeNodeID)
	if err != nil {
		return "", edgeidentity.Certificate{}, err
	}
	now = now.UTC().Truncate(time.Second) // as certificates hold it
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: edgeNodeID}, NotBefore: now.Add(-edgeidentity.BackDated), NotAfter: now.Add(life),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := sign(template, a.certificate, public, a.key)
	if err != nil {
		return "", edgeidentity.Certificate{}, domain.Errorf(domain.Internal, op, "sign the certificate: %w", err)
	}
	return string(encode(der)), edgeidentity.Certificate{
		Serial: template.SerialNumber.Text(16), Fingerprint: Fingerprint(der), NotBefore: template.NotBefore, NotAfter: template.NotAfter,
	}, nil
}

// requested returns the public key of a certificate request (PKCS #10, RFC 2986) in PEM.
func requested(request, edgeNodeID string) (crypto.PublicKey, error) {
	var p domain.Problems
	block, rest := pem.Decode([]byte(request))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		p.Add("/certificate_request", "must be one certificate request in PEM")
		return nil, p.Err("authority.Sign")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		p.Add("/certificate_request", "must be a PKCS #10 request that is signed by its own key")
		return nil, p.Err("authority.Sign")
	}
	p.Check(csr.Subject.String() == "CN="+edgeNodeID, "/certificate_request", "must have the node's id as its common name, and nothing else in its subject")
	p.Check(len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses)+len(csr.URIs) == 0, "/certificate_request", "must have no further names")
	switch key := csr.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		p.Check(key.Curve == elliptic.P256(), "/certificate_request", "must be for a key of ECDSA P-256 or Ed25519")
	default:
		p.Add("/certificate_request", "must be for a key of ECDSA P-256 or Ed25519")
	}
	return csr.PublicKey, p.Err("authority.Sign")
}

// Fingerprint is the SHA-256 of a certificate in lower-case hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Known returns the edge node that a client certificate was made for, and its fingerprint. That it is signed says nothing
// of whether it is still good. It returns an Unauthorised error for a certificate that is not this authority's.
func (a *Authority) Known(certificate *x509.Certificate) (edgeNodeID, fingerprint string, _ error) {
	// Its time is looked at with what the log says of it, by the platform's clock.
	_, err := certificate.Verify(x509.VerifyOptions{Roots: a.roots, CurrentTime: certificate.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || !domain.ValidID(domain.PrefixEdgeNode, certificate.Subject.CommonName) {
		return "", "", domain.Errorf(domain.Unauthorised, "authority.Known", "the client certificate is not of this platform").
			WithHint("an edge node joins with a token of the platform it is to talk to; a platform's nodes need the same edge authority")
	}
	return certificate.Subject.CommonName, Fingerprint(certificate.Raw), nil
}

// ServerConfig is TLS for the platform's side. It asks for a client certificate and takes a connection without one: people
// and programs have keys. What is shown is checked with each request, so that its answer can say what is wrong with it.
func (a *Authority) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.platformCertificate(time.Now())
		},
	}
}

func (a *Authority) platformCertificate(now time.Time) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.platform != nil && now.Before(a.platform.Leaf.NotAfter.Add(-platformLife/2)) && now.After(a.platform.Leaf.NotBefore) {
		return a.platform, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: edgeidentity.PlatformName}, DNSNames: []string{edgeidentity.PlatformName},
		NotBefore: now.Add(-platformLife), NotAfter: now.Add(platformLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The authority is sent along for those who know only its hash, from a join token.
	a.platform = &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}
	return a.platform, nil
}
