package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// Append is a set of events that is recorded whole or not at all.
type Append struct {
	Streams []StreamAppend
	// Ask, if set, runs in the transaction that records the events, after their versions were found right and before
	// they are written. An error from it rejects this append and undoes what it wrote; no other append is touched. It is
	// for what the log itself can't hold: that a name is unique, that a request was answered.
	//
	// All appends of all nodes wait while it runs. It must be a few keyed statements on tx and nothing else: not use
	// another connection, not append, not end tx, and not take longer than [AskTimeout]. It runs again if its flush has
	// to be repeated, and does not run for a duplicate.
	Ask func(ctx context.Context, tx pgx.Tx) error
}

// StreamAppend is the events for one stream, in order. A stream may occur more than once in an append.
type StreamAppend struct {
	Stream   string // "<category>-<id>"
	Expected ExpectedVersion
	Events   []NewEvent
}

// Result says where an append is in the log.
type Result struct {
	First, Last Position
	// Duplicate is true if the events had been recorded before by their ids; First and Last are where.
	Duplicate bool
}

// VersionConflict is the cause of the Conflict error of an append whose stream is not at the version it expected.
type VersionConflict struct {
	Stream   string
	Expected ExpectedVersion
	Actual   int64 // 0: the stream has no events
}

func (e *VersionConflict) Error() string {
	expected := fmt.Sprintf("version %d", e.Expected)
	switch e.Expected {
	case NoStream:
		expected = "no events"
	case StreamExists:
		expected = "at least one event"
	}
	return fmt.Sprintf("stream %s was expected to have %s and is at version %d", e.Stream, expected, e.Actual)
}

// pending is an append on its way through the queue: everything that needs no knowledge of the log is done.
type pending struct {
	streams []pendingStream
	ask     func(ctx context.Context, tx pgx.Tx) error
	events  int // in all streams
	bytes   int
	given   bool // some event id came from the caller and may have been seen before
	refused bool // it has texts about an erased subject: it is a repetition or nothing

	state    atomic.Int32 // queued, then taken or withdrawn
	outcome  chan outcome // of capacity 1: the sequencer never waits for a caller
	done     bool         // the sequencer has sent the outcome; only it looks
	askLosts int          // how often the connection was lost while its ask ran
}

// States of a pending append. Whoever moves it away from queued decides: the sequencer by taking it, after which only
// the database says what becomes of it, or its caller by withdrawing it, after which nothing does.
const (
	queued int32 = iota
	taken
	withdrawn
)

type outcome struct {
	result Result
	err    error
}

type pendingStream struct {
	name     string
	expected ExpectedVersion
	events   []pendingEvent
}

type pendingEvent struct {
	id        [16]byte
	eventType string
	schema    int
	metadata  []byte
	payload   []byte
	salt      [16]byte
	sameBut   func(recorded []byte) bool // nil: the payloads' bytes are compared
}

