package datapath_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// tag is an IEEE 802.1Q tag: its protocol (0x8100, or 0x88a8 for a service tag) and the VLAN.
type tag struct{ tpid, vlan uint16 }

// frameOf puts together an Ethernet frame of a length, with tags, the outer first.
func frameOf(length int, tags []tag, ethertype uint16, payload []byte) []byte {
	f := []byte{0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02}
	for _, t := range tags {
		f = binary.BigEndian.AppendUint16(f, t.tpid)
		f = binary.BigEndian.AppendUint16(f, t.vlan)
	}
	f = append(binary.BigEndian.AppendUint16(f, ethertype), payload...)
	return append(f, make([]byte, max(0, length-len(f)))...)
}

// TestFramesOfEveryKind sends frames of each kind from the wire and from the node, and compares what the meters counted with
// the interface's own counters, for each kind alone. A tag of the node's own raw socket stays in the frame; one from the wire
// is in the offload field.
func TestFramesOfEveryKind(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	must(t, p.SetMTU(9100))
	tagged, untagged, service := connection(21, 100, 100), connection(22, 0, 0), connection(23, 400, 400)
	service.A.ServiceVLAN, service.Z.ServiceVLAN = 300, 300
	for _, c := range []datapath.Connection{tagged, untagged, service} {
		must(t, p.Ensure(c))
	}
	wire, node := p.sender("a", lab.RouterInterface), p.sender(lab.PoP, lab.PortA)
	ip4 := []byte{0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	fragment := []byte{0x45, 0, 0, 46, 0, 0, 0x20, 7, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 8, 17, 64, 0xfd}, make([]byte, 31)...)
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	for _, kind := range []struct {
		name  string
		tags  []tag
		owner int // tag of the connection that is to count it; 0: nobody, it is a stray
	}{
		{"untagged", nil, untagged.Tag},
		{"priority", []tag{{0x8100, 0}}, untagged.Tag},
		{"802.1Q", []tag{{0x8100, 100}}, tagged.Tag},
		{"another VLAN", []tag{{0x8100, 101}}, 0},
		{"service tag", []tag{{0x88a8, 100}}, 0},
		{"QinQ of the VLAN", []tag{{0x8100, 100}, {0x8100, 7}}, tagged.Tag},
		{"QinQ of another", []tag{{0x88a8, 7}, {0x8100, 100}}, 0},
		{"service and customer tag", []tag{{0x88a8, 300}, {0x8100, 400}}, service.Tag},
		{"with priorities", []tag{{0x88a8, 300 | 7<<13}, {0x8100, 400 | 5<<13}}, service.Tag},
		{"another customer's VLAN", []tag{{0x88a8, 300}, {0x8100, 401}}, 0},
		{"another service VLAN", []tag{{0x88a8, 301}, {0x8100, 400}}, 0},
		{"service tag alone", []tag{{0x88a8, 300}}, 0},
		{"priority in a service tag", []tag{{0x88a8, 300}, {0x8100, 0}}, 0},
		{"two service tags", []tag{{0x88a8, 300}, {0x88a8, 400}}, 0},
		{"two customer tags", []tag{{0x8100, 300}, {0x8100, 400}}, 0},
		{"the wrong way round", []tag{{0x8100, 400}, {0x88a8, 300}}, 0},
		{"a third tag", []tag{{0x88a8, 300}, {0x8100, 400}, {0x8100, 8}}, service.Tag},
		{"three tags", []tag{{0x8100, 100}, {0x88a8, 7}, {0x8100, 8}}, tagged.Tag},
	} {
		for _, carried := range []struct {
			name      string
			ethertype uint16
			payload   []byte
		}{
			{"IPv4", unix.ETH_P_IP, ip4}, {"IPv4 fragment", unix.ETH_P_IP, fragment}, {"IPv6", unix.ETH_P_IPV6, ip6}, {"ARP", unix.ETH_P_ARP, arp},
			{"MPLS", unix.ETH_P_MPLS_UC, nil}, {"PPPoE", unix.ETH_P_PPP_SES, nil}, {"LLC", 46, []byte{0x42, 0x42, 3}}, {"unknown", 0x9000, nil},
		} {
			for _, length := range []int{60, 64, 1514, 1518, 9014} {
				frame := frameOf(length, kind.tags, carried.ethertype, carried.payload)
				name := fmt.Sprintf("%s, %s, %d bytes", kind.name, carried.name, len(frame))
				p.wantCounted(name+", in", kind.owner, len(frame), func() { wire(frame) })
				p.wantCounted(name+", out", kind.owner, len(frame), func() { node(frame) })
			}
		}
	}
}

