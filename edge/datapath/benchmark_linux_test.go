package datapath

import (
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"crossbill/edge/lab"
)

// BenchmarkPacket measures one frame through a program by BPF_PROG_TEST_RUN, beside a program that does nothing:
// ns/packet is the kernel's own figure, the run's overhead included. The frame is IPv4 UDP. "out" has a tag in the frame;
// "in" has none, because the runs share one frame and the first would take the tag off, and it ends at a closed gate.
func BenchmarkPacket(b *testing.B) {
	if err := lab.Supported(); err != nil {
		b.Skip(err)
	}
	for _, connections := range []int{1, 1000, MaxConnections} {
		benchmarkPacket(b, connections)
	}
}

func benchmarkPacket(b *testing.B, connections int) {
	pins := fmt.Sprintf("%s/benchmark%d", DefaultPinDir, os.Getpid())
	d, err := Open(Options{PinDir: pins})
	if err != nil {
		b.Fatal(err)
	}
	defer unpinAll(pins)
	defer d.Close()
	const loopback = 1 // BPF_PROG_TEST_RUN runs at the namespace's loopback when no device is named
	for tag := 1; tag <= connections; tag++ {
		if err := d.ensureMeters(tag); err != nil {
			b.Fatal(err)
		}
		wire := datapathWire{Port: loopback, Vlan: uint16(tag - 1)}
		if wire.Vlan != 0 {
			wire.Tpid = tpid8021Q
		}
		value := datapathAttachment{Interface: loopback, Meter: meterKey(tag, SideA), Table: uint32(TableNumber(tag))}
		if err := d.objects.Attachments.Put(wire, value); err != nil {
			b.Fatal(err)
		}
	}
	packet := []byte{0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	addresses, tag := make([]byte, 12), []byte{0x81, 0x00, 0x00, byte(min(connections-1, 1))}
	untagged := append(append(addresses[:12:12], packet...), make([]byte, 26)...)
	tagged := append(append(append(addresses[:12:12], tag...), packet...), make([]byte, 26)...)
	for _, run := range []struct {
		name    string
		program *ebpf.Program
		frame   []byte
	}{{"empty", emptyProgram(b), untagged}, {"in", d.objects.PortIngress, untagged}, {"out", d.objects.PortEgress, tagged}} {
		b.Run(fmt.Sprintf("%s/connections=%d", run.name, connections), func(b *testing.B) {
			var total, runs int64
			for b.Loop() {
				_, elapsed, err := run.program.Benchmark(run.frame, 100_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += elapsed.Nanoseconds()
				runs++
			}
			b.ReportMetric(float64(total)/float64(runs), "ns/packet")
		})
	}
	a, _, err := d.Counters(1)
	if err != nil || a.PacketsIn == 0 || a.PacketsIn != a.Refused {
		b.Errorf("the frames did not take the way that is measured: %+v, %v", a, err)
	}
}

func emptyProgram(b *testing.B) *ebpf.Program {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { program.Close() })
	return program
}
