package proof

import (
	"context"
	"slices"

	"crossbill/domain"
	"crossbill/events"
)

// Export says what a bundle is to hold.
type Export struct {
	Positions  []events.Position // in any order
	Checkpoint []byte            // a signed note of this log; the proofs are for its size
	Key        string            // that checkpoints are verified with

	// Since is an older checkpoint: the bundle is to show that the log grew from it. SinceSize is the same by its size
	// alone. Both nil: not.
	Since     []byte
	SinceSize *events.Position
}

// Bundle makes a bundle of events. The same request gives the same bytes, however far the log has grown.
//
// Errors: Invalid for a checkpoint that is not signed with the key or too many positions; NotFound for a position that
// the checkpoint does not have; Conflict if the log is not the one the checkpoint vouches for; else those of
// [Prover.Inclusion].
func (p *Prover) Bundle(ctx context.Context, x Export) (Bundle, error) {
	const op = "proof.Bundle"
	positions := slices.Clone(x.Positions)
	slices.Sort(positions)
	positions = slices.Compact(positions)
	if len(positions) > MaxBundleEvents {
		return Bundle{}, domain.Errorf(domain.Invalid, op, "a bundle of %d events; the limit is %d", len(positions), MaxBundleEvents)
	}
	checkpoint, err := events.CanonicalCheckpoint(x.Checkpoint, x.Key)
	if err != nil {
		return Bundle{}, err
	}
	head, err := events.ParseCheckpoint(checkpoint, x.Key)
	if err != nil {
		return Bundle{}, err
	}
	s, err := p.session(ctx)
	if err != nil {
		return Bundle{}, err
	}
	if err := s.vouched(head); err != nil {
		return Bundle{}, err
	}
	b := Bundle{Checkpoint: checkpoint}
	if b.Grown, err = s.grown(x, head); err != nil {
		return Bundle{}, err
	}
	for _, position := range positions {
		if position < 1 || position > head.Position {
			return Bundle{}, domain.Errorf(domain.NotFound, op, "the checkpoint is of %d events and there is none at position %d", head.Position, position)
		}
		e, err := s.bundled(position, head)
		if err != nil {
			return Bundle{}, err
		}
		b.Events = append(b.Events, e)
	}
	return b, nil
}

// vouched makes sure that the log is the one that a checkpoint is of.
func (s *session) vouched(head events.Head) error {
	if head.Position > s.head.Position {
		return domain.Errorf(domain.Conflict, "proof.Bundle", "the checkpoint vouches for %d events and the log has %d", head.Position, s.head.Position).
			WithHint(hintVerify)
	}
	root, err := s.root(head.Position)
	if err != nil {
		return err
	}
	if root != head.Root {
		return domain.Errorf(domain.Conflict, "proof.Bundle", "the first %d events have the root %x; the checkpoint of that size vouches for %x",
			head.Position, root, head.Root).WithHint("crossbill log verify --checkpoint FILE looks for what is wrong")
	}
	return nil
}

func (s *session) grown(x Export, head events.Head) (*Growth, error) {
	const op = "proof.Bundle"
	from := x.SinceSize
	if x.Since != nil {
		older, err := events.ParseCheckpoint(x.Since, x.Key)
		if err != nil {
			return nil, err
		}
		from = &older.Position
		if older.Position <= s.head.Position {
			if err := s.vouched(older); err != nil {
				return nil, err
			}
		}
	}
	if from == nil {
		return nil, nil
	}
	if *from > head.Position {
		return nil, domain.Errorf(domain.Invalid, op, "the checkpoint to grow from is of %d events, and the bundle's of %d", *from, head.Position)
	}
	c, err := s.consistency(*from, head.Position)
	if err != nil {
		return nil, err
	}
	return &Growth{From: events.Head{Position: c.From, Root: c.FromRoot}, Hashes: c.Hashes}, nil
}

// bundled reads an event and proves it. An event whose row does not hash to the leaf in the tree is not handed out.
func (s *session) bundled(position events.Position, head events.Head) (BundledEvent, error) {
	i, err := s.inclusion(position, head.Position)
	if err != nil {
		return BundledEvent{}, err
	}
	r, err := s.prover.Record(s.ctx, position)
	if err != nil {
		return BundledEvent{}, err
	}
	if r.LeafHash() != i.Leaf {
		return BundledEvent{}, damaged("the event at position %d is not the one that was recorded", position)
	}
	return BundledEvent{Position: position, Record: r.Encode(), Hashes: i.Hashes}, nil
}

// Record returns the event at a position as it was hashed. It returns a NotFound error if there is none.
func (p *Prover) Record(ctx context.Context, position events.Position) (events.Record, error) {
	var found *events.Record
	err := p.records.Range(ctx, position, position, func(r events.StoredRecord) error {
		found = &r.Record
		return nil
	})
	if err != nil {
		return events.Record{}, err
	}
	if found == nil {
		return events.Record{}, domain.Errorf(domain.NotFound, "proof.Record", "there is no event %d", position)
	}
	return *found, nil
}

// PositionsOf returns the positions of a stream's events, at most up to a position.
// It returns a NotFound error for a stream that has none, and an Invalid one if they are too many for a bundle.
func (p *Prover) PositionsOf(ctx context.Context, stream string, last events.Position) ([]events.Position, error) {
	const op = "proof.PositionsOf"
	positions, err := p.records.Stream(ctx, stream, last, MaxBundleEvents+1)
	switch {
	case err != nil:
		return nil, err
	case len(positions) == 0:
		return nil, domain.Errorf(domain.NotFound, op, "there is no event of the stream %.80s up to position %d", stream, last)
	case len(positions) > MaxBundleEvents:
		return nil, domain.Errorf(domain.Invalid, op, "the stream %.80s has more than %d events, the limit of a bundle", stream, MaxBundleEvents).
			WithHint("export ranges of positions")
	}
	return positions, nil
}
