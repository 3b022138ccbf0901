package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crossbill/domain"
)

const nodeASN = 64500

func newSpeaker(t testing.TB) *Speaker {
	t.Helper()
	return startSpeaker(t, Options{})
}

// startSpeaker adds to the options what all tests have in common.
func startSpeaker(t testing.TB, o Options) *Speaker {
	t.Helper()
	o.ASN, o.RouterID = nodeASN, netip.MustParseAddr("192.0.2.1")
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func session(r *router, asn uint32, prefixes ...string) Session {
	s := Session{Local: r.local, Peer: r.peer, PeerASN: asn, PrefixLimit: 10}
	for _, p := range prefixes {
		s.Prefixes = append(s.Prefixes, netip.MustParsePrefix(p))
	}
	return s
}

func ensure(t testing.TB, s *Speaker, c Connection) {
	t.Helper()
	eventually(t, patience, func() string { // a process that another test starts has a listener that was closed until its exec
		err := s.Ensure(t.Context(), c)
		if err != nil && strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			return err.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		return ""
	})
}

func states(t testing.TB, s *Speaker, tag int) (pair [2]SessionStatus) {
	t.Helper()
	all, err := s.ConnectionStatus(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	copy(pair[:], all)
	return pair
}

func awaitEstablished(t testing.TB, s *Speaker, tag int) {
	t.Helper()
	eventually(t, patience, func() string {
		pair := states(t, s, tag)
		if pair[0].State != Established || pair[1].State != Established {
			return fmt.Sprintf("the sessions of tag %d are %s and %s", tag, pair[0].State, pair[1].State)
		}
		return ""
	})
}

func awaitRoutes(t testing.TB, s *Speaker, tag int, want ...string) {
	t.Helper()
	eventually(t, patience, func() string {
		routes, err := s.Routes(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range routes {
			got = append(got, fmt.Sprintf("%s %s via %s", r.Side, r.Prefix, r.NextHop))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("routes of tag %d:\n  %s\nwant\n  %s", tag, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		return ""
	})
}

func awaitLearnt(t testing.TB, r *router, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, patience, func() string {
		got := r.learnt()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%s learnt:\n  %s\nwant\n  %s", r.namespace, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		return ""
	})
}

// learns is a route as BIRD shows it when the node announced it to r.
func (r *router) learns(prefix string) string { return prefix + " via " + r.local.Addr().String() }

func TestRoutesCrossAndOnlyRegisteredOnes(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routes: []string{
		"10.1.0.0/16",  // registered
		"10.1.2.0/24",  // longer than registered
		"10.0.0.0/8",   // shorter
		"10.9.0.0/16",  // another
		"0.0.0.0/0",    // everything
		"192.0.2.0/24", // the other side's
	}})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routes: []string{"192.0.2.0/24"}})
	began := time.Now()
	ensure(t, s, Connection{Tag: 7, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")})
	awaitEstablished(t, s, 7)
	t.Logf("both sessions established after %v", time.Since(began).Round(time.Millisecond))
	awaitRoutes(t, s, 7, "a 10.1.0.0/16 via "+a.peer.String(), "z 192.0.2.0/24 via "+z.peer.String())
	awaitLearnt(t, a, a.learns("192.0.2.0/24"), a.learns(z.local.Masked().String()))
	awaitLearnt(t, z, z.learns("10.1.0.0/16"), z.learns(a.local.Masked().String()))
	eventually(t, patience, func() string {
		pair := states(t, s, 7)
		got := [][3]int{{pair[0].PrefixesReceived, pair[0].PrefixesAccepted, pair[0].PrefixesSent}, {pair[1].PrefixesReceived, pair[1].PrefixesAccepted, pair[1].PrefixesSent}}
		if want := [][3]int{{6, 1, 2}, {1, 1, 2}}; !slices.Equal(got, want) {
			return fmt.Sprintf("received, accepted, sent = %v, want %v", got, want)
		}
		return ""
	})
	if since := states(t, s, 7)[0].Since; since.Before(began) || since.After(time.Now()) {
		t.Errorf("established since %v, want between %v and now", since, began)
	}

	// The same again changes nothing; the session would have a new since if it had been restarted.
	before := states(t, s, 7)
	ensure(t, s, Connection{Tag: 7, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")})
	// New prefixes are taken over in place, in both directions.
	ensure(t, s, Connection{Tag: 7, A: session(a, 65001, "10.9.0.0/16", "10.1.2.0/24"), Z: session(z, 65002)})
	awaitRoutes(t, s, 7, "a 10.1.2.0/24 via "+a.peer.String(), "a 10.9.0.0/16 via "+a.peer.String())
	awaitLearnt(t, a, a.learns(z.local.Masked().String()))
	awaitLearnt(t, z, z.learns("10.1.2.0/24"), z.learns("10.9.0.0/16"), z.learns(a.local.Masked().String()))
	for i, after := range states(t, s, 7) {
		if after.Since != before[i].Since {
			t.Errorf("session %s was restarted by a change of its prefixes", after.Side)
		}
	}

	// Removed: the routers lose the routes, and nothing is left to ask about.
	s.Remove(7)
	awaitLearnt(t, a)
	awaitLearnt(t, z)
	if list := s.List(); len(list) != 0 {
		t.Errorf("after Remove there are still %v", list)
	}
	// And the addresses can be used again, by a server that had another connection before.
	ensure(t, s, Connection{Tag: 8, A: session(a, 65001, "10.9.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")})
	awaitRoutes(t, s, 8, "a 10.9.0.0/16 via "+a.peer.String(), "z 192.0.2.0/24 via "+z.peer.String())
}

func TestOverlappingConnectionsStayApart(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	var ends [4]*router
	for i := range ends {
		ends[i] = newRouter(t)
		// The customers have the same prefix, the providers too, and in the second connection even the AS numbers.
		asn, route := uint32(65001), "10.1.0.0/16"
		if i%2 == 1 {
			route = "192.0.2.0/24"
		}
		if i == 1 {
			asn = 65002
		}
		ends[i].bird(birdConfig{asn: asn, nodeASN: nodeASN, routes: []string{route}})
	}
	ensure(t, s, Connection{Tag: 1, A: session(ends[0], 65001, "10.1.0.0/16"), Z: session(ends[1], 65002, "192.0.2.0/24")})
	ensure(t, s, Connection{Tag: 2, A: session(ends[2], 65001, "10.1.0.0/16"), Z: session(ends[3], 65001, "192.0.2.0/24")})
	for tag := 1; tag <= 2; tag++ {
		a, z := ends[2*tag-2], ends[2*tag-1]
		awaitRoutes(t, s, tag, "a 10.1.0.0/16 via "+a.peer.String(), "z 192.0.2.0/24 via "+z.peer.String())
		awaitLearnt(t, a, a.learns("192.0.2.0/24"), a.learns(z.local.Masked().String()))
		awaitLearnt(t, z, z.learns("10.1.0.0/16"), z.learns(a.local.Masked().String()))
	}
	// One connection loses a route; the other one's must not take its place.
	ends[0].bird(birdConfig{asn: 65001, nodeASN: nodeASN})
	awaitRoutes(t, s, 1, "z 192.0.2.0/24 via "+ends[1].peer.String())
	awaitLearnt(t, ends[1], ends[1].learns(ends[0].local.Masked().String()))
	awaitRoutes(t, s, 2, "a 10.1.0.0/16 via "+ends[2].peer.String(), "z 192.0.2.0/24 via "+ends[3].peer.String())
	awaitLearnt(t, ends[3], ends[3].learns("10.1.0.0/16"), ends[3].learns(ends[2].local.Masked().String()))
}

func TestPasswordAndPassivePeer(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, password: "secret", routes: []string{"10.1.0.0/16"}})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, passive: true}) // so the node has to call
	c := Connection{Tag: 1, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)}
	c.A.Password = "wrong"
	ensure(t, s, c)
	eventually(t, patience, func() string {
		if state := states(t, s, 1)[1].State; state != Established {
			return "the passive peer is " + state
		}
		return ""
	})
	if state := states(t, s, 1)[0].State; state == Established {
		t.Fatal("established with the wrong password")
	}
	since := states(t, s, 1)[1].Since
	c.A.Password = "secret"
	ensure(t, s, c)
	awaitEstablished(t, s, 1)
	if states(t, s, 1)[1].Since != since {
		t.Error("the change of a's password restarted z's session")
	}
	awaitLearnt(t, z, z.learns("10.1.0.0/16"), z.learns(a.local.Masked().String()))

	// A session that is up and gets another secret goes down alone, and comes up when its router has the secret too.
	since = states(t, s, 1)[1].Since
	c.A.Password = "another"
	ensure(t, s, c)
	eventually(t, patience, func() string {
		if state := states(t, s, 1)[0].State; state == Established {
			return "still up with another secret than the router's"
		}
		return ""
	})
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, password: "another", routes: []string{"10.1.0.0/16"}})
	awaitEstablished(t, s, 1)
	// Another limit and other prefixes touch neither session.
	both := states(t, s, 1)
	c.A.PrefixLimit, c.A.Prefixes = 7, append(c.A.Prefixes, netip.MustParsePrefix("10.5.0.0/16"))
	ensure(t, s, c)
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+a.peer.String())
	for i, after := range states(t, s, 1) {
		if after.Since != both[i].Since {
			t.Errorf("session %s was restarted by another limit", after.Side)
		}
	}
	// Not wanted, it is down and stays so; wanted again, it comes back. The other one never hears of it.
	c.A.Down = true
	ensure(t, s, c)
	awaitRoutes(t, s, 1)
	time.Sleep(2 * time.Second) // longer than a router waits before it calls again
	if state := states(t, s, 1)[0].State; state == Established {
		t.Error("a session that is not wanted is up")
	}
	c.A.Down = false
	ensure(t, s, c)
	awaitEstablished(t, s, 1)
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+a.peer.String())
	if states(t, s, 1)[1].Since != since {
		t.Error("what was done to a's session restarted z's")
	}
}

