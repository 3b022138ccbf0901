package connection

import (
	"errors"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// What a connection is sold as, and when its gate was closed, is told by its events alone; an earlier state sees nothing
// of what comes later.
func TestSpansAndSuspensions(t *testing.T) {
	t.Parallel()
	at, quote2, order2 := scenario.After, scenario.ID(domain.PrefixQuote, 2), scenario.ID(domain.PrefixOrder, 2)
	change := ChangeRequested{connectionID, order2, quote2, 3, 1000, true, at(20)}
	steps := []struct {
		event domain.Event
		state string
		check func(s State) bool
	}{
		{change, StateChangePending, func(s State) bool {
			return *s.Change == Change{order2, quote2, 3, 1000, true, at(20)} && s.BandwidthMbps == 100
		}},
		{ChangeAbandoned{connectionID, order2, "full", at(21)}, StateProduction, func(s State) bool { return s.Change == nil && len(s.Spans) == 1 }},
		{change, StateChangePending, func(s State) bool { return len(s.Spans) == 1 }},
		{Changed{connectionID, order2, quote2, 3, 1000, at(30)}, StateProduction, func(s State) bool {
			return s.Change == nil && s.QuoteID == quote2 && s.ListingVersion == 3 && s.BandwidthMbps == 1000 && len(s.Spans) == 2 &&
				s.Spans[0] == Span{at(8), quoteID, 1, 100} && s.Spans[1] == Span{at(30), quote2, 3, 1000}
		}},
		{SuspensionRequested{connectionID, "unpaid", at(40)}, StateProduction, func(s State) bool { return s.SuspensionRequestedAt.Equal(at(40)) && s.Suspensions == nil }},
		{Suspended{connectionID, at(41)}, StateSuspended, func(s State) bool {
			return s.SuspensionRequestedAt == nil && len(s.Suspensions) == 1 && s.Suspensions[0].From.Equal(at(41)) && s.Suspensions[0].To == nil
		}},
		{ResumptionRequested{connectionID, at(50)}, StateSuspended, func(s State) bool { return s.ResumptionRequestedAt.Equal(at(50)) }},
		{Resumed{connectionID, at(51)}, StateProduction, func(s State) bool {
			return s.ResumptionRequestedAt == nil && s.Suspensions[0].To.Equal(at(51))
		}},
		{Suspended{connectionID, at(60)}, StateSuspended, func(s State) bool { return len(s.Suspensions) == 2 && s.Suspensions[1].To == nil }},
		{TerminationScheduled{connectionID, order2, "moved", at(99), at(70)}, StateSuspended, func(s State) bool { return *s.Termination == Termination{order2, "moved", at(99)} }},
		{TerminationUnscheduled{connectionID, order2, at(71)}, StateSuspended, func(s State) bool { return s.Termination == nil }},
		{TerminationScheduled{connectionID, order2, "moved", at(99), at(72)}, StateSuspended, func(s State) bool { return s.Termination != nil }},
		{leaving, StateDecommissionRequested, func(s State) bool {
			return s.Termination == nil && s.BillingTo.Equal(at(100)) && len(s.Suspensions) == 2
		}},
	}
	history := upTo(activated)
	s := scenario.Fold(Evolve, history...)
	for n, step := range steps {
		before, was := s, scenario.JSON(t, s)
		s = Evolve(s, step.event)
		history = append(history, step.event)
		if s.State != step.state || !step.check(s) {
			t.Fatalf("step %d, %s, leads to %s", n, step.event.EventType(), scenario.JSON(t, s))
		}
		if scenario.JSON(t, before) != was {
			t.Fatalf("step %d, %s, changed the state before it", n, step.event.EventType())
		}
	}
	scenario.CheckReplay(t, Evolve, history...)
}

// As many changes as an invoice has room for, and one more only when the first of them is long enough ago.
func TestChangesAreBounded(t *testing.T) {
	t.Parallel()
	quote2, order2 := scenario.ID(domain.PrefixQuote, 2), scenario.ID(domain.PrefixOrder, 2)
	s := scenario.Fold(Evolve, upTo(activated)...)
	first := scenario.After(100)
	for n := range MaxChanges {
		at := first.Add(time.Duration(n) * time.Minute)
		ask := RequestChange{OrderID: scenario.ID(domain.PrefixOrder, 10+n), QuoteID: quote2, ListingVersion: 1, BandwidthMbps: s.BandwidthMbps, InPlace: true, At: at}
		for _, c := range []Command{ask, ConfirmChange{OrderID: ask.OrderID, At: at}} {
			decided, err := Decide(s, c)
			if err != nil {
				t.Fatalf("change %d: %v", n+1, err)
			}
			for _, e := range decided {
				s = Evolve(s, e)
			}
		}
	}
	if len(s.Spans) != MaxChanges+1 {
		t.Fatalf("%d spans", len(s.Spans))
	}
	again := RequestChange{OrderID: order2, QuoteID: quote2, ListingVersion: 1, BandwidthMbps: 300, InPlace: true, At: first.Add(ChangeWindow - time.Microsecond)}
	decided, err := Decide(s, again)
	if domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), "99 times in 32 days") || len(decided) != 0 {
		t.Errorf("one more: %v, %v", decided, err)
	}
	if refusal := new(domain.Error); !errors.As(err, &refusal) || !strings.Contains(refusal.Hint, first.Add(ChangeWindow).Format(time.RFC3339)) {
		t.Errorf("the hint does not say when: %+v", refusal)
	}
	again.At = first.Add(ChangeWindow)
	if _, err := Decide(s, again); err != nil {
		t.Errorf("later: %v", err)
	}
}
