package projections_test

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/events"
	"crossbill/projections"
)

// TestEdgeState walks a connection through its life. Each step says what the node is told after it and whether the step
// is news to the node.
func TestEdgeState(t *testing.T) {
	t.Parallel()
	con, stream := id("con", 1), "connection-"+id("con", 1)
	other := id("edg", 2)
	steps := []struct {
		name  string
		event domain.Event
		phase string // "": not told of it
		probe string
		news  bool
	}{
		{"requested", requested(1, acme, cloudCo), "", "", false},
		{"allocated", allocated(1, node), "", "", false},
		{"testing", testingStarted(1), "testing", "", true},
		{"session comes up", session(1, "a", "established"), "testing", "", false},
		{"probe requested", connection.ProbeRequested{ConnectionID: con, ProbeID: "prb_1", At: at(1)}, "testing", "prb_1", true},
		{"probed", connection.Probed{ConnectionID: con, ProbeID: "prb_1", Passed: true, At: at(1)}, "testing", "", true},
		{"cutover", connection.CutoverRequested{ConnectionID: con, At: at(1)}, "production", "", true},
		{"activated", activated(1, at(2)), "production", "", false},
		{"session goes down", session(1, "z", "idle"), "production", "", false},
		{"decommission", decommission(1, at(9)), "absent", "", true},
		{"closed", connection.EdgeClosed{ConnectionID: con, ClosedAt: at(10), At: at(10)}, "", "", true},
		{"decommissioned", connection.Decommissioned{ConnectionID: con, ClosedAt: at(10), At: at(10)}, "", "", false},
	}
	b := newBench(t)
	b.project()
	if _, err := b.q.EdgeState(t.Context(), node, 0); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a node nobody registered: got %v, want NotFound", err)
	}
	revision := b.record("edge_node-"+node, nodeRegistered(node))
	otherRevision := b.record("edge_node-"+other, nodeRegistered(other))
	b.project()
	for _, step := range steps {
		position := b.record(stream, step.event)
		if step.news {
			revision = position
		}
		b.record("order-"+id("ord", int(position)), placed(int(position), acme, cloudCo)) // of no concern to the node
		b.project()
		got, err := b.q.EdgeState(t.Context(), node, 0)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got.Revision != revision {
			t.Errorf("%s: revision %d, want %d", step.name, got.Revision, revision)
		}
		if step.phase == "" {
			if len(got.Connections) != 0 {
				t.Errorf("%s: the node is told of %+v", step.name, got.Connections)
			}
			continue
		}
		if len(got.Connections) != 1 {
			t.Fatalf("%s: the node is told of %d connections", step.name, len(got.Connections))
		}
		c := got.Connections[0]
		if c.ID != con || c.DesiredPhase() != step.phase || c.Tag != 1 || c.A == nil || c.A.VLAN != 101 || c.Z == nil || c.Z.VLAN != 201 {
			t.Errorf("%s: the node is told of %+v in phase %q, want %q", step.name, c, c.DesiredPhase(), step.phase)
		}
		if pending := c.ProbePending(); pending != (step.probe != "") || pending && c.LastProbe.ID != step.probe {
			t.Errorf("%s: the probe is %+v, want %q pending", step.name, c.LastProbe, step.probe)
		}
	}
	if got, err := b.q.EdgeState(t.Context(), other, 0); err != nil || got.Revision != otherRevision || len(got.Connections) != 0 {
		t.Errorf("another node: %+v, %v", got, err)
	}
}

