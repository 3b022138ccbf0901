package bgp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// hostile are messages that GoBGP alone does not survive, or may not, and what RFC 4271 section 6 has the router told.
// A nil code is for a session that need not be closed.
var hostile = []struct {
	name  string
	bytes func(nextHop []byte) []byte
	code  []byte // of the NOTIFICATION, then the subcode
}{
	{"unknown type", func([]byte) []byte { return message(77, 1, 2, 3) }, []byte{1, 3}},
	{"type 0", func([]byte) []byte { return message(0) }, []byte{1, 3}},
	{"wrong marker", func([]byte) []byte { return append(make([]byte, 16), 0, 19, 4) }, []byte{1, 1}},
	{"marker with one wrong bit", func([]byte) []byte { m := message(messageKeepalive); m[15] = 0xfe; return m }, []byte{1, 1}},
	{"length 0", func([]byte) []byte { m := message(messageKeepalive); m[17] = 0; return m }, []byte{1, 2}},
	{"length over 4096", func([]byte) []byte { m := message(messageUpdate, 0, 0, 0, 0); m[16], m[17] = 0x10, 0x01; return m }, []byte{1, 2}},
	{"length 65535", func([]byte) []byte { m := message(messageUpdate, 0, 0, 0, 0); m[16], m[17] = 0xff, 0xff; return m }, []byte{1, 2}},
	{"KEEPALIVE with a body", func([]byte) []byte { return message(messageKeepalive, 1) }, []byte{1, 2}},
	{"UPDATE without lengths", func([]byte) []byte { return message(messageUpdate, 0, 0) }, []byte{1, 2}},
	{"ROUTE-REFRESH without a family", func([]byte) []byte { return message(5) }, []byte{1, 2}},
	{"a second OPEN", func([]byte) []byte { return message(messageOpen, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 0) }, []byte{5, 3}},
	{"AS4_PATH before AS_PATH", func(nextHop []byte) []byte {
		return update([][]byte{{0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9}, origin, nextHop, asPath}, good...)
	}, nil},
	{"AS4_PATH, AS_PATH empty", func(nextHop []byte) []byte {
		return update([][]byte{origin, {0x40, 2, 0}, nextHop, {0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9}}, good...)
	}, nil},
	{"AS4_AGGREGATOR alone", func(nextHop []byte) []byte {
		return update([][]byte{origin, asPath, nextHop, {0xc0, 18, 8, 0, 0, 0xfd, 0xe9, 10, 1, 0, 1}}, good...)
	}, nil},
	{"a family that was not agreed on", func([]byte) []byte {
		return update([][]byte{origin, asPath, {0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0xd, 0xb8}})
	}, []byte{3}},
}

// TestHostileMessages sends each to a session of its own, while another session is watched: the process lives, the router
// is told what was wrong, the session's routes go, and nobody else hears of it.
func TestHostileMessages(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	bystander := newBystander(t, s, 1)
	for i, h := range hostile {
		tag := i + 2
		a, z := newRouter(t), newRouter(t)
		c := Connection{Tag: tag, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)}
		ensure(t, s, c)
		peer := a.dial(t)
		address := a.peer.As4()
		nextHop := append([]byte{0x40, 3, 4}, address[:]...)
		peer.send(t, update([][]byte{origin, asPath, nextHop}, good...))
		awaitRoutes(t, s, tag, "a 10.1.0.0/16 via "+a.peer.String())
		peer.send(t, h.bytes(nextHop))
		if h.code == nil { // what comes after it shows that it has been dealt with
			peer.send(t, update([][]byte{origin, asPath, nextHop}, 24, 10, 1, 2))
			eventually(t, patience, func() string {
				if got := sideOf(t, s, tag, A); got.State != Established || got.PrefixesReceived != 2 {
					return fmt.Sprintf("%s: %+v, want it established with 2 prefixes", h.name, got)
				}
				return ""
			})
		} else {
			select {
			case got := <-peer.notification:
				if !bytes.HasPrefix(got[:], h.code) {
					t.Errorf("%s: NOTIFICATION %v, want %v", h.name, got, h.code)
				}
			case <-time.After(patience):
				t.Fatalf("%s: the session stays up", h.name)
			}
			awaitRoutes(t, s, tag)
			again := a.dial(t) // a router that has learnt better is taken again
			again.send(t, update([][]byte{origin, asPath, nextHop}, good...))
			awaitRoutes(t, s, tag, "a 10.1.0.0/16 via "+a.peer.String())
		}
		s.Remove(tag)
	}
	bystander.check()
}

// bystander is a connection with BIRD on both sides that hears of nothing that happens to others.
type bystander struct {
	t      *testing.T
	s      *Speaker
	tag    int
	routes []string
	before [2]SessionStatus
}

