package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"crossbill/domain"
)

// earlierMaps are the maps of versions that kept meters and policers in hashes by tag << 1 | side. Their programs count there
// until others are put in their place, one port after another, and the new ones count in maps of their own. So nothing is
// copied: what the earlier ones counted stays where it is, pinned, and is added to what is read, until the last connection of
// that time is removed.
type earlierMaps struct {
	attachments, meters, policers *ebpf.Map // nil: not there
}

// The layouts of those maps; a meter was what a port's meter of strays is.
type (
	earlierAttachment struct {
		Interface, Meter, Mark, Table uint32
		Own                           [2]uint32
		Flags, BandwidthMbps          uint32
		Own6                          [2][16]uint8
	}
	earlierPolicer struct{ Full, DroppedBytes uint64 }
)

func earlierKey(tag int, side Side) uint32 { return uint32(tag)<<1 | slotOf(0, side) }

// open finds the maps among the pins. It returns a Conflict error for a layout that is earlier still.
func (e *earlierMaps) open(pins string) error {
	for _, m := range []struct {
		name  string
		at    **ebpf.Map
		value uint32
	}{{"attachments", &e.attachments, 64}, {"meters", &e.meters, 64}, {"policers", &e.policers, 16}} {
		found, err := ebpf.LoadPinnedMap(filepath.Join(pins, m.name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("map %s: %w", m.name, err)
		}
		*m.at = found
		if found.ValueSize() != m.value {
			return domain.Errorf(domain.Conflict, "datapath.Open", "the map %s in %s has another layout", m.name, pins).
				WithHint("it holds readings of another version: let that version drain them, then remove the directory")
		}
	}
	return nil
}

func (e *earlierMaps) close() {
	for _, m := range []*ebpf.Map{e.attachments, e.meters, e.policers} {
		if m != nil {
			m.Close()
		}
	}
	*e = earlierMaps{}
}

// takeAttachments gives what an earlier version left its slots and its attachments. It changes nothing there, and may be done again.
func (d *Datapath) takeAttachments() error {
	if d.earlier.meters == nil || d.earlier.policers == nil {
		return nil
	}
	buckets := map[int][2]datapathBucket{}
	var key uint32
	var perCPU []datapathMeter
	for entries := d.earlier.meters.Iterate(); entries.Next(&key, &perCPU); {
		var policer earlierPolicer
		if err := ignoreMissing(d.earlier.policers.Lookup(key, &policer)); err != nil {
			return fmt.Errorf("policer: %w", err)
		}
		both := buckets[int(key>>1)]
		both[key&1] = datapathBucket{Full: policer.Full, Epoch: perCPU[0].Epoch}
		buckets[int(key>>1)] = both
	}
	for tag, both := range buckets {
		if err := d.allotSlots(tag, both); err != nil {
			return err
		}
	}
	if d.earlier.attachments == nil {
		return nil
	}
	wires := map[uint32]datapathWire{} // by meter
	values := map[uint32]earlierAttachment{}
	var wire datapathWire
	var value earlierAttachment
	entries := d.earlier.attachments.Iterate()
	for entries.Next(&wire, &value) {
		wires[value.Meter], values[value.Meter] = wire, value
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("attachments: %w", err)
	}
	for key, value := range values {
		tag, other := int(key>>1), key^1
		err := d.putAttachment(entry{wires[key], datapathAttachment{
			Slot: d.pairs[tag] | key&1, BandwidthMbps: value.BandwidthMbps, Generation: d.nextGeneration(), Tag: uint16(tag), Flags: uint16(value.Flags),
			Interface: value.Interface, Opposite: values[other].Interface, Other: wires[other], Own: value.Own, Own6: value.Own6,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// endPrograms forgets the attachments of the earlier programs, which run no more. Meters of no connection go, too.
func (e *earlierMaps) endPrograms(pins string) error {
	if e.attachments != nil {
		if err := errors.Join(ignoreMissing(e.attachments.Unpin()), e.attachments.Close()); err != nil {
			return fmt.Errorf("attachments: %w", err)
		}
		e.attachments = nil
		synchronise() // what they count last is in the meters
	}
	return nil
}

// add adds what was counted there for a side.
func (e *earlierMaps) add(tag int, side Side, c *Counters) error {
	if e.meters == nil || e.policers == nil {
		return nil
	}
	read, err := readMeter(e.meters, earlierKey(tag, side))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var policer earlierPolicer
	if err := ignoreMissing(e.policers.Lookup(earlierKey(tag, side), &policer)); err != nil {
		return fmt.Errorf("policer: %w", err)
	}
	c.BytesIn += read.BytesIn
	c.BytesOut += read.BytesOut
	c.PacketsIn += read.PacketsIn
	c.PacketsOut += read.PacketsOut
	c.DroppedIn += read.DroppedIn
	c.DroppedOut += read.DroppedOut
	c.DroppedBytesIn += policer.DroppedBytes
	c.Refused += read.Refused
	return nil
}

// remove deletes a connection's meters there, and the maps when nothing is left.
func (e *earlierMaps) remove(tag int) error {
	if e.meters == nil || e.policers == nil {
		return nil
	}
	for _, side := range []Side{SideA, SideZ} {
		key := earlierKey(tag, side)
		if err := errors.Join(ignoreMissing(e.meters.Delete(key)), ignoreMissing(e.policers.Delete(key))); err != nil {
			return fmt.Errorf("meter: %w", err)
		}
	}
	var key uint32
	if err := e.meters.NextKey(nil, &key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	err := errors.Join(ignoreMissing(e.meters.Unpin()), ignoreMissing(e.policers.Unpin()))
	e.close()
	return err
}