// TestEdgeState_Whole checks that a node gets all its connections, in order, and none of another node.
func TestEdgeState_Whole(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	nodes := []string{id("edg", 1), id("edg", 2)}
	for _, n := range nodes {
		b.record("edge_node-"+n, nodeRegistered(n))
	}
	var last events.Position
	for n := 5; n >= 1; n-- {
		last = b.record("connection-"+id("con", n), requested(n, acme, cloudCo), allocated(n, nodes[n%2]), testingStarted(n))
	}
	b.project()
	got, err := b.q.EdgeState(t.Context(), nodes[1], 0)
	if err != nil {
		t.Fatal(err)
	}
	if none, err := b.q.EdgeState(t.Context(), nodes[1], last); err != nil || none.Revision != last || len(none.Connections) > 0 {
		t.Errorf("whoever has revision %d is told of %d connections at %d, %v", last, len(none.Connections), none.Revision, err)
	}
	if got, err = b.q.EdgeState(t.Context(), nodes[1], last-1); err != nil {
		t.Fatal(err)
	}
	told := ids(got.Connections, func(s connection.State) string { return s.ID })
	if want := []string{id("con", 1), id("con", 3), id("con", 5)}; !slices.Equal(told, want) || got.Revision != last {
		t.Errorf("told %v at %d, want %v at %d", told, got.Revision, want, last)
	}
}

// TestEdgeChanges has agents of two nodes follow what changes, through any events and restarts of theirs and of the read model:
// what each comes to is what it would be told as a whole.
func TestEdgeChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const connections = 6
	nodes := []string{node, id("edg", 2)}
	for _, n := range nodes {
		b.record("edge_node-"+n, nodeRegistered(n))
	}
	for n := 1; n <= connections; n++ {
		b.record("connection-"+id("con", n), requested(n, acme, cloudCo))
	}
	model := projections.All()[slices.IndexFunc(projections.All(), func(p projections.Projection) bool { return p.Name == "connections" })]
	agents := make([]agent, len(nodes))
	for range 120 {
		for range random.IntN(4) {
			n := 1 + random.IntN(connections)
			con, on := id("con", n), allocated(n, nodes[random.IntN(2)])
			any := []domain.Event{ // Evolve takes them in any order
				on, testingStarted(n), session(n, "a", "established"), activated(n, at(2)), decommission(n, at(9)),
				connection.ProbeRequested{ConnectionID: con, ProbeID: "prb_1", At: at(1)},
				connection.Probed{ConnectionID: con, ProbeID: "prb_1", Passed: true, At: at(1)},
				connection.CutoverRequested{ConnectionID: con, At: at(1)},
				connection.EdgeClosed{ConnectionID: con, ClosedAt: at(10), At: at(10)},
				connection.SessionConfigured{ConnectionID: con, Side: "z", PrefixLimit: random.IntN(99), At: at(1)},
				connection.MoveRequested{ConnectionID: con, Reason: "r", At: at(1)},
				connection.RebuildStarted{ConnectionID: con, Build: connection.Build{EdgeNodeID: on.EdgeNodeID, Tag: n, A: on.A, Z: on.Z}, Deadline: at(9), At: at(1)},
				connection.Rebuilt{ConnectionID: con, EdgeNodeID: on.EdgeNodeID, At: at(2)},
				connection.BuildReleased{ConnectionID: con, EdgeNodeID: on.EdgeNodeID, Tag: n, At: at(3)},
			}
			b.record("connection-"+con, any[random.IntN(len(any))])
		}
		if random.IntN(20) == 0 {
			b.truncate()
		}
		b.project(model)
		for i := range agents {
			if random.IntN(3) == 0 { // it asks later
				continue
			}
			whole, err := b.q.EdgeState(t.Context(), nodes[i], 0)
			if err != nil {
				t.Fatal(err)
			}
			if random.IntN(8) == 0 { // it was restarted
				agents[i] = agent{}
			}
			agents[i].ask(b, nodes[i])
			if want := toldOf(nodes[i], whole.Connections); agents[i].revision != whole.Revision || !reflect.DeepEqual(agents[i].told, want) {
				t.Fatalf("%s is at %d with\n  %+v, the state is at %d with\n  %+v", nodes[i], agents[i].revision, agents[i].told, whole.Revision, want)
			}
		}
	}
	// A program that keeps no changes was at it: what it applied can't be told one by one.
	b.exec(`UPDATE read_edge_revisions SET revision = revision + 1`)
	if _, ok, err := b.q.EdgeChanges(t.Context(), node, agents[0].revision); ok || err != nil {
		t.Errorf("what has changed where changes were not kept: %v, %v", ok, err)
	}
	for n := 1; n <= 2; n++ {
		at := b.record("edge_node-"+node, nodeRegistered(node))
		b.project(model)
		if _, ok, err := b.q.EdgeChanges(t.Context(), node, agents[0].revision); ok || err != nil {
			t.Errorf("what has changed since before changes were kept again: %v, %v", ok, err)
		}
		if _, ok, err := b.q.EdgeChanges(t.Context(), node, at); !ok || err != nil {
			t.Errorf("what has changed since changes are kept again: %v, %v", ok, err)
		}
	}
	if _, ok, err := b.q.EdgeChanges(t.Context(), node, agents[0].revision+1_000_000); ok || err != nil {
		t.Errorf("what has changed since a revision that is yet to come: %v, %v", ok, err)
	}
	if _, _, err := b.q.EdgeChanges(t.Context(), id("edg", 9), 0); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a node nobody registered: %v", err)
	}
}

