package tile_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"crossbill/events/tile"
)

// TestPaths has the examples of C2SP tlog-tiles and the ends of what a path can say.
func TestPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level int
		index int64
		width int
		path  string
	}{
		{0, 0, 256, "tile/0/000"}, {0, 1234067, 256, "tile/0/x001/x234/067"}, {0, 273, 112, "tile/0/273.p/112"},
		{1, 1, 17, "tile/1/001.p/17"}, {2, 0, 1, "tile/2/000.p/1"}, {7, 0, 255, "tile/7/000.p/255"},
		{0, 1<<54 - 1, 256, "tile/0/x018/x014/x398/x509/x481/983"},
	} {
		if got := tile.Path(c.level, c.index, c.width); got != c.path {
			t.Errorf("path %s, want %s", got, c.path)
		}
		if got, ok := tile.Parse(c.path); !ok || got != (tlog.Tile{H: tile.Height, L: c.level, N: c.index, W: c.width}) {
			t.Errorf("%s is read as %+v, %t", c.path, got, ok)
		}
	}
	for _, bad := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/-1/000", "tile/data/000",
		"tile/8/000", "tile/64/000", "tile/0/000.p", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/x000/001",
		"tile/0/001/001", "tile/0/x001/x001", "tile/0/000/", "/tile/0/000", "tile/8/0/000", "tile/0/+00", "tile/entries/000",
		"tile/0/x999/x999/x999/x999/x999/x999/x999/999", "tile/0/x018/x014/x398/x509/x481/984", "tile/1/x072/x057/x594/x037/x927/936", "tile/0/x072/x057/x594/x037/x927/936", "tile/7/001", "tile/0/" + strings.Repeat("x001/", 30) + "001",
	} {
		if got, ok := tile.Parse(bad); ok {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

// TestRoot holds the root of a tile against another implementation of RFC 6962.
func TestRoot(t *testing.T) {
	t.Parallel()
	var hashes []byte
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, x := range indexes {
			found = append(found, stored[x])
		}
		return found, nil
	})
	for i := range int64(tile.Width) {
		leaf := tlog.RecordHash(fmt.Append(nil, i))
		hashes = append(hashes, leaf[:]...)
		more, err := tlog.StoredHashesForRecordHash(i, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	want, err := tlog.TreeHash(tile.Width, reader)
	if err != nil {
		t.Fatal(err)
	}
	before := sha256.Sum256(hashes)
	if got := tile.Root(hashes); got != [32]byte(want) {
		t.Errorf("root %x, want %s", got, want)
	}
	if sha256.Sum256(hashes) != before {
		t.Error("the hashes were changed")
	}
	defer func() {
		if recover() == nil {
			t.Error("a tile that is cut short has a root")
		}
	}()
	tile.Root(hashes[32:])
}

func FuzzParse(f *testing.F) {
	f.Add("tile/0/x001/x234/067.p/3")
	f.Fuzz(func(t *testing.T, path string) {
		if got, ok := tile.Parse(path); ok && (tile.Path(got.L, got.N, got.W) != path || got.N < 0 || got.L < 0 || got.L > tile.MaxLevel) {
			t.Errorf("%q is read as %+v", path, got)
		}
	})
}

func BenchmarkRoot(b *testing.B) {
	hashes := make([]byte, tile.Bytes)
	b.SetBytes(tile.Bytes)
	for b.Loop() {
		tile.Root(hashes)
	}
}
