// Package tile names and hashes the tiles that a log's Merkle tree is cut into, as C2SP tlog-tiles has them
// (https://c2sp.org/tlog-tiles). It computes only: where tiles are kept is events/proof's matter. Start reading at [Path].
package tile

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// The form of a tile.
const (
	Height = 8           // levels of the tree that a tile spans
	Width  = 1 << Height // hashes in a complete tile
	Bytes  = Width * sha256.Size
)

// Levels. The tree has fewer than 2^63 leaves.
const (
	MaxLevel    = 62 / Height   // of any tile
	MaxComplete = 62/Height - 1 // of a complete one
)

// goPrefix is how package tlog, whose tiles may have any height, begins the path of one of this height.
var goPrefix = fmt.Sprintf("tile/%d/", Height)

// Path returns the path of a tile as C2SP tlog-tiles has it: "tile/<level>/<index>", with ".p/<width>" unless the tile
// is complete.
func Path(level int, index int64, width int) string {
	t := tlog.Tile{H: Height, L: level, N: index, W: width}
	return "tile/" + strings.TrimPrefix(t.Path(), goPrefix)
}

// Parse reads what [Path] returns. ok is false for anything else.
func Parse(path string) (t tlog.Tile, ok bool) {
	rest, found := strings.CutPrefix(path, "tile/")
	if !found {
		return t, false
	}
	t, err := tlog.ParseTilePath(goPrefix + rest)
	// What overflows the parser's index it refuses, since it is not the path of what came out.
	if err != nil || t.L < 0 || t.L > MaxLevel || t.N >= max(1, int64(1)<<(62-Height)>>(Height*t.L)) {
		return tlog.Tile{}, false
	}
	return t, true
}

// Root returns the hash of the subtree over a complete tile, which is its hash in the tile above (RFC 6962 section 2.1).
// It panics unless hashes is [Bytes] long.
func Root(hashes []byte) [sha256.Size]byte {
	if len(hashes) != Bytes {
		panic(fmt.Sprintf("tile: a complete tile has %d bytes, not %d", Bytes, len(hashes)))
	}
	level := make([]byte, Bytes)
	copy(level, hashes)
	var node [1 + 2*sha256.Size]byte // 0x01 || left || right, without an allocation for each
	node[0] = rfc6962.RFC6962NodeHashPrefix
	for len(level) > sha256.Size {
		for i := 0; i < len(level)/2; i += sha256.Size {
			copy(node[1:], level[2*i:])
			parent := sha256.Sum256(node[:])
			copy(level[i:], parent[:])
		}
		level = level[:len(level)/2]
	}
	return [sha256.Size]byte(level)
}
