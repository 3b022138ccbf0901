package edge

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// reporter tells the platform what has changed since it last heard, and everything after it was away.
type reporter struct {
	platform Platform
	kind     Kind
	log      *slog.Logger
	wake     chan struct{}
	opened   chan struct{} // signalled when the platform has learnt of an opening

	mu       sync.Mutex
	revision int64 // of the desired state that current is seen under
	known    int64 // the revision the platform has answered for
	current  map[string]Observation
	news     map[string]bool        // those of current that are not as they were told; some may be
	told     map[string]Observation // what the platform has answered for
	refused  map[string]Observation // what it will not take; not sent again until it changes
}

func newReporter(platform Platform, kind Kind, log *slog.Logger) *reporter {
	return &reporter{platform: platform, kind: kind, log: log, wake: make(chan struct{}, 1), opened: make(chan struct{}, 1),
		news: map[string]bool{}, told: map[string]Observation{}, refused: map[string]Observation{}}
}

// set replaces what is seen of the connections in scope; at first, of all of them.
func (r *reporter) set(revision int64, of scope, seen []Observation) {
	r.mu.Lock()
	r.revision = revision
	gone := maps.Clone(of)
	if of == nil {
		gone = scope{}
		for id := range r.current {
			gone[id] = true
		}
		if r.current == nil {
			r.current = make(map[string]Observation, len(seen))
		}
	}
	for _, o := range seen {
		r.current[o.ConnectionID], r.news[o.ConnectionID] = o, true
		delete(gone, o.ConnectionID)
	}
	for id := range gone {
		delete(r.current, id)
		delete(r.news, id)
		delete(r.told, id)
		delete(r.refused, id)
	}
	r.mu.Unlock()
	poke(r.wake)
}

// repeat makes the next report a full one.
func (r *reporter) repeat() {
	r.mu.Lock()
	clear(r.told)
	clear(r.refused)
	for id := range r.current {
		r.news[id] = true
	}
	r.mu.Unlock()
	poke(r.wake)
}

// mayDeliver reports whether a connection's readings may be sent: before the platform knows that a connection has been
// opened it would have to refuse what was counted on it. Readings of connections it no longer lists are sent as well.
func (r *reporter) mayDeliver(connection string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return false
	}
	now, listed := r.current[connection]
	if _, refused := r.refused[connection]; refused {
		return true // then it knows what it does not want to hear; let it judge the readings itself
	}
	return !listed || !r.told[connection].OpenedAt.IsZero() && r.told[connection].OpenedAt.Equal(now.OpenedAt)
}

func (r *reporter) run(ctx context.Context) {
	var retry backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for {
			batch, revision := r.untold()
			if len(batch) == 0 && revision == r.known {
				break
			}
			if err := r.send(ctx, revision, batch); err != nil {
				if ctx.Err() == nil {
					r.log.Warn("observations cannot be reported", "error", err)
				}
				if !retry.wait(ctx) {
					return
				}
				continue // with what is seen by then
			}
			r.known = revision
			retry.reset()
		}
	}
}

// untold returns what the platform has not answered for, at most one request's worth, and the revision it is seen under.
func (r *reporter) untold() ([]Observation, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []Observation
	for id := range r.news {
		o := r.current[id]
		told, isTold := r.told[id]
		refused, isRefused := r.refused[id]
		if isTold && reflect.DeepEqual(o, told) || isRefused && reflect.DeepEqual(o, refused) {
			delete(r.news, id)
			continue
		}
		batch = append(batch, o)
	}
	slices.SortFunc(batch, func(x, y Observation) int { return strings.Compare(x.ConnectionID, y.ConnectionID) })
	return batch[:min(len(batch), maxReport)], r.revision
}

// send reports a batch. Observations the platform will never take are found out and left.
func (r *reporter) send(ctx context.Context, revision int64, batch []Observation) error {
	err := r.platform.Report(ctx, r.kind, revision, batch)
	var refusal *RefusedError
	switch {
	case err == nil:
		r.answered(batch)
		return nil
	case !errors.As(err, &refusal):
		return err
	case len(batch) == 0: // that there is a new revision is nothing to insist on
		return nil
	case len(batch) == 1:
		r.log.Error("the platform refuses an observation", "connection", batch[0].ConnectionID, "error", err)
		r.mu.Lock()
		r.refused[batch[0].ConnectionID] = batch[0]
		r.mu.Unlock()
		return nil
	}
	half := len(batch) / 2
	return errors.Join(r.send(ctx, revision, batch[:half]), r.send(ctx, revision, batch[half:]))
}

func (r *reporter) answered(batch []Observation) {
	r.mu.Lock()
	opened := false
	for _, o := range batch {
		opened = opened || !o.OpenedAt.IsZero() && r.told[o.ConnectionID].OpenedAt.IsZero()
		r.told[o.ConnectionID] = o
	}
	r.mu.Unlock()
	if opened {
		poke(r.opened)
	}
}

// poke signals a channel with room for one signal.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
