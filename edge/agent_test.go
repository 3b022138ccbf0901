package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/domain"
)

// tick is a short interval: readings come often, and mostly late, which makes their ends arbitrary but contiguous.
const tick = 40 * time.Millisecond

func awaitObserved(t *testing.T, p *memoryPlatform, connection string, what string, f func(Observation) bool) {
	t.Helper()
	eventually(t, 10*time.Second, func() string {
		if o := p.observed(connection); !f(o) {
			return fmt.Sprintf("%s is not %s: %+v", connection, what, o)
		}
		return ""
	})
}

func isOpen(o Observation) bool    { return !o.OpenedAt.IsZero() }
func isRemoved(o Observation) bool { return o.Removed }

func isSuspended(o Observation) bool { return !o.SuspendedAt.IsZero() }
func isResumed(o Observation) bool   { return o.SuspendedAt.IsZero() && !o.ResumedAt.IsZero() }

// awaitBytes waits until the platform has exactly what crossed.
func awaitBytes(t *testing.T, p *memoryPlatform, n *memoryNode, connection string) {
	t.Helper()
	eventually(t, 10*time.Second, func() string {
		in, out := p.bytes(connection)
		if want := n.total(connection); in != want || out != 2*want {
			return fmt.Sprintf("%s: %d bytes in and %d out are read, %d and %d crossed", connection, in, out, want, 2*want)
		}
		return ""
	})
}

func TestLifeOfAConnection(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	stop := runAgentWith(t, Config{Platform: p, Node: n, StateDir: t.TempDir(), resync: tick})

	// Testing: set up, the gate stays closed, the probe runs once.
	c := desiredConnection(1, Testing)
	p.want(c)
	awaitObserved(t, p, c.ID, "up", func(o Observation) bool { return settled(o.Sessions) })
	c.ProbeID = "prb_1"
	p.want(c)
	awaitObserved(t, p, c.ID, "probed", func(o Observation) bool { return o.Probe != nil && o.Probe.Passed && o.Probe.ID == "prb_1" })
	n.set(func() { n.probeOK = false })
	c.ProbeID = "prb_2"
	p.want(c)
	awaitObserved(t, p, c.ID, "probed again", func(o Observation) bool { return o.Probe != nil && !o.Probe.Passed && o.Probe.ID == "prb_2" })
	n.chatter(5000) // BGP and the probe are not the customer's traffic
	if open, _ := n.Gate(1); open || isOpen(p.observed(c.ID)) {
		t.Fatal("the gate is open in testing")
	}
	// Somebody opens the gate by hand, and nothing else happens.
	n.set(func() { n.on[1].open = true })
	eventually(t, 5*time.Second, func() string {
		if open, _ := n.Gate(1); open {
			return "the gate stays open in testing"
		}
		return ""
	})

	// Production.
	c.Phase, c.ProbeID = Production, ""
	before := time.Now()
	p.want(c)
	awaitObserved(t, p, c.ID, "open", isOpen)
	opened := p.observed(c.ID).OpenedAt
	if opened.Before(before.Truncate(time.Microsecond)) || opened.After(time.Now()) || opened.Nanosecond()%1000 != 0 {
		t.Errorf("opened at %v, between %v and now", opened, before)
	}
	for range 20 {
		n.traffic(1234)
		time.Sleep(5 * time.Millisecond)
	}
	awaitBytes(t, p, n, c.ID)
	if first := p.of(c.ID)[0]; !first.From.Equal(opened) {
		t.Errorf("the first reading is from %v, want the opening, %v", first.From, opened)
	}

	stop()
	calls := n.history()
	if !slices.Contains(calls, "gate con_1 true") || slices.Contains(calls, "remove con_1") {
		t.Errorf("the node saw %v", calls)
	}
	if probes := len(p.probes); probes != 2 {
		t.Errorf("%d probes were reported, want each of 2 once", probes)
	}
	p.check(t)
}

