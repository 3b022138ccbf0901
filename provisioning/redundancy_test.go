package provisioning

import (
	"context"
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

// interloper lets somebody else be first, once, before an append of a kind.
type interloper struct {
	next  appender
	kind  string
	first func()
}

func (i *interloper) Append(ctx context.Context, a events.Append) (events.Result, error) {
	if first := i.first; first != nil && strings.Contains(effect(a), i.kind) {
		i.first = nil
		first()
	}
	return i.next.Append(ctx, a)
}

// A connection joins a group, or another one of its group is moved, between the saga's look at its groups and its append: the
// saga looks again, and the two legs never come to be on one node.
func TestMovesRaceWithGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, first := range map[string]func(l *line, group, target string){
		"the connection joins": func(l *line, group, target string) {
			other := l.place(wish{at: l.clock, a: l.port(target, 1000), z: l.port(target, 1000)})
			l.join(group, other)
			l.join(group, l.d)
		},
		"another one joins": func(l *line, group, target string) {
			l.join(group, l.place(wish{at: l.clock, a: l.port(target, 1000), z: l.port(target, 1000)}))
		},
		"another one is moved there": func(l *line, group, target string) {
			first := l.d
			l.d = l.others[0]
			l.moveTo(target, 1000)
			l.run(AdvanceArgs{OrderID: l.d.order, ConnectionID: l.d.connection})
			l.d = first
		},
	} {
		f := &faulty{}
		l := w.line(f)
		race := &interloper{next: w.log, kind: "connection.rebuild_started"}
		f.next = race
		l.d = l.place(wish{at: l.clock})
		l.settle(false)
		group, target := l.id(domain.PrefixRedundancyGroup), l.another()
		if !strings.Contains(name, "the connection joins") {
			node := l.another()
			l.others = []deal{l.place(wish{at: l.clock, a: l.port(node, 1000), z: l.port(node, 1000)})}
			l.settle(false)
			l.join(group, l.d)
			l.join(group, l.others[0])
		}
		race.first = func() { first(l, group, target) }
		l.moveTo(target, 1000)
		l.settle(true)
		if race.first != nil {
			t.Fatalf("%s: nobody was first", name)
		}
		l.check(l.d, order.StateCompleted, connection.StateProduction)
		if _, c := l.states(l.d); c.EdgeNodeID != w.node || !strings.Contains(c.RebuildFailure, "not be kept apart") {
			t.Errorf("%s: it is on %s, after %q", name, c.EdgeNodeID, c.RebuildFailure)
		}
	}
}

// A connection that ends between the look at it and the append does not join: nothing would free its place.
func TestWhatHasEndedDoesNotJoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.line(&faulty{next: w.log})
	l.d = l.place(wish{manual: true, at: l.clock})
	l.settle(false)
	group := l.id(domain.PrefixRedundancyGroup)
	err := l.tryJoin(group, l.d, func() {
		l.commandOrder(l.d, order.Reject{Reason: "no fibre there", At: l.clock})
		l.settle(false)
	})
	l.check(l.d, order.StateRejected, connection.StateCancelled)
	beside, read := ReadBeside(t.Context(), w.pool, w.log, l.id(domain.PrefixConnection), group)
	if err == nil || read != nil || len(beside.Of(group)) > 0 {
		t.Errorf("the group has %+v (%v, %v)", beside.Of(group), err, read)
	}
}

// Where a member is counts from the reservations for it on, and where it was ordered before: until nothing is left of it there.
func TestReadBeside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	l := w.line(&faulty{next: w.log})
	l.edge.noBGP = true
	group := l.id(domain.PrefixRedundancyGroup)
	first := l.place(wish{at: l.clock})
	w.join(group, first)
	_, c := w.states(first)
	beside := func() (ports, nodes []string) {
		t.Helper()
		b, err := ReadBeside(ctx, w.pool, w.log, l.id(domain.PrefixConnection), group)
		if err != nil {
			t.Fatal(err)
		}
		if others := b.Of(group); len(others) == 1 && others[0].ConnectionID == first.connection {
			return others[0].Ports, others[0].EdgeNodes
		}
		return nil, nil
	}
	is := func(when string, wantPorts, wantNodes []string) {
		t.Helper()
		ports, nodes := beside()
		slices.Sort(wantPorts)
		slices.Sort(ports)
		slices.Sort(wantNodes)
		slices.Sort(nodes)
		if !slices.Equal(ports, wantPorts) || !slices.Equal(nodes, wantNodes) {
			t.Errorf("%s it has the ports %v and the nodes %v, want %v and %v", when, ports, nodes, wantPorts, wantNodes)
		}
	}
	here := []string{c.CustomerPortID, c.ProviderPortID}
	is("ordered,", slices.Clone(here), []string{w.node})
	l.edge.noBGP = false
	l.d = first
	l.settle(false)
	is("in production,", slices.Clone(here), []string{w.node})
	l.edge.noNewBGP = true
	target := l.another()
	l.moveTo(target, 1000)
	l.settle(false)
	_, c = w.states(first)
	is("being moved,", append(slices.Clone(here), c.Rebuild.CustomerPortID, c.Rebuild.ProviderPortID), []string{w.node, target})
	l.settle(true)
	is("back,", slices.Clone(here), []string{w.node})
	l.edge.noNewBGP = false
	l.moveTo(target, 1000)
	l.settle(true)
	_, c = w.states(first)
	is("moved,", []string{c.CustomerPortID, c.ProviderPortID}, []string{target})
	terminate(l)
	l.settle(true)
	is("ended,", nil, nil)
}
