package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"crossbill/domain"
	"crossbill/domain/webhook"
	"crossbill/events"
)

// TypePrefix begins the CloudEvents type of every event; the log's own name follows it.
const TypePrefix = "com.crossbill."

// TestType is the type of what is sent to try a webhook out.
const TestType = "webhook.test"

// Message is what is sent. It stays the same from attempt to attempt, but for time and signature.
type Message struct {
	ID   string
	Type string // the log's name
	Body []byte
}

// cloudEvent is an event in CloudEvents 1.0's JSON format, structured mode. Attributes without a name in the
// specification's core are extensions: sequence and traceparent are documented there, logposition and streamversion are
// ours (strings, because a CloudEvents integer has 32 bits).
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	LogPosition     string          `json:"logposition,omitempty"`
	StreamVersion   string          `json:"streamversion,omitempty"`
	Sequence        string          `json:"sequence,omitempty"`
	Traceparent     string          `json:"traceparent,omitempty"`
	Data            json.RawMessage `json:"data"`
}

// source names the platform's events relative to where they can be read.
const source = "/v1/events"

// MessageOf makes the message of an event. Its data is the event's to the byte as it was hashed.
func MessageOf(e events.Recorded) (Message, error) {
	id := uuid.UUID(e.ID).String()
	body, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: id, Source: source, Type: TypePrefix + e.Type, Subject: e.Stream, Time: e.RecordedAt.Format(time.RFC3339Nano),
		DataContentType: "application/json", LogPosition: strconv.FormatInt(int64(e.Position), 10), StreamVersion: strconv.FormatInt(e.Version, 10),
		Sequence: fmt.Sprintf("%019d", e.Position), Traceparent: e.Metadata.Traceparent, Data: e.Data,
	})
	if err != nil {
		return Message{}, domain.Errorf(domain.Internal, "webhooks.MessageOf", "event %d has no CloudEvent: %w", e.Position, err)
	}
	return Message{ID: id, Type: e.Type, Body: body}, nil
}

// TestMessage makes a message that says nothing.
func TestMessage(id [16]byte, webhookID string, at time.Time) Message {
	name := uuid.UUID(id).String()
	data, _ := json.Marshal(map[string]string{"webhook_id": webhookID})
	body, _ := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: name, Source: source, Type: TypePrefix + TestType, Subject: webhook.Stream(webhookID), Time: at.Format(time.RFC3339Nano),
		DataContentType: "application/json", Data: data,
	})
	return Message{ID: name, Type: TestType, Body: body}
}

// Sign returns the header webhook-signature: for each secret "v1," and base64 of HMAC-SHA256 over "id.timestamp.body", with
// spaces between them (Standard Webhooks, "Signature scheme").
func Sign(secrets []string, id string, at time.Time, body []byte) (string, error) {
	var signatures []string
	for _, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, webhook.SecretPrefix))
		if err != nil || !strings.HasPrefix(secret, webhook.SecretPrefix) {
			return "", domain.Errorf(domain.Internal, "webhooks.Sign", "the webhook's secret can't be read").
				WithHint("restore the keys (crossbill keys restore), or rotate the secret")
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " "), nil
}
