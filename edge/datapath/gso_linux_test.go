package datapath

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"crossbill/edge/lab"
)

// skb is the beginning of struct __sk_buff of linux/bpf.h, up to what a test run may set of a super-packet.
type skb struct {
	_       [41]uint32
	GSOSegs uint32
	_       [2]uint32
	GSOSize uint32
	_       [3]uint32
}

// TestSuperPackets runs the meter on packets that stand for many wire frames (GSO, GRO) and holds what it counts to the frames
// themselves: each repeats the headers before its part of the payload.
func TestSuperPackets(t *testing.T) {
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
	pins := fmt.Sprintf("%s/gso%d", DefaultPinDir, os.Getpid())
	d, err := Open(Options{PinDir: pins})
	if err != nil {
		t.Fatal(err)
	}
	defer unpinAll(pins)
	defer d.Close()
	const loopback, owner = 1, 1 // a test run is at the namespace's loopback
	if err := d.ensureMeters(owner); err != nil {
		t.Fatal(err)
	}
	for _, wire := range []datapathWire{{Port: loopback}, {Port: loopback, Vlan: 100, Tpid: tpid8021Q}} {
		if err := d.objects.Sides.Put(wire, datapathAttachment{Interface: loopback, Tag: owner, Slot: slotOf(d.pairs[owner], SideA)}); err != nil {
			t.Fatal(err)
		}
	}
	ethernet := make([]byte, 12)
	layer := func(length int, set func(b []byte)) []byte {
		b := make([]byte, length)
		set(b)
		return b
	}
	ip4 := func(protocol byte, options int) []byte {
		return layer(20+options, func(b []byte) { b[0], b[9] = 0x40|byte(5+options/4), protocol })
	}
	ip6 := func(next byte) []byte { return layer(40, func(b []byte) { b[0], b[6] = 0x60, next }) }
	tcp := func(options int) []byte {
		return layer(20+options, func(b []byte) { b[12] = byte(5+options/4) << 4 })
	}
	udp := make([]byte, 8)
	typed := func(types ...uint16) (b []byte) {
		for _, t := range types {
			b = binary.BigEndian.AppendUint16(b, t)
		}
		return b
	}
	const vlan = 100
	for _, test := range []struct {
		name   string
		layers [][]byte
	}{
		{"TCP", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_TCP, 0), tcp(0)}},
		{"TCP with options", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_TCP, 0), tcp(12)}},
		{"IPv4 with options", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_TCP, 8), tcp(40)}},
		{"UDP", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_UDP, 0), udp}},
		{"TCP over IPv6", [][]byte{typed(unix.ETH_P_IPV6), ip6(unix.IPPROTO_TCP), tcp(12)}},
		{"UDP over IPv6", [][]byte{typed(unix.ETH_P_IPV6), ip6(unix.IPPROTO_UDP), udp}},
		{"TCP in IP in IP", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_IPIP, 0), ip4(unix.IPPROTO_TCP, 0), tcp(0)}},
		{"TCP over IPv6 in IP", [][]byte{typed(unix.ETH_P_IP), ip4(unix.IPPROTO_IPV6, 0), ip6(unix.IPPROTO_TCP), tcp(0)}},
		{"TCP in a tag", [][]byte{typed(unix.ETH_P_8021Q, vlan, unix.ETH_P_IP), ip4(unix.IPPROTO_TCP, 0), tcp(12)}},
		{"TCP in two tags", [][]byte{typed(unix.ETH_P_8021Q, vlan, unix.ETH_P_8021Q, 7, unix.ETH_P_IPV6), ip6(unix.IPPROTO_TCP), tcp(12)}},
	} {
		headers := append([]byte(nil), ethernet...)
		for _, l := range test.layers {
			headers = append(headers, l...)
		}
		for _, size := range []int{1, 100, 536, 1448} {
			for _, payload := range []int{1, size, size + 1, 7 * size, 7*size + size/2} {
				if payload > 3000 { // a test run's packet is one page
					continue
				}
				segments := (payload + size - 1) / size
				for _, told := range []int{segments, 0} { // some drivers leave it out
					before, _, err := d.Counters(owner)
					if err != nil {
						t.Fatal(err)
					}
					_, err = d.objects.PortEgress.Run(&ebpf.RunOptions{
						Data: append(headers[:len(headers):len(headers)], make([]byte, payload)...), Context: skb{GSOSegs: uint32(told), GSOSize: uint32(size)},
					})
					if err != nil {
						t.Fatal(err)
					}
					after, _, err := d.Counters(owner)
					if err != nil {
						t.Fatal(err)
					}
					frames, bytes := int(after.PacketsOut-before.PacketsOut), int(after.BytesOut-before.BytesOut)
					if frames != segments || bytes != payload+segments*len(headers) {
						t.Errorf("%s: %d bytes in segments of %d (%d told) are %d frames of %d bytes, and should be %d of %d",
							test.name, payload, size, told, frames, bytes, segments, payload+segments*len(headers))
					}
				}
			}
		}
	}
}
