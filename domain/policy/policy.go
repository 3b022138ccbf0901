// Package policy is the platform's own rules of the market, which operators switch as events: whether listings are
// reviewed before they are published.
//
// It never looks back: what was published under an earlier rule stays published. Start reading at [State], then [Decide].
package policy

import (
	"time"

	"crossbill/domain"
)

// Changed says which rules hold from now on.
type Changed struct {
	ListingReview bool      `json:"listing_review"` // an operator looks at every version before it is published
	By            string    `json:"by"`             // the operator's key
	At            time.Time `json:"at"`
}

// EventType is the name in the log.
func (Changed) EventType() string { return "market_policy.changed" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Changed{}} }

// Stream is the platform's one policy.
const Stream = "market_policy-crossbill"

// State is the rules in force. The zero State is that of a platform that never said anything: nothing is reviewed.
type State struct {
	ListingReview bool      `json:"listing_review"`
	ChangedAt     time.Time `json:"changed_at,omitzero"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Changed); ok {
		return State{ListingReview: e.ListingReview, ChangedAt: e.At}
	}
	return s
}

// Command is what can be asked of the policy.
type Command interface{ command() }

// Change says which rules shall hold. The same rules again do nothing.
type Change struct {
	ListingReview bool
	By            string
	At            time.Time
}

func (Change) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "policy.Decide"
	switch c := c.(type) {
	case Change:
		var p domain.Problems
		p.Check(c.By != "", "/by", "must be given")
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.ListingReview == c.ListingReview {
			return nil, nil
		}
		return []domain.Event{Changed{ListingReview: c.ListingReview, By: c.By, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