func newBystander(t *testing.T, s *Speaker, tag int) *bystander {
	t.Helper()
	a, z := newRouter(t), newRouter(t)
	a.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routes: []string{"10.1.0.0/16"}})
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routes: []string{"192.0.2.0/24"}})
	ensure(t, s, Connection{Tag: tag, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")})
	b := &bystander{t: t, s: s, tag: tag, routes: []string{"a 10.1.0.0/16 via " + a.peer.String(), "z 192.0.2.0/24 via " + z.peer.String()}}
	awaitRoutes(t, s, tag, b.routes...)
	b.before = states(t, s, tag)
	return b
}

func (b *bystander) check() {
	b.t.Helper()
	if after := states(b.t, b.s, b.tag); after[0].Since != b.before[0].Since || after[1].Since != b.before[1].Since {
		b.t.Errorf("other sessions were restarted: %+v, before %+v", after, b.before)
	}
	awaitRoutes(b.t, b.s, b.tag, b.routes...)
}

// TestHostileOpenings goes wrong before a session is up: junk, half a message, the wrong message first, silence. However
// often, the router gets in when it speaks properly.
func TestHostileOpenings(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	bystander := newBystander(t, s, 1)
	a, z := newRouter(t), newRouter(t)
	ensure(t, s, Connection{Tag: 2, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)})
	junk := make([]byte, 300)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(junk)
	for name, said := range map[string][]byte{
		"silence": nil, "half a header": message(messageOpen)[:9], "a header whose body never comes": message(messageOpen, 4, 0)[:20],
		"junk": junk, "UPDATE first": message(messageUpdate, 0, 0, 0, 0), "KEEPALIVE first": message(messageKeepalive),
		"NOTIFICATION first":               message(messageNotification, 6, 2),
		"OPEN with parameters cut off":     message(messageOpen, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 200),
		"OPEN with a capability cut off":   message(messageOpen, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 6, 2, 4, 64, 90, 0, 0),
		"OPEN with a restart of no length": message(messageOpen, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 4, 2, 2, 64, 0),
		"OPEN, then an UPDATE":             append(message(messageOpen, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 0), message(messageUpdate, 0, 0, 0, 0)...),
	} {
		conn, err := a.connect()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _ = conn.Write(said)
		go func() { // the node may answer until it closes
			buffer := make([]byte, 4096)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
			}
		}()
		time.Sleep(50 * time.Millisecond)
		conn.Close()
	}
	peer := a.dial(t)
	address := a.peer.As4()
	peer.send(t, update([][]byte{origin, asPath, append([]byte{0x40, 3, 4}, address[:]...)}, good...))
	awaitRoutes(t, s, 2, "a 10.1.0.0/16 via "+a.peer.String())
	bystander.check()
}

// TestStrangersAreNotHeard calls the node's address of a session from an address that is not the router's.
func TestStrangersAreNotHeard(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	bystander := newBystander(t, s, 1)
	a, z := newRouter(t), newRouter(t)
	ensure(t, s, Connection{Tag: 2, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)})
	conn, err := net.DialTimeout("tcp4", net.JoinHostPort(a.local.Addr().String(), fmt.Sprint(DefaultPort)), patience) // from the node itself
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Error("the node speaks with a stranger")
	}
	bystander.check()
}

// TestMutatedMessages changes, cuts and joins real messages at random and sends them through the relay into GoBGP, some
// thousands in each of many sessions; most of those that would end the session are left out, so that GoBGP gets to see the
// rest. The seed is printed; nothing but the process's survival and the bystander's peace is asked for.
func TestMutatedMessages(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	bystander := newBystander(t, s, 1)
	a, z := newRouter(t), newRouter(t)
	z.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routes: []string{"192.0.2.0/24"}})
	c := Connection{Tag: 2, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002, "192.0.2.0/24")}
	c.A.PrefixLimit = 0 // which would close the session for the rest
	ensure(t, s, c)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	address := a.peer.As4()
	corpus := messageCorpus(address[:])
	var sent, sessions int
	began := time.Now()
	for ; time.Since(began) < 5*time.Second || sessions < 10; sessions++ {
		conn, err := a.connect()
		if err != nil {
			t.Fatal(err)
		}
		wide := sessions%2 == 0
		if err := open(conn, a.peer, wide, 90); err != nil {
			conn.Close()
			if time.Since(began) > patience {
				t.Fatalf("the node does not take the router again: %v", err)
			}
			sessions--
			time.Sleep(20 * time.Millisecond) // until GoBGP is ready again
			continue
		}
		go func() {
			buffer := make([]byte, 1<<16)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
			}
		}()
		for range 5000 {
			m := mutate(random, corpus)
			if g := establishedGuard(wide); !passes(g, m) && random.IntN(2000) > 0 {
				continue
			}
			if _, err := conn.Write(m); err != nil {
				break // the node had enough
			}
			sent++
		}
		conn.Close()
	}
	t.Logf("%d messages in %d sessions", sent, sessions)
	bystander.check()
}

// establishedGuard is one of a session that is up.
func establishedGuard(wide bool) *guard {
	g := newGuard(nodeASN, packet.RF_IPv4_UC)
	g.opened, g.agreed, g.wide = true, true, wide
	return g
}

// passes reports whether a message leaves its session up.
func passes(g *guard, m []byte) bool {
	if _, err := readMessage(bytes.NewReader(m), new([maxMessage]byte)); err != nil {
		return false
	}
	_, err := g.check(m)
	return err == nil && m[typeOffset] != messageNotification
}

