package pdf

import (
	"slices"
	"strings"

	"github.com/go-text/typesetting/di"
	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/language"
	"github.com/go-text/typesetting/shaping"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/unicode/bidi"
)

const (
	unitsPerEm = 1000 // of widths in a PDF (ISO 32000-1, 9.2.4)
	unlimited  = 1 << 24
	stand      = '\u25a1' // a white square, set for a character that no font has: the document says that it is
)

// style is how a text is set. Sizes are in points.
type style struct {
	size  float64
	bold  bool
	color string // an operand of rg; empty: black
	right bool   // it ends at its place and does not begin there
}

// setter sets texts: it finds fonts for them, shapes and breaks them. It is one document's.
type setter struct {
	fonts   *Fonts
	faces   map[*typeface]*font.Face
	types   map[*font.Face]*typeface
	bold    bool
	segment shaping.Segmenter
	shaper  shaping.HarfbuzzShaper
	wrapper shaping.LineWrapper
}

func newSetter(fonts *Fonts) *setter {
	return &setter{fonts: fonts, faces: make(map[*typeface]*font.Face), types: make(map[*font.Face]*typeface)}
}

func (s *setter) face(t *typeface) *font.Face {
	face, ok := s.faces[t]
	if !ok {
		face = font.NewFace(t.font)
		s.faces[t], s.types[face] = face, t
	}
	return face
}

// ResolveFace implements [shaping.Fontmap].
func (s *setter) ResolveFace(r rune) *font.Face {
	if t := s.fonts.covering(r); t != nil && t != s.fonts.regular {
		return s.face(t)
	}
	if s.bold {
		return s.face(s.fonts.bold)
	}
	return s.face(s.fonts.regular)
}

// settled is a text without what has no place on paper, and with a box for what no font has.
func (s *setter) settled(text string) []rune {
	var runes []rune
	for _, r := range strings.Join(strings.Fields(text), " ") {
		switch {
		case r < ' ' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069: // controls of direction could reorder an amount
			continue
		case ignorable(r):
		case s.fonts.covering(r) == nil:
			r = stand
		}
		runes = append(runes, r)
	}
	return runes
}

// ignorable are characters that shape others and have no glyph of their own.
func ignorable(r rune) bool { return r == 0x200c || r == 0x200d || r >= 0xfe00 && r <= 0xfe0f }

// missing returns the characters of texts that no font has, each once and in order.
func (s *setter) missing(texts ...string) (all []rune) {
	for _, text := range texts {
		for _, r := range text {
			if r > ' ' && !ignorable(r) && s.fonts.covering(r) == nil && !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// lines breaks a text into lines that are at most so many points wide; 0: one line. A line's runs are in visual order.
func (s *setter) lines(text string, st style, width float64) []shaping.Line {
	runes := s.settled(text)
	if len(runes) == 0 {
		return nil
	}
	s.bold = st.bold
	input := shaping.Input{Text: runes, RunEnd: len(runes), Direction: direction(runes), Size: fixed.I(unitsPerEm), Language: language.NewLanguage("en")}
	var outputs []shaping.Output
	for _, run := range s.segment.Split(input, s) {
		outputs = append(outputs, s.shaper.Shape(run))
	}
	limit := unlimited
	if width > 0 {
		limit = int(width * unitsPerEm / st.size)
	}
	lines, _ := s.wrapper.WrapParagraph(shaping.WrapConfig{Direction: input.Direction}, limit, runes, shaping.NewSliceIterator(outputs))
	wrapped := make([]shaping.Line, len(lines))
	for i, line := range lines {
		wrapped[i] = slices.Clone(line) // the wrapper uses its memory again
		for j := range wrapped[i] {
			wrapped[i][j].Glyphs = slices.Clone(wrapped[i][j].Glyphs)
		}
		slices.SortStableFunc(wrapped[i], func(a, b shaping.Output) int { return int(a.VisualIndex - b.VisualIndex) })
	}
	return wrapped
}

// direction is that of the first letter that has one (Unicode Annex 9, P2 and P3).
func direction(text []rune) di.Direction {
	for _, r := range text {
		p, _ := bidi.LookupRune(r)
		switch p.Class() {
		case bidi.L:
			return di.DirectionLTR
		case bidi.R, bidi.AL:
			return di.DirectionRTL
		}
	}
	return di.DirectionLTR
}

// widthOf returns a line's width in points.
func widthOf(line shaping.Line, st style) float64 {
	total := fixed.Int26_6(0)
	for _, run := range line {
		total += run.Advance
	}
	return float64(total) / 64 / unitsPerEm * st.size
}
