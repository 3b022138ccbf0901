package pdf

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/shaping"
	"rsc.io/qr"
)

// A4 in points; y grows downwards from the top.
const (
	pageWidth  = 595.28
	pageHeight = 841.89
)

// canvas draws pages, each of which is written once it is full.
type canvas struct {
	*setter
	file    *file
	parent  int // the pages' object
	total   int // the object that draws how many pages there are, which is known at the end
	content bytes.Buffer
	number  int
	used    map[*typeface]*usedFont
	order   []*typeface
	links   []string
}

// usedFont is what of a font the document needs.
type usedFont struct {
	id     int
	name   string
	glyphs map[uint16]bool
	text   map[uint16][]rune // what each glyph stands for, so that it can be copied out and searched for
}

func newCanvas(f *file, fonts *Fonts) *canvas {
	c := &canvas{setter: newSetter(fonts), file: f, used: make(map[*typeface]*usedFont)}
	c.parent, c.total = f.reserve(), f.reserve()
	return c
}

func (c *canvas) draw(format string, args ...any) {
	fmt.Fprintf(&c.content, format+"\n", args...)
}

func (c *canvas) use(t *typeface) *usedFont {
	u, ok := c.used[t]
	if !ok {
		u = &usedFont{id: c.file.reserve(), name: fmt.Sprintf("F%d", len(c.used)+1), glyphs: make(map[uint16]bool), text: make(map[uint16][]rune)}
		c.used[t] = u
		c.order = append(c.order, t)
	}
	return u
}

// text draws one line at a baseline, cut with "…" to width if that is above 0, and returns how wide it is.
func (c *canvas) text(x, y float64, text string, st style, width float64) float64 {
	lines := c.lines(text, st, 0)
	if len(lines) == 0 {
		return 0
	}
	runes := []rune(text)
	for cut := len(runes); width > 0 && cut > 1 && widthOf(lines[0], st) > width; {
		cut = min(cut-1, int(float64(cut)*width/widthOf(lines[0], st)))
		lines = c.lines(strings.TrimSpace(string(runes[:max(cut, 1)]))+"…", st, 0)
	}
	return c.line(x, y, lines[0], c.settled(text), st)
}

// paragraph draws a text in lines that are at most so wide, and returns the baseline after the last.
func (c *canvas) paragraph(x, y float64, text string, st style, width, leading float64) float64 {
	runes := c.settled(text)
	for _, line := range c.lines(text, st, width) {
		c.line(x, y, line, runes, st)
		y += leading
	}
	return y
}

// line draws a line that was set of a text.
func (c *canvas) line(x, y float64, line shaping.Line, text []rune, st style) float64 {
	width := widthOf(line, st)
	if st.right {
		x -= width
	}
	c.draw("BT %s rg %.2f %.2f Td", orBlack(st.color), x, pageHeight-y)
	for _, run := range line {
		t := c.types[run.Face]
		u := c.use(t)
		c.draw("/%s %.2f Tf", u.name, st.size)
		c.glyphs(t, u, run, text, st)
	}
	c.draw("ET")
	return width
}

// glyphs shows a run's glyphs, moved to where they were shaped to stand.
func (c *canvas) glyphs(t *typeface, u *usedFont, run shaping.Output, text []rune, st style) {
	rise := 0.0
	show := func(parts *strings.Builder) {
		if parts.Len() > 0 {
			c.draw("[%s] TJ", parts.String())
			parts.Reset()
		}
	}
	var parts strings.Builder
	for i, g := range run.Glyphs {
		id := uint16(g.GlyphID)
		u.glyphs[id] = true
		if _, known := u.text[id]; !known {
			var stands []rune
			if first := i == 0 || run.Glyphs[i-1].TextIndex() != g.TextIndex(); first && g.TextIndex()+g.RunesCount() <= len(text) {
				stands = text[g.TextIndex() : g.TextIndex()+g.RunesCount()]
			}
			u.text[id] = stands
		}
		if up := float64(g.YOffset) / 64 / unitsPerEm * st.size; up != rise {
			show(&parts)
			c.draw("%.2f Ts", up)
			rise = up
		}
		before := float64(g.XOffset) / 64
		after := float64(g.Advance)/64 - before - t.width(id, c.faces[t])
		if before != 0 {
			fmt.Fprintf(&parts, "%.1f ", -before)
		}
		fmt.Fprintf(&parts, "<%04X>", id)
		if after > 0.05 || after < -0.05 {
			fmt.Fprintf(&parts, "%.1f ", -after)
		}
	}
	show(&parts)
	if rise != 0 {
		c.draw("0 Ts")
	}
}

