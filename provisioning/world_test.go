package provisioning

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/port"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
)

const nodeASN = 64600

// world is a log with an edge node, on a database of its own.
type world struct {
	testing.TB
	pool *pgxpool.Pool
	log  *events.Log
	node string

	own    map[string]bool // streams of orders and connections that were begun here
	writes int             // how many times anything was recorded here
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, pool: pgtest.New(t), own: map[string]bool{}}
	if err := Migrate(t.Context(), w.pool); err != nil {
		t.Fatal(err)
	}
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	w.log, err = events.Open(t.Context(), w.pool, codec, events.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.log.Close)
	return w.beside(t)
}

// beside returns a world of its own, with another edge node, on the same database.
func (w *world) beside(t testing.TB) *world {
	t.Helper()
	w = &world{TB: t, pool: w.pool, log: w.log, own: map[string]bool{}}
	w.node = w.id(domain.PrefixEdgeNode)
	w.record(edgenode.Stream(w.node), edgenode.Registered{EdgeNodeID: w.node, Name: "lab", ASN: nodeASN, RouterID: "192.0.2.1", At: now()})
	return w
}

func now() time.Time { return domain.Instant(time.Now()) }

func (w *world) id(prefix string) string {
	id, err := domain.NewID(prefix, time.Now(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

func (w *world) record(stream string, happened ...domain.Event) {
	w.Helper()
	w.own[stream] = true
	w.writes++
	a := events.StreamAppend{Stream: stream, Expected: events.Any}
	for _, e := range happened {
		a.Events = append(a.Events, events.NewEvent{Event: e})
	}
	if _, err := w.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{a}}); err != nil {
		w.Fatal(err)
	}
}

// serviceVLAN is that of all ports: their connections' VLANs are inside it.
const serviceVLAN = 300

func (w *world) port(node string, mbps int) string {
	id := w.id(domain.PrefixPort)
	w.record(port.Stream(id), port.Registered{PortID: id, EdgeNodeID: node, OrganisationID: w.id(domain.PrefixOrganisation),
		Name: "port", Interface: "eth0", CapacityMbps: mbps, ServiceVLAN: serviceVLAN, At: now()})
	return id
}

// wish is what is ordered. Zero fields are filled in by [world.place].
type wish struct {
	manual       bool
	mbps         int // 100
	a, z         string
	at, deadline time.Time
	asn          uint32
}

// deal is an order and its connection.
type deal struct{ order, connection string }

func (w *world) place(v wish) deal {
	w.Helper()
	if v.mbps == 0 {
		v.mbps = 100
	}
	if v.a == "" {
		v.a = w.port(w.node, 10_000)
	}
	if v.z == "" {
		v.z = w.port(w.node, 10_000)
	}
	if v.at.IsZero() {
		v.at = now()
	}
	if v.deadline.IsZero() {
		v.deadline = v.at.Add(72 * time.Hour)
	}
	if v.asn == 0 {
		v.asn = 64601
	}
	approval := listing.ApprovalAutomatic
	if v.manual {
		approval = listing.ApprovalManual
	}
	d := deal{w.id(domain.PrefixOrder), w.id(domain.PrefixConnection)}
	w.own[order.Stream(d.order)], w.own[connection.Stream(d.connection)] = true, true
	w.writes++
	customer, provider := w.id(domain.PrefixOrganisation), w.id(domain.PrefixOrganisation)
	quote, offer := w.id(domain.PrefixQuote), w.id(domain.PrefixListing)
	ours, theirs := domain.BGP{ASN: v.asn, Prefixes: []string{"198.51.100.0/24"}}, domain.BGP{ASN: 64602, Prefixes: []string{"203.0.113.0/24"}}
	requested, err := connection.Decide(connection.State{}, connection.Request{ConnectionID: d.connection, OrderID: d.order, QuoteID: quote,
		CustomerID: customer, ProviderID: provider, ListingID: offer, ListingVersion: 1, BandwidthMbps: v.mbps,
		CustomerPortID: v.a, ProviderPortID: v.z, CustomerBGP: ours, ProviderBGP: theirs, At: v.at})
	if err != nil {
		w.Fatal(err)
	}
	_, err = w.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{
		{Stream: order.Stream(d.order), Expected: events.NoStream, Events: []events.NewEvent{{Event: order.Placed{
			OrderID: d.order, QuoteID: quote, CustomerID: customer, ProviderID: provider, ListingID: offer, ListingVersion: 1,
			ConnectionID: d.connection, PortID: v.a, BandwidthMbps: v.mbps, BGP: ours, Approval: approval,
			Deadline: v.deadline, At: v.at}}}},
		{Stream: connection.Stream(d.connection), Expected: events.NoStream, Events: []events.NewEvent{{Event: requested[0]}}},
	}})
	if err != nil {
		w.Fatal(err)
	}
	return d
}

