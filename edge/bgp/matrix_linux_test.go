package bgp

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMatrix takes one connection through what may come between it and a router, once with each router and each address
// family. The other side's session must hear of none of it.
func TestMatrix(t *testing.T) {
	eachDaemon(t, func(t *testing.T, implementation func(*router) daemon) {
		t.Run("IPv4", func(t *testing.T) {
			testMatrix(t, implementation, newRouter, "10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "192.0.2.0/24", "10.200.%d.0/24")
		})
		t.Run("IPv6", func(t *testing.T) {
			testMatrix(t, implementation, newRouter6, "2001:db8:a::/48", "2001:db8:a:2::/64", "2001:db8::/32", "2001:db8:b::/48", "2001:db8:c8:1%02d::/64")
		})
	})
}

// testMatrix has the customer's router announce what is registered, a part of it, and what it is a part of; the provider's
// what is its own.
func testMatrix(t *testing.T, implementation func(*router) daemon, newRouter func(testing.TB) *router, registered, longer, shorter, providers, further string) {
	t.Parallel()
	s, linkA, linkZ := newSpeaker(t), newRouter(t), newRouter(t)
	a, z := implementation(linkA), implementation(linkZ)
	// Of side a only the first is registered: the second is a part of it, the third has it as a part.
	announced := []string{registered, longer, shorter}
	a.start(65001, "secret", announced...)
	z.start(65002, "", providers)
	c := Connection{Tag: 1, A: session(linkA, 65001, registered), Z: session(linkZ, 65002, providers)}
	c.A.Password = "not the secret"
	customer, provider := "a "+registered+" via "+linkA.peer.String(), "z "+providers+" via "+linkZ.peer.String()
	ensure(t, s, c)

	// MD5, wrong: the other session has been up for longer than a router waits between attempts, and this one is not.
	awaitState(t, s, 1, Z, Established)
	sinceZ := sideOf(t, s, 1, Z).Since
	time.Sleep(3 * time.Second)
	if got := sideOf(t, s, 1, A).State; got == Established {
		t.Fatal("established with the wrong secret")
	}
	awaitTold(t, z, linkZ.learns(linkA.local.Masked().String()))
	// MD5, right.
	c.A.Password = "secret"
	ensure(t, s, c)
	awaitState(t, s, 1, A, Established)
	awaitRoutes(t, s, 1, customer, provider)
	toA := []string{linkA.learns(providers), linkA.learns(linkZ.local.Masked().String())}
	toZ := []string{linkZ.learns(registered), linkZ.learns(linkA.local.Masked().String())}
	awaitTold(t, a, toA...)
	awaitTold(t, z, toZ...)
	// Prefixes outside the list are refused, counted and told.
	eventually(t, patience, func() string {
		if got := sideOf(t, s, 1, A); got.PrefixesReceived != 3 || got.PrefixesAccepted != 1 || !strings.Contains(got.Message, "2 of 3 prefixes announced are not registered") {
			return fmt.Sprintf("with two prefixes that are not registered: %+v", got)
		}
		return ""
	})

	// The limit: the session goes down with a reason on both ends, and stays so although the router calls again, and even
	// once it announces less; another limit, or the session switched off and on, brings it back.
	// (FRR sends some of what it learns back, and that counts, so the limits are left some room.)
	before := sideOf(t, s, 1, A).Since
	for _, operator := range []struct {
		does string
		act  func()
	}{
		{"another limit", func() { c.A.PrefixLimit = 20; ensure(t, s, c) }},
		{"off and on", func() {
			a.announce(announced...)
			c.A.Down = true
			ensure(t, s, c)
			c.A.Down = false
			ensure(t, s, c)
		}},
	} {
		more := slices.Clone(announced)
		for n := range c.A.PrefixLimit {
			more = append(more, fmt.Sprintf(further, n))
		}
		a.announce(more...)
		awaitLimit := func() {
			t.Helper()
			eventually(t, patience, func() string {
				if got := sideOf(t, s, 1, A); got.State != "idle" || !strings.Contains(got.Message, fmt.Sprintf("more than %d prefixes", c.A.PrefixLimit)) {
					return fmt.Sprintf("%s: with %d prefixes over a limit of %d: %+v", operator.does, len(more), c.A.PrefixLimit, got)
				}
				return ""
			})
		}
		awaitLimit()
		eventually(t, patience, func() string {
			if said := strings.ToLower(a.lastError()); !strings.Contains(said, "maximum number of prefixes reached") {
				return fmt.Sprintf("the router was told %q, not Cease/1 (RFC 4486)", said)
			}
			return ""
		})
		awaitRoutes(t, s, 1, provider)
		awaitTold(t, a)
		awaitTold(t, z, linkZ.learns(linkA.local.Masked().String()))
		time.Sleep(7 * time.Second) // GoBGP's idle hold time is 5 s, the router's second attempt comes after 1
		awaitLimit()
		operator.act()
		awaitState(t, s, 1, A, Established)
		awaitRoutes(t, s, 1, customer, provider)
		awaitTold(t, z, toZ...)
		if !sideOf(t, s, 1, A).Since.After(before) {
			t.Errorf("%s: up since %v, before it went down", operator.does, before)
		}
	}
	if now := sideOf(t, s, 1, Z).Since; now != sinceZ {
		t.Errorf("the other session was restarted at %v", now)
	}
}

// TestFlapping closes a session with BIRD and one with FRR ten times from the routers' end. After each the routes are gone
// on both sides, then back, and in the end the process is not larger than after the first.
func TestFlapping(t *testing.T) {
	needsRouters(t, "bird", "birdc", frrBGPD, "vtysh")
	s := newSpeaker(t)
	type pair struct {
		tag                int
		a, z               daemon
		linkA, linkZ       *router
		customer, provider string
		since              time.Time // of the other side's session
	}
	var pairs []*pair
	for _, implementation := range []func(*router) daemon{
		func(r *router) daemon { return &birdDaemon{router: r} }, func(r *router) daemon { return &frrDaemon{router: r} },
	} {
		p := &pair{tag: len(pairs) + 1, linkA: newRouter(t), linkZ: newRouter(t)}
		p.a, p.z = implementation(p.linkA), implementation(p.linkZ)
		p.customer, p.provider = "a 10.1.0.0/16 via "+p.linkA.peer.String(), "z 192.0.2.0/24 via "+p.linkZ.peer.String()
		p.a.start(65001, "secret", "10.1.0.0/16")
		p.z.start(65002, "", "192.0.2.0/24")
		c := Connection{Tag: p.tag, A: session(p.linkA, 65001, "10.1.0.0/16"), Z: session(p.linkZ, 65002, "192.0.2.0/24")}
		c.A.Password = "secret"
		ensure(t, s, c)
		pairs = append(pairs, p)
	}
	up := func(p *pair) {
		t.Helper()
		awaitState(t, s, p.tag, A, Established)
		awaitRoutes(t, s, p.tag, p.customer, p.provider)
		awaitTold(t, p.a, p.linkA.learns("192.0.2.0/24"), p.linkA.learns(p.linkZ.local.Masked().String()))
		awaitTold(t, p.z, p.linkZ.learns("10.1.0.0/16"), p.linkZ.learns(p.linkA.local.Masked().String()))
	}
	for _, p := range pairs {
		up(p)
		p.since = sideOf(t, s, p.tag, Z).Since
	}
	var goroutines int
	var heap uint64
	for i := range 11 {
		for _, p := range pairs {
			p.a.shut(true)
		}
		for _, p := range pairs {
			awaitRoutes(t, s, p.tag, p.provider)
			awaitTold(t, p.z, p.linkZ.learns(p.linkA.local.Masked().String()))
			if got := sideOf(t, s, p.tag, A); got.State == Established || got.PrefixesReceived != 0 || got.PrefixesAccepted != 0 {
				t.Errorf("flap %d of tag %d: closed, and shown as %+v", i, p.tag, got)
			}
			p.a.shut(false)
		}
		for _, p := range pairs {
			up(p)
		}
		if i == 0 { // what the first one needed, such as a timer, is no growth
			goroutines, heap = runtime.NumGoroutine(), liveHeap()
		}
	}
	for _, p := range pairs {
		if got := sideOf(t, s, p.tag, Z).Since; got != p.since {
			t.Errorf("the other session of tag %d was restarted", p.tag)
		}
	}
	const slack = 512 << 10 // of the test's own
	eventually(t, patience, func() string {
		if g, h := runtime.NumGoroutine(), liveHeap(); g > goroutines || h > heap+slack {
			return fmt.Sprintf("ten flaps later: %d goroutines, %d KiB; after the first: %d, %d KiB", g, h>>10, goroutines, heap>>10)
		}
		return ""
	})
}

// liveHeap is what is in use, in bytes.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
