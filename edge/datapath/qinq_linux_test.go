package datapath_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// asCaptor makes the test's binary a listener for the tests' packets at an interface.
const asCaptor = "CROSSBILL_TEST_CAPTURE"

// captor returns what waits for the next of the tests' packets that arrives at a router's interface, with its tags.
func (p *pop) captor(place string) func() []byte {
	p.t.Helper()
	command := p.Command(context.Background(), place, os.Args[0]) // it ends with its input
	command.Env = append(os.Environ(), asCaptor+"="+lab.RouterInterface)
	in, err := command.StdinPipe()
	must(p.t, err)
	out, err := command.StdoutPipe()
	must(p.t, err)
	must(p.t, command.Start())
	p.t.Cleanup(func() {
		in.Close()
		_ = command.Wait()
	})
	frames := bufio.NewScanner(out)
	next := func() []byte {
		p.t.Helper()
		late := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
		defer late.Stop()
		if !frames.Scan() {
			p.t.Fatalf("nothing arrived at %s: %v", place, frames.Err())
		}
		frame, err := hex.DecodeString(frames.Text())
		must(p.t, err)
		return frame
	}
	next() // it listens
	return next
}

// capture is the process that listens. It prints packets of the tests' UDP port, and ends with its input.
func capture(device string) error {
	port, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: port.Index, Protocol: binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})}); err != nil {
		return err
	}
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}()
	fmt.Println("00")
	frame, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, m, _, from, err := unix.Recvmsg(fd, frame, control, 0)
		if err != nil {
			return err
		}
		if sll, ok := from.(*unix.SockaddrLinklayer); ok && sll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:m])
		if err != nil {
			return err
		}
		whole := append([]byte(nil), frame[:n]...)
		for _, message := range messages {
			data := message.Data // struct tpacket_auxdata: status, len, snaplen, mac, net, TCI, TPID
			if message.Header.Type != unix.PACKET_AUXDATA || binary.NativeEndian.Uint32(data)&unix.TP_STATUS_VLAN_VALID == 0 {
				continue
			}
			tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(data[18:])), binary.NativeEndian.Uint16(data[16:]))
			whole = append(append(append([]byte(nil), whole[:12]...), tag...), whole[12:]...)
		}
		if strings.Contains(string(whole), testPayload) {
			fmt.Println(hex.EncodeToString(whole))
		}
	}
}

// testPayload marks the packets that are waited for.
const testPayload = "crossbill test"

// packetTo returns an IPv4 or IPv6 packet of UDP with some hops left.
func packetTo(src, dst netip.Addr, hops byte, payload string) []byte {
	length := uint16(8 + len(payload))
	udp := binary.BigEndian.AppendUint16([]byte{0, 9, 0, 9}, length)
	udp = append(append(udp, 0, 0), payload...)
	if src.Is6() {
		ip := append([]byte{0x60, 0, 0, 0, byte(length >> 8), byte(length), unix.IPPROTO_UDP, hops}, src.AsSlice()...)
		return append(append(ip, dst.AsSlice()...), udp...)
	}
	ip := append([]byte{0x45, 0, byte((length + 20) >> 8), byte(length + 20), 0, 0, 0, 0, hops, unix.IPPROTO_UDP, 0, 0}, src.AsSlice()...)
	ip = append(ip, dst.AsSlice()...)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return append(ip, udp...)
}

// hardwareAddress returns that of a port.
func (p *pop) hardwareAddress(port string) net.HardwareAddr {
	p.t.Helper()
	_, rest, _ := strings.Cut(p.run(lab.PoP, "ip", "-o", "link", "show", "dev", port), "link/ether ")
	address, err := net.ParseMAC(strings.Fields(rest + " -")[0])
	must(p.t, err)
	return address
}

// addressed returns a frame from a router, whose address is made up, to a port or the other way round.
func addressed(dst, src net.HardwareAddr, tags []tag, packet []byte) []byte {
	ethertype := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		ethertype = unix.ETH_P_IPV6
	}
	f := frameOf(0, tags, ethertype, packet)
	copy(f, dst)
	copy(f[6:], src)
	return f
}

