package events

import (
	"context"
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/transparency-dev/merkle/compact"
)

// recompute reads every block of the archive and every entry of its stream index, and computes all leaves and the
// subtree's root again. each, if set, gets the events. The error names the first event or part that is wrong.
func (f *archiveFile) recompute(ctx context.Context, each func(Record) error) error {
	subtree := treeFactory.NewEmptyRange(uint64(f.first - 1))
	var events, places placeSum
	var hasher leafHasher
	for i := range f.index.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		records, err := f.block(i)
		if err != nil {
			return err
		}
		for _, r := range records {
			if !f.listed(i, r.Stream) {
				return f.damaged("the index leaves the category of the event at position %d out", r.Position)
			}
			events.add(r.Stream, r.Version, r.Position)
			leaf := hasher.hash(r.leaf())
			if err := subtree.Append(leaf[:], nil); err != nil {
				return err
			}
			if each != nil {
				if err := each(r); err != nil {
					return err
				}
			}
		}
	}
	if root := rangeRoot(subtree); root != f.root {
		return f.damaged("its events come to the subtree root %x and not %x", root, f.root)
	}
	if err := f.entries(ctx, func(e streamEntry) error {
		for i, position := range e.positions {
			places.add(e.stream, e.version+int64(i), position)
		}
		return nil
	}); err != nil {
		return err
	}
	if places != events {
		return f.damaged("its stream index is not that of its events")
	}
	return nil
}

// listed reports whether the index says that a block has events of a stream's category.
func (f *archiveFile) listed(block int, stream string) bool {
	name, _, _ := strings.Cut(stream, "-")
	number, there := f.index.category(name)
	if !there {
		return false
	}
	for _, c := range f.index.blocks[block].categories {
		if c == number {
			return true
		}
	}
	return false
}

// entries calls each with the entries of the stream index, which must be in order and where the index says they are.
func (f *archiveFile) entries(ctx context.Context, each func(streamEntry) error) error {
	stream, version := "", int64(0) // that the next entry must be past
	for i := range f.index.chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := f.chunk(i)
		if err != nil {
			return err
		}
		for j, e := range entries {
			c := &f.index.chunks[i]
			if j == 0 && (e.stream != c.stream || e.version != c.version) || e.stream < stream || e.stream == stream && e.version < version {
				return f.damaged("its stream index is out of order at %.60s", e.stream)
			}
			if err := each(e); err != nil {
				return err
			}
			stream, version = e.stream, e.version+int64(len(e.positions))
		}
	}
	return nil
}

// rangeRoot is the root of a perfect subtree, or nothing if it is none.
func rangeRoot(r *compact.Range) (root [32]byte) {
	if hashes := r.Hashes(); len(hashes) == 1 && bits.OnesCount64(r.End()-r.Begin()) == 1 {
		copy(root[:], hashes[0])
	}
	return root
}

// placeSum is a sum over a set of (stream, version, position), the same in whatever order they are added. It finds
// mistakes; against people there are the hashes of the file.
type placeSum struct{ a, b, n uint64 }

func (s *placeSum) add(stream string, version int64, position Position) {
	h := saidDigest(stream, "", 0, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(version)), uint64(position)))
	s.a += binary.BigEndian.Uint64(h[:])
	s.b += binary.BigEndian.Uint64(h[8:])
	s.n++
}
