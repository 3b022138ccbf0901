package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

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

func (e entry) tag() int   { return int(e.value.Tag) }
func (e entry) open() bool { return e.value.Flags&attachmentOpen != 0 }

func (e entry) sameWire(other entry) bool { return other.wire == e.wire }

// families returns the address families that the connection carries.
func (e entry) families() (carried []int) {
	if e.value.Own[0] != 0 {
		carried = append(carried, unix.AF_INET)
	}
	if e.value.Own6[0] != ([16]uint8{}) {
		carried = append(carried, unix.AF_INET6)
	}
	return carried
}

// slotOf returns the slot of what comes in at a side; pair is the connection's even one.
func slotOf(pair uint32, side Side) uint32 {
	if side == SideZ {
		return pair | 1
	}
	return pair
}

// wireOf is how an attachment's frames are known at its port.
func wireOf(a Attachment, port net.Interface) datapathWire {
	w := datapathWire{Port: uint32(port.Index), Vlan: uint16(a.VLAN)}
	switch {
	case a.ServiceVLAN != 0:
		w.Vlan, w.Tpid = uint16(a.ServiceVLAN), uint16(a.VLAN)
	case a.VLAN != 0:
		w.Tpid = tpid8021Q
	}
	return w
}

// readAttachments reads all attachments on the node.
func (d *Datapath) readAttachments() error {
	attached := map[int][]entry{}
	err := readAll(d.objects.Sides, func(wire datapathWire, value datapathAttachment) {
		attached[int(value.Tag)] = append(attached[int(value.Tag)], entry{wire, value})
	})
	if err != nil {
		return fmt.Errorf("attachments: %w", err)
	}
	d.attached = attached
	return nil
}

