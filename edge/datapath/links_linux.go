package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A link holds a program at an interface. Its pin is named after both: "link-7-port_ingress". (bpffs reserves dots in
// names, and interface names may have them, hence the index.) When the interface goes, the kernel empties the link and
// the pin is waste.
const linkPrefix = "link-"

func (d *Datapath) linkPin(ifindex int, program string) string {
	return filepath.Join(d.pins, linkPrefix+strconv.Itoa(ifindex)+"-"+program)
}

// hook returns the program of a name and where it is attached.
func (d *Datapath) hook(program string) (*ebpf.Program, ebpf.AttachType) {
	switch program {
	case datapathProgPortIngress:
		return d.objects.PortIngress, ebpf.AttachTCXIngress
	case datapathProgPortEgress:
		return d.objects.PortEgress, ebpf.AttachTCXEgress
	case datapathProgInterfaceEgress:
		return d.objects.InterfaceEgress, ebpf.AttachTCXEgress
	}
	return nil, ebpf.AttachNone
}

// attach makes sure that the program runs at the interface.
func (d *Datapath) attach(ifindex int, program string) error {
	pin := d.linkPin(ifindex, program)
	if held, err := link.LoadPinnedLink(pin, nil); err == nil {
		at, err := heldInterface(held)
		held.Close()
		if err != nil {
			return err
		}
		if at == ifindex {
			return nil
		}
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("stale link: %w", err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link %s: %w", pin, err)
	}
	code, where := d.hook(program)
	made, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: code, Attach: where})
	if err != nil {
		return fmt.Errorf("attach %s to interface %d: %w", program, ifindex, err)
	}
	defer made.Close()
	if err := made.Pin(pin); err != nil {
		return fmt.Errorf("pin %s: %w", pin, err)
	}
	return nil
}

// detach takes the program off the interface.
func (d *Datapath) detach(ifindex int, program string) error {
	return ignoreMissing(os.Remove(d.linkPin(ifindex, program)))
}

// links calls f for every pinned link with its interface, 0 if that is gone.
func (d *Datapath) links(f func(pin, program string, held link.Link, ifindex int) error) error {
	entries, err := os.ReadDir(d.pins)
	if err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), linkPrefix)
		if !ok {
			continue
		}
		_, program, _ := strings.Cut(rest, "-")
		pin := filepath.Join(d.pins, entry.Name())
		held, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return fmt.Errorf("link %s: %w", pin, err)
		}
		ifindex, err := heldInterface(held)
		if err == nil {
			err = f(pin, program, held, ifindex)
		}
		held.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// renewLinks puts the programs just loaded in the place of those of an earlier process, each in one step, and removes
// links whose interface is gone.
func (d *Datapath) renewLinks() error {
	return d.links(func(pin, program string, held link.Link, ifindex int) error {
		code, _ := d.hook(program)
		if ifindex == 0 || code == nil {
			return ignoreMissing(os.Remove(pin))
		}
		if err := held.Update(code); err != nil {
			return fmt.Errorf("renew %s: %w", pin, err)
		}
		return nil
	})
}

// liveLinks reports whether any pinned link still sits at an interface, in whatever namespace.
func (d *Datapath) liveLinks() (live bool, err error) {
	err = d.links(func(_, _ string, _ link.Link, ifindex int) error {
		live = live || ifindex != 0
		return nil
	})
	return live, err
}

// sweepLinks removes the pins of links whose interface is gone.
func (d *Datapath) sweepLinks() error {
	return d.links(func(pin, _ string, _ link.Link, ifindex int) error {
		if ifindex != 0 {
			return nil
		}
		return ignoreMissing(os.Remove(pin))
	})
}

func heldInterface(held link.Link) (int, error) {
	info, err := held.Info()
	if err != nil {
		return 0, fmt.Errorf("link: %w", err)
	}
	tcx := info.TCX()
	if tcx == nil {
		return 0, fmt.Errorf("link %d is no tcx link", info.ID)
	}
	return int(int32(tcx.Ifindex)), nil
}
