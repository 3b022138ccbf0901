package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// Limits of subscriptions.
const (
	leaseFor          = 3 * time.Second // how long an owner that says nothing keeps a subscription
	leaseRenew        = time.Second
	leaseRetry        = 500 * time.Millisecond // how often one that stands by tries
	handleRetry       = 50 * time.Millisecond  // after a handler's error; doubled each time
	handleRetryMax    = 10 * time.Second
	subscriptionBatch = 100
)

// Subscription is a durable reader whose effects are outside this database: a handler gets every event at least once, in
// order, and in one process at a time however many have the subscription running. (What writes to this database should
// be a projection, which gets every event exactly once.)
type Subscription struct {
	Name     string // what its checkpoint is kept under
	Category string // of the streams to read; empty for all
	// Handle handles events and returns how many of them, from the first, it is done with. They are not handed out again;
	// the others are, after a pause if there is an error. Its context ends when another process has taken over.
	Handle func(ctx context.Context, batch []Recorded) (handled int, err error)
}

// Subscribe runs a subscription until ctx ends, and then returns nil. If its owner dies, another process that runs it
// takes over within [leaseFor] and a moment.
//
// It returns an Invalid error for a subscription without a name, and an Internal error, caused by [ErrUndecodable], when
// it comes to an event that can't be decoded. Other errors are tried again.
func (l *Log) Subscribe(ctx context.Context, s Subscription) error {
	if s.Name == "" || s.Handle == nil {
		return domain.Errorf(domain.Invalid, "events.Subscribe", "the subscription %q has no name or no handler", s.Name)
	}
	r := &subscriber{Subscription: s, log: l, owner: rand.Text()}
	for wait := handleRetry; ctx.Err() == nil; {
		err := r.own(ctx)
		switch {
		case errors.Is(err, ErrUndecodable):
			return err
		case errors.Is(err, errNotOwner):
			wait = leaseRetry
		case err != nil && ctx.Err() == nil:
			l.options.Logger.Warn("events: a subscription was interrupted", "subscription", s.Name, "error", err)
			wait = min(2*wait, handleRetryMax)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// subscriber is one process's part in a subscription.
type subscriber struct {
	Subscription
	log   *Log
	owner string // names this subscriber among all; nobody else has it
}

var errNotOwner = errors.New("another process has the subscription")

// own takes the lease and reads for as long as it lasts.
func (r *subscriber) own(ctx context.Context) error {
	position, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	owning, lose := context.WithCancelCause(ctx)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		r.renew(owning, lose)
	}()
	err = r.read(owning, position)
	if cause := context.Cause(owning); cause != nil && ctx.Err() == nil {
		err = cause
	}
	lose(nil)
	<-renewing
	r.release(context.WithoutCancel(ctx))
	return err
}

// acquire takes the lease if it is free, by the server's clock, and returns the checkpoint.
func (r *subscriber) acquire(ctx context.Context) (position Position, err error) {
	if _, err := r.log.pool.Exec(ctx, `INSERT INTO subscriptions (name) VALUES ($1) ON CONFLICT DO NOTHING`, r.Name); err != nil {
		return 0, err
	}
	err = r.log.pool.QueryRow(ctx, `
		UPDATE subscriptions SET owner = $2, leased_until = now() + $3
		 WHERE name = $1 AND (owner IS NULL OR owner = $2 OR leased_until < now()) -- primary key
		RETURNING position
	`, r.Name, r.owner, leaseFor).Scan(&position)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errNotOwner
	}
	return position, err
}

// renew keeps the lease until ctx ends. When it can't, it ends ctx in time: before another may take over.
func (r *subscriber) renew(ctx context.Context, lose context.CancelCauseFunc) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, leaseFor-2*leaseRenew)
		tag, err := r.log.pool.Exec(attempt, `UPDATE subscriptions SET leased_until = now() + $3 WHERE name = $1 AND owner = $2`,
			r.Name, r.owner, leaseFor)
		cancel()
		if err == nil && tag.RowsAffected() == 0 {
			err = errNotOwner
		}
		if err != nil {
			lose(err)
			return
		}
	}
}

// release lets another take over at once. If it fails, the lease runs out.
func (r *subscriber) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseFor)
	defer cancel()
	r.log.pool.Exec(ctx, `UPDATE subscriptions SET owner = NULL, leased_until = NULL WHERE name = $1 AND owner = $2`, r.Name, r.owner)
}

// read hands out events until ctx ends.
func (r *subscriber) read(ctx context.Context, position Position) error {
	wait := handleRetry
	for ctx.Err() == nil {
		page, err := r.log.Next(ctx, r.Category, position, subscriptionBatch)
		if err != nil {
			return err
		}
		handled, err := r.handle(ctx, page)
		if handled > 0 {
			position, wait = page[handled-1].Position, handleRetry
			// What is handled is handled, even if ctx has ended since.
			if err := r.move(context.WithoutCancel(ctx), position); err != nil {
				return err
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.log.options.Logger.Warn("events: a subscription's handler failed and is tried again", "subscription", r.Name, "after", position, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, handleRetryMax)
	}
	return nil
}

func (r *subscriber) handle(ctx context.Context, page []Recorded) (handled int, err error) {
	defer func() {
		if p := recover(); p != nil {
			handled, err = 0, fmt.Errorf("the handler panicked: %v", p)
		}
	}()
	return r.Handle(ctx, page)
}

// move moves the checkpoint, unless another has taken over: then it is that one's to move.
func (r *subscriber) move(ctx context.Context, to Position) error {
	ctx, cancel := context.WithTimeout(ctx, leaseFor)
	defer cancel()
	tag, err := r.log.pool.Exec(ctx, `UPDATE subscriptions SET position = $3, updated_at = now() WHERE name = $1 AND owner = $2`, r.Name, r.owner, to)
	if err == nil && tag.RowsAffected() == 0 {
		err = errNotOwner
	}
	return err
}

// Next returns the next events past a position, of one category or of all for "", waiting until there are some. Its
// errors are those of [Log.ReadAll] and [Log.Wait].
func (l *Log) Next(ctx context.Context, category string, after Position, limit int) ([]Recorded, error) {
	for {
		reaches, _, _ := l.tail.now() // before reading: what comes later wakes the wait below
		var page []Recorded
		var err error
		switch {
		case reaches <= after: // there is nothing to read
		case category == "":
			page, err = l.ReadAll(ctx, after, limit)
		default:
			page, err = l.ReadCategory(ctx, category, after, limit)
		}
		if err != nil || len(page) > 0 {
			return page, err
		}
		if err := l.Wait(ctx, max(reaches, after)); err != nil {
			return nil, err
		}
	}
}
