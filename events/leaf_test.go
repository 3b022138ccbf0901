package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TestTreeVectors are the roots of the trees over the first n of Certificate Transparency's test inputs
// (github.com/google/certificate-transparency, merkle_tree_test; the hashes are those of RFC 6962 section 2.1).
func TestTreeVectors(t *testing.T) {
	t.Parallel()
	inputs := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	tr := emptyTree()
	for n, want := range roots {
		root, err := tr.root()
		if got := hex.EncodeToString(root[:]); err != nil || got != want {
			t.Errorf("root of %d leaves: %s, %v; want %s", n, got, err, want)
		}
		if n < len(inputs) {
			input, err := hex.DecodeString(inputs[n])
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.add(sha256.Sum256(append([]byte{0}, input...))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTreeAgainstTlog compares with another implementation of RFC 6962 at every size, going through the stored form.
func TestTreeAgainstTlog(t *testing.T) {
	t.Parallel()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			hashes[i] = stored[x]
		}
		return hashes, nil
	})
	tr := emptyTree()
	for n := range int64(300) {
		data := fmt.Appendf(nil, "leaf %d", n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		want, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.add(tlog.RecordHash(data)); err != nil {
			t.Fatal(err)
		}
		if tr, err = parseTree(tr.size(), tr.frontier()); err != nil {
			t.Fatal(err)
		}
		if got, err := tr.root(); err != nil || got != want {
			t.Fatalf("size %d: root %x, %v; want %x", n+1, got, err, want)
		}
	}
	for _, bad := range [][]byte{nil, tr.frontier()[1:], tr.frontier()[32:]} {
		if _, err := parseTree(tr.size(), bad); err == nil {
			t.Errorf("a frontier of %d bytes was taken for 300 leaves", len(bad))
		}
	}
}

func sampleLeaf() leafRecord {
	return leafRecord{
		position: 258, version: 3, recordedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		id: [16]byte{15: 0xff}, schema: 2, stream: "note-a", eventType: "test.noted",
		metadata: []byte(`{}`), payload: []byte(`{"text":"x"}`), salt: [16]byte{0: 0xaa},
	}
}

// TestLeafRecord pins the record's bytes: they may never change, or no stored hash holds any more.
func TestLeafRecord(t *testing.T) {
	t.Parallel()
	const want = "01" + "0000000000000102" + "0000000000000003" + "0006475ef6574f35" + "00000002" +
		"000000000000000000000000000000ff" + "00000006" + "6e6f74652d61" + "0000000a" + "746573742e6e6f746564" +
		"00000002" + "7b7d" + "0000000c" + "7b2274657874223a2278227d" + "aa000000000000000000000000000000"
	got := sampleLeaf().appendTo(nil)
	if hex.EncodeToString(got) != want {
		t.Errorf("record\n%x, want\n%s", got, want)
	}
	var h leafHasher
	h.hash(leafRecord{payload: bytes.Repeat([]byte("x"), 1000)}) // leaves its buffer dirty
	if hash := h.hash(sampleLeaf()); hash != sha256.Sum256(append([]byte{0}, got...)) {
		t.Errorf("hash %x", hash)
	}
}

// TestLeafRecordCoversEverything changes each field alone, and moves bytes between neighbours.
func TestLeafRecordCoversEverything(t *testing.T) {
	t.Parallel()
	seen := map[string]string{string(sampleLeaf().appendTo(nil)): "the sample"}
	for name, change := range map[string]func(*leafRecord){
		"position":      func(r *leafRecord) { r.position++ },
		"version":       func(r *leafRecord) { r.version++ },
		"recorded time": func(r *leafRecord) { r.recordedAt = r.recordedAt.Add(time.Microsecond) },
		"id":            func(r *leafRecord) { r.id[0]++ },
		"schema":        func(r *leafRecord) { r.schema++ },
		"stream":        func(r *leafRecord) { r.stream = "note-b" },
		"type":          func(r *leafRecord) { r.eventType = "test.noteD" },
		"metadata":      func(r *leafRecord) { r.metadata = []byte(`[]`) },
		"payload":       func(r *leafRecord) { r.payload = nil },
		"salt":          func(r *leafRecord) { r.salt[15]++ },
		"moved bytes":   func(r *leafRecord) { r.stream, r.eventType = "note-atest", ".noted" },
		"moved json":    func(r *leafRecord) { r.metadata, r.payload = []byte(`{}{`), []byte(`"text":"x"}`) },
	} {
		r := sampleLeaf()
		change(&r)
		b := string(r.appendTo(nil))
		if other, taken := seen[b]; taken {
			t.Errorf("%s and %s have the same record", name, other)
		}
		seen[b] = name
	}
}

// FuzzLeafRecord: two events have the same record only if they are the same.
func FuzzLeafRecord(f *testing.F) {
	f.Add("note-a", "t", []byte("{}"), []byte("x"), "note-", "at", []byte("{"), []byte("}x"))
	f.Fuzz(func(t *testing.T, s1, t1 string, m1, p1 []byte, s2, t2 string, m2, p2 []byte) {
		a := leafRecord{stream: s1, eventType: t1, metadata: m1, payload: p1}.appendTo(nil)
		b := leafRecord{stream: s2, eventType: t2, metadata: m2, payload: p2}.appendTo(nil)
		same := s1 == s2 && t1 == t2 && bytes.Equal(m1, m2) && bytes.Equal(p1, p2)
		if bytes.Equal(a, b) != same {
			t.Errorf("records equal: %t, events equal: %t", !same, same)
		}
	})
}
