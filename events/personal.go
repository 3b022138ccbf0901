package events

import (
	"context"
	"fmt"

	"crossbill/domain"
	"crossbill/domain/subject"
	"crossbill/events/vault"
)

// Personal texts are sealed before an event is encoded, so what is stored and hashed is the ciphertext, and opened after it
// is decoded. [Recorded.Data] stays as it was hashed. What leaves the log as Data (the event list of the API, Watermill,
// bundles) is therefore sealed, and an erasure reaches every copy of it.

// seal returns the append with its personal texts sealed, and which of its subjects are erased. Their texts are replaced
// by [domain.Erased]: such an append can't be recorded, only be found to have been.
//
// It returns an Internal error if the log has no vault: texts of persons must never be recorded in clear, because nothing
// can take them back.
func (l *Log) seal(ctx context.Context, a Append) (Append, vault.Ring, error) {
	subjects, err := personalSubjects(a)
	if err != nil || len(subjects) == 0 {
		return a, nil, err
	}
	if l.options.Vault == nil {
		return a, nil, domain.Errorf(domain.Internal, "events.Append", "the append has personal texts, and the log has no key vault").
			WithHint("give the log a vault (events.Options)")
	}
	ring, err := l.options.Vault.ForWriting(ctx, subjects)
	if err != nil {
		return a, nil, err
	}
	sealed := Append{Ask: a.Ask, Streams: make([]StreamAppend, len(a.Streams))}
	for i, s := range a.Streams {
		sealed.Streams[i] = StreamAppend{s.Stream, s.Expected, append([]NewEvent(nil), s.Events...)}
		for j := range sealed.Streams[i].Events {
			if err := l.sealEvent(&sealed.Streams[i].Events[j], ring); err != nil {
				return a, nil, err
			}
		}
	}
	for _, s := range subjects {
		if ring.Erased(s) {
			return sealed, ring, nil
		}
	}
	return sealed, nil, nil
}

// personalSubjects lists whom an append has texts about, each once.
func personalSubjects(a Append) (subjects []string, err error) {
	var seen map[string]bool
	for _, s := range a.Streams {
		for _, e := range s.Events {
			p, ok := e.Event.(domain.Personal)
			if !ok {
				continue
			}
			p.MapPersonal(func(f domain.PersonalField) string {
				switch {
				case f.Text == "" || seen[f.Subject]:
				case f.Subject == "" || f.Name == "":
					err = domain.Errorf(domain.Internal, "events.Append", "%s has a personal text without a subject or a name", p.EventType())
				default:
					if seen == nil {
						seen = make(map[string]bool)
					}
					seen[f.Subject] = true
					subjects = append(subjects, f.Subject)
				}
				return f.Text
			})
		}
	}
	return subjects, err
}

// sealEvent seals the texts of one event. It needs an id for that; an event that has none gets it here.
func (l *Log) sealEvent(e *NewEvent, ring vault.Ring) (err error) {
	p, ok := e.Event.(domain.Personal)
	if !ok {
		return nil
	}
	if e.ID == ([16]byte{}) {
		if e.ID, err = domain.NewEventID(l.options.Clock(), l.options.Random); err != nil {
			return err
		}
	}
	e.Event = p.MapPersonal(func(f domain.PersonalField) string {
		if f.Text == "" {
			return "" // hides nothing
		}
		if ring.Erased(f.Subject) {
			return domain.Erased
		}
		sealed, failed := ring.Seal(vault.Place{EventID: e.ID, EventType: p.EventType(), Field: f})
		if failed != nil {
			err = failed
		}
		return sealed
	})
	return err
}

