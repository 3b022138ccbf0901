// Package organisation is who takes part: providers, customers and the operator of the platform, and the people who act
// for them.
//
// It never checks that a slug is unique: that is a reservation made where the event is appended. Of a member it holds a
// pseudonym for good, and name and mail address as texts that can be erased. Start reading at [State], then [Decide].
package organisation

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// Role is what an organisation may do on the platform.
type Role string

// The closed set of roles.
const (
	RoleProvider Role = "provider" // lists services and is settled with
	RoleCustomer Role = "customer" // orders connections and is invoiced
	RoleOperator Role = "operator" // runs the platform
)

// States of an organisation. Closed is final.
const (
	StateActive    = "active"
	StateSuspended = "suspended" // it reads, and changes nothing
	StateClosed    = "closed"    // its keys are refused
)

// Registered says that an organisation takes part from now on.
type Registered struct {
	OrganisationID string    `json:"organisation_id"`
	Name           string    `json:"name"`
	Slug           string    `json:"slug"`
	Roles          []Role    `json:"roles"`
	At             time.Time `json:"at"`
}

// Renamed says what the organisation is called from now on. Its slug stays.
type Renamed struct {
	OrganisationID string    `json:"organisation_id"`
	Name           string    `json:"name"`
	At             time.Time `json:"at"`
}

// Suspended says that the organisation may change nothing until it is reactivated. What it has goes on.
type Suspended struct {
	OrganisationID string    `json:"organisation_id"`
	Reason         string    `json:"reason"`
	At             time.Time `json:"at"`
}

// Reactivated says that a suspension is over.
type Reactivated struct {
	OrganisationID string    `json:"organisation_id"`
	At             time.Time `json:"at"`
}

// Closed says that the organisation takes part no more.
type Closed struct {
	OrganisationID string    `json:"organisation_id"`
	At             time.Time `json:"at"`
}

// MemberAdded says that a person acts for the organisation from now on.
type MemberAdded struct {
	OrganisationID string     `json:"organisation_id"`
	MemberID       string     `json:"member_id"` // the person's pseudonym, and the principal's id of its keys
	Name           string     `json:"name"`      // personal
	Email          string     `json:"email"`     // personal; may be empty
	Role           MemberRole `json:"role"`
	At             time.Time  `json:"at"`
}

// MemberRoleChanged says what a member may do from now on, with keys issued before as well.
type MemberRoleChanged struct {
	OrganisationID string     `json:"organisation_id"`
	MemberID       string     `json:"member_id"`
	Role           MemberRole `json:"role"`
	At             time.Time  `json:"at"`
}

// MemberRemoved says that a person no longer acts for the organisation. The person's keys are refused from now on.
type MemberRemoved struct {
	OrganisationID string    `json:"organisation_id"`
	MemberID       string    `json:"member_id"`
	At             time.Time `json:"at"`
}

// Recovered says that the platform's operator had a key issued to an owner, because the organisation had lost its own.
type Recovered struct {
	OrganisationID string    `json:"organisation_id"`
	MemberID       string    `json:"member_id"` // the owner
	KeyID          string    `json:"key_id"`
	Reason         string    `json:"reason"`
	At             time.Time `json:"at"`
}

// EventType is the name in the log.
func (Registered) EventType() string { return "organisation.registered" }

// EventType is the name in the log.
func (Renamed) EventType() string { return "organisation.renamed" }

// EventType is the name in the log.
func (Suspended) EventType() string { return "organisation.suspended" }

// EventType is the name in the log.
func (Reactivated) EventType() string { return "organisation.reactivated" }

// EventType is the name in the log.
func (Closed) EventType() string { return "organisation.closed" }

// EventType is the name in the log.
func (MemberAdded) EventType() string { return "organisation.member_added" }

// EventType is the name in the log.
func (MemberRoleChanged) EventType() string { return "organisation.member_role_changed" }

// EventType is the name in the log.
func (MemberRemoved) EventType() string { return "organisation.member_removed" }

// EventType is the name in the log.
func (Recovered) EventType() string { return "organisation.recovered" }

// MapPersonal maps the member's name and mail address.
func (e MemberAdded) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	of := subject.Of(e.OrganisationID, e.MemberID)
	e.Name = f(domain.PersonalField{Subject: of, Name: "name", Text: e.Name})
	if e.Email != "" {
		e.Email = f(domain.PersonalField{Subject: of, Name: "email", Text: e.Email})
	}
	return e
}

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{
		Registered{}, Renamed{}, Suspended{}, Reactivated{}, Closed{}, MemberAdded{}, MemberRoleChanged{}, MemberRemoved{}, Recovered{},
	}
}

// Stream names the stream of one organisation.
func Stream(id string) string { return "organisation-" + id }

// Member is a person who acts for an organisation, or did.
type Member struct {
	ID        string
	Name      string
	Email     string
	Role      MemberRole
	AddedAt   time.Time
	RemovedAt *time.Time // nil while it acts
}

// State is what is known of an organisation. The zero State is one that does not exist.
type State struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Slug         string    `json:"slug"`
	Roles        []Role    `json:"roles"`
	State        string    `json:"state"`
	Reason       string    `json:"reason,omitempty"` // why it is suspended
	RegisteredAt time.Time `json:"registered_at"`
	// Members is everybody who ever acted for it, in order of arrival. It has no JSON: read models keep states as JSON, and
	// texts about people are to be read from the log alone, where an erasure reaches them at once.
	Members []Member `json:"-"`
}

// Has reports whether the organisation has the role.
func (s State) Has(role Role) bool { return slices.Contains(s.Roles, role) }

// Member returns the person of that id if it acts for the organisation now.
func (s State) Member(id string) (Member, bool) {
	i := s.indexOf(id)
	if i < 0 || s.Members[i].RemovedAt != nil {
		return Member{}, false
	}
	return s.Members[i], true
}

func (s State) indexOf(id string) int {
	return slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Registered:
		return State{ID: e.OrganisationID, Name: e.Name, Slug: e.Slug, Roles: e.Roles, State: StateActive, RegisteredAt: e.At}
	case Renamed:
		s.Name = e.Name
	case Suspended:
		s.State, s.Reason = StateSuspended, e.Reason
	case Reactivated:
		s.State, s.Reason = StateActive, ""
	case Closed:
		s.State = StateClosed
	case MemberAdded:
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Members = append(s.Members[:len(s.Members):len(s.Members)], Member{ID: e.MemberID, Name: e.Name, Email: e.Email, Role: e.Role, AddedAt: e.At})
	case MemberRoleChanged:
		return s.change(e.MemberID, func(m *Member) { m.Role = e.Role })
	case MemberRemoved:
		return s.change(e.MemberID, func(m *Member) { m.RemovedAt = &e.At })
	}
	return s
}

// change returns the state with a member changed. A state that was kept as JSON knows no members, and stays as it is.
func (s State) change(id string, change func(*Member)) State {
	if i := s.indexOf(id); i >= 0 {
		s.Members = slices.Clone(s.Members)
		change(&s.Members[i])
	}
	return s
}
