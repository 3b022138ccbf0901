package provisioning

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
)

var (
	historySeed  = flag.Uint64("history-seed", 0, "play the random histories of this seed; 0: another one each time")
	historyActs  = flag.Int("history-acts", 150, "how much is asked for in them")
	errStuck     = errors.New("injected, until a person has mended it")
	oncePerThing = []string{"order.placed", "order.completed", "order.failed", "order.rejected", "order.cancelled", "connection.requested", "connection.allocated",
		"connection.testing_started", "connection.activated", "connection.decommission_requested", "connection.edge_closed", "connection.decommissioned", "connection.cancelled"}
)

// unlucky passes appends on, and has them fail at random: before or after they happen, and for good until time has passed.
type unlucky struct {
	next appender

	mu    sync.Mutex
	rng   *rand.Rand
	stuck map[string]time.Time // by stream and effect, until when it fails
	over  bool
	hit   map[string]int // by kind
}

func (u *unlucky) fate(a events.Append) (kind string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return "", nil
	}
	name := a.Streams[0].Stream + " " + effect(a)
	switch dice := u.rng.IntN(40); {
	case time.Now().Before(u.stuck[name]):
		return lasting, errStuck
	case dice < 3 && !strings.Contains(name, "connection.step_") && !strings.Contains(name, "edge: "):
		u.stuck[name] = time.Now().Add(200 * time.Millisecond)
		kind, err = lasting, errStuck
	case dice < 5:
		kind, err = before, errInjected
	case dice < 8:
		kind = after
	}
	u.hit[kind]++
	return kind, err
}

func (u *unlucky) Append(ctx context.Context, a events.Append) (events.Result, error) {
	kind, err := u.fate(a)
	if err != nil {
		return events.Result{}, err
	}
	result, err := u.next.Append(ctx, a)
	if kind == after && err == nil {
		return events.Result{}, errInjected
	}
	return result, err
}

// histories are random lives of connections, all in one world.
type histories struct {
	*world
	rng    *rand.Rand
	edge   *scriptedEdge
	nodes  []string
	ports  map[string][]string // by node
	deals  []deal
	orders map[string]string // all, with their connections
	groups []string
	asked  map[string]int // what was asked for and taken, by name
}

// try does what a party or an operator asks through the API: decided and appended at the versions that were read, in one append.
func (h *histories) try(name string, d deal, o order.Command, c connection.Command) {
	h.Helper()
	ctx := context.Background()
	var a events.Append
	add := func(stream string, version int64, decided []domain.Event) {
		s := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
		for _, e := range decided {
			s.Events = append(s.Events, events.NewEvent{Event: e})
		}
		if a.Streams = append(a.Streams, s); len(decided) == 0 {
			a.Streams = a.Streams[:len(a.Streams)-1]
		}
	}
	if o != nil {
		state, version, err := events.Load(ctx, h.log, order.Stream(d.order), order.Evolve)
		if err != nil {
			h.Fatal(err)
		}
		decided, err := order.Decide(state, o)
		if err != nil {
			return
		}
		add(order.Stream(d.order), version, decided)
	}
	if c != nil {
		state, version, err := loadConnection(ctx, h.log, d.connection)
		if err != nil {
			h.Fatal(err)
		}
		decided, err := connection.Decide(state, c)
		if err != nil {
			return
		}
		add(connection.Stream(d.connection), version, decided)
	}
	if len(a.Streams) == 0 {
		return
	}
	if _, err := h.log.Append(ctx, a); err == nil {
		if h.asked[name]++; o != nil {
			h.orders[d.order] = d.connection
		}
	} else if domain.CodeOf(err) != domain.Conflict {
		h.Fatal(err)
	}
}

func (h *histories) pick(all []string) string { return all[h.rng.IntN(len(all))] }

// order places a connection on two ports of a node.
func (h *histories) order(node string) {
	on := h.ports[node]
	d := h.place(wish{manual: h.rng.IntN(4) == 0, a: h.pick(on), z: h.pick(on)})
	h.deals, h.orders[d.order] = append(h.deals, d), d.connection
	h.asked["order"]++
}

// pair orders two legs of a group that are to be on different nodes.
func (h *histories) pair() {
	group := h.id(domain.PrefixRedundancyGroup)
	h.groups = append(h.groups, group)
	for _, node := range h.nodes[:2] {
		h.order(node)
		h.join(group, h.deals[len(h.deals)-1])
	}
	h.asked["group"]++
}

