package bgp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// eachRestart runs a test against every implementation in each address family.
func eachRestart(t *testing.T, test func(t *testing.T, p *pair)) {
	eachDaemon(t, func(t *testing.T, implementation func(*router) daemon) {
		t.Run("IPv4", func(t *testing.T) {
			t.Parallel()
			test(t, newPair(t, implementation, newRouter, "10.1.0.0/16", "10.9.0.0/16", "192.0.2.0/24"))
		})
		t.Run("IPv6", func(t *testing.T) {
			t.Parallel()
			test(t, newPair(t, implementation, newRouter6, "2001:db8:a::/48", "2001:db8:9::/48", "2001:db8:b::/48"))
		})
	})
}

// pair is a connection with a router on each side, of which side a's announces two prefixes.
type pair struct {
	t                          *testing.T
	linkA, linkZ               *router
	a, z                       daemon
	customers, more, providers string
}

func newPair(t *testing.T, implementation func(*router) daemon, newRouter func(testing.TB) *router, customers, more, providers string) *pair {
	t.Helper()
	p := &pair{t: t, linkA: newRouter(t), linkZ: newRouter(t), customers: customers, more: more, providers: providers}
	p.a, p.z = implementation(p.linkA), implementation(p.linkZ)
	return p
}

// start starts the routers, whose restart time is for a.
func (p *pair) start(restartTime int) {
	p.t.Helper()
	if restartTime > 0 {
		p.a.restarting(restartTime)
	}
	p.a.start(65001, "", p.customers, p.more)
	p.z.start(65002, "", p.providers)
}

func (p *pair) connection() Connection {
	return Connection{Tag: 1, A: session(p.linkA, 65001, p.customers, p.more), Z: session(p.linkZ, 65002, p.providers)}
}

// routes are what the node has of side a's prefixes, and of z's.
func (p *pair) routes(ofA ...string) []string {
	var all []string
	for _, prefix := range ofA {
		all = append(all, "a "+prefix+" via "+p.linkA.peer.String())
	}
	all = append(all, "z "+p.providers+" via "+p.linkZ.peer.String())
	slices.Sort(all)
	return all
}

// toA and toZ are what the routers have of the node.
func (p *pair) toA() []string {
	return []string{p.linkA.learns(p.providers), p.linkA.learns(p.linkZ.local.Masked().String())}
}

func (p *pair) toZ(ofA ...string) []string {
	told := []string{p.linkZ.learns(p.linkA.local.Masked().String())}
	for _, prefix := range ofA {
		told = append(told, p.linkZ.learns(prefix))
	}
	return told
}

// watch looks again and again until its end is called, and fails the test if anything of what is wanted was missing once.
func watch(t *testing.T, who string, look func() ([]string, error), want ...string) (end func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	var looks int
	var missed []string
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := look()
			looks++
			for _, w := range want {
				if err != nil || !slices.Contains(got, w) {
					missed = append(missed, fmt.Sprintf("%s had no %s at %s: %v, %v", who, w, time.Now().Format(time.StampMilli), got, err))
				}
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-done
		t.Logf("looked %d times at what %s has", looks, who)
		if looks == 0 || len(missed) > 0 {
			t.Errorf("%d of %d looks: %s", len(missed), looks, strings.Join(missed[:min(3, len(missed))], "\n"))
		}
	})
}

// watchRoutes is watch for what a speaker has of a connection.
func watchRoutes(t *testing.T, s *Speaker, tag int, want ...string) (end func()) {
	t.Helper()
	return watch(t, "the node", func() (got []string, err error) {
		routes, err := s.Routes(t.Context(), tag)
		for _, r := range routes {
			got = append(got, fmt.Sprintf("%s %s via %s", r.Side, r.Prefix, r.NextHop))
		}
		return got, err
	}, want...)
}

func awaitSettled(t *testing.T, s *Speaker, family string) {
	t.Helper()
	eventually(t, patience, func() string {
		if !s.Settled(1, family) {
			return "the speaker still waits for the routers"
		}
		return ""
	})
}

