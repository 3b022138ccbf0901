package pubsub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/pgtest"
)

type said struct {
	Text string `json:"text"`
}

func (said) EventType() string { return "test.said" }

func openLog(t *testing.T) (*events.Log, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t)
	return openOn(t, pool), pool
}

func openOn(t *testing.T, pool *pgxpool.Pool) *events.Log {
	t.Helper()
	codec, err := events.NewCodec([]domain.Event{said{}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := events.Open(t.Context(), pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// say appends n events to a stream.
func say(t *testing.T, l *events.Log, stream string, n int) {
	t.Helper()
	s := events.StreamAppend{Stream: stream, Expected: events.Any}
	for i := range n {
		s.Events = append(s.Events, events.NewEvent{Event: said{fmt.Sprint(i)}, Metadata: events.Metadata{Actor: "secret", Correlation: "c"}})
	}
	if _, err := l.Append(context.Background(), events.Append{Streams: []events.StreamAppend{s}}); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t *testing.T, s *Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	c, err := s.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c
}

func next(t *testing.T, c <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, open := <-c:
		if !open {
			t.Fatal("the channel is closed")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message came")
	}
	return nil
}

func positionOf(t *testing.T, m *message.Message) int {
	t.Helper()
	p, err := strconv.Atoi(m.Metadata.Get(KeyPosition))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMessage(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	say(t, l, "talk-a", 1)
	m := next(t, subscribe(t, NewSubscriber(l, Options{}), TopicAll))
	page, err := l.ReadAll(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	e := page[0]
	want := message.Metadata{
		"position": "1", "stream": "talk-a", "version": "1", "type": "test.said", "schema": "1", "correlation_id": "c",
		"recorded_at": e.RecordedAt.Format(time.RFC3339Nano),
	}
	if m.UUID != uuid.UUID(e.ID).String() || string(m.Payload) != string(e.Data) || fmt.Sprint(m.Metadata) != fmt.Sprint(want) {
		t.Errorf("message %s %s %v, want %v", m.UUID, m.Payload, m.Metadata, want)
	}
}

// TestAckAndNack: a message that is not acknowledged comes again, and nothing comes before it is.
func TestAckAndNack(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	say(t, l, "talk-a", 3)
	c := subscribe(t, NewSubscriber(l, Options{}), "talk")
	for want := 1; want <= 3; want++ {
		for range 2 {
			m := next(t, c)
			if got := positionOf(t, m); got != want {
				t.Fatalf("position %d, want %d", got, want)
			}
			select {
			case early := <-c:
				t.Fatalf("position %d came before %d was answered", positionOf(t, early), want)
			case <-time.After(10 * time.Millisecond):
			}
			m.Nack()
		}
		m := next(t, c)
		if got := positionOf(t, m); got != want {
			t.Fatalf("position %d, want %d", got, want)
		}
		m.Ack()
	}
	say(t, l, "talk-b", 1) // while it waits
	m := next(t, c)
	if positionOf(t, m) != 4 {
		t.Errorf("position %d", positionOf(t, m))
	}
	m.Ack()
}

func TestTopics(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	for range 3 {
		say(t, l, "talk-a", 1)
		say(t, l, "other-a", 1)
	}
	for topic, want := range map[string][]int{TopicAll: {3, 4, 5, 6}, "talk": {3, 5}, "other": {4, 6}} {
		c := subscribe(t, NewSubscriber(l, Options{After: 2}), topic)
		var got []int
		for range want {
			m := next(t, c)
			got = append(got, positionOf(t, m))
			m.Ack()
		}
		if !slices.Equal(got, want) {
			t.Errorf("topic %s: %v, want %v", topic, got, want)
		}
	}
	for _, topic := range []string{"", "a-b", "$other"} {
		if _, err := NewSubscriber(l, Options{}).Subscribe(t.Context(), topic); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("topic %q: %v", topic, err)
		}
	}
}

func TestEndOfSubscription(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	say(t, l, "talk-a", 1)
	for _, group := range []string{"", "g"} {
		s := NewSubscriber(l, Options{Group: group})
		ctx, cancel := context.WithCancel(t.Context())
		byContext, err := s.Subscribe(ctx, TopicAll)
		if err != nil {
			t.Fatal(err)
		}
		byClose := subscribe(t, s, "talk")
		unanswered := next(t, byContext)
		cancel()
		requireClosed(t, byContext)
		if unanswered.Context().Err() == nil {
			t.Error("the message's context goes on")
		}
		next(t, byClose)
		s.Close()
		requireClosed(t, byClose)
		if _, err := s.Subscribe(t.Context(), TopicAll); domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("after Close: %v", err)
		}
	}
}

func requireClosed(t *testing.T, c <-chan *message.Message) {
	t.Helper()
	select {
	case m, open := <-c:
		if open {
			t.Errorf("message %v", m.Metadata)
		}
	case <-time.After(10 * time.Second):
		t.Error("the channel stays open")
	}
}

// TestGroup has two nodes share a durable subscription that goes back and forth between them: every message is
// acknowledged in order, and once but for those whose owner went away.
func TestGroup(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	nodes := []*events.Log{l, openOn(t, pool)}
	const total = 60
	say(t, l, "talk-a", total)
	var got []int
	for turn := 0; len(got) < total; turn++ {
		s := NewSubscriber(nodes[turn%2], Options{Group: "g"})
		c := subscribe(t, s, "talk")
		waiting := NewSubscriber(nodes[(turn+1)%2], Options{Group: "g"}) // of the same group, on the other node
		idle := subscribe(t, waiting, "talk")
		for range 1 + rand.IntN(15) {
			if len(got) == total {
				break
			}
			var m *message.Message
			select { // whichever of the two was first
			case m = <-c:
			case m = <-idle:
			case <-time.After(20 * time.Second):
				t.Fatal("no message came")
			}
			got = append(got, positionOf(t, m))
			m.Ack()
		}
		s.Close()
		waiting.Close()
	}
	for i, position := range got {
		if position != i+1 {
			t.Fatalf("message %d is position %d: %v", i, position, got)
		}
	}
}

// TestGroupTakeover leaves a subscription with an owner that never says anything again.
func TestGroupTakeover(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	say(t, l, "talk-a", 3)
	if _, err := pool.Exec(t.Context(), `
		INSERT INTO subscriptions (name, position, owner, leased_until) VALUES ('watermill/g/talk', 1, 'dead', now() + interval '3 seconds')
	`); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	m := next(t, subscribe(t, NewSubscriber(l, Options{Group: "g"}), "talk"))
	if took := time.Since(begin); positionOf(t, m) != 2 || took < 2*time.Second || took > 5*time.Second {
		t.Errorf("position %d after %v", positionOf(t, m), took)
	}
}

// TestLostLease has the subscription taken away from an owner that is still handling: it is told, and its checkpoint
// does not overwrite the new owner's.
func TestLostLease(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	say(t, l, "talk-a", 3)
	m := next(t, subscribe(t, NewSubscriber(l, Options{Group: "g"}), "talk"))
	if _, err := pool.Exec(t.Context(), `UPDATE subscriptions SET owner = 'thief', position = 3, leased_until = now() + interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the old owner is not told")
	}
	m.Ack()
	time.Sleep(50 * time.Millisecond)
	var position int
	if err := pool.QueryRow(t.Context(), `SELECT position FROM subscriptions`).Scan(&position); err != nil || position != 3 {
		t.Errorf("checkpoint %d, %v", position, err)
	}
}

// publisher refuses now and then.
type publisher struct {
	mu       sync.Mutex
	refusing bool
	topics   []string
	got      []string
	enough   chan struct{} // closed at the number wanted
	want     int
}

func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = !p.refusing
	if p.refusing {
		return errors.New("not now")
	}
	for _, m := range messages {
		p.topics, p.got = append(p.topics, topic), append(p.got, m.Metadata.Get(KeyPosition))
		if len(p.got) == p.want {
			close(p.enough)
		}
	}
	return nil
}

func (p *publisher) Close() error { return nil }

func TestRelay(t *testing.T) {
	t.Parallel()
	l, _ := openLog(t)
	var got, topics []string
	run := func(want int, topic func(events.Recorded) string) {
		p := &publisher{enough: make(chan struct{}), want: want}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- (&Relay{Log: l, Name: "r", Category: "talk", Publisher: p, Topic: topic}).Run(ctx) }()
		select {
		case <-p.enough:
		case <-time.After(20 * time.Second):
			t.Error("not everything was published")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		got, topics = append(got, p.got...), append(topics, p.topics...)
	}
	say(t, l, "talk-a", 2)
	say(t, l, "other-a", 1)
	run(2, nil)
	say(t, l, "talk-b", 3)
	run(2, func(e events.Recorded) string {
		if e.Position == 5 {
			return ""
		}
		return "to." + e.Stream
	})
	if want := []string{"1", "2", "4", "6"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	if want := []string{"test.said", "test.said", "to.talk-b", "to.talk-b"}; !slices.Equal(topics, want) {
		t.Errorf("topics %v, want %v", topics, want)
	}
	if err := (&Relay{}).Run(t.Context()); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a relay of nothing: %v", err)
	}
}
