package datapath

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"crossbill/domain"
)

// Cost is what the kernel needs for one frame of IPv4 UDP, by its own figure (BPF_PROG_TEST_RUN): the run's overhead is in
// it, which Empty shows.
type Cost struct {
	Empty time.Duration // a program that does nothing
	// In is the way in: meter, policer, and a look for a route, which is not there. Each frame of a run is the same memory,
	// so it has no tag to take off.
	In  time.Duration
	Out time.Duration // the way out: meter
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
		err := d.objects.Attachments.Put(wire, datapathAttachment{Interface: loopback, Meter: meterKey(tag, SideA), Table: uint32(TableNumber(tag)),
			Flags: attachmentOpen, BandwidthMbps: MaxMbps})
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
	packet := []byte{0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	addresses, tag := make([]byte, 12), []byte{0x81, 0x00, 0x00, byte(min(connections-1, 1))}
	untagged := append(append(addresses[:12:12], packet...), make([]byte, 26)...)
	tagged := append(append(append(addresses[:12:12], tag...), packet...), make([]byte, 26)...)
	for _, run := range []struct {
		program *ebpf.Program
		frame   []byte
		cost    *time.Duration
	}{{empty, untagged, &c.Empty}, {d.objects.PortIngress, untagged, &c.In}, {d.objects.PortEgress, tagged, &c.Out}} {
		if _, *run.cost, err = run.program.Benchmark(run.frame, frames, nil); err != nil {
			return c, err
		}
	}
	a, _, err := d.Counters(1)
	if err == nil && (a.PacketsIn != uint64(frames) || a.Refused != a.PacketsIn) {
		err = domain.Errorf(domain.Internal, op, "the frames did not take the way that is measured: %+v", a)
	}
	return c, err
}
