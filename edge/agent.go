package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
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

	desired *DesiredState // nil until the first one is known
	// What the next look at the node is at: the connections that are touched, or everything. That others are as they were left
	// is made sure of by a look at everything every resyncEvery.
	touched    map[string]bool
	everything bool
	seen       map[string]Observation // of every connection, as last looked at

	fresh  bool              // the platform gave it to this agent; it is not from the cache
	probes map[string]*Probe // by probe id; nil while it runs
	full   bool              // the spool is; said once
}

// probed is the end of a probe.
type probed struct {
	id, connection string
	result         Probe
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
	again, retrying := time.NewTimer(0), true
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
			a.take(d)
			if err := a.remember(d); err != nil {
				a.log.Warn("the desired state cannot be kept for a restart", "error", err)
			}
		case p := <-a.probed:
			a.probes[p.id] = &p.result
			a.touched[p.connection] = true
			work = a.observe
		case <-a.node.Changes():
			a.touchTags(a.node.Changed())
		case <-a.delivered: // what was closed may be forgotten now
		case <-resync.C:
			a.everything = true
		case <-again.C:
			a.everything, retrying = true, false
		case <-boundary.C:
			work, due = a.readMeters, time.Time{}
		}
		if a.desired == nil {
			continue
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the node is not yet as it should be", "error", err)
			a.everything = true
			if !retrying { // what fails more often than that must not put it off
				again.Reset(retry.after())
				retrying = true
			}
			continue
		}
		clear(a.touched)
		retry.reset()
	}
}

// take takes over a desired state. If only some connections are another in it, they alone are touched; one that is to go
// leaves something for others to take, which concerns everything.
func (a *agent) take(d DesiredState) {
	before := a.desired
	known := a.fresh && before.ASN == d.ASN && before.RouterID == d.RouterID
	a.desired, a.fresh = &d, true
	if !known {
		a.everything = true
		return
	}
	was := make(map[string]DesiredConnection, len(before.Connections))
	for _, c := range before.Connections {
		was[c.ID] = c
	}
	for _, c := range d.Connections {
		if old, listed := was[c.ID]; !listed || !reflect.DeepEqual(old, c) {
			a.touched[c.ID] = true
			a.everything = a.everything || c.Phase == Absent || listed && old.Tag != c.Tag
		}
		delete(was, c.ID)
	}
	a.everything = a.everything || len(was) > 0
}

// touchTags touches the connections of some tags.
func (a *agent) touchTags(tags []int) {
	if a.desired == nil || len(tags) == 0 {
		return
	}
	for _, c := range a.desired.Connections {
		if _, changed := slices.BinarySearch(tags, c.Tag); changed {
			a.touched[c.ID] = true
		}
	}
}

// concerns reports whether the next look is at a connection.
func (a *agent) concerns(c DesiredConnection) bool {
	_, seen := a.seen[c.ID]
	return a.everything || a.touched[c.ID] || !seen
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
