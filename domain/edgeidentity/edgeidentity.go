// Package edgeidentity is by what the platform knows an edge node: tokens with which a machine joins as the node, and the
// certificates it has got since.
//
// It holds hashes and fingerprints and never a secret or a key, and signs nothing. Only certificates that it lists are
// good, however well they are signed: so what is revoked or replaced is that at once. Start reading at [State], then
// [Decide]; token.go has the text of a token.
package edgeidentity

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Certificate is what is kept of a certificate.
type Certificate struct {
	Serial      string    `json:"serial"`      // in lower-case hexadecimal
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the DER in lower-case hexadecimal
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"` // inclusive (RFC 5280 section 4.1.2.5)
}

// TokenIssued says that whoever has the token may join as the node, once.
type TokenIssued struct {
	EdgeNodeID string    `json:"edge_node_id"`
	SecretHash string    `json:"secret_hash"` // SHA-256 in lower-case hexadecimal
	ExpiresAt  time.Time `json:"expires_at"`  // exclusive
	At         time.Time `json:"at"`
}

// Joined says that a machine has become the node, with a token that is used up. No other is the node from then on.
type Joined struct {
	EdgeNodeID  string      `json:"edge_node_id"`
	SecretHash  string      `json:"secret_hash"` // of the token
	Certificate Certificate `json:"certificate"`
	At          time.Time   `json:"at"`
}

// Renewed says that the node has a further certificate. The one that it renewed with stays good until it expires, because
// the answer may not have reached the node; every other is good no more.
type Renewed struct {
	EdgeNodeID  string      `json:"edge_node_id"`
	With        string      `json:"with"` // the fingerprint of the certificate that the node showed
	Certificate Certificate `json:"certificate"`
	At          time.Time   `json:"at"`
}

// Revoked says that no token and no certificate of the node is good any more.
type Revoked struct {
	EdgeNodeID string    `json:"edge_node_id"`
	At         time.Time `json:"at"`
}

// EventType is the name in the log.
func (TokenIssued) EventType() string { return "edge_identity.token_issued" }

// EventType is the name in the log.
func (Joined) EventType() string { return "edge_identity.joined" }

// EventType is the name in the log.
func (Renewed) EventType() string { return "edge_identity.renewed" }

// EventType is the name in the log.
func (Revoked) EventType() string { return "edge_identity.revoked" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{TokenIssued{}, Joined{}, Renewed{}, Revoked{}} }

// Stream names the stream of a node's identity.
func Stream(edgeNodeID string) string { return "edge_identity-" + edgeNodeID }

// Token is one that can still be used.
type Token struct {
	SecretHash string    `json:"secret_hash"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// State is what is known of a node's identity. The zero State is that of a node nobody has joined as.
type State struct {
	Tokens       []Token       `json:"tokens,omitempty"`       // oldest first; those that had expired by the last event are left out
	Certificates []Certificate `json:"certificates,omitempty"` // that are good until they expire; the newest is the last
	LastUsed     string        `json:"last_used,omitempty"`    // the hash of the token that was used last
	RevokedAt    *time.Time    `json:"revoked_at,omitempty"`   // since when nobody is the node; nil once somebody has joined again
}

// Good returns the listed certificate with the fingerprint.
func (s State) Good(fingerprint string) (_ Certificate, ok bool) {
	i := slices.IndexFunc(s.Certificates, func(c Certificate) bool { return c.Fingerprint == fingerprint })
	if i < 0 {
		return Certificate{}, false
	}
	return s.Certificates[i], true
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case TokenIssued:
		s.Tokens = append(s.lasting(e.At), Token{e.SecretHash, e.ExpiresAt})
	case Joined:
		s.Tokens = slices.DeleteFunc(s.lasting(e.At), func(t Token) bool { return t.SecretHash == e.SecretHash })
		s.Certificates, s.LastUsed, s.RevokedAt = []Certificate{e.Certificate}, e.SecretHash, nil
	case Renewed:
		if with, ok := s.Good(e.With); ok {
			s.Certificates = []Certificate{with, e.Certificate}
		} else {
			s.Certificates = []Certificate{e.Certificate}
		}
	case Revoked:
		s.Tokens, s.Certificates, s.RevokedAt = nil, nil, &e.At
	}
	return s
}

// lasting returns a copy of the tokens that have not expired.
func (s State) lasting(at time.Time) []Token {
	return slices.DeleteFunc(slices.Clone(s.Tokens), func(t Token) bool { return !at.Before(t.ExpiresAt) })
}
