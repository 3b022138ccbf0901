package pubsub

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"crossbill/domain"
	"crossbill/events"
)

const (
	readBatch  = 100
	nackPause  = 20 * time.Millisecond // before a message is delivered again; doubled each time
	nackLimit  = 5 * time.Second       // unless Options.LongestPause says otherwise
	retryPause = time.Second           // after an error of the log
)

// Options are what a subscriber may be given beside its log.
type Options struct {
	// Group makes subscriptions durable: each topic has a checkpoint in the group's name, and of all the subscribers of
	// a group, in all processes, one at a time gets a topic's messages. Without a group a subscription is its own, and
	// begins after the position After each time.
	Group string
	After events.Position
	// Message makes the message of an event; nil: [NewMessage]. It is called anew for each delivery.
	Message func(events.Recorded) *message.Message
	// LongestPause is how long it takes at most until a message that was refused is delivered again. It takes less the
	// first few times. 0: 5 s.
	LongestPause time.Duration
	Logger       *slog.Logger // nil: slog.Default
}

// Subscriber is the log as a Watermill subscriber. A topic is [TopicAll] or a category of streams. Messages come one by
// one in the log's order: an Ack moves on to the next, a Nack delivers the same again after a pause.
type Subscriber struct {
	log     *events.Log
	options Options
	closing chan struct{}
	close   func()
	mu      sync.Mutex // makes no subscription begin after Close has begun to wait
	closed  bool
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber makes a subscriber.
func NewSubscriber(log *events.Log, o Options) *Subscriber {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Message == nil {
		o.Message = NewMessage
	}
	if o.LongestPause <= 0 {
		o.LongestPause = nackLimit
	}
	closing := make(chan struct{})
	return &Subscriber{log: log, options: o, closing: closing, close: sync.OnceFunc(func() { close(closing) })}
}

// Subscribe returns a topic's messages. The channel is closed when ctx ends, when the subscriber is closed, or when it
// comes to an event that can't be decoded, which is logged.
// It returns an Invalid error for a topic that can't be a category, and an Unavailable one after Close.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	const op = "pubsub.Subscribe"
	if topic == "" || topic != TopicAll && strings.ContainsAny(topic, "-$") {
		return nil, domain.Errorf(domain.Invalid, op, "%.60q is no topic", topic).WithHint("a topic is %s or a category of streams", TopicAll)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, domain.Errorf(domain.Unavailable, op, "the subscriber is closed")
	}
	out := make(chan *message.Message)
	ctx, cancel := context.WithCancel(ctx)
	s.running.Go(func() {
		select {
		case <-s.closing:
		case <-ctx.Done():
		}
		cancel()
	})
	s.running.Go(func() {
		defer cancel()
		defer close(out)
		deliver := func(ctx context.Context, batch []events.Recorded) (int, error) {
			return s.deliverAll(ctx, batch, out), nil
		}
		var err error
		if s.options.Group == "" {
			err = s.follow(ctx, topic, deliver)
		} else {
			err = s.log.Subscribe(ctx, events.Subscription{
				Name: "watermill/" + s.options.Group + "/" + topic, Category: category(topic), Handle: deliver,
			})
		}
		if err != nil && ctx.Err() == nil {
			s.options.Logger.Error("pubsub: a subscription ended", "topic", topic, "group", s.options.Group, "error", err)
		}
	})
	return out, nil
}

// Close ends all subscriptions and returns when they have ended.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.running.Wait()
	return nil
}

// follow reads for a subscription that keeps no checkpoint.
func (s *Subscriber) follow(ctx context.Context, topic string, deliver func(context.Context, []events.Recorded) (int, error)) error {
	position := s.options.After
	for ctx.Err() == nil {
		batch, err := s.log.Next(ctx, category(topic), position, readBatch)
		switch {
		case err != nil && domain.CodeOf(err) == domain.Unavailable && ctx.Err() == nil:
			s.options.Logger.Warn("pubsub: the log can't be read; trying again", "topic", topic, "error", err)
			pause(ctx, retryPause)
			continue
		case err != nil:
			return err
		}
		if handled, _ := deliver(ctx, batch); handled > 0 {
			position = batch[handled-1].Position
		}
	}
	return nil
}

// deliverAll delivers events until all are acknowledged or ctx ends, and returns how many are.
func (s *Subscriber) deliverAll(ctx context.Context, batch []events.Recorded, out chan<- *message.Message) int {
	for i, e := range batch {
		if !s.deliver(ctx, e, out) {
			return i
		}
	}
	return len(batch)
}

// deliver delivers one event until it is acknowledged. Each time it is another message: a message is answered once.
func (s *Subscriber) deliver(ctx context.Context, e events.Recorded, out chan<- *message.Message) (acknowledged bool) {
	for wait := nackPause; ; wait *= 2 {
		wait = min(wait, s.options.LongestPause)
		m := s.options.Message(e)
		handling, cancel := context.WithCancel(ctx)
		m.SetContext(handling)
		select {
		case out <- m:
		case <-ctx.Done():
			cancel()
			return false
		}
		select {
		case <-m.Acked():
			cancel()
			return true
		case <-m.Nacked():
			cancel()
			pause(ctx, wait)
		case <-ctx.Done():
			cancel()
			select {
			case <-m.Acked(): // at the same moment; it counts
				return true
			default:
				return false
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
