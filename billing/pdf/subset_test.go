package pdf

import (
	"bytes"
	"testing"

	"github.com/go-fonts/liberation/liberationsansregular"
	"github.com/go-text/typesetting/font"
)

// TestTrueType keeps the outlines that are needed, those they are made of, and their numbers.
func TestTrueType(t *testing.T) {
	t.Parallel()
	tables, err := readSFNT(liberationsansregular.TTF, 0)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := font.ParseTTF(bytes.NewReader(liberationsansregular.TTF))
	if err != nil {
		t.Fatal(err)
	}
	composite, _ := whole.NominalGlyph('é')
	plain, _ := whole.NominalGlyph('e')
	left, _ := whole.NominalGlyph('z')
	small, err := tables.subset(map[uint16]bool{uint16(composite): true})
	if err != nil {
		t.Fatal(err)
	}
	if len(small) > len(liberationsansregular.TTF)/8 {
		t.Errorf("one glyph takes %d of %d bytes", len(small), len(liberationsansregular.TTF))
	}
	part, err := readSFNT(small, 0)
	if err != nil {
		t.Fatal(err)
	}
	outline := func(g font.GID) uint32 { return be.Uint32(part["loca"][4*g+4:]) - be.Uint32(part["loca"][4*g:]) }
	if outline(composite) == 0 || outline(plain) == 0 || outline(left) != 0 {
		t.Errorf("é has %d bytes, the e in it %d, and z, which is not needed, %d", outline(composite), outline(plain), outline(left))
	}
	for name, table := range part { // a reader may look at the sums
		if entry := bytes.Index(small[12:12+16*len(part)], []byte(name)); be.Uint32(small[12+entry+4:]) != checksum(table) {
			t.Errorf("the sum of %q is wrong", name)
		}
	}
}

// cffFont is a font of three outlines.
func cffFont(outlines ...[]byte) []byte {
	index := func(items ...[]byte) []byte {
		out := be.AppendUint16(nil, uint16(len(items)))
		if len(items) == 0 {
			return out
		}
		out = append(out, 1, 1)
		at := 1
		for _, item := range items {
			at += len(item)
			out = append(out, byte(at))
		}
		for _, item := range items {
			out = append(out, item...)
		}
		return out
	}
	head := append([]byte{1, 0, 4, 1}, index([]byte("Test"))...)
	rest := append(index(), index()...) // strings, subroutines
	// 30: a real number (0.5) for an operator of two bytes; 29: a number of four bytes for operator 17.
	dict := func(at int) []byte {
		return append(be.AppendUint32([]byte{30, 0xa5, 0xff, 12, 7, 29}, uint32(at)), 17)
	}
	at := len(head) + len(index(dict(0))) + len(rest)
	return append(append(append(head, index(dict(at))...), rest...), append(index(outlines...), "private"...)...)
}

// TestCFF puts an empty outline in the place of what is not needed, and leaves what stands behind the outlines where it is.
func TestCFF(t *testing.T) {
	t.Parallel()
	outlines := [][]byte{{139, 14}, {140, 141, 5, 14}, {142, 143, 6, 14}}
	whole := cffFont(outlines...)
	part, err := subsetCFF(whole, map[uint16]bool{2: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(part) != len(whole) || !bytes.HasSuffix(part, []byte("private")) {
		t.Errorf("something moved: %x", part)
	}
	got, _, err := cffIndex(part, bytes.Index(whole, []byte{0, 3, 1, 1}))
	if err != nil || len(got) != 3 || !bytes.Equal(got[0], outlines[0]) || !bytes.Equal(got[1], []byte{14}) || !bytes.Equal(got[2], outlines[2]) {
		t.Errorf("the outlines are %x: %v", got, err)
	}
}

// FuzzSubset: a font file is somebody else's, and a broken one is refused.
func FuzzSubset(f *testing.F) {
	cff := sfnt{"CFF ": cffFont([]byte{14}, []byte{139, 14})}
	f.Add(cff.write(), uint16(1))
	f.Add(liberationsansregular.TTF[:4096], uint16(40))
	tables, err := readSFNT(liberationsansregular.TTF, 0)
	if err != nil {
		f.Fatal(err)
	}
	small, err := tables.subset(map[uint16]bool{40: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small, uint16(40))
	f.Add([]byte("ttcf\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0c"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, glyph uint16) {
		tables, err := readSFNT(data, 0)
		if err != nil {
			return
		}
		_, _ = tables.subset(map[uint16]bool{glyph: true})
	})
}
