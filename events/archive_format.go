package events

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// An archive is a file with the events of one full partition. Its layout, version 1 (numbers are big-endian; a varint is
// that of encoding/binary, unsigned; bytes are a varint with their number, then they themselves):
//
//	header   "crossbill archive 1\n"
//	blocks   one after another, each a zstd frame (RFC 8878) with up to 512 events in order of position: of each, uint32
//	         length and the canonical record of leaf.go. So SHA-256(0x00 || record) is the event's leaf hash
//	streams  chunks, each a zstd frame with entries in order of (stream, version): of each, bytes stream, varint first
//	         version, varint number, and that many varints: the first position as the distance from the archive's first,
//	         then the distance of each from the one before. Versions follow on each other
//	index    varint first position, varint number of events
//	         varint number of categories, each bytes
//	         varint number of blocks, each: varint events, varint length, SHA-256 of the frame, varint number of
//	         categories that occur in it, the number of each as a varint
//	         varint number of chunks, each: varint entries, varint length, SHA-256 of the frame, bytes stream and varint
//	         version of its first entry
//	trailer  uint64 offset of the index, uint64 its length, SHA-256 of the index,
//	         the root of the Merkle subtree over the events (RFC 6962 section 2.1), SHA-256 of all bytes before
//
// The row of the archive in log_archives has the index's hash, and the index that of every frame: whatever is read is
// known to be what was written, without reading the rest.
const (
	archiveMagic    = "crossbill archive 1\n"
	archiveTrailer  = 8 + 8 + 3*sha256.Size
	archiveMaxIndex = 256 << 20 // bytes; with 2^22 events the index has some hundred thousand
)

// Sizes that a writer keeps to and a reader does not rely on.
const (
	blockEvents  = 512
	blockBytes   = 1 << 20  // of records, uncompressed; one larger event is a block by itself
	chunkBytes   = 64 << 10 // of entries, uncompressed
	entryNumbers = 4096     // positions in one entry; a stream with more has several
)

// maxFrame is what a frame may come to uncompressed: the largest event there may be, with room.
const maxFrame = blockBytes + 2*(MaxPayload+MaxMetadata)

// archiveIndex is what a reader of an archive keeps in memory.
type archiveIndex struct {
	first      Position
	events     int64
	categories []string
	blocks     []archiveBlock
	chunks     []archiveChunk
}

type archiveFrame struct {
	offset int64
	length int64
	hash   [sha256.Size]byte
}

type archiveBlock struct {
	archiveFrame
	first      Position
	events     int64
	categories []uint32 // numbers in archiveIndex.categories
}

type archiveChunk struct {
	archiveFrame
	entries int64
	stream  string // of the first entry
	version int64
}

func (x *archiveIndex) last() Position { return x.first + Position(x.events) - 1 }

// blockOf returns the number of the block with the position, which the archive has.
func (x *archiveIndex) blockOf(p Position) int {
	return sort.Search(len(x.blocks), func(i int) bool { return x.blocks[i].first > p }) - 1
}

// chunkOf returns the number of the first chunk that may have events of the stream from the version on.
func (x *archiveIndex) chunkOf(stream string, version int64) int {
	after := sort.Search(len(x.chunks), func(i int) bool {
		c := &x.chunks[i]
		return c.stream > stream || c.stream == stream && c.version > version
	})
	return max(after-1, 0)
}

// category returns the number of a category, and whether any event is of it.
func (x *archiveIndex) category(name string) (number uint32, there bool) {
	for i, c := range x.categories {
		if c == name {
			return uint32(i), true
		}
	}
	return 0, false
}

func (x *archiveIndex) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(x.first))
	b = binary.AppendUvarint(b, uint64(x.events))
	b = binary.AppendUvarint(b, uint64(len(x.categories)))
	for _, c := range x.categories {
		b = appendBytes(b, c)
	}
	b = binary.AppendUvarint(b, uint64(len(x.blocks)))
	for i := range x.blocks {
		k := &x.blocks[i]
		b = binary.AppendUvarint(b, uint64(k.events))
		b = binary.AppendUvarint(b, uint64(k.length))
		b = append(b, k.hash[:]...)
		b = binary.AppendUvarint(b, uint64(len(k.categories)))
		for _, c := range k.categories {
			b = binary.AppendUvarint(b, uint64(c))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(x.chunks)))
	for i := range x.chunks {
		c := &x.chunks[i]
		b = binary.AppendUvarint(b, uint64(c.entries))
		b = binary.AppendUvarint(b, uint64(c.length))
		b = append(b, c.hash[:]...)
		b = appendBytes(b, c.stream)
		b = binary.AppendUvarint(b, uint64(c.version))
	}
	return b
}