// readAll calls f for every entry of a map.
func readAll[K, V any](m *ebpf.Map, f func(K, V)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, attachmentBatch), make([]V, attachmentBatch)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			f(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// putAttachment makes an attachment what e is.
func (d *Datapath) putAttachment(e entry) error {
	if err := d.objects.Sides.Put(e.wire, e.value); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	sides := d.attached[e.tag()]
	if i := slices.IndexFunc(sides, e.sameWire); i >= 0 {
		sides[i] = e
	} else {
		d.attached[e.tag()] = append(sides, e)
	}
	return nil
}

// deleteAttachment deletes an attachment.
func (d *Datapath) deleteAttachment(e entry) error {
	if err := ignoreMissing(d.objects.Sides.Delete(e.wire)); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	if sides := slices.DeleteFunc(d.attached[e.tag()], e.sameWire); len(sides) > 0 {
		d.attached[e.tag()] = sides
	} else {
		delete(d.attached, e.tag())
	}
	return nil
}

// checkConflicts refuses a VLAN or an address that another connection has.
func (d *Datapath) checkConflicts(c Connection, ports map[Side]net.Interface) error {
	for tag, sides := range d.attached {
		if tag == c.Tag {
			continue
		}
		for _, e := range sides {
			if err := e.checkConflict(c, ports); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e entry) checkConflict(c Connection, ports map[Side]net.Interface) error {
	const op = "datapath.Ensure"
	for _, end := range []struct {
		side Side
		Attachment
	}{{SideA, c.A}, {SideZ, c.Z}} {
		if e.wire == wireOf(end.Attachment, ports[end.side]) {
			return &PartyError{"the VLAN of side " + string(end.side) + " is in use yet", domain.Errorf(domain.Conflict, op,
				"VLAN %d of port %s belongs to connection %d", end.VLAN, end.Port, e.tag()).WithHint("remove that connection first, or choose another VLAN")}
		}
		for _, l := range []Link{end.Link, end.IPv6} {
			if own4, own6 := ownAddresses(l); own4 != 0 && e.value.Own[0] == own4 || own6 != ([16]uint8{}) && e.value.Own6[0] == own6 {
				return &PartyError{"the address of side " + string(end.side) + " is in use yet", domain.Errorf(domain.Conflict, op,
					"address %s belongs to connection %d", l.Address.Addr(), e.tag()).WithHint("addresses of links are unique on a node")}
			}
		}
	}
	return nil
}

// readdressed reports whether the connection has other addresses on the node than it is to have.
func (d *Datapath) readdressed(c Connection) bool {
	return slices.ContainsFunc(d.attached[c.Tag], func(e entry) bool {
		a := c.A
		if e.value.Slot&1 == slotOf(0, SideZ) {
			a = c.Z
		}
		own4, _ := ownAddresses(a.Link)
		_, own6 := ownAddresses(a.IPv6)
		return e.value.Own[0] != own4 || e.value.Own6[0] != own6
	})
}

// wantedAttachments are the connection's with a closed gate, and of no generation.
func (d *Datapath) wantedAttachments(c Connection, ports, interfaces map[Side]net.Interface) map[datapathWire]datapathAttachment {
	wanted := map[datapathWire]datapathAttachment{}
	for side, a := range c.sides() {
		value := datapathAttachment{
			Slot:          slotOf(d.pairs[c.Tag], side),
			BandwidthMbps: uint32(c.BandwidthMbps),
			Tag:           uint16(c.Tag),
			Interface:     uint32(interfaces[side].Index),
		}
		for other := range c.sides() {
			if other != side {
				value.Opposite, value.Other = uint32(interfaces[other].Index), wireOf(c.other(side), ports[other])
			}
		}
		for i, end := range []Attachment{a, c.other(side)} {
			value.Own[i], _ = ownAddresses(end.Link)
			_, value.Own6[i] = ownAddresses(end.IPv6)
		}
		wanted[wireOf(a, ports[side])] = value
	}
	return wanted
}

// ensureAttachments joins the ports' frames to the connection and reports whether its gate is open.
func (d *Datapath) ensureAttachments(c Connection, ports, interfaces map[Side]net.Interface) (bool, error) {
	opened := 0
	wanted := d.wantedAttachments(c, ports, interfaces)
	for _, e := range slices.Clone(d.attached[c.Tag]) {
		if e.open() {
			opened++
		}
		if old := int(e.value.Interface); old != interfaces[SideA].Index && old != interfaces[SideZ].Index {
			if err := d.forgetInterfaces(old); err != nil {
				return false, err
			}
		}
		if _, ok := wanted[e.wire]; !ok { // the side had another port or VLAN
			if err := d.deleteAttachment(e); err != nil {
				return false, err
			}
		}
	}
	open := opened == 2
	for wire, value := range wanted {
		if open {
			value.Flags |= attachmentOpen
		}
		value.Generation = d.nextGeneration()
		if err := d.putAttachment(entry{wire, value}); err != nil {
			return false, err
		}
	}
	for side, a := range c.sides() {
		if err := d.objects.Interfaces.Put(uint32(interfaces[side].Index), wireOf(a, ports[side])); err != nil {
			return false, fmt.Errorf("interface: %w", err)
		}
	}
	return open, nil
}

// nextGeneration returns a number that no attachment has had for far longer than the programs remember a lookup.
func (d *Datapath) nextGeneration() uint32 {
	if d.generation++; d.generation == 0 {
		d.generation++
	}
	return d.generation
}

// forgetLookups makes the programs look the connection's routes up anew.
func (d *Datapath) forgetLookups(tag int) error {
	for _, e := range slices.Clone(d.attached[tag]) {
		e.value.Generation = d.nextGeneration()
		if err := d.putAttachment(e); err != nil {
			return err
		}
	}
	return nil
}

// readPairs finds the slots that are in use.
func (d *Datapath) readPairs() error {
	d.pairs = map[int]uint32{}
	err := readAll(d.objects.Buckets, func(slot uint32, b datapathBucket) {
		if b.Tag != 0 && slot&1 == 0 { // the even one is written last and freed first
			d.pairs[int(b.Tag)] = slot
		}
	})
	if err != nil {
		return fmt.Errorf("buckets: %w", err)
	}
	return nil
}

// ensureMeters gives the connection a pair of slots, if it has none: tallies at zero, with the present time as their epoch, and
// full buckets.
func (d *Datapath) ensureMeters(tag int) error {
	epoch := uint64(time.Now().UnixNano())
	return d.allotSlots(tag, [2]datapathBucket{{Epoch: epoch}, {Epoch: epoch}})
}

// allotSlots is ensureMeters with buckets of side A and side Z that are not full, or of an earlier epoch.
func (d *Datapath) allotSlots(tag int, buckets [2]datapathBucket) error {
	if _, ok := d.pairs[tag]; ok {
		return nil
	}
	used := map[uint32]bool{}
	for _, pair := range d.pairs {
		used[pair] = true
	}
	var pair uint32
	for used[pair] {
		pair += 2
	}
	if pair >= 2*MaxConnections {
		return domain.Errorf(domain.Conflict, "datapath.Ensure", "the node has its %d connections", MaxConnections).
			WithHint("remove one first")
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("CPUs: %w", err)
	}
	for _, slot := range []uint32{pair | 1, pair} {
		bucket := buckets[slot&1]
		bucket.Tag = uint32(tag)
		if err := d.objects.Tallies.Put(slot, make([]datapathTally, cpus)); err != nil {
			return fmt.Errorf("meter: %w", err)
		}
		if err := d.objects.Buckets.Put(slot, bucket); err != nil {
			return fmt.Errorf("bucket: %w", err)
		}
	}
	d.pairs[tag] = pair
	return nil
}

// newMeter makes a port's meter of strays.
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
	if pair, ok := d.pairs[tag]; ok {
		for _, slot := range []uint32{pair, pair | 1} {
			if err := d.objects.Buckets.Put(slot, datapathBucket{}); err != nil {
				return fmt.Errorf("bucket: %w", err)
			}
		}
		delete(d.pairs, tag)
	}
	return d.earlier.remove(tag)
}

// Counters reads both sides' meters. It returns a NotFound error when the connection has none.
func (d *Datapath) Counters(tag int) (a, z Counters, err error) {
	if err := checkTag("datapath.Counters", tag); err != nil {
		return a, z, err
	}
	err = d.in("datapath.Counters", func() error {
		pair, ok := d.pairs[tag]
		if !ok {
			return domain.Errorf(domain.NotFound, "datapath.Counters", "connection %d has no meter on this node", tag).
				WithHint("call Ensure first")
		}
		if err := errors.Join(d.readDirection(pair, &a, &z), d.readDirection(pair|1, &z, &a)); err != nil {
			return err
		}
		return errors.Join(d.earlier.add(tag, SideA, &a), d.earlier.add(tag, SideZ, &z))
	})
	return a, z, err
}

// readDirection reads what a slot's tally and bucket say of the side where its frames come in, and of the other.
func (d *Datapath) readDirection(slot uint32, in, out *Counters) error {
	var perCPU []datapathTally
	if err := d.objects.Tallies.Lookup(slot, &perCPU); err != nil {
		return fmt.Errorf("meter: %w", err)
	}
	var bucket datapathBucket
	if err := d.objects.Buckets.Lookup(slot, &bucket); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	in.Epoch, in.DroppedBytesIn = int64(bucket.Epoch), bucket.DroppedBytes
	for _, on := range perCPU {
		in.BytesIn += on.BytesIn
		in.PacketsIn += on.PacketsIn
		in.DroppedIn += on.Dropped
		in.Refused += on.Refused
		out.BytesOut += on.BytesOut
		out.PacketsOut += on.PacketsOut
		out.DroppedOut += on.Dropped
	}
	return nil
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

// ownAddresses returns our address on a link as the programs compare it, its bytes in memory order: of IPv4 or of IPv6, or of
// neither for the zero Link.
func ownAddresses(l Link) (own4 uint32, own6 [16]uint8) {
	switch address := l.Address.Addr(); {
	case address.Is4():
		b := address.As4()
		return binary.NativeEndian.Uint32(b[:]), own6
	case address.Is6():
		return 0, address.As16()
	}
	return 0, own6
}