// TestServiceVLANs carries packets between attachments of every kind: each frame leaves with exactly the tags of its own side, and
// is counted to the byte.
func TestServiceVLANs(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	router := net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	portA, portZ := p.hardwareAddress(lab.PortA), p.hardwareAddress(lab.PortZ)
	fromA, fromZ := p.sender("a", lab.RouterInterface), p.sender("z", lab.RouterInterface)
	atA, atZ := p.captor("a"), p.captor("z")
	var tags []int // routers and node say something of themselves on each connection at any time
	for n, kind := range []struct {
		name         string
		a, z         datapath.Attachment
		tagsA, tagsZ []tag
	}{
		{"to a VLAN", datapath.Attachment{ServiceVLAN: 300, VLAN: 400}, datapath.Attachment{VLAN: 200}, []tag{{0x88a8, 300}, {0x8100, 400}}, []tag{{0x8100, 200}}},
		{"to another pair", datapath.Attachment{ServiceVLAN: 300, VLAN: 401}, datapath.Attachment{ServiceVLAN: 301, VLAN: 400}, []tag{{0x88a8, 300}, {0x8100, 401}}, []tag{{0x88a8, 301}, {0x8100, 400}}},
		{"the same twice", datapath.Attachment{ServiceVLAN: 4094, VLAN: 4094}, datapath.Attachment{ServiceVLAN: 4094, VLAN: 4094}, []tag{{0x88a8, 4094}, {0x8100, 4094}}, []tag{{0x88a8, 4094}, {0x8100, 4094}}},
		{"to untagged", datapath.Attachment{ServiceVLAN: 1, VLAN: 1}, datapath.Attachment{}, []tag{{0x88a8, 1}, {0x8100, 1}}, nil},
	} {
		c := links6(connection(23+n, 0, 0))
		tags = append(tags, c.Tag)
		c.A.VLAN, c.A.ServiceVLAN, c.Z.VLAN, c.Z.ServiceVLAN = kind.a.VLAN, kind.a.ServiceVLAN, kind.z.VLAN, kind.z.ServiceVLAN
		must(t, p.Ensure(c))
		must(t, p.SetRoutes(c.Tag, append(routes(c), routes6(c)...)))
		must(t, p.SetGate(c.Tag, true))
		for side, peers := range map[datapath.Side][]netip.Addr{datapath.SideA: {c.A.Peer, c.A.IPv6.Peer}, datapath.SideZ: {c.Z.Peer, c.Z.IPv6.Peer}} {
			for _, peer := range peers {
				p.run(lab.PoP, "ip", "neigh", "replace", peer.String(), "lladdr", router.String(), "dev", datapath.InterfaceName(c.Tag, side), "nud", "permanent")
			}
		}
		for _, of := range [][2]netip.Addr{{hostA, hostZ}, {hostA6, hostZ6}} {
			for _, size := range []int{100, 1492 - 48} { // UDP's payload; the longest that a raw socket sends with two tags and IPv6
				payload := testPayload + strings.Repeat("x", size-len(testPayload))
				p.wantExact(kind.name, tags, func() {
					for _, way := range []struct {
						send       func([]byte)
						arrives    func() []byte
						at, beyond net.HardwareAddr
						in, out    []tag
						src, dst   netip.Addr
					}{{fromA, atZ, portA, portZ, kind.tagsA, kind.tagsZ, of[0], of[1]}, {fromZ, atA, portZ, portA, kind.tagsZ, kind.tagsA, of[1], of[0]}} {
						way.send(addressed(way.at, router, way.in, packetTo(way.src, way.dst, 64, payload)))
						want := hex.EncodeToString(addressed(router, way.beyond, way.out, packetTo(way.src, way.dst, 63, payload)))
						for range frames {
							if got := hex.EncodeToString(way.arrives()); got != want {
								t.Fatalf("%s, %s to %s: arrived\n%.160s\nwant\n%.160s", kind.name, way.src, way.dst, got, want)
							}
						}
					}
				})
			}
		}
		if out := p.run(lab.PoP, "ip", "-o", "link", "show", "dev", datapath.InterfaceName(c.Tag, datapath.SideA)); !strings.Contains(out, "mtu 1496") {
			t.Errorf("%s: the interface has no room for two tags: %s", kind.name, out)
		}
		// What the node itself sends has the tags, too.
		_ = p.Command(t.Context(), lab.PoP, "ping", "-n", "-q", "-c", "1", "-W", "0.1", "-p", hex.EncodeToString([]byte(testPayload)),
			"-I", c.A.Address.Addr().String(), c.A.Peer.String()).Run() // nobody answers
		if got := atA(); !strings.HasPrefix(hex.EncodeToString(got), hex.EncodeToString(addressed(router, portA, kind.tagsA, []byte{0x45}))) {
			t.Errorf("%s: the node's own packet: %x", kind.name, got)
		}
	}
	for _, tag := range tags {
		must(t, p.Remove(tag))
	}
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// TestNoHopIntoAnotherVLAN sends frames with one tag too many: it must not take them into another connection's VLAN on a port
// where their own connection has none.
func TestNoHopIntoAnotherVLAN(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	router := net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	own, other := connection(28, 100, 0), connection(29, 101, 7)
	for _, c := range []datapath.Connection{own, other} {
		must(t, p.Ensure(c))
		must(t, p.SetRoutes(c.Tag, routes(c)))
		must(t, p.SetGate(c.Tag, true))
		p.run(lab.PoP, "ip", "neigh", "replace", c.Z.Peer.String(), "lladdr", router.String(), "dev", datapath.InterfaceName(c.Tag, datapath.SideZ), "nud", "permanent")
	}
	from, at, port := p.sender("a", lab.RouterInterface), p.captor("z"), p.hardwareAddress(lab.PortA)
	packet := packetTo(hostA, hostZ, 64, testPayload)
	before := p.both(own.Tag)
	for _, more := range [][]tag{{{0x8100, 7}}, {{0x88a8, 7}}, {{0x8100, 7}, {0x8100, 8}}, {{0x8100, 0}}} {
		from(addressed(port, router, append([]tag{{0x8100, 100}}, more...), packet))
	}
	from(addressed(port, router, []tag{{0x8100, 100}}, packet))
	want := hex.EncodeToString(addressed(router, p.hardwareAddress(lab.PortZ), nil, packetTo(hostA, hostZ, 63, testPayload)))
	for range frames {
		if got := hex.EncodeToString(at()); got != want {
			t.Errorf("arrived %s, want %s", got, want)
		}
	}
	if d := p.both(own.Tag); d[0].Refused-before[0].Refused != 4*frames || d[1].PacketsOut-before[1].PacketsOut != frames {
		t.Errorf("of 4 frames with a tag too many and one without: %+v, then %+v", before, d)
	}
}
