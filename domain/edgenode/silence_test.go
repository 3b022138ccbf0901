package edgenode

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestSilence(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixEdgeNode, 1)
	after := func(minutes int) time.Time { return scenario.Noon.Add(time.Duration(minutes) * time.Minute) }
	registered := Registered{EdgeNodeID: id, Name: "pop-1", Metro: "Amsterdam", Facility: "First hall", ASN: 64500, RouterID: "192.0.2.1", At: scenario.Noon}
	silent := FellSilent{EdgeNodeID: id, Since: after(10), At: after(14)}
	heard := Heard{EdgeNodeID: id, Since: after(10), Until: after(30), End: EndHeard, At: after(31)}
	over := []domain.Event{registered, silent, heard}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "silent", Given: []domain.Event{registered}, When: NoteSilence{after(10), after(14)}, Then: []domain.Event{silent}},
		{Name: "not for long enough", Given: []domain.Event{registered}, When: NoteSilence{after(10), after(13)}, Code: domain.Invalid, Fields: []string{"/since"}},
		{Name: "of no node", When: NoteSilence{after(10), after(14)}, Code: domain.NotFound},
		{Name: "silent already", Given: []domain.Event{registered, silent}, When: NoteSilence{after(11), after(20)}},
		{Name: "heard", Given: []domain.Event{registered, silent}, When: NoteHeard{after(30), EndHeard, after(31)}, Then: []domain.Event{heard}},
		{Name: "heard again", Given: over, When: NoteHeard{after(32), EndHeard, after(32)}},
		{Name: "that silence again", Given: over, When: NoteSilence{after(10), after(40)}},
		{Name: "the next silence", Given: over, When: NoteSilence{after(30), after(40)}, Then: []domain.Event{FellSilent{EdgeNodeID: id, Since: after(30), At: after(40)}}},
		{Name: "heard before it was silent", Given: []domain.Event{registered, silent}, When: NoteHeard{after(9), EndHeard, after(31)}, Code: domain.Invalid, Fields: []string{"/until"}},
		{Name: "heard in the future", Given: []domain.Event{registered, silent}, When: NoteHeard{after(60), EndHeard, after(31)}, Code: domain.Invalid, Fields: []string{"/until"}},
		{Name: "ended somehow", Given: []domain.Event{registered, silent}, When: NoteHeard{after(30), "somehow", after(31)}, Code: domain.Invalid, Fields: []string{"/end"}},
		{Name: "unwatched at once", Given: []domain.Event{registered, silent}, When: NoteHeard{after(10), EndUnwatched, after(31)},
			Then: []domain.Event{Heard{EdgeNodeID: id, Since: after(10), Until: after(10), End: EndUnwatched, At: after(31)}}},
	})
}
