package pdf

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"
)

// file writes a PDF file (ISO 32000-1) from front to back: an object is written once, and only its place is kept. It keeps its
// first error.
type file struct {
	out     io.Writer
	written int64
	places  []int64 // of object n at n-1; 0: not written yet
	pages   []int   // objects
	err     error
}

func newFile(w io.Writer) *file {
	f := &file{out: w}
	f.put("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n") // bytes above 127 say that the file is binary (7.5.2)
	return f
}

func (f *file) put(s string) {
	if f.err != nil {
		return
	}
	n, err := io.WriteString(f.out, s)
	f.written += int64(n)
	f.err = err
}

// reserve gives a number to an object that is written later.
func (f *file) reserve() int {
	f.places = append(f.places, 0)
	return len(f.places)
}

// object writes an object.
func (f *file) object(id int, body string) {
	f.places[id-1] = f.written
	f.put(fmt.Sprintf("%d 0 obj\n%s\nendobj\n", id, body))
}

// stream writes a compressed stream with the entries of its dictionary beside length and filter.
func (f *file) stream(id int, entries string, data []byte) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write(data) // a buffer takes everything
	z.Close()
	f.object(id, fmt.Sprintf("<< %s /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream", entries, packed.Len(), packed.String()))
}

// end writes the pages' tree, what the file is, and where everything stands. id tells files apart.
func (f *file) end(pages int, title, author string, at time.Time, id string) error {
	var kids strings.Builder
	for _, p := range f.pages {
		fmt.Fprintf(&kids, " %d 0 R", p)
	}
	f.object(pages, fmt.Sprintf("<< /Type /Pages /Count %d /Kids [%s ] >>", len(f.pages), kids.String()))
	catalog, info := f.reserve(), f.reserve()
	f.object(catalog, fmt.Sprintf("<< /Type /Catalog /Pages %d 0 R /Lang (en) /ViewerPreferences << /DisplayDocTitle true >> >>", pages))
	f.object(info, fmt.Sprintf("<< /Title %s /Author %s /Producer (Crossbill) /CreationDate (D:%sZ) >>", textString(title), textString(author), at.UTC().Format("20060102150405")))
	start := f.written
	f.put(fmt.Sprintf("xref\n0 %d\n0000000000 65535 f \n", len(f.places)+1))
	for _, place := range f.places {
		f.put(fmt.Sprintf("%010d 00000 n \n", place))
	}
	f.put(fmt.Sprintf("trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R /ID [<%x> <%[4]x>] >>\nstartxref\n%d\n%%%%EOF\n", len(f.places)+1, catalog, info, id, start))
	return f.err
}

// textString is a text as UTF-16 with its byte order mark (7.9.2.2), in hexadecimal.
func textString(s string) string {
	var b strings.Builder
	b.WriteString("<FEFF")
	for _, u := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", u)
	}
	return b.String() + ">"
}