func (w *world) states(d deal) (order.State, connection.State) {
	w.Helper()
	o, _, err := events.Load(context.Background(), w.log, order.Stream(d.order), order.Evolve)
	if err != nil {
		w.Fatal(err)
	}
	c, _, err := loadConnection(context.Background(), w.log, d.connection)
	if err != nil {
		w.Fatal(err)
	}
	return o, c
}

// command does what a party asks through the API.
func (w *world) commandOrder(d deal, c order.Command) {
	w.Helper()
	o, _ := w.states(d)
	decided, err := order.Decide(o, c)
	if err != nil {
		w.Fatal(err)
	}
	w.record(order.Stream(d.order), decided...)
}

func (w *world) commandConnection(d deal, c connection.Command) {
	w.Helper()
	_, s := w.states(d)
	decided, err := connection.Decide(s, c)
	if err != nil {
		w.Fatal(err)
	}
	w.record(connection.Stream(d.connection), decided...)
}

func (w *world) held(owner string) []Reservation {
	w.Helper()
	held, err := reservations(context.Background(), w.pool, owner)
	if err != nil {
		w.Fatal(err)
	}
	return held
}

// history lists the types of a deal's events, its order's and its connection's, each in order.
func (w *world) history(d deal) (types []string) {
	w.Helper()
	for _, stream := range []string{order.Stream(d.order), connection.Stream(d.connection)} {
		page, err := w.log.ReadStream(context.Background(), stream, 0, events.MaxRead)
		if err != nil {
			w.Fatal(err)
		}
		for _, r := range page {
			types = append(types, r.Type)
		}
	}
	return types
}

// check holds a deal to what must be true of any that came to rest: production or fully undone, each step taken once,
// and nothing held by whom nothing is owed.
func (w *world) check(d deal, wantOrder, wantConnection string) {
	w.Helper()
	o, c := w.states(d)
	types := w.history(d)
	if o.State != wantOrder || c.State != wantConnection {
		w.Fatalf("ended as order %s (%s), connection %s (%s); want %s, %s\n%v", o.State, o.Reason, c.State, c.Reason, wantOrder, wantConnection, types)
	}
	repeatable := []string{"connection.step_failed", "connection.step_recovered", "connection.step_retried", "bgp_session.changed", "connection.probe_requested", "connection.probed"}
	if slices.Contains(types, "connection.rebuild_started") {
		repeatable = append(repeatable, "connection.cutover_requested", "connection.rebuild_abandoned")
	}
	for i, one := range types {
		if !slices.Contains(repeatable, one) && slices.Contains(types[i+1:], one) {
			w.Errorf("%s happened twice: %v", one, types)
		}
	}
	wantHeld := 0
	if wantConnection == connection.StateProduction || wantConnection == connection.StateSuspended {
		wantHeld = 3 // a tag and two VLANs
	}
	if c.OnEdge && (c.A.ServiceVLAN != serviceVLAN || c.Z.ServiceVLAN != serviceVLAN) {
		w.Errorf("the attachments are not in their ports' service VLAN: %+v, %+v", c.A, c.Z)
	}
	held := w.held(d.connection)
	if len(held) != wantHeld {
		w.Errorf("a connection that is %s holds %v", c.State, held)
	}
	for _, r := range held {
		if want := map[string]int{reservedVLAN: c.BandwidthMbps, reservedTag: 0}[r.Kind]; r.Mbps != want {
			w.Errorf("a connection of %d Mbps holds %+v", c.BandwidthMbps, r)
		}
	}
	if lost := o.Final() && o.State != order.StateCompleted; lost != (c.State == connection.StateCancelled) {
		w.Errorf("order %s but connection %s", o.State, c.State)
	}
	if lost := c.State == connection.StateCancelled; lost && (o.Reason == "" || c.Reason == "") {
		w.Errorf("no reason is given: order %q, connection %q", o.Reason, c.Reason)
	}
	if c.Rebuild != nil || c.Leaving != nil || c.Change != nil || c.SuspensionRequestedAt != nil || c.ResumptionRequestedAt != nil || c.Termination != nil {
		w.Errorf("something is asked for yet: %+v", c)
	}
	if c.OnEdge != (wantHeld > 0) {
		w.Errorf("the edge node was left with the connection: %+v", c)
	}
}

// scriptedEdge plays edge nodes through [Observe] alone. Like real ones they are level-triggered: each looks at what it
// should be and reports what it is, over and over.
type scriptedEdge struct {
	w          *world
	to         appender
	now        func() time.Time
	noBGP      bool
	noGate     bool
	failProbes int  // so many fail; -1: all do
	noChange   bool // it does not apply another bandwidth
	noRemoval  bool // it does not remove what is to be absent
	noSuspend  bool // it does not close the gate for a while
	noResume   bool // it does not open the gate again
	noNewBGP   bool // sessions of another build than the first stay down
	noNewGate  bool // the gate of another build than the first stays closed
	noRebuild  bool // it goes on with the build that it has
	noRestore  bool // it does not open the gate of a build that it closed
	dead       map[string]bool

	mu     sync.Mutex
	meters map[[2]string]*meter // by node and connection
	first  map[string][2]string // the node and tag of a connection's first build
	opened map[string]time.Time // when a connection's first build was opened
	failed map[string]bool      // by probe
}

