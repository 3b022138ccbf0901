package events

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// writeArchive writes events from the given first position on, whose streams must come in order, and opens the file.
func writeArchive(t testing.TB, first Position, records []Record) *archiveFile {
	t.Helper()
	of := archive{first: first, last: first + Position(len(records)) - 1, file: "test.archive"}
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, of.file))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w, err := newArchiveWriter(file, first)
	if err != nil {
		t.Fatal(err)
	}
	subtree := treeFactory.NewEmptyRange(uint64(first - 1))
	for _, r := range records {
		leaf := r.LeafHash()
		if err := subtree.Append(leaf[:], nil); err != nil {
			t.Fatal(err)
		}
		if err := w.event(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records {
		if err := w.place(r.Stream, r.Version, r.Position); err != nil {
			t.Fatal(err)
		}
	}
	of.root = rangeRoot(subtree)
	if of.sums, err = w.finish(of.root); err != nil {
		t.Fatal(err)
	}
	if sum, err := sumFile(file.Name()); err != nil || sum != of.sums.file {
		t.Fatalf("the file's sum is %x, the writer says %x, %v", sum, of.sums.file, err)
	}
	f, err := openArchive(dir, of)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestArchiveBlocks writes events of the largest size among small ones, and a stream with more versions than an entry of
// the index has.
func TestArchiveBlocks(t *testing.T) {
	t.Parallel()
	const first, n = 1 << 13, 1 << 13
	var records []Record
	for i := range n {
		payload := []byte(strings.Repeat("x", i%100))
		if i%1000 == 1 {
			payload = bytes.Repeat([]byte{byte(i)}, MaxPayload)
		}
		records = append(records, Record{
			Position: first + 1 + Position(i), Version: int64(i + 7), RecordedAt: time.UnixMicro(int64(i) - 5).UTC(), ID: numbered(i), Schema: math.MaxInt32,
			Stream: "a-long one", Type: "t", Metadata: []byte("{}"), Payload: payload, Salt: [16]byte{byte(i), 1},
		})
	}
	f := writeArchive(t, first+1, records)
	if err := f.recompute(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var got []Record
	for i := range f.index.blocks {
		if k := f.index.blockOf(f.index.blocks[i].first); k != i {
			t.Errorf("block %d is found as %d", i, k)
		}
		block, err := f.block(i)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, block...)
	}
	if !reflect.DeepEqual(got, records) {
		t.Error("the events are others than were written")
	}
	if blocks := len(f.index.blocks); blocks < n/blockEvents+8 {
		t.Errorf("%d blocks", blocks)
	}
	a := newArchives(nil, filepath.Dir(f.path))
	a.list = []archive{f.archive}
	for _, after := range []int64{0, 6, 7, entryNumbers + 5, entryNumbers + 6, entryNumbers + 7, n + 5, n + 6, n + 7} {
		want, count := max(after, 6)+1, 0
		if err := a.stream(context.Background(), "a-long one", after, func(r Record) bool {
			if r.Version != want {
				t.Fatalf("version %d, want %d", r.Version, want)
			}
			want, count = want+1, count+1
			return true
		}); err != nil || count != n+6-int(max(min(after, n+6), 6)) {
			t.Errorf("after %d: %d events, %v", after, count, err)
		}
	}
	for _, other := range []string{"a-", "a-long", "a-long one!", "b-x", "0-x"} {
		if err := a.stream(context.Background(), other, 0, func(r Record) bool { t.Errorf("%s has %+v", other, r); return false }); err != nil {
			t.Error(err)
		}
	}
}

// FuzzArchive feeds the parsers of an archive's parts with anything: they return an error or what encodes to the same.
func FuzzArchive(f *testing.F) {
	x := archiveIndex{first: 1, events: 2, categories: []string{"a"},
		blocks: []archiveBlock{{archiveFrame{20, 5, sha256.Sum256(nil)}, 1, 2, []uint32{0}}},
		chunks: []archiveChunk{{archiveFrame{25, 5, sha256.Sum256(nil)}, 1, "a-1", 1}}}
	f.Add(x.encode())
	f.Add((&streamEntry{"a-1", 1, []Position{1, 2}}).appendTo(nil, 1))
	f.Add(Record{Stream: "a-1"}.Encode())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := parseArchiveIndex(b); err == nil {
			again, err := parseArchiveIndex(x.encode())
			if err != nil || !reflect.DeepEqual(x, again) {
				t.Errorf("the index %+v, encoded and parsed, is %+v, %v", x, again, err)
			}
		}
		if entries, err := parseChunk(b, 1); err == nil {
			var encoded []byte
			for _, e := range entries {
				encoded = e.appendTo(encoded, 1)
			}
			if again, err := parseChunk(encoded, 1); err != nil || !reflect.DeepEqual(entries, again) {
				t.Errorf("the entries %+v, encoded and parsed, are %+v, %v", entries, again, err)
			}
		}
		if records, err := parseBlock(b, 1); err == nil && len(b) > 0 && len(records) == 0 {
			t.Error("a block without records")
		}
	})
}