// change places an order that changes a connection, in place or not.
func (h *histories) change(d deal, o order.State, c connection.State) {
	at, mbps := now(), []int{50, 100, 200, 400}[h.rng.IntN(4)]
	placed := order.Placed{OrderID: h.id(domain.PrefixOrder), QuoteID: h.id(domain.PrefixQuote), CustomerID: o.CustomerID, ProviderID: o.ProviderID,
		ListingID: o.ListingID, ListingVersion: c.ListingVersion + h.rng.IntN(2), ConnectionID: c.ID, PortID: o.PortID, BandwidthMbps: mbps, BGP: o.BGP,
		Approval: listing.ApprovalAutomatic, Deadline: at.Add(72 * time.Hour), At: at, Item: order.ItemModify}
	name := "change in place"
	if h.rng.IntN(2) == 0 {
		name, placed.Rebuild = "change by a rebuild", &order.Rebuild{ProviderPortID: c.ProviderPortID, ProviderBGP: c.ProviderBGP}
	}
	h.record(order.Stream(placed.OrderID), placed)
	h.orders[placed.OrderID] = c.ID
	h.asked[name]++
}

// act asks for something at random of a connection.
func (h *histories) act(d deal) {
	h.Helper()
	o, c := h.states(d)
	at := now()
	if h.answer(c, false) {
		return
	}
	switch h.rng.IntN(9) {
	case 0, 1:
		h.change(d, o, c)
	case 2, 3:
		on := h.ports[h.pick(h.nodes)]
		h.try("move", d, nil, connection.RequestMove{CustomerPortID: h.pick(on), ProviderPortID: h.pick(on), Reason: "maintenance", At: at})
	case 4:
		h.try("suspend", d, nil, connection.RequestSuspension{Reason: "away", At: at})
	case 5:
		h.try("resume", d, nil, connection.RequestResumption{At: at})
	case 6:
		if h.rng.IntN(3) > 0 {
			h.try("cancel", d, order.Cancel{Reason: "changed plans", At: at}, nil)
			return
		}
		h.try("terminate", d, nil, connection.RequestDecommission{Reason: "no longer needed", At: at})
	case 7:
		end := deal{h.id(domain.PrefixOrder), c.ID}
		h.try("terminate later", end, order.PlaceRemoval{OrderID: end.order, Connection: c, At: at},
			connection.ScheduleTermination{OrderID: end.order, Reason: "moving", EffectiveAt: at.Add(time.Duration(h.rng.IntN(1000)) * time.Millisecond), At: at})
	case 8:
		h.settleApproval(d, o)
	}
}

// settleApproval has the provider answer.
func (h *histories) settleApproval(d deal, o order.State) {
	if o.State != order.StateAwaitingProvider {
		return
	}
	if h.rng.IntN(2) == 0 {
		h.try("reject", d, order.Reject{Reason: "no fibre there", At: now()}, nil)
		return
	}
	h.try("accept", d, order.Accept{By: "the provider", At: now()}, nil)
}

// answer plays the operator where a person is needed: one of what can be done. In the end, it is tried again.
func (h *histories) answer(c connection.State, last bool) bool {
	actions := c.Actions()
	if len(actions) == 0 {
		return false
	}
	action := h.pick(actions)
	if last {
		action = connection.ActionRetry
	}
	d, at := deal{c.RollsBack(), c.ID}, now()
	switch {
	case action == connection.ActionRetry:
		h.try("retry", deal{connection: c.ID}, nil, connection.RetryStep{Reason: "mended", At: at})
	case action == connection.ActionSkip:
		h.try("skip", deal{connection: c.ID}, nil, connection.SkipStep{Reason: "the node burnt down", At: at})
	case d.order == "":
		h.try("roll back", d, nil, connection.RollBackStep{Reason: "no way", At: at})
	default:
		h.try("roll back", d, order.Fail{Reason: "rolled back", At: at}, connection.RollBackStep{Reason: "no way", At: at})
	}
	return true
}

