package exchangerate

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
	set := func(rate string, from time.Time) SetRate {
		return SetRate{"EUR", "USD", dec(rate), "ECB", from, noon}
	}
	old := Set{"EUR", "USD", 1, dec("1.0956"), "ECB", noon.Add(-40 * day), noon.Add(-40 * day)}
	newer := Set{"EUR", "USD", 2, dec("1.0957"), "ECB", noon, noon}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "first", When: set("1.0956", noon.Add(-9000*day)), Then: []domain.Event{Set{"EUR", "USD", 1, dec("1.0956"), "ECB", noon.Add(-9000 * day), noon}}},
		{Name: "next", Given: []domain.Event{old}, When: set("1.0957", noon), Then: []domain.Event{newer}},
		{Name: "again", Given: []domain.Event{old, newer}, When: set("1.09570", noon)},
		{Name: "late", Given: []domain.Event{old}, When: set("1.0957", noon.Add(-31*day)), Then: []domain.Event{Set{"EUR", "USD", 2, dec("1.0957"), "ECB", noon.Add(-31 * day), noon}}},
		{Name: "too late", Given: []domain.Event{old}, When: set("1.0957", noon.Add(-32*day)), Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "before what is in force", Given: []domain.Event{newer}, When: set("1.1", noon.Add(-day)), Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "nothing is right", When: SetRate{}, Code: domain.Invalid, Fields: []string{"/base", "/quote", "/quote", "/rate", "/source", "/at", "/effective_from"}},
		{Name: "of nothing", When: set("0", noon), Code: domain.Invalid, Fields: []string{"/rate"}},
		{Name: "below nothing", When: set("-1", noon), Code: domain.Invalid, Fields: []string{"/rate"}},
		{Name: "too exact", When: set("1.0000000000001", noon), Code: domain.Invalid, Fields: []string{"/rate"}},
		{Name: "too much", When: set("1000000001", noon), Code: domain.Invalid, Fields: []string{"/rate"}},
		{Name: "in itself", When: SetRate{"EUR", "EUR", dec("1"), "ECB", noon, noon}, Code: domain.Invalid, Fields: []string{"/quote"}},
		{Name: "no command", When: nil, Code: domain.Internal},
	})

	s := scenario.Fold(Evolve, old, newer)
	for at, want := range map[time.Time]int{noon.Add(-40*day - time.Microsecond): 0, noon.Add(-time.Microsecond): 1, noon: 2} {
		if v, ok := s.InForce(at); v.Version != want || ok != (want > 0) {
			t.Errorf("at %s version %d is in force, not %d", at, v.Version, want)
		}
	}
	v, _ := s.InForce(noon)
	exact := v.Convert(dec("614.43")) // 614.43 × 1.0957 = 673.230951
	if m, err := domain.RoundMoney(exact, "USD"); exact.String() != "673.230951" || err != nil || m.String() != "673.23 USD" {
		t.Errorf("614.43 EUR are %s, billed %s (%v)", exact, m, err)
	}
}
