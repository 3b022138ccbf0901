package edge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"crossbill/domain"
)

// journal is the agent's durable memory: the meters and the readings the platform does not have.
//
// It is one append-only file of lines, each a checksum and a JSON record. The step that turns counters into a reading is
// one record, with the reading and the meter's new baseline in it: after a crash either both are there or neither, and
// then the same bytes are read again from the counters. A reading is sent only after its record has been synced, so an
// identity the platform has seen is never given to other numbers. That the platform has a reading is noted after its
// answer; lost, it costs a duplicate delivery. One file for the node, not one a connection: a boundary costs one sync
// however many meters are read.
type journal struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File
	size    int64 // all of it synced
	floor   int64 // size after the last compaction
	broken  error // a failed write that could not be undone; nothing may be appended after it
	meters  map[string]Meter
	pending map[string][]Reading // by connection, oldest first
	count   int                  // of pending readings
	ready   chan struct{}        // signalled when readings have been added
}

// record is one line. A record with Meter replaces the connection's meter.
type record struct {
	Format  int         `json:"format,omitempty"` // of the file, in its first record
	Meter   *Meter      `json:"meter,omitempty"`
	Reading *Reading    `json:"reading,omitempty"`
	Settled []ReadingID `json:"settled,omitempty"` // the platform has them, or they are among the rejected
	Forget  string      `json:"forget,omitempty"`  // the connection's meter is of no further use
}

const (
	journalFormat  = 1
	compactAtLeast = 1 << 20 // bytes; below it a journal is not worth rewriting
	compactGrowth  = 2       // rewrite when it is this many times as large as after the last time, or as what is of use in it
	compactRecord  = 400     // bytes, more than a record of use takes
	checksumLength = 8       // hexadecimal digits
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal reads the journal in dir, or begins one. What a crash left half-written at its end is cut off.
func openJournal(dir string, log *slog.Logger) (*journal, error) {
	const op = "edge.openJournal"
	j := &journal{path: filepath.Join(dir, "journal"), log: log, meters: map[string]Meter{}, pending: map[string][]Reading{},
		ready: make(chan struct{}, 1)}
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "open the journal: %w", err)
	}
	j.file = file
	if err := j.replay(); err != nil {
		file.Close()
		return nil, err
	}
	if j.size == 0 {
		err := j.write([]record{{Format: journalFormat}})
		if err == nil {
			err = syncDir(dir)
		}
		if err != nil {
			file.Close()
			return nil, domain.Errorf(domain.Internal, op, "begin the journal: %w", err)
		}
	}
	j.floor = j.size
	if j.count > 0 {
		j.ready <- struct{}{}
	}
	return j, nil
}

func (j *journal) replay() error {
	const op = "edge.openJournal"
	content := bufio.NewReader(j.file)
	for {
		line, err := content.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return domain.Errorf(domain.Internal, op, "read the journal: %w", err)
		}
		if len(line) == 0 {
			return nil
		}
		r, ok := decodeRecord(line)
		if !ok {
			return j.cut(line, content)
		}
		if j.size == 0 && r.Format != journalFormat {
			return domain.Errorf(domain.Internal, op, "%s has format %d, this agent reads %d", j.path, r.Format, journalFormat).
				WithHint("run the version of the agent that wrote it until everything is delivered")
		}
		j.apply(r)
		j.size += int64(len(line))
	}
}

// cut removes the journal's end from the first damaged line on. A line torn by a crash is nothing lost: what it said had
// not happened yet. More than one line can be a torn batch or a failing disk; it is kept beside the journal for a person.
func (j *journal) cut(damaged []byte, rest io.Reader) error {
	const op = "edge.openJournal"
	tail, err := io.ReadAll(rest)
	if err != nil {
		return domain.Errorf(domain.Internal, op, "read the journal: %w", err)
	}
	if len(tail) > 0 {
		aside := j.path + ".damaged-" + strconv.FormatInt(time.Now().Unix(), 10)
		if err := os.WriteFile(aside, append(damaged, tail...), 0o600); err != nil {
			return domain.Errorf(domain.Internal, op, "keep the damaged end of the journal: %w", err)
		}
		j.log.Error("the end of the journal is damaged and was put aside", "file", aside, "bytes", len(damaged)+len(tail))
	}
	if err := j.file.Truncate(j.size); err != nil {
		return domain.Errorf(domain.Internal, op, "cut the journal: %w", err)
	}
	return nil
}

// Append makes the records durable, then takes them over. On an error nothing has happened.
func (j *journal) Append(records ...record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(records); err != nil {
		return domain.Errorf(domain.Internal, "edge.journal", "write the journal: %w", err).
			WithHint("look for a full or failing disk under %s", filepath.Dir(j.path))
	}
	added := false
	for _, r := range records {
		j.apply(r)
		added = added || r.Reading != nil
	}
	if added {
		select {
		case j.ready <- struct{}{}:
		default:
		}
	}
	// After an outage the file is as large as the spool was, and little of it is of use once that is delivered.
	if useful := int64(len(j.meters)+j.count) * compactRecord; j.size > max(compactAtLeast, compactGrowth*min(j.floor, useful)) && j.size > j.floor+compactAtLeast/2 {
		if err := j.compact(); err != nil {
			j.log.Warn("the journal cannot be compacted and grows on", "error", err)
			j.floor = j.size
		}
	}
	return nil
}

