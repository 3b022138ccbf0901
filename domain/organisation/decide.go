package organisation

import (
	"slices"
	"strings"
	"time"

	"crossbill/domain"
)

// Limits of an organisation.
const (
	MaxName        = 120  // characters, of it and of a member
	MaxSlug        = 40   // characters
	MaxEmail       = 254  // characters (RFC 5321 section 4.5.3.1.3, less the angle brackets)
	MaxMembers     = 200  // who act for it at a time
	MaxMembersEver = 2000 // with those who did: its stream is read whole
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

// Rename gives the organisation another name.
type Rename struct {
	Name string
	At   time.Time
}

// Suspend keeps the organisation from changing anything.
type Suspend struct {
	Reason string
	At     time.Time
}

// Reactivate ends a suspension.
type Reactivate struct {
	At time.Time
}

// Close ends a suspended organisation for good. It is suspended first so that nothing new begins while it is looked for
// what is still live.
type Close struct {
	Live int // its connections that have not ended
	At   time.Time
}

// AddMember lets a person act for the organisation.
type AddMember struct {
	MemberID string
	Name     string
	Email    string // may be empty
	Role     MemberRole
	At       time.Time
}

// ChangeMemberRole gives a member another role. The last owner stays one.
type ChangeMemberRole struct {
	MemberID string
	Role     MemberRole
	At       time.Time
}

// RemoveMember ends a person's acting for the organisation. The last owner stays.
type RemoveMember struct {
	MemberID string
	At       time.Time
}

// Recover records that an owner was given a key by the platform's operator.
type Recover struct {
	MemberID string // an owner
	KeyID    string
	Reason   string
	At       time.Time
}

func (Recover) command()          {}
func (Register) command()         {}
func (Rename) command()           {}
func (Suspend) command()          {}
func (Reactivate) command()       {}
func (Close) command()            {}
func (AddMember) command()        {}
func (ChangeMemberRole) command() {}
func (RemoveMember) command()     {}

// Decide returns the events that a command makes of a state. A command whose outcome is there already does nothing.
//
// It returns an Invalid error for wrong fields, NotFound for an organisation or a member that does not exist, and a
// Conflict for an organisation that exists or is in a state that does not allow the command, for one that would be left
// without an owner, and for one with live connections that is to be closed.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "organisation.Decide"
	if c, ok := c.(Register); ok {
		if s.ID != "" {
			return nil, domain.Exists(op, "organisation", s.ID)
		}
		return c.decide(op)
	}
	if s.ID == "" {
		if c == nil {
			return nil, domain.UnknownCommand(op, c)
		}
		return nil, domain.Missing(op, "organisation")
	}
	if s.State == StateClosed {
		if _, again := c.(Close); again {
			return nil, nil
		}
		return nil, domain.InState(op, "organisation", s.ID, s.State).WithHint("register a new one")
	}
	var p domain.Problems
	switch c := c.(type) {
	case Rename:
		p.Text("/name", c.Name, MaxName)
		return s.unless(c.Name == s.Name, op, p, c.At, Renamed{OrganisationID: s.ID, Name: c.Name, At: domain.Instant(c.At)})
	case Suspend:
		p.Text("/reason", c.Reason, domain.MaxReason)
		return s.unless(s.State == StateSuspended && c.Reason == s.Reason, op, p, c.At, Suspended{OrganisationID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
	case Reactivate:
		return s.unless(s.State == StateActive, op, p, c.At, Reactivated{OrganisationID: s.ID, At: domain.Instant(c.At)})
	case Close:
		switch {
		case s.State != StateSuspended:
			return nil, domain.InState(op, "organisation", s.ID, s.State).WithHint("suspend it first, so that nothing new begins")
		case c.Live > 0:
			return nil, domain.Errorf(domain.Conflict, op, "the organisation %s has %d live connections", s.ID, c.Live).
				WithHint("terminate them, and close it when they are decommissioned")
		}
		return s.unless(false, op, p, c.At, Closed{OrganisationID: s.ID, At: domain.Instant(c.At)})
	case AddMember:
		return c.decide(op, s)
	case ChangeMemberRole:
		return c.decide(op, s)
	case RemoveMember:
		return c.decide(op, s)
	case Recover:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

// unless returns the event if the fields are right and its outcome is not there already.
func (s State) unless(there bool, op string, p domain.Problems, at time.Time, e domain.Event) ([]domain.Event, error) {
	p.Time("/at", at)
	if err := p.Err(op); err != nil || there {
		return nil, err
	}
	return []domain.Event{e}, nil
}

func (c Register) decide(op string) ([]domain.Event, error) {
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

// validSlug holds a slug to letters, digits and inner hyphens, which no URL escapes (RFC 3986 section 2.3).
func validSlug(slug string) bool {
	if len(slug) < 1 || len(slug) > MaxSlug || slug[0] == '-' || slug[len(slug)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(slug, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' })
}
