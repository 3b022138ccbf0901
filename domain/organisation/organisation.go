// Package organisation is who takes part: providers, customers and the operator of the platform.
//
// It never holds a person's data and never checks that a slug is unique: that is a reservation made where the event is
// appended. Start reading at [State], then [Decide].
package organisation

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Role is what an organisation may do on the platform.
type Role string

// The closed set of roles.
const (
	RoleProvider Role = "provider" // lists services and is settled with
	RoleCustomer Role = "customer" // orders connections and is invoiced
	RoleOperator Role = "operator" // runs the platform
)

// Registered says that an organisation takes part from now on.
type Registered struct {
	OrganisationID string    `json:"organisation_id"`
	Name           string    `json:"name"`
	Slug           string    `json:"slug"`
	Roles          []Role    `json:"roles"`
	At             time.Time `json:"at"`
}

// EventType is the name in the log.
func (Registered) EventType() string { return "organisation.registered" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Registered{}} }

// Stream names the stream of one organisation.
func Stream(id string) string { return "organisation-" + id }

// State is what is known of an organisation. The zero State is one that does not exist.
type State struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Slug         string    `json:"slug"`
	Roles        []Role    `json:"roles"`
	RegisteredAt time.Time `json:"registered_at"`
}

// Has reports whether the organisation has the role.
func (s State) Has(role Role) bool { return slices.Contains(s.Roles, role) }

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Registered); ok {
		return State{ID: e.OrganisationID, Name: e.Name, Slug: e.Slug, Roles: e.Roles, RegisteredAt: e.At}
	}
	return s
}
