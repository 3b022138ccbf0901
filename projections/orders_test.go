package projections_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/projections"
)

// TestOrdersOf_Troubled lists the orders with which the platform can't go on by itself: not those that it tries again, those
// that another order's trouble keeps back, and those that are over.
func TestOrdersOf_Troubled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	next := at(60)
	failed := func(order int, next *time.Time) func(con string) domain.Event {
		return func(con string) domain.Event {
			return connection.StepFailed{ConnectionID: con, OrderID: id("ord", order), Step: connection.StepAllocate, Attempts: 3, NextRetryAt: next, At: at(3)}
		}
	}
	orders := []struct {
		what     string
		last     domain.Event // of the order
		troubles []func(con string) domain.Event
		listed   bool
	}{
		{what: "goes on"},
		{what: "needs a person", troubles: []func(string) domain.Event{failed(2, nil)}, listed: true},
		{what: "is tried again", troubles: []func(string) domain.Event{failed(3, &next)}},
		{what: "is kept back by another's trouble", troubles: []func(string) domain.Event{failed(99, nil)}},
		{what: "was tried again by a person", troubles: []func(string) domain.Event{failed(5, nil), func(con string) domain.Event {
			return connection.StepRetried{ConnectionID: con, OrderID: id("ord", 5), Step: connection.StepAllocate, Reason: "mended", At: at(4)}
		}}},
		{what: "goes on again", troubles: []func(string) domain.Event{failed(6, nil), func(con string) domain.Event {
			return connection.StepRecovered{ConnectionID: con, OrderID: id("ord", 6), At: at(4)}
		}}},
		{what: "is over", last: order.Completed{OrderID: id("ord", 7), At: at(2)}, troubles: []func(string) domain.Event{failed(7, nil)}},
	}
	var want []string
	for i, o := range orders {
		n := i + 1
		con := id("con", n)
		p := placed(n, acme, cloudCo)
		p.Approval = listing.ApprovalAutomatic
		happened := []domain.Event{p, order.Accepted{OrderID: id("ord", n), By: "system", At: at(1)}}
		if o.last != nil {
			happened = append(happened, o.last)
		}
		b.record("order-"+id("ord", n), happened...)
		of := []domain.Event{requested(n, acme, cloudCo)}
		for _, trouble := range o.troubles {
			of = append(of, trouble(con))
		}
		b.record("connection-"+con, of...)
		if o.listed {
			want = append(want, o.what)
		}
	}
	check := func(when string) {
		t.Helper()
		for name, viewer := range map[string]projections.Viewer{"an operator": projections.Operator(), "the customer": projections.Party(acme)} {
			q := projections.Queries{DB: projections.Door{Pool: b.pool}}
			found, _, err := q.OrdersOf(projections.Viewing(t.Context(), viewer), viewer, projections.OrderFilter{Troubled: true}, 100, "")
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
