// Package events is the log: the append-only, tamper-evident history that everything else in Crossbill is derived from.
//
// One row of PostgreSQL, the head, orders all appends. Whoever holds it knows every position before it commits, so the
// log has no gaps and a reader that has seen position n has seen all before n. Appends that arrive while one flush
// commits go into the next together (group commit), each with its own outcome. Every event is a leaf of a Merkle tree
// (RFC 6962), whose root the head carries and [Log.Checkpoint] signs.
//
// The package never decides what may happen (that is domain's work), never changes or removes an event, and never skips
// one it can't decode. Start reading at [Log.Append] in log.go, then sequencer.go, where all the writing is.
package events

import (
	"time"

	"crossbill/domain"
)

// Position is an event's place in the log: 1 for the first, without gaps. 0 is before the first.
type Position int64

// ExpectedVersion says what the writer takes the stream's version to be. A positive number is that exact version.
type ExpectedVersion int64

// Expectations that are no exact version.
const (
	NoStream     ExpectedVersion = 0  // the stream has no events
	Any          ExpectedVersion = -1 // whatever it is
	StreamExists ExpectedVersion = -2 // at least one event
)

// Limits. They bound memory and the time the head is locked; none is meant to be met in ordinary work.
const (
	MaxEventsPerAppend  = 5000
	MaxStreamsPerAppend = 1000
	MaxStreamName       = 200      // bytes
	MaxPayload          = 1 << 20  // bytes, of one event
	MaxMetadata         = 16 << 10 // bytes, of one event
	MaxAppendBytes      = 16 << 20 // payload and metadata of one append
	MaxRead             = 10_000   // events, in one call
)

// Metadata says how an event came about and whom it concerns. It is hashed with the event and can't be changed either.
type Metadata struct {
	Actor       string   `json:"actor,omitempty"`       // who did it
	Correlation string   `json:"correlation,omitempty"` // the conversation it belongs to
	Causation   string   `json:"causation,omitempty"`   // the event or command it follows from
	Traceparent string   `json:"traceparent,omitempty"` // W3C Trace Context
	Parties     []string `json:"parties,omitempty"`     // the organisations that may see it

	OnBehalfOf string `json:"on_behalf_of,omitempty"` // for whom the actor says to have done it: a pseudonym
	Reason     string `json:"reason,omitempty"`       // why, in the actor's words
}

// NewEvent is an event to append.
type NewEvent struct {
	// ID makes an append repeatable: the same id with the same payload in the same stream is recorded once.
	// The log mints one for the zero ID, and then a repetition is another event.
	ID       [16]byte
	Event    domain.Event
	Metadata Metadata
}

// Recorded is an event as it stands in the log.
type Recorded struct {
	Position   Position
	ID         [16]byte
	Stream     string
	Version    int64 // in its stream, from 1
	Type       string
	Schema     int    // the shape Data has; Event may be of a newer one
	Data       []byte // the payload's JSON exactly as it was hashed
	Metadata   Metadata
	RecordedAt time.Time // UTC, microseconds; never earlier than the event before
	Salt       [16]byte
	LeafHash   [32]byte
	Event      domain.Event
}

// Head is the state of the log: how many events, and the root of the Merkle tree over them.
type Head struct {
	Position Position
	Root     [32]byte
}
