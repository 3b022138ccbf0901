package bgp

import (
	"fmt"
	"slices"
	"testing"
)

// TestFamiliesAreApart has a connection with sessions of both families, once with each router: each exchanges its own routes, one
// that is switched off leaves the other up, and removing the connection ends both.
func TestFamiliesAreApart(t *testing.T) {
	eachDaemon(t, func(t *testing.T, implementation func(*router) daemon) {
		t.Parallel()
		s := newSpeaker(t)
		a4, z4, a6, z6 := newRouter(t), newRouter(t), newRouter6(t), newRouter6(t)
		for _, end := range []struct {
			link   *router
			asn    uint32
			prefix string
		}{{a4, 65001, "10.1.0.0/16"}, {z4, 65002, "192.0.2.0/24"}, {a6, 65001, "2001:db8:a::/48"}, {z6, 65002, "2001:db8:b::/48"}} {
			implementation(end.link).start(end.asn, "", end.prefix)
		}
		four := Connection{Tag: 3, A: session(a4, 65001, "10.1.0.0/16"), Z: session(z4, 65002, "192.0.2.0/24")}
		six := Connection{Tag: 3, A: session(a6, 65001, "2001:db8:a::/48"), Z: session(z6, 65002, "2001:db8:b::/48")}
		ensure(t, s, four)
		ensure(t, s, six)
		want := []string{"a 10.1.0.0/16 via " + a4.peer.String(), "a 2001:db8:a::/48 via " + a6.peer.String(),
			"z 192.0.2.0/24 via " + z4.peer.String(), "z 2001:db8:b::/48 via " + z6.peer.String()}
		slices.Sort(want)
		awaitRoutes(t, s, 3, want...)
		awaitSessions := func(states ...string) {
			t.Helper()
			eventually(t, patience, func() string {
				all, err := s.ConnectionStatus(t.Context(), 3)
				var got []string
				for _, session := range all {
					got = append(got, fmt.Sprintf("%s %s %s", session.Side, session.Family, session.State))
				}
				if err != nil || !slices.Equal(got, states) {
					return fmt.Sprintf("%q, %v, want %q", got, err, states)
				}
				return ""
			})
		}
		awaitSessions("a ipv4 established", "z ipv4 established", "a ipv6 established", "z ipv6 established")
		if tags := s.List(); !slices.Equal(tags, []int{3}) {
			t.Errorf("tags %v", tags)
		}
		before := states(t, s, 3)
		six.A.Down = true
		ensure(t, s, six)
		awaitSessions("a ipv4 established", "z ipv4 established", "a ipv6 idle", "z ipv6 established")
		awaitRoutes(t, s, 3, want[0], want[2], want[3])
		if now := states(t, s, 3); now[0].Since != before[0].Since || now[1].Since != before[1].Since {
			t.Errorf("a session of IPv4 was restarted: %+v, then %+v", before, now)
		}
		s.Remove(3)
		awaitSessions()
		awaitRoutes(t, s, 3)
	})
}
