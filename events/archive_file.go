package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"crossbill/domain"
)

// archive is a row of log_archives: where the events of one partition went.
type archive struct {
	partition   int64
	first, last Position
	file        string // in the archive directory
	sums        archiveSums
	root        [sha256.Size]byte // of the subtree
	archivedAt  time.Time
}

// archiveFile reads one archive. It keeps the index and no open file: an archive is read now and then, and there may be
// hundreds.
type archiveFile struct {
	archive
	path  string
	index *archiveIndex
}

func (a archive) missing(dir string, cause error) error {
	const op = "events.Read"
	if dir == "" {
		return domain.Errorf(domain.Unavailable, op, "the events %d to %d are in the archive %s, and %w",
			a.first, a.last, a.file, cause).WithHint("start it with --archive-dir, the directory that crossbill log archive wrote to")
	}
	return domain.Errorf(domain.Unavailable, op, "the events %d to %d are in the archive %s, which can't be read in %s: %w",
		a.first, a.last, a.file, dir, cause).
		WithHint("give the directory with --archive-dir (all nodes need the same one), or restore the file; its SHA-256 is %x", a.sums.file)
}

// damaged is a Conflict error, as all are that say that the log is not what was recorded.
func (a archive) damaged(format string, args ...any) error {
	return domain.Errorf(domain.Conflict, "events.Read", "the archive %s (events %d to %d) is not the one that was written: %w",
		a.file, a.first, a.last, fmt.Errorf(format, args...)).
		WithHint("restore the file from a backup; its SHA-256 is %x", a.sums.file)
}

// openArchive reads the archive's index and holds it to what the database says of it.
func openArchive(dir string, a archive) (*archiveFile, error) {
	if dir == "" {
		return nil, a.missing(dir, errors.New("this process was told no archive directory"))
	}
	if filepath.Base(a.file) != a.file {
		return nil, a.missing(dir, errors.New("its name is no name of a file"))
	}
	f := &archiveFile{archive: a, path: filepath.Join(dir, a.file)}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, a.missing(dir, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, a.missing(dir, err)
	}
	size := info.Size()
	if size != a.sums.bytes || size < int64(len(archiveMagic)+archiveTrailer) {
		return nil, a.damaged("it has %d bytes, not %d", size, a.sums.bytes)
	}
	magic, trailer := make([]byte, len(archiveMagic)), make([]byte, archiveTrailer)
	if _, err := file.ReadAt(magic, 0); err != nil {
		return nil, a.missing(dir, err)
	}
	if string(magic) != archiveMagic {
		return nil, a.damaged("it does not begin with %q", archiveMagic)
	}
	if _, err := file.ReadAt(trailer, size-archiveTrailer); err != nil {
		return nil, a.missing(dir, err)
	}
	offset, length := binary.BigEndian.Uint64(trailer), binary.BigEndian.Uint64(trailer[8:])
	if length > archiveMaxIndex || offset > uint64(size) || offset+length != uint64(size)-archiveTrailer {
		return nil, a.damaged("its trailer puts the index at %d, of %d bytes", offset, length)
	}
	if !bytes.Equal(trailer[16:48], a.sums.index[:]) || !bytes.Equal(trailer[48:80], a.root[:]) {
		return nil, a.damaged("its trailer has other hashes than the database")
	}
	encoded := make([]byte, length)
	if _, err := file.ReadAt(encoded, int64(offset)); err != nil {
		return nil, a.missing(dir, err)
	}
	if sha256.Sum256(encoded) != a.sums.index {
		return nil, a.damaged("its index has another hash")
	}
	if f.index, err = parseArchiveIndex(encoded); err != nil {
		return nil, a.damaged("%w", err)
	}
	if f.index.first != a.first || f.index.last() != a.last {
		return nil, a.damaged("its index is of the events %d to %d", f.index.first, f.index.last())
	}
	return f, nil
}

// block reads a block's records.
func (f *archiveFile) block(i int) ([]Record, error) {
	k := &f.index.blocks[i]
	raw, err := f.frame(k.archiveFrame)
	if err != nil {
		return nil, f.inBlock(k, err)
	}
	records, err := parseBlock(raw, k.first)
	if err == nil && int64(len(records)) != k.events {
		err = fmt.Errorf("it has %d records", len(records))
	}
	if err != nil {
		return nil, f.damaged("the block of the events %d to %d: %w", k.first, k.first+Position(k.events)-1, err)
	}
	return records, nil
}

func (f *archiveFile) inBlock(k *archiveBlock, err error) error {
	if errors.Is(err, errFrame) {
		return f.damaged("the block of the events %d to %d: %w", k.first, k.first+Position(k.events)-1, err)
	}
	return err
}

// chunk reads a chunk's entries.
func (f *archiveFile) chunk(i int) ([]streamEntry, error) {
	c := &f.index.chunks[i]
	raw, err := f.frame(c.archiveFrame)
	var entries []streamEntry
	if err == nil {
		if entries, err = parseChunk(raw, f.first); err == nil && int64(len(entries)) != c.entries {
			err = fmt.Errorf("it has %d entries", len(entries))
		}
	} else if !errors.Is(err, errFrame) {
		return nil, err
	}
	if err != nil {
		return nil, f.damaged("the part of its stream index from %s on: %w", c.stream, err)
	}
	return entries, nil
}

// errFrame marks a frame whose bytes are not those that were written.
var errFrame = errors.New("its bytes are others")

// frame reads, checks and unpacks a frame.
func (f *archiveFile) frame(at archiveFrame) ([]byte, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, f.missing(filepath.Dir(f.path), err)
	}
	defer file.Close()
	if at.length > f.sums.bytes {
		return nil, errFrame
	}
	packed := make([]byte, at.length)
	if _, err := file.ReadAt(packed, at.offset); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errFrame
		}
		return nil, f.missing(filepath.Dir(f.path), err)
	}
	if sha256.Sum256(packed) != at.hash {
		return nil, errFrame
	}
	raw, err := unpacker().DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return raw, nil
}

// unpacker is safe for concurrent use.
var unpacker = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderConcurrency(0))
	if err != nil {
		panic(err) // the options are constant
	}
	return d
})

// sumFile returns the SHA-256 of a file.
func sumFile(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// indexSum returns what the trailer of a file says that the index's hash is.
func indexSum(path string, size int64) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	_, err = f.ReadAt(sum[:], size-archiveTrailer+16)
	return sum, err
}

// fileSum reads the whole file and holds it to the hash that the database has of it.
func (f *archiveFile) fileSum() error {
	sum, err := sumFile(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && sum == f.sums.file {
		if err != nil {
			return f.missing(filepath.Dir(f.path), err)
		}
		return nil
	}
	if err != nil {
		return f.missing(filepath.Dir(f.path), err)
	}
	return f.damaged("its SHA-256 is %x", sum)
}
