package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"crossbill/domain"
)

// The flags and protocol numbers of bpf/datapath.c.
const (
	attachmentOpen = 1      // ATTACHMENT_OPEN
	tpid8021Q      = 0x8100 // IEEE 802.1Q, customer tag
)

// attachmentBatch is how many map entries are read in one system call.
const attachmentBatch = 1024

// entry is one attachment as the port programs know it.
type entry struct {
	wire  datapathWire
	value datapathAttachment
}

func (e entry) tag() int   { return int(e.value.Meter >> 1) }
func (e entry) open() bool { return e.value.Flags&attachmentOpen != 0 }

// meterKey is the key of a side's meter: tag << 1 | side.
func meterKey(tag int, side Side) uint32 {
	key := uint32(tag) << 1
	if side == SideZ {
		key |= 1
	}
	return key
}

// wireOf is how an attachment's frames are known at its port.
func wireOf(a Attachment, port net.Interface) datapathWire {
	w := datapathWire{Port: uint32(port.Index), Vlan: uint16(a.VLAN)}
	if a.VLAN != 0 {
		w.Tpid = tpid8021Q
	}
	return w
}

// attachments reads all attachments on the node.
func (d *Datapath) attachments() ([]entry, error) {
	var all []entry
	var cursor ebpf.MapBatchCursor
	wires := make([]datapathWire, attachmentBatch)
	values := make([]datapathAttachment, attachmentBatch)
	for {
		n, err := d.objects.Attachments.BatchLookup(&cursor, wires, values, nil)
		for i := range n {
			all = append(all, entry{wires[i], values[i]})
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("attachments: %w", err)
		}
	}
}

// checkConflicts refuses a VLAN or an address that another connection has.
func checkConflicts(c Connection, ports map[Side]net.Interface, existing []entry) error {
	const op = "datapath.Ensure"
	for _, e := range existing {
		if e.tag() == c.Tag {
			continue
		}
		for side, a := range c.sides() {
			if e.wire == wireOf(a, ports[side]) {
				return domain.Errorf(domain.Conflict, op, "VLAN %d of port %s belongs to connection %d", a.VLAN, a.Port, e.tag()).
					WithHint("remove that connection first, or choose another VLAN")
			}
			if e.value.Own[0] == networkOrder(a.Address.Addr()) {
				return domain.Errorf(domain.Conflict, op, "address %s belongs to connection %d", a.Address.Addr(), e.tag()).
					WithHint("addresses of links are unique on a node")
			}
		}
	}
	return nil
}

// ensureAttachments joins the ports' frames to the connection and reports whether its gate is open.
func (d *Datapath) ensureAttachments(c Connection, ports, interfaces map[Side]net.Interface, existing []entry) (bool, error) {
	opened := 0
	wanted := map[datapathWire]datapathAttachment{}
	for side, a := range c.sides() {
		wanted[wireOf(a, ports[side])] = datapathAttachment{
			Interface:     uint32(interfaces[side].Index),
			Meter:         meterKey(c.Tag, side),
			Mark:          MarkBase | uint32(c.Tag),
			Table:         uint32(TableNumber(c.Tag)),
			Own:           [2]uint32{networkOrder(a.Address.Addr()), networkOrder(c.other(side).Address.Addr())},
			BandwidthMbps: uint32(c.BandwidthMbps),
		}
	}
	for _, e := range existing {
		if e.tag() != c.Tag {
			continue
		}
		if e.open() {
			opened++
		}
		if old := int(e.value.Interface); old != interfaces[SideA].Index && old != interfaces[SideZ].Index {
			if err := d.forgetInterfaces(old); err != nil {
				return false, err
			}
		}
		if _, ok := wanted[e.wire]; !ok { // the side had another port or VLAN
			if err := ignoreMissing(d.objects.Attachments.Delete(e.wire)); err != nil {
				return false, fmt.Errorf("attachment: %w", err)
			}
		}
	}
	open := opened == 2
	for wire, value := range wanted {
		if open {
			value.Flags |= attachmentOpen
		}
		if slices.Contains(existing, entry{wire, value}) {
			continue
		}
		if err := d.objects.Attachments.Put(wire, value); err != nil {
			return false, fmt.Errorf("attachment: %w", err)
		}
	}
	for side, a := range c.sides() {
		if err := d.objects.Interfaces.Put(uint32(interfaces[side].Index), wireOf(a, ports[side])); err != nil {
			return false, fmt.Errorf("interface: %w", err)
		}
	}
	return open, nil
}

