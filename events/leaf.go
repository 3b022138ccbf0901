package events

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// leafVersion begins every record, so that another layout can be told apart and can't collide with this one.
const leafVersion = 1

// leafRecord is what of an event is hashed: every column of its row but the hash itself.
type leafRecord struct {
	position   Position
	version    int64
	recordedAt time.Time
	id         [16]byte
	schema     int
	stream     string
	eventType  string
	metadata   []byte
	payload    []byte
	salt       [16]byte
}

// appendTo appends the canonical record, by which anyone can check an event against the tree:
//
//	byte    1
//	uint64  position
//	uint64  version in the stream
//	int64   recorded time, microseconds since 1970-01-01T00:00:00Z
//	uint32  schema version
//	16 bytes event id
//	uint32 length and bytes, each: stream, type, metadata, payload
//	16 bytes salt
//
// Numbers are big-endian. Lengths make it impossible that two different events have the same record.
func (r leafRecord) appendTo(b []byte) []byte {
	b = append(b, leafVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.position))
	b = binary.BigEndian.AppendUint64(b, uint64(r.version))
	b = binary.BigEndian.AppendUint64(b, uint64(r.recordedAt.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.schema))
	b = append(b, r.id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.stream)))
	b = append(b, r.stream...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.eventType)))
	b = append(b, r.eventType...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.metadata)))
	b = append(b, r.metadata...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.payload)))
	b = append(b, r.payload...)
	return append(b, r.salt[:]...)
}

// leafHasher computes leaf hashes and keeps the memory it needs between them.
type leafHasher struct{ buffer []byte }

// hash is RFC 6962 section 2.1: SHA-256(0x00 || record). The prefix keeps a leaf from passing for an inner node.
func (h *leafHasher) hash(r leafRecord) [sha256.Size]byte {
	h.buffer = r.appendTo(append(h.buffer[:0], 0x00))
	return sha256.Sum256(h.buffer)
}