// width returns a glyph's own width in thousandths of an em.
func (t *typeface) width(glyph uint16, face *font.Face) float64 {
	return float64(face.HorizontalAdvance(font.GID(glyph))) * unitsPerEm / float64(t.font.Upem())
}

func orBlack(color string) string {
	if color == "" {
		return "0 0 0"
	}
	return color
}

func (c *canvas) rule(x1, x2, y, width float64, color string) {
	c.draw("%s RG %.2f w %.2f %.2f m %.2f %.2f l S", color, width, x1, pageHeight-y, x2, pageHeight-y)
}

func (c *canvas) box(x, y, width, height float64, color string) {
	c.draw("%s rg %.2f %.2f %.2f %.2f re f", color, x, pageHeight-y-height, width, height)
}

// link makes a part of the page lead to an address.
func (c *canvas) link(x, y, width, height float64, address string) {
	c.links = append(c.links, fmt.Sprintf("<< /Type /Annot /Subtype /Link /Rect [%.2f %.2f %.2f %.2f] /Border [0 0 0] /A << /S /URI /URI (%s) >> >>",
		x, pageHeight-y-height, x+width, pageHeight-y, strings.NewReplacer("\\", "\\\\", "(", "\\(", ")", "\\)").Replace(address)))
}

// code draws a QR code (ISO/IEC 18004) with its quiet zone, in a square.
func (c *canvas) code(x, y, side float64, text string) {
	code, err := qr.Encode(text, qr.M)
	if err != nil { // too long for one: the address is there to be read
		return
	}
	const quiet = 4
	module := side / float64(code.Size+2*quiet)
	c.draw("0 0 0 rg")
	for row := range code.Size {
		for column := 0; column < code.Size; column++ {
			from := column
			for column < code.Size && code.Black(column, row) {
				column++
			}
			if column > from {
				c.draw("%.3f %.3f %.3f %.3f re", x+float64(from+quiet)*module, pageHeight-y-float64(row+quiet+1)*module, float64(column-from)*module, module)
			}
		}
	}
	c.draw("f")
}

// page writes the page that is drawn. The next one is empty.
func (c *canvas) page() {
	c.number++
	content, page := c.file.reserve(), c.file.reserve()
	c.file.stream(content, "", c.content.Bytes())
	c.content.Reset()
	annotations := ""
	if len(c.links) > 0 {
		annotations = " /Annots [" + strings.Join(c.links, " ") + "]"
		c.links = nil
	}
	c.file.object(page, fmt.Sprintf("<< /Type /Page /Parent %d 0 R /MediaBox [0 0 %.2f %.2f] /Contents %d 0 R /Resources << /Font << %s >> /XObject << /Total %d 0 R >> >>%s >>",
		c.parent, pageWidth, pageHeight, content, c.resources(), c.total, annotations))
	c.file.pages = append(c.file.pages, page)
}

func (c *canvas) resources() string {
	var b strings.Builder
	for _, t := range c.order {
		fmt.Fprintf(&b, "/%s %d 0 R ", c.used[t].name, c.used[t].id)
	}
	return b.String()
}

