package provisioning

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

// tested returns a connection that the node of w has in testing, provisioned by the saga itself, and one that it has in
// production.
func tested(t *testing.T) (w *world, testing, production deal, opened time.Time) {
	w = newWorld(t)
	l := w.line(&faulty{next: w.log})
	l.d = w.place(wish{})
	l.settle(false)
	production, opened = l.d, l.edge.opened[l.d.connection]
	w.check(production, order.StateCompleted, connection.StateProduction)
	l.edge.noBGP = true
	l.d = w.place(wish{})
	l.settle(false)
	return w, l.d, production, opened
}

func (w *world) head() events.Position {
	w.Helper()
	h, err := w.log.Head(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return h.Position
}

// Whatever is wrong with a report, nothing of it is recorded, and every problem is pointed at.
func TestObserveRefuses(t *testing.T) {
	t.Parallel()
	w, onTest, production, _ := tested(t)
	requested := w.place(wish{manual: true})
	_, c := w.states(onTest)
	since := c.TestingDeadline.Add(-time.Hour)
	good := Observation{ConnectionID: onTest.connection, Sessions: []SessionObservation{{Side: "a", State: "established", Since: since}}}
	one := func(change func(o *Observation)) []Observation {
		o := Observation{ConnectionID: onTest.connection}
		change(&o)
		return []Observation{good, o}
	}
	soon := now()

	for _, c := range []struct {
		name, node, kind string
		report           []Observation
		code             domain.Code
		pointers         []string
	}{
		{"kind", "", "magic", []Observation{good}, domain.Invalid, []string{"/kind"}},
		{"too many", "", "", make([]Observation, MaxObservations+1), domain.Invalid, []string{"/observations"}},
		{"unknown connection", "", "", []Observation{good, {ConnectionID: w.id(domain.PrefixConnection)}}, domain.NotFound, []string{"/observations/1/connection_id"}},
		{"no identifier", "", "", []Observation{{ConnectionID: "x'; --"}, good}, domain.NotFound, []string{"/observations/0/connection_id"}},
		{"not allocated yet", "", "", []Observation{good, {ConnectionID: requested.connection}}, domain.NotFound, []string{"/observations/1/connection_id"}},
		{"another node's connection", w.id(domain.PrefixEdgeNode), "", []Observation{good}, domain.NotFound, []string{"/observations/0/connection_id"}},
		{"side", "", "", one(func(o *Observation) { o.Sessions = []SessionObservation{{Side: "b", State: "idle", Since: since}} }), domain.Invalid, []string{"/observations/1/sessions/0/side"}},
		{"two wrong fields of two sessions", "", "", one(func(o *Observation) {
			o.Sessions = []SessionObservation{{Side: "a", State: "up", Since: since}, {Side: "z", State: "idle", Since: since, PrefixesReceived: -1}}
		}), domain.Invalid, []string{"/observations/1/sessions/0/state", "/observations/1/sessions/1/prefixes_received"}},
		{"probe without an identifier", "", "", one(func(o *Observation) { o.Probe = &ProbeObservation{} }), domain.Invalid, []string{"/observations/1/probe/probe_id"}},
		{"opened without a cutover", "", "", one(func(o *Observation) { o.OpenedAt = &soon }), domain.Conflict, []string{"/observations/1"}},
		{"removed though it is to be there", "", "", one(func(o *Observation) { o.Removed, o.ClosedAt = true, &soon }), domain.Conflict, []string{"/observations/1"}},
		{"a live connection removed", "", "", []Observation{good, {ConnectionID: production.connection, Removed: true, ClosedAt: &soon}}, domain.Conflict, []string{"/observations/1"}},
		{"message", "", "", one(func(o *Observation) { o.Message = strings.Repeat("x", MaxMessage+1) }), domain.Invalid, []string{"/observations/1/message"}},
		{"a wrong field outweighs", "", "", []Observation{{ConnectionID: w.id(domain.PrefixConnection)}, {ConnectionID: onTest.connection, Message: "\x00"}}, domain.Invalid,
			[]string{"/observations/0/connection_id", "/observations/1/message"}},
	} {
		node, kind := w.node, KindEBPF
		if c.node != "" {
			node = c.node
		}
		if c.kind != "" {
			kind = c.kind
		}
		before := w.head()
		position, err := Observe(t.Context(), w.log, node, kind, now(), c.report...)
		var e *domain.Error
		if !errors.As(err, &e) || e.Code != c.code || position != 0 {
			t.Errorf("%s: position %d, %v; want %s", c.name, position, err, c.code)
			continue
		}
		var pointers []string
		for _, f := range e.Fields {
			pointers = append(pointers, f.Pointer)
		}
		if !slices.Equal(pointers, c.pointers) {
			t.Errorf("%s: points at %v, want %v (%v)", c.name, pointers, c.pointers, err)
		}
		if w.head() != before {
			t.Errorf("%s: something was appended", c.name)
		}
	}
}

// A report records what is new, once, with whom it concerns; the same again records nothing.
func TestObserveRecordsNews(t *testing.T) {
	t.Parallel()
	w, onTest, production, opened := tested(t)
	since := now().Add(-time.Minute)
	report := []Observation{
		{ConnectionID: onTest.connection, Sessions: []SessionObservation{{Side: "a", State: "established", Since: since, PrefixesReceived: 1}}},
		{ConnectionID: production.connection, OpenedAt: &opened, Sessions: []SessionObservation{{Side: "z", State: "idle", Since: since}}, Message: "the peer is gone"},
		{ConnectionID: onTest.connection, Sessions: []SessionObservation{{Side: "z", State: "connect", Since: since}}}, // the same connection again
	}
	before := w.head()
	position, err := Observe(t.Context(), w.log, w.node, KindEBPF, now(), report...)
	if err != nil || position != before+4 || w.head() != position {
		t.Fatalf("position %d after %d (%v), want three session's events and a message", position, before, err)
	}
	_, c := w.states(onTest)
	if c.Sessions["a"].State != "established" || c.Sessions["a"].PrefixesReceived != 1 || c.Sessions["z"].State != "connect" {
		t.Errorf("sessions are %v", c.Sessions)
	}
	if _, c := w.states(production); c.EdgeMessage == nil || c.EdgeMessage.Message != "the peer is gone" || c.Status()[0] != *c.EdgeMessage {
		t.Errorf("the message is %+v", c.EdgeMessage)
	}
	page, err := w.log.ReadAll(t.Context(), before, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page {
		_, s := w.states(onTest)
		if r.Stream == connection.Stream(production.connection) {
			_, s = w.states(production)
		}
		if m := r.Metadata; m.Actor != w.node || m.Correlation != s.OrderID || len(m.Parties) != 2 ||
			!slices.Contains(m.Parties, s.CustomerID) || !slices.Contains(m.Parties, s.ProviderID) {
			t.Errorf("%s has the metadata %+v", r.Type, m)
		}
	}
	for range 3 {
		if position, err := Observe(t.Context(), w.log, w.node, KindEBPF, now(), report...); err != nil || position != 0 || w.head() != page[3].Position {
			t.Fatalf("the same report again: position %d (%v)", position, err)
		}
	}
	if position, err := Observe(t.Context(), w.log, w.node, KindEBPF, now()); err != nil || position != 0 {
		t.Errorf("an empty report: position %d (%v)", position, err)
	}
}

// A node whose clock was ahead when a session changed goes on saying so when it is set right. The rest of the report is taken,
// and the session as what it is; the same again is no news.
func TestObserveTakesASessionOfTheFuture(t *testing.T) {
	t.Parallel()
	w, onTest, production, _ := tested(t)
	ahead, at := now().Add(5*time.Hour), now()
	report := []Observation{{ConnectionID: onTest.connection, Message: "all else is right", Sessions: []SessionObservation{
		{Side: "a", State: "established", Since: at.Add(-time.Minute), PrefixesReceived: 1}, {Side: "z", State: "established", Since: ahead, PrefixesReceived: 1}}},
		{ConnectionID: production.connection, Sessions: []SessionObservation{{Side: "z", State: "established", Since: ahead, PrefixesReceived: 7}}}}
	_, before := w.states(production)
	if _, err := Observe(t.Context(), w.log, w.node, KindEBPF, at, report...); err != nil {
		t.Fatal(err)
	}
	if _, c := w.states(onTest); !c.Sessions["z"].Since.Equal(at) || c.Sessions["z"].State != "established" || c.EdgeMessage == nil {
		t.Errorf("the connection is seen as %+v, %+v", c.Sessions, c.EdgeMessage)
	}
	if _, c := w.states(production); !c.Sessions["z"].Since.Equal(before.Sessions["z"].Since) || c.Sessions["z"].PrefixesReceived != 7 {
		t.Errorf("a session that stood all the while is seen as %+v, was %+v", c.Sessions["z"], before.Sessions["z"])
	}
	if position, err := Observe(t.Context(), w.log, w.node, KindEBPF, at.Add(time.Second), report...); err != nil || position != 0 {
		t.Errorf("the same report again: position %d (%v)", position, err)
	}
	report[0].Sessions[1].State = "idle"
	down := at.Add(2 * time.Second)
	if _, err := Observe(t.Context(), w.log, w.node, KindEBPF, down, report...); err != nil {
		t.Fatal(err)
	}
	if _, c := w.states(onTest); !c.Sessions["z"].Since.Equal(down) {
		t.Errorf("a session that goes down is seen as %+v", c.Sessions["z"])
	}
}

// An agent that repeats itself, or is late, is never refused for it: it could not go on.
func TestObserveToleratesLateReports(t *testing.T) {
	t.Parallel()
	w, _, d, opened := tested(t)
	_, c := w.states(d)
	probe := c.LastProbe.ID
	closed := now()
	full := Observation{ConnectionID: d.connection, OpenedAt: &opened, Probe: &ProbeObservation{ProbeID: probe, Passed: false},
		Sessions: []SessionObservation{{Side: "a", State: "idle", Since: opened}}}
	gone := full
	gone.Removed, gone.ClosedAt = true, &closed
	w.commandConnection(d, connection.RequestDecommission{Reason: "no longer needed", At: now()})
	halfway := full
	halfway.ClosedAt = &closed // the gate is closed, the readings are still on their way
	for _, step := range []struct {
		o    Observation
		news int
	}{{full, 1}, {halfway, 0}, {gone, 1}, {gone, 0}, {full, 0}} {
		before := w.head()
		if _, err := Observe(t.Context(), w.log, w.node, KindEBPF, now(), step.o); err != nil || w.head() != before+events.Position(step.news) {
			t.Fatalf("%d events (%v), want %d", w.head()-before, err, step.news)
		}
	}
	_, after := w.states(d)
	if !after.EdgeRemoved || !after.EdgeClosedAt.Equal(closed) || !after.BillingFrom.Equal(opened) || !after.ProbePassed() {
		t.Errorf("it came to %+v", after)
	}
}

// A report whose connections move on between reading and appending is read again.
func TestObserveTriesAgainOnAConflict(t *testing.T) {
	t.Parallel()
	w, onTest, _, _ := tested(t)
	since, moves := now().Add(-time.Minute), 3
	racing := appenderFunc(func(ctx context.Context, a events.Append) (events.Result, error) {
		if moves > 0 {
			moves--
			w.commandConnection(onTest, connection.ReportSession{EdgeNodeID: w.node, Side: "z", At: now(),
				Session: connection.Session{State: "connect", Since: since.Add(time.Duration(moves) * time.Second)}})
		}
		return w.log.Append(ctx, a)
	})
	o := Observation{ConnectionID: onTest.connection, Sessions: []SessionObservation{{Side: "a", State: "established", Since: since}}}
	if _, err := observe(t.Context(), w.log, racing, w.node, KindEBPF, now(), []Observation{o}); err != nil {
		t.Fatal(err)
	}
	if _, c := w.states(onTest); c.Sessions["a"].State != "established" || moves != 0 {
		t.Errorf("sessions are %v after %d moves", c.Sessions, 3-moves)
	}

	moves = observationTries + 1
	o.Sessions[0].State = "idle"
	if _, err := observe(t.Context(), w.log, racing, w.node, KindEBPF, now(), []Observation{o}); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("a report that never finds its connection still: %v, want unavailable", err)
	}
}