// messageCorpus is one of each of what routers say, from a router with an address.
func messageCorpus(address []byte) [][]byte {
	nextHop := append([]byte{0x40, 3, 4}, address...)
	plain := [][]byte{origin, asPath, nextHop}
	with := func(attribute ...byte) []byte { return update(append(slices.Clone(plain), attribute), good...) }
	return [][]byte{
		update(plain, good...), message(messageUpdate, 0, 3, 16, 10, 1, 0, 0), message(messageUpdate, 0, 0, 0, 0), message(messageKeepalive),
		message(5, 0, 1, 0, 1), update(append(plain, aggregate), 24, 10, 1, 2, 8, 10, 0),
		with(0x80, 4, 4, 0, 0, 0, 1), with(0x40, 5, 4, 0, 0, 0, 100), with(0x40, 6, 0), with(0xc0, 8, 8, 0, 1, 0, 2, 0xff, 0xff, 0xff, 1),
		with(0x80, 9, 4, 1, 2, 3, 4), with(0x80, 10, 4, 1, 2, 3, 4), with(0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 1), with(0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9),
		with(0xc0, 18, 8, 0, 0, 0xfd, 0xe9, 1, 2, 3, 4), with(0xc0, 22, 9, 0, 6, 0, 0, 0, 1, 2, 3, 4), with(0xc0, 23, 12, 0, 1, 0, 8, 1, 6, 0, 0, 0, 0, 0, 1),
		with(0xc0, 25, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), with(0x80, 26, 11, 1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1),
		with(0x80, 29, 8, 4, 1, 0, 4, 0, 0, 0, 1), with(0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3), with(0xc0, 40, 10, 1, 0, 7, 0, 0, 0, 0, 0, 0, 1),
		with(0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0xd, 0xb8), with(0x80, 15, 3, 0, 1, 1),
		with(0x80, 14, 9, 0, 1, 1, 4, 100, 64, 0, 2, 0), update([][]byte{origin, {0x40, 2, 10, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2}, nextHop}, good...),
		update([][]byte{origin, {0x40, 2, 4, 2, 1, 0xfd, 0xe9}, nextHop}, good...),
	}
}

// mutate returns a message that is wrong in one or several ways, now and then in none.
func mutate(random *rand.Rand, corpus [][]byte) []byte {
	m := bytes.Clone(corpus[random.IntN(len(corpus))])
	for range random.IntN(4) {
		switch random.IntN(4) {
		case 0:
			if len(m) > headerLength {
				m[headerLength+random.IntN(len(m)-headerLength)] = byte(random.Uint32())
			}
		case 1: // what is an attribute's type, flags or length is as likely to be small
			if len(m) > headerLength {
				m[headerLength+random.IntN(len(m)-headerLength)] = byte(random.IntN(48))
			}
		case 2:
			m = m[:headerLength+random.IntN(len(m)-headerLength+1)]
		case 3:
			other := corpus[random.IntN(len(corpus))]
			m = append(m, other[headerLength+random.IntN(len(other)-headerLength+1):]...)
		}
	}
	if len(m) > maxMessage {
		m = m[:maxMessage]
	}
	m[16], m[17] = byte(len(m)>>8), byte(len(m)) // a message of a wrong length is only ever one
	return m
}

// FuzzGuard looks for bytes at which the guard fails, or lets something pass that GoBGP's parser refuses.
func FuzzGuard(f *testing.F) {
	for _, m := range messageCorpus([]byte{100, 64, 0, 2}) {
		f.Add(m, true)
		f.Add(m, false)
	}
	for _, h := range hostile {
		f.Add(h.bytes([]byte{0x40, 3, 4, 100, 64, 0, 2}), true)
	}
	f.Fuzz(func(t *testing.T, said []byte, wide bool) {
		g := establishedGuard(wide)
		reader := bytes.NewReader(said)
		var buffer [maxMessage]byte
		for {
			m, err := readMessage(reader, &buffer)
			if err != nil {
				return
			}
			passed, err := g.check(m)
			if err != nil {
				wrong := err.(*breach)
				if n := wrong.notification(); len(n) > maxMessage || wrong.code == 0 {
					t.Fatalf("%x: NOTIFICATION %x", m, n)
				}
				return
			}
			parsed, err := packet.ParseBGPMessage(passed)
			if err != nil {
				t.Fatalf("%x passed as %x: %v", m, passed, err)
			}
			if body, ok := parsed.Body.(*packet.BGPUpdate); ok {
				if _, err := packet.ValidateUpdateMsg(body, g.families, true, false, false); err != nil {
					t.Fatalf("%x passed as %x: %v", m, passed, err)
				}
				was, _ := packet.ParseBGPMessage(m)
				before, _ := was.Body.(*packet.BGPUpdate).IsEndOfRib()
				if after, _ := body.IsEndOfRib(); after && !before {
					t.Fatalf("%x became an End-of-RIB", m)
				}
			}
		}
	})
}