func TestPrefixLimit(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routes: []string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN})
	c := Connection{Tag: 1, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)}
	c.A.PrefixLimit = 2
	ensure(t, s, c)
	eventually(t, patience, func() string {
		if a := states(t, s, 1)[0]; a.State != "idle" || !strings.Contains(a.Message, "more than 2 prefixes") {
			return fmt.Sprintf("%d prefixes over a limit of 2: %+v", 3, a)
		}
		return ""
	})
	awaitRoutes(t, s, 1)
	c.A.PrefixLimit = 3
	ensure(t, s, c)
	awaitEstablished(t, s, 1)
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+a.peer.String())
}

func TestPeerGoneAndBack(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routes: []string{"10.1.0.0/16"}})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN})
	ensure(t, s, Connection{Tag: 1, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)})
	awaitEstablished(t, s, 1)
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+a.peer.String())
	for len(s.Changes()) > 0 {
		<-s.Changes()
	}
	a.birdc("disable", "node")
	select {
	case <-s.Changes():
	case <-time.After(10 * time.Second):
		t.Fatal("no change was signalled when a session closed")
	}
	awaitRoutes(t, s, 1)
	awaitLearnt(t, z, z.learns(a.local.Masked().String()))
	a.birdc("enable", "node")
	began := time.Now()
	awaitEstablished(t, s, 1)
	t.Logf("established again after %v", time.Since(began).Round(time.Millisecond))
	awaitLearnt(t, z, z.learns("10.1.0.0/16"), z.learns(a.local.Masked().String()))
}

