package events

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"
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

// copyBuffer encodes rows for COPY in PostgreSQL's binary format and keeps its memory between flushes.
// (Format: PostgreSQL documentation, COPY, "Binary Format".)
type copyBuffer struct{ b []byte }

const copyStatement = `COPY events (position, version, recorded_at, event_id, schema, stream, type, salt, leaf_hash, metadata, payload)
	FROM STDIN (FORMAT binary)`

// copySignature is the format's signature, no flags, and no header extension.
const copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// copyKeep is how large a buffer is kept for the next flush.
const copyKeep = 4 << 20

// copy writes the plan's rows.
func (c *copyBuffer) copy(ctx context.Context, conn *pgx.Conn, pl *plan) error {
	recorded := uint64(sincePostgresEpoch(pl.recordedAt))
	b := append(c.b[:0], copySignature...)
	for i := range pl.rows {
		r := &pl.rows[i]
		b = binary.BigEndian.AppendUint16(b, 11)
		b = copyInt64(b, uint64(r.position))
		b = copyInt64(b, uint64(r.version))
		b = copyInt64(b, recorded)
		b = copyBytes(b, r.id[:])
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(r.schema))
		b = copyBytes(b, r.stream)
		b = copyBytes(b, r.eventType)
		b = copyBytes(b, r.salt[:])
		b = copyBytes(b, r.leaf[:])
		b = copyBytes(b, r.metadata)
		b = copyBytes(b, r.payload)
	}
	b = binary.BigEndian.AppendUint16(b, 0xffff)
	if cap(b) <= copyKeep {
		c.b = b
	} else {
		c.b = nil
	}
	_, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(b), copyStatement)
	return err
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
