package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossbill/domain"
	"crossbill/edge/datapath"
)

// wideScope is how many connections are looked at one by one at most, which takes more than ten times what each does in a look at the
// whole node.
const wideScope = 100

// reconcile compares the node with the desired state, so far as it is in scope, and does what is missing. What should not be
// there goes first: its tags, VLANs and addresses may be wanted anew. One connection's failure does not keep the others
// back; the errors are returned together, and reported one by one with the connection.
func (a *agent) reconcile(ctx context.Context, of scope) error {
	if !a.whole || len(of) > wideScope {
		of = nil
	}
	if err := a.node.Configure(ctx, *a.desired); err != nil {
		return err
	}
	wanted := map[string]DesiredConnection{} // not absent, by connection
	for _, c := range a.desired.Connections {
		if c.Phase != Absent {
			wanted[c.ID] = c
		}
	}
	failures := map[string]error{}
	var rest []error
	if err := a.closeMeters(ctx, wanted, failures); err != nil {
		return err
	}
	rest = append(rest, a.removeOthers(ctx, wanted, of))
	for _, c := range a.desired.Connections {
		if !of.has(c.ID) {
			continue
		}
		rest = append(rest, a.readDue(ctx))
		if c.Phase == Suspended && failures[c.ID] == nil {
			failures[c.ID] = a.pauseMeter(c)
		}
		if c.Phase != Absent && failures[c.ID] == nil {
			failures[c.ID] = a.establish(ctx, c)
		}
	}
	rest = append(rest, a.observeAll(ctx, of, failures))
	for id, err := range failures {
		if err != nil {
			rest = append(rest, fmt.Errorf("%s: %w", id, err))
		}
	}
	return errors.Join(rest...)
}

// follow carries a change of sessions or routes on into the kernel, and to the platform.
func (a *agent) follow(ctx context.Context, of scope) error {
	if !a.whole {
		return nil // all that is missing will be done
	}
	failures := map[string]error{}
	var failed []error
	for _, c := range a.desired.Connections {
		if !of.has(c.ID) || c.Phase == Absent {
			continue
		}
		failed = append(failed, a.readDue(ctx))
		if err := a.node.Follow(ctx, c); err != nil {
			failures[c.ID] = err
			failed = append(failed, fmt.Errorf("%s: %w", c.ID, err))
		}
	}
	return errors.Join(append(failed, a.observeAll(ctx, of, failures))...)
}

