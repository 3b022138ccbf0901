package projections_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/projections"
)

// TestAvailability plays two connections on one edge node and one on another, event by event and in one batch, and holds what
// is answered to what the events say, after a rebuild too.
func TestAvailability(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	month := availability.Month{From: day, To: day.AddDate(0, 1, 0)}
	other := id("edg", 2)
	changed := func(n, minute int, side, state string) domain.Event {
		e := session(n, side, state)
		e.Since, e.At = at(minute), at(minute)
		return e
	}
	for _, n := range []string{node, other} {
		b.record("edge_node-"+n, nodeRegistered(n))
	}
	for n := 1; n <= 3; n++ {
		on := node
		if n == 3 {
			on = other
		}
		b.record("connection-"+id("con", n), requested(n, acme, cloudCo), allocated(n, on), testingStarted(n), session(n, "a", "established"),
			session(n, "z", "established"), connection.CutoverRequested{ConnectionID: id("con", n), At: at(n)}, activated(n, at(10)))
	}
	b.project()
	b.record("connection-"+id("con", 1), changed(1, 20, "z", "idle"), changed(1, 21, "z", "connect"))
	b.project()
	b.record("edge_node-"+node, edgenode.FellSilent{EdgeNodeID: node, Since: at(25), At: at(29)})
	b.record("connection-"+id("con", 1), changed(1, 30, "z", "established"))
	b.record("connection-"+id("con", 2), changed(2, 40, "a", "idle"), decommission(2, at(90)))
	b.record("edge_node-"+node, edgenode.Heard{EdgeNodeID: node, Since: at(25), Until: at(50), End: edgenode.EndHeard, At: at(51)})
	b.record("connection-"+id("con", 3), changed(3, 70, "z", "idle"))
	b.project()

	viewing := projections.Viewing(context.Background(), projections.Party(acme))
	through := projections.Queries{DB: projections.Door{Pool: b.pool}}
	check := func(when string) {
		t.Helper()
		for n, want := range map[int]string{
			1: "6600 1800 0 [[20 50 edge_node provider_session]] []",           // down from 20 to 50, of 110 minutes
			2: "2400 1500 2400 [[25 50 edge_node]] [[50 90 customer_session]]", // until 90; down from 25 to 50, the customer's own from 40
			3: "6600 3000 0 [[70 120 provider_session]] []",                    // as of now
			9: "0 0 0 [] []",                                                   // there is none
		} {
			r, err := through.Availability(viewing, id("con", n), month, at(120))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d %d %d %v %v", r.InScope, r.Down, r.Excluded, minutes(r.Outages), minutes(r.Exclusions)); got != want {
				t.Errorf("%s, connection %d: got %s, want %s", when, n, got, want)
			}
		}
	}
	check("projected")
	before := b.dump()
	b.rebuildAll()
	check("rebuilt")
	if after := b.dump(); after != before {
		t.Errorf("a rebuild made\n%s\nof\n%s", after, before)
	}
	r, err := through.Availability(projections.Viewing(context.Background(), projections.Party(stranger)), id("con", 1), month, at(120))
	if err != nil || r.InScope != 0 || len(r.Outages) != 0 {
		t.Errorf("a stranger is shown %+v, %v", r, err)
	}
}

// TestAvailability_SilenceInABatch has a connection set up, and its edge node fall silent, in one batch of the projection, as in
// a rebuild: what comes of it does not hang on how the log is cut.
func TestAvailability_SilenceInABatch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	month := availability.Month{From: day, To: day.AddDate(0, 1, 0)}
	b.record("edge_node-"+node, nodeRegistered(node))
	b.record("connection-"+id("con", 1), requested(1, acme, cloudCo), allocated(1, node), testingStarted(1), session(1, "a", "established"),
		session(1, "z", "established"), connection.CutoverRequested{ConnectionID: id("con", 1), At: at(1)}, activated(1, at(10)))
	b.record("edge_node-"+node, edgenode.FellSilent{EdgeNodeID: node, Since: at(25), At: at(29)},
		edgenode.Heard{EdgeNodeID: node, Since: at(25), Until: at(50), End: edgenode.EndHeard, At: at(51)})
	b.record("connection-"+id("con", 1), decommission(1, at(90)), connection.EdgeClosed{ConnectionID: id("con", 1), ClosedAt: at(91), At: at(91)})
	b.record("edge_node-"+node, edgenode.FellSilent{EdgeNodeID: node, Since: at(92), At: at(96)})
	b.project()
	q := projections.Queries{DB: b.pool}
	r, err := q.Availability(context.Background(), id("con", 1), month, at(120))
	if got := fmt.Sprintf("%d %d %v", r.InScope, r.Down, minutes(r.Outages)); err != nil || got != "4800 1500 [[25 50 edge_node]]" {
		t.Errorf("got %s, %v", got, err)
	}
	for _, find := range []struct {
		from, to int
		want     int
	}{{0, 25, 0}, {0, 26, 1}, {26, 27, 1}, {49, 120, 1}, {50, 120, 0}} {
		ids, err := q.DownConnections(context.Background(), at(find.from), at(find.to), "", 10)
		if err != nil || len(ids) != find.want {
			t.Errorf("down between %d and %d: %v, %v", find.from, find.to, ids, err)
		}
	}
}

// minutes are spans as lists of their minutes after the day's start and their causes.
func minutes(spans []availability.Span) [][]any {
	all := [][]any{}
	for _, s := range spans {
		all = append(all, []any{int(s.From.Sub(day) / time.Minute), int(s.To.Sub(day) / time.Minute), strings.Join(s.Causes, " ")})
	}
	return all
}
