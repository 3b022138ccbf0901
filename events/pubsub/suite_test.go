package pubsub

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/pgtest"
)

// TestSuiteWithGroup and TestSuiteWithoutGroup are Watermill's universal suite, in full, over one log that two nodes
// have open. What of it is skipped is what the adapter does not declare:
//   - exactly-once delivery: a message comes again if the process ends before its checkpoint has moved;
//   - a context that goes from the publisher to the subscriber: between them is a log, and perhaps a year;
//   - a restart of the server by a command: that is TestThreeProcesses of package events, and TestReconnects here;
//   - to a group, messages that the group has acknowledged; without a group, groups.
func TestSuiteWithGroup(t *testing.T) {
	t.Parallel()
	nodes := openNodes(t)
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:  true,
		GuaranteedOrder: true,
		Persistent:      true,
	}, nodes.constructor("suite"), nodes.constructorOf)
}

func TestSuiteWithoutGroup(t *testing.T) {
	t.Parallel()
	nodes := openNodes(t)
	tests.TestPubSub(t, tests.Features{
		GuaranteedOrder:                  true,
		Persistent:                       true,
		NewSubscriberReceivesOldMessages: true,
	}, nodes.constructor(""), nodes.constructorOf)
}

// nodes are two nodes of a log, that constructors take by turns.
type nodes struct {
	logs [2]*events.Log
	turn atomic.Int64
}

func openNodes(t *testing.T) *nodes {
	t.Helper()
	if !testing.Verbose() {
		log.SetOutput(io.Discard) // the suite writes a line for much of what it does
	}
	pool := pgtest.New(t)
	codec, err := events.NewCodec([]domain.Event{carried{}})
	if err != nil {
		t.Fatal(err)
	}
	n := &nodes{}
	for i := range n.logs {
		if n.logs[i], err = events.Open(t.Context(), pool, codec, events.Options{Logger: quiet}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.logs[i].Close)
	}
	return n
}

func (n *nodes) constructor(group string) tests.PubSubConstructor {
	return func(t *testing.T) (message.Publisher, message.Subscriber) { return n.constructorOf(t, group) }
}

func (n *nodes) constructorOf(_ *testing.T, group string) (message.Publisher, message.Subscriber) {
	l := n.logs[n.turn.Add(1)%2]
	return &carrier{log: l}, renaming{NewSubscriber(l, Options{Group: group, Message: carriedMessage, LongestPause: nackPause, Logger: quiet})}
}

var quiet = slog.New(slog.DiscardHandler)

// renaming takes the suite's topics, which have dashes, for categories, which have none.
type renaming struct{ *Subscriber }

func (s renaming) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return s.Subscriber.Subscribe(ctx, categoryOf(topic))
}

func categoryOf(topic string) string { return strings.ReplaceAll(topic, "-", "_") }

// carried is a message as an event. Crossbill has no such thing: what is in its log was decided, and not sent to it.
type carried struct {
	UUID     string           `json:"uuid"`
	Payload  []byte           `json:"payload"`
	Metadata message.Metadata `json:"metadata"`
}

func (carried) EventType() string { return "test.carried" }

func carriedMessage(e events.Recorded) *message.Message {
	c := e.Event.(carried)
	m := message.NewMessage(c.UUID, c.Payload)
	m.Metadata = maps.Clone(c.Metadata)
	return m
}

// carrier publishes messages by appending them to the log. The suite publishes messages of the same UUID to several
// topics, so the event's id is made of both; to publish one again changes nothing.
type carrier struct {
	log    *events.Log
	closed atomic.Bool
}

func (c *carrier) Publish(topic string, messages ...*message.Message) error {
	if c.closed.Load() {
		return errors.New("the publisher is closed")
	}
	s := events.StreamAppend{Stream: categoryOf(topic) + "-all", Expected: events.Any}
	for _, m := range messages {
		s.Events = append(s.Events, events.NewEvent{
			ID: domain.DeriveEventID("carried", topic, m.UUID), Event: carried{m.UUID, m.Payload, m.Metadata},
		})
	}
	_, err := c.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{s}})
	return err
}

func (c *carrier) Close() error { c.closed.Store(true); return nil }

// TestReconnects cuts every connection again and again while a group reads: it gets everything, in order, and of each
// interruption at most the message that was on its way again.
func TestReconnects(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	const total = 300
	say(t, l, "talk-a", total)
	c := subscribe(t, NewSubscriber(l, Options{Group: "g", Logger: quiet}), "talk")
	last, again, cuts := 0, 0, 0
	for last < total {
		m := next(t, c)
		switch position := positionOf(t, m); {
		case position == last+1:
			last = position
			if last%60 == 30 {
				if _, err := pool.Exec(t.Context(), `
					SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
				`); err != nil {
					t.Fatal(err)
				}
				cuts++
			}
		case position <= last:
			again++
		default:
			t.Fatalf("position %d after %d", position, last)
		}
		m.Ack()
	}
	if again > cuts {
		t.Errorf("%d messages came again after %d cuts", again, cuts)
	}
}