// finish writes what every page refers to: how many there are, and the fonts.
func (c *canvas) finish() error {
	c.text(0, pageHeight, fmt.Sprintf("of %d", c.number), footing, 0)
	c.file.stream(c.total, fmt.Sprintf("/Type /XObject /Subtype /Form /BBox [-1 -10 60 20] /Resources << /Font << %s >> >>", c.resources()), c.content.Bytes())
	for _, t := range c.order {
		if err := c.embed(t, c.used[t]); err != nil {
			return err
		}
	}
	return nil
}

// embed writes a font as a composite one whose codes are its glyphs' numbers (ISO 32000-1, 9.7).
func (c *canvas) embed(t *typeface, u *usedFont) error {
	program, err := t.tables.subset(u.glyphs)
	if err != nil {
		return err
	}
	face, upem := c.faces[t], float64(t.font.Upem())
	data, descriptor, descendant, unicode := c.file.reserve(), c.file.reserve(), c.file.reserve(), c.file.reserve()
	kind, slot, extra := "CIDFontType2", "FontFile2", " /CIDToGIDMap /Identity"
	if t.tables["CFF "] != nil {
		kind, slot, extra = "CIDFontType0", "FontFile3", ""
		c.file.stream(data, "/Subtype /CIDFontType0C", program)
	} else {
		c.file.stream(data, fmt.Sprintf("/Length1 %d", len(program)), program)
	}
	name := "CRSBLL+" + postScriptName(t.name) // a tag of six letters says that it is a part (9.6.4)
	extents, _ := face.FontHExtents()
	c.file.object(descriptor, fmt.Sprintf("<< /Type /FontDescriptor /FontName /%s /Flags 4 /FontBBox [%d %d %d %d] /ItalicAngle 0 /Ascent %.0f /Descent %.0f /CapHeight 700 /StemV 80 /%s %d 0 R >>",
		name, box(t, 36), box(t, 38), box(t, 40), box(t, 42), float64(extents.Ascender)*unitsPerEm/upem, float64(extents.Descender)*unitsPerEm/upem, slot, data))
	glyphs := slices.Sorted(maps.Keys(u.glyphs))
	var widths strings.Builder
	for _, g := range glyphs {
		fmt.Fprintf(&widths, "%d [%.1f] ", g, t.width(g, face))
	}
	c.file.object(descendant, fmt.Sprintf("<< /Type /Font /Subtype /%s /BaseFont /%s /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor %d 0 R /DW 1000 /W [%s]%s >>",
		kind, name, descriptor, widths.String(), extra))
	c.file.stream(unicode, "", toUnicode(glyphs, u.text))
	c.file.object(u.id, fmt.Sprintf("<< /Type /Font /Subtype /Type0 /BaseFont /%s /Encoding /Identity-H /DescendantFonts [%d 0 R] /ToUnicode %d 0 R >>", name, descendant, unicode))
	return nil
}

// box reads a side of the font's bounding box, in thousandths of an em.
func box(t *typeface, at int) int {
	head := t.tables["head"]
	if len(head) < at+2 {
		return 0
	}
	return int(int16(be.Uint16(head[at:]))) * unitsPerEm / int(t.font.Upem())
}

func postScriptName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, s)
}

// toUnicode says what glyphs stand for (9.10.3).
func toUnicode(glyphs []uint16, text map[uint16][]rune) []byte {
	const block = 100 // entries at most
	var b bytes.Buffer
	b.WriteString("/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n" +
		"/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n")
	glyphs = slices.DeleteFunc(slices.Clone(glyphs), func(g uint16) bool { return len(text[g]) == 0 })
	for part := range slices.Chunk(glyphs, block) {
		fmt.Fprintf(&b, "%d beginbfchar\n", len(part))
		for _, g := range part {
			fmt.Fprintf(&b, "<%04X> <", g)
			for _, u := range utf16.Encode(text[g]) {
				fmt.Fprintf(&b, "%04X", u)
			}
			b.WriteString(">\n")
		}
		b.WriteString("endbfchar\n")
	}
	b.WriteString("endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n")
	return b.Bytes()
}
