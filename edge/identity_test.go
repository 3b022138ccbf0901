package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/edgeidentity"
)

// A certificate is renewed at half of its life by the node's clock, and at once if that clock is certainly wrong.
func TestUntilHalf(t *testing.T) {
	t.Parallel()
	made := at("12:00:00")
	leaf := &x509.Certificate{NotBefore: made.Add(-edgeidentity.BackDated), NotAfter: made.Add(24 * time.Hour)}
	for _, c := range []struct {
		what string
		now  time.Time
		want time.Duration
	}{
		{"just made", made, 12 * time.Hour},
		{"a clock that is a little behind", made.Add(-time.Minute), 12*time.Hour + time.Minute},
		{"later", made.Add(11 * time.Hour), time.Hour},
		{"half", made.Add(12 * time.Hour), 0},
		{"expired, or a clock that is ahead", made.Add(90 * time.Hour), 0},
		{"a clock that was set back", made.Add(-edgeidentity.BackDated - time.Second), 0},
		{"a clock that has forgotten", time.Unix(0, 0), 0},
	} {
		if got := untilHalf(leaf, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// TestARenewalLeavesWhoHasJoined has a machine join again while its agent's renewal is under way: the joined identity stays.
func TestARenewalLeavesWhoHasJoined(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := &Identity{path: filepath.Join(dir, identityFile)}
	if err := first.replace(issued(t, 1), nil); err != nil {
		t.Fatal(err)
	}
	agent, err := OpenIdentity(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	held := agent.current.Load()
	if err := agent.replace(issued(t, 2), held); err != nil {
		t.Fatal(err)
	}
	if now, err := agent.read(); err != nil || now.Certificate == held.Certificate || now.Certificate != agent.current.Load().Certificate {
		t.Fatalf("a renewal is not kept (%v)", err)
	}

	held = agent.current.Load()
	joined := issued(t, 3)
	if err := first.replace(joined, nil); err != nil {
		t.Fatal(err)
	}
	if err := agent.replace(issued(t, 4), held); err != nil {
		t.Fatal(err)
	}
	if now, err := agent.read(); err != nil || now != joined || agent.current.Load().storedIdentity != joined {
		t.Errorf("what was joined with is gone (%v)", err)
	}
}

// issued is an identity whose certificate has the given serial number, and is its own authority.
func issued(t *testing.T, serial int64) storedIdentity {
	t.Helper()
	node := domain.DeriveID(domain.PrefixEdgeNode, time.Unix(0, 0), "a")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: node}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return storedIdentity{
		Platform: "https://platform.example", EdgeNodeID: node, PrivateKey: text("PRIVATE KEY", private),
		Certificate: text("CERTIFICATE", certificate), Authority: text("CERTIFICATE", certificate),
	}
}
