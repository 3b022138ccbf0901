package ubl

import (
	"bufio"
	"encoding/xml"
	"io"
	"strings"
)

// writer writes elements one after another. It keeps its first error, and of what it wrote only what is open.
type writer struct {
	out  *bufio.Writer
	path []string
	err  error
}

func newWriter(w io.Writer) *writer { return &writer{out: bufio.NewWriter(w)} }

func (x *writer) raw(s string) {
	if x.err == nil {
		_, x.err = x.out.WriteString(s)
	}
}

func (x *writer) escaped(s string) {
	if x.err == nil {
		x.err = xml.EscapeText(x.out, []byte(s)) // what XML has no character for becomes U+FFFD
	}
}

func (x *writer) start(element string, attributes []string) {
	x.raw("\n" + strings.Repeat("  ", len(x.path)) + "<" + element)
	for i := 0; i+1 < len(attributes); i += 2 {
		x.raw(" " + attributes[i] + `="`)
		x.escaped(attributes[i+1])
		x.raw(`"`)
	}
	x.raw(">")
}

// open begins an element that holds others. Its attributes are names and values in turn.
func (x *writer) open(element string, attributes ...string) {
	x.start(element, attributes)
	x.path = append(x.path, element)
}

// close ends the element that was opened last.
func (x *writer) close() {
	element := x.path[len(x.path)-1]
	x.path = x.path[:len(x.path)-1]
	x.raw("\n" + strings.Repeat("  ", len(x.path)) + "</" + element + ">")
}

// text writes an element with a text, or nothing: no document holds an empty element (PEPPOL-EN16931-R008).
func (x *writer) text(element, text string, attributes ...string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	x.start(element, attributes)
	x.escaped(text)
	x.raw("</" + element + ">")
}

func (x *writer) flush() error {
	x.raw("\n")
	if x.err != nil {
		return x.err
	}
	return x.out.Flush()
}
