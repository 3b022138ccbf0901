package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// afterBoundary keeps a timer that fires early, by the difference of two clocks, from reading before the boundary.
const afterBoundary = time.Millisecond

// agent is a running [Run]. Only loop touches the node and the fields below its channels; watch, deliver and the
// reporter talk to the platform, each at its own pace, so that none waits for another.
type agent struct {
	platform   Platform
	node       Node
	journal    *journal
	reporter   *reporter
	log        *slog.Logger
	now        func() instant
	spoolLimit int
	cache      string // file of the last desired state
	fail       context.CancelCauseFunc

	news      chan DesiredState
	probed    chan probed
	delivered chan struct{}

	desired *DesiredState     // nil until the first one is known
	fresh   bool              // the platform gave it to this agent; it is not from the cache
	probes  map[string]*Probe // by probe id; nil while it runs
	full    bool              // the spool is; said once
}

// probed is the end of a probe.
type probed struct {
	id     string
	result Probe
}

// watch keeps asking for the desired state and hands each answer to loop.
func (a *agent) watch(ctx context.Context) {
	var retry backoff
	var revision int64
	first := true
	for ctx.Err() == nil {
		wait := longPoll
		if first {
			wait = 0 // a new agent needs the present state at once
		}
		d, err := a.platform.DesiredState(ctx, revision, wait)
		if err != nil {
			if ctx.Err() == nil {
				a.log.Warn("the desired state cannot be fetched", "error", err)
			}
			if !retry.wait(ctx) {
				return
			}
			first = true
			continue
		}
		if first {
			a.reporter.repeat() // the platform may have missed what was said while it was away
		}
		retry.reset()
		if !first && d.Revision == revision {
			continue
		}
		first, revision = false, d.Revision
		select {
		case a.news <- d:
		case <-ctx.Done():
		}
	}
}

// loop is the agent's one thread of control.
func (a *agent) loop(ctx context.Context) {
	a.desired = a.cached()
	resync := time.NewTicker(resyncEvery)
	defer resync.Stop()
	var retry backoff
	again := time.NewTimer(0)
	boundary := time.NewTimer(time.Hour)
	var interval time.Duration
	var due time.Time // the boundary at which meters are read next; one that passes during other work is not skipped
	for {
		if a.desired != nil {
			now := a.now().wall
			next := now.Truncate(a.desired.ReadingInterval).Add(a.desired.ReadingInterval)
			if interval != a.desired.ReadingInterval || due.IsZero() || next.Before(due) { // the clock was set back
				interval, due = a.desired.ReadingInterval, next
			}
			boundary.Reset(due.Sub(now) + afterBoundary)
		}
		work := a.reconcile
		select {
		case <-ctx.Done():
			return
		case d := <-a.news:
			a.desired, a.fresh = &d, true
			if err := a.remember(d); err != nil {
				a.log.Warn("the desired state cannot be kept for a restart", "error", err)
			}
		case p := <-a.probed:
			a.probes[p.id] = &p.result
			work = a.observe
		case <-a.node.Changes():
		case <-a.delivered:
		case <-resync.C:
		case <-again.C:
		case <-boundary.C:
			work, due = a.readMeters, time.Time{}
		}
		if a.desired == nil {
			continue
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the node is not yet as it should be", "error", err)
			again.Reset(retry.after())
			continue
		}
		retry.reset()
	}
}

// cached returns the desired state of the last run: a node whose platform cannot be reached carries on with it.
func (a *agent) cached() *DesiredState {
	content, err := os.ReadFile(a.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var d DesiredState
	if err == nil {
		err = json.Unmarshal(content, &d)
	}
	if err != nil || d.ReadingInterval <= 0 {
		a.log.Warn("the last desired state cannot be read; waiting for the platform", "file", a.cache, "error", err)
		return nil
	}
	return &d
}

func (a *agent) remember(d DesiredState) error {
	content, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return writeFile(a.cache, content)
}

// append writes to the journal; if it cannot, the agent ends, as it can promise nothing any more.
func (a *agent) append(records ...record) error {
	err := a.journal.Append(records...)
	if err != nil {
		a.fail(err)
	}
	return err
}
