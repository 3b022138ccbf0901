package edge

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/bgp"
)

// memoryPlatform records what an agent does with it.
type memoryPlatform struct {
	mu           sync.Mutex
	desired      DesiredState
	changed      chan struct{}
	down         bool
	deaf         bool                   // takes no observations
	takeNone     bool                   // takes no readings
	loseAnswers  bool                   // take readings, but let the answer get lost
	refuse       func(Reading) string   // why a reading is refused
	opened       map[string]time.Time   // by connection, as reported
	observations map[string]Observation // the last of each
	probes       []Probe                // all that were reported
	readings     map[ReadingID]Reading  // those taken
	order        []ReadingID            // in order of arrival
	problems     []string               // what an agent must never do
	lastKind     Kind
	revision     int64                           // the newest that an agent said it has
	turns        map[string]map[time.Time]string // when a connection was said to be suspended and resumed
	told         map[string]int64                // the revision in which a connection was last another, or went
}

func newMemoryPlatform(interval time.Duration) *memoryPlatform {
	return &memoryPlatform{changed: make(chan struct{}), opened: map[string]time.Time{}, observations: map[string]Observation{},
		readings: map[ReadingID]Reading{}, turns: map[string]map[time.Time]string{}, told: map[string]int64{},
		desired: DesiredState{Revision: 1, ASN: 64500, RouterID: netip.MustParseAddr("192.0.2.1"), ReadingInterval: interval}}
}

var errDown = domain.Errorf(domain.Unavailable, "memoryPlatform", "the platform is down")

func (p *memoryPlatform) DesiredState(ctx context.Context, after int64, wait time.Duration) (DesiredState, error) {
	limit := time.After(wait)
	for {
		p.mu.Lock()
		d, changed, down := p.since(after), p.changed, p.down
		p.mu.Unlock()
		if down {
			return DesiredState{}, errDown
		}
		if d.Revision > after {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return DesiredState{}, ctx.Err()
		case <-limit:
			return d, nil
		case <-changed:
		}
	}
}

// since returns the desired state, or what has changed of it after a revision that is none of the future.
func (p *memoryPlatform) since(after int64) DesiredState {
	d := p.desired
	d.Connections = slices.Clone(d.Connections)
	if after == 0 || after > d.Revision {
		return d
	}
	d.Since = after
	d.Connections = slices.DeleteFunc(d.Connections, func(c DesiredConnection) bool { return p.told[c.ID] <= after })
	for id, revision := range p.told {
		if revision > after && !slices.ContainsFunc(p.desired.Connections, func(c DesiredConnection) bool { return c.ID == id }) {
			d.Gone = append(d.Gone, id)
		}
	}
	return d
}

func (p *memoryPlatform) Report(ctx context.Context, kind Kind, revision int64, observations []Observation) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.deaf || ctx.Err() != nil {
		return errDown
	}
	p.lastKind, p.revision = kind, max(p.revision, revision)
	for _, o := range observations {
		for what, at := range map[string]time.Time{"suspended": o.SuspendedAt, "resumed": o.ResumedAt} {
			if at.IsZero() {
				continue
			}
			if p.turns[o.ConnectionID] == nil {
				p.turns[o.ConnectionID] = map[time.Time]string{}
			}
			p.turns[o.ConnectionID][at] = what
		}
		if o.Probe != nil && (p.observations[o.ConnectionID].Probe == nil || *p.observations[o.ConnectionID].Probe != *o.Probe) {
			p.probes = append(p.probes, *o.Probe)
		}
		if _, known := p.opened[o.ConnectionID]; !known && !o.OpenedAt.IsZero() {
			p.opened[o.ConnectionID] = o.OpenedAt
		}
		if o.Removed {
			for id := range p.readings {
				if id.Connection == o.ConnectionID && p.readings[id].To.After(o.ClosedAt) {
					p.problems = append(p.problems, fmt.Sprintf("a reading of %s ends after it was closed", o.ConnectionID))
				}
			}
		}
		p.observations[o.ConnectionID] = o
	}
	return nil
}

