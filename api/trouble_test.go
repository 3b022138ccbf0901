package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain/connection"
	"crossbill/events"
	"crossbill/provisioning"
)

func init() { operationLists = append(operationLists, troubleOperations) }

func troubleOperations(m *market) []operation {
	con := "/v1/connections/" + m.order.ConnectionId
	return []operation{
		{"retryConnection", "POST", con + ":retry", m.operatorKey, client.Reason{Reason: "mended"}},
		{"skipConnectionStep", "POST", con + ":skip", m.operatorKey, client.Reason{Reason: "it burnt down"}},
		{"rollBackConnection", "POST", con + ":rollback", m.operatorKey, client.Reason{Reason: "no way"}},
	}
}

// fail records what a saga records of a step that failed; with next zero a person is needed.
func (m *market) fail(o client.Order, step, detail string, next time.Time) {
	m.t.Helper()
	ctx := context.Background()
	c, version, err := events.Load(ctx, m.log, connection.Stream(o.ConnectionId), connection.Evolve)
	must(m.t, err)
	decided, err := connection.Decide(c, connection.FailStep{OrderID: o.Id, Step: step, NextRetryAt: next, At: time.Now()})
	must(m.t, err)
	a := events.StreamAppend{Stream: connection.Stream(c.ID), Expected: events.ExpectedVersion(version)}
	for _, e := range decided {
		a.Events = append(a.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Actor: "system", Parties: []string{c.CustomerID, c.ProviderID}}})
	}
	_, err = m.log.Append(ctx, events.Append{Streams: []events.StreamAppend{a}})
	must(m.t, err)
	if _, err := m.pool.Exec(ctx, `INSERT INTO order_obstacles VALUES ($1, $2) ON CONFLICT DO NOTHING`, o.Id, detail); err != nil {
		m.t.Fatal(err)
	}
}

// sagasAtRest waits until the sagas have looked at all that is in the log: the order that was just placed is looked at once,
// and what a test records before that is taken for done.
func (m *market) sagasAtRest() {
	m.t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var rest bool
		err := m.pool.QueryRow(context.Background(), `
			SELECT NOT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running', 'retryable'))
			   AND EXISTS (SELECT FROM subscriptions WHERE name = $1 AND position >= $2)`, provisioning.ProjectionName, m.head()).Scan(&rest)
		must(m.t, err)
		if rest {
			return
		}
		if time.Since(began) > time.Minute {
			m.t.Fatal("the sagas are still at work")
		}
	}
}