// meter is what an agent keeps of a connection.
type meter struct {
	tag                                int
	opened, closed, suspended, resumed time.Time
	applied                            int
}

func (w *world) edge(to appender, now func() time.Time) *scriptedEdge {
	return &scriptedEdge{w: w, to: to, now: now, dead: map[string]bool{}, meters: map[[2]string]*meter{}, first: map[string][2]string{},
		opened: map[string]time.Time{}, failed: map[string]bool{}}
}

// tick has every node that is to do anything for a deal report once, and returns whether that was news.
func (e *scriptedEdge) tick(d deal) (news bool, err error) {
	_, c := e.w.states(d)
	return e.look(c)
}

// look is a tick for a connection whose state is known.
func (e *scriptedEdge) look(c connection.State) (news bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	told := map[string]bool{}
	for _, wanted := range c.Desired() {
		told[wanted.EdgeNodeID] = true
		if e.dead[wanted.EdgeNodeID] {
			continue
		}
		again, err := e.report(c, wanted)
		if news = news || again; err != nil {
			return news, err
		}
	}
	for key := range e.meters { // a node removes what it is told nothing of any more
		if key[1] == c.ID && !told[key[0]] && !e.dead[key[0]] && !e.noRemoval {
			delete(e.meters, key)
		}
	}
	return news, nil
}

func (e *scriptedEdge) report(c connection.State, d connection.Desired) (news bool, err error) {
	at := domain.Instant(e.now())
	o := Observation{ConnectionID: c.ID}
	key := [2]string{d.EdgeNodeID, c.ID}
	m := e.meters[key]
	if m == nil {
		m = new(meter)
		e.meters[key] = m
	}
	build := [2]string{d.EdgeNodeID, strconv.Itoa(d.Tag)}
	if _, known := e.first[c.ID]; !known {
		e.first[c.ID] = build
	}
	isFirst := e.first[c.ID] == build
	switch {
	case d.Phase == connection.PhaseAbsent && e.noRemoval:
		return false, nil
	case d.Phase == connection.PhaseAbsent:
		o.Removed = true
		if !m.opened.IsZero() {
			opened := m.opened
			o.OpenedAt, o.ClosedAt = &opened, &at
		}
		delete(e.meters, key)
	case e.noRebuild && !isFirst:
		if opened := m.opened; !opened.IsZero() {
			o.OpenedAt = &opened
		}
	default:
		if !m.opened.IsZero() && m.closed.IsZero() && m.tag != d.Tag {
			m.closed = at
		}
		for _, side := range []string{connection.SideA, connection.SideZ} {
			s := SessionObservation{Side: side, State: connection.SessionActive, Since: *c.TestingDeadline}
			s.Since = c.TestingDeadline.Add(-DefaultTestingDeadline)
			if !e.noBGP && !(e.noNewBGP && !isFirst) {
				s.State, s.PrefixesReceived, s.PrefixesSent = connection.SessionEstablished, 1, 1
			}
			o.Sessions = append(o.Sessions, s)
		}
		if id := d.ProbeID; id != "" {
			if e.failProbes != 0 && !e.failed[id] {
				e.failed[id] = true
				e.failProbes--
			}
			o.Probe = &ProbeObservation{ProbeID: id, Passed: !e.failed[id], Detail: "scripted"}
		}
		open := !m.opened.IsZero() && m.closed.IsZero()
		if d.Phase == connection.PhaseProduction && !open && !e.noGate && !(e.noNewGate && !isFirst) && !(e.noRestore && isFirst && !m.closed.IsZero()) {
			m.tag, m.opened, m.closed = d.Tag, at, time.Time{}
			if _, was := e.opened[c.ID]; !was {
				e.opened[c.ID] = at
			}
		}
		if !m.opened.IsZero() {
			opened := m.opened
			o.OpenedAt = &opened
		}
		if !m.closed.IsZero() {
			closed := m.closed
			o.ClosedAt = &closed
		}
		if was := !m.suspended.IsZero(); d.Phase == connection.PhaseSuspended && !e.noSuspend {
			if !was {
				m.suspended = at
			}
			suspended := m.suspended
			o.SuspendedAt = &suspended
		} else if was && e.noResume {
			suspended := m.suspended
			o.SuspendedAt = &suspended
		} else if was {
			m.suspended, m.resumed = time.Time{}, at
		}
		if !m.resumed.IsZero() && o.SuspendedAt == nil {
			resumed := m.resumed
			o.ResumedAt = &resumed
		}
		if m.applied == 0 || !e.noChange {
			m.applied = d.Mbps
		}
		o.Bandwidth = m.applied
	}
	position, err := observe(context.Background(), e.w.log, e.to, d.EdgeNodeID, KindSoftware, at, []Observation{o})
	return position > 0, err
}