// ensureMeters makes the meters that are missing, at zero, with the present time as their epoch, and full buckets.
func (d *Datapath) ensureMeters(tag int) error {
	for _, side := range []Side{SideA, SideZ} {
		if err := newMeter(d.objects.Meters, meterKey(tag, side)); err != nil {
			return err
		}
		err := d.objects.Policers.Update(meterKey(tag, side), datapathPolicer{}, ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("policer: %w", err)
		}
	}
	return nil
}

func newMeter(m *ebpf.Map, key uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("CPUs: %w", err)
	}
	perCPU := make([]datapathMeter, cpus)
	epoch := uint64(time.Now().UnixNano())
	for i := range perCPU {
		perCPU[i].Epoch = epoch
	}
	if err := m.Update(key, perCPU, ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("meter: %w", err)
	}
	return nil
}

func (d *Datapath) removeMeters(tag int) error {
	var problems []error
	for _, side := range []Side{SideA, SideZ} {
		problems = append(problems, ignoreMissing(d.objects.Meters.Delete(meterKey(tag, side))), ignoreMissing(d.objects.Policers.Delete(meterKey(tag, side))))
	}
	return errors.Join(problems...)
}

// Counters reads both sides' meters. It returns a NotFound error when the connection has none.
func (d *Datapath) Counters(tag int) (a, z Counters, err error) {
	if err := checkTag("datapath.Counters", tag); err != nil {
		return a, z, err
	}
	err = d.in("datapath.Counters", func() error {
		for side, counters := range map[Side]*Counters{SideA: &a, SideZ: &z} {
			read, err := readMeter(d.objects.Meters, meterKey(tag, side))
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				return domain.Errorf(domain.NotFound, "datapath.Counters", "connection %d has no meter on this node", tag).
					WithHint("call Ensure first")
			}
			if err != nil {
				return err
			}
			var policer datapathPolicer
			if err := d.objects.Policers.Lookup(meterKey(tag, side), &policer); ignoreMissing(err) != nil {
				return fmt.Errorf("policer: %w", err)
			}
			read.DroppedBytesIn = policer.DroppedBytes
			*counters = read
		}
		return nil
	})
	return a, z, err
}

// Strays reads what a port saw outside all connections: In is all that came, Out what was let out (LLDP and LACP),
// DroppedOut what was not. It returns a NotFound error for a port that carries no connection.
func (d *Datapath) Strays(port string) (c Counters, err error) {
	err = d.in("datapath.Strays", func() error {
		link, err := d.netlink.LinkByName(port)
		if err == nil {
			c, err = readMeter(d.objects.Strays, uint32(link.Attrs().Index))
		}
		if err != nil {
			return domain.Errorf(domain.NotFound, "datapath.Strays", "%s is not a port of this node: %w", port, err)
		}
		return nil
	})
	return c, err
}

func readMeter(m *ebpf.Map, key uint32) (Counters, error) {
	var perCPU []datapathMeter
	if err := m.Lookup(key, &perCPU); err != nil {
		return Counters{}, fmt.Errorf("meter: %w", err)
	}
	var c Counters
	for _, on := range perCPU {
		c.Epoch = int64(on.Epoch)
		c.BytesIn += on.BytesIn
		c.BytesOut += on.BytesOut
		c.PacketsIn += on.PacketsIn
		c.PacketsOut += on.PacketsOut
		c.DroppedIn += on.DroppedIn
		c.DroppedOut += on.DroppedOut
		c.Refused += on.Refused
	}
	return c, nil
}

func (d *Datapath) tagsOfMaps(seen map[int]bool) error {
	existing, err := d.attachments()
	if err != nil {
		return err
	}
	for _, e := range existing {
		seen[e.tag()] = true
	}
	var key uint32
	var perCPU []datapathMeter
	entries := d.objects.Meters.Iterate()
	for entries.Next(&key, &perCPU) {
		seen[int(key>>1)] = true
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("meters: %w", err)
	}
	return nil
}

// networkOrder returns the address as the programs compare it: its bytes in memory order.
func networkOrder(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}
