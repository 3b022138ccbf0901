package connection

import (
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// A connection has one trouble at a time, which is one order's; a person answers it once it is tried no more, and only as its
// step allows.
func TestTroubles(t *testing.T) {
	t.Parallel()
	at, order2 := scenario.After, scenario.ID(domain.PrefixOrder, 2)
	retry := at(30)
	failing := func(step string, attempts, second int) StepFailed {
		return StepFailed{connectionID, orderID, step, attempts, &retry, at(second)}
	}
	stuck := func(step string, second int) StepFailed {
		return StepFailed{connectionID, orderID, step, 3, nil, at(second)}
	}
	again := at(40)
	retried := StepRetried{connectionID, orderID, StepConfirmChange, "mended", at(50)}
	ending := TerminationScheduled{connectionID, orderID, "moving", at(90), at(15)}
	scenario.Run(t, Decide, Evolve, []one{
		{Name: "fail", Given: upTo(activated), When: FailStep{orderID, StepConfirmChange, retry, at(20)}, Then: facts{failing(StepConfirmChange, 1, 20)}},
		{Name: "fail again", Given: upTo(activated, failing(StepConfirmChange, 1, 20)), When: FailStep{orderID, StepConfirmChange, again, at(31)},
			Then: facts{StepFailed{connectionID, orderID, StepConfirmChange, 2, &again, at(31)}}},
		{Name: "another step fails", Given: upTo(activated, failing(StepConfirmChange, 2, 20)), When: FailStep{orderID, StepRequestChange, again, at(31)},
			Then: facts{StepFailed{connectionID, orderID, StepRequestChange, 1, &again, at(31)}}},
		{Name: "another order's step fails", Given: upTo(activated, failing(StepConfirmChange, 1, 20)), When: FailStep{order2, StepConfirmChange, again, at(31)}},
		{Name: "fail while a person is needed", Given: upTo(activated, stuck(StepConfirmChange, 20)), When: FailStep{orderID, StepConfirmChange, again, at(31)}},
		{Name: "recover", Given: upTo(activated, failing(StepConfirmChange, 1, 20)), When: RecoverStep{orderID, at(31)}, Then: facts{StepRecovered{connectionID, orderID, StepConfirmChange, at(31)}}},
		{Name: "another order recovers", Given: upTo(activated, failing(StepConfirmChange, 1, 20)), When: RecoverStep{order2, at(31)}},

		{Name: "retry", Given: upTo(activated, stuck(StepConfirmChange, 20)), When: RetryStep{"mended", at(50)}, Then: facts{retried}},
		{Name: "retry again", Given: upTo(activated, stuck(StepConfirmChange, 20), retried), When: RetryStep{"mended", at(51)}},
		{Name: "retry again, for another reason", Given: upTo(activated, stuck(StepConfirmChange, 20), retried), When: RetryStep{"truly mended", at(51)}, Code: domain.Conflict},
		{Name: "retry what is tried by itself", Given: upTo(activated, failing(StepConfirmChange, 1, 20)), When: RetryStep{"mended", at(50)}, Code: domain.Conflict},
		{Name: "skip what can't be", Given: upTo(activated, stuck(StepConfirmChange, 20)), When: SkipStep{"burnt", at(50)}, Code: domain.Conflict},
		{Name: "skip a removal: it was closed when billing stopped", Given: upTo(leaving, stuck(StepAwaitRemoval, 110)), When: SkipStep{"burnt", at(120)},
			Then: facts{StepSkipped{connectionID, orderID, StepAwaitRemoval, "burnt", at(120)}, EdgeClosed{connectionID, at(100), at(120)}}},
		{Name: "roll back a termination", Given: upTo(activated, ending, stuck(StepRequestTermination, 95)), When: RollBackStep{"no way", at(96)},
			Then: facts{StepRolledBack{connectionID, orderID, StepRequestTermination, "no way", at(96)}, TerminationUnscheduled{connectionID, orderID, at(96)}}},
		{Name: "roll back the termination of an order that has ended", Given: upTo(activated, stuck(StepRequestTermination, 95)), When: RollBackStep{"no way", at(96)}, Code: domain.Conflict},
		{Name: "take a termination back that has come to pass", Given: upTo(activated, ending, DecommissionRequested{connectionID, "moving", at(90), at(90), orderID}),
			When: UnscheduleTermination{orderID, at(96)}, Code: domain.Conflict},
		{Name: "end before the last change", Given: upTo(activated, ChangeRequested{connectionID, order2, quoteID, 1, 200, true, at(60)}, Changed{connectionID, order2, quoteID, 1, 200, at(70)}),
			When: ScheduleTermination{orderID, "moving", at(65), at(64)}, Code: domain.Invalid, Fields: []string{"/effective_at"}},
	})

	s := scenario.Fold(Evolve, upTo(activated, failing(StepConfirmChange, 1, 20), failing(StepConfirmChange, 2, 31), stuck(StepConfirmChange, 40))...)
	if tr := s.Trouble; !tr.Since.Equal(at(20)) || tr.Attempts != 3 || tr.State != TroubleOperator || s.RollsBack() != orderID {
		t.Errorf("the trouble is %+v, of %q", tr, s.RollsBack())
	}
	if s = Evolve(s, retried); s.Trouble.Attempts != 0 || s.Trouble.State != TroubleError || !s.Trouble.Since.Equal(at(20)) {
		t.Errorf("retried it is %+v", s.Trouble)
	}
	if s := scenario.Fold(Evolve, upTo(leaving, stuck(StepAwaitRemoval, 110), closed)...); s.Trouble != nil {
		t.Errorf("removed after all it is %+v", s.Trouble)
	}
	move := MoveRequested{connectionID, scenario.ID(domain.PrefixPort, 3), providerPort, "maintenance", at(20)}
	if s := scenario.Fold(Evolve, upTo(activated, move, stuck(StepStartRebuild, 25))...); s.RollsBack() != "" || !slices.Contains(s.Actions(), ActionRollBack) {
		t.Errorf("a move that is rolled back fails the order %q, and of it can be done %v", s.RollsBack(), s.Actions())
	}
}
