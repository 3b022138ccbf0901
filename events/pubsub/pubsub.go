// Package pubsub carries the log to Watermill: [Subscriber] lets anything written for Watermill follow the log, and
// [Relay] passes the log on to any Watermill publisher (NATS JetStream, Kafka, an HTTP hook).
//
// It only reads. Nothing gets into the log by it, and what it delivers to is fan-out, never truth: delivery is at least
// once, in the log's order. Start reading at [Subscriber].
package pubsub

import (
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"crossbill/events"
)

// TopicAll is the topic of every event. Any other topic is a category of streams.
const TopicAll = "$all"

// Metadata keys of a message. Its UUID is the event's id and its payload the event's, byte for byte.
const (
	KeyPosition    = "position"
	KeyStream      = "stream"
	KeyVersion     = "version"
	KeyType        = "type"
	KeySchema      = "schema"
	KeyRecordedAt  = "recorded_at" // RFC 3339, UTC
	KeyCorrelation = "correlation_id"
	KeyCausation   = "causation_id"
	KeyTraceparent = "traceparent"
)

// NewMessage makes a message of an event. Whom the event concerns and who did it stay behind: what leaves the log by a
// broker is read by others than what leaves it by the API.
func NewMessage(e events.Recorded) *message.Message {
	m := message.NewMessage(uuid.UUID(e.ID).String(), e.Data)
	m.Metadata = message.Metadata{
		KeyPosition: strconv.FormatInt(int64(e.Position), 10), KeyStream: e.Stream, KeyVersion: strconv.FormatInt(e.Version, 10),
		KeyType: e.Type, KeySchema: strconv.Itoa(e.Schema), KeyRecordedAt: e.RecordedAt.Format(time.RFC3339Nano),
	}
	for key, value := range map[string]string{
		KeyCorrelation: e.Metadata.Correlation, KeyCausation: e.Metadata.Causation, KeyTraceparent: e.Metadata.Traceparent,
	} {
		if value != "" {
			m.Metadata[key] = value
		}
	}
	return m
}

func category(topic string) string {
	if topic == TopicAll {
		return ""
	}
	return topic
}