// TestNodeRestarts stops the speaker and starts another, twice, the second time with one router that comes late and one that
// has less to say. No router misses a route at any time that is still announced, and it loses the one that is not.
func TestNodeRestarts(t *testing.T) {
	eachRestart(t, func(t *testing.T, p *pair) {
		p.start(0)
		options := Options{RestartTime: 10 * time.Minute, DeferralTime: 5 * time.Minute}
		s := startSpeaker(t, options)
		ensure(t, s, p.connection())
		family := p.connection().key().family()
		if !s.Settled(1, family) {
			t.Error("a new connection waits for a router to end its update")
		}
		awaitTold(t, p.a, p.toA()...)
		awaitTold(t, p.z, p.toZ(p.customers, p.more)...)

		options.Restarted = []int{1}
		ends := []func(){watch(t, "the customer's router", p.a.sample, p.toA()...), watch(t, "the provider's router", p.z.sample, p.toZ(p.customers, p.more)...)}
		s.Stop()
		time.Sleep(time.Second)
		s = startSpeaker(t, options)
		if s.Settled(1, family) {
			t.Error("settled before there is a session")
		}
		ensure(t, s, p.connection())
		awaitEstablished(t, s, 1)
		awaitSettled(t, s, family)
		awaitRoutes(t, s, 1, p.routes(p.customers, p.more)...)
		time.Sleep(time.Second) // for what the routers do about the End-of-RIB
		for _, end := range ends {
			end()
		}

		// The provider's router hears of nothing for a while. The customer's keeps what it has from it, and has one prefix less.
		end := watch(t, "the customer's router", p.a.sample, p.toA()...)
		s.Stop()
		p.z.pause(true)
		p.a.announce(p.customers)
		s = startSpeaker(t, options)
		ensure(t, s, p.connection())
		awaitState(t, s, 1, A, Established)
		time.Sleep(3 * time.Second)
		if s.Settled(1, family) {
			t.Error("settled without the provider's router")
		}
		p.z.pause(false)
		awaitSettled(t, s, family)
		awaitRoutes(t, s, 1, p.routes(p.customers)...)
		awaitTold(t, p.z, p.toZ(p.customers)...)
		time.Sleep(time.Second)
		end()

		// What a person ends is ended at once, long before the restart time.
		c := p.connection()
		c.A.Down = true
		ensure(t, s, c)
		awaitTold(t, p.a)
		awaitTold(t, p.z, p.toZ()...)
		awaitTold(t, p.z, p.linkZ.learns(p.linkA.local.Masked().String()))
		s.Remove(1)
		awaitTold(t, p.z)
	})
}

// TestNodeStaysAway has routers whose node does not come back: they drop its routes when the restart time is over, not before.
// A node that comes back without its routes has them dropped at once.
func TestNodeStaysAway(t *testing.T) {
	eachRestart(t, func(t *testing.T, p *pair) {
		p.start(0)
		const restartTime = 6 * time.Second
		s := startSpeaker(t, Options{RestartTime: restartTime})
		ensure(t, s, p.connection())
		awaitTold(t, p.a, p.toA()...)
		stopped := time.Now()
		s.Stop()
		awaitTold(t, p.a)
		if kept := time.Since(stopped); kept < restartTime-time.Second {
			t.Errorf("the routes were kept for %v, want %v", kept, restartTime)
		}

		s = startSpeaker(t, Options{RestartTime: 10 * time.Minute})
		ensure(t, s, p.connection())
		awaitTold(t, p.a, p.toA()...)
		awaitTold(t, p.z, p.toZ(p.customers, p.more)...)
		s.Stop()
		p.z.pause(true)
		s = startSpeaker(t, Options{RestartTime: 10 * time.Minute}) // of a machine that has restarted
		ensure(t, s, p.connection())
		awaitTold(t, p.a, p.linkA.learns(p.linkZ.local.Masked().String())) // what the node has without the provider's router
		p.z.pause(false)
		awaitTold(t, p.a, p.toA()...)
	})
}

// TestNodeWaitsNotForEver restarts beside a router that does not come back: what it announced is gone when the deferral is
// over, for the node and for the other router.
func TestNodeWaitsNotForEver(t *testing.T) {
	eachRestart(t, func(t *testing.T, p *pair) {
		p.start(0)
		s := startSpeaker(t, Options{})
		ensure(t, s, p.connection())
		awaitTold(t, p.a, p.toA()...)
		s.Stop()
		p.z.crash()
		s = startSpeaker(t, Options{Restarted: []int{1}, DeferralTime: 5 * time.Second})
		ensure(t, s, p.connection())
		awaitTold(t, p.a, p.linkA.learns(p.linkZ.local.Masked().String()))
		if !s.Settled(1, p.connection().key().family()) {
			t.Error("not settled")
		}
	})
}

