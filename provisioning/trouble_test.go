package provisioning

import (
	"context"
	"errors"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
)

// A step whose append happened, though its answer was lost, has not failed: neither party is to read that something is
// amiss, nor an operator that a person is needed.
func TestNoTroubleOfAStepThatWasTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &faulty{next: w.log, kind: after}
	l := w.line(f)
	l.d = l.place(wish{at: l.clock})
	taken := func(step StepKind, meanwhile func()) {
		t.Helper()
		f.at = f.calls + 1
		_, failed := l.p.advance(t.Context(), AdvanceArgs{OrderID: l.d.order})
		var of *stepError
		if !errors.As(failed, &of) || of.step.Kind != step {
			t.Fatalf("the step %s did not fail: %v", step, failed)
		}
		meanwhile()
		kept, err := l.p.report(t.Context(), failed)
		if _, c := l.states(l.d); kept || err != nil || c.Trouble != nil || l.obstacle(l.d.order) != "" {
			t.Errorf("%s was taken, and is told as %+v, because %q (%v)", step, c.Trouble, l.obstacle(l.d.order), err)
		}
	}
	taken(AcceptOrder, func() {})
	for range 2 { // the allocation and the start of the tests
		f.at = -1
		if _, err := l.p.advance(t.Context(), AdvanceArgs{OrderID: l.d.order}); err != nil {
			t.Fatal(err)
		}
	}
	l.collect()
	l.edge.failProbes = 1
	if _, err := l.tick(); err != nil { // BGP comes up
		t.Fatal(err)
	}
	// The first probe was asked for, and is answered before the failure is written down: by then there is a second to ask for.
	taken(RequestProbe, func() {
		l.collect()
		if _, err := l.tick(); err != nil {
			t.Fatal(err)
		}
		l.clock = l.clock.Add(DefaultProbePause)
		o, c := l.states(l.d)
		if next := Next(o, c, l.clock, l.p.policy); next.Kind != RequestProbe || next.Attempt != 2 {
			t.Fatalf("the next step is %+v", next)
		}
	})
}

// What an edge node does not do in time is told once the trouble of another order on the connection is over, and never in its
// place: that one's operator would look for the wrong thing.
func TestAWaitDoesNotReplaceAnothersTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &faulty{next: w.log}
	l := w.line(f)
	l.d = l.place(wish{at: l.clock})
	l.settle(false)
	f.kind, f.at = lasting, f.calls+1
	reorder(400, listing.ApprovalAutomatic)(l)
	l.run(AdvanceArgs{OrderID: l.more[0]})
	_, c := l.states(l.d)
	trouble := c.Trouble
	if trouble == nil || trouble.OrderID != l.more[0] || trouble.State != connection.TroubleError {
		t.Fatalf("the trouble is %+v", trouble)
	}
	suspend(l)
	l.clock = l.clock.Add(l.p.policy.EdgeWithin)
	for _, state := range []string{connection.TroubleError, connection.TroubleOperator} {
		_, err := l.p.advance(t.Context(), AdvanceArgs{OrderID: l.d.order})
		if domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("with a trouble of another order (%s) the wait came to %v", state, err)
		}
		if kept, err := l.p.report(t.Context(), err); kept || err != nil {
			t.Errorf("the wait was told: %v", err)
		}
		if _, c := l.states(l.d); c.Trouble.OrderID != l.more[0] || c.Trouble.Step != trouble.Step || c.Trouble.State != state {
			t.Errorf("the trouble is %+v", c.Trouble)
		}
		for range 2 { // a person is needed for the change now
			l.run(AdvanceArgs{OrderID: l.more[0]})
		}
	}
	f.stuck = ""
	l.commandOrder(deal{order: l.more[0], connection: l.d.connection}, order.Fail{Reason: "no way", At: l.clock})
	l.commandConnection(l.d, connection.RollBackStep{Reason: "no way", At: l.clock})
	if _, err := l.p.advance(context.Background(), AdvanceArgs{OrderID: l.d.order}); err != nil {
		t.Fatal(err)
	}
	if _, c := l.states(l.d); c.Trouble == nil || c.Trouble.OrderID != l.d.order || c.Trouble.Step != connection.StepAwaitSuspension {
		t.Errorf("the wait is told as %+v", c.Trouble)
	}
}