func (p *memoryPlatform) SendReadings(ctx context.Context, readings []Reading) ([]Verdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.takeNone || ctx.Err() != nil {
		return nil, errDown
	}
	if len(readings) == 0 || len(readings) > maxBatch {
		p.problems = append(p.problems, fmt.Sprintf("a batch of %d readings", len(readings)))
	}
	var verdicts []Verdict
	for _, r := range readings {
		if _, opened := p.opened[r.Connection]; !opened {
			p.problems = append(p.problems, fmt.Sprintf("a reading of %s before its opening was reported", r.Connection))
		}
		v := Verdict{ReadingID: r.ReadingID}
		if p.refuse != nil {
			v.Problem = p.refuse(r)
		}
		known, isKnown := p.readings[r.ReadingID]
		switch {
		case v.Problem != "":
			v.Rejected = true
		case isKnown && known != r:
			v.Rejected, v.Problem = true, "other numbers under the same identity"
			p.problems = append(p.problems, fmt.Sprintf("%+v, then %+v", known, r))
		case !isKnown:
			p.readings[r.ReadingID] = r
			p.order = append(p.order, r.ReadingID)
		}
		verdicts = append(verdicts, v)
	}
	if p.loseAnswers {
		return nil, errDown
	}
	return verdicts, nil
}

// want changes the desired state.
func (p *memoryPlatform) want(connections ...DesiredConnection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := DesiredState{Connections: connections}
	p.desired.Revision++
	for id := range p.desired.replace(next) {
		p.told[id] = p.desired.Revision
	}
	p.desired.Connections = slices.Clone(connections)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *memoryPlatform) set(f func(*memoryPlatform)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *memoryPlatform) observed(connection string) Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.observations[connection]
}

// of returns the readings of a connection in order of time.
func (p *memoryPlatform) of(connection string) []Reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Reading
	for _, r := range p.readings {
		if r.Connection == connection {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(x, y Reading) int { return x.From.Compare(y.From) })
	return all
}

// bytes returns the sums of a connection.
func (p *memoryPlatform) bytes(connection string) (in, out int64) {
	for _, r := range p.of(connection) {
		in, out = in+r.BytesIn, out+r.BytesOut
	}
	return in, out
}

// check fails the test if the agent did what it must not do, or if the readings of a connection overlap or leave a gap.
func (p *memoryPlatform) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	for _, problem := range p.problems {
		t.Error(problem)
	}
	connections := map[string]bool{}
	for id := range p.readings {
		connections[id.Connection] = true
	}
	p.mu.Unlock()
	for id := range connections {
		var last Reading
		for i, r := range p.of(id) {
			if !r.To.After(r.From) || r.BytesIn < 0 || r.BytesOut < 0 {
				t.Errorf("%s has the reading %+v", id, r)
			}
			suspended := p.turns[id][last.To] == "suspended" && p.turns[id][r.From] == "resumed" && r.From.After(last.To)
			if i > 0 && !r.From.Equal(last.To) && !suspended {
				t.Errorf("%s: a reading to %v is followed by one from %v", id, last.To, r.From)
			}
			last = r
		}
	}
}

// memoryNode is a node whose kernel is a map. It outlives the agents that are killed on it.
type memoryNode struct {
	mu      sync.Mutex
	on      map[int]*memoryConnection
	crossed map[string]int64 // bytes in that crossed or were counted while the connection was open, by connection
	changes chan struct{}
	moved   []int          // tags, for Changed
	state   string         // of all sessions
	looks   map[string]int // at single connections, by what and id; at all, by "list"
	probeOK bool
	calls   []string
	meters  int64
}

type memoryConnection struct {
	id       string
	open     bool
	halted   bool
	counters Counters
	mbps     int
}

func newMemoryNode() *memoryNode {
	return &memoryNode{on: map[int]*memoryConnection{}, crossed: map[string]int64{}, changes: make(chan struct{}, 1), looks: map[string]int{}, state: bgp.Established, probeOK: true}
}

func (n *memoryNode) call(format string, args ...any) {
	n.calls = append(n.calls, fmt.Sprintf(format, args...))
}

// traffic moves bytes through every open gate.
func (n *memoryNode) traffic(bytes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.on {
		if c.halted {
			continue
		}
		if c.open {
			n.crossed[c.id] += int64(bytes)
			c.counters.BytesIn += bytes
			c.counters.BytesOut += 2 * bytes
			c.counters.PacketsIn++
			c.counters.PacketsOut++
		}
	}
}

