// Package apikey is the keys that callers of the API present.
//
// It holds a hash and never a secret: the secret is shown once by who mints it. Start reading at [State], then [Decide].
package apikey

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// The kinds of principals.
const (
	KindPerson   = "person"
	KindProgram  = "program"
	KindEdgeNode = "edge_node" // calls with a certificate; there are keys of before there were any
	KindOperator = "operator"
)

// Principal is who calls with a key.
type Principal struct {
	Kind string `json:"kind"`
	ID   string `json:"id"` // of an edge node its edg_… id; else what the organisation chose: of a person a pseudonym, for it is kept for good
	Name string `json:"name"`
}

// PrincipalRef names a principal of an organisation and says nothing else of it: no text in it is personal.
type PrincipalRef struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Ref returns who the principal is, without its name.
func (p Principal) Ref() PrincipalRef { return PrincipalRef{p.Kind, p.ID} }

func (r PrincipalRef) String() string { return r.Kind + " " + r.ID }

// Issued says that a key is valid from now on.
type Issued struct {
	KeyID          string    `json:"key_id"`
	OrganisationID string    `json:"organisation_id"`
	Principal      Principal `json:"principal"`
	Scopes         []string  `json:"scopes"`
	SecretHash     string    `json:"secret_hash"` // SHA-256 in lower-case hexadecimal
	At             time.Time `json:"at"`

	Limits    *Limits       `json:"limits,omitempty"`     // absent: none
	ExpiresAt *time.Time    `json:"expires_at,omitempty"` // exclusive; absent: never
	IssuedBy  *PrincipalRef `json:"issued_by,omitempty"`  // absent: by the platform
}

// LimitsSet says what the key's principal may commit to with it from now on.
type LimitsSet struct {
	KeyID  string        `json:"key_id"`
	Limits Limits        `json:"limits"` // all of them; what is absent is unlimited
	By     *PrincipalRef `json:"by,omitempty"`
	At     time.Time     `json:"at"`
}

// Revoked says that a key is never valid again.
type Revoked struct {
	KeyID string    `json:"key_id"`
	At    time.Time `json:"at"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "api_key.issued" }

// EventType is the name in the log.
func (Revoked) EventType() string { return "api_key.revoked" }

// EventType is the name in the log.
func (LimitsSet) EventType() string { return "api_key.limits_set" }

// MapPersonal maps the principal's name if that is a person.
func (e Issued) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	if e.Principal.Kind == KindPerson {
		e.Principal.Name = f(domain.PersonalField{
			Subject: subject.Of(e.OrganisationID, e.Principal.ID), Name: "principal.name", Text: e.Principal.Name,
		})
	}
	return e
}

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}, LimitsSet{}, Revoked{}} }

// Stream names the stream of one key.
func Stream(id string) string { return "api_key-" + id }

// State is what is known of a key. The zero State is one that does not exist.
type State struct {
	ID             string     `json:"id"`
	OrganisationID string     `json:"organisation_id"`
	Principal      Principal  `json:"principal"`
	Scopes         []string   `json:"scopes"`
	SecretHash     string     `json:"secret_hash"`
	IssuedAt       time.Time  `json:"issued_at"`
	Revoked        bool       `json:"revoked"`
	RevokedAt      *time.Time `json:"revoked_at,omitempty"`

	Limits    Limits        `json:"limits"`
	ExpiresAt *time.Time    `json:"expires_at,omitempty"`
	IssuedBy  *PrincipalRef `json:"issued_by,omitempty"`
}

// Expired reports whether the key's time is over.
func (s State) Expired(now time.Time) bool { return s.ExpiresAt != nil && !now.Before(*s.ExpiresAt) }

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Issued:
		s = State{
			ID: e.KeyID, OrganisationID: e.OrganisationID, Principal: e.Principal, Scopes: e.Scopes,
			SecretHash: e.SecretHash, IssuedAt: e.At, ExpiresAt: e.ExpiresAt, IssuedBy: e.IssuedBy,
		}
		if e.Limits != nil {
			s.Limits = *e.Limits
		}
	case LimitsSet:
		s.Limits = e.Limits
	case Revoked:
		s.Revoked, s.RevokedAt = true, &e.At
	}
	return s
}
