package api_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"crossbill/api/client"
)

// TestDesiredChanges has an agent told of what has changed alone, while a connection comes to its node, and leaves it.
func TestDesiredChanges(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	get := func(after int64) client.DesiredState {
		t.Helper()
		wait, changes := 0, true
		state, _, err := client.Decode[client.DesiredState](m.agent.GetDesiredState(ctx, m.nodeID,
			&client.GetDesiredStateParams{AfterRevision: &after, Changes: &changes, WaitSeconds: &wait}))
		must(t, err)
		return state
	}
	check := func(when string, after int64, since bool, connections int, gone ...string) client.DesiredState {
		t.Helper()
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // what is not waited for is told as far as it is known
			s := get(after)
			if (s.SinceRevision != nil) == since && (!since || *s.SinceRevision == after && slices.Equal(*s.Gone, append([]string{}, gone...))) &&
				len(s.Connections) == connections && (since || s.Gone == nil) {
				return s
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%s, after revision %d: %+v", when, after, s)
			}
		}
	}
	empty := check("at first", 0, false, 0).Revision
	m.order = m.place()
	_, _, err := client.Decode[client.Order](m.provider.AcceptOrder(ctx, m.order.Id, nil))
	must(t, err)
	edge := &scriptedEdge{m: m}
	edge.await(func(client.DesiredConnection) bool { return true })
	ordered := check("it is to be set up", empty, true, 1).Revision
	check("nothing new", ordered, true, 0)
	check("a revision that is yet to come", ordered+1_000_000, false, 1)

	edge.bringUp()
	m.await(m.order.ConnectionId, client.ConnectionStateProduction)
	produced := check("it is in production", ordered, true, 1).Revision
	_, _, err = client.Decode[client.Connection](m.customer.TerminateConnection(ctx, m.order.ConnectionId, nil, client.NewTermination{Reason: "moving"}))
	must(t, err)
	edge.takeDown()
	m.await(m.order.ConnectionId, client.ConnectionStateDecommissioned)
	check("it is gone", produced, true, 0, m.order.ConnectionId)
	check("it came and went", empty, true, 0, m.order.ConnectionId)
	check("all of it", 0, false, 0)
}
