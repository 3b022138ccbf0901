package feeschedule

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/pricing"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	id, at := scenario.ID(domain.PrefixFeeSchedule, 1), scenario.Noon
	usd := func(minor int64) []domain.Money { return []domain.Money{{Minor: minor, Currency: "USD"}} }
	terms := pricing.FeeTerms{Floors: usd(1), Caps: usd(2), FreeConnections: 3, FreePassthrough: usd(4)}
	crossed := pricing.FeeTerms{Floors: usd(2), Caps: usd(1)}
	first := Published{id, 1, 300, at, at, pricing.FeeTerms{}}
	second := Published{id, 2, 250, at.Add(time.Hour), at, pricing.FeeTerms{}}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "first", When: Publish{FeeScheduleID: id, BasisPoints: 300, At: at}, Then: []domain.Event{first}},
		{Name: "second, from later on", Given: []domain.Event{first}, When: Publish{id, 250, at.Add(time.Hour), at, pricing.FeeTerms{}}, Then: []domain.Event{second}},
		{Name: "no fee", When: Publish{id, 0, at, at, pricing.FeeTerms{}}, Then: []domain.Event{Published{id, 1, 0, at, at, pricing.FeeTerms{}}}},
		{Name: "all of it", When: Publish{id, MaxBasisPoints, at, at, pricing.FeeTerms{}}, Then: []domain.Event{Published{id, 1, MaxBasisPoints, at, at, pricing.FeeTerms{}}}},
		{Name: "more than all", When: Publish{id, MaxBasisPoints + 1, at, at, pricing.FeeTerms{}}, Code: domain.Invalid, Fields: []string{"/basis_points"}},
		{Name: "negative", When: Publish{id, -1, at, at, pricing.FeeTerms{}}, Code: domain.Invalid, Fields: []string{"/basis_points"}},
		{Name: "backwards in time", When: Publish{id, 1, at.Add(-time.Second), at, pricing.FeeTerms{}}, Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "before the version it follows", Given: []domain.Event{first, second}, When: Publish{id, 1, at.Add(time.Minute), at.Add(time.Minute), pricing.FeeTerms{}},
			Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "another schedule", Given: []domain.Event{first}, When: Publish{scenario.ID(domain.PrefixFeeSchedule, 2), 1, at, at, pricing.FeeTerms{}},
			Code: domain.Invalid, Fields: []string{"/fee_schedule_id"}},
		{Name: "with bounds and a free tier", When: Publish{id, 300, at, at, terms}, Then: []domain.Event{Published{id, 1, 300, at, at, terms}}},
		{Name: "with bounds that cross", When: Publish{id, 300, at, at, crossed}, Code: domain.Invalid, Fields: []string{"/caps/0"}},
		{Name: "nothing given", When: Publish{}, Code: domain.Invalid, Fields: []string{"/fee_schedule_id", "/at"}},
	})

	s := scenario.Fold(Evolve, first, second)
	for _, c := range []struct {
		at   time.Time
		want int
	}{{at.Add(-1), 0}, {at, 1}, {at.Add(time.Hour - 1), 1}, {at.Add(time.Hour), 2}, {at.Add(9999 * time.Hour), 2}} {
		if got, ok := s.InForce(c.at); got.Version != c.want || ok != (c.want > 0) {
			t.Errorf("at %s version %d is in force, want %d", c.at, got.Version, c.want)
		}
	}
	// Two successors of one state do not see each other's version, though its slice has room for both.
	s = Evolve(s, Published{id, 3, 200, at, at, pricing.FeeTerms{}})
	one, other := Evolve(s, Published{id, 4, 1, at, at, pricing.FeeTerms{}}), Evolve(s, Published{id, 4, 2, at, at, pricing.FeeTerms{}})
	if one.Versions[3].BasisPoints != 1 || other.Versions[3].BasisPoints != 2 {
		t.Error("two states share their versions")
	}
}
