package edge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"crossbill/edge/lab"
)

// leakPort is where the packets of [TestNoRouteLeaks] go.
const leakPort = 40_999

// TestNoRouteLeaks has six connections on one node, each with routers, BGP sessions and AS numbers like all others', the same
// prefixes on every customer's side, the same on every provider's, and one on each side that is its own. Each end of each
// connection sends packets to every address of every other one, in both families. Not one comes out anywhere but at the
// far end of its own connection, and there only what is for an address that is there too.
func TestNoRouteLeaks(t *testing.T) {
	const connections = 6
	e := newKernelEdge(t, time.Hour)
	p := e.platform
	type end struct {
		connection int
		side       string
		place      string
		hosts      []netip.Addr // its own, then those that every connection has on this side, of each family
		links      []netip.Addr // the node's and the router's addresses on the links
		source     map[bool]netip.Addr
	}
	var ends []*end
	var wanted []DesiredConnection
	for n := 1; n <= connections; n++ {
		c := desiredConnection(10+n, Production)
		c.BandwidthMbps = 10_000
		for i, side := range []string{"a", "z"} {
			a := []*Attachment{&c.A, &c.Z}[i]
			own := netip.AddrFrom4([4]byte{100, 64, 1, byte(8*n + 4*i + 1)})
			own6 := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::1:%x", 4*n+2*i))
			*a = Attachment{Interface: []string{lab.PortA, lab.PortZ}[i], VLAN: 300 + 10*n, Address: netip.PrefixFrom(own, 30), Peer: own.Next(),
				IPv6Address: netip.PrefixFrom(own6, 127), IPv6Peer: own6.Next(), PeerASN: uint32(65001 + i), PrefixLimit: 10,
				Prefixes: []netip.Prefix{
					netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + 100*i), byte(n), 0}), 24),
					netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + i), 0, 0}), 24),
					netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x:%x::/64", 1+i, n)),
					netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/64", 0xa+i)),
				}}
			x := &end{connection: n, side: side, place: fmt.Sprintf("%s/c%d", side, n), links: []netip.Addr{own, own.Next(), own6, own6.Next()}, source: map[bool]netip.Addr{}}
			for _, prefix := range a.Prefixes {
				host := prefix.Addr().Next()
				x.hosts = append(x.hosts, host)
				if _, ok := x.source[host.Is4()]; !ok {
					x.source[host.Is4()] = host
				}
			}
			if err := e.lab.StartRouter(t.Context(), x.place, lab.RouterConfig{VLAN: a.VLAN, Address: netip.PrefixFrom(a.Peer, 30), Peer: own,
				IPv6Address: netip.PrefixFrom(a.IPv6Peer, 127), IPv6Peer: own6, ASN: a.PeerASN, PeerASN: 64500, Networks: a.Prefixes}); err != nil {
				t.Fatal(err)
			}
			// Whatever a router knows, all goes to the node.
			for _, route := range []string{"ip route add default via " + own.String(), "ip -6 route add default via " + own6.String()} {
				if out, err := e.lab.Command(t.Context(), x.place, "sh", "-c", route).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", route, err, out)
				}
			}
			ends = append(ends, x)
		}
		wanted = append(wanted, c)
	}
	e.startAgent()
	p.want(wanted...)
	for _, c := range wanted {
		eventually(t, 2*time.Minute, func() string {
			o := p.observed(c.ID)
			if !isOpen(o) || !settled(o.Sessions) || slices.ContainsFunc(o.Sessions, func(s Session) bool { return s.PrefixesReceived != 2 || s.PrefixesSent != 3 }) {
				return fmt.Sprintf("%s has not exchanged all routes: %+v", c.ID, o)
			}
			return ""
		})
	}

	listeners := map[string]*leakListener{}
	for _, x := range ends {
		listeners[x.place] = e.listen(x.place)
	}
	// arrivals are the places at which a packet came in from the wire.
	arrivals := func(said string) (places []string) {
		for place, l := range listeners {
			if l.heard(said) {
				places = append(places, place)
			}
		}
		slices.Sort(places)
		return places
	}
	type packet struct {
		said string
		want []string
	}
	var packets []packet
	far := map[string]string{"a": "z", "z": "a"}
	send := func(from *end, to netip.Addr, want ...string) {
		t.Helper()
		said := fmt.Sprintf("<%d: %s to %s>", len(packets), from.place, to)
		if err := e.sendFrom(from.place, from.source[to.Is4()], to, said); err != nil {
			t.Fatalf("%s: %v", said, err)
		}
		packets = append(packets, packet{said, want})
	}
	own := func(from *end) {
		for _, to := range ends {
			if to.connection == from.connection && to.side == far[from.side] {
				for _, host := range to.hosts {
					send(from, host, to.place)
				}
			}
		}
	}
	for _, from := range ends {
		own(from) // the first is for neighbour discovery
		eventually(t, time.Minute, func() string {
			for _, p := range packets {
				if len(p.want) == 0 || len(arrivals(p.said)) > 0 {
					continue
				}
				own(from)
				return p.said + " does not arrive"
			}
			return ""
		})
	}
	var pairs int
	for _, from := range ends {
		for _, to := range ends {
			if to.connection == from.connection {
				continue
			}
			pairs++
			for i, host := range to.hosts {
				// The second of each family is on the far side of the sender's own connection as well, if it is not on its own.
				switch {
				case i%2 == 0:
					send(from, host)
				case to.side == far[from.side]:
					send(from, host, far[from.side]+strings.TrimPrefix(from.place, from.side))
				}
			}
			for _, link := range to.links {
				send(from, link)
			}
		}
		own(from) // what came before it has had its time
	}
	eventually(t, time.Minute, func() string {
		for _, p := range packets {
			if got := arrivals(p.said); len(p.want) > 0 && !slices.Equal(got, p.want) && len(got) <= len(p.want) {
				return fmt.Sprintf("%s came out at %v, want %v", p.said, got, p.want)
			}
		}
		return ""
	})
	for _, p := range packets {
		if got := arrivals(p.said); !slices.Equal(got, p.want) {
			t.Errorf("%s came out at %v, want %v", p.said, got, p.want)
		}
	}
	t.Logf("%d packets between %d ordered pairs of ends of different connections", len(packets), pairs)
}

