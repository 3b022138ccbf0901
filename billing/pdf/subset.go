package pdf

import (
	"encoding/binary"
	"slices"

	"crossbill/domain"
)

// sfnt is a font's tables by name (OpenType, "Organization of an OpenType Font").
type sfnt map[string][]byte

var be = binary.BigEndian

func broken(what string) error {
	return domain.Errorf(domain.Internal, "pdf.subset", "a font is broken: %s", what)
}

// readSFNT finds the tables of a font, or of one of a collection.
func readSFNT(data []byte, index int) (sfnt, error) {
	at := 0
	if len(data) < 12 {
		return nil, broken("it is too short")
	}
	if string(data[:4]) == "ttcf" {
		if n := int(be.Uint32(data[8:])); index >= n || len(data) < 12+4*n {
			return nil, broken("its collection is too small")
		}
		at = int(be.Uint32(data[12+4*index:]))
	}
	if at < 0 || at+12 > len(data) {
		return nil, broken("it begins beyond its end")
	}
	n := int(be.Uint16(data[at+4:]))
	if at+12+16*n > len(data) {
		return nil, broken("its directory is cut")
	}
	tables := make(sfnt, n)
	for i := range n {
		entry := data[at+12+16*i:]
		from, length := uint64(be.Uint32(entry[8:])), uint64(be.Uint32(entry[12:]))
		if from+length > uint64(len(data)) {
			return nil, broken("a table ends beyond its end")
		}
		tables[string(entry[:4])] = data[from : from+length]
	}
	return tables, nil
}

// subset returns a font program with the outlines of the glyphs alone, for a PDF. Glyphs keep their numbers.
func (s sfnt) subset(glyphs map[uint16]bool) ([]byte, error) {
	if cff, ok := s["CFF "]; ok {
		return subsetCFF(cff, glyphs)
	}
	return s.subsetTrueType(glyphs)
}

// subsetTrueType leaves out what no glyph needs, and every table that a PDF reader does not (ISO 32000-1, 9.9).
func (s sfnt) subsetTrueType(glyphs map[uint16]bool) ([]byte, error) {
	head, maxp, loca, glyf := s["head"], s["maxp"], s["loca"], s["glyf"]
	if len(head) < 54 || len(maxp) < 6 || glyf == nil {
		return nil, broken("it has no outlines")
	}
	count, long := int(be.Uint16(maxp[4:])), be.Uint16(head[50:]) == 1
	outline := func(g int) ([]byte, error) {
		var from, to int
		switch {
		case g >= count:
			return nil, broken("it has too few glyphs")
		case long && len(loca) >= 4*g+8:
			from, to = int(be.Uint32(loca[4*g:])), int(be.Uint32(loca[4*g+4:]))
		case !long && len(loca) >= 2*g+4:
			from, to = 2*int(be.Uint16(loca[2*g:])), 2*int(be.Uint16(loca[2*g+2:]))
		default:
			return nil, broken("its index of outlines is cut")
		}
		if from > to || to > len(glyf) {
			return nil, broken("an outline ends beyond its end")
		}
		return glyf[from:to], nil
	}
	needed := []int{0}
	for g := range glyphs {
		needed = append(needed, int(g))
	}
	kept := make(map[int][]byte)
	for len(needed) > 0 { // an outline can be made of others
		g := needed[len(needed)-1]
		needed = needed[:len(needed)-1]
		if _, done := kept[g]; done {
			continue
		}
		data, err := outline(g)
		if err != nil {
			return nil, err
		}
		kept[g] = data
		parts, err := components(data)
		if err != nil {
			return nil, err
		}
		needed = append(needed, parts...)
	}
	var outlines []byte
	index := make([]byte, 4*(count+1))
	for g := range count {
		be.PutUint32(index[4*g:], uint32(len(outlines)))
		outlines = append(outlines, kept[g]...)
		for len(outlines)%4 != 0 {
			outlines = append(outlines, 0)
		}
	}
	be.PutUint32(index[4*count:], uint32(len(outlines)))
	head = slices.Clone(head)
	be.PutUint16(head[50:], 1) // the index is long
	all := sfnt{"head": head, "loca": index, "glyf": outlines, "maxp": maxp}
	for _, name := range []string{"hhea", "hmtx", "cvt ", "fpgm", "prep"} {
		if table, ok := s[name]; ok {
			all[name] = table
		}
	}
	return all.write(), nil
}

// components are the glyphs that a composite outline is made of (OpenType, "glyf").
func components(outline []byte) (parts []int, _ error) {
	const words, more, scale, two, matrix = 1, 0x20, 8, 0x40, 0x80
	if len(outline) < 10 || int16(be.Uint16(outline)) >= 0 {
		return nil, nil
	}
	for at := 10; ; {
		if at+4 > len(outline) {
			return nil, broken("a composite outline is cut")
		}
		flags := be.Uint16(outline[at:])
		parts = append(parts, int(be.Uint16(outline[at+2:])))
		at += 6
		if flags&words != 0 {
			at += 2
		}
		switch {
		case flags&scale != 0:
			at += 2
		case flags&two != 0:
			at += 4
		case flags&matrix != 0:
			at += 8
		}
		if flags&more == 0 {
			return parts, nil
		}
	}
}

