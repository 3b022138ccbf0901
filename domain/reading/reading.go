// Package reading is what the meters of edge nodes counted, each reading a fact that is never changed.
//
// It never adds readings up and never prices them. Start reading at [Recorded], then [Decide].
package reading

import (
	"strconv"
	"time"

	"crossbill/domain"
)

// Sources of readings.
const (
	SourceEBPF     = "ebpf"     // the kernel's own count
	SourceSoftware = "software" // a stand-in for demonstrations
)

// Recorded is what a meter counted over [From, To) on the edge node's clock: layer-2 bytes without FCS at the customer's
// port. In is from the customer into the platform, out is towards the customer.
//
// It has no receive time: a reading that is delivered twice must be the same event, and the log records the time anyway.
type Recorded struct {
	EdgeNodeID   string    `json:"edge_node_id"`
	ConnectionID string    `json:"connection_id"`
	Epoch        int64     `json:"epoch"` // grows each time the meter loses its counters; a node never uses one twice
	Sequence     int64     `json:"sequence"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	BytesIn      int64     `json:"bytes_in"`
	BytesOut     int64     `json:"bytes_out"`
	PacketsIn    int64     `json:"packets_in"`
	PacketsOut   int64     `json:"packets_out"`
	DroppedIn    int64     `json:"dropped_in"` // packets over the ordered bandwidth; they are not in BytesIn
	DroppedOut   int64     `json:"dropped_out"`
	Source       string    `json:"source"`
}

// EventType is the name in the log.
func (Recorded) EventType() string { return "reading.recorded" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Recorded{}} }

// Stream names the stream of the readings of one connection.
func Stream(connectionID string) string { return "usage-" + connectionID }

// EventID returns the id under which a reading is appended. It is derived from the reading's identity, so that the log
// takes the same reading once and refuses another one under its identity.
func EventID(edgeNodeID, connectionID string, epoch, sequence int64) [16]byte {
	return domain.DeriveEventID("reading", edgeNodeID, connectionID,
		strconv.FormatInt(epoch, 10), strconv.FormatInt(sequence, 10))
}

// State is what the readings of a connection come to. The zero State is no reading.
type State struct {
	ConnectionID string    `json:"connection_id"`
	Readings     int64     `json:"readings"`
	LastTo       time.Time `json:"last_to"` // the end of the newest
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Recorded); ok {
		s.ConnectionID = e.ConnectionID
		s.Readings++
		if e.To.After(s.LastTo) {
			s.LastTo = e.To
		}
	}
	return s
}
