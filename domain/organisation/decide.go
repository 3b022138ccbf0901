package organisation

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Limits on what an organisation is called, in characters.
const (
	MaxName = 120
	MaxSlug = 40
)

// Command is what can be asked of an organisation.
type Command interface{ command() }

// Register makes an organisation.
type Register struct {
	OrganisationID string
	Name           string
	Slug           string // 1 to [MaxSlug] of a-z, 0-9 and inner hyphens: it stands in URLs
	Roles          []Role // one of each at most
	At             time.Time
}

func (Register) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields and a Conflict for an organisation that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "organisation.Decide"
	switch c := c.(type) {
	case Register:
		if s.ID != "" {
			return nil, domain.Exists(op, "organisation", s.ID)
		}
		var p domain.Problems
		p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
		p.Text("/name", c.Name, MaxName)
		p.Check(validSlug(c.Slug), "/slug", "must be 1 to %d of a-z, 0-9 and -, with no - at either end", MaxSlug)
		p.Check(len(c.Roles) > 0, "/roles", "must not be empty")
		for i, role := range c.Roles {
			at := domain.Pointer("/roles", i)
			p.OneOf(at, string(role), string(RoleProvider), string(RoleCustomer), string(RoleOperator))
			if slices.Contains(c.Roles[:i], role) {
				p.Add(at, "is listed twice")
				break // with a closed set of roles a long list repeats itself early
			}
		}
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Registered{
			OrganisationID: c.OrganisationID, Name: c.Name, Slug: c.Slug, Roles: slices.Clone(c.Roles), At: domain.Instant(c.At),
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

// validSlug holds a slug to letters, digits and inner hyphens, which no URL escapes (RFC 3986 section 2.3).
func validSlug(slug string) bool {
	if len(slug) < 1 || len(slug) > MaxSlug || slug[0] == '-' || slug[len(slug)-1] == '-' {
		return false
	}
	for i := range len(slug) {
		if c := slug[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