// leakListener hears all UDP that comes to a router from the wire, whoever it is for.
type leakListener struct {
	mu   sync.Mutex
	said map[string]bool
}

func (l *leakListener) heard(said string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said[said]
}

// at runs f in a place's network namespace.
func (e *kernelEdge) at(place string, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := netns.GetFromPath(e.lab.Namespace(place))
	if err != nil {
		return err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(home); back != nil {
		return errors.Join(err, back) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func (e *kernelEdge) listen(place string) *leakListener {
	e.t.Helper()
	l := &leakListener{said: map[string]bool{}}
	var file *os.File
	err := e.at(place, func() error {
		everything := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, everything)
		if err != nil {
			return err
		}
		link, err := net.InterfaceByName(lab.RouterInterface)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		file = os.NewFile(uintptr(fd), place)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(everything), Ifindex: link.Index})
	})
	if err != nil {
		e.t.Fatalf("listen at %s: %v", place, err)
	}
	e.t.Cleanup(func() { file.Close() })
	raw, err := file.SyscallConn()
	if err != nil {
		e.t.Fatal(err)
	}
	go func() {
		buffer := make([]byte, 2048)
		for {
			var n int
			var from unix.Sockaddr
			var failed error
			if raw.Read(func(fd uintptr) bool {
				n, from, failed = unix.Recvfrom(int(fd), buffer, 0)
				return !errors.Is(failed, unix.EAGAIN)
			}) != nil {
				return
			}
			link, ok := from.(*unix.SockaddrLinklayer)
			if failed != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if said := udpPayload(buffer[:n]); said != "" {
				l.mu.Lock()
				l.said[said] = true
				l.mu.Unlock()
			}
		}
	}()
	return l
}

// udpPayload returns what a packet of the test says, and "" for others, such as an error that quotes one.
func udpPayload(b []byte) string {
	if len(b) < 20 {
		return ""
	}
	header, protocol := 4*int(b[0]&15), b[9]
	if b[0]>>4 == 6 {
		header, protocol = 40, b[6]
	}
	if protocol != unix.IPPROTO_UDP || len(b) < header+8 || binary.BigEndian.Uint16(b[header+2:]) != leakPort {
		return ""
	}
	return string(b[header+8:])
}

// sendFrom sends one UDP packet.
func (e *kernelEdge) sendFrom(place string, from, to netip.Addr, said string) error {
	return e.at(place, func() error {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteToUDPAddrPort([]byte(said), netip.AddrPortFrom(to, leakPort))
		return err
	})
}
