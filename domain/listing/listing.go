// Package listing is a provider's service on the market: drafted, reviewed where the platform wants that, published in
// versions that never change, retired.
//
// It never knows who bought: a quote freezes the version it was made from. Start reading at [State], then [Decide]; what
// a listing offers is in terms.go.
package listing

import (
	"time"

	"crossbill/domain"
)

// States of a listing.
const (
	StateDraft     = "draft"     // only its provider sees it
	StateSubmitted = "submitted" // never published yet, and before an operator
	StatePublished = "published" // on the market; a newer draft, or one that was submitted, may stand beside what is published
	StateRetired   = "retired"   // off the market for good; what was sold goes on
)

// Drafted says what the next version will offer. A later draft replaces it.
type Drafted struct {
	ListingID  string    `json:"listing_id"`
	ProviderID string    `json:"provider_id"`
	Terms      Terms     `json:"terms"`
	At         time.Time `json:"at"`
}

// Submitted says that the provider wants the draft published.
type Submitted struct {
	ListingID     string    `json:"listing_id"`
	EffectiveFrom time.Time `json:"effective_from,omitzero"` // when it is to be in force; zero: as soon as it is published
	At            time.Time `json:"at"`
}

// Rejected says that an operator will not have what was submitted on the market as it is. It is a draft again.
type Rejected struct {
	ListingID string    `json:"listing_id"`
	Reason    string    `json:"reason"`
	By        string    `json:"by"` // the key of the operator
	At        time.Time `json:"at"`
}

// DraftDiscarded says that the provider wants what it drafted last, submitted or not, no more beside what is published.
type DraftDiscarded struct {
	ListingID string    `json:"listing_id"`
	At        time.Time `json:"at"`
}

// Published says what is offered from a time on.
type Published struct {
	ListingID     string    `json:"listing_id"`
	ProviderID    string    `json:"provider_id"`
	Version       int       `json:"version"` // counts from 1
	Terms         Terms     `json:"terms"`
	EffectiveFrom time.Time `json:"effective_from,omitzero"` // zero: At
	ApprovedBy    string    `json:"approved_by,omitempty"`   // the key of the operator who reviewed it, if one did
	At            time.Time `json:"at"`
}

// InForceFrom returns when the version comes into force.
func (e Published) InForceFrom() time.Time {
	if e.EffectiveFrom.IsZero() {
		return e.At
	}
	return e.EffectiveFrom
}

// Retired says that the listing is off the market for good.
type Retired struct {
	ListingID string    `json:"listing_id"`
	At        time.Time `json:"at"`
}

// EventType is the name in the log.
func (Drafted) EventType() string { return "listing.drafted" }

// EventType is the name in the log.
func (Submitted) EventType() string { return "listing.submitted" }

// EventType is the name in the log.
func (Rejected) EventType() string { return "listing.rejected" }

// EventType is the name in the log.
func (DraftDiscarded) EventType() string { return "listing.draft_discarded" }

// EventType is the name in the log.
func (Published) EventType() string { return "listing.published" }

// EventType is the name in the log.
func (Retired) EventType() string { return "listing.retired" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Drafted{}, Submitted{}, Rejected{}, DraftDiscarded{}, Published{}, Retired{}}
}

// Stream names the stream of one listing.
func Stream(id string) string { return "listing-" + id }

// Submission is a draft before an operator.
type Submission struct {
	EffectiveFrom time.Time `json:"effective_from,omitzero"` // zero: as soon as it is published
	At            time.Time `json:"at"`
}

// Rejection is an operator's last no.
type Rejection struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// State is a listing with all its versions. The zero State is one that does not exist.
type State struct {
	ID            string      `json:"id"`
	ProviderID    string      `json:"provider_id"`
	State         string      `json:"state"`
	Version       int         `json:"version"`              // the newest published version; 0 before the first
	Draft         *Terms      `json:"draft,omitempty"`      // what would be published next, or would have been; nil when nothing is drafted since
	Submission    *Submission `json:"submission,omitempty"` // of the draft; nil while the provider may still think about it
	Rejection     *Rejection  `json:"rejection,omitempty"`  // until the draft is submitted again, discarded or published
	Versions      []Terms     `json:"versions"`             // version n is element n-1
	EffectiveFrom []time.Time `json:"effective_from"`       // of the versions, likewise
}

// TermsOf returns the terms of a published version, in force or not.
func (s State) TermsOf(version int) (Terms, bool) {
	if version < 1 || version > len(s.Versions) {
		return Terms{}, false
	}
	return s.Versions[version-1], true
}

// InForce returns the number of the version that is in force at a time: the newest that is effective by then. It is 0
// while the first is not, and when the listing is retired.
func (s State) InForce(at time.Time) int {
	if s.State != StatePublished {
		return 0
	}
	for n := len(s.Versions); n > 0; n-- {
		if !s.EffectiveFromOf(n).After(at) {
			return n
		}
	}
	return 0
}

// EffectiveFromOf returns when a published version comes into force.
func (s State) EffectiveFromOf(version int) time.Time {
	if version > len(s.EffectiveFrom) {
		return time.Time{}
	}
	return s.EffectiveFrom[version-1]
}

// OnOffer returns the version, and its terms, that an organisation may buy at a time. ok is false when there is none, or
// none that it may know of.
func (s State) OnOffer(organisationID string, at time.Time) (version int, terms Terms, ok bool) {
	if version = s.InForce(at); version == 0 {
		return 0, Terms{}, false
	}
	terms = s.Versions[version-1]
	return version, terms, terms.VisibleTo(organisationID) || organisationID == s.ProviderID
}

// Shown returns the terms of a version if an organisation that is not the provider may see them at a time: they were
// offered to it by then. A version that another took the place of before it came into force was never offered to anybody.
func (s State) Shown(version int, organisationID string, at time.Time) (Terms, bool) {
	terms, ok := s.TermsOf(version)
	from := s.EffectiveFromOf(max(version, 1))
	if !ok || s.State == StateRetired || from.After(at) || !terms.VisibleTo(organisationID) {
		return Terms{}, false
	}
	for later := version + 1; later <= len(s.Versions); later++ {
		if !s.EffectiveFromOf(later).After(from) {
			return Terms{}, false
		}
	}
	return terms, true
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Drafted: // a new draft takes back what was submitted
		s.ID, s.ProviderID, s.Draft, s.Submission = e.ListingID, e.ProviderID, &e.Terms, nil
		if s.State == "" || s.State == StateSubmitted {
			s.State = StateDraft
		}
	case Submitted:
		s.Submission, s.Rejection = &Submission{e.EffectiveFrom, e.At}, nil
		if s.State == StateDraft {
			s.State = StateSubmitted
		}
	case Rejected:
		s.Submission, s.Rejection = nil, &Rejection{e.Reason, e.At}
		if s.State == StateSubmitted {
			s.State = StateDraft
		}
	case DraftDiscarded:
		s.Draft, s.Submission, s.Rejection = nil, nil, nil
	case Published:
		s.State, s.Version, s.Draft, s.Submission, s.Rejection = StatePublished, e.Version, nil, nil, nil
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Versions = append(s.Versions[:len(s.Versions):len(s.Versions)], e.Terms)
		s.EffectiveFrom = append(s.EffectiveFrom[:len(s.EffectiveFrom):len(s.EffectiveFrom)], e.InForceFrom())
	case Retired:
		s.State, s.Submission, s.Rejection = StateRetired, nil, nil
		if s.Version > 0 {
			s.Draft = nil // of one that was never published it is all that tells what it was
		}
	}
	return s
}
