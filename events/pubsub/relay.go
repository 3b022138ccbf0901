package pubsub

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"crossbill/domain"
	"crossbill/events"
)

// Relay publishes the log, in order and at least once. Of all processes that run a relay of the same name, one at a
// time publishes.
type Relay struct {
	Log       *events.Log
	Name      string // what its checkpoint is kept under
	Category  string // of the streams to publish; empty for all
	Publisher message.Publisher
	// Topic names the topic an event goes to; "" leaves the event out. If it is nil, the topic is the event's type.
	Topic func(events.Recorded) string
	// Message makes the message of an event; nil: [NewMessage].
	Message func(events.Recorded) *message.Message
}

// Run publishes until ctx ends, and then returns nil. What the publisher refuses is tried again. It returns an Invalid
// error if something is missing, and an Internal one when it comes to an event that can't be decoded.
func (r *Relay) Run(ctx context.Context) error {
	if r.Log == nil || r.Publisher == nil || r.Name == "" {
		return domain.Errorf(domain.Invalid, "pubsub.Relay.Run", "the relay %q has no name, log or publisher", r.Name)
	}
	return r.Log.Subscribe(ctx, events.Subscription{Name: "relay/" + r.Name, Category: r.Category, Handle: r.publish})
}

// publish publishes one event after the other, so that a failure leaves none behind and no later one goes ahead of it.
func (r *Relay) publish(ctx context.Context, batch []events.Recorded) (handled int, err error) {
	for i, e := range batch {
		topic := e.Type
		if r.Topic != nil {
			topic = r.Topic(e)
		}
		if topic == "" {
			continue
		}
		makeMessage := NewMessage
		if r.Message != nil {
			makeMessage = r.Message
		}
		m := makeMessage(e)
		m.SetContext(ctx)
		if err := r.Publisher.Publish(topic, m); err != nil {
			return i, err
		}
	}
	return len(batch), nil
}