// agent is what a node's agent knows.
type agent struct {
	revision events.Position
	told     map[string]told
}

// told is what a node is told of a connection.
type told struct {
	connection.Desired
	a, z connection.SessionSettings
}

func toldOf(node string, connections []connection.State) map[string]told {
	all := map[string]told{}
	for _, c := range connections {
		if d, ok := c.DesiredOn(node); ok {
			all[c.ID] = told{d, c.Settings(connection.SideA), c.Settings(connection.SideZ)}
		}
	}
	return all
}

// ask asks for the whole at first and for what has changed from then on.
func (a *agent) ask(b *bench, node string) {
	b.Helper()
	if a.revision == 0 {
		whole, err := b.q.EdgeState(b.Context(), node, 0)
		if err != nil {
			b.Fatal(err)
		}
		a.revision, a.told = whole.Revision, toldOf(node, whole.Connections)
		return
	}
	changes, ok, err := b.q.EdgeChanges(b.Context(), node, a.revision)
	if err != nil || !ok {
		b.Fatal(ok, err)
	}
	for _, c := range changes.Connections {
		delete(a.told, c.ID)
	}
	for _, id := range changes.Gone {
		if _, known := a.told[id]; !known && a.revision == changes.Revision {
			b.Errorf("%s is told that %s is gone, at revision %d", node, id, changes.Revision)
		}
		delete(a.told, id)
	}
	maps.Copy(a.told, toldOf(node, changes.Connections))
	a.revision = changes.Revision
}

func TestBillable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	intervals := map[int][2]int{ // minutes; −1: no end yet
		1: {10, -1}, 2: {10, 20}, 3: {20, 30}, 4: {0, 10}, 5: {15, 15}, 6: {30, -1}, 7: {0, 60},
	}
	for n := 1; n <= 7; n++ {
		b.record("connection-"+id("con", n), requested(n, acme, cloudCo), allocated(n, node), testingStarted(n),
			activated(n, at(intervals[n][0])))
		if end := intervals[n][1]; end >= 0 {
			b.record("connection-"+id("con", n), decommission(n, at(end)))
		}
	}
	b.record("connection-"+id("con", 8), requested(8, acme, cloudCo))
	b.project()
	for name, c := range map[string]struct {
		start, end time.Time
		want       []int
	}{
		"the middle":                      {at(10), at(20), []int{1, 2, 7}},
		"touching is not meeting":         {at(20), at(30), []int{1, 3, 7}},
		"the last microsecond":            {at(10).Add(-time.Microsecond), at(10), []int{4, 7}},
		"the first microsecond":           {at(10), at(10).Add(time.Microsecond), []int{1, 2, 7}},
		"all of it, but the empty one":    {at(-1), at(100), []int{1, 2, 3, 4, 6, 7}},
		"before":                          {at(-9), at(0), nil},
		"after: only what still goes on":  {at(60), at(70), []int{1, 6}},
		"within an interval on both ends": {at(41), at(42), []int{1, 6, 7}},
	} {
		got, err := b.q.Billable(t.Context(), c.start, c.end)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, n := range c.want {
			want = append(want, id("con", n))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for _, end := range []time.Time{at(10), at(9)} {
		if _, err := b.q.Billable(t.Context(), at(10), end); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("a period that ends at %v: got %v, want Invalid", end, err)
		}
	}
}