// TestRouterRestarts kills the customer's router, which has asked for its routes to be kept. They are, by the node and the
// provider's router, until it is back, has ended its update without one of them, or its restart time is over.
func TestRouterRestarts(t *testing.T) {
	eachRestart(t, func(t *testing.T, p *pair) {
		p.start(120)
		s := newSpeaker(t)
		ensure(t, s, p.connection())
		awaitRoutes(t, s, 1, p.routes(p.customers, p.more)...)
		awaitTold(t, p.z, p.toZ(p.customers, p.more)...)

		ends := []func(){watchRoutes(t, s, 1, p.routes(p.customers)...), watch(t, "the provider's router", p.z.sample, p.toZ(p.customers)...)}
		endMore := watchRoutes(t, s, 1, p.routes(p.more)...)
		p.a.crash()
		eventually(t, patience, func() string {
			if got := sideOf(t, s, 1, A); got.State == Established || !strings.Contains(got.Message, "2 are") {
				return fmt.Sprintf("the router was killed, and shown is %+v", got)
			}
			return ""
		})
		time.Sleep(3 * time.Second) // several calls that fail
		endMore()
		p.a.start(65001, "", p.customers)
		awaitState(t, s, 1, A, Established)
		awaitRoutes(t, s, 1, p.routes(p.customers)...)
		awaitTold(t, p.z, p.toZ(p.customers)...)
		for _, end := range ends {
			end()
		}
	})
}

// TestRouterStaysAway kills a router with a short restart time for good.
func TestRouterStaysAway(t *testing.T) {
	eachRestart(t, func(t *testing.T, p *pair) {
		const restartTime = 5
		p.start(restartTime)
		s := newSpeaker(t)
		ensure(t, s, p.connection())
		awaitRoutes(t, s, 1, p.routes(p.customers, p.more)...)
		killed := time.Now()
		p.a.crash()
		awaitRoutes(t, s, 1, p.routes()...)
		if kept := time.Since(killed); kept < (restartTime-1)*time.Second {
			t.Errorf("its routes were kept for %v, want %d s", kept, restartTime)
		}
		awaitTold(t, p.z, p.toZ()...)
	})
}

// Graceful restart capabilities (RFC 4724 section 3) of a router of IPv4 with a restart time of 600 s.
var (
	restarts  = []byte{64, 6, 0x02, 0x58, 0, 1, 1, 0x80} // has kept its routes
	restarted = []byte{64, 6, 0x82, 0x58, 0, 1, 1, 0x80} // and has restarted
	rebooted  = []byte{64, 6, 0x82, 0x58, 0, 1, 1, 0}    // and has not kept them
)

