// Package webhook is where an organisation wants to be told what happens: an address, what of its events it wants to hear,
// and the secret that it knows us by.
//
// It never sends anything and does not know what was sent: that is delivery, not decision. Start reading at [State], then
// [Decide]; which addresses may be sent to is in address.go.
package webhook

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// The states of a webhook. Deleted is final.
const (
	StateEnabled  = "enabled"
	StateDisabled = "disabled" // by hand, or because it failed for too long; nothing is sent, and nothing is lost
	StateDeleted  = "deleted"
)

// Why a webhook was disabled.
const (
	ReasonRequest = "request" // somebody asked
	ReasonFailing = "failing" // every attempt failed for too long
	ReasonGone    = "gone"    // the target answered 410 Gone
)

// Target is what an organisation says of a webhook.
type Target struct {
	URL         string   `json:"url"`
	Types       []string `json:"types"` // patterns: an event type, a noun with ".*", or "*"
	Description string   `json:"description,omitempty"`
}

// Created says that events past a position are to be sent.
type Created struct {
	WebhookID      string    `json:"webhook_id"`
	OrganisationID string    `json:"organisation_id"`
	Target         Target    `json:"target"`
	Secret         string    `json:"secret"` // sealed in the log
	After          int64     `json:"after"`
	At             time.Time `json:"at"`
}

// Updated says that a webhook has another target from now on.
type Updated struct {
	WebhookID string    `json:"webhook_id"`
	Target    Target    `json:"target"`
	At        time.Time `json:"at"`
}

// SecretRotated says that what is sent is signed with another secret, and until a time with the one before it too.
type SecretRotated struct {
	WebhookID      string    `json:"webhook_id"`
	OrganisationID string    `json:"organisation_id"`
	Secret         string    `json:"secret"` // sealed in the log
	PreviousUntil  time.Time `json:"previous_until"`
	At             time.Time `json:"at"`
}

// Disabled says that nothing more is sent.
type Disabled struct {
	WebhookID string    `json:"webhook_id"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail,omitempty"` // of the last attempt
	At        time.Time `json:"at"`
}

// Enabled says that sending goes on where it stopped.
type Enabled struct {
	WebhookID string    `json:"webhook_id"`
	At        time.Time `json:"at"`
}

// Rewound says that everything past a position is to be sent again.
type Rewound struct {
	WebhookID string    `json:"webhook_id"`
	After     int64     `json:"after"`
	At        time.Time `json:"at"`
}

// DeadLetterReplayed says that one event, which could not be delivered, is to be tried again.
type DeadLetterReplayed struct {
	WebhookID string    `json:"webhook_id"`
	Position  int64     `json:"position"`
	At        time.Time `json:"at"`
}

// Deleted says that a webhook is no more.
type Deleted struct {
	WebhookID string    `json:"webhook_id"`
	At        time.Time `json:"at"`
}

// EventType is the name in the log.
func (Created) EventType() string { return "webhook.created" }

// EventType is the name in the log.
func (Updated) EventType() string { return "webhook.updated" }

// EventType is the name in the log.
func (SecretRotated) EventType() string { return "webhook.secret_rotated" }

// EventType is the name in the log.
func (Disabled) EventType() string { return "webhook.disabled" }

// EventType is the name in the log.
func (Enabled) EventType() string { return "webhook.enabled" }

// EventType is the name in the log.
func (Rewound) EventType() string { return "webhook.rewound" }

// EventType is the name in the log.
func (DeadLetterReplayed) EventType() string { return "webhook.dead_letter_replayed" }

// EventType is the name in the log.
func (Deleted) EventType() string { return "webhook.deleted" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{Created{}, Updated{}, SecretRotated{}, Disabled{}, Enabled{}, Rewound{}, DeadLetterReplayed{}, Deleted{}}
}

// MapPersonal maps the secret, so that the log has it sealed.
func (e Created) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	e.Secret = f(secretField(e.OrganisationID, e.WebhookID, e.Secret))
	return e
}

// MapPersonal maps the secret, so that the log has it sealed.
func (e SecretRotated) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	e.Secret = f(secretField(e.OrganisationID, e.WebhookID, e.Secret))
	return e
}

// secretField treats the secret as a text about a person: it is sealed under a key of the webhook's own.
func secretField(organisationID, webhookID, secret string) domain.PersonalField {
	return domain.PersonalField{Subject: subject.Of(organisationID, webhookID), Name: "secret", Text: secret}
}

// Stream names the stream of one webhook.
func Stream(id string) string { return "webhook-" + id }

// State is what is known of a webhook. The zero State is one that does not exist. Its secrets are in no JSON.
type State struct {
	ID             string    `json:"id"`
	OrganisationID string    `json:"organisation_id"`
	Target         Target    `json:"target"`
	State          string    `json:"state"`
	Reason         string    `json:"reason,omitempty"` // why it is disabled
	Detail         string    `json:"detail,omitempty"`
	CreatedAt      time.Time `json:"created_at"`
	PreviousUntil  time.Time `json:"previous_until,omitzero"`
	Secret         string    `json:"-"`
	Previous       string    `json:"-"` // the secret before it
}

// Secrets returns what is to be signed with at a time, the newest first.
func (s State) Secrets(at time.Time) []string {
	if s.Previous != "" && at.Before(s.PreviousUntil) {
		return []string{s.Secret, s.Previous}
	}
	return []string{s.Secret}
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Created:
		return State{ID: e.WebhookID, OrganisationID: e.OrganisationID, Target: e.Target, State: StateEnabled, CreatedAt: e.At, Secret: e.Secret}
	case Updated:
		s.Target = e.Target
	case SecretRotated:
		s.Secret, s.Previous, s.PreviousUntil = e.Secret, s.Secret, e.PreviousUntil
	case Disabled:
		s.State, s.Reason, s.Detail = StateDisabled, e.Reason, e.Detail
	case Enabled:
		s.State, s.Reason, s.Detail = StateEnabled, "", ""
	case Deleted:
		s.State, s.Secret, s.Previous = StateDeleted, "", ""
	}
	return s
}