func parseArchiveIndex(b []byte) (*archiveIndex, error) {
	p := archiveParser{rest: b}
	x := &archiveIndex{first: Position(p.number()), events: p.number()}
	for n := p.count(1); n > 0; n-- {
		x.categories = append(x.categories, string(p.bytes()))
	}
	offset, next := int64(len(archiveMagic)), x.first
	frame := func() archiveFrame {
		f := archiveFrame{offset: offset, length: p.number()}
		copy(f.hash[:], p.take(sha256.Size))
		offset += f.length
		return f
	}
	for n := p.count(sha256.Size); n > 0; n-- {
		k := archiveBlock{first: next, events: p.number()}
		k.archiveFrame = frame()
		for n := p.count(1); n > 0; n-- {
			k.categories = append(k.categories, uint32(p.number()))
		}
		next += Position(k.events)
		x.blocks = append(x.blocks, k)
	}
	for n := p.count(sha256.Size); n > 0; n-- {
		c := archiveChunk{entries: p.number()}
		c.archiveFrame = frame()
		c.stream, c.version = string(p.bytes()), p.number()
		x.chunks = append(x.chunks, c)
	}
	if p.short || len(p.rest) > 0 || x.first < 1 || next != x.last()+1 || len(x.blocks) == 0 || len(x.chunks) == 0 {
		return nil, errors.New("the index of the archive is malformed")
	}
	return x, nil
}

// streamEntry is where some events of a stream are, of consecutive versions.
type streamEntry struct {
	stream    string
	version   int64 // of the first
	positions []Position
}

func (e *streamEntry) appendTo(b []byte, first Position) []byte {
	b = appendBytes(b, e.stream)
	b = binary.AppendUvarint(b, uint64(e.version))
	b = binary.AppendUvarint(b, uint64(len(e.positions)))
	for before, i := first, 0; i < len(e.positions); before, i = e.positions[i], i+1 {
		b = binary.AppendUvarint(b, uint64(e.positions[i]-before))
	}
	return b
}

// parseChunk reads the entries of a chunk.
func parseChunk(b []byte, first Position) ([]streamEntry, error) {
	p := archiveParser{rest: b}
	var entries []streamEntry
	for len(p.rest) > 0 && !p.short {
		e := streamEntry{stream: string(p.bytes()), version: p.number()}
		n := p.count(1)
		e.positions = make([]Position, 0, n)
		for at := first; n > 0; n-- {
			at += Position(p.number())
			e.positions = append(e.positions, at)
		}
		entries = append(entries, e)
	}
	if p.short {
		return nil, errors.New("a chunk of the stream index is malformed")
	}
	return entries, nil
}

// parseBlock reads the records of a block. They keep the memory of b.
func parseBlock(b []byte, first Position) ([]Record, error) {
	var records []Record
	for p := (recordParser{rest: b}); len(p.rest) > 0; {
		raw := p.bytes()
		if p.short {
			return nil, errors.New("a record is cut short")
		}
		r, err := ParseRecord(raw)
		if err != nil {
			return nil, err
		}
		if want := first + Position(len(records)); r.Position != want {
			return nil, fmt.Errorf("the record of position %d stands where that of %d should", r.Position, want)
		}
		records = append(records, r)
	}
	return records, nil
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// archiveParser takes an index apart. Once something is missing it is short and gives zeros.
type archiveParser struct {
	rest  []byte
	short bool
}

func (p *archiveParser) number() int64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || v > 1<<62 {
		p.rest, p.short = nil, true
		return 0
	}
	p.rest = p.rest[n:]
	return int64(v)
}

// count reads a number of things that take at least size bytes each, so that no memory is reserved for what can't be.
func (p *archiveParser) count(size int) int64 {
	n := p.number()
	if n > int64(len(p.rest)/size) {
		p.rest, p.short = nil, true
		return 0
	}
	return n
}

func (p *archiveParser) take(n int64) []byte {
	if n > int64(len(p.rest)) {
		p.rest, p.short = nil, true
		return nil
	}
	taken := p.rest[:n:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *archiveParser) bytes() []byte { return p.take(p.number()) }
