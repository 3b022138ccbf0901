package pdf

import (
	"bytes"
	"cmp"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-fonts/liberation/liberationsansbold"
	"github.com/go-fonts/liberation/liberationsansregular"
	"github.com/go-text/typesetting/font"
)

const (
	maxFontFiles = 500      // that are looked into
	maxFontBytes = 64 << 20 // of one file
	maxFaces     = 64       // of one collection
)

// SystemFontDirs are where fonts are installed.
var SystemFontDirs = []string{"/usr/local/share/fonts", "/usr/share/fonts"}

// Fonts are what documents are set in: Liberation Sans, which is built in and has Latin, Greek and Cyrillic, and for
// everything else the sans serif fonts that are installed, Noto before others. They may be used by many at once.
type Fonts struct {
	dirs   []string
	logger *slog.Logger

	regular, bold *typeface

	mu        sync.Mutex
	installed []*typeface // that were opened so far
	unopened  []string
	searched  bool
	found     map[rune]*typeface // nil: none has it
}

// typeface is one font of a file.
type typeface struct {
	name   string
	data   []byte
	index  int
	font   *font.Font
	tables sfnt
}

// NewFonts returns fonts (LICENSE-LiberationSans.txt is that of the built-in ones) with those of the directories, which are only looked into when a character needs it. A nil logger
// logs nothing. It returns an Internal error if a built-in font is broken.
func NewFonts(logger *slog.Logger, dirs ...string) (*Fonts, error) {
	f := &Fonts{dirs: dirs, logger: cmp.Or(logger, slog.New(slog.DiscardHandler)), found: make(map[rune]*typeface)}
	for name, to := range map[string]**typeface{"LiberationSans": &f.regular, "LiberationSans-Bold": &f.bold} {
		data := liberationsansregular.TTF
		if to == &f.bold {
			data = liberationsansbold.TTF
		}
		faces, err := open(name, data)
		if err != nil {
			return nil, err
		}
		*to = faces[0]
	}
	return f, nil
}

func open(name string, data []byte) (all []*typeface, _ error) {
	faces, err := font.ParseTTC(bytes.NewReader(data))
	if err != nil || len(faces) == 0 || len(faces) > maxFaces {
		return nil, broken(name + " can't be read")
	}
	for i, face := range faces {
		tables, err := readSFNT(data, i)
		if err != nil {
			return nil, err
		}
		if tables["glyf"] == nil && tables["CFF "] == nil { // bitmaps, say
			continue
		}
		all = append(all, &typeface{name: name, data: data, index: i, font: face.Font, tables: tables})
	}
	return all, nil
}

// covering returns a font that has a character, or nil.
func (f *Fonts) covering(r rune) *typeface {
	if _, ok := f.regular.font.NominalGlyph(r); ok {
		return f.regular
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, known := f.found[r]; known {
		return t
	}
	t := f.search(r)
	if t == nil {
		f.logger.Warn("no installed font has a character of a document", "character", string(r), "directories", f.dirs,
			"hint", "install Noto's fonts (Debian: fonts-noto-core, fonts-noto-cjk)")
	}
	f.found[r] = t
	return t
}

func (f *Fonts) search(r rune) *typeface {
	if !f.searched {
		f.unopened, f.searched = candidates(f.dirs), true
	}
	for i := 0; ; i++ {
		for i >= len(f.installed) {
			if len(f.unopened) == 0 {
				return nil
			}
			path := f.unopened[0]
			f.unopened = f.unopened[1:]
			data, err := os.ReadFile(path)
			if err == nil {
				var opened []*typeface
				opened, err = open(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), data)
				f.installed = append(f.installed, opened...)
			}
			if err != nil {
				f.logger.Warn("an installed font can't be used", "file", path, "error", err)
			}
		}
		if _, ok := f.installed[i].font.NominalGlyph(r); ok {
			return f.installed[i]
		}
	}
}

// candidates are the files of sans serif fonts in regular weight, Noto's first and collections of many scripts last.
func candidates(dirs []string) []string {
	type candidate struct {
		path string
		rank int
	}
	var all []candidate
	for _, dir := range dirs {
		// A directory that can't be read has no fonts.
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || len(all) >= maxFontFiles {
				return nil
			}
			if info, err := entry.Info(); err != nil || info.Size() > maxFontBytes {
				return nil
			}
			if rank := rankOf(entry.Name()); rank > 0 {
				all = append(all, candidate{path, rank})
			}
			return nil
		})
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.path, b.path)) })
	paths := make([]string, len(all))
	for i, c := range all {
		paths[i] = c.path
	}
	return paths
}

// rankOf says how early a font is tried; 0: never.
func rankOf(name string) int {
	lower := strings.ToLower(name)
	switch ext := filepath.Ext(lower); {
	case ext != ".ttf" && ext != ".otf" && ext != ".ttc":
		return 0
	case containsAny(lower, "bold", "italic", "oblique", "light", "thin", "black", "medium", "condensed", "mono", "serif", "emoji", "symbols"):
		return 0
	case strings.HasPrefix(lower, "notosanscjk"):
		return 2
	case strings.HasPrefix(lower, "notosans"):
		return 1
	case containsAny(lower, "droidsansfallback", "wqy", "ipag", "unifont", "sans"):
		return 3
	}
	return 0
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}
