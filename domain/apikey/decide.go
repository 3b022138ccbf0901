package apikey

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Limits on a key.
const (
	MaxPrincipalID   = 120 // characters
	MaxPrincipalName = 120 // characters
	MaxScopes        = 20
	MaxScope         = 40 // characters of one scope
)

// Command is what can be asked of a key.
type Command interface{ command() }

// Issue makes a key valid. Which scopes there are is known to who checks them.
type Issue struct {
	KeyID          string
	OrganisationID string
	Principal      Principal
	Scopes         []string
	SecretHash     string // SHA-256 in lower-case hexadecimal
	At             time.Time
}

// Revoke makes a key invalid for good. Revoking a revoked key does nothing.
type Revoke struct {
	At time.Time
}

func (Issue) command()  {}
func (Revoke) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields, a Conflict for a key that exists, and NotFound for one that does not.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "apikey.Decide"
	switch c := c.(type) {
	case Issue:
		if s.ID != "" {
			return nil, domain.Exists(op, "API key", s.ID)
		}
		if err := c.check(op); err != nil {
			return nil, err
		}
		return []domain.Event{Issued{
			KeyID: c.KeyID, OrganisationID: c.OrganisationID, Principal: c.Principal, Scopes: slices.Clone(c.Scopes),
			SecretHash: c.SecretHash, At: domain.Instant(c.At),
		}}, nil
	case Revoke:
		switch {
		case s.ID == "":
			return nil, domain.Missing(op, "API key")
		case s.Revoked:
			return nil, nil
		}
		var p domain.Problems
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Revoked{KeyID: s.ID, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Issue) check(op string) error {
	var p domain.Problems
	p.ID("/key_id", domain.PrefixAPIKey, c.KeyID)
	p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
	p.OneOf("/principal/kind", c.Principal.Kind, KindPerson, KindProgram, KindEdgeNode, KindOperator)
	if c.Principal.Kind == KindEdgeNode {
		p.ID("/principal/id", domain.PrefixEdgeNode, c.Principal.ID)
	} else {
		p.Text("/principal/id", c.Principal.ID, MaxPrincipalID)
	}
	p.Text("/principal/name", c.Principal.Name, MaxPrincipalName)
	p.Check(len(c.Scopes) >= 1 && len(c.Scopes) <= MaxScopes, "/scopes", "must hold 1 to %d scopes", MaxScopes)
	if len(c.Scopes) <= MaxScopes {
		for i, scope := range c.Scopes {
			at := domain.Pointer("/scopes", i)
			p.Check(validScope(scope), at, "must be 1 to %d of a-z and _", MaxScope)
			p.Check(!slices.Contains(c.Scopes[:i], scope), at, "is listed twice")
		}
	}
	p.Hash("/secret_hash", c.SecretHash)
	p.Time("/at", c.At)
	return p.Err(op)
}

func validScope(scope string) bool {
	for i := range len(scope) {
		if c := scope[i]; (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return len(scope) >= 1 && len(scope) <= MaxScope
}