func TestSameRouterIdentifierIsTold(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routerID: "10.0.0.1"})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routerID: "10.0.0.1"})
	ensure(t, s, Connection{Tag: 1, A: session(a, 65001), Z: session(z, 65002)})
	awaitEstablished(t, s, 1)
	for _, status := range states(t, s, 1) {
		if !strings.Contains(status.Message, "10.0.0.1") {
			t.Errorf("side %s says %q, want a word on the common identifier", status.Side, status.Message)
		}
	}
}

func TestEnsureRefuses(t *testing.T) {
	t.Parallel()
	s := newSpeaker(t)
	good := func() Connection {
		return Connection{Tag: 1,
			A: Session{Local: netip.MustParsePrefix("100.64.0.1/30"), Peer: netip.MustParseAddr("100.64.0.2"), PeerASN: 65001},
			Z: Session{Local: netip.MustParsePrefix("100.64.0.5/30"), Peer: netip.MustParseAddr("100.64.0.6"), PeerASN: 65002}}
	}
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	for name, test := range map[string]struct {
		spoil   func(*Connection)
		pointer string
	}{
		"peer is not on the link": {func(c *Connection) { c.A.Peer = netip.MustParseAddr("100.64.0.9") }, "/a/peer"},
		"peer is our own address": {func(c *Connection) { c.A.Peer = c.A.Local.Addr() }, "/a/peer"},
		"no address":              {func(c *Connection) { c.Z.Local = netip.Prefix{} }, "/z/local"},
		"no AS number":            {func(c *Connection) { c.Z.PeerASN = 0 }, "/z/peer_asn"},
		"prefix on both sides":    {func(c *Connection) { c.A.Prefixes, c.Z.Prefixes = []netip.Prefix{prefix}, []netip.Prefix{prefix} }, "/z/prefixes"},
		"IPv6 prefix":             {func(c *Connection) { c.A.Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }, "/a/prefixes"},
		"one side of IPv6": {func(c *Connection) {
			c.Z.Local, c.Z.Peer = netip.MustParsePrefix("2001:db8::2/127"), netip.MustParseAddr("2001:db8::3")
		}, "/z/local"},
		"both sides the same peer":  {func(c *Connection) { c.Z = c.A }, "/z/peer"},
		"negative number of routes": {func(c *Connection) { c.A.PrefixLimit = -1 }, "/a/prefix_limit"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			test.spoil(&c)
			err := s.Ensure(t.Context(), c)
			if domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), test.pointer) {
				t.Errorf("error %v, want invalid at %s", err, test.pointer)
			}
		})
	}
	// An address that is not on the node yet is a matter of time, and leaves nothing behind.
	if err := s.Ensure(t.Context(), good()); domain.CodeOf(err) != domain.Unavailable || len(s.List()) != 0 {
		t.Errorf("without the address: %v and sessions %v, want unavailable and none", err, s.List())
	}
}

