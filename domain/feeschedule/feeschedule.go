// Package feeschedule is the platform's own price, published in versions that never change.
//
// It never touches a provider's price. Start reading at [State], then [Decide].
package feeschedule

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// Published says what the platform charges from a time on.
type Published struct {
	FeeScheduleID string    `json:"fee_schedule_id"`
	Version       int       `json:"version"` // counts from 1
	BasisPoints   int       `json:"basis_points"`
	EffectiveFrom time.Time `json:"effective_from"`
	At            time.Time `json:"at"`
	pricing.FeeTerms
}

// EventType is the name in the log.
func (Published) EventType() string { return "fee_schedule.published" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Published{}} }

// Stream names the stream of one fee schedule.
func Stream(id string) string { return "fee_schedule-" + id }

// Version is a published version of a fee schedule.
type Version struct {
	FeeScheduleID string    `json:"fee_schedule_id"`
	Version       int       `json:"version"`
	BasisPoints   int       `json:"basis_points"`
	EffectiveFrom time.Time `json:"effective_from"`
	pricing.FeeTerms
}

// Schedule returns what the fee is computed with.
func (v Version) Schedule() pricing.FeeSchedule {
	return pricing.FeeSchedule{BasisPoints: v.BasisPoints, FeeTerms: v.FeeTerms}
}

// State is every version of a fee schedule. The zero State is one that does not exist.
type State struct {
	ID       string    `json:"id"`
	Versions []Version `json:"versions"` // version n is element n-1
}

// InForce returns the version that is in force at a time: the newest that is effective by then.
func (s State) InForce(at time.Time) (Version, bool) {
	for i := len(s.Versions) - 1; i >= 0; i-- {
		if !s.Versions[i].EffectiveFrom.After(at) {
			return s.Versions[i], true
		}
	}
	return Version{}, false
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Published); ok {
		s.ID = e.FeeScheduleID
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Versions = append(s.Versions[:len(s.Versions):len(s.Versions)],
			Version{e.FeeScheduleID, e.Version, e.BasisPoints, e.EffectiveFrom, e.FeeTerms})
	}
	return s
}
