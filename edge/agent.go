package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
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
	resync     time.Duration
	cache      string // file of the last desired state
	fail       context.CancelCauseFunc

	news      chan DesiredState
	probed    chan probed
	delivered chan struct{}

	desired *DesiredState     // nil until the first one is known
	fresh   bool              // the platform gave it to this agent; it is not from the cache
	whole   bool              // since then all of the node has been looked at
	present map[int]bool      // the tags of which anything is on the node; nil if it could not be listed
	left    []int             // tags that connections had before the last desired state
	probes  map[string]*Probe // by probe id; nil while it runs
	full    bool              // the spool is; said once

	interval time.Duration
	due      time.Time // the boundary at which meters are read next; one that passes during other work is not skipped
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
	resync := time.NewTicker(a.resync)
	defer resync.Stop()
	var retry backoff
	again, waiting := time.NewTimer(0), true // what fails meanwhile does not put it off
	boundary := time.NewTimer(time.Hour)
	for {
		if a.desired != nil {
			boundary.Reset(a.untilDue() + afterBoundary)
		}
		work, of := a.reconcile, scope(nil)
		select {
		case <-ctx.Done():
			return
		case d := <-a.news:
			of = a.adopt(d)
		case p := <-a.probed:
			a.probes[p.id] = &p.result
			work, of = a.observe, a.those(func(c DesiredConnection) bool { return c.ProbeID == p.id })
		case <-a.node.Changes():
			changed := map[int]bool{}
			for _, tag := range a.node.Changed() {
				changed[tag] = true
			}
			work, of = a.follow, a.those(func(c DesiredConnection) bool { return changed[c.Tag] })
		case <-a.delivered: // only those that are to go wait for that
			of = a.those(func(c DesiredConnection) bool { return c.Phase == Absent })
		case <-resync.C:
		case <-again.C:
			waiting = false
		case <-boundary.C:
			work = func(ctx context.Context, _ scope) error { return a.readDue(ctx) }
		}
		if a.desired == nil {
			continue
		}
		if err := work(ctx, of); err != nil && ctx.Err() == nil {
			a.log.Warn("the node is not yet as it should be", "error", err)
			if !waiting {
				again.Reset(retry.after())
				waiting = true
			}
		} else if of == nil {
			retry.reset()
		}
	}
}

// scope is the connections that something is done for, by id; nil means all that is on the node, and should be or not.
type scope map[string]bool

func (s scope) has(id string) bool { return s == nil || s[id] }

// those returns the connections of the desired state that are meant.
func (a *agent) those(meant func(DesiredConnection) bool) scope {
	of := scope{}
	if a.desired != nil {
		for _, c := range a.desired.Connections {
			if meant(c) {
				of[c.ID] = true
			}
		}
	}
	return of
}

// adopt takes over a desired state, and returns what it changes.
func (a *agent) adopt(d DesiredState) scope {
	if err := a.remember(d); err != nil {
		a.log.Warn("the desired state cannot be kept for a restart", "error", err)
	}
	before := a.desired
	a.desired = &d
	if !a.fresh || before.ASN != d.ASN || before.RouterID != d.RouterID {
		a.fresh, a.whole = true, false
		return nil
	}
	old := map[string]DesiredConnection{}
	for _, c := range before.Connections {
		old[c.ID] = c
	}
	of := a.those(func(c DesiredConnection) bool {
		was := old[c.ID]
		if reflect.DeepEqual(was, c) {
			delete(old, c.ID)
			return false
		}
		return true
	})
	for id, was := range old {
		of[id] = true
		a.left = append(a.left, was.Tag)
	}
	return of
}

// untilDue returns for how long meters need not be read.
func (a *agent) untilDue() time.Duration {
	now := a.now().wall
	next := now.Truncate(a.desired.ReadingInterval).Add(a.desired.ReadingInterval)
	if a.interval != a.desired.ReadingInterval || a.due.IsZero() || next.Before(a.due) { // the last: the clock was set back
		a.interval, a.due = a.desired.ReadingInterval, next
	}
	return a.due.Sub(now)
}

// readDue reads the meters if it is time. Long work calls it now and then.
func (a *agent) readDue(ctx context.Context) error {
	if a.untilDue() > 0 {
		return nil
	}
	a.due = time.Time{}
	return a.readMeters(ctx)
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
