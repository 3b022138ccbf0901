package events

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// recordedScan reads rows of selectRecorded. It keeps the last metadata and the last stream's name: events in a row often
// share theirs.
type recordedScan struct {
	codec   *Codec
	raw     []byte
	decoded Metadata
	stream  string
	hasher  leafHasher
}

// selectRecorded's columns, in its order.
const (
	atPosition = iota
	atID
	atStream
	atVersion
	atType
	atSchema
	atPayload
	atMetadata
	atRecorded
	atSalt
	atLeaf
	recordedColumns
)

// scan reads a row into r, which is zero.
func (s *recordedScan) scan(rows pgx.Rows, r *Recorded) (err error) {
	if raw := rows.RawValues(); isBinary(rows, raw) {
		return s.scanBinary(raw, r)
	}
	var metadata, salt, leaf []byte
	err = rows.Scan(&r.Position, &r.ID, &r.Stream, &r.Version, &r.Type, &r.Schema, &r.Data, &metadata, &r.RecordedAt, &salt, &leaf)
	if err != nil {
		return err
	}
	copy(r.Salt[:], salt)
	copy(r.LeafHash[:], leaf)
	r.RecordedAt = r.RecordedAt.UTC()
	r.Metadata, err = s.metadata(metadata)
	return err
}

// isBinary reports whether a row came in PostgreSQL's binary format with every value as long as it should be. It does
// whenever statements are prepared; a pool that is set to the simple protocol, for a proxy, gets text.
func isBinary(rows pgx.Rows, raw [][]byte) bool {
	for i, f := range rows.FieldDescriptions() {
		if f.Format != pgx.BinaryFormatCode && i != atStream && i != atType { // a text's bytes are the same in both
			return false
		}
	}
	for _, v := range raw {
		if v == nil {
			return false
		}
	}
	return len(raw) == recordedColumns && len(raw[atPosition]) == 8 && len(raw[atID]) == 16 && len(raw[atVersion]) == 8 &&
		len(raw[atSchema]) == 4 && len(raw[atRecorded]) == 8
}

// scanBinary reads a row without the reflection that Scan needs for each value. The row's memory is the connection's, and
// is copied.
func (s *recordedScan) scanBinary(raw [][]byte, r *Recorded) (err error) {
	r.Position = Position(binary.BigEndian.Uint64(raw[atPosition]))
	r.ID = [16]byte(raw[atID])
	if s.stream != string(raw[atStream]) {
		s.stream = string(raw[atStream])
	}
	r.Stream = s.stream
	r.Version = int64(binary.BigEndian.Uint64(raw[atVersion]))
	r.Type = s.codec.nameOf(raw[atType])
	r.Schema = int(int32(binary.BigEndian.Uint32(raw[atSchema])))
	r.Data = bytes.Clone(raw[atPayload])
	r.RecordedAt = time.UnixMicro(int64(binary.BigEndian.Uint64(raw[atRecorded])) + postgresEpoch.UnixMicro()).UTC()
	copy(r.Salt[:], raw[atSalt])
	copy(r.LeafHash[:], raw[atLeaf])
	r.Metadata, err = s.metadata(raw[atMetadata])
	return err
}

// record takes an event from an archive. Its memory is shared with other readers, and is copied.
func (s *recordedScan) record(from Record) (r Recorded, err error) {
	r = Recorded{
		Position: from.Position, ID: from.ID, Stream: from.Stream, Version: from.Version, Type: from.Type, Schema: from.Schema,
		Data: bytes.Clone(from.Payload), RecordedAt: from.RecordedAt, Salt: from.Salt, LeafHash: s.hasher.hash(from.leaf()),
	}
	r.Metadata, err = s.metadata(from.Metadata)
	return r, err
}

// metadata decodes metadata, whose bytes it may not keep.
func (s *recordedScan) metadata(raw []byte) (Metadata, error) {
	if s.raw == nil || string(s.raw) != string(raw) {
		s.decoded = Metadata{}
		if err := json.Unmarshal(raw, &s.decoded); err != nil {
			s.raw = nil
			return Metadata{}, err
		}
		s.raw = bytes.Clone(raw)
	}
	return s.decoded, nil
}
