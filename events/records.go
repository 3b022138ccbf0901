package events

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

// Record is everything of an event that is hashed, as it was hashed: nothing in it is decoded.
type Record struct {
	Position   Position
	Version    int64 // in its stream, from 1
	RecordedAt time.Time
	ID         [16]byte
	Schema     int
	Stream     string
	Type       string
	Metadata   []byte
	Payload    []byte
	Salt       [16]byte
}

func (r Record) leaf() leafRecord {
	return leafRecord{
		position: r.Position, version: r.Version, recordedAt: r.RecordedAt, id: r.ID, schema: r.Schema,
		stream: r.Stream, eventType: r.Type, metadata: r.Metadata, payload: r.Payload, salt: r.Salt,
	}
}

// Encode returns the canonical record, whose RFC 6962 leaf hash is the event's leaf (layout: leaf.go).
func (r Record) Encode() []byte { return r.leaf().appendTo(nil) }

// LeafHash returns the leaf hash of the record.
func (r Record) LeafHash() [32]byte {
	var h leafHasher
	return h.hash(r.leaf())
}

// ParseRecord reads what [Record.Encode] returns, and nothing else. It returns an Invalid error for other bytes.
func ParseRecord(b []byte) (Record, error) {
	const op = "events.ParseRecord"
	p := recordParser{rest: b}
	if version := p.take(1); p.short || version[0] != leafVersion {
		return Record{}, domain.Errorf(domain.Invalid, op, "the record has no layout that is known").
			WithHint("a newer version of crossbill may know it")
	}
	position, version, recorded := p.uint64(), p.uint64(), p.uint64()
	r := Record{Schema: int(p.uint32())}
	copy(r.ID[:], p.take(16))
	r.Stream, r.Type = string(p.bytes()), string(p.bytes())
	r.Metadata, r.Payload = p.bytes(), p.bytes()
	copy(r.Salt[:], p.take(16))
	if p.short || len(p.rest) != 0 || position > math.MaxInt64 || version > math.MaxInt64 {
		return Record{}, domain.Errorf(domain.Invalid, op, "the record is cut short, too long or out of range")
	}
	r.Position, r.Version, r.RecordedAt = Position(position), int64(version), time.UnixMicro(int64(recorded)).UTC()
	return r, nil
}

// recordParser takes a record apart. Once something is missing it is short and gives zeros.
type recordParser struct {
	rest  []byte
	short bool
}

func (p *recordParser) take(n uint32) []byte {
	if p.short || uint64(n) > uint64(len(p.rest)) {
		p.short = true
		return make([]byte, min(n, 16))
	}
	taken := p.rest[:n:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *recordParser) uint64() uint64 { return binary.BigEndian.Uint64(p.take(8)) }
func (p *recordParser) uint32() uint32 { return binary.BigEndian.Uint32(p.take(4)) }
func (p *recordParser) bytes() []byte  { return p.take(p.uint32()) }

// StoredRecord is an event as it is stored. Nothing about it was checked.
type StoredRecord struct {
	Record
	LeafHash []byte // that is stored beside it
}

// Records reads events as they are stored, for whoever verifies or proves them. Where they are stored is its matter.
type Records interface {
	// Range calls each with the events at the positions from first to last, in order, and passes on its error. What is
	// missing is left out without an error: who needs every one counts. The event's memory is each's to keep.
	Range(ctx context.Context, first, last Position, each func(StoredRecord) error) error
	// Leaves returns the stored leaf hashes from first to last, one after the other. It returns a Conflict error that
	// names a position if not all are there.
	Leaves(ctx context.Context, first, last Position) ([]byte, error)
	// Stream returns the positions of a stream's events, in order of version, none past last and at most limit. It returns
	// a Conflict error if a version is missing.
	Stream(ctx context.Context, stream string, last Position, limit int) ([]Position, error)
}

// RecordsIn returns the events of a database. If it comes to events that are in archives, it returns an Unavailable error:
// then [ArchivedRecordsIn] is what is needed.
func RecordsIn(pool *pgxpool.Pool) Records { return ArchivedRecordsIn(pool, "") }

type tableRecords struct{ pool *pgxpool.Pool }

func (t tableRecords) Range(ctx context.Context, first, last Position, each func(StoredRecord) error) error {
	rows, err := t.pool.Query(ctx, `
		SELECT position, version, recorded_at, event_id, schema, stream, type, metadata, payload, salt, leaf_hash
		  FROM events
		 WHERE position >= $1 AND position <= $2
		 ORDER BY position -- primary key
	`, first, last)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	for next := first; rows.Next(); next++ {
		var r StoredRecord
		var salt []byte
		err := rows.Scan(&r.Position, &r.Version, &r.RecordedAt, &r.ID, &r.Schema, &r.Stream, &r.Type, &r.Metadata, &r.Payload, &salt, &r.LeafHash)
		if err != nil {
			return broken("the event at position %d can't be read: %w", next, err)
		}
		if len(salt) != len(r.Salt) {
			return broken("the event at position %d has a salt of %d bytes, not %d", r.Position, len(salt), len(r.Salt))
		}
		r.Salt, r.RecordedAt = [16]byte(salt), r.RecordedAt.UTC()
		if err := each(r); err != nil {
			return err
		}
		next = r.Position
	}
	if err := rows.Err(); err != nil {
		return unreadable(ctx, err)
	}
	return nil
}

func (t tableRecords) Leaves(ctx context.Context, first, last Position) ([]byte, error) {
	var leaves []byte
	var whole bool
	err := t.pool.QueryRow(ctx, `
		SELECT count(*) = $2 - $1 + 1 AND bool_and(length(leaf_hash) = 32), string_agg(leaf_hash, '')
		  FROM (SELECT leaf_hash FROM events WHERE position >= $1 AND position <= $2 ORDER BY position) e -- primary key
	`, int64(first), int64(last)).Scan(&whole, &leaves)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	if whole {
		return leaves, nil
	}
	next := first
	err = t.Range(ctx, first, last, func(r StoredRecord) error {
		if r.Position != next || len(r.LeafHash) != 32 {
			return errStop
		}
		next++
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	return nil, broken("the event at position %d is missing or has no leaf hash", next)
}

var errStop = errors.New("stop")