// chatter counts what is not the connection's traffic, such as BGP before it is opened.
func (n *memoryNode) chatter(bytes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.on {
		if !c.open && !c.halted {
			c.counters.BytesIn += bytes
		}
	}
}

func (n *memoryNode) Kind() Kind                                    { return EBPF }
func (n *memoryNode) Configure(context.Context, DesiredState) error { return nil }
func (n *memoryNode) Changes() <-chan struct{}                      { return n.changes }

func (n *memoryNode) Follow(_ context.Context, c DesiredConnection) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[c.Tag] == nil {
		return domain.Errorf(domain.NotFound, "memoryNode.Follow", "no tag %d", c.Tag)
	}
	n.looks["follow "+c.ID]++
	return nil
}

func (n *memoryNode) Changed() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.moved = nil }()
	return n.moved
}

func (n *memoryNode) Ensure(_ context.Context, c DesiredConnection) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looks["ensure "+c.ID]++
	if n.on[c.Tag] == nil {
		n.call("ensure %s", c.ID)
		n.meters++
		n.on[c.Tag] = &memoryConnection{id: c.ID, counters: Counters{Meter: n.meters}}
	}
	n.on[c.Tag].halted, n.on[c.Tag].id, n.on[c.Tag].mbps = false, c.ID, c.BandwidthMbps
	return nil
}

func (n *memoryNode) Sessions(_ context.Context, tag int) ([]Session, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] == nil {
		return nil, "", nil
	}
	return []Session{{Side: bgp.A, State: n.state}, {Side: bgp.Z, State: n.state}}, "", nil
}

func (n *memoryNode) Probe(context.Context, DesiredConnection) (bool, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.call("probe")
	return n.probeOK, "as told"
}

func (n *memoryNode) SetGate(tag int, open bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.on[tag]
	if c == nil {
		return domain.Errorf(domain.NotFound, "memoryNode", "no tag %d", tag)
	}
	n.call("gate %s %v", c.id, open)
	c.open = open
	return nil
}

func (n *memoryNode) Gate(tag int) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.on[tag] != nil && n.on[tag].open, nil
}

func (n *memoryNode) Counters(tag int) (Counters, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] == nil {
		return Counters{}, domain.Errorf(domain.NotFound, "memoryNode", "no tag %d", tag)
	}
	return n.on[tag].counters, nil
}

func (n *memoryNode) Bandwidth(tag int) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] == nil || n.on[tag].halted {
		return 0, nil
	}
	return n.on[tag].mbps, nil
}

func (n *memoryNode) Pause(tag int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] != nil {
		n.call("pause %s", n.on[tag].id)
		n.on[tag].halted, n.on[tag].open = true, false
	}
	return nil
}

func (n *memoryNode) Halt(_ context.Context, tag int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] != nil {
		n.call("halt %s", n.on[tag].id)
		n.on[tag].halted, n.on[tag].open = true, false
	}
	return nil
}

func (n *memoryNode) Remove(_ context.Context, tag int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on[tag] != nil {
		n.call("remove %s", n.on[tag].id)
	}
	delete(n.on, tag)
	return nil
}

func (n *memoryNode) List() ([]int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looks["list"]++
	return slices.Sorted(maps.Keys(n.on)), nil
}

func (n *memoryNode) history() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

func (n *memoryNode) total(connection string) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.crossed[connection]
}

// runAgent runs an agent until the returned function is called.
func runAgent(t *testing.T, p Platform, n Node, dir string) (stop func()) {
	t.Helper()
	return runAgentWith(t, Config{Platform: p, Node: n, StateDir: dir})
}

func runAgentWith(t *testing.T, config Config) (stop func()) {
	t.Helper()
	config.Logger = testLogger(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, config)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run returned %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func eventually(t *testing.T, within time.Duration, f func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		complaint := f()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", within, complaint)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// desiredConnection is a connection with the given tag and phase.
func desiredConnection(tag int, phase Phase) DesiredConnection {
	return DesiredConnection{ID: fmt.Sprintf("con_%d", tag), Tag: tag, Phase: phase}
}

// settled reports whether all sessions are up.
func settled(sessions []Session) bool {
	for _, s := range sessions {
		if s.State != "established" {
			return false
		}
	}
	return len(sessions) >= 2
}