// trouble has the nodes fail at something for a while, or at nothing.
func (h *histories) trouble(none bool) {
	e := h.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, flag := range []*bool{&e.noBGP, &e.noGate, &e.noChange, &e.noRemoval, &e.noSuspend, &e.noResume, &e.noNewBGP, &e.noNewGate, &e.noRebuild, &e.noRestore} {
		*flag = !none && h.rng.IntN(12) == 0
	}
	if e.failProbes = 0; !none {
		e.failProbes = h.rng.IntN(3)
	}
	clear(e.dead)
	if !none && h.rng.IntN(6) == 0 {
		e.dead[h.pick(h.nodes)] = true
	}
}

// tick has every node report on a connection. That it moved on under the report is what a node comes back after.
func (h *histories) tick(d deal) {
	h.Helper()
	if _, err := h.edge.tick(d); err != nil && !errors.Is(err, errInjected) && !errors.Is(err, errStuck) && domain.CodeOf(err) != domain.Conflict {
		h.Fatal(err)
	}
}

// rests reports whether nothing is under way for a connection any more, and its orders have ended.
func (h *histories) rests(d deal) (why string) {
	_, c := h.states(d)
	live := c.State == connection.StateProduction || c.State == connection.StateSuspended
	if !live && !c.Final() || c.Change != nil || c.Rebuild != nil || c.Leaving != nil || c.Trouble != nil || c.Termination != nil ||
		c.SuspensionRequestedAt != nil || c.ResumptionRequestedAt != nil {
		return fmt.Sprintf("it is %+v", c)
	}
	for id, of := range h.orders {
		if of != d.connection {
			continue
		}
		o, _ := h.states(deal{id, of})
		if !o.Final() {
			return fmt.Sprintf("its order is %+v", o)
		}
	}
	return ""
}

// Random lives of connections on a real log and River, with two provisioners, jobs that are carried out twice, appends that fail
// before and after they happen and for good, nodes that fail at anything for a while, and operators who do whatever can be done: in
// the end every connection is in production or has ended, every order has ended, and nobody and no node has anything without an
// owner. What happens when is up to the machine: a seed tells what is asked for.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-history-seed %d", seed)
	w := newWorld(t)
	h := &histories{world: w, rng: rand.New(rand.NewPCG(seed, 1)), ports: map[string][]string{}, orders: map[string]string{}, asked: map[string]int{}}
	h.nodes = []string{w.node, w.another(), w.another()}
	for _, node := range h.nodes {
		for _, mbps := range []int{400, 600, 1000} {
			h.ports[node] = append(h.ports[node], h.port(node, mbps))
		}
	}
	luck := &unlucky{next: w.log, rng: rand.New(rand.NewPCG(seed, 2)), stuck: map[string]time.Time{}, hit: map[string]int{}}
	h.edge = w.edge(luck, time.Now)
	options := Options{TestingDeadline: 3 * time.Second, ChangeWithin: time.Second, EdgeWithin: time.Second, ProbeAttempts: 3, ProbePause: 10 * time.Millisecond, StepAttempts: 3}
	p, other := w.provisioner(options, luck), w.provisioner(options, luck)
	w.pump(p)
	w.start(p)
	w.start(other)
	h.pair()
	for range *historyActs {
		switch dice := h.rng.IntN(20); {
		case dice == 0 && len(h.deals) < 16:
			h.pair()
		case dice < 3 && len(h.deals) < 16:
			h.order(h.pick(h.nodes))
		case dice == 4:
			h.trouble(h.rng.IntN(2) == 0)
		case dice == 5: // a job is carried out once more
			d := h.deals[h.rng.IntN(len(h.deals))]
			if _, err := p.client.Insert(t.Context(), AdvanceArgs{OrderID: d.order, ConnectionID: d.connection, Cause: "test"}, insertOpts(time.Time{})); err != nil {
				t.Fatal(err)
			}
		default:
			h.act(h.deals[h.rng.IntN(len(h.deals))])
		}
		for _, d := range h.deals {
			h.tick(d)
		}
	}

	luck.mu.Lock()
	luck.over = true
	luck.mu.Unlock()
	h.trouble(true)
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		waits := ""
		for _, d := range h.deals {
			why := h.rests(d)
			if why == "" {
				continue
			}
			waits = fmt.Sprintf("%+v does not come to rest: %s\n%v", d, why, h.history(d))
			h.tick(d)
			o, c := h.states(d)
			h.answer(c, true)
			h.settleApproval(d, o)
		}
		if waits == "" {
			break
		}
		if time.Since(began) > 2*patience {
			t.Fatal(waits)
		}
	}
	w.jobsSettled()
	for _, d := range h.deals {
		h.tick(d)
		h.checkRest(d)
	}
	h.checkWhole()
	t.Logf("asked for %v, with the faults %v, of %d connections", h.asked, luck.hit, len(h.deals))
}