// closeMeters ends the metering of every connection that should carry traffic no more. A connection the platform no
// longer knows is closed like one that is to be absent: what it carried is in a last reading before anything is removed.
func (a *agent) closeMeters(ctx context.Context, wanted map[string]DesiredConnection, failures map[string]error) error {
	listed := map[string]bool{}
	for _, c := range a.desired.Connections {
		listed[c.ID] = true
	}
	for id, m := range a.journal.Meters() {
		c, ok := wanted[id]
		if ok && c.Tag == m.Tag && !m.closed() {
			continue
		}
		if !ok && !listed[id] && !a.fresh {
			continue
		}
		if !m.closed() {
			err := a.closeMeter(ctx, m)
			if err == nil {
				err = a.remove(ctx, m.Tag) // here and not with the others, as the tag may have a new owner
			}
			if err != nil {
				failures[id] = err
				continue
			}
		}
		// The record of a closed meter serves until the platform has been told and has dropped the connection.
		undelivered, _ := a.journal.Undelivered(id)
		if !listed[id] && undelivered == 0 {
			if err := a.append(record{Forget: id}); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeMeter stops a connection's traffic and puts its last reading into the journal. Killed before the record is
// written, it does the same again: the counters stand still and the end is later.
func (a *agent) closeMeter(ctx context.Context, m Meter) error {
	if m.Paused {
		return a.closePaused(ctx, m)
	}
	if err := a.node.SetGate(m.Tag, false); err != nil && domain.CodeOf(err) != domain.NotFound {
		return err
	}
	closed := a.now()
	if err := a.node.Halt(ctx, m.Tag); err != nil {
		return err
	}
	if m.OpenedAt.IsZero() { // nothing ever crossed
		return a.append(record{Forget: m.Connection})
	}
	counters, err := a.node.Counters(m.Tag)
	if domain.CodeOf(err) == domain.NotFound {
		a.log.Error("the meter is gone before its last reading", "connection", m.Connection, "since", m.ReadTo)
		counters, err = m.Counters, nil
	}
	if err != nil {
		return err
	}
	m, r := m.closeAt(counters, closed, a.node.Kind())
	if err := a.append(record{Meter: &m, Reading: &r}); err != nil {
		return err
	}
	a.log.Info("closed", "connection", m.Connection, "at", m.ClosedAt)
	return nil
}

// closePaused ends a meter whose last reading was taken when it was suspended. If its agent was killed between opening the
// gate again and writing that down, what has crossed since is in one more reading.
func (a *agent) closePaused(ctx context.Context, m Meter) error {
	open, err := a.node.Gate(m.Tag)
	if err != nil {
		return err
	}
	if open && m.Rebased {
		m = m.resumeAt(a.now())
		if err := a.append(record{Meter: &m}); err != nil {
			return err
		}
		return a.closeMeter(ctx, m)
	}
	if err := a.node.Halt(ctx, m.Tag); err != nil {
		return err
	}
	m.ClosedAt = m.ReadTo
	if err := a.append(record{Meter: &m}); err != nil {
		return err
	}
	a.log.Info("closed while suspended", "connection", m.Connection, "at", m.ClosedAt)
	return nil
}

// pauseMeter suspends a connection's traffic and puts its last reading into the journal. Both stand still until the
// record is written, and until the next Ensure: killed before, the next agent does the same again, with the same counters.
func (a *agent) pauseMeter(c DesiredConnection) error {
	m := a.journal.Meter(c.ID)
	if m.Paused {
		if open, err := a.node.Gate(c.Tag); err != nil || !open {
			return err
		}
		if !m.Rebased { // establish closes it: whoever opened it, it was not to be
			a.log.Warn("the gate of a suspended connection was open and is closed again", "connection", c.ID)
			return nil
		}
		m = m.resumeAt(a.now()) // it was resumed, and the agent killed before that was written down
	}
	if err := a.node.Pause(c.Tag); err != nil {
		return err
	}
	paused := a.now()
	if !m.open() {
		// The state directory is new. What was counted before is lost to it; the opening is the platform's to know.
		a.log.Error("a suspended connection has no meter on record; counting begins when it is resumed", "connection", c.ID)
		m = Meter{Connection: c.ID, Tag: c.Tag, Epoch: nextEpoch(m.Epoch, paused.wall), Paused: true, SuspendedAt: m.at(paused)}
		m.OpenedAt, m.ReadTo, m.readAt = m.SuspendedAt, m.SuspendedAt, paused.up
		return a.append(record{Meter: &m})
	}
	counters, err := a.node.Counters(m.Tag)
	if domain.CodeOf(err) == domain.NotFound {
		a.log.Error("the meter is gone before its last reading", "connection", m.Connection, "since", m.ReadTo)
		counters, err = m.Counters, nil
	}
	if err != nil {
		return err
	}
	m, r := m.pauseAt(counters, paused, a.node.Kind())
	if err := a.append(record{Meter: &m, Reading: &r}); err != nil {
		return err
	}
	a.log.Info("suspended", "connection", m.Connection, "at", m.SuspendedAt)
	return nil
}

// removeOthers takes everything off the node that no wanted connection owns: what is found there, or, in a scope, what
// the connections that have changed may have left.
func (a *agent) removeOthers(ctx context.Context, wanted map[string]DesiredConnection, of scope) error {
	tags := a.left
	a.left = nil
	if of == nil {
		a.present = nil
		var err error
		if tags, err = a.node.List(); err != nil {
			return err
		}
		a.present = map[int]bool{}
		for _, tag := range tags {
			a.present[tag] = true
		}
	}
	if !a.fresh { // a stale state must not take down what has been ordered since
		return nil
	}
	keep := map[int]bool{}
	for _, c := range wanted {
		keep[c.Tag] = true
	}
	for _, m := range a.journal.Meters() {
		keep[m.Tag] = keep[m.Tag] || !m.closed() // its last reading is still to be taken
	}
	var failed []error
	for _, tag := range tags {
		if keep[tag] || !a.present[tag] {
			continue
		}
		if err := a.remove(ctx, tag); err != nil {
			failed = append(failed, fmt.Errorf("remove tag %d: %w", tag, err))
			continue
		}
		a.log.Info("removed", "tag", tag)
	}
	return errors.Join(failed...)
}

func (a *agent) remove(ctx context.Context, tag int) error {
	err := a.node.Remove(ctx, tag)
	if err == nil {
		delete(a.present, tag)
	}
	return err
}

// establish makes one wanted connection what it should be.
func (a *agent) establish(ctx context.Context, c DesiredConnection) error {
	if a.present != nil {
		a.present[c.Tag] = true
	}
	if err := a.node.Ensure(ctx, c); err != nil {
		return err
	}
	if c.Phase == Production {
		return a.openMeter(c)
	}
	if c.Phase == Testing {
		a.startProbe(ctx, c)
	}
	open, err := a.node.Gate(c.Tag)
	if err != nil || !open {
		return err
	}
	return a.node.SetGate(c.Tag, false)
}

// openMeter puts a connection into production, in this order: the counters are read and kept, the gate is opened, the
// time is kept. Killed after the first step, the next agent begins anew. Killed after the second, it keeps the baseline
// and takes its own present as the opening: no byte is lost and nothing is charged for a time before it is known that
// traffic could cross.
func (a *agent) openMeter(c DesiredConnection) error {
	m := a.journal.Meter(c.ID)
	open, err := a.node.Gate(c.Tag)
	if err != nil {
		return err
	}
	if m.open() && m.Paused {
		return a.resumeMeter(c, m, open)
	}
	if m.open() {
		if !open { // the node was rebooted, or somebody closed it
			a.log.Warn("the gate was closed and is opened again", "connection", c.ID)
			return a.node.SetGate(c.Tag, true)
		}
		return nil
	}
	if m.Connection == "" || m.closed() || !open {
		if open {
			a.log.Error("traffic is crossing unmetered: the state directory is new; counting from now", "connection", c.ID)
		}
		counters, err := a.node.Counters(c.Tag)
		if err != nil {
			return err
		}
		m = Meter{Connection: c.ID, Tag: c.Tag, Epoch: nextEpoch(m.Epoch, a.now().wall), Counters: counters, ReadTo: m.ReadTo, readAt: m.readAt}
		if err := a.append(record{Meter: &m}); err != nil {
			return err
		}
	}
	if err := a.node.SetGate(c.Tag, true); err != nil {
		return err
	}
	opened := a.now()
	m.OpenedAt = m.at(opened) // after what it may have carried here before
	m.ReadTo, m.readAt = m.OpenedAt, opened.up
	m.ResumedAt = m.OpenedAt // a suspension that this agent has no memory of is over too
	if err := a.append(record{Meter: &m}); err != nil {
		return err
	}
	a.log.Info("opened", "connection", c.ID, "at", m.OpenedAt)
	return nil
}

// resumeMeter opens the gate of a suspended connection, in the order of openMeter and for its reasons.
func (a *agent) resumeMeter(c DesiredConnection, m Meter, open bool) error {
	if !open || !m.Rebased {
		counters, err := a.node.Counters(c.Tag)
		if err != nil {
			return err
		}
		m = m.rebase(counters)
		if err := a.append(record{Meter: &m}); err != nil {
			return err
		}
	}
	if err := a.node.SetGate(c.Tag, true); err != nil {
		return err
	}
	m = m.resumeAt(a.now())
	if err := a.append(record{Meter: &m}); err != nil {
		return err
	}
	a.log.Info("resumed", "connection", c.ID, "at", m.ResumedAt)
	return nil
}

// readMeters reads every open meter, with one write to the disk for all of them.
func (a *agent) readMeters(context.Context) error {
	_, undelivered := a.journal.Undelivered("")
	if undelivered >= a.spoolLimit {
		if !a.full {
			a.log.Error("no room for readings: meters count on and are read when the platform has taken some", "undelivered", undelivered)
		}
		a.full = true
		return nil
	}
	a.full = false
	var failed []error
	var records []record
	for id, m := range a.journal.Meters() {
		if !m.counts() {
			continue
		}
		counters, err := a.node.Counters(m.Tag)
		if err != nil {
			failed = append(failed, fmt.Errorf("read the meter of %s: %w", id, err))
			continue
		}
		m, r, ok := m.read(counters, a.now(), a.desired.ReadingInterval, a.node.Kind())
		if !ok {
			continue
		}
		records = append(records, record{Meter: &m, Reading: &r})
	}
	if len(records) > 0 {
		if err := a.append(records...); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// observe refreshes what is reported, without touching the node.
func (a *agent) observe(ctx context.Context, of scope) error {
	if !a.whole {
		return nil // what there is to see will be
	}
	return a.observeAll(ctx, of, nil)
}

// observeAll tells the reporter what is seen of the connections of the desired state that are in scope.
func (a *agent) observeAll(ctx context.Context, of scope, failures map[string]error) error {
	now := a.now().wall
	past := func(t time.Time) time.Time { // what a meter whose clock was set back has yet to come to, the platform would refuse
		if t.After(now) {
			return time.Time{}
		}
		return t
	}
	var all []Observation
	for _, c := range a.desired.Connections {
		if !of.has(c.ID) {
			continue
		}
		m := a.journal.Meter(c.ID)
		o := Observation{ConnectionID: c.ID, OpenedAt: m.OpenedAt, ClosedAt: past(m.ClosedAt), ResumedAt: past(m.ResumedAt)}
		if m.Paused && !m.closed() {
			o.SuspendedAt = past(m.SuspendedAt)
		}
		if c.Phase == Absent {
			undelivered, _ := a.journal.Undelivered(c.ID)
			o.Removed = a.fresh && undelivered == 0 && !m.open() && o.ClosedAt.Equal(m.ClosedAt) && a.present != nil && !a.present[c.Tag]
		} else {
			sessions, message, err := a.node.Sessions(ctx, c.Tag)
			if err != nil {
				return err
			}
			o.Sessions, o.Message = sessions, message
			if o.Bandwidth, err = a.node.Bandwidth(c.Tag); err != nil {
				return err
			}
			if p := a.probes[c.ProbeID]; p != nil {
				o.Probe = p
			}
		}
		if err := failures[c.ID]; err != nil {
			o.Message = toldOf(err)
		}
		o.Message = shorten(o.Message, maxMessage)
		all = append(all, o)
	}
	a.reporter.set(a.desired.Revision, of, all)
	a.forgetProbes()
	a.whole = a.present != nil
	return nil
}

// toldOf is what a connection's parties are told of what keeps it from being as it should be. What names the node's own is in
// its log alone.
func toldOf(err error) string {
	var known *datapath.PartyError
	if errors.As(err, &known) {
		return known.Told
	}
	return "the edge node can't bring it to what it should be, and tries again; the node's operator finds the reason in its log"
}

// startProbe runs a probe the platform has asked for, once.
func (a *agent) startProbe(ctx context.Context, c DesiredConnection) {
	if _, known := a.probes[c.ProbeID]; known || c.ProbeID == "" {
		return
	}
	a.probes[c.ProbeID] = nil
	go func() {
		limited, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		passed, detail := a.node.Probe(limited, c)
		select {
		case a.probed <- probed{c.ProbeID, Probe{ID: c.ProbeID, Passed: passed, Detail: shorten(detail, maxMessage)}}:
		case <-ctx.Done():
		}
	}()
}

// forgetProbes drops results nobody asks for any more.
func (a *agent) forgetProbes() {
	asked := map[string]bool{}
	for _, c := range a.desired.Connections {
		asked[c.ProbeID] = true
	}
	for id, result := range a.probes {
		if !asked[id] && result != nil {
			delete(a.probes, id)
		}
	}
}

func shorten(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit-1]) + "…"
}