// TestTrouble goes through a step that fails: what each party is told, what an operator finds and can do, and what it can't.
func TestTrouble(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	placed := m.place()
	m.sagasAtRest()
	path := "/v1/connections/" + placed.ConnectionId
	needs := client.ListConnectionsParamsNeedsOperator
	listed := func(by *client.Client) bool {
		position := int64(m.head())
		found, _, err := client.Decode[client.ConnectionPage](by.ListConnections(ctx, &client.ListConnectionsParams{Needs: &needs, AtPosition: &position}))
		must(t, err)
		return slices.ContainsFunc(found.Items, func(c client.Connection) bool { return c.Id == placed.ConnectionId })
	}
	refused := func(what string) {
		t.Helper()
		status, p, _ := m.do(m.operatorKey, "POST", path+what, client.Reason{Reason: "why not"})
		if status != http.StatusConflict || p.Hint == nil {
			t.Errorf("%s answered %d: %+v", what, status, p)
		}
	}

	for _, action := range []string{":retry", ":skip", ":rollback"} {
		refused(action)
	}
	m.fail(placed, connection.StepAcceptOrder, "disk 7 is full", time.Now().Add(time.Hour))
	m.sagasAtRest()
	for _, action := range []string{":retry", ":skip", ":rollback"} {
		refused(action)
	}
	if listed(m.operator) {
		t.Error("a step that is tried by itself is said to need an operator")
	}
	m.fail(placed, connection.StepAcceptOrder, "disk 7 is full", time.Time{})
	if !listed(m.operator) {
		t.Error("operators don't find it")
	}
	for who, by := range map[string]*client.Client{"operator": m.operator, "customer": m.customer, "provider": m.provider} {
		c, _, err := client.Decode[client.Connection](by.GetConnection(ctx, placed.ConnectionId))
		must(t, err)
		tr := c.Trouble
		if tr == nil || tr.State != client.TroubleStateOperator || tr.Attempts != 2 || tr.Step != connection.StepAcceptOrder || tr.NextRetryAt != nil {
			t.Fatalf("the %s reads %+v", who, tr)
		}
		told := tr.Actions != nil && slices.Equal(*tr.Actions, []client.TroubleActions{client.TroubleActionsRetry, client.TroubleActionsRollback}) &&
			tr.Detail != nil && *tr.Detail == "disk 7 is full"
		if told != (by == m.operator) || by != m.operator && (tr.Actions != nil || tr.Detail != nil) {
			t.Errorf("the %s is told what can be done: %v, and why: %v", who, tr.Actions, tr.Detail)
		}
		if !slices.ContainsFunc(c.Status, func(s client.StatusMessage) bool { return s.Tag == client.StatusMessageTagTrouble }) {
			t.Errorf("the %s reads %+v", who, c.Status)
		}
	}
	refused(":skip")
	for _, key := range []string{m.customerKey, m.providerKey} {
		if status, _, _ := m.do(key, "POST", path+":retry", client.Reason{Reason: "please"}); status != http.StatusForbidden {
			t.Errorf("a party's retry answered %d", status)
		}
	}

	again, _, err := client.Decode[client.Connection](m.operator.RetryConnection(ctx, placed.ConnectionId, nil, client.Reason{Reason: "the disk is empty"}))
	must(t, err)
	if tr := again.Trouble; tr != nil && tr.State != client.TroubleStateError {
		t.Errorf("tried again, it is %+v", tr)
	}
	recovered := func() client.Connection {
		t.Helper()
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			c, _, err := client.Decode[client.Connection](m.customer.GetConnection(ctx, placed.ConnectionId))
			must(t, err)
			if c.Trouble == nil || time.Since(began) > time.Minute {
				return c
			}
		}
	}
	if c := recovered(); c.Trouble != nil || c.State != client.ConnectionStateRequested {
		t.Errorf("the order waits for its provider, and the connection is %s with %+v", c.State, c.Trouble)
	}

	m.fail(placed, connection.StepAcceptOrder, "disk 7 is full", time.Time{})
	_, _, err = client.Decode[client.Connection](m.operator.RollBackConnection(ctx, placed.ConnectionId, nil, client.Reason{Reason: "the disk is lost"}))
	must(t, err)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, _, err := client.Decode[client.Connection](m.customer.GetConnection(ctx, placed.ConnectionId))
		must(t, err)
		if c.State == client.ConnectionStateCancelled {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("rolled back, it is %s with %+v", c.State, c.Trouble)
		}
	}
	o, _, err := client.Decode[client.Order](m.customer.GetOrder(ctx, placed.Id))
	must(t, err)
	if o.State != client.OrderStateFailed || valueOf(o.Reason) != "the disk is lost" {
		t.Errorf("rolled back, the order is %s: %v", o.State, o.Reason)
	}
	refused(":retry")

	var told []string
	page, _, err := client.Decode[client.Timeline](m.customer.GetConnectionTimeline(ctx, placed.ConnectionId, nil))
	must(t, err)
	for _, e := range page.Items {
		if strings.Contains(e.Type, ".step_") {
			told = append(told, e.Sentence)
			if strings.Contains(e.Sentence, "disk 7") || e.Actor.ApiKeyId != nil {
				t.Errorf("the customer reads %+v", e)
			}
		}
	}
	if all := strings.Join(told, "\n"); !strings.Contains(all, "can't go on by itself (accept_order)") || !strings.Contains(all, "tried again (accept_order): the disk is empty") ||
		!strings.Contains(all, "has it undone (accept_order): the disk is lost") {
		t.Errorf("the timeline says:\n%s", all)
	}
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
