// Package servicekey is a port owner's permission to connect to the port: given beforehand, used once.
//
// Whoever orders with the key need not wait for the owner's approval. The key itself is never stored, only its hash, and
// using it is one append with the order: of two orders with one key, one is placed. It says nothing of the price, which is
// the quote's. Start reading at [State], then [Decide].
package servicekey

import (
	"time"

	"crossbill/domain"
)

// States of a service key.
const (
	StateActive   = "active"
	StateRedeemed = "redeemed" // an order was placed with it
	StateRevoked  = "revoked"
	StateExpired  = "expired" // never recorded: see [State.StateAt]
)

// Issued says that the owner of a port gave a key for it.
type Issued struct {
	ServiceKeyID string    `json:"service_key_id"`
	ProviderID   string    `json:"provider_id"` // the port's owner
	PortID       string    `json:"port_id"`
	CustomerID   string    `json:"customer_id,omitempty"` // who alone may use it; empty: whoever has it
	MaxMbps      int       `json:"max_mbps,omitempty"`    // 0: as much as the listing sells
	Note         string    `json:"note,omitempty"`        // the owner's own
	SecretHash   string    `json:"secret_hash"`           // SHA-256 in hexadecimal, of 256 random bits
	ExpiresAt    time.Time `json:"expires_at"`
	At           time.Time `json:"at"`
}

// Redeemed says that an order was placed with the key.
type Redeemed struct {
	ServiceKeyID string    `json:"service_key_id"`
	OrderID      string    `json:"order_id"`
	CustomerID   string    `json:"customer_id"`
	At           time.Time `json:"at"`
}

// Revoked says that the owner took the key back before it was used.
type Revoked struct {
	ServiceKeyID string    `json:"service_key_id"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "service_key.issued" }

// EventType is the name in the log.
func (Redeemed) EventType() string { return "service_key.redeemed" }

// EventType is the name in the log.
func (Revoked) EventType() string { return "service_key.revoked" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}, Redeemed{}, Revoked{}} }

// Stream names the stream of one service key.
func Stream(id string) string { return "service_key-" + id }

// State is what is known of a service key. The zero State is one that does not exist.
type State struct {
	ID         string     `json:"id"`
	State      string     `json:"state"` // as recorded; see [State.StateAt]
	ProviderID string     `json:"provider_id"`
	PortID     string     `json:"port_id"`
	CustomerID string     `json:"customer_id,omitempty"`
	MaxMbps    int        `json:"max_mbps,omitempty"`
	Note       string     `json:"note,omitempty"`
	SecretHash string     `json:"secret_hash"`
	IssuedAt   time.Time  `json:"issued_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	OrderID    string     `json:"order_id,omitempty"`    // that was placed with it
	RedeemedBy string     `json:"redeemed_by,omitempty"` // whose order that is
	ClosedAt   *time.Time `json:"closed_at,omitempty"`   // when it was redeemed or revoked
}

// StateAt returns the state at a time: an active key expires by itself.
func (s State) StateAt(now time.Time) string {
	if s.State == StateActive && !now.Before(s.ExpiresAt) {
		return StateExpired
	}
	return s.State
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Issued:
		return State{
			ID: e.ServiceKeyID, State: StateActive, ProviderID: e.ProviderID, PortID: e.PortID, CustomerID: e.CustomerID,
			MaxMbps: e.MaxMbps, Note: e.Note, SecretHash: e.SecretHash, IssuedAt: e.At, ExpiresAt: e.ExpiresAt,
		}
	case Redeemed:
		s.State, s.OrderID, s.RedeemedBy, s.ClosedAt = StateRedeemed, e.OrderID, e.CustomerID, &e.At
	case Revoked:
		s.State, s.ClosedAt = StateRevoked, &e.At
	}
	return s
}
