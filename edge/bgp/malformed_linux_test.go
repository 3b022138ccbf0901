package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// Message types (RFC 4271 section 4.1).
const (
	messageOpen         = 1
	messageUpdate       = 2
	messageNotification = 3
	messageKeepalive    = 4
)

// message frames a body.
func message(kind byte, body ...byte) []byte {
	m := slices.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
	return append(append(m, kind), body...)
}

// update is an UPDATE without withdrawals.
func update(attributes [][]byte, nlri ...byte) []byte {
	all := slices.Concat(attributes...)
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(all)))
	return message(messageUpdate, append(append(body, all...), nlri...)...)
}

// rawPeer speaks BGP by hand in a router's namespace.
type rawPeer struct {
	conn         net.Conn
	notification chan [2]byte // code and subcode, once the node has closed the session; zeros without a word
	silent       atomic.Bool  // keeps it alive no more
	ended        atomic.Int32 // how often the node has said End-of-RIB
}

// dial opens a session as AS 65001 and keeps it alive.
func (r *router) dial(t testing.TB) *rawPeer {
	t.Helper()
	return r.dialAs(t, 90)
}

// dialAs is dial with a hold time in seconds, and capabilities.
func (r *router) dialAs(t testing.TB, hold byte, more ...byte) *rawPeer {
	t.Helper()
	var conn net.Conn
	eventually(t, patience, func() string { // until the node has forgotten the session before
		var err error
		if conn, err = r.connect(); err != nil {
			return err.Error()
		}
		if err = open(conn, r.peer, true, hold, more...); err != nil {
			conn.Close()
			return "open the session: " + err.Error()
		}
		return ""
	})
	p := &rawPeer{conn: conn, notification: make(chan [2]byte, 1)}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for {
			kind, body, err := receive(conn)
			switch {
			case err != nil:
				p.notification <- [2]byte{}
				return
			case kind == messageNotification && len(body) >= 2:
				p.notification <- [2]byte{body[0], body[1]}
				conn.Close()
				return
			case kind == messageUpdate && bytes.Equal(body, make([]byte, 4)):
				p.ended.Add(1)
			case kind == messageKeepalive && !p.silent.Load():
				_, _ = conn.Write(message(messageKeepalive))
			}
		}
	}()
	return p
}

// connect makes a TCP connection to the node from the namespace.
func (r *router) connect() (conn net.Conn, err error) {
	err = r.inside(func() (err error) {
		conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(r.local.Addr(), DefaultPort).String(), 10*time.Second)
		return err
	})
	return conn, err
}

// inside calls a function in the namespace.
func (r *router) inside(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := netns.GetFromName(r.namespace)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return err
	}
	defer func() {
		if netns.Set(home) == nil { // else the thread ends with its goroutine
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// openMessage is an OPEN with IPv4 unicast, and four-octet AS numbers or not.
func openMessage(id netip.Addr, wide bool, hold byte, more ...byte) []byte {
	capabilities := []byte{1, 4, 0, 1, 0, 1} // multiprotocol: IPv4 unicast (RFC 4760)
	if wide {
		capabilities = append(capabilities, 65, 4, 0, 0, 0xfd, 0xe9) // AS 65001 (RFC 6793)
	}
	capabilities = append(capabilities, more...)
	body := append([]byte{4, 0xfd, 0xe9, 0, hold}, id.AsSlice()...)
	body = append(body, byte(2+len(capabilities)), 2, byte(len(capabilities)))
	return message(messageOpen, append(body, capabilities...)...)
}

// sendOpen sends an OPEN and the first keepalive.
func sendOpen(conn net.Conn, id netip.Addr, wide bool, hold byte, more ...byte) error {
	_, err := conn.Write(append(openMessage(id, wide, hold, more...), message(messageKeepalive)...))
	return err
}

// open is sendOpen, and what the node says to it.
func open(conn net.Conn, id netip.Addr, wide bool, hold byte, more ...byte) error {
	if err := sendOpen(conn, id, wide, hold, more...); err != nil {
		return err
	}
	for _, want := range []byte{messageOpen, messageKeepalive} {
		if kind, body, err := receive(conn); err != nil {
			return err
		} else if kind != want {
			return fmt.Errorf("received a message of type %d %v, want type %d", kind, body, want)
		}
	}
	return nil
}

func receive(conn net.Conn) (kind byte, body []byte, err error) {
	header := make([]byte, 19)
	if _, err := io.ReadFull(conn, header); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint16(header[16:])-19)
	_, err = io.ReadFull(conn, body)
	return header[18], body, err
}

func (p *rawPeer) send(t testing.TB, m []byte) {
	t.Helper()
	if _, err := p.conn.Write(m); err != nil {
		t.Fatal(err)
	}
}

// announce announces 10.1.0.0/16 as a link's router.
func (p *rawPeer) announce(t testing.TB, r *router) {
	t.Helper()
	p.send(t, update([][]byte{origin, asPath, append([]byte{0x40, 3, 4}, r.peer.AsSlice()...)}, good...))
}

// Attributes and reachability as they should be, from a peer with the address 100.64.n.n.
var (
	origin    = []byte{0x40, 1, 1, 0}
	asPath    = []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9}
	aggregate = []byte{0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 1, 0, 1}
	good      = []byte{16, 10, 1} // 10.1.0.0/16, which is registered
)

