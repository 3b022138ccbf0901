package projections_test

import (
	"context"
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/projections"
)

// TestOrdersOf_Stuck lists the orders that the platform had to move on before a minute: in any state but a final one, and
// not those that wait for somebody, or for the date that their connection is to end at.
func TestOrdersOf_Stuck(t *testing.T) {
	t.Parallel()
	const now = 5000 // in minutes; whoever is asked has 1440
	b := newBench(t)
	orders := []struct {
		what  string
		since int // when it was placed
		item  string
		rest  func(o, con string, n int) []domain.Event
		ends  func(o, con string, n int) domain.Event // the connection
		stuck bool
	}{
		{what: "was never begun", since: now - 1, stuck: true, rest: none},
		{what: "is to be begun", since: now, rest: none},
		{what: "is being carried out", since: now - 1, stuck: true, rest: accepted},
		{what: "was accepted now", since: now, rest: accepted},
		{what: "is being undone", since: now - 1, stuck: true, rest: func(o, con string, n int) []domain.Event {
			return append(accepted(o, con, n), order.CancellationRequested{OrderID: o, Reason: "changed plans", At: at(n)})
		}},
		{what: "failed", since: 1, rest: func(o, _ string, n int) []domain.Event {
			return []domain.Event{order.Failed{OrderID: o, Reason: "no VLAN", At: at(n)}}
		}},
		{what: "is completed", since: 1, rest: func(o, con string, n int) []domain.Event {
			return append(accepted(o, con, n), order.Completed{OrderID: o, At: at(n)})
		}},
		{what: "waits for its provider", since: now - 1440},
		{what: "was not answered by its provider", since: now - 1441, stuck: true},
		{what: "waits for its customer", since: now - 1441, rest: asked(now)},
		{what: "was not answered by its customer", since: now - 1441, rest: asked(now - 1), stuck: true},
		{what: "ends at a date", since: 1, item: order.ItemRemove, rest: accepted, ends: scheduled(now)},
		{what: "ended before at a date", since: 1, item: order.ItemRemove, rest: accepted, ends: scheduled(now - 1), stuck: true},
		{what: "ends at the end of another", since: 1, item: order.ItemRemove, rest: accepted, stuck: true, ends: func(_, con string, n int) domain.Event {
			return scheduled(now)(id("ord", 99), con, n)
		}},
		{what: "is being ended since its date", since: 1, item: order.ItemRemove, rest: accepted, ends: decommissioned(now)},
		{what: "is being ended for long", since: 1, item: order.ItemRemove, rest: accepted, ends: decommissioned(now - 1), stuck: true},
	}
	var want []string
	for i, o := range orders {
		n := i + 1
		orderID, con, p := id("ord", n), id("con", n), placed(n, acme, cloudCo)
		p.At, p.Deadline, p.Item = at(o.since), at(o.since+1440), o.item
		if o.rest == nil || o.what == "waits for its customer" || o.what == "was not answered by its customer" {
			p.Approval = listing.ApprovalManual
		} else {
			p.Approval = listing.ApprovalAutomatic
		}
		events := []domain.Event{p}
		if o.rest != nil {
			events = append(events, o.rest(orderID, con, o.since)...)
		}
		b.record("order-"+orderID, events...)
		if o.ends != nil {
			b.record("connection-"+con, requested(n, acme, cloudCo), allocated(n, node), testingStarted(n), activated(n, at(0)), o.ends(orderID, con, n))
		}
		if o.stuck {
			want = append(want, o.what)
		}
	}
	check := func(when string) {
		t.Helper()
		for name, viewer := range map[string]projections.Viewer{"an operator": projections.Operator(), "the customer": projections.Party(acme)} {
			q := projections.Queries{DB: projections.Door{Pool: b.pool}}
			found, _, err := q.OrdersOf(projections.Viewing(t.Context(), viewer), viewer, projections.OrderFilter{StuckSince: at(now)}, 100, "")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, o := range orders {
				if slices.ContainsFunc(found, func(s order.State) bool { return s.ID == id("ord", i+1) }) {
					got = append(got, o.what)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s is told of those that\n%q, want\n%q", when, name, got, want)
			}
		}
	}
	b.project()
	check("at first")
	b.rebuildAll()
	check("after a rebuild")
}

func none(string, string, int) []domain.Event { return nil }

func accepted(o, _ string, n int) []domain.Event {
	return []domain.Event{order.Accepted{OrderID: o, By: "system", At: at(n)}}
}

// asked has the provider ask, for an answer by a minute.
func asked(by int) func(o, con string, n int) []domain.Event {
	return func(o, _ string, n int) []domain.Event {
		return []domain.Event{order.QuestionAsked{OrderID: o, Number: 1, Question: "Which rack?", AnswerBy: at(by), At: at(n)}}
	}
}

func scheduled(to int) func(o, con string, n int) domain.Event {
	return func(o, con string, n int) domain.Event {
		return connection.TerminationScheduled{ConnectionID: con, OrderID: o, Reason: "moving", EffectiveAt: at(to), At: at(n)}
	}
}

func decommissioned(to int) func(o, con string, n int) domain.Event {
	return func(o, con string, n int) domain.Event {
		return connection.DecommissionRequested{ConnectionID: con, OrderID: o, Reason: "moving", EffectiveAt: at(to), At: at(n)}
	}
}

// TestOrderObstacle: what stood in an order's way is shown to operators, whoever its parties are.
func TestOrderObstacle(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.record("order-"+id("ord", 1), placed(1, acme, cloudCo))
	b.project()
	b.exec(`INSERT INTO order_obstacles VALUES ($1, 'the port is full')`, id("ord", 1))
	q := projections.Queries{DB: projections.Door{Pool: b.pool}}
	for name, c := range map[string]struct {
		ctx     context.Context
		orderID string
		want    string
	}{
		"an operator":                {projections.Viewing(t.Context(), projections.Operator()), id("ord", 1), "the port is full"},
		"an operator, another order": {projections.Viewing(t.Context(), projections.Operator()), id("ord", 2), ""},
		"the customer":               {projections.Viewing(t.Context(), projections.Party(acme)), id("ord", 1), ""},
		"the provider":               {projections.Viewing(t.Context(), projections.Party(cloudCo)), id("ord", 1), ""},
		"nobody":                     {t.Context(), id("ord", 1), ""},
	} {
		if got, err := q.OrderObstacle(c.ctx, c.orderID); err != nil || got != c.want {
			t.Errorf("%s is told %q, %v; want %q", name, got, err, c.want)
		}
	}
}
