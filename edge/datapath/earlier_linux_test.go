package datapath_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"crossbill/edge/datapath"
)

// earlierPrograms are those of the version that kept meters by tag, as it was released.
const earlierPrograms = "testdata/earlier_bpfel.o"

// The attachments of both versions, as they stand in the maps.
type (
	wireKey struct {
		Port       uint32
		VLAN, TPID uint16
	}
	attachmentNow struct {
		Slot, Mbps, Generation uint32
		Tag, Flags             uint16
		Interface, Opposite    uint32
		Other                  wireKey
		Own                    [2]uint32
		Own6                   [2][16]uint8
	}
	attachmentEarlier struct {
		Interface, Meter, Mark, Table uint32
		Own                           [2]uint32
		Flags, Mbps                   uint32
		Own6                          [2][16]uint8
	}
	meterEarlier struct {
		Epoch, BytesIn, BytesOut, PacketsIn, PacketsOut uint64
		_                                               [3]uint64
	}
)

// becomeEarlier makes the node what the earlier version would have left, with its meters at zero and of an epoch.
func (p *pop) becomeEarlier(epoch uint64) {
	p.t.Helper()
	must(p.t, p.Datapath.Close())
	p.Datapath = nil
	spec, err := ebpf.LoadCollectionSpec(earlierPrograms)
	must(p.t, err)
	earlier, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: p.PinDir()}})
	must(p.t, err)
	defer earlier.Close()
	sides, err := ebpf.LoadPinnedMap(filepath.Join(p.PinDir(), "sides"), nil)
	must(p.t, err)
	defer sides.Close()
	cpus, err := ebpf.PossibleCPU()
	must(p.t, err)
	var wire wireKey
	var a attachmentNow
	entries := sides.Iterate()
	for entries.Next(&wire, &a) {
		key := uint32(a.Tag)<<1 | a.Slot&1
		meters := make([]meterEarlier, cpus)
		for i := range meters {
			meters[i].Epoch = epoch
		}
		must(p.t, earlier.Maps["meters"].Put(key, meters))
		must(p.t, earlier.Maps["policers"].Put(key, [2]uint64{}))
		must(p.t, earlier.Maps["attachments"].Put(wire, attachmentEarlier{Interface: a.Interface, Meter: key, Mark: datapath.MarkBase | uint32(a.Tag),
			Table: uint32(datapath.TableNumber(int(a.Tag))), Own: a.Own, Flags: uint32(a.Flags), Mbps: a.Mbps, Own6: a.Own6}))
	}
	must(p.t, entries.Err())
	pins, err := filepath.Glob(p.PinDir() + "/link-*")
	must(p.t, err)
	for _, pin := range pins {
		held, err := link.LoadPinnedLink(pin, nil)
		must(p.t, err)
		must(p.t, held.Update(earlier.Programs[pin[strings.LastIndex(pin, "-")+1:]]))
		held.Close()
	}
	for _, pin := range []string{"sides", "tallies", "buckets"} {
		must(p.t, os.Remove(filepath.Join(p.PinDir(), pin)))
	}
}

// readEarlier reads the earlier version's meters of a connection.
func (p *pop) readEarlier(tag int) (all [2]datapath.Counters) {
	p.t.Helper()
	meters, err := ebpf.LoadPinnedMap(filepath.Join(p.PinDir(), "meters"), nil)
	must(p.t, err)
	defer meters.Close()
	for side := range all {
		var perCPU []meterEarlier
		must(p.t, meters.Lookup(uint32(tag<<1|side), &perCPU))
		for _, on := range perCPU {
			all[side].BytesIn += on.BytesIn
			all[side].BytesOut += on.BytesOut
			all[side].PacketsIn += on.PacketsIn
			all[side].PacketsOut += on.PacketsOut
		}
	}
	return all
}

