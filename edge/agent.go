package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"time"
)

// afterBoundary keeps a timer that fires early, by the difference of two clocks, from reading before the boundary.
const afterBoundary = time.Millisecond

// minChanges is how many changes are kept beside the last desired state at least before that is written anew.
const minChanges = 100

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
	changes int               // that the file of the last desired state has after it
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

// watch keeps asking for the desired state and hands each answer to loop: the whole at first, and what has changed from then on.
// After an error and every [wholeEvery] it is the whole again: then nothing hangs on what was said before.
func (a *agent) watch(ctx context.Context) {
	var retry backoff
	var revision int64
	var wholeAt time.Time
	first := true
	for ctx.Err() == nil {
		after, wait := revision, longPoll
		whole := first || time.Since(wholeAt) >= wholeEvery
		if whole {
			after, wait = 0, 0
		}
		d, err := a.platform.DesiredState(ctx, after, wait)
		if err == nil && d.Since != 0 && d.Since != after {
			err = fmt.Errorf("the platform says what has changed since revision %d and was asked for %d", d.Since, after)
		}
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
		if !whole && d.Revision == revision {
			continue
		}
		if whole {
			wholeAt = time.Now()
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

// adopt takes over a desired state, or what has changed of it, and returns what that changes.
func (a *agent) adopt(d DesiredState) scope {
	all := !a.fresh || a.desired.ASN != d.ASN || a.desired.RouterID != d.RouterID
	before := map[string]DesiredConnection{}
	if d.Since != 0 {
		before = a.desired.change(d)
	} else {
		d.sorted()
		if a.desired != nil {
			before = a.desired.replace(d)
		}
		a.desired = &d
	}
	if err := a.remember(d); err != nil {
		a.log.Warn("the desired state cannot be kept for a restart", "error", err)
	}
	if all {
		a.fresh, a.whole = true, false
		return nil
	}
	of := scope{}
	for id, was := range before {
		of[id] = true
		if was.ID != "" {
			a.left = append(a.left, was.Tag)
		}
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
	file, err := os.Open(a.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var d DesiredState
	if err == nil {
		defer file.Close()
		d, err = readCache(file)
	}
	if err != nil || d.ReadingInterval <= 0 {
		a.log.Warn("the last desired state cannot be read; waiting for the platform", "file", a.cache, "error", err)
		return nil
	}
	return &d
}

// readCache reads a whole state and the changes after it. What cannot be read at the end was being written when the agent, or
// its machine, was stopped.
func readCache(r io.Reader) (d DesiredState, err error) {
	lines := json.NewDecoder(r)
	if err := lines.Decode(&d); err != nil {
		return d, err
	}
	d.sorted()
	for {
		var next DesiredState
		if err := lines.Decode(&next); err != nil || next.Since != d.Revision {
			return d, nil
		}
		d.change(next)
	}
}

// remember keeps a state that was taken over: one that is whole in place of the last, and changes after it, until there are as
// many of them as connections. What it costs does not grow with the connections.
func (a *agent) remember(d DesiredState) error {
	a.changes += 1 + len(d.Connections) + len(d.Gone)
	if d.Since != 0 && a.changes <= minChanges+len(a.desired.Connections) {
		err := appendLine(a.cache, d)
		if err == nil {
			return nil
		}
		a.log.Warn("the desired state is written anew", "error", err) // half a line may be there
	}
	content, err := json.Marshal(a.desired)
	if err != nil {
		return err
	}
	if err := writeFile(a.cache, append(content, '\n')); err != nil {
		a.changes = math.MaxInt / 2
		return err
	}
	a.changes = 0
	return nil
}

// append writes to the journal; if it cannot, the agent ends, as it can promise nothing any more.
func (a *agent) append(records ...record) error {
	err := a.journal.Append(records...)
	if err != nil {
		a.fail(err)
	}
	return err
}
