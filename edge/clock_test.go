package edge

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// settable is a node's clock that is set while agents run by it.
type settable struct {
	mu     sync.Mutex
	off    time.Duration
	passed time.Duration // besides the time that did pass
}

// clock is that of an agent that begins to run.
func (s *settable) clock() func() instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	node, before := nodeClock(), s.passed
	return func() instant {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := node()
		return instant{now.wall.Add(s.off + s.passed), now.up + s.passed - before}
	}
}

func (s *settable) set(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off += by
}

// pass lets time pass.
func (s *settable) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed += d
}

// A node's clock is set forward and back while its agent reads: every byte is in exactly one reading, the readings follow one
// another in time, and they go on at once. What is asked of the connection meanwhile is done, and is said once its time has come.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	clock, p, n, dir := new(settable), newMemoryPlatform(tick), newMemoryNode(), t.TempDir()
	now := clock.clock()
	c := desiredConnection(1, Testing)
	p.want(c)
	stop := runAgentWith(t, Config{Platform: p, Node: n, StateDir: dir, clock: clock.clock(), resync: tick})
	awaitObserved(t, p, c.ID, "up", func(o Observation) bool { return settled(o.Sessions) })
	clock.pass(time.Hour)
	c.Phase = Production
	p.want(c)
	awaitObserved(t, p, c.ID, "open", isOpen)
	goesOn := func(what string) {
		t.Helper()
		for range 3 {
			had := len(p.of(c.ID))
			n.traffic(1000)
			eventually(t, time.Minute, func() string {
				if len(p.of(c.ID)) == had {
					return what + ", nothing is read"
				}
				return ""
			})
		}
		awaitBytes(t, p, n, c.ID)
	}
	readTo := func() time.Time { all := p.of(c.ID); return all[len(all)-1].To }
	var off, ahead time.Duration // how far the clock is off, and was at most
	inTime := func() {
		t.Helper()
		if to, most := readTo(), now().wall.Add(ahead-off); to.After(most) {
			t.Errorf("it is read to %v, and %v is as far as the meter's time can be", to, most)
		}
	}
	goesOn("before")
	inTime()
	for _, by := range []time.Duration{time.Hour, -time.Hour, -time.Second, -time.Hour, time.Second, 3 * time.Hour, -time.Hour} {
		clock.set(by)
		set := now()
		goesOn(fmt.Sprintf("set by %v", by))
		off, ahead = off+by, max(ahead, off+by)
		if to := readTo(); to.Before(set.wall.Add(-tick)) {
			t.Errorf("set by %v to %v, it is read to %v", by, set.wall, to)
		}
		inTime()
	}

	turn := func(phase Phase, open bool, said func(Observation) bool) {
		t.Helper()
		n.traffic(10)
		c.Phase = phase
		p.want(c)
		eventually(t, time.Minute, func() string {
			if is, _ := n.Gate(1); is != open {
				return fmt.Sprintf("to be %s, its gate is open: %v", phase, is)
			}
			return ""
		})
		awaitBytes(t, p, n, c.ID)
		stop()
		p.set(func(p *memoryPlatform) { clear(p.observations) })
		stop = runAgentWith(t, Config{Platform: p, Node: n, StateDir: dir, clock: clock.clock(), resync: tick}) // another agent knows where the last one has read to
		awaitObserved(t, p, c.ID, "seen", func(o Observation) bool { return o.ConnectionID != "" })
		if o := p.observed(c.ID); said(o) {
			t.Errorf("it is said to be %s in the future of %v: %+v", phase, now().wall, o)
		}
		clock.set(time.Hour)
		p.want(c)
		awaitObserved(t, p, c.ID, "said to be "+string(phase), said)
	}
	turn(Suspended, false, isSuspended)
	clock.pass(time.Hour)
	clock.set(-time.Hour)
	turn(Production, true, isResumed)
	goesOn("resumed")
	off = ahead
	inTime()
	clock.set(-time.Hour)
	turn(Absent, false, isRemoved)
	awaitBytes(t, p, n, c.ID)
	p.check(t)

	// It comes back to the node, whose clock is before the time that it left at.
	left := readTo()
	clock.set(-time.Minute)
	c.Phase = Production
	p.want(c)
	awaitObserved(t, p, c.ID, "open again", func(o Observation) bool { return isOpen(o) && o.ClosedAt.IsZero() })
	goesOn("back")
	if o := p.observed(c.ID); !o.OpenedAt.After(left) {
		t.Errorf("it is back since %v, and was read to %v before", o.OpenedAt, left)
	}
}

// The next reading is due at the next boundary of the clock as it is now, and not when that comes to one it was to come to before.
func TestReadingIsDueByTheClockAsItIs(t *testing.T) {
	t.Parallel()
	const interval = 5 * time.Minute
	clock, p, n := new(settable), newMemoryPlatform(interval), newMemoryNode()
	now := clock.clock()
	c := desiredConnection(1, Production)
	p.want(c)
	runAgentWith(t, Config{Platform: p, Node: n, StateDir: t.TempDir(), clock: clock.clock(), resync: tick})
	awaitObserved(t, p, c.ID, "open", isOpen)
	n.traffic(1000)
	attempts := 0
	eventually(t, time.Minute, func() string {
		if in, _ := p.bytes(c.ID); in == 1000 {
			return ""
		}
		if attempts++; attempts%100 == 1 { // 10 ms each; a slow machine may miss the boundary, and is set back once more
			wall := now().wall
			clock.set(wall.Truncate(interval).Sub(wall) - time.Hour - 200*time.Millisecond)
			p.want(c)
		}
		return "nothing is read after the clock was set back"
	})
}
