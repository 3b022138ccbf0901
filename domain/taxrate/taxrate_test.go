package taxrate

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	noon := scenario.Noon
	dec := domain.MustDecimal
	set := func(percent string, from time.Time) SetRate { return SetRate{"DE", "S", dec(percent), "", from, noon} }
	was := func(version int, percent string, from time.Time) Set {
		return Set{"DE", "S", version, dec(percent), "", from, noon.Add(-100 * day)}
	}
	is := func(version int, percent string, from time.Time) Set {
		return Set{"DE", "S", version, dec(percent), "", from, noon}
	}
	old, next := was(1, "16", noon.Add(-90*day)), was(2, "19", noon.Add(10*day))
	given := []domain.Event{old, next}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "first, of long ago", When: set("19", noon.Add(-7000*day)), Then: []domain.Event{is(1, "19", noon.Add(-7000*day))}},
		{Name: "none in force yet", Given: []domain.Event{next}, When: set("20", noon), Then: []domain.Event{is(2, "20", noon)}},
		{Name: "to come", Given: given, When: set("20", noon.Add(20*day)), Then: []domain.Event{is(3, "20", noon.Add(20*day))}},
		{Name: "replaced before it is in force", Given: given, When: set("20", noon.Add(10*day)), Then: []domain.Event{is(3, "20", noon.Add(10*day))}},
		{Name: "the same again", Given: given, When: set("19.0", noon.Add(10*day))},
		{Name: "recorded late", Given: given, When: set("17", noon.Add(-31*day)), Then: []domain.Event{is(3, "17", noon.Add(-31*day))}},
		{Name: "recorded too late", Given: given, When: set("17", noon.Add(-32*day)), Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "in force since the same time", Given: []domain.Event{was(1, "16", noon)}, When: set("17", noon), Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "nothing is right", When: SetRate{}, Code: domain.Invalid, Fields: []string{"/country", "/category", "/percent", "/reason", "/at", "/effective_from"}},
		{Name: "more than all", When: set("100.0001", noon), Code: domain.Invalid, Fields: []string{"/percent"}},
		{Name: "too exact", When: set("19.00001", noon), Code: domain.Invalid, Fields: []string{"/percent"}},
		{Name: "nothing in S", When: set("0", noon), Code: domain.Invalid, Fields: []string{"/percent"}},
		{Name: "something in Z", When: SetRate{"DE", "Z", dec("1"), "", noon, noon}, Code: domain.Invalid, Fields: []string{"/percent"}},
		{Name: "a reason in S", When: SetRate{"DE", "S", dec("1"), "why", noon, noon}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "no reason in AE", When: SetRate{"DE", "AE", dec("0"), "", noon, noon}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "reverse charge", When: SetRate{"DE", "AE", dec("0"), "Reverse charge", noon, noon}, Then: []domain.Event{Set{"DE", "AE", 1, dec("0"), "Reverse charge", noon, noon}}},
		{Name: "no command", When: nil, Code: domain.Internal},
	})

	s := scenario.Fold(Evolve, old, next, is(3, "20", noon.Add(20*day)), is(4, "21", noon.Add(15*day)))
	for at, want := range map[time.Time]int{
		noon.Add(-91 * day): 0, noon.Add(-90 * day): 1, noon.Add(10*day - time.Microsecond): 1, noon.Add(10 * day): 2, noon.Add(15 * day): 4, noon.Add(90 * day): 4,
	} {
		if v, ok := s.InForce(at); v.Version != want || ok != (want > 0) {
			t.Errorf("at %s version %d is in force, not %d", at, v.Version, want)
		}
	}
}