// A suspended connection keeps its sessions, carries nothing and counts nothing; what it carried before is read to the byte.
func TestSuspension(t *testing.T) {
	t.Parallel()
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	c := desiredConnection(1, Production)
	c.BandwidthMbps = 100
	p.want(c)
	stop := runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "open at its bandwidth", func(o Observation) bool { return isOpen(o) && o.Bandwidth == 100 })
	opened := p.observed(c.ID).OpenedAt
	n.traffic(1000)
	for round := range 3 {
		c.Phase = Suspended
		p.want(c)
		awaitObserved(t, p, c.ID, "suspended", isSuspended)
		if open, _ := n.Gate(1); open {
			t.Fatal("the gate is open while it is suspended")
		}
		for range 5 {
			n.traffic(500) // finds the gate closed
			n.chatter(77)
			time.Sleep(tick)
		}
		if o := p.observed(c.ID); !settled(o.Sessions) || o.Bandwidth != 100 || !o.OpenedAt.Equal(opened) || !o.ClosedAt.IsZero() {
			t.Errorf("while suspended it is %+v", o)
		}
		if round == 1 { // another agent comes, and somebody has opened the gate by hand
			stop()
			n.set(func() { n.on[1].open = true })
			stop = runAgent(t, p, n, dir)
			eventually(t, 5*time.Second, func() string {
				if open, _ := n.Gate(1); open {
					return "the gate stays open though it is suspended"
				}
				return ""
			})
		}
		awaitBytes(t, p, n, c.ID)
		c.Phase = Production
		p.want(c)
		awaitObserved(t, p, c.ID, "resumed", isResumed)
		n.traffic(2000)
		awaitBytes(t, p, n, c.ID)
	}
	c.BandwidthMbps = 300
	p.want(c)
	awaitObserved(t, p, c.ID, "at its new bandwidth", func(o Observation) bool { return o.Bandwidth == 300 && o.OpenedAt.Equal(opened) })
	n.traffic(3000)
	c.Phase = Suspended
	p.want(c)
	awaitObserved(t, p, c.ID, "suspended", func(o Observation) bool { return isSuspended(o) && o.SuspendedAt.After(o.OpenedAt) })
	suspended := p.observed(c.ID).SuspendedAt
	c.Phase = Absent
	p.want(c)
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	awaitBytes(t, p, n, c.ID)
	readings := p.of(c.ID)
	if last := readings[len(readings)-1]; !last.To.Equal(suspended) || !p.observed(c.ID).ClosedAt.Equal(suspended) {
		t.Errorf("the last reading is to %v, closed %v, suspended %v", last.To, p.observed(c.ID).ClosedAt, suspended)
	}
	if p.revision != p.desired.Revision {
		t.Errorf("the agent says it has revision %d of %d", p.revision, p.desired.Revision)
	}
	stop()
	p.check(t)
}

// An agent that lost its state directory while a connection is suspended leaves it suspended, and counts on when it is resumed.
func TestSuspendedWithoutMemory(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	stop := runAgent(t, p, n, t.TempDir())
	awaitObserved(t, p, c.ID, "open", isOpen)
	n.traffic(1000)
	awaitBytes(t, p, n, c.ID)
	c.Phase = Suspended
	p.want(c)
	awaitObserved(t, p, c.ID, "suspended", isSuspended)
	stop()
	time.Sleep(1100 * time.Millisecond) // an epoch is a second
	runAgent(t, p, n, t.TempDir())
	n.chatter(999)
	c.Phase = Production
	p.want(c)
	awaitObserved(t, p, c.ID, "resumed", isResumed)
	n.traffic(10)
	awaitBytes(t, p, n, c.ID)
}

func (n *memoryNode) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func TestRestartAndRemoval(t *testing.T) {
	t.Parallel()
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	c := desiredConnection(1, Production)
	p.want(c)
	stop := runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "open", isOpen)
	opened := p.observed(c.ID).OpenedAt
	n.traffic(1000)
	stop()
	n.traffic(2000) // while no agent runs
	p.set(func(p *memoryPlatform) { p.down = true })

	// The platform is away; the new agent goes on with what it remembers.
	stop = runAgent(t, p, n, dir)
	n.traffic(3000)
	eventually(t, 5*time.Second, func() string {
		if content, _ := os.ReadFile(filepath.Join(dir, "journal")); strings.Count(string(content), `"reading"`) < 3 {
			return "no readings are made without the platform"
		}
		return ""
	})
	p.set(func(p *memoryPlatform) { p.down = false })
	awaitBytes(t, p, n, c.ID)
	if again := p.observed(c.ID).OpenedAt; !again.Equal(opened) {
		t.Errorf("after a restart it is open since %v, want %v", again, opened)
	}

	// Absent: the gate closes, what crossed until then is delivered, nothing is left, then it is said.
	n.traffic(4000)
	c.Phase = Absent
	p.want(c)
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	awaitBytes(t, p, n, c.ID)
	readings, o := p.of(c.ID), p.observed(c.ID)
	if last := readings[len(readings)-1]; !last.To.Equal(o.ClosedAt) || !o.OpenedAt.Equal(opened) {
		t.Errorf("closed at %v, the last reading is to %v, opened %v", o.ClosedAt, last.To, o.OpenedAt)
	}
	if tags, _ := n.List(); len(tags) != 0 {
		t.Errorf("%v is left on the node", tags)
	}
	calls := n.history()
	if order := calls[max(0, len(calls)-3):]; !slices.Equal(order, []string{"gate con_1 false", "halt con_1", "remove con_1"}) {
		t.Errorf("the node saw at last %v", order)
	}
	// A new agent says the same, until the platform has heard enough and the memory is dropped.
	stop()
	p.set(func(p *memoryPlatform) { clear(p.observations) })
	stop = runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "removed", func(o Observation) bool { return o.Removed && o.ClosedAt.Equal(readings[len(readings)-1].To) })
	p.want()
	eventually(t, 5*time.Second, func() string {
		content, err := os.ReadFile(filepath.Join(dir, "journal"))
		if err != nil || !strings.Contains(string(content), `"forget":"con_1"`) {
			return "the closed meter is not forgotten"
		}
		return ""
	})
	stop()
	p.check(t)
}

