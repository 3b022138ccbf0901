package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

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
		s := get(after)
		if (s.SinceRevision != nil) != since || since && (*s.SinceRevision != after || !slices.Equal(*s.Gone, append([]string{}, gone...))) ||
			len(s.Connections) != connections || !since && s.Gone != nil {
			t.Fatalf("%s, after revision %d: %+v", when, after, s)
		}
		return s
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

// TestDesiredStateIsWhole has an agent ask while the read model is behind the log: it is told to ask again, and not what there is.
func TestDesiredStateIsWhole(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	ask := func(after int64) (status int, problem client.Problem, state client.DesiredState) {
		t.Helper()
		status, problem, body := m.do(m.agentKey, "GET", fmt.Sprintf("/v1/edge-nodes/%s/desired-state?changes=true&after_revision=%d", m.nodeID, after), nil)
		if status == http.StatusOK {
			must(t, json.Unmarshal(body, &state))
		}
		return status, problem, state
	}
	_, _, before := ask(0)
	tx, err := m.pool.Begin(ctx)
	must(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, "SELECT FROM subscriptions WHERE name = 'connections' FOR UPDATE") // as another process would that runs the model, and is stuck
	must(t, err)
	_, _, err = client.Decode[client.EdgeNode](m.operator.CreateEdgeNode(ctx, nil, newEdgeNode()))
	must(t, err)
	for _, after := range []int64{0, before.Revision} {
		if status, problem, state := ask(after); status != http.StatusServiceUnavailable || !problem.Retryable {
			t.Errorf("after %d: %d %+v, %+v", after, status, problem, state)
		}
	}
	must(t, tx.Rollback(ctx))
	for _, after := range []int64{0, before.Revision} {
		if status, problem, state := ask(after); status != http.StatusOK || state.Revision != before.Revision || before.Revision == 0 {
			t.Errorf("after %d: %d %+v, revision %d, want %d", after, status, problem, state.Revision, before.Revision)
		}
	}
}
