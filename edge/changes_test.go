package edge

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestChanges has an agent follow what changes of its node, through restarts of it, half a line at the end of what it keeps,
// and answers that are the whole state: what it comes to, and what it finds after a restart, is the whole.
func TestChanges(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newMemoryPlatform(time.Minute)
	cache := filepath.Join(t.TempDir(), "desired.json")
	restarted := func() *agent {
		a := &agent{cache: cache, log: slog.New(slog.DiscardHandler)}
		a.desired = a.cached()
		return a
	}
	a := restarted()
	var on []DesiredConnection
	for step := range 2000 {
		for range random.IntN(3) { // several may change between two looks
			id := fmt.Sprint("con_", random.IntN(30))
			at := -1
			for i := range on {
				if on[i].ID == id {
					at = i
				}
			}
			switch {
			case at >= 0 && random.IntN(2) == 0:
				on = append(on[:at:at], on[at+1:]...)
			case at >= 0:
				on[at].BandwidthMbps++
			default:
				on = append(on, DesiredConnection{ID: id, Tag: 1 + random.IntN(99), Phase: Production, A: Attachment{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
			}
			p.want(on...)
		}
		after := int64(0)
		if a.fresh && random.IntN(9) > 0 {
			after = a.desired.Revision
		}
		before := map[string]DesiredConnection{}
		if a.fresh {
			for _, c := range a.desired.Connections {
				before[c.ID] = c
			}
		}
		d, err := p.DesiredState(t.Context(), after, 0)
		if err != nil {
			t.Fatal(err)
		}
		fresh := a.fresh
		of := a.adopt(d)
		whole := p.since(0)
		whole.sorted()
		same(t, step, "it follows", *a.desired, whole)
		if fresh { // what is in scope is what has changed, no more and no less
			want := scope{}
			for id := range (&DesiredState{Connections: values(before)}).replace(whole) {
				want[id] = true
			}
			if !reflect.DeepEqual(of, want) {
				t.Fatalf("step %d: %v is taken for what has changed, which is %v", step, of, want)
			}
		}
		if random.IntN(10) > 0 {
			continue
		}
		if random.IntN(2) == 0 { // it was killed while it wrote the next line
			file, err := os.OpenFile(cache, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = file.WriteString(`{"revision":99999,"since":`)
			file.Close()
		}
		if a = restarted(); a.desired == nil {
			t.Fatalf("step %d: nothing is left after a restart", step)
		}
		same(t, step, "it was restarted", *a.desired, whole)
	}
	if a.desired == nil || !a.fresh {
		a.adopt(p.since(0))
	}
	for range 1000 {
		if len(on) == 0 {
			on = []DesiredConnection{{ID: "con_0"}}
		}
		on[0].BandwidthMbps++
		p.want(on...)
		a.adopt(p.since(a.desired.Revision))
	}
	if content, err := os.ReadFile(cache); err != nil || len(content) > 200_000 {
		t.Errorf("what is kept has %d bytes, %v", len(content), err)
	}
}

func values(m map[string]DesiredConnection) (all []DesiredConnection) {
	for _, c := range m {
		all = append(all, c)
	}
	return all
}

func same(t *testing.T, step int, when string, got, want DesiredState) {
	t.Helper()
	got.Since, got.Gone = 0, nil
	if len(got.Connections) == 0 && len(want.Connections) == 0 {
		got.Connections, want.Connections = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("step %d, %s:\n  %+v, want\n  %+v", step, when, got, want)
	}
}