// dyingNode ends the agent's thread before or after one of its calls, as a SIGKILL does.
type dyingNode struct {
	*memoryNode
	left  atomic.Int64 // calls until death
	after bool
	kill  context.CancelFunc
}

func (d *dyingNode) around(call func()) {
	dies := d.left.Add(-1) == 0
	if !dies || d.after {
		call()
	}
	if dies {
		d.kill()
		runtime.Goexit()
	}
}

func (d *dyingNode) Ensure(ctx context.Context, c DesiredConnection) (err error) {
	d.around(func() { err = d.memoryNode.Ensure(ctx, c) })
	return err
}

func (d *dyingNode) SetGate(tag int, open bool) (err error) {
	d.around(func() { err = d.memoryNode.SetGate(tag, open) })
	return err
}

func (d *dyingNode) Gate(tag int) (open bool, err error) {
	d.around(func() { open, err = d.memoryNode.Gate(tag) })
	return open, err
}

func (d *dyingNode) Counters(tag int) (c Counters, err error) {
	d.around(func() { c, err = d.memoryNode.Counters(tag) })
	return c, err
}

func (d *dyingNode) Halt(ctx context.Context, tag int) (err error) {
	d.around(func() { err = d.memoryNode.Halt(ctx, tag) })
	return err
}

func (d *dyingNode) Pause(tag int) (err error) {
	d.around(func() { err = d.memoryNode.Pause(tag) })
	return err
}

func (d *dyingNode) Remove(ctx context.Context, tag int) (err error) {
	d.around(func() { err = d.memoryNode.Remove(ctx, tag) })
	return err
}

func (d *dyingNode) List() (tags []int, err error) {
	d.around(func() { tags, err = d.memoryNode.List() })
	return tags, err
}

// TestKilledAnywhere kills the agent before and after each of its first calls to the node, on the way into production,
// into a suspension, out of it, and on the way out of either, under traffic. Not a byte may be lost or counted twice, none
// be counted that did not cross, and nothing may be left.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	const calls = 14 // more than either way takes; what comes after is the same again
	for _, way := range []string{"in", "out", "pause", "resume", "out paused"} {
		for k := 1; k <= calls; k++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/after=%v", way, k, after), func(t *testing.T) {
					t.Parallel()
					killedAt(t, way, int64(k), after)
				})
			}
		}
	}
}

