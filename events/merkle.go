package events

import (
	"crypto/sha256"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// tree is the Merkle tree of RFC 6962 section 2.1 as far as appending needs it: its frontier, the roots of the perfect
// subtrees that its size's binary digits stand for, largest first.
type tree struct{ leaves *compact.Range }

var treeFactory = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func emptyTree() tree { return tree{treeFactory.NewEmptyRange(0)} }

// parseTree reads a tree of the given size from its frontier's bytes.
func parseTree(size Position, frontier []byte) (tree, error) {
	if len(frontier)%sha256.Size != 0 {
		return tree{}, fmt.Errorf("a frontier of %d bytes", len(frontier))
	}
	var hashes [][]byte
	for b := frontier; len(b) > 0; b = b[sha256.Size:] {
		hashes = append(hashes, b[:sha256.Size:sha256.Size])
	}
	leaves, err := treeFactory.NewRange(0, uint64(size), hashes)
	return tree{leaves}, err
}

// add appends a leaf by its hash.
func (t tree) add(leaf [sha256.Size]byte) error { return t.leaves.Append(leaf[:], nil) }

func (t tree) size() Position { return Position(t.leaves.End()) }

// frontier returns what parseTree reads.
func (t tree) frontier() []byte {
	b := make([]byte, 0, len(t.leaves.Hashes())*sha256.Size)
	for _, h := range t.leaves.Hashes() {
		b = append(b, h...)
	}
	return b
}

// root returns the tree's root hash; that of the empty tree is the hash of nothing.
func (t tree) root() ([sha256.Size]byte, error) {
	if t.leaves.End() == 0 {
		return sha256.Sum256(nil), nil
	}
	root, err := t.leaves.GetRootHash(nil)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return [sha256.Size]byte(root), nil
}
