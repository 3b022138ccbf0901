// Package subject is the people that personal texts in events are about, and their erasure.
//
// A subject is known by a pseudonym and by nothing else: erasing one leaves the pseudonym in the log for good, so it must
// not be a name, a mail address or anything else that tells who somebody is. How texts are encrypted and keys are kept is
// no business of this package. Start reading at [Of], then [Decide].
package subject

import (
	"time"

	"crossbill/domain"
)

// The reasons for an erasure. They are a closed set because the log keeps them for good: a free text might itself say
// something about the person.
const (
	ReasonRequest   = "request"   // the person, or the person's organisation, asked
	ReasonRetention = "retention" // the time for which the data may be kept is over
	ReasonObjection = "objection" // consent was withdrawn, or the processing objected to
	ReasonMistake   = "mistake"   // it should not have been recorded
	ReasonOrder     = "order"     // a court or an authority
)

// MaxSubject is the longest subject, in characters.
const MaxSubject = 200

// PrefixSubject begins the identifier that is derived from a subject, which may hold anything, for its stream's name.
const PrefixSubject = "sub"

// Of returns the subject that a principal of an organisation is. An organisation's identifier has no slash in it, so two
// principals never have the same one.
func Of(organisationID, principalID string) string { return organisationID + "/" + principalID }

// Erased says that a subject's keys are destroyed: what was recorded about it can't be read again.
type Erased struct {
	Subject string    `json:"subject"`
	By      string    `json:"by"` // a key's id, or "operator" for who runs the platform's commands
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// EventType is the name in the log.
func (Erased) EventType() string { return "subject.erased" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Erased{}} }

// Stream names the stream of one subject. It has an event if and only if the subject is erased.
func Stream(subject string) string {
	return "subject-" + domain.DeriveID(PrefixSubject, time.Unix(0, 0), subject)
}

// State is what is known of a subject: nothing, until it is erased.
type State struct {
	Subject  string     `json:"subject"`
	ErasedAt *time.Time `json:"erased_at,omitempty"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Erased); ok {
		return State{Subject: e.Subject, ErasedAt: &e.At}
	}
	return s
}