// sameBut reports, for an event of erased subjects, whether a recorded payload is that event but for the texts about
// them, which nobody can compare any more.
func sameBut(codec *Codec, erased vault.Ring, eventType string, schema int, ours []byte) func(recorded []byte) bool {
	return func(recorded []byte) bool {
		e, err := codec.Decode(eventType, schema, recorded)
		p, ok := e.(domain.Personal)
		if err != nil || !ok {
			return false
		}
		_, _, blanked, err := codec.Encode(p.MapPersonal(func(f domain.PersonalField) string {
			if f.Text != "" && erased.Erased(f.Subject) {
				return domain.Erased
			}
			return f.Text
		}))
		return err == nil && string(blanked) == string(ours)
	}
}

// withErased marks an append that has texts about erased subjects.
func (p *pending) withErased(codec *Codec, erased vault.Ring) {
	if erased == nil {
		return
	}
	p.refused = true
	for _, s := range p.streams {
		for i := range s.events {
			e := &s.events[i]
			e.sameBut = sameBut(codec, erased, e.eventType, e.schema, e.payload)
		}
	}
}

// erasedSubject is the Conflict error for an append of new texts about somebody who is erased.
func erasedSubject(op string) *domain.Error {
	return domain.Errorf(domain.Conflict, op, "the event has texts about a person who was erased").
		WithHint("an erasure is final; know the person by a new identifier")
}

// reveal opens the personal texts of a page of events. If one can't be opened because it was changed, it returns the events
// before it, or the error if there are none.
func (l *Log) reveal(ctx context.Context, page []Recorded) ([]Recorded, error) {
	ring, personal, err := l.ringFor(ctx, page)
	if err != nil {
		return nil, err
	}
	if !personal {
		return page, nil
	}
	unreadable := 0
	for i := range page {
		r := &page[i]
		p, ok := r.Event.(domain.Personal)
		if !ok {
			continue
		}
		r.Event = p.MapPersonal(func(f domain.PersonalField) string {
			if f.Text == "" {
				return ""
			}
			text, failed := ring.Open(vault.Place{EventID: r.ID, EventType: r.Type, Field: f})
			if failed != nil && err == nil {
				err = failed
			}
			if text == domain.Unreadable {
				unreadable++
			}
			return text
		})
		if err != nil && i > 0 {
			return page[:i], nil // the next call begins with it and says so
		}
		if err != nil {
			return nil, undecodable(r, err)
		}
	}
	if unreadable > 0 {
		l.options.Logger.Warn("events: personal texts can't be read, because their keys are not in the vault; see crossbill keys restore",
			"texts", unreadable, "from", page[0].Position, "to", page[len(page)-1].Position)
	}
	return page, nil
}

// ringFor reports whether a page has texts about anybody, and returns the keys of all those; without a vault, none. Keys
// of those whose erasure the page tells of are asked for again.
func (l *Log) ringFor(ctx context.Context, page []Recorded) (ring vault.Ring, personal bool, err error) {
	var subjects []string
	var seen map[string]bool
	for i := range page {
		switch e := page[i].Event.(type) {
		case subject.Erased:
			if l.options.Vault != nil {
				l.options.Vault.Forget(e.Subject)
			}
		case domain.Personal:
			e.MapPersonal(func(f domain.PersonalField) string {
				if f.Text != "" && !seen[f.Subject] {
					if seen == nil {
						seen = make(map[string]bool)
					}
					seen[f.Subject] = true
					subjects = append(subjects, f.Subject)
				}
				return f.Text
			})
		}
	}
	if len(subjects) == 0 || l.options.Vault == nil {
		return nil, len(subjects) > 0, nil
	}
	ring, err = l.options.Vault.ForReading(ctx, subjects)
	return ring, true, err
}

// undecodable is the error of a read that comes to an event it can't return.
func undecodable(r *Recorded, err error) error {
	return domain.Errorf(domain.Internal, "events.Read", "the event at position %d, version %d of stream %s, stops the reading: %w",
		r.Position, r.Version, r.Stream, fmt.Errorf("%w: %w", ErrUndecodable, err)).
		WithHint("run a version of crossbill that knows the type %s, schema %d", r.Type, r.Schema)
}