// TestRawRestarts speaks graceful restart by hand, for what real routers do not do on demand.
func TestRawRestarts(t *testing.T) {
	needsRouters(t)
	s := newSpeaker(t)
	tag := 0
	// newSession has announced a route, which the node has taken.
	newSession := func(t *testing.T, hold byte, capabilities []byte) (peer *rawPeer, a *router, c Connection, route string) {
		t.Helper()
		tag++
		a, z := newRouter(t), newRouter(t)
		c = Connection{Tag: tag, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)}
		ensure(t, s, c)
		peer = a.dialAs(t, hold, capabilities...)
		peer.announce(t, a)
		route = "a 10.1.0.0/16 via " + a.peer.String()
		awaitRoutes(t, s, tag, route)
		return peer, a, c, route
	}
	notified := func(t *testing.T, p *rawPeer, code ...byte) {
		t.Helper()
		select {
		case got := <-p.notification:
			if !bytes.HasPrefix(got[:], code) {
				t.Errorf("NOTIFICATION %v, want %v", got, code)
			}
		case <-time.After(patience):
			t.Fatal("the session stays up")
		}
	}
	away := func(t *testing.T, c Connection) {
		t.Helper()
		eventually(t, patience, func() string {
			if got := sideOf(t, s, c.Tag, A); got.State == Established {
				return "the session is still up"
			}
			return ""
		})
	}

	t.Run("a router without graceful restart", func(t *testing.T) {
		peer, _, c, _ := newSession(t, 90, nil)
		peer.conn.Close()
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a router that only helps", func(t *testing.T) {
		peer, _, c, _ := newSession(t, 90, []byte{64, 2, 0x00, 0x78})
		peer.conn.Close()
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a router that has said goodbye", func(t *testing.T) {
		peer, _, c, _ := newSession(t, 90, restarts)
		peer.send(t, message(messageNotification, 6, 2))
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a router that has broken the protocol", func(t *testing.T) {
		peer, _, c, _ := newSession(t, 90, restarts)
		peer.send(t, message(77))
		notified(t, peer, 1, 3)
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a router that has fallen silent", func(t *testing.T) {
		peer, _, c, _ := newSession(t, 3, restarts)
		peer.silent.Store(true)
		notified(t, peer, 4, 0)
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a hold time of 0", func(t *testing.T) {
		tag++
		a, z := newRouter(t), newRouter(t)
		ensure(t, s, Connection{Tag: tag, A: session(a, 65001), Z: session(z, 65002)})
		eventually(t, patience, func() string {
			conn, err := a.connect()
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			said := message(messageOpen, append([]byte{4, 0xfd, 0xe9, 0, 0}, append(a.peer.AsSlice(), 0)...)...)
			if _, err := conn.Write(said); err != nil {
				return err.Error()
			}
			for {
				kind, body, err := receive(conn)
				if err != nil {
					return err.Error()
				}
				if kind == messageNotification {
					if !bytes.HasPrefix(body, []byte{2, 6}) {
						t.Errorf("NOTIFICATION %v, want 2/6", body)
					}
					return ""
				}
			}
		})
	})
	t.Run("back with its routes", func(t *testing.T) {
		peer, a, c, route := newSession(t, 90, restarts)
		peer.conn.Close()
		away(t, c)
		awaitRoutes(t, s, c.Tag, route)
		peer = a.dialAs(t, 90, restarted...)
		awaitState(t, s, c.Tag, A, Established)
		awaitRoutes(t, s, c.Tag, route)
		peer.send(t, message(messageUpdate, 0, 0, 0, 0)) // End-of-RIB
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("back without its routes", func(t *testing.T) {
		peer, a, c, route := newSession(t, 90, restarts)
		peer.conn.Close()
		away(t, c)
		awaitRoutes(t, s, c.Tag, route)
		a.dialAs(t, 90, rebooted...)
		awaitRoutes(t, s, c.Tag)
		awaitState(t, s, c.Tag, A, Established)
	})
	t.Run("back without graceful restart", func(t *testing.T) {
		peer, a, c, route := newSession(t, 90, restarts)
		peer.conn.Close()
		away(t, c)
		awaitRoutes(t, s, c.Tag, route)
		peer = a.dial(t)
		awaitRoutes(t, s, c.Tag)
		peer.announce(t, a)
		awaitRoutes(t, s, c.Tag, route)
		peer.conn.Close()
		awaitRoutes(t, s, c.Tag)
	})
	t.Run("a call that fails in between", func(t *testing.T) {
		peer, a, c, route := newSession(t, 90, restarts)
		peer.conn.Close()
		away(t, c)
		for range 3 {
			conn, err := a.connect()
			if err != nil {
				t.Fatal(err)
			}
			if err := sendOpen(conn, a.peer, true, 90, restarted...); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond)
			conn.Close()
		}
		awaitRoutes(t, s, c.Tag, route)
		peer = a.dialAs(t, 90, restarted...)
		peer.announce(t, a)
		peer.send(t, message(messageUpdate, 0, 0, 0, 0))
		awaitState(t, s, c.Tag, A, Established)
		awaitRoutes(t, s, c.Tag, route)
	})
	t.Run("back while the node takes the former session for up", func(t *testing.T) {
		_, a, c, route := newSession(t, 90, restarts)
		time.Sleep(openTimeout + time.Second)
		end := watchRoutes(t, s, c.Tag, route)
		since := sideOf(t, s, c.Tag, A).Since
		peer := a.dialAs(t, 90, restarted...)
		peer.announce(t, a)
		eventually(t, patience, func() string {
			if got := sideOf(t, s, c.Tag, A); got.State != Established || !got.Since.After(since) {
				return fmt.Sprintf("the new session is not taken: %+v", got)
			}
			return ""
		})
		end()
	})
	t.Run("another call while the session is up", func(t *testing.T) {
		_, a, c, _ := newSession(t, 90, restarts)
		time.Sleep(openTimeout + time.Second)
		since := sideOf(t, s, c.Tag, A).Since
		conn, err := a.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := sendOpen(conn, a.peer, true, 90, restarts...); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a second session with the same router")
		}
		if got := sideOf(t, s, c.Tag, A); got.State != Established || got.Since != since {
			t.Errorf("the session was restarted: %+v", got)
		}
	})
	t.Run("told of the end", func(t *testing.T) {
		// Often, as it may be told by chance before the node has closed the connection.
		for range 10 {
			peer, _, c, _ := newSession(t, 90, restarts)
			s.Remove(c.Tag)
			notified(t, peer, 6, 3)
		}
	})
	t.Run("both have restarted", func(t *testing.T) {
		a, z := newRouter(t), newRouter(t)
		other := startSpeaker(t, Options{Restarted: []int{1}, DeferralTime: 10 * time.Minute})
		ensure(t, other, Connection{Tag: 1, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65001)})
		first, second := a.dialAs(t, 90, restarted...), z.dialAs(t, 90, append([]byte{2, 0}, restarted...)...) // the latter with route refresh
		first.announce(t, a)
		first.send(t, message(messageUpdate, 0, 0, 0, 0))
		awaitRoutes(t, other, 1, "a 10.1.0.0/16 via "+a.peer.String())
		if other.Settled(1, domain.IPv4) || first.ended.Load()+second.ended.Load() > 0 {
			t.Error("the node waits for nobody")
		}
		eventually(t, patience, func() string { // one of them says nothing before the node does
			if one, two := first.ended.Load(), second.ended.Load(); one != 1 || two != 1 || !other.Settled(1, domain.IPv4) {
				return fmt.Sprintf("the node has said %d and %d times that it has told all", one, two)
			}
			return ""
		})
	})
	t.Run("not told of a stop", func(t *testing.T) {
		a, z := newRouter(t), newRouter(t)
		other := startSpeaker(t, Options{})
		ensure(t, other, Connection{Tag: 1, A: session(a, 65001), Z: session(z, 65002)})
		peer := a.dialAs(t, 90, restarts...)
		awaitState(t, other, 1, A, Established)
		other.Stop()
		notified(t, peer, 0, 0)
	})
}

