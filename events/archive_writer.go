package events

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// archiveWriter writes an archive in one pass: the events in order of position, then where those of each stream are, in
// order of stream and version, then finish. Its memory does not grow with the number of events but by the index.
type archiveWriter struct {
	out     *bufio.Writer
	sum     hash.Hash // of all that was written
	offset  int64
	index   archiveIndex
	encoder *zstd.Encoder
	raw     []byte // of the block or chunk that fills
	packed  []byte

	categories map[string]uint32
	block      archiveBlock
	seen       map[uint32]struct{} // categories in the block
	chunk      archiveChunk
	entry      streamEntry
	err        error // the first; nothing is written after it
}

func newArchiveWriter(w io.Writer, first Position) (*archiveWriter, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	a := &archiveWriter{
		sum: sha256.New(), encoder: encoder, categories: make(map[string]uint32), seen: make(map[uint32]struct{}),
		index: archiveIndex{first: first}, block: archiveBlock{first: first},
	}
	a.out = bufio.NewWriterSize(io.MultiWriter(w, a.sum), 1<<20)
	a.write([]byte(archiveMagic))
	return a, a.err
}

func (a *archiveWriter) write(b []byte) {
	if a.err != nil {
		return
	}
	var n int
	n, a.err = a.out.Write(b)
	a.offset += int64(n)
}

// frame writes what has gathered in raw.
func (a *archiveWriter) frame() archiveFrame {
	a.packed = a.encoder.EncodeAll(a.raw, a.packed[:0])
	f := archiveFrame{offset: a.offset, length: int64(len(a.packed)), hash: sha256.Sum256(a.packed)}
	a.write(a.packed)
	a.raw = a.raw[:0]
	return f
}

// event adds the next event.
func (a *archiveWriter) event(r Record) error {
	if want := a.index.first + Position(a.index.events); r.Position != want && a.err == nil {
		a.err = fmt.Errorf("the event at position %d is written where that of %d should be", r.Position, want)
	}
	name, _, _ := strings.Cut(r.Stream, "-")
	number, known := a.categories[name]
	if !known {
		number = uint32(len(a.index.categories))
		a.categories[name] = number
		a.index.categories = append(a.index.categories, name)
	}
	record := r.Encode()
	if a.block.events > 0 && len(a.raw)+4+len(record) > blockBytes {
		a.endBlock()
	}
	a.seen[number] = struct{}{}
	a.raw = binary.BigEndian.AppendUint32(a.raw, uint32(len(record)))
	a.raw = append(a.raw, record...)
	a.block.events++
	a.index.events++
	if a.block.events == blockEvents {
		a.endBlock()
	}
	return a.err
}

func (a *archiveWriter) endBlock() {
	if a.block.events == 0 {
		return
	}
	for number := range a.seen {
		a.block.categories = append(a.block.categories, number)
	}
	slices.Sort(a.block.categories)
	clear(a.seen)
	next := a.block.first + Position(a.block.events)
	a.block.archiveFrame = a.frame()
	a.index.blocks = append(a.index.blocks, a.block)
	a.block = archiveBlock{first: next}
}

// place says where an event of a stream is. All events have been added.
func (a *archiveWriter) place(stream string, version int64, position Position) error {
	a.endBlock()
	e := &a.entry
	if e.stream != stream || len(e.positions) == entryNumbers {
		a.endEntry()
		e.stream, e.version = stream, version
	}
	if want := e.version + int64(len(e.positions)); version != want && a.err == nil {
		a.err = fmt.Errorf("stream %s goes to version %d where %d should be", stream, version, want)
	}
	e.positions = append(e.positions, position)
	return a.err
}

func (a *archiveWriter) endEntry() {
	e := &a.entry
	if len(e.positions) == 0 {
		return
	}
	if a.chunk.entries == 0 {
		a.chunk.stream, a.chunk.version = e.stream, e.version
	}
	a.raw = e.appendTo(a.raw, a.index.first)
	a.chunk.entries++
	e.positions = e.positions[:0]
	if len(a.raw) >= chunkBytes {
		a.endChunk()
	}
}

func (a *archiveWriter) endChunk() {
	if a.chunk.entries == 0 {
		return
	}
	a.chunk.archiveFrame = a.frame()
	a.index.chunks = append(a.index.chunks, a.chunk)
	a.chunk = archiveChunk{}
}

// archiveSums identify a file that was written.
type archiveSums struct {
	bytes int64
	file  [sha256.Size]byte
	index [sha256.Size]byte
}

// finish writes the index and the trailer.
func (a *archiveWriter) finish(root [sha256.Size]byte) (archiveSums, error) {
	a.endBlock()
	a.endEntry()
	a.endChunk()
	index := a.index.encode()
	trailer := binary.BigEndian.AppendUint64(nil, uint64(a.offset))
	trailer = binary.BigEndian.AppendUint64(trailer, uint64(len(index)))
	sums := archiveSums{index: sha256.Sum256(index)}
	trailer = append(trailer, sums.index[:]...)
	trailer = append(trailer, root[:]...)
	a.write(index)
	a.write(trailer)
	if a.err == nil {
		a.err = a.out.Flush()
	}
	a.write(a.sum.Sum(nil))
	if a.err == nil {
		a.err = a.out.Flush()
	}
	a.sum.Sum(sums.file[:0])
	sums.bytes = a.offset
	return sums, a.err
}
