package availability_test

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/internal/scenario"
)

// A month is settled once, and only when it is over; what was settled of it is not what a part of it came to.
func TestSettle(t *testing.T) {
	t.Parallel()
	connectionID, quote1, quote2 := scenario.ID(domain.PrefixConnection, 1), scenario.ID(domain.PrefixQuote, 1), scenario.ID(domain.PrefixQuote, 2)
	ten, hundred := domain.MustDecimal("10"), domain.MustDecimal("100")
	credits := []availability.Credit{{QuoteID: quote1, Below: domain.MustDecimal("99.9"), Percent: ten}, {QuoteID: quote2, Below: hundred, Percent: hundred}}
	settled := func(change func(s *availability.Settled)) availability.Settled {
		s := availability.Settled{ConnectionID: connectionID, PeriodStart: march.From, PeriodEnd: march.To, InScope: 100, Down: 10, Credits: credits, LogPosition: 1, At: march.To}
		if change != nil {
			change(&s)
		}
		return s
	}
	whole := settled(nil)
	none := settled(func(s *availability.Settled) { s.Credits = []availability.Credit{} })
	next := settled(func(s *availability.Settled) { s.PeriodStart, s.PeriodEnd, s.At = april.From, april.To, april.To })
	refused := func(name string, change func(s *availability.Settled), fields ...string) scenario.Case[availability.Settle] {
		return scenario.Case[availability.Settle]{Name: name, When: availability.Settle{Settled: settled(change)}, Code: domain.Invalid, Fields: fields}
	}
	scenario.Run(t, availability.DecideMonths, availability.EvolveMonths, []scenario.Case[availability.Settle]{
		{Name: "a month", When: availability.Settle{Settled: whole}, Then: []domain.Event{whole}},
		{Name: "kept promises", When: availability.Settle{Settled: settled(func(s *availability.Settled) { s.Credits = nil })}, Then: []domain.Event{none}},
		{Name: "again", Given: []domain.Event{whole}, When: availability.Settle{Settled: whole}},
		{Name: "again, otherwise: the first stands", Given: []domain.Event{whole}, When: availability.Settle{Settled: settled(func(s *availability.Settled) { s.Down = 99 })}},
		{Name: "the next one", Given: []domain.Event{whole}, When: availability.Settle{Settled: next}, Then: []domain.Event{next}},
		{Name: "half of a settled one", Given: []domain.Event{whole}, When: availability.Settle{Settled: settled(func(s *availability.Settled) { s.PeriodEnd = on(15, 0, 0, 0) })},
			Code: domain.Invalid, Fields: []string{"/period_start"}},
		refused("half a month", func(s *availability.Settled) { s.PeriodEnd = on(15, 0, 0, 0) }, "/period_start"),
		refused("two months", func(s *availability.Settled) { s.PeriodEnd, s.At = april.To, april.To }, "/period_start"),
		refused("before it is over", func(s *availability.Settled) { s.At = march.To.Add(-time.Microsecond) }, "/at"),
		refused("at no time", func(s *availability.Settled) { s.At = time.Time{} }, "/at", "/at"),
		refused("down for longer than in scope", func(s *availability.Settled) { s.Down = s.InScope + 1 }, "/seconds_down"),
		refused("down for less than nothing", func(s *availability.Settled) { s.Down = -1 }, "/seconds_down"),
		refused("of no log", func(s *availability.Settled) { s.LogPosition = 0 }, "/log_position"),
		refused("two credits under one quote", func(s *availability.Settled) { s.Credits = []availability.Credit{credits[0], credits[0]} }, "/credits/1/quote_id"),
		refused("a credit of nothing, and of more than all", func(s *availability.Settled) {
			s.Credits = []availability.Credit{{QuoteID: quote1}, {QuoteID: quote2, Percent: domain.MustDecimal("100.01")}}
		}, "/credits/0/percent", "/credits/1/percent"),
		refused("of nobody", func(s *availability.Settled) {
			s.ConnectionID, s.Credits = "x", []availability.Credit{{QuoteID: "y", Percent: ten}}
		}, "/connection_id", "/credits/0/quote_id"),
	})
}

// What keeps a connection from being up while nothing is sold of it is nobody's matter, and not kept.
func TestEvolve_NothingSold(t *testing.T) {
	t.Parallel()
	before := append(production(on(11, 0, 0, 0))[:7], down(on(10, 0, 0, 0)), up(on(10, 1, 0, 0)))
	after := append(production(on(11, 0, 0, 0)), connection.DecommissionRequested{ConnectionID: con, EffectiveAt: on(12, 0, 0, 0), At: on(12, 0, 0, 0)},
		down(on(12, 0, 0, 0)), up(on(12, 0, 1, 0)), down(on(12, 0, 2, 0)), connection.EdgeClosed{ConnectionID: con, ClosedAt: on(12, 0, 3, 0), At: on(12, 0, 4, 0)})
	for name, all := range map[string][]domain.Event{"before production": before, "after billing": after} {
		if s := fold(all); len(s.Ended) != 0 {
			t.Errorf("%s: %+v", name, s.Ended)
		}
	}
	last := append(production(on(11, 0, 0, 0)), down(on(11, 23, 0, 0)), connection.DecommissionRequested{ConnectionID: con, EffectiveAt: on(12, 0, 0, 0), At: on(12, 0, 0, 0)}, up(on(12, 0, 1, 0)))
	if s := fold(last); len(s.Ended) != 1 {
		t.Errorf("across the end of billing: %+v", s.Ended)
	}
}
