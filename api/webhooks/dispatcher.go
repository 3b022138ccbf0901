package webhooks

import (
	"context"
	"crypto/rand"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/domain/webhook"
	"crossbill/events"
	"crossbill/projections"
)

// Options are what a dispatcher is made of. Log, Pool, Sender and Waiter are required.
type Options struct {
	Log    *events.Log
	Pool   *pgxpool.Pool // with the platform's own rights
	Sender *Sender
	// Waiter waits for the read model of slices; see projections.Runner.
	Waiter interface {
		WaitFor(ctx context.Context, position events.Position, names ...string) error
	}
	Retries      []time.Duration  // nil: [Retries]
	DisableAfter time.Duration    // 0: [DisableAfter]
	Now          func() time.Time // nil: time.Now
	Logger       *slog.Logger     // nil: slog.Default
}

// Dispatcher is one node's part in the sending. Any number of nodes may run one: a webhook is one's at a time.
type Dispatcher struct {
	Options
	queries projections.Queries
	owner   string
	done    chan struct{} // of capacity 1: a worker has ended
}

// New makes a dispatcher.
func New(o Options) *Dispatcher {
	if o.Retries == nil {
		o.Retries = Retries
	}
	if o.DisableAfter == 0 {
		o.DisableAfter = DisableAfter
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Dispatcher{Options: o, queries: projections.Queries{DB: o.Pool}, owner: rand.Text(), done: make(chan struct{}, 1)}
}

// Run sends until ctx ends, and then returns nil when what is under way has ended.
func (d *Dispatcher) Run(ctx context.Context) error {
	var (
		working sync.WaitGroup
		slots   = make(chan struct{}, maxSending)
		seen    events.Position
	)
	defer working.Wait()
	for ctx.Err() == nil {
		begun := time.Now()
		claimed, err := d.claim(ctx, maxSending-len(slots))
		if err != nil && ctx.Err() == nil {
			d.Logger.Warn("webhooks: what is due can't be looked up", "error", err)
		}
		for _, c := range claimed {
			slots <- struct{}{}
			working.Go(func() {
				d.work(ctx, c)
				<-slots
				select {
				case d.done <- struct{}{}:
				default:
				}
			})
		}
		// Looking costs something for each webhook there is; it may take a tenth of one connection's time at most.
		sleep(ctx, max(shortestPoll, 10*time.Since(begun)))
		seen = d.await(ctx, seen)
	}
	return nil
}

// await returns when there may be something to do: the log has grown and its slices are known, a worker has ended, or some
// time has passed, after which a retry may be due.
func (d *Dispatcher) await(ctx context.Context, seen events.Position) events.Position {
	ctx, cancel := context.WithTimeout(ctx, idlePoll)
	defer cancel()
	moved := make(chan events.Position, 1)
	go func() {
		defer close(moved)
		if d.Log.Wait(ctx, seen) != nil {
			return
		}
		if head, err := d.Log.Head(ctx); err == nil && d.Waiter.WaitFor(ctx, head.Position, projections.SlicesModel) == nil {
			moved <- head.Position
		}
	}()
	select {
	case position := <-moved:
		return max(seen, position)
	case <-d.done:
	case <-ctx.Done():
	}
	cancel()
	return max(seen, <-moved)
}

// work gives one webhook its turn. It ends when nothing is left to be sent, an attempt fails, the turn is over, or the
// webhook is no longer this process's: then somebody changed where it goes on, or another process took it over.
func (d *Dispatcher) work(ctx context.Context, c cursor) {
	err := d.turn(ctx, &c)
	if err == errNotOurs {
		return
	}
	if err != nil && ctx.Err() == nil {
		d.Logger.Warn("webhooks: a webhook's turn failed", "webhook", c.webhookID, "error", err)
		if d.postpone(ctx, c, firstOf(d.Retries)) == nil {
			return
		}
	}
	if err := d.release(context.WithoutCancel(ctx), c); err != nil {
		d.Logger.Warn("webhooks: a webhook can't be released", "webhook", c.webhookID, "error", err)
	}
}

func firstOf(retries []time.Duration) time.Duration {
	if len(retries) == 0 {
		return time.Second
	}
	return retries[0]
}

func (d *Dispatcher) turn(ctx context.Context, c *cursor) error {
	replayed := false
	for end := time.Now().Add(turn); time.Now().Before(end) && ctx.Err() == nil; {
		hook, version, err := events.Load(ctx, d.Log, webhook.Stream(c.webhookID), webhook.Evolve)
		if err != nil {
			return err
		}
		if hook.State != webhook.StateEnabled {
			return nil
		}
		if !replayed {
			replayed = true
			if err := d.replay(ctx, *c, hook); err != nil {
				return err
			}
		}
		types, _ := vocabulary.Matching(hook.Target.Types...)
		found, known, err := d.queries.ReadSlice(ctx, d.Log, projections.Party(hook.OrganisationID), types, c.position, page)
		if err != nil {
			return err
		}
		for _, e := range found {
			if goOn, err := d.deliver(ctx, c, hook, version, e); err != nil || !goOn {
				return err
			}
			if time.Now().After(end) || ctx.Err() != nil {
				return nil
			}
		}
		if known > c.position { // what lies between is not wanted
			if err := d.skip(ctx, c, known); err != nil {
				return err
			}
		}
		if len(found) == 0 {
			return nil
		}
	}
	return nil
}

// deliver makes an attempt for the next event. It reports whether the event after it has its turn: not after a failure
// that is to be tried again, nor when the webhook is disabled for it.
func (d *Dispatcher) deliver(ctx context.Context, c *cursor, hook webhook.State, version int64, e events.Recorded) (goOn bool, _ error) {
	m, err := MessageOf(e)
	if err != nil {
		return false, err
	}
	at := d.Now().UTC()
	result := d.Sender.Send(ctx, hook.Target.URL, hook.Secrets(at), m, at)
	if ctx.Err() != nil { // the node stops: whether it arrived is not known
		return false, nil
	}
	attempt := attempt{cursor: *c, message: m, position: e.Position, number: c.attempts + 1, at: at, result: result}
	if result.OK {
		return true, d.delivered(ctx, c, attempt)
	}
	if result.Status == 410 { // Standard Webhooks: the target wants no more
		return false, d.disable(ctx, c, hook, version, attempt, webhook.ReasonGone)
	}
	if c.attempts < len(d.Retries) {
		pause := max(jittered(d.Retries[c.attempts]), result.RetryAfter)
		failing, err := d.failed(ctx, c, attempt, pause)
		if err == nil && failing >= d.DisableAfter {
			err = d.disable(ctx, c, hook, version, attempt, webhook.ReasonFailing)
		}
		return false, err
	}
	failing, err := d.died(ctx, c, attempt)
	if err == nil && failing >= d.DisableAfter {
		return false, d.disable(ctx, c, hook, version, attempt, webhook.ReasonFailing)
	}
	return true, err
}

// disable records that the webhook is disabled. If it has changed meanwhile, it has another chance.
func (d *Dispatcher) disable(ctx context.Context, c *cursor, hook webhook.State, version int64, a attempt, reason string) error {
	if reason == webhook.ReasonGone {
		if _, err := d.failed(ctx, c, a, firstOf(d.Retries)); err != nil {
			return err
		}
	}
	decided, err := webhook.Decide(hook, webhook.Disable{Reason: reason, Detail: a.result.Error, At: d.Now()})
	if err != nil || len(decided) == 0 {
		return err
	}
	parties := []string{hook.OrganisationID}
	_, err = d.Log.Append(ctx, events.Append{
		Streams: []events.StreamAppend{{Stream: webhook.Stream(hook.ID), Expected: events.ExpectedVersion(version), Events: []events.NewEvent{
			{Event: decided[0], Metadata: events.Metadata{Actor: "webhooks", Parties: parties}},
		}}},
		Ask: Stop(hook.ID),
	})
	if domain.CodeOf(err) == domain.Conflict {
		return nil
	}
	if err == nil {
		d.Logger.Warn("webhooks: a webhook is disabled", "webhook", hook.ID, "reason", reason, "last", a.result.Error)
		err = errNotOurs // the append has taken it from us
	}
	return err
}

// replay makes one attempt for each dead letter that is to be tried again.
func (d *Dispatcher) replay(ctx context.Context, c cursor, hook webhook.State) error {
	positions, err := d.replays(ctx, c)
	if err != nil || len(positions) == 0 {
		return err
	}
	found, err := d.Log.ReadAt(ctx, positions)
	if err != nil {
		return err
	}
	for _, e := range found {
		m, err := MessageOf(e)
		if err != nil {
			return err
		}
		at := d.Now().UTC()
		result := d.Sender.Send(ctx, hook.Target.URL, hook.Secrets(at), m, at)
		if ctx.Err() != nil {
			return nil
		}
		if err := d.replayed(ctx, attempt{cursor: c, message: m, position: e.Position, at: at, result: result}); err != nil {
			return err
		}
	}
	return nil
}

// jittered is a pause that others who failed at the same moment do not all have, from 4/5 to 6/5 of d.
func jittered(d time.Duration) time.Duration {
	return d*4/5 + time.Duration(mathrand.Int64N(int64(d)*2/5+1))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