// TestEarlierVersion puts this version in the place of the earlier one under traffic: not a frame is lost, counted twice or not at
// all, and what was counted before stays.
func TestEarlierVersion(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c, stopped := links6(connection(45, 100, 200)), connection(46, 101, 201)
	c.BandwidthMbps = 500
	p.carry6(c, "a", "z")
	must(t, p.Ensure(stopped))
	p.wantPing("a", hostA, hostZ, true, "before")
	const epoch = 1_700_000_000_000_000_000
	p.becomeEarlier(epoch)

	before, beforeWire := p.readEarlier(c.Tag), p.wire()
	for p.readEarlier(c.Tag) != before { // routers say something of themselves at any time
		before, beforeWire = p.readEarlier(c.Tag), p.wire()
	}
	p.wantPing("a", hostA, hostZ, true, "the earlier version")
	const requests = 400
	under := p.Command(t.Context(), "a", "ping", "-n", "-q", "-c", fmt.Sprint(requests), "-i", "0.002", "-I", hostA.String(), hostZ.String())
	var said strings.Builder
	under.Stdout = &said
	must(t, under.Start())
	p.open()
	must(t, p.Datapath.Close())
	p.open() // and again, with what the first left
	must(t, p.Ensure(c))
	must(t, under.Wait())
	if !strings.Contains(said.String(), fmt.Sprintf("%d received", requests)) && !strings.Contains(said.String(), fmt.Sprintf("%d packets received", requests)) {
		t.Errorf("packets were lost: %s", &said)
	}
	p.wantExact("after", []int{c.Tag}, func() {
		p.wantPing("z", hostZ6, hostA6, true, "after")
		p.iperf("a", hostA, "z", hostZ, 2_000_000)
	})
	metered, wire := p.readBoth([]int{c.Tag})
	if got, want := minus(metered, before), minus(wire, beforeWire); got != want {
		t.Errorf("since the earlier version began:\n metered %+v\n wire    %+v", got, want)
	}
	for _, of := range p.both(c.Tag) {
		if of.Epoch != epoch {
			t.Errorf("the epoch is %d, and was %d", of.Epoch, int64(epoch))
		}
	}
	if mbps, err := p.Bandwidth(c.Tag); err != nil || mbps != c.BandwidthMbps {
		t.Errorf("the bandwidth is %d Mbps, %v", mbps, err)
	}
	if open, err := p.Gate(c.Tag); err != nil || !open {
		t.Errorf("the gate is open: %t, %v", open, err)
	}
	for _, tag := range []int{c.Tag, stopped.Tag} {
		must(t, p.Remove(tag))
	}
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
	for _, pin := range []string{"attachments", "meters", "policers"} {
		if _, err := os.Stat(filepath.Join(p.PinDir(), pin)); !os.IsNotExist(err) {
			t.Errorf("the pin of the map %s is left: %v", pin, err)
		}
	}
}

// TestNodeStaysOutOfPrefixes has a customer's prefix cover an address of the node's own. What only the stack can forward must
// not be delivered there instead.
func TestNodeStaysOutOfPrefixes(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(47, 100, 200)
	p.carry(c, "a", "z")
	covered := p.ManagementPoP
	must(t, p.SetRoutes(c.Tag, append(routes(c), datapath.Route{Side: datapath.SideZ, Prefix: netip.PrefixFrom(covered, 32), NextHop: c.Z.Peer})))
	p.run("a", "ip", "route", "replace", covered.String()+"/32", "via", c.A.Address.Addr().String())
	echoes := p.echoes()
	p.wantPing("a", hostA, covered, false, "no neighbour yet")
	p.wantPing("a", hostA, hostZ, true, "another address")
	for _, more := range [][]string{{"-t", "1"}, {"-T", "tsonly"}, nil} {
		_, _ = p.Command(t.Context(), "a", "ping", append(append([]string{"-n", "-q", "-c", "2", "-i", "0.1", "-W", "0.3", "-I", hostA.String()}, more...), covered.String())...).CombinedOutput()
	}
	if now := p.echoes(); now != echoes {
		t.Errorf("the node got echo requests that were to cross: %s, then %s", echoes, now)
	}
}