// wantCounted sends a frame a few times and holds what its owner's meter counted to what the port's own counters did. What
// nobody owns is counted where it came in, and never leaves.
func (p *pop) wantCounted(name string, owner, length int, send func()) {
	p.t.Helper()
	before, strays, wire := p.metered(21, 22, 23), p.strays(), p.wire()
	mine := [2]datapath.Counters{}
	if owner != 0 {
		mine = p.metered(owner)
	}
	send()
	var moved, all [2]datapath.Counters
	var stray datapath.Counters
	for range 500 { // until the kernel, which may be busy, has looked at each of them
		moved, all, stray = minus(p.wire(), wire), minus(p.metered(21, 22, 23), before), p.strays()
		if all[0].PacketsIn+all[0].PacketsOut+stray.PacketsIn-strays.PacketsIn+stray.DroppedOut-strays.DroppedOut >= frames {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	in, out := all[0], all[0]
	if owner != 0 {
		if owned := minus(p.metered(owner), mine); owned != all {
			p.t.Errorf("%s: another connection counted it: %+v of %+v", name, owned, all)
		}
	}
	in.BytesIn, in.PacketsIn = in.BytesIn+stray.BytesIn-strays.BytesIn, in.PacketsIn+stray.PacketsIn-strays.PacketsIn
	if in.BytesIn != moved[0].BytesIn || in.PacketsIn != moved[0].PacketsIn || out.BytesOut != moved[0].BytesOut || out.PacketsOut != moved[0].PacketsOut {
		p.t.Errorf("%s: counted %+v and strays %+v, on the wire %+v", name, all[0], stray, moved[0])
	}
	if owner == 0 && all != ([2]datapath.Counters{}) {
		p.t.Errorf("%s: a connection counted it: %+v", name, all)
	}
	sent := strings.HasSuffix(name, "in") && moved[0].BytesIn == uint64(frames*length) ||
		strings.HasSuffix(name, "out") && (owner == 0 && moved[0].BytesOut == 0 || owner != 0 && moved[0].BytesOut == uint64(frames*length))
	if !sent {
		p.t.Errorf("%s: %d frames of %d bytes are on the wire as %+v", name, frames, length, moved[0])
	}
}

func (p *pop) strays() datapath.Counters {
	p.t.Helper()
	s, err := p.Strays(lab.PortA)
	must(p.t, err)
	return s
}

// asSender makes the test's binary a sender of raw frames at an interface.
const asSender = "CROSSBILL_TEST_FRAMES"

// frames is how often each is sent.
const frames = 3

// sender returns what sends a frame as it is, some times, at an interface of a place.
func (p *pop) sender(place, device string) func(frame []byte) {
	p.t.Helper()
	command := p.Command(context.Background(), place, os.Args[0]) // it ends with its input
	command.Env = append(os.Environ(), asSender+"="+device)
	in, err := command.StdinPipe()
	must(p.t, err)
	out, err := command.StdoutPipe()
	must(p.t, err)
	must(p.t, command.Start())
	p.t.Cleanup(func() {
		in.Close()
		if err := command.Wait(); err != nil {
			p.t.Error(err)
		}
	})
	answers := bufio.NewScanner(out)
	return func(frame []byte) {
		p.t.Helper()
		fmt.Fprintln(in, hex.EncodeToString(frame))
		if !answers.Scan() || answers.Text() != "sent" {
			p.t.Fatalf("%s: %s %v", device, answers.Text(), answers.Err())
		}
	}
}

// sendFrames is the process that sends what it reads. At a router it bypasses what tags the router's own frames.
func sendFrames(device string) error {
	port, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if device == lab.RouterInterface {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		raw, err := hex.DecodeString(lines.Text())
		if err != nil {
			return err
		}
		for range frames {
			err := unix.Sendto(fd, raw, 0, &unix.SockaddrLinklayer{Ifindex: port.Index, Halen: 6})
			if err != nil && err != unix.ENOBUFS { // what the node drops
				return err
			}
		}
		fmt.Println("sent")
	}
	return lines.Err()
}
