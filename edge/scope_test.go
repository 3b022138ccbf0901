package edge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOnlyWhatHasChangedIsLookedAt counts what the agent asks of its node: with thousands of connections, each thing that happens to
// one of them must not cost a look at all.
func TestOnlyWhatHasChangedIsLookedAt(t *testing.T) {
	t.Parallel()
	p, n := newMemoryPlatform(tick), newMemoryNode()
	var wanted []DesiredConnection
	for tag := 1; tag <= 5; tag++ {
		wanted = append(wanted, desiredConnection(tag, Production))
	}
	p.want(wanted...)
	runAgentWith(t, Config{Platform: p, Node: n, StateDir: t.TempDir(), resync: time.Hour})
	for _, c := range wanted {
		awaitObserved(t, p, c.ID, "open", isOpen)
	}
	// step does something, waits until it is done, and compares what was looked at for it.
	step := func(name string, do func(), done func() string, looks ...string) {
		t.Helper()
		n.set(func() { clear(n.looks) })
		do()
		eventually(t, 10*time.Second, done)
		time.Sleep(8 * tick) // for what should not be; readings are delivered all the time
		n.set(func() {
			var got []string
			for _, look := range slices.Sorted(maps.Keys(n.looks)) {
				got = append(got, fmt.Sprint(look, " ", n.looks[look]))
			}
			if !slices.Equal(got, looks) {
				t.Errorf("%s: looked at %v, want %v", name, got, looks)
			}
		})
	}
	gone := func(c DesiredConnection, tag int) func() string {
		return func() string {
			if o := p.observed(c.ID); c.Phase == Absent && !o.Removed {
				return fmt.Sprintf("%s is not removed: %+v", c.ID, o)
			}
			if tags := n.tags(); slices.Contains(tags, tag) {
				return fmt.Sprintf("%s is on the node: %v", c.ID, tags)
			}
			return ""
		}
	}

	step("readings", func() { n.traffic(1000) }, func() string {
		if in, _ := p.bytes("con_1"); in < 1000 {
			return "they are not there"
		}
		return ""
	})
	wanted[1].BandwidthMbps = 77
	step("bandwidth", func() { p.want(wanted...) }, func() string {
		if o := p.observed("con_2"); o.Bandwidth != 77 {
			return fmt.Sprintf("it is %d", o.Bandwidth)
		}
		return ""
	}, "ensure con_2 1")
	step("nothing", func() { p.want(wanted...) }, func() string { return "" })
	step("a session", func() {
		n.set(func() { n.moved, n.state = []int{3, 9}, "active" })
		poke(n.changes)
	}, func() string {
		if o := p.observed("con_3"); len(o.Sessions) == 0 || o.Sessions[0].State != "active" {
			return fmt.Sprintf("%+v", o)
		}
		return ""
	}, "follow con_3 1")
	if o := p.observed("con_4"); o.Sessions[0].State == "active" {
		t.Errorf("what is reported of another connection was looked at: %+v", o)
	}
	wanted[3].Phase = Absent
	step("absent", func() { p.want(wanted...) }, gone(wanted[3], 4))
	step("dropped", func() { p.want(slices.Delete(slices.Clone(wanted), 3, 4)...) }, func() string { return "" })
	wanted = slices.Delete(wanted, 3, 4)
	fresh := desiredConnection(8, Testing)
	step("a new one", func() { p.want(append(wanted, fresh)...) }, func() string {
		if o := p.observed(fresh.ID); !settled(o.Sessions) && len(o.Sessions) == 0 {
			return fmt.Sprintf("%+v", o)
		}
		return ""
	}, "ensure con_8 1")
	fresh.Phase = Absent
	step("absent before it was opened", func() { p.want(append(wanted, fresh)...) }, gone(fresh, 8))
	fresh.ID, fresh.Tag, fresh.Phase = "con_9", 9, Testing
	step("one more", func() { p.want(append(wanted, fresh)...) }, func() string { return "" }, "ensure con_9 1")
	step("dropped before it was opened", func() { p.want(wanted...) }, gone(fresh, 9))
	n.traffic(500)
	last := wanted[3]
	step("dropped while it is open", func() { p.want(wanted[:3]...) }, gone(last, last.Tag))
	awaitBytes(t, p, n, last.ID)
	moved := wanted[2]
	moved.Tag = 6
	step("another tag", func() { p.want(wanted[0], wanted[1], moved) }, gone(wanted[2], 3), "ensure con_3 1")
	wanted[0].Phase, wanted[1].Phase = Absent, Absent
	step("the others", func() { p.want(wanted[0], wanted[1], moved) }, gone(wanted[0], 1))
	eventually(t, 10*time.Second, gone(wanted[1], 2))
	if calls := strings.Join(n.history(), ", "); strings.Count(calls, "remove") != 7 {
		t.Errorf("removed more or less than was to go: %s", calls)
	}
	for _, id := range []string{"con_1", "con_2", "con_4"} {
		awaitBytes(t, p, n, id)
	}
}

// tags are on the node.
func (n *memoryNode) tags() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.on))
}