// TestStopWaitsForNobody stops speakers whose routers are all dead.
func TestStopWaitsForNobody(t *testing.T) {
	needsRouters(t)
	var took time.Duration
	for range 5 { // as the machine may have been busy with something else
		s := startSpeaker(t, Options{})
		for tag := 1; tag <= 2; tag++ {
			a, z := newRouter(t), newRouter(t)
			ensure(t, s, Connection{Tag: tag, A: session(a, 65001), Z: session(z, 65001)})
			for _, r := range []*router{a, z} {
				r.dialAs(t, 90, restarts...)
			}
			awaitEstablished(t, s, tag)
			for _, r := range []*router{a, z} {
				r.ip("-n", r.namespace, "link", "set", "node", "down")
			}
		}
		began := time.Now()
		s.Stop()
		if took = time.Since(began); took < linger {
			return
		}
	}
	t.Errorf("it took %v", took)
}

// TestOpen reads what the node says of its restarts.
func TestOpen(t *testing.T) {
	t.Parallel()
	for _, deferring := range []bool{false, true} {
		for _, preserved := range []bool{false, true} {
			r := &relay{options: Options{ASN: nodeASN, RouterID: netip.MustParseAddr("192.0.2.1"), HoldTime: DefaultHoldTime, RestartTime: DefaultRestartTime},
				family: packet.RF_IPv6_UC, deferring: deferring, preserved: preserved}
			g := newGuard(65001, packet.RF_IPv6_UC)
			if _, err := g.check(r.open()); err != nil {
				t.Fatal(err)
			}
			if g.hasRestarted() != deferring || g.preserved(packet.RF_IPv6_UC) != preserved || g.restartTime() != DefaultRestartTime || !g.refreshes() {
				t.Errorf("restarted %t, preserved %t: the OPEN says %+v", deferring, preserved, g.restart())
			}
		}
	}
}