// TestMalformedUpdates has a peer announce a prefix and then say something broken about it. RFC 7606 has the prefix
// withdrawn if it can be told which is meant, and the session closed if not. Nothing of it may reach another session.
func TestMalformedUpdates(t *testing.T) {
	needsRouters(t, "bird", "birdc")
	s := newSpeaker(t)
	bystanderA, bystanderZ := newRouter(t), newRouter(t)
	bystanderA.bird(birdConfig{asn: 65001, nodeASN: nodeASN, routes: []string{"10.1.0.0/16"}})
	bystanderZ.bird(birdConfig{asn: 65002, nodeASN: nodeASN, routes: []string{"192.0.2.0/24"}})
	ensure(t, s, Connection{Tag: 1, A: session(bystanderA, 65001, "10.1.0.0/16"), Z: session(bystanderZ, 65002, "192.0.2.0/24")})
	awaitState(t, s, 1, A, Established)
	awaitState(t, s, 1, Z, Established)
	before := states(t, s, 1)

	tag := 1
	// newSession returns a raw session of a connection of its own, whose other side nobody is on.
	newSession := func(t *testing.T) (*rawPeer, int, []byte, string) {
		tag++
		a, z := newRouter(t), newRouter(t)
		ensure(t, s, Connection{Tag: tag, A: session(a, 65001, "10.1.0.0/16"), Z: session(z, 65002)})
		address := a.peer.As4()
		nextHop := append([]byte{0x40, 3, 4}, address[:]...)
		return a.dial(t), tag, nextHop, "a 10.1.0.0/16 via " + a.peer.String()
	}

	t.Run("treated as a withdrawal", func(t *testing.T) {
		peer, tag, nextHop, route := newSession(t)
		for _, broken := range []struct {
			name       string
			attributes [][]byte
			kept       bool // only the attribute is discarded (RFC 7606 sections 7.6, 7.7 and 3 g)
		}{
			{"ORIGIN of two octets", [][]byte{{0x40, 1, 2, 0, 0}, asPath, nextHop}, false},
			{"ORIGIN of no known value", [][]byte{{0x40, 1, 1, 9}, asPath, nextHop}, false},
			{"ORIGIN flagged as optional", [][]byte{{0xc0, 1, 1, 0}, asPath, nextHop}, false},
			{"no ORIGIN", [][]byte{asPath, nextHop}, false},
			{"no AS_PATH", [][]byte{origin, nextHop}, false},
			{"no NEXT_HOP", [][]byte{origin, asPath}, false},
			{"no attributes at all", nil, false},
			{"AS_PATH whose segment overruns it", [][]byte{origin, {0x40, 2, 6, 2, 9, 0, 0, 0xfd, 0xe9}, nextHop}, false},
			{"AS_PATH with a segment of no known type", [][]byte{origin, {0x40, 2, 6, 7, 1, 0, 0, 0xfd, 0xe9}, nextHop}, false},
			{"AS_PATH with a confederation's segment", [][]byte{origin, {0x40, 2, 6, 3, 1, 0, 0, 0xfd, 0xe9}, nextHop}, false},
			{"AS_PATH with the node's own AS", [][]byte{origin, {0x40, 2, 10, 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, nodeASN >> 8, nodeASN & 0xff}, nextHop}, false},
			{"NEXT_HOP of three octets", [][]byte{origin, asPath, {0x40, 3, 3, 100, 64, 0}}, false},
			{"NEXT_HOP that is a multicast group", [][]byte{origin, asPath, {0x40, 3, 4, 224, 0, 0, 1}}, false},
			{"COMMUNITIES of three octets", [][]byte{origin, asPath, nextHop, {0xc0, 8, 3, 0, 1, 0}}, false},
			{"MULTI_EXIT_DISC of one octet", [][]byte{origin, asPath, nextHop, {0x80, 4, 1, 0}}, false},
			{"AGGREGATOR of three octets", [][]byte{origin, asPath, nextHop, {0xc0, 7, 3, 0, 0, 1}}, true},
			{"ORIGIN twice", [][]byte{origin, asPath, nextHop, origin}, true},
			{"an optional attribute that nobody knows", [][]byte{origin, asPath, nextHop, {0xc0, 200, 2, 1, 2}}, true},
		} {
			peer.send(t, update([][]byte{origin, asPath, nextHop, aggregate}, good...))
			awaitRoutes(t, s, tag, route)
			// What comes after it shows that it has been dealt with: another prefix, counted though it is not registered.
			peer.send(t, update(broken.attributes, good...))
			peer.send(t, update([][]byte{origin, asPath, nextHop}, 24, 10, 1, 2))
			left := 1
			if broken.kept {
				left = 2
			}
			eventually(t, patience, func() string {
				got := sideOf(t, s, tag, A)
				if got.State != Established || got.PrefixesReceived != left {
					return fmt.Sprintf("%s: %+v, want it established with %d prefixes received", broken.name, got, left)
				}
				return ""
			})
			if broken.kept {
				awaitRoutes(t, s, tag, route)
			} else {
				awaitRoutes(t, s, tag)
			}
			peer.send(t, message(messageUpdate, 0, 4, 24, 10, 1, 2, 0, 0)) // withdraws the other prefix
			eventually(t, patience, func() string {
				if got := sideOf(t, s, tag, A); got.PrefixesReceived != left-1 {
					return fmt.Sprintf("%s: after a withdrawal: %+v", broken.name, got)
				}
				return ""
			})
		}
		select {
		case n := <-peer.notification:
			t.Errorf("the node closed the session: %v", n)
		default:
		}
	})

	_, _, nextHop, _ := newSession(t)
	valid := slices.Concat(origin, asPath, nextHop)
	short := message(messageKeepalive)
	short[17] = 18
	for name, broken := range map[string]struct {
		message []byte
		codes   [][2]byte // of the NOTIFICATION (RFC 4271 section 6)
	}{
		"NLRI of 33 bits":                          {update([][]byte{valid}, 33, 10, 1, 0, 0, 0), [][2]byte{{3, 10}, {3, 1}, {3, 0}}},
		"NLRI that is cut off":                     {update([][]byte{valid}, 24, 10), [][2]byte{{3, 10}, {3, 1}, {3, 0}}},
		"attributes longer than the message":       {message(messageUpdate, append([]byte{0, 0, 0, 200}, valid...)...), [][2]byte{{3, 1}}},
		"withdrawn routes longer than the message": {message(messageUpdate, 0, 200, 16, 10, 1), [][2]byte{{3, 1}}},
		"length below a header's":                  {short, [][2]byte{{1, 2}}},
	} {
		t.Run("closes the session/"+name, func(t *testing.T) {
			peer, tag, nextHop, route := newSession(t)
			peer.send(t, update([][]byte{origin, asPath, nextHop}, good...))
			awaitRoutes(t, s, tag, route)
			peer.send(t, broken.message)
			select {
			case got := <-peer.notification:
				if !slices.Contains(broken.codes, got) {
					t.Errorf("the node closed with NOTIFICATION %v, want one of %v", got, broken.codes)
				}
			case <-time.After(patience):
				t.Fatal("the session stays up")
			}
			awaitRoutes(t, s, tag)
		})
	}
	// And a peer that has learnt better is taken again, while nobody else noticed.
	peer, tag, nextHop, route := newSession(t)
	peer.send(t, update([][]byte{origin, asPath, nextHop}, good...))
	awaitRoutes(t, s, tag, route)
	if after := states(t, s, 1); after[0].Since != before[0].Since || after[1].Since != before[1].Since {
		t.Errorf("other sessions were restarted: %+v, before %+v", after, before)
	}
	awaitRoutes(t, s, 1, "a 10.1.0.0/16 via "+bystanderA.peer.String(), "z 192.0.2.0/24 via "+bystanderZ.peer.String())
}
