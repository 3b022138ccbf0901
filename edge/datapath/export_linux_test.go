package datapath

import (
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

func InterfaceIndex(tag int, side Side) int { return int(interfaceIndex(tag, side)) }

// AttachForeign runs a program of somebody else's at a port, which lets all pass, until the returned function is called.
func (d *Datapath) AttachForeign(port string) (end func() error, err error) {
	return d.attachForeign(port, nil, nil)
}

// AttachForger is AttachForeign with a program that comes first, and sets a frame's tc_index.
func (d *Datapath) AttachForger(port string, index uint16) (end func() error, err error) {
	const tcIndex = 44 // of struct __sk_buff (linux/bpf.h)
	return d.attachForeign(port, link.Head(), asm.Instructions{asm.StoreImm(asm.R1, tcIndex, int64(index), asm.Word)})
}

func (d *Datapath) attachForeign(port string, at link.Anchor, does asm.Instructions) (end func() error, err error) {
	err = d.in("datapath.attachForeign", func() error {
		device, err := net.InterfaceByName(port)
		if err != nil {
			return err
		}
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.SchedCLS, License: "GPL",
			Instructions: append(does, asm.Mov.Imm(asm.R0, -1), asm.Return())}) // TCX_NEXT
		if err != nil {
			return err
		}
		defer program.Close()
		attached, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: at})
		if err == nil {
			end = attached.Close
		}
		return err
	})
	return end, err
}

// FoundRight reports whether the last Ensure of a connection went by what List had seen, and left the connection alone.
func (d *Datapath) FoundRight(tag int) bool { return d.survey != nil && d.survey.ends[tag] != nil }

// SettingsOf lists an interface's settings in /proc/sys/net as they are to be.
func SettingsOf(name string) (paths map[string]int32) {
	paths = map[string]int32{}
	for at, settings := range map[string][]setting{"ipv4/conf/": ipv4Settings, "ipv6/conf/": append(ipv6Settings, forceForwarding...)} {
		for _, s := range settings {
			paths[at+name+"/"+s.key] = s.value
		}
	}
	return paths
}
