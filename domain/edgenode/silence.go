package edgenode

import (
	"time"

	"crossbill/domain"
)

// SilentAfter is how long nothing may be heard of a node's agent before the node counts as silent. An agent asks for its
// desired state at least every half minute; one that is restarted, or upgraded, is back well before.
const SilentAfter = 3 * time.Minute

// Why a silence ended.
const (
	EndHeard     = "heard"     // the agent was heard again
	EndUnwatched = "unwatched" // the platform itself was away, so that nobody can tell how long it lasted
)

// FellSilent says that nothing was heard of the node's agent after Since, for longer than [SilentAfter].
type FellSilent struct {
	EdgeNodeID string    `json:"edge_node_id"`
	Since      time.Time `json:"since"` // the last word, or when the platform began to listen
	At         time.Time `json:"at"`
}

// Heard says that a silence is over.
type Heard struct {
	EdgeNodeID string    `json:"edge_node_id"`
	Since      time.Time `json:"since"` // of the silence
	Until      time.Time `json:"until"` // the first word after it, or when the platform ceased to listen
	End        string    `json:"end"`   // [EndHeard] or [EndUnwatched]
	At         time.Time `json:"at"`
}

// EventType is the name in the log.
func (FellSilent) EventType() string { return "edge_node.fell_silent" }

// EventType is the name in the log.
func (Heard) EventType() string { return "edge_node.heard" }

// NoteSilence records that nothing was heard of the node. While a silence lasts another does nothing.
type NoteSilence struct {
	Since time.Time
	At    time.Time
}

// NoteHeard ends a silence. It does nothing when there is none.
type NoteHeard struct {
	Until time.Time
	End   string
	At    time.Time
}

func (NoteSilence) command() {}
func (NoteHeard) command()   {}

func (c NoteSilence) decide(op string, s State) ([]domain.Event, error) {
	since := domain.Instant(c.Since)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/since", c.Since)
	p.Check(c.At.Sub(c.Since) > SilentAfter, "/since", "must be more than %s ago", SilentAfter)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.SilentSince != nil || s.SilentUntil != nil && since.Before(*s.SilentUntil) {
		return nil, nil // it lasts, or is over
	}
	return []domain.Event{FellSilent{EdgeNodeID: s.ID, Since: since, At: domain.Instant(c.At)}}, nil
}

func (c NoteHeard) decide(op string, s State) ([]domain.Event, error) {
	until := domain.Instant(c.Until)
	var p domain.Problems
	p.OneOf("/end", c.End, EndHeard, EndUnwatched)
	p.Time("/at", c.At)
	p.Time("/until", c.Until)
	p.Check(!until.After(c.At.Add(domain.MaxClockSkew)), "/until", "must not be in the future")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.SilentSince == nil {
		return nil, nil
	}
	if until.Before(*s.SilentSince) {
		p.Add("/until", "must not be before the silence began, %s", s.SilentSince.Format(time.RFC3339))
		return nil, p.Err(op)
	}
	return []domain.Event{Heard{EdgeNodeID: s.ID, Since: *s.SilentSince, Until: until, End: c.End, At: domain.Instant(c.At)}}, nil
}

// withSilence is the part of [Evolve] about silences.
func (s State) withSilence(e domain.Event) State {
	switch e := e.(type) {
	case FellSilent:
		s.SilentSince = &e.Since
	case Heard:
		s.SilentSince, s.SilentUntil = nil, &e.Until
	}
	return s
}
