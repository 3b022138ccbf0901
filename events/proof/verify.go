package proof

import (
	"crossbill/domain"
	"crossbill/events"
)

// Verified is what a bundle was found to prove.
type Verified struct {
	Head   events.Head  // that the bundle's checkpoint vouches for
	Older  *events.Head // of the older checkpoint, if there was one: the log of Head began with it
	Events []events.Record
}

// Verify checks a bundle with nothing but the log's public key: that the key signed its checkpoint, and that every
// event's record, as it stands in the file, is in the log that the checkpoint vouches for. With an older checkpoint of
// the same log (nil: none), it also checks that the log only grew since.
//
// It proves nothing about events that are not in the bundle. Versions of a stream without gaps mean that none between
// them was left out.
//
// Errors: Invalid if the file is no bundle or a checkpoint is not signed with the key; Conflict, with the first position
// that is wrong, if something is not proven.
func Verify(file []byte, verifierKey string, older []byte) (Verified, error) {
	const op = "proof.Verify"
	b, err := ParseBundle(file)
	if err != nil {
		return Verified{}, err
	}
	if b.Checkpoint, err = events.CanonicalCheckpoint(b.Checkpoint, verifierKey); err != nil {
		return Verified{}, err
	}
	var v Verified
	if v.Head, err = events.ParseCheckpoint(b.Checkpoint, verifierKey); err != nil {
		return Verified{}, err
	}
	for _, e := range b.Events {
		r, err := e.verify(v.Head)
		if err != nil {
			return Verified{}, err
		}
		v.Events = append(v.Events, r)
	}
	if b.Grown != nil {
		c := Consistency{From: b.Grown.From.Position, FromRoot: b.Grown.From.Root, To: v.Head.Position, ToRoot: v.Head.Root, Hashes: b.Grown.Hashes}
		if err := c.Check(); err != nil {
			return Verified{}, domain.Errorf(domain.Conflict, op, "the bundle does not prove that the log grew from the %d events that it says: %w", c.From, err).
				WithHint("export the bundle again and compare the two")
		}
	}
	if older == nil {
		return v, nil
	}
	head, err := events.ParseCheckpoint(older, verifierKey)
	if err != nil {
		return Verified{}, err
	}
	v.Older = &head
	return v, b.grewFrom(head, v.Head)
}

// verify returns the record, which is then known to be the one in the log.
func (e BundledEvent) verify(head events.Head) (events.Record, error) {
	const op = "proof.Verify"
	r, err := events.ParseRecord(e.Record)
	if err != nil {
		return r, domain.Errorf(domain.Conflict, op, "the event at position %d has a record that can't be read: %w", e.Position, err).
			WithHint("export the bundle again and compare the two")
	}
	if r.Position != e.Position {
		return r, domain.Errorf(domain.Conflict, op, "the event at position %d has the record of position %d", e.Position, r.Position).
			WithHint("export the bundle again and compare the two")
	}
	i := Inclusion{Position: e.Position, Size: head.Position, Leaf: r.LeafHash(), Root: head.Root, Hashes: e.Hashes}
	if err := i.Check(); err != nil {
		return r, domain.Errorf(domain.Conflict, op, "the event at position %d (%.60q, version %d of %.60q) is not proven to be in the log: its record or its proof is another: %w",
			r.Position, r.Type, r.Version, r.Stream, err).
			WithHint("export the bundle again and compare the two; the log's own copy is checked by crossbill log verify")
	}
	return r, nil
}

// grewFrom checks that the log was, and only grew since, what an older checkpoint vouches for. The bundle's own proof of
// growth was checked before.
func (b Bundle) grewFrom(older, head events.Head) error {
	const op = "proof.Verify"
	known := head
	switch {
	case older.Position > head.Position:
		return domain.Errorf(domain.Invalid, op, "the checkpoint is of %d events and the bundle's of %d: it is not the older one", older.Position, head.Position).
			WithHint("give a checkpoint from before the bundle was made")
	case older.Position == 0:
		known = events.Head{Root: rootOfNothing} // every log begins with nothing
	case b.Grown != nil && b.Grown.From.Position == older.Position:
		known = b.Grown.From
	case older.Position != head.Position:
		return domain.Errorf(domain.Invalid, op, "the bundle does not show how the log grew from %d events to %d", older.Position, head.Position).
			WithHint("export it with --since and this checkpoint")
	}
	if older.Root != known.Root {
		return domain.Errorf(domain.Conflict, op, "the checkpoint vouches for the root %x at %d events and the bundle for %x: an event among them is another now, or gone",
			older.Root, older.Position, known.Root).
			WithHint("keep both files: together they show that the log's history was changed")
	}
	return nil
}

// Streams says of each stream in the bundle, in the order of their first events, which versions are there.
func (v Verified) Streams() []StreamRange {
	var ranges []StreamRange
	at := make(map[string]int)
	for _, r := range v.Events {
		i, known := at[r.Stream]
		if !known {
			at[r.Stream] = len(ranges)
			ranges = append(ranges, StreamRange{Stream: r.Stream, First: r.Version, Last: r.Version, Count: 1})
			continue
		}
		ranges[i].Count++
		ranges[i].Last = r.Version
	}
	return ranges
}

// StreamRange is which of a stream's events are in a bundle.
type StreamRange struct {
	Stream      string
	First, Last int64 // versions
	Count       int64
}

// Whole reports whether no version between the first and the last is left out.
func (r StreamRange) Whole() bool { return r.Count == r.Last-r.First+1 }