func killedAt(t *testing.T, way string, k int64, after bool) {
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	c := desiredConnection(1, Testing)
	p.want(c)
	stop := runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "up", func(o Observation) bool { return settled(o.Sessions) })
	n.chatter(777)
	traffic, cancelTraffic := context.WithCancel(t.Context())
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		for traffic.Err() == nil {
			n.traffic(1500)
			time.Sleep(time.Millisecond)
		}
	}()
	defer func() { cancelTraffic(); <-moved }()

	die := func() {
		stop() // before it hears of it
		p.want(c)
		// It may have fewer calls to make before all is done; then it ends with the time.
		ctx, kill := context.WithTimeout(t.Context(), time.Second)
		defer kill()
		dying := &dyingNode{memoryNode: n, after: after, kill: kill}
		dying.left.Store(k)
		if err := Run(ctx, Config{Platform: p, Node: dying, StateDir: dir, Logger: testLogger(t)}); err != nil {
			t.Errorf("Run returned %v", err)
		}
		n.traffic(1500) // while no agent runs
		if way != "out" {
			n.chatter(64) // what finds the gate closed meanwhile
		}
		stop = runAgent(t, p, n, dir)
	}
	c.Phase = Production
	if way == "in" {
		die()
	} else {
		p.want(c)
	}
	awaitObserved(t, p, c.ID, "open", isOpen)
	eventually(t, 10*time.Second, func() string {
		if len(p.of(c.ID)) < 3 {
			return "there are no readings"
		}
		return ""
	})
	step := func(name string, phase Phase, what string, f func(Observation) bool) {
		c.Phase = phase
		if way == name {
			die()
		} else {
			p.want(c)
		}
		awaitObserved(t, p, c.ID, what, f)
	}
	if way != "in" && way != "out" {
		step("pause", Suspended, "suspended", isSuspended)
		awaitBytes(t, p, n, c.ID)
		n.chatter(64)
	}
	if way == "pause" || way == "resume" {
		step("resume", Production, "resumed", isResumed)
	}
	c.Phase = Absent
	if way == "out" || way == "out paused" {
		die()
	} else {
		p.want(c)
	}
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	awaitBytes(t, p, n, c.ID)
	if tags, _ := n.List(); len(tags) != 0 {
		t.Errorf("%v is left on the node", tags)
	}
	stop()
	p.check(t)
}

func TestAnswersGetLost(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	awaitObserved(t, p, c.ID, "open", isOpen)
	p.set(func(p *memoryPlatform) { p.loseAnswers = true })
	for range 10 {
		n.traffic(1000)
		time.Sleep(20 * time.Millisecond)
	}
	p.set(func(p *memoryPlatform) { p.loseAnswers = false })
	n.traffic(1)
	awaitBytes(t, p, n, c.ID)
	p.check(t)
}

func TestRejectedReadingsAreKept(t *testing.T) {
	t.Parallel()
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	p.refuse = func(r Reading) string {
		if r.Connection == "con_1" && r.Sequence == 2 {
			return "not this one"
		}
		return ""
	}
	p.want(desiredConnection(1, Production), desiredConnection(2, Production))
	runAgent(t, p, n, dir)
	eventually(t, 10*time.Second, func() string {
		n.traffic(10)
		if len(p.of("con_1")) < 5 || len(p.of("con_2")) < 5 {
			return "readings after a rejected one do not arrive"
		}
		return ""
	})
	file, err := os.Open(filepath.Join(dir, rejectedFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	var kept []rejectedReading
	for lines.Scan() {
		var r rejectedReading
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r)
	}
	if len(kept) != 1 || kept[0].Reading.Sequence != 2 || kept[0].Problem != "not this one" || kept[0].Reading.Connection != "con_1" {
		t.Errorf("kept apart: %+v, want the one rejected", kept)
	}
}

func TestMeterIsLost(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	awaitObserved(t, p, c.ID, "open", isOpen)
	n.traffic(1_000_000)
	awaitBytes(t, p, n, c.ID)
	epoch := p.of(c.ID)[0].Epoch
	n.set(func() { n.on[1] = nil; delete(n.on, 1) }) // the node is rebooted
	p.want(c)
	eventually(t, 10*time.Second, func() string {
		if open, _ := n.Gate(1); !open {
			return "the gate is not open again"
		}
		return ""
	})
	n.traffic(500)
	awaitBytes(t, p, n, c.ID)
	readings := p.of(c.ID)
	last := readings[len(readings)-1]
	if last.Epoch <= epoch {
		t.Errorf("the epoch is %d after %d", last.Epoch, epoch)
	}
	p.check(t)
}

func TestNothingWithoutAnOwner(t *testing.T) {
	t.Parallel()
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	// A stranger is on the node, and con_1 will be forgotten by the platform while in production.
	n.on[9] = &memoryConnection{id: "con_stranger", open: true}
	p.want(desiredConnection(1, Production))
	stop := runAgent(t, p, n, dir)
	awaitObserved(t, p, "con_1", "open", isOpen)
	eventually(t, 5*time.Second, func() string {
		if slices.Contains(n.history(), "remove con_stranger") {
			return ""
		}
		return "the stranger stays"
	})
	n.traffic(1000)
	stop()
	// Its tag is wanted by another connection.
	other := desiredConnection(1, Production)
	other.ID = "con_other"
	p.want(other)
	runAgent(t, p, n, dir)
	awaitObserved(t, p, "con_other", "open", isOpen)
	n.traffic(7)
	awaitBytes(t, p, n, "con_1")
	awaitBytes(t, p, n, "con_other")
	p.check(t)
}

// stubbornNode fails to halt a number of times.
type stubbornNode struct {
	*memoryNode
	failures atomic.Int64
}

func (s *stubbornNode) Halt(ctx context.Context, tag int) error {
	if s.failures.Add(-1) >= 0 {
		return domain.Errorf(domain.Internal, "stubbornNode", "no")
	}
	return s.memoryNode.Halt(ctx, tag)
}

func TestNothingIsRemovedBeforeItsLastReading(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), &stubbornNode{memoryNode: newMemoryNode()}
	c := desiredConnection(1, Production)
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	awaitObserved(t, p, c.ID, "open", isOpen)
	n.failures.Store(2)
	c.Phase = Absent
	p.set(func(p *memoryPlatform) { p.desired.ReadingInterval = time.Hour }) // no reading but the last
	n.traffic(1000)
	p.want(c)
	awaitObserved(t, p, c.ID, "in trouble", func(o Observation) bool { return o.Message != "" })
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	awaitBytes(t, p, n.memoryNode, c.ID)
	p.check(t)
}

