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
	MaxScope         = 40                       // characters of one scope
	MaxLifetime      = 5 * 365 * 24 * time.Hour // of a key that expires
)

// forPersonsOnly are the scopes that only a person's key can have: with them a program could give itself what it was not
// given, or say yes to what it asked for itself.
var forPersonsOnly = []string{"admin", "approve"}

// Command is what can be asked of a key.
type Command interface{ command() }

// Issue makes a key valid. Which scopes there are is known to who checks them.
type Issue struct {
	KeyID          string
	OrganisationID string
	Principal      Principal
	Scopes         []string
	SecretHash     string // SHA-256 in lower-case hexadecimal
	Limits         Limits
	ExpiresAt      *time.Time // after At, by at most [MaxLifetime]; nil: never
	By             *Maker     // nil: the platform itself
	At             time.Time
}

// SetLimits replaces the limits of a key.
type SetLimits struct {
	Limits Limits
	By     *Maker // nil: the platform itself
	At     time.Time
}

// Revoke makes a key invalid for good. Revoking a revoked key does nothing.
type Revoke struct {
	At time.Time
}

func (Issue) command()     {}
func (SetLimits) command() {}
func (Revoke) command()    {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields, a Conflict for a key that exists or is revoked, NotFound for one that does
// not exist, and Forbidden where the maker would give away more than it has.
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
		issued := Issued{
			KeyID: c.KeyID, OrganisationID: c.OrganisationID, Principal: c.Principal, Scopes: slices.Clone(c.Scopes),
			SecretHash: c.SecretHash, At: domain.Instant(c.At), ExpiresAt: instant(c.ExpiresAt),
		}
		if c.Limits != (Limits{}) {
			issued.Limits = &c.Limits
		}
		if c.By != nil {
			if err := c.By.gives(op, c.Scopes, c.Limits); err != nil {
				return nil, err
			}
			issued.IssuedBy = &c.By.Principal
		}
		return []domain.Event{issued}, nil
	case SetLimits:
		return c.decide(op, s)
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

func (c SetLimits) decide(op string, s State) ([]domain.Event, error) {
	switch {
	case s.ID == "":
		return nil, domain.Missing(op, "API key")
	case s.Revoked:
		return nil, domain.InState(op, "API key", s.ID, "revoked").WithHint("issue a new one")
	}
	var p domain.Problems
	c.Limits.check(&p)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	set := LimitsSet{KeyID: s.ID, Limits: c.Limits, At: domain.Instant(c.At)}
	if c.By != nil {
		if err := c.By.gives(op, nil, c.Limits); err != nil {
			return nil, err
		}
		set.By = &c.By.Principal
	}
	if c.Limits.Within(s.Limits) && s.Limits.Within(c.Limits) {
		return nil, nil
	}
	return []domain.Event{set}, nil
}

// gives returns Forbidden if the maker has not what it gives: a scope, or limits as wide.
func (m Maker) gives(op string, scopes []string, limits Limits) error {
	for _, scope := range scopes {
		if !slices.Contains(m.Scopes, scope) {
			return domain.Errorf(domain.Forbidden, op, "a key with the scope %.40s can't be issued with one that has not got it", scope).
				WithHint("leave the scope out, or ask an owner of the organisation")
		}
	}
	if !limits.Within(m.Limits) {
		return domain.Errorf(domain.Forbidden, op, "the limits would be wider than those of the key that sets them").
			WithHint("stay within them, in the same currency, or ask an owner of the organisation")
	}
	return nil
}

func instant(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	i := domain.Instant(*t)
	return &i
}

func (c Issue) check(op string) error {
	var p domain.Problems
	c.Limits.check(&p)
	if c.ExpiresAt != nil {
		p.Check(c.ExpiresAt.After(c.At) && !c.ExpiresAt.After(c.At.Add(MaxLifetime)), "/expires_at", "must be in the future, by at most %d days", int(MaxLifetime.Hours()/24))
	}
	p.ID("/key_id", domain.PrefixAPIKey, c.KeyID)
	p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
	p.OneOf("/principal/kind", c.Principal.Kind, KindPerson, KindProgram, KindOperator)
	p.Text("/principal/id", c.Principal.ID, MaxPrincipalID)
	p.Text("/principal/name", c.Principal.Name, MaxPrincipalName)
	p.Check(len(c.Scopes) >= 1 && len(c.Scopes) <= MaxScopes, "/scopes", "must hold 1 to %d scopes", MaxScopes)
	if len(c.Scopes) <= MaxScopes {
		for i, scope := range c.Scopes {
			at := domain.Pointer("/scopes", i)
			p.Check(validScope(scope), at, "must be 1 to %d of a-z and _", MaxScope)
			p.Check(!slices.Contains(c.Scopes[:i], scope), at, "is listed twice")
			p.Check(c.Principal.Kind == KindPerson || !slices.Contains(forPersonsOnly, scope), at, "is for people's keys only")
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