func TestWithFRR(t *testing.T) {
	needsRouters(t, "bird", "birdc", frrBGPD, "vtysh")
	s, a, z := newSpeaker(t), newRouter(t), newRouter(t)
	a.frr(65001, nodeASN, "10.1.0.0/16", "10.9.0.0/16")
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routes: []string{"192.0.2.0/24"}})
	ensure(t, s, Connection{Tag: 1, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")})
	awaitEstablished(t, s, 1)
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+a.peer.String(), "z 192.0.2.0/24 via "+z.peer.String())
	awaitLearnt(t, z, z.learns("10.1.0.0/16"), z.learns(a.local.Masked().String()))
	eventually(t, patience, func() string {
		routes := a.frrRoutes()
		for _, want := range []string{"192.0.2.0/24", z.local.Masked().String(), "64500 65002"} {
			if !strings.Contains(routes, want) {
				return fmt.Sprintf("FRR has no %s:\n%s", want, routes)
			}
		}
		return ""
	})
}

// A router that only answers has its session at once, however long the node waits between calls.
func TestTheFirstCallIsMadeAtOnce(t *testing.T) {
	t.Parallel()
	a, z := newRouter(t), newRouter(t)
	for asn, r := range map[uint32]*router{65001: a, 65002: z} {
		r.bird(birdConfig{asn: asn, nodeASN: nodeASN, passive: true})
		eventually(t, patience, func() string {
			if out, err := r.askBird("show", "protocols", "node"); err != nil || !strings.Contains(out, "Passive") {
				return fmt.Sprintf("BIRD does not listen: %v: %s", err, out)
			}
			return ""
		})
	}
	s := startSpeaker(t, Options{ConnectRetry: time.Hour})
	ensure(t, s, Connection{Tag: 1, A: session(a, 65001), Z: session(z, 65002)})
	awaitEstablished(t, s, 1)
}