func TestReadingsWaitForTheOpening(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.deaf = true
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	eventually(t, 5*time.Second, func() string {
		if open, _ := n.Gate(1); !open {
			return "the gate is closed"
		}
		return ""
	})
	for range 10 {
		n.traffic(1000)
		time.Sleep(tick / 2)
	}
	if early := p.of(c.ID); len(early) > 0 {
		t.Errorf("the platform was sent %d readings before it heard of the opening", len(early))
	}
	p.set(func(p *memoryPlatform) { p.deaf = false })
	awaitBytes(t, p, n, c.ID)
	p.check(t)
}

func TestRemovedMeansDelivered(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	awaitObserved(t, p, c.ID, "open", isOpen)
	p.set(func(p *memoryPlatform) { p.takeNone = true })
	n.traffic(1000)
	c.Phase = Absent
	p.want(c)
	awaitObserved(t, p, c.ID, "closed", func(o Observation) bool { return !o.ClosedAt.IsZero() })
	eventually(t, 5*time.Second, func() string {
		if tags, _ := n.List(); len(tags) > 0 {
			return "the node waits for the platform"
		}
		return ""
	})
	time.Sleep(5 * tick)
	if p.observed(c.ID).Removed {
		t.Error("it is said to be removed while readings are undelivered")
	}
	p.set(func(p *memoryPlatform) { p.takeNone = false })
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	awaitBytes(t, p, n, c.ID)
	p.check(t)
}

func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 5
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	c := desiredConnection(1, Production)
	p.want(c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		done <- Run(ctx, Config{Platform: p, Node: n, StateDir: dir, Logger: testLogger(t), SpoolLimit: limit})
	}()
	awaitObserved(t, p, c.ID, "open", isOpen)
	p.set(func(p *memoryPlatform) { p.down = true })
	began := len(p.of(c.ID))
	for range 30 {
		n.traffic(1000)
		time.Sleep(20 * time.Millisecond)
	}
	p.set(func(p *memoryPlatform) { p.down = false })
	awaitBytes(t, p, n, c.ID)
	// One reading covers the time without room.
	var longest time.Duration
	for _, r := range p.of(c.ID)[began:] {
		longest = max(longest, r.To.Sub(r.From))
	}
	if longest < 5*tick {
		t.Errorf("the longest reading is over %v: the spool had more than %d", longest, limit)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	p.check(t)
}

func TestReadingsEndOnBoundaries(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(time.Second), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	runAgent(t, p, n, t.TempDir())
	eventually(t, 10*time.Second, func() string {
		n.traffic(10)
		if len(p.of(c.ID)) < 3 {
			return "no readings"
		}
		return ""
	})
	aligned := 0
	for _, r := range p.of(c.ID) {
		if late := r.To.Sub(r.To.Truncate(time.Second)); late == 0 {
			aligned++
		} else if late <= time.Second/latePart {
			t.Errorf("a reading ends at %v, %v after the second", r.To, late)
		}
	}
	if aligned == 0 {
		t.Error("no reading ends on a boundary")
	}
	p.check(t)
}

func TestOneAgentForAStateDirectory(t *testing.T) {
	t.Parallel()
	p, n, dir := newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	p.want(desiredConnection(1, Production))
	runAgent(t, p, n, dir)
	awaitObserved(t, p, "con_1", "open", isOpen)
	err := Run(t.Context(), Config{Platform: p, Node: n, StateDir: dir, Logger: testLogger(t)})
	if domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a second agent: %v, want a conflict", err)
	}
}
