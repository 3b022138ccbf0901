// Package location is the places where edge nodes stand: a facility in a metro.
//
// It never says what is there: edge nodes name their location, ports are on edge nodes, listings are of ports. Start
// reading at [State], then [Decide].
package location

import (
	"strings"
	"time"

	"crossbill/domain"
)

// Registered says that the platform is, or will be, at a place.
type Registered struct {
	LocationID  string    `json:"location_id"`
	Name        string    `json:"name"`     // of the facility
	Metro       string    `json:"metro"`    // the city or market
	Country     string    `json:"country"`  // ISO 3166-1 alpha-2
	Facility    string    `json:"facility"` // its address or code, as people find it
	PeeringDBID int       `json:"peeringdb_id,omitempty"`
	At          time.Time `json:"at"`
}

// EventType is the name in the log.
func (Registered) EventType() string { return "location.registered" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Registered{}} }

// Stream names the stream of one location.
func Stream(id string) string { return "location-" + id }

// State is what is known of a location. The zero State is one that does not exist.
type State struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Metro        string    `json:"metro"`
	Country      string    `json:"country"`
	Facility     string    `json:"facility"`
	PeeringDBID  int       `json:"peeringdb_id,omitempty"`
	RegisteredAt time.Time `json:"registered_at"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Registered); ok {
		return State{
			ID: e.LocationID, Name: e.Name, Metro: e.Metro, Country: e.Country, Facility: e.Facility, PeeringDBID: e.PeeringDBID,
			RegisteredAt: e.At,
		}
	}
	return s
}

// SameMetro reports whether two names are of one metro: case does not tell metros apart.
func SameMetro(a, b string) bool { return strings.EqualFold(a, b) }