// prepare checks an append and encodes it, in the caller's own goroutine.
func prepare(a Append, codec *Codec, now time.Time, random io.Reader) (*pending, error) {
	const op = "events.Append"
	p := &pending{ask: a.Ask, outcome: make(chan outcome, 1), streams: make([]pendingStream, len(a.Streams))}
	if len(a.Streams) > MaxStreamsPerAppend {
		return nil, domain.Errorf(domain.Invalid, op, "an append to %d streams; the limit is %d", len(a.Streams), MaxStreamsPerAppend)
	}
	for _, s := range a.Streams {
		if err := checkStream(op, s.Stream); err != nil {
			return nil, err
		}
		if s.Expected < StreamExists {
			return nil, domain.Errorf(domain.Invalid, op, "%d is no expected version", s.Expected)
		}
		p.events += len(s.Events)
	}
	if p.events == 0 || p.events > MaxEventsPerAppend {
		return nil, domain.Errorf(domain.Invalid, op, "an append of %d events; from 1 to %d are allowed", p.events, MaxEventsPerAppend)
	}
	salts := make([]byte, 16*p.events)
	if _, err := io.ReadFull(random, salts); err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the random source failed: %w", err)
	}
	encoder := metadataEncoder{}
	for i, s := range a.Streams {
		encoded := make([]pendingEvent, len(s.Events))
		for j, e := range s.Events {
			event := &encoded[j]
			var err error
			if event.eventType, event.schema, event.payload, err = codec.Encode(e.Event); err != nil {
				return nil, err
			}
			if event.metadata, err = encoder.encode(e.Metadata); err != nil {
				return nil, err
			}
			if len(event.payload) > MaxPayload || len(event.metadata) > MaxMetadata {
				return nil, domain.Errorf(domain.Invalid, op, "%s has %d bytes of payload and %d of metadata; the limits are %d and %d",
					event.eventType, len(event.payload), len(event.metadata), MaxPayload, MaxMetadata)
			}
			if event.id = e.ID; event.id == ([16]byte{}) {
				if event.id, err = domain.NewEventID(now, random); err != nil {
					return nil, err
				}
			} else {
				p.given = true
			}
			event.salt = [16]byte(salts)
			salts = salts[16:]
			p.bytes += len(event.payload) + len(event.metadata)
		}
		p.streams[i] = pendingStream{strings.Clone(s.Stream), s.Expected, encoded}
	}
	if p.bytes > MaxAppendBytes {
		return nil, domain.Errorf(domain.Invalid, op, "an append of %d bytes; the limit is %d", p.bytes, MaxAppendBytes)
	}
	return p, p.checkIDs()
}

// checkIDs refuses an id that occurs twice: one of the two could never be recorded.
func (p *pending) checkIDs() error {
	if !p.given || p.events == 1 {
		return nil
	}
	seen := make(map[[16]byte]bool, p.events)
	for _, s := range p.streams {
		for _, e := range s.events {
			if seen[e.id] {
				return domain.Errorf(domain.Invalid, "events.Append", "the event id %x occurs twice in one append", e.id)
			}
			seen[e.id] = true
		}
	}
	return nil
}

// finish tells the caller.
func (p *pending) finish(r Result, err error) {
	if p.done {
		return
	}
	p.done = true
	p.outcome <- outcome{r, err}
}

// checkStream holds a stream's name to "<category>-<id>", in characters that any tool can print.
func checkStream(op, name string) error {
	category, id, dashed := strings.Cut(name, "-")
	switch {
	case !dashed || category == "" || id == "":
		return domain.Errorf(domain.Invalid, op, "%.60q is no stream name", name).WithHint("a stream is called <category>-<id>")
	case len(name) > MaxStreamName:
		return domain.Errorf(domain.Invalid, op, "the stream name %.60q… has %d bytes; the limit is %d", name, len(name), MaxStreamName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return domain.Errorf(domain.Invalid, op, "the stream name %.60q has characters that can't be printed", name)
	}
	return nil
}

// metadataEncoder encodes metadata, once for events in a row that have the same.
type metadataEncoder struct {
	last    Metadata
	encoded []byte
}

func (e *metadataEncoder) encode(m Metadata) ([]byte, error) {
	if e.encoded != nil && e.last.equal(m) {
		return e.encoded, nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "events.Append", "the metadata has no JSON: %w", err)
	}
	e.last, e.encoded = m, b
	return b, nil
}

func (m Metadata) equal(o Metadata) bool {
	return m.Actor == o.Actor && m.Correlation == o.Correlation && m.Causation == o.Causation &&
		m.Traceparent == o.Traceparent && m.OnBehalfOf == o.OnBehalfOf && m.Reason == o.Reason && slices.Equal(m.Parties, o.Parties)
}

// same reports whether two events say the same. Metadata may differ: a repetition has another trace.
func (e *pendingEvent) same(eventType string, schema int, payload []byte) bool {
	if e.eventType != eventType || e.schema != schema {
		return false
	}
	return bytes.Equal(e.payload, payload) || e.sameBut != nil && e.sameBut(payload)
}