// checkRest holds a connection that came to rest to what it must have, everywhere, and nothing else.
func (h *histories) checkRest(d deal) {
	h.Helper()
	o, c := h.states(d)
	types := h.history(d)
	var want []Reservation
	if !c.Final() {
		want = []Reservation{{reservedTag, c.EdgeNodeID, c.Tag, c.ID, 0}, {reservedVLAN, c.A.PortID, c.A.VLAN, c.ID, c.BandwidthMbps}, {reservedVLAN, c.Z.PortID, c.Z.VLAN, c.ID, c.BandwidthMbps}}
		a, z, err := links(c.Tag)
		if err != nil || c.A.PortID != c.CustomerPortID || c.Z.PortID != c.ProviderPortID || c.A.Address != a.address.String() || c.Z.Address != z.address.String() {
			h.Errorf("its attachments are %+v and %+v, its ports %s and %s: %v", c.A, c.Z, c.CustomerPortID, c.ProviderPortID, err)
		}
	}
	held := h.held(c.ID)
	for _, r := range want {
		if !slices.Contains(held, r) {
			h.Errorf("a connection that is %s has not %+v of %+v: %v", c.State, r, held, types)
		}
	}
	if len(held) != len(want) {
		h.Errorf("a connection that is %s holds %+v, want %+v: %v", c.State, held, want, types)
	}
	if c.OnEdge == c.Final() || (o.State == order.StateCompleted) != (c.BillingFrom != nil) && o.State != order.StateCancelled && o.State != order.StateFailed {
		h.Errorf("order %s, connection %+v: %v", o.State, c, types)
	}
	for i, one := range types {
		if slices.Contains(oncePerThing, one) && slices.Contains(types[i+1:], one) {
			h.Errorf("%s happened twice: %v", one, types)
		}
	}
	for _, node := range h.nodes {
		m := h.edge.meters[[2]string{node, c.ID}]
		there := m != nil && (!m.opened.IsZero() || m.tag != 0 || m.applied != 0)
		switch {
		case there != (!c.Final() && node == c.EdgeNodeID):
			h.Errorf("the node %s has %+v of a connection that is %s on %s: %v", node, m, c.State, c.EdgeNodeID, types)
		case there && (m.tag != c.Tag || m.applied != c.BandwidthMbps || !m.closed.IsZero() || m.suspended.IsZero() != (c.State == connection.StateProduction)):
			h.Errorf("the node %s has %+v of %+v: %v", node, m, c, types)
		}
	}
}

// checkWhole holds what all have together: no port has more than it can carry, no two legs are on one node, and nothing is left.
func (h *histories) checkWhole() {
	h.Helper()
	ctx := context.Background()
	for _, node := range h.nodes {
		for i, mbps := range []int64{400, 600, 1000} {
			if load, err := portLoad(ctx, h.pool, h.ports[node][i]); err != nil || load > mbps {
				h.Errorf("a port of %d Mbps carries %d: %v", mbps, load, err)
			}
		}
	}
	for _, group := range h.groups {
		beside, err := ReadBeside(ctx, h.pool, h.log, h.id(domain.PrefixConnection), group)
		if err != nil {
			h.Fatal(err)
		}
		var nodes []string
		for _, other := range beside.Of(group) {
			if _, c := h.states(deal{h.deals[0].order, other.ConnectionID}); c.Final() {
				h.Errorf("the group %s has a place for a connection that is %s", group, c.State)
			}
			nodes = append(nodes, other.EdgeNodes...)
		}
		if len(nodes) > 2 || len(nodes) == 2 && nodes[0] == nodes[1] {
			h.Errorf("the legs of a group for %s are on %v", redundancygroup.DiverseEdgeNode, nodes)
		}
	}
	if orphans := h.orphans(); len(orphans) > 0 {
		h.Errorf("without an owner: %v", orphans)
	}
	if n := h.jobs(`state = 'discarded'`); n > 0 {
		h.Errorf("%d jobs were given up", n)
	}
}
