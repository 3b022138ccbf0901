package subject

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestErasure(t *testing.T) {
	t.Parallel()
	who := Of(scenario.ID(domain.PrefixOrganisation, 1), "first")
	erase := Erase{Subject: who, By: "operator", Reason: ReasonRequest, At: scenario.Noon}
	erased := Erased{who, "operator", ReasonRequest, scenario.Noon}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "erased", When: erase, Then: []domain.Event{erased}},
		{Name: "erased again, for another reason", Given: []domain.Event{erased}, When: Erase{who, "other", ReasonMistake, scenario.After(1)}},
		{Name: "everything is wrong at once", When: Erase{}, Code: domain.Invalid, Fields: []string{"/subject", "/by", "/reason", "/at"}},
		{Name: "a reason in words", When: Erase{who, "operator", "she moved to Lisbon", scenario.Noon}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "too long", When: Erase{strings.Repeat("x", MaxSubject+1), "operator", ReasonRequest, scenario.Noon}, Code: domain.Invalid, Fields: []string{"/subject"}},
	})
	if s := scenario.Fold(Evolve, erased); s.Subject != who || s.ErasedAt == nil || !s.ErasedAt.Equal(erased.At) {
		t.Errorf("the state is %+v", s)
	}
}

// Streams of subjects are told apart, and their names hold nothing of what a subject may hold.
func TestStream(t *testing.T) {
	t.Parallel()
	a, b := Stream("org_1/ä-b\n"), Stream("org_1/a")
	if a == b || !domain.ValidID(PrefixSubject, strings.TrimPrefix(a, "subject-")) || a != Stream("org_1/ä-b\n") {
		t.Errorf("streams %s and %s", a, b)
	}
}
