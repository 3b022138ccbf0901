package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
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

// attach makes sure that the program runs at the interface, once.
func (d *Datapath) attach(ifindex int, program string) error {
	pin := d.linkPin(ifindex, program)
	held, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer held.Close()
		id, at, err := heldAt(held)
		if err != nil {
			return err
		}
		if at == ifindex {
			d.held[hold{ifindex, program}] = id
			return d.detachCopies(ifindex, program, held)
		}
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("stale link: %w", err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link %s: %w", pin, err)
	}
	if err := d.detachCopies(ifindex, program, nil); err != nil {
		return err
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
	id, _, err := heldAt(made)
	d.held[hold{ifindex, program}] = id
	return err
}

// detachCopies takes off the interface every program of the name but the one that is kept. Removing a link's last pin
// by hand, or with its directory, detaches it some time later; were a second one attached meanwhile, frames would count
// twice.
func (d *Datapath) detachCopies(ifindex int, program string, keep link.Link) error {
	var kept link.ID
	if keep != nil {
		info, err := keep.Info()
		if err != nil {
			return fmt.Errorf("link: %w", err)
		}
		kept = info.ID
	}
	for deadline := time.Now().Add(detachWait); ; time.Sleep(detachPoll) {
		dying, err := d.detachOthers(ifindex, program, kept)
		if err != nil || !dying {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s at interface %d does not end", program, ifindex)
		}
	}
}

// How long the kernel may take to detach a link that nobody holds any more.
const (
	detachWait = 2 * time.Second
	detachPoll = 2 * time.Millisecond
)

// detachOthers detaches all but one link of the program, and reports whether one is left that is about to end by itself.
func (d *Datapath) detachOthers(ifindex int, program string, kept link.ID) (dying bool, err error) {
	_, where := d.hook(program)
	attached, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: where})
	if err != nil {
		return false, fmt.Errorf("programs at interface %d: %w", ifindex, err)
	}
	for _, other := range attached.Programs {
		id, ok := other.LinkID()
		if !ok || id == kept || programName(other.ID) != program {
			continue
		}
		copied, err := link.NewFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			dying = true
			continue
		}
		if err != nil {
			return false, fmt.Errorf("link %d: %w", id, err)
		}
		err = copied.Detach()
		copied.Close()
		if err != nil && !errors.Is(err, unix.ENOLINK) {
			return false, fmt.Errorf("detach link %d: %w", id, err)
		}
	}
	return dying, nil
}

// programName returns the name of a loaded program, "" if it is gone. The kernel itself
// keeps 15 characters of it; the whole stands in the program's type information, which it may lack.
func programName(id ebpf.ProgramID) string {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return ""
	}
	for _, name := range []string{datapathProgPortIngress, datapathProgPortEgress, datapathProgInterfaceEgress} {
		if info.Name == name || info.Name == name[:min(len(name), kernelNameLen)] {
			return name
		}
	}
	return ""
}

// kernelNameLen is BPF_OBJ_NAME_LEN of linux/bpf.h without the final zero.
const kernelNameLen = 15

// detach takes the program off the interface; when it returns, it runs there no more.
func (d *Datapath) detach(ifindex int, program string) error {
	delete(d.held, hold{ifindex, program})
	pin := d.linkPin(ifindex, program)
	held, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return ignoreMissing(err)
	}
	defer held.Close()
	if err := held.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) { // ENOLINK: its interface is gone
		return fmt.Errorf("detach %s: %w", pin, err)
	}
	return ignoreMissing(os.Remove(pin))
}

// links calls f for every pinned link with its place.
func (d *Datapath) links(f func(pin string, h hold, held link.Link, id link.ID) error) error {
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
		id, ifindex, err := heldAt(held)
		if err == nil {
			err = f(pin, hold{ifindex, program}, held, id)
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
	return d.links(func(pin string, h hold, held link.Link, id link.ID) error {
		code, _ := d.hook(h.program)
		if h.ifindex == 0 || code == nil {
			return ignoreMissing(os.Remove(pin))
		}
		if err := held.Update(code); err != nil {
			return fmt.Errorf("renew %s: %w", pin, err)
		}
		d.held[h] = id
		return nil
	})
}

// liveLinks reports whether any pinned link still sits at an interface, in whatever namespace.
func (d *Datapath) liveLinks() (live bool, err error) {
	err = d.links(func(_ string, h hold, _ link.Link, _ link.ID) error {
		live = live || h.ifindex != 0
		return nil
	})
	return live, err
}

// sweepLinks removes the pins of links whose interface is gone.
func (d *Datapath) sweepLinks() error {
	return d.links(func(pin string, h hold, _ link.Link, _ link.ID) error {
		if h.ifindex != 0 {
			return nil
		}
		return ignoreMissing(os.Remove(pin))
	})
}

// hold is a program's place.
type hold struct {
	ifindex int // 0 for an interface that is gone
	program string
}

func heldAt(held link.Link) (id link.ID, ifindex int, err error) {
	info, err := held.Info()
	if err != nil {
		return 0, 0, fmt.Errorf("link: %w", err)
	}
	tcx := info.TCX()
	if tcx == nil {
		return 0, 0, fmt.Errorf("link %d is no tcx link", info.ID)
	}
	return info.ID, int(int32(tcx.Ifindex)), nil
}
