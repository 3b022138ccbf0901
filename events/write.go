package events

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// queueInsert writes few rows in one statement, whose text is the same for any number of them.
func queueInsert(q *pgx.Batch, pl *plan) {
	n := len(pl.rows)
	var (
		positions = make([]int64, n)
		versions  = make([]int64, n)
		ids       = make([][16]byte, n)
		schemas   = make([]int32, n)
		streams   = make([]string, n)
		types     = make([]string, n)
		salts     = make([][]byte, n)
		leaves    = make([][]byte, n)
		metadata  = make([][]byte, n)
		payloads  = make([][]byte, n)
	)
	for i := range pl.rows {
		r := &pl.rows[i]
		positions[i], versions[i], ids[i], schemas[i] = int64(r.position), r.version, r.id, int32(r.schema)
		streams[i], types[i], salts[i], leaves[i] = r.stream, r.eventType, r.salt[:], r.leaf[:]
		metadata[i], payloads[i] = r.metadata, r.payload
	}
	q.Queue(`
		INSERT INTO events (position, version, recorded_at, event_id, schema, stream, type, salt, leaf_hash, metadata, payload)
		SELECT position, version, $3::timestamptz, event_id, schema, stream, type, salt, leaf_hash, metadata, payload
		  FROM unnest($1::bigint[], $2::bigint[], $4::uuid[], $5::integer[], $6::text[], $7::text[], $8::bytea[], $9::bytea[],
		              $10::bytea[], $11::bytea[])
		    AS e (position, version, event_id, schema, stream, type, salt, leaf_hash, metadata, payload)
	`, positions, versions, pl.recordedAt, ids, schemas, streams, types, salts, leaves, metadata, payloads)
}

// queueStreams writes the new version of each stream the plan's rows are in.
func queueStreams(q *pgx.Batch, pl *plan) {
	last := make(map[string]int, len(pl.versions))
	for i := range pl.rows {
		last[pl.rows[i].stream] = i
	}
	names, versions, positions := make([]string, 0, len(last)), make([]int64, 0, len(last)), make([]int64, 0, len(last))
	for name, i := range last {
		names = append(names, name)
		versions = append(versions, pl.rows[i].version)
		positions = append(positions, int64(pl.rows[i].position))
	}
	q.Queue(`
		INSERT INTO streams (stream, version, position)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
		    ON CONFLICT (stream) DO UPDATE SET version = excluded.version, position = excluded.position
	`, names, versions, positions)
}

const copyStatement = `COPY events (position, version, recorded_at, event_id, schema, stream, type, salt, leaf_hash, metadata, payload)
	FROM STDIN (FORMAT binary)`

// copySignature is the format's signature, no flags, and no header extension.
const copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// queryCanceled is the code of the error for a COPY that its client ended. (PostgreSQL documentation, appendix A.)
const queryCanceled = "57014"

// copyChunk is how much is sent at once.
const copyChunk = 32 << 10

// leafWriter computes the leaf hashes of a plan's rows, in order, and adds them to the tree.
type leafWriter struct {
	plan   *plan
	tree   tree
	hasher leafHasher
}

func (w *leafWriter) next(r *row) error {
	r.leaf = w.hasher.hash(leafRecord{
		position: r.position, version: r.version, recordedAt: w.plan.recordedAt, id: r.id, schema: r.schema,
		stream: r.stream, eventType: r.eventType, metadata: r.metadata, payload: r.payload, salt: r.salt,
	})
	return w.tree.add(r.leaf)
}

// copier encodes rows for COPY in PostgreSQL's binary format (PostgreSQL documentation, COPY, "Binary Format") as they
// are read from it. Each row's leaf is computed then, so that PostgreSQL stores the first rows while the last are hashed.
type copier struct {
	rows   []row
	leaves *leafWriter
	buffer []byte // encoded; from sent on not read yet
	sent   int
	ended  bool
	failed error
}

// copyRows writes many rows. The copier is this flush's own: after the connection's loss pgx may still read from it for a
// moment, while the rows are being flushed again.
func copyRows(ctx context.Context, conn *pgx.Conn, pl *plan, leaves *leafWriter) error {
	c := &copier{rows: pl.rows, leaves: leaves, buffer: append(make([]byte, 0, 2*copyChunk), copySignature...)}
	_, err := conn.PgConn().CopyFrom(ctx, c, copyStatement)
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == queryCanceled && !conn.IsClosed() && c.failed != nil {
		return damagedHead(c.failed) // PostgreSQL only says that it was told to stop
	}
	return fmt.Errorf("copy events: %w", err)
}

func (c *copier) Read(p []byte) (int, error) {
	if c.sent == len(c.buffer) {
		c.buffer, c.sent = c.buffer[:0], 0
	}
	for len(c.buffer) < copyChunk && len(c.rows) > 0 {
		if c.failed = c.leaves.next(&c.rows[0]); c.failed != nil {
			return 0, c.failed
		}
		c.encode(&c.rows[0])
		c.rows = c.rows[1:]
	}
	if len(c.rows) == 0 && !c.ended {
		c.buffer = binary.BigEndian.AppendUint16(c.buffer, 0xffff)
		c.ended = true
	}
	if c.sent == len(c.buffer) {
		return 0, io.EOF
	}
	n := copy(p, c.buffer[c.sent:])
	c.sent += n
	return n, nil
}

func (c *copier) encode(r *row) {
	b := binary.BigEndian.AppendUint16(c.buffer, 11)
	b = copyInt64(b, uint64(r.position))
	b = copyInt64(b, uint64(r.version))
	b = copyInt64(b, uint64(sincePostgresEpoch(c.leaves.plan.recordedAt)))
	b = copyBytes(b, r.id[:])
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(r.schema))
	b = copyBytes(b, r.stream)
	b = copyBytes(b, r.eventType)
	b = copyBytes(b, r.salt[:])
	b = copyBytes(b, r.leaf[:])
	b = copyBytes(b, r.metadata)
	c.buffer = copyBytes(b, r.payload)
}

func copyInt64(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), v)
}

func copyBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// postgresEpoch is what PostgreSQL counts timestamps from, in microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func sincePostgresEpoch(t time.Time) int64 { return t.UnixMicro() - postgresEpoch.UnixMicro() }
