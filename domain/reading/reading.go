// Package reading is what the meters of edge nodes counted, each reading a fact that is never changed.
//
// It never adds readings up and never prices them. Start reading at [Recorded], then [Decide].
package reading

import (
	"encoding/json"
	"strconv"
	"time"

	"crossbill/domain"
)

// Sources of readings.
const (
	SourceEBPF     = "ebpf"     // the kernel's own count
	SourceSoftware = "software" // a stand-in for demonstrations
	SourceProvider = "provider" // the provider's own meter, whose usage events it sends
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

	// Of a provider's own meter, which has no edge node, epoch or sequence: what it calls itself and the reading, as the
	// attributes source and id of its CloudEvent say.
	Meter      string `json:"meter,omitempty"`
	MeterEvent string `json:"meter_event,omitempty"`
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

// UsageEventID is [EventID] for a reading of a provider's own meter.
func UsageEventID(providerID, meter, meterEvent string) [16]byte {
	return domain.DeriveEventID("usage", providerID, meter, meterEvent)
}

// AppendJSON appends what json.Marshal returns, for a log in which nearly everything is readings. (A test holds it to that.)
func (e Recorded) AppendJSON(b []byte) []byte {
	for _, f := range [...]struct{ key, text string }{{`{"edge_node_id":`, e.EdgeNodeID}, {`,"connection_id":`, e.ConnectionID}} {
		b = appendText(append(b, f.key...), f.text)
	}
	b = strconv.AppendInt(append(b, `,"epoch":`...), e.Epoch, 10)
	b = strconv.AppendInt(append(b, `,"sequence":`...), e.Sequence, 10)
	b = append(e.From.AppendFormat(append(b, `,"from":"`...), time.RFC3339Nano), '"')
	b = append(e.To.AppendFormat(append(b, `,"to":"`...), time.RFC3339Nano), '"')
	b = strconv.AppendInt(append(b, `,"bytes_in":`...), e.BytesIn, 10)
	b = strconv.AppendInt(append(b, `,"bytes_out":`...), e.BytesOut, 10)
	b = strconv.AppendInt(append(b, `,"packets_in":`...), e.PacketsIn, 10)
	b = strconv.AppendInt(append(b, `,"packets_out":`...), e.PacketsOut, 10)
	b = strconv.AppendInt(append(b, `,"dropped_in":`...), e.DroppedIn, 10)
	b = strconv.AppendInt(append(b, `,"dropped_out":`...), e.DroppedOut, 10)
	b = appendText(append(b, `,"source":`...), e.Source)
	if e.Meter != "" {
		b = appendText(append(b, `,"meter":`...), e.Meter)
	}
	if e.MeterEvent != "" {
		b = appendText(append(b, `,"meter_event":`...), e.MeterEvent)
	}
	return append(b, '}')
}

// appendText appends a JSON string. What needs no escape is copied; the rest is left to encoding/json.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			encoded, _ := json.Marshal(text) // of a string it never fails
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
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
