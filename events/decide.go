package events

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"crossbill/domain"
)

// plan is what one flush makes of its appends: pure decisions over what was read under the head row's lock. Appends are
// decided in the order they came, each on top of the accepted ones before it.
type plan struct {
	position   Position           // of the last event, accepted ones included
	recordedAt time.Time          // of every event of this flush
	versions   map[string]int64   // of every stream the flush touches; missing: no events
	seen       map[[16]byte]known // events whose id some append of the flush has
	rows       []row
}

// known is an event that has been recorded, or accepted earlier in this flush.
type known struct {
	position  Position
	stream    string
	eventType string
	schema    int
	payload   []byte
	salt      [16]byte
	archived  []byte // nil, or the digest of an archived event, of which nothing else is known but its position
	unread    error  // why more, which was needed, is not known of an archived event
}

// says reports whether the known event is the one that is to be appended to a stream.
func (k *known) says(stream string, e *pendingEvent) bool {
	if k.archived == nil {
		return k.stream == stream && e.same(k.eventType, k.schema, k.payload)
	}
	digest := saidDigest(stream, e.eventType, e.schema, e.payload)
	return string(k.archived) == string(digest[:])
}

// saidDigest stands for what an archived event said, as far as a repetition must say the same: SHA-256 over its stream
// and type, each after its length as uint32, the schema as uint32, and the payload.
func saidDigest(stream, eventType string, schema int, payload []byte) [sha256.Size]byte {
	b := make([]byte, 0, len(stream)+len(eventType)+len(payload)+12)
	for _, s := range []string{stream, eventType} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(schema))
	return sha256.Sum256(append(b, payload...))
}

// row is an event that is going to be written.
type row struct {
	*pendingEvent
	stream   string
	position Position
	version  int64
	leaf     [32]byte
}

// judge decides an append without changing the plan. It is settled if it was recorded before, and then result says
// where; otherwise it may be taken, unless there is an error.
func (pl *plan) judge(p *pending) (result Result, settled bool, err error) {
	if result, settled, err = pl.repetition(p); settled || err != nil {
		return result, settled, err
	}
	if p.refused {
		return Result{}, false, erasedSubject("events.Append")
	}
	return Result{}, false, pl.checkVersions(p)
}

// repetition looks the event ids up. It returns a Conflict error if an id stands for another event, or if only some of
// the events are there: then the append is neither new nor a repetition.
func (pl *plan) repetition(p *pending) (result Result, found bool, err error) {
	const op = "events.Append"
	if len(pl.seen) == 0 {
		return Result{}, false, nil
	}
	matches, ours := 0, true
	for _, s := range p.streams {
		for i := range s.events {
			e := &s.events[i]
			k, ok := pl.seen[e.id]
			if !ok {
				continue
			}
			if k.unread != nil {
				return Result{}, false, k.unread
			}
			if !k.says(s.name, e) {
				return Result{}, false, domain.Errorf(domain.Conflict, op, "the event id %x is that of another event, at position %d", e.id, k.position).
					WithHint("an id names one event for good; take a new one")
			}
			if k.position <= result.Last {
				return Result{}, false, domain.Errorf(domain.Conflict, op, "the events are recorded in another order").
					WithHint("repeat an append as it was, or take new ids")
			}
			if matches == 0 {
				result.First = k.position
			}
			result.Last = k.position
			ours = ours && k.salt == e.salt
			matches++
		}
	}
	switch matches {
	case 0:
		return Result{}, false, nil
	case p.events:
		// The salt is drawn once for each append: the same one means that an earlier attempt of this very flush was
		// committed although the answer got lost.
		result.Duplicate = !ours
		return result, true, nil
	}
	return Result{}, false, domain.Errorf(domain.Conflict, op, "%d of the append's %d events are recorded already", matches, p.events).
		WithHint("repeat an append as it was, or take new ids")
}

// checkVersions returns a Conflict error caused by a [VersionConflict] if a stream is not where the append expects it.
func (pl *plan) checkVersions(p *pending) error {
	var moved map[string]int64 // by this append itself
	for i, s := range p.streams {
		actual, own := moved[s.name]
		if !own {
			actual = pl.versions[s.name]
		}
		ok := false
		switch s.expected {
		case Any:
			ok = true
		case StreamExists:
			ok = actual > 0
		default:
			ok = actual == int64(s.expected)
		}
		if !ok {
			cause := &VersionConflict{s.name, s.expected, actual}
			return domain.Errorf(domain.Conflict, "events.Append", "the stream is not at the version that was expected: %w", cause).
				WithHint("load the stream again and decide anew")
		}
		if i+1 < len(p.streams) {
			if moved == nil {
				moved = make(map[string]int64, len(p.streams))
			}
			moved[s.name] = actual + int64(len(s.events))
		}
	}
	return nil
}

// take adds an accepted append's events to the plan and returns where they are going to be.
func (pl *plan) take(p *pending) Result {
	result := Result{First: pl.position + 1}
	for _, s := range p.streams {
		version := pl.versions[s.name]
		for i := range s.events {
			e := &s.events[i]
			pl.position++
			version++
			pl.rows = append(pl.rows, row{pendingEvent: e, stream: s.name, position: pl.position, version: version})
			if p.given {
				pl.seen[e.id] = known{pl.position, s.name, e.eventType, e.schema, e.payload, e.salt, nil, nil}
			}
		}
		pl.versions[s.name] = version
	}
	result.Last = pl.position
	return result
}