func (j *journal) write(records []record) error {
	if j.broken != nil {
		return j.broken
	}
	var lines []byte
	for _, r := range records {
		lines = appendRecord(lines, r)
	}
	_, err := j.file.WriteAt(lines, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// A record that was not acknowledged must not come to life later.
		if undo := errors.Join(j.file.Truncate(j.size), j.file.Sync()); undo != nil {
			j.broken = errors.Join(err, undo)
		}
		return err
	}
	j.size += int64(len(lines))
	return nil
}

func (j *journal) apply(r record) {
	if r.Meter != nil {
		j.meters[r.Meter.Connection] = *r.Meter
	}
	if r.Reading != nil {
		j.pending[r.Reading.Connection] = append(j.pending[r.Reading.Connection], *r.Reading)
		j.count++
	}
	for _, id := range r.Settled {
		queue := j.pending[id.Connection]
		i := slices.IndexFunc(queue, func(r Reading) bool { return r.ReadingID == id })
		if i < 0 {
			continue // a rejected reading settled again after a crash
		}
		if queue = slices.Delete(queue, i, i+1); len(queue) == 0 {
			delete(j.pending, id.Connection)
		} else {
			j.pending[id.Connection] = queue
		}
		j.count--
	}
	if r.Forget != "" {
		delete(j.meters, r.Forget)
	}
}

// compact writes what is still of use into a new file and puts it in the place of the old one.
func (j *journal) compact() error {
	path := j.path + ".new"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		file.Close()
		os.Remove(path)
		return err
	}
	out := bufio.NewWriterSize(file, 1<<16)
	var size int64
	emit := func(r record) error {
		line := appendRecord(nil, r)
		size += int64(len(line))
		_, err := out.Write(line)
		return err
	}
	err = emit(record{Format: journalFormat})
	for _, m := range j.meters {
		err = errors.Join(err, emit(record{Meter: &m}))
	}
	for _, queue := range j.pending {
		for _, r := range queue {
			err = errors.Join(err, emit(record{Reading: &r}))
		}
	}
	if err = errors.Join(err, out.Flush(), file.Sync()); err != nil {
		return fail(err)
	}
	if err := os.Rename(path, j.path); err != nil {
		return fail(err)
	}
	j.file.Close()
	j.file, j.size, j.floor = file, size, size
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		j.broken = err // after a crash the old file may be back, without what is written from here on
		return err
	}
	return nil
}

// Meters returns the meters by connection.
func (j *journal) Meters() map[string]Meter {
	j.mu.Lock()
	defer j.mu.Unlock()
	meters := make(map[string]Meter, len(j.meters))
	for id, m := range j.meters {
		meters[id] = m
	}
	return meters
}

// Meter returns a connection's meter; its Connection is empty if there is none.
func (j *journal) Meter(connection string) Meter {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.meters[connection]
}

// Pending returns up to limit undelivered readings, each connection's in order, of those connections that may be sent.
// Connections with the most readings behind come first, and none keeps the others out.
func (j *journal) Pending(limit int, may func(connection string) bool) []Reading {
	j.mu.Lock()
	defer j.mu.Unlock()
	var connections []string
	for id := range j.pending {
		if may(id) {
			connections = append(connections, id)
		}
	}
	if len(connections) == 0 {
		return nil
	}
	slices.SortFunc(connections, func(x, y string) int { return j.pending[x][0].From.Compare(j.pending[y][0].From) })
	share := max(1, limit/len(connections))
	var batch []Reading
	for _, id := range connections {
		queue := j.pending[id]
		batch = append(batch, queue[:min(share, len(queue), limit-len(batch))]...)
	}
	return batch
}

// Undelivered returns the number of readings the platform does not have, of one connection and of all.
func (j *journal) Undelivered(connection string) (ofIt, ofAll int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending[connection]), j.count
}

// Ready is signalled when there is something to deliver.
func (j *journal) Ready() <-chan struct{} { return j.ready }

// Close closes the file. Everything in it is synced already.
func (j *journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broken = fs.ErrClosed
	return j.file.Close()
}

func appendRecord(to []byte, r record) []byte {
	content, err := json.Marshal(r)
	if err != nil {
		panic(err) // plain structs of numbers, strings and times of this century
	}
	return fmt.Appendf(to, "%0*x %s\n", checksumLength, crc32.Checksum(content, castagnoli), content)
}

func decodeRecord(line []byte) (r record, ok bool) {
	content, complete := bytes.CutSuffix(line, []byte{'\n'})
	if !complete || len(content) <= checksumLength || content[checksumLength] != ' ' {
		return r, false
	}
	sum, err := strconv.ParseUint(string(content[:checksumLength]), 16, 32)
	content = content[checksumLength+1:]
	if err != nil || crc32.Checksum(content, castagnoli) != uint32(sum) {
		return r, false
	}
	return r, json.Unmarshal(content, &r) == nil
}

// syncDir makes a file's new name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
