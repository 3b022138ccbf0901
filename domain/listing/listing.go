// Package listing is a provider's service on the market: drafted, published in versions that never change, retired.
//
// It never knows who bought: a quote freezes the version it was made from. Start reading at [State], then [Decide].
package listing

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// States of a listing.
const (
	StateDraft     = "draft"     // only its provider sees it
	StatePublished = "published" // on the market; a newer draft may stand beside what is published
	StateRetired   = "retired"   // off the market for good; what was sold goes on
)

// Ways to approve an order.
const (
	ApprovalAutomatic = "automatic" // the provider accepts every order beforehand
	ApprovalManual    = "manual"    // the provider answers each order
)

// BGPTerms is the provider's side of the sessions.
type BGPTerms = domain.BGP

// Terms is what a listing offers.
type Terms struct {
	Title          string       `json:"title"`
	Description    string       `json:"description"`
	Category       string       `json:"category"`
	PortID         string       `json:"port_id"`
	Metro          string       `json:"metro"`
	BandwidthsMbps []int        `json:"bandwidths_mbps"`
	Approval       string       `json:"approval"`
	BGP            BGPTerms     `json:"bgp"`
	Plan           pricing.Plan `json:"plan"`
}

// Drafted says what the next version will offer. A later draft replaces it.
type Drafted struct {
	ListingID  string    `json:"listing_id"`
	ProviderID string    `json:"provider_id"`
	Terms      Terms     `json:"terms"`
	At         time.Time `json:"at"`
}

// Published says what is offered from now on.
type Published struct {
	ListingID  string    `json:"listing_id"`
	ProviderID string    `json:"provider_id"`
	Version    int       `json:"version"` // counts from 1
	Terms      Terms     `json:"terms"`
	At         time.Time `json:"at"`
}

// Retired says that the listing is off the market for good.
type Retired struct {
	ListingID string    `json:"listing_id"`
	At        time.Time `json:"at"`
}

// EventType is the name in the log.
func (Drafted) EventType() string { return "listing.drafted" }

// EventType is the name in the log.
func (Published) EventType() string { return "listing.published" }

// EventType is the name in the log.
func (Retired) EventType() string { return "listing.retired" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Drafted{}, Published{}, Retired{}} }

// Stream names the stream of one listing.
func Stream(id string) string { return "listing-" + id }

// State is a listing with all its versions. The zero State is one that does not exist.
type State struct {
	ID         string  `json:"id"`
	ProviderID string  `json:"provider_id"`
	State      string  `json:"state"`
	Version    int     `json:"version"`         // the newest published version; 0 before the first
	Draft      *Terms  `json:"draft,omitempty"` // what would be published next; nil when nothing is drafted since
	Versions   []Terms `json:"versions"`        // version n is element n-1
}

// TermsOf returns the terms of a published version.
func (s State) TermsOf(version int) (Terms, bool) {
	if version < 1 || version > len(s.Versions) {
		return Terms{}, false
	}
	return s.Versions[version-1], true
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Drafted:
		s.ID, s.ProviderID, s.Draft = e.ListingID, e.ProviderID, &e.Terms
		if s.State == "" {
			s.State = StateDraft
		}
	case Published:
		s.State, s.Version, s.Draft = StatePublished, e.Version, nil
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Versions = append(s.Versions[:len(s.Versions):len(s.Versions)], e.Terms)
	case Retired:
		s.State, s.Draft = StateRetired, nil
	}
	return s
}