// write makes a font file of tables.
func (s sfnt) write() []byte {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	power := 1
	for power*2 <= len(names) {
		power *= 2
	}
	selector := 0
	for 1<<(selector+1) <= power {
		selector++
	}
	out := be.AppendUint32(nil, 0x00010000)
	for _, n := range []int{len(names), 16 * power, selector, 16 * (len(names) - power)} {
		out = be.AppendUint16(out, uint16(n))
	}
	at := 12 + 16*len(names)
	for _, name := range names {
		out = append(out, name...)
		out = be.AppendUint32(out, checksum(s[name]))
		out = be.AppendUint32(out, uint32(at))
		out = be.AppendUint32(out, uint32(len(s[name])))
		at += (len(s[name]) + 3) &^ 3
	}
	for _, name := range names {
		out = append(out, s[name]...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

func checksum(table []byte) (sum uint32) {
	for len(table) >= 4 {
		sum += be.Uint32(table)
		table = table[4:]
	}
	var rest [4]byte
	copy(rest[:], table)
	return sum + be.Uint32(rest[:])
}

// subsetCFF puts an empty outline in the place of each that is not needed, and leaves everything where it is, filled up with
// zeros: offsets stay right, and zeros take no room once compressed (Adobe Technical Note 5176).
func subsetCFF(cff []byte, glyphs map[uint16]bool) ([]byte, error) {
	const endchar = 14
	if len(cff) < 4 {
		return nil, broken("its outlines are cut")
	}
	_, at, err := cffIndex(cff, int(cff[2])) // names
	if err != nil {
		return nil, err
	}
	top, _, err := cffIndex(cff, at)
	if err != nil || len(top) == 0 {
		return nil, broken("it has no top dictionary")
	}
	start, err := cffOutlines(top[0])
	if err != nil {
		return nil, err
	}
	outlines, end, err := cffIndex(cff, start)
	if err != nil {
		return nil, err
	}
	size := int(cff[start+2])
	out := slices.Clone(cff)
	clear(out[start:end])
	be.PutUint16(out[start:], uint16(len(outlines)))
	out[start+2] = byte(size)
	offset, data := 1, start+3+size*(len(outlines)+1)
	for g := range len(outlines) + 1 {
		for i := range size {
			out[start+3+size*g+i] = byte(offset >> (8 * (size - 1 - i)))
		}
		if g == len(outlines) {
			break
		}
		outline := []byte{endchar}
		if glyphs[uint16(g)] || g == 0 || len(outlines[g]) == 0 {
			outline = outlines[g]
		}
		copy(out[data+offset-1:], outline)
		offset += len(outline)
	}
	return out, nil
}

// cffIndex reads an INDEX and says where it ends.
func cffIndex(cff []byte, at int) (items [][]byte, end int, _ error) {
	if at < 0 || at+3 > len(cff) {
		return nil, 0, broken("an index is cut")
	}
	count := int(be.Uint16(cff[at:]))
	if count == 0 {
		return nil, at + 2, nil
	}
	size := int(cff[at+2])
	data := at + 3 + size*(count+1)
	if size < 1 || size > 4 || data > len(cff) {
		return nil, 0, broken("an index is cut")
	}
	offset := func(i int) (n int) {
		for _, b := range cff[at+3+size*i : at+3+size*(i+1)] {
			n = n<<8 | int(b)
		}
		return n
	}
	for i := range count {
		from, to := data+offset(i)-1, data+offset(i+1)-1
		if from < data || from > to || to > len(cff) {
			return nil, 0, broken("an index points beyond its end")
		}
		items = append(items, cff[from:to])
	}
	return items, data + offset(count) - 1, nil
}

// cffOutlines finds where a top dictionary says that the outlines are (operator 17).
func cffOutlines(dict []byte) (int, error) {
	number := 0
	for i := 0; i < len(dict); {
		b := int(dict[i])
		need := map[bool]int{true: 0, false: 1}[b <= 21 || b == 31]
		switch {
		case b == 28:
			need = 2
		case b == 29:
			need = 4
		case b == 30: // a real number: to the nibble f
			for i++; i < len(dict) && dict[i]&0xf != 0xf && dict[i]>>4 != 0xf; i++ {
			}
			i++
			continue
		case b >= 32 && b <= 246:
			need = 0
		case b == 12:
			need = 1
		}
		if i+need >= len(dict) && need > 0 {
			break
		}
		switch {
		case b == 17:
			return number, nil
		case b == 28:
			number = int(int16(be.Uint16(dict[i+1:])))
		case b == 29:
			number = int(int32(be.Uint32(dict[i+1:])))
		case b >= 32 && b <= 246:
			number = b - 139
		case b >= 247 && b <= 250:
			number = (b-247)*256 + int(dict[i+1]) + 108
		case b >= 251 && b <= 254:
			number = -(b-251)*256 - int(dict[i+1]) - 108
		}
		i += 1 + need
	}
	return 0, broken("its top dictionary names no outlines")
}
