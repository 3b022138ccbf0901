package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// Cost is what the kernel needs for one frame of IPv4 UDP, by its own figure (BPF_PROG_TEST_RUN): the run's overhead is in
// it, which Empty shows. Each frame of a run is the same memory, so none has a tag to take off.
type Cost struct {
	Empty time.Duration // a program that does nothing
	In    time.Duration // the way in, across: meter, policer, a remembered lookup, address and hop
	Look  time.Duration // the way in with a lookup, of a route that is not there
	Out   time.Duration // the way out of what the node itself sends: meter
}

// MeasureCost measures with so many connections on the node, each with a VLAN and a policer. It makes a node of its own and
// removes it. Errors are those of [Open].
func MeasureCost(connections, frames int) (c Cost, err error) {
	const op = "datapath.MeasureCost"
	if connections < 1 || connections > MaxConnections || frames < 1 {
		return c, domain.Errorf(domain.Invalid, op, "%d frames through one of %d connections can't be measured", frames, connections)
	}
	pins := fmt.Sprintf("%s/cost%d", DefaultPinDir, os.Getpid())
	d, err := Open(Options{PinDir: pins})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, d.Close(), unpinAll(pins)) }()
	const loopback = 1 // where a test run is when no device is named
	for tag := 1; tag <= connections; tag++ {
		if err := d.ensureMeters(tag); err != nil {
			return c, err
		}
		wire := datapathWire{Port: loopback, Vlan: uint16(tag - 1)}
		if wire.Vlan != 0 {
			wire.Tpid = tpid8021Q
		}
		err := d.objects.Sides.Put(wire, datapathAttachment{Interface: loopback, Opposite: loopback + 1, Tag: uint16(tag),
			Slot: slotOf(d.pairs[tag], SideA), Generation: 1, Flags: attachmentOpen, BandwidthMbps: MaxMbps, Other: datapathWire{Port: loopback}})
		if err != nil {
			return c, err
		}
	}
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		return c, err
	}
	defer empty.Close()
	packet := []byte{0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 255, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	addresses, tag := make([]byte, 12), []byte{0x81, 0x00, 0x00, byte(min(connections-1, 1))}
	untagged := append(append(addresses[:12:12], packet...), make([]byte, 26)...)
	tagged := append(append(append(addresses[:12:12], tag...), packet...), make([]byte, 26)...)
	for _, run := range []struct {
		program *ebpf.Program
		frame   []byte
		cost    *time.Duration
	}{{empty, untagged, &c.Empty}, {d.objects.PortIngress, untagged, &c.Look}, {d.objects.PortEgress, tagged, &c.Out}} {
		if _, *run.cost, err = run.program.Benchmark(run.frame, frames, nil); err != nil {
			return c, err
		}
	}
	looked, _, err := d.Counters(1)
	if err != nil {
		return c, err
	}
	c.In, err = d.costAcross(untagged, frames)
	if err != nil {
		return c, err
	}
	a, _, err := d.Counters(1)
	if err == nil && (looked.PacketsIn != uint64(frames) || looked.Refused != looked.PacketsIn || a.PacketsIn < 2*looked.PacketsIn || a.Refused != looked.Refused) {
		err = domain.Errorf(domain.Internal, op, "the frames did not take the way that is measured: %+v, then %+v", looked, a)
	}
	return c, err
}

// hops is how many frames of a run can cross: each takes one hop off the same memory.
const hops = 250

// costAcross measures frames that cross by a lookup that is put in the programs' memory, as there is no route.
func (d *Datapath) costAcross(frame []byte, frames int) (time.Duration, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, err
	}
	const to = 0x0a020001
	slot := d.pairs[1]
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], to)
	native := binary.NativeEndian.Uint32(address[:])
	hash := native*0x9e3779b1 + slot*0x85ebca77
	index := (hash ^ hash>>15) % d.objects.Recents.MaxEntries()
	var spent time.Duration
	runs := (frames + hops - 1) / hops
	for n := range runs {
		if n%hops == 0 {
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &now); err != nil {
				return 0, err
			}
			remembered := datapathRecent{Slot: slot, Generation: 1, To: [4]uint32{native}, Family: unix.AF_INET, Mtu: 1500, At: uint32(now.Nano() >> 20)}
			if err := d.objects.Recents.Put(index, slices.Repeat([]datapathRecent{remembered}, cpus)); err != nil {
				return 0, err
			}
		}
		_, each, err := d.objects.PortIngress.Benchmark(frame, hops, nil)
		if err != nil {
			return 0, err
		}
		spent += each
	}
	return spent / time.Duration(runs), nil
}
