package edge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestFromAnyState has agents take over nodes that agents before them left in whatever state, and that a person changed by
// hand since: connections taken off, gates opened and closed, bandwidths changed, strangers put on, a tag given to another.
// Every one comes to what is desired, and nothing else stays.
func TestFromAnyState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			choose := rand.New(rand.NewPCG(seed, 6))
			p, n, dir := newMemoryPlatform(time.Hour), newMemoryNode(), t.TempDir()
			const tags = 6
			phases := []Phase{Testing, Production, Production, Suspended, Absent}
			wanted := func() (all []DesiredConnection) {
				for tag := 1; tag <= tags; tag++ {
					if choose.IntN(4) == 0 {
						continue // the platform knows of none, or has dropped it
					}
					c := desiredConnection(tag, phases[choose.IntN(len(phases))])
					if choose.IntN(4) == 0 {
						c.ID = fmt.Sprintf("con_other_%d", tag)
					}
					c.BandwidthMbps = 10 + choose.IntN(90)
					all = append(all, c)
				}
				return all
			}
			byHand := func() {
				for range choose.IntN(6) {
					tag := 1 + choose.IntN(tags+2)
					switch c := n.on[tag]; {
					case c == nil:
						n.meters++
						n.on[tag] = &memoryConnection{id: "con_stranger", open: choose.IntN(2) == 0, counters: Counters{Meter: n.meters}}
					case choose.IntN(3) == 0:
						delete(n.on, tag)
					case choose.IntN(2) == 0:
						c.open = !c.open
					default:
						c.mbps = 1 + choose.IntN(1000)
					}
				}
			}
			isAsDesired := func(all []DesiredConnection) string {
				n.mu.Lock()
				defer n.mu.Unlock()
				var wrong strings.Builder
				on := 0
				for _, c := range all {
					is := n.on[c.Tag]
					switch {
					case c.Phase == Absent:
						continue
					case is == nil:
						fmt.Fprintf(&wrong, "%s is not there; ", c.ID)
						continue
					case is.id != c.ID || is.open != (c.Phase == Production) || is.mbps != c.BandwidthMbps || c.Phase == Production && is.halted:
						fmt.Fprintf(&wrong, "%+v is to be %+v; ", *is, c)
					}
					on++
				}
				if len(n.on) != on {
					fmt.Fprintf(&wrong, "%d are on the node, want %d", len(n.on), on)
				}
				return wrong.String()
			}
			for range 3 {
				n.set(byHand)
				all := wanted()
				p.want(all...)
				stop := runAgentWith(t, Config{Platform: p, Node: n, StateDir: dir, resync: 50 * time.Millisecond})
				eventually(t, time.Minute, func() string { return isAsDesired(all) })
				n.traffic(1000)
				n.set(byHand) // under the agent's hands
				all = wanted()
				p.want(all...)
				eventually(t, time.Minute, func() string { return isAsDesired(all) })
				stop()
			}
		})
	}
}
