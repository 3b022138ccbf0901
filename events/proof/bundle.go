package proof

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"crossbill/domain"
	"crossbill/events"
)

// bundleHeader is a bundle's first line. Another form of bundle gets another number.
const bundleHeader = "crossbill-log-bundle@v1"

// Limits of a bundle.
const (
	MaxBundleEvents = 100_000
	MaxBundleBytes  = 512 << 20
	maxPath         = 63 // hashes in a proof: one for each level of the tree
)

// Bundle is a file that proves to anyone with the log's key that events are in the log, and says what is in them. The
// same events under the same checkpoint are the same bytes. It is text, in lines that end in a newline:
//
//	crossbill-log-bundle@v1
//
//	consistency <size> <root>   only if the bundle has one: those of an earlier checkpoint, the root in base64
//	<hash>                      each hash of the proof that the log was that and grew, in base64
//
//	event <position>            for each event, in order of position
//	record <record>             the canonical record (events/leaf.go), in base64
//	<hash>                      each hash of its inclusion proof, from the leaf's sibling upwards, in base64
//
//	<checkpoint>                a signed note (C2SP tlog-checkpoint), to the end of the file
//
// Every byte counts: [ParseBundle] takes nothing but what [Bundle.Encode] writes. An event's lines hold what a C2SP
// tlog-proof holds (its index is position - 1); they share one checkpoint instead of repeating it.
type Bundle struct {
	Grown      *Growth // nil: none
	Events     []BundledEvent
	Checkpoint []byte
}

// Growth is a consistency proof but for its end, which is the bundle's checkpoint.
type Growth struct {
	From   events.Head
	Hashes []Hash
}

// BundledEvent is an event with its proof.
type BundledEvent struct {
	Position events.Position
	Record   []byte // as events.Record.Encode returns it
	Hashes   []Hash
}

// Encode returns the file.
func (b Bundle) Encode() []byte {
	var out bytes.Buffer
	out.WriteString(bundleHeader + "\n\n")
	if b.Grown != nil {
		fmt.Fprintf(&out, "consistency %d %s\n", b.Grown.From.Position, base64.StdEncoding.EncodeToString(b.Grown.From.Root[:]))
		writeHashes(&out, b.Grown.Hashes)
	}
	for _, e := range b.Events {
		fmt.Fprintf(&out, "event %d\nrecord %s\n", e.Position, base64.StdEncoding.EncodeToString(e.Record))
		writeHashes(&out, e.Hashes)
	}
	out.Write(b.Checkpoint)
	return out.Bytes()
}

func writeHashes(out *bytes.Buffer, hashes []Hash) {
	for _, h := range hashes {
		out.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	out.WriteByte('\n')
}

// ParseBundle reads a file, without checking what it proves. It returns an Invalid error, with the line, for anything
// that [Bundle.Encode] does not write.
func ParseBundle(file []byte) (Bundle, error) {
	if len(file) > MaxBundleBytes {
		return Bundle{}, malformed(0, "it has %d bytes; the limit is %d", len(file), MaxBundleBytes)
	}
	p := bundleParser{rest: file}
	if p.next() != bundleHeader || p.next() != "" || p.err != nil {
		return Bundle{}, malformed(1, "it does not begin with %q and an empty line", bundleHeader)
	}
	var b Bundle
	for p.err == nil {
		before := p
		head := p.next()
		keyword, number, _ := strings.Cut(head, " ")
		switch {
		case keyword == "consistency" && b.Grown == nil && len(b.Events) == 0:
			size, root, _ := strings.Cut(number, " ")
			b.Grown = &Growth{From: events.Head{Position: p.position(size, 0), Root: p.hash(root)}}
			b.Grown.Hashes = p.hashes()
		case keyword == "event" && len(b.Events) < MaxBundleEvents:
			after := events.Position(0)
			if len(b.Events) > 0 {
				after = b.Events[len(b.Events)-1].Position
			}
			e := BundledEvent{Position: p.position(number, after+1)}
			e.Record = p.record()
			e.Hashes = p.hashes()
			b.Events = append(b.Events, e)
		case keyword == "event":
			p.fail("it has more than %d events", MaxBundleEvents)
		default:
			b.Checkpoint = before.rest
			return b, nil
		}
	}
	return Bundle{}, p.err
}

// bundleParser reads lines. After the first thing that is wrong it has an error and gives zeros.
type bundleParser struct {
	rest []byte
	line int
	err  error
}

func (p *bundleParser) next() string {
	if p.err != nil {
		return ""
	}
	p.line++
	line, rest, ended := bytes.Cut(p.rest, []byte("\n"))
	if !ended {
		p.fail("it is cut short")
		return ""
	}
	p.rest = rest
	return string(line)
}

func (p *bundleParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = malformed(p.line, format, args...)
	}
}

func (p *bundleParser) position(text string, least events.Position) events.Position {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text || events.Position(n) < least {
		p.fail("%.40q is no number of %d or more", text, least)
	}
	return events.Position(n)
}

func (p *bundleParser) record() []byte {
	text, found := strings.CutPrefix(p.next(), "record ")
	record, ok := decode(text)
	if !found || !ok || len(record) == 0 {
		p.fail("it is not \"record\" and a record in base64")
	}
	return record
}

// hashes reads lines up to the empty one.
func (p *bundleParser) hashes() []Hash {
	var hashes []Hash
	for {
		text := p.next()
		if text == "" || p.err != nil {
			return hashes
		}
		if len(hashes) == maxPath {
			p.fail("it is one hash more than a proof can have")
			return nil
		}
		hashes = append(hashes, p.hash(text))
	}
}

func (p *bundleParser) hash(text string) Hash {
	hash, ok := decode(text)
	if !ok || len(hash) != len(Hash{}) {
		p.fail("%.60q is no hash in base64", text)
		return Hash{}
	}
	return Hash(hash)
}

// decode reads base64 that is written in the one way it can be: package base64 alone would skip carriage returns.
func decode(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

func malformed(line int, format string, args ...any) *domain.Error {
	return domain.Errorf(domain.Invalid, "proof.ParseBundle", "the file is no bundle: line %d: %s", line, fmt.Sprintf(format, args...)).
		WithHint("export it again: crossbill log export")
}
