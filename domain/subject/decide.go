package subject

import (
	"time"

	"crossbill/domain"
)

// Command is what can be asked about a subject.
type Command interface{ command() }

// Erase asks that a subject be erased. Erasing an erased subject does nothing.
type Erase struct {
	Subject string
	By      string
	Reason  string
	At      time.Time
}

func (Erase) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields. Whether there is
// such a subject is known to who keeps its keys.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "subject.Decide"
	switch c := c.(type) {
	case Erase:
		var p domain.Problems
		p.Text("/subject", c.Subject, MaxSubject)
		p.Text("/by", c.By, MaxSubject)
		p.OneOf("/reason", c.Reason, ReasonRequest, ReasonRetention, ReasonObjection, ReasonMistake, ReasonOrder)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.ErasedAt != nil {
			return nil, nil
		}
		return []domain.Event{Erased{Subject: c.Subject, By: c.By, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
