package provisioning

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/events"
)

// Limits on a report.
const (
	MaxObservations  = 1000 // connections; with five events each it still is one append
	MaxMessage       = connection.MaxMessage
	observationTries = 20 // a report whose connections move on under it is read against them again
)

// Kinds of edge.
const (
	KindEBPF     = "ebpf"
	KindSoftware = "software"
)

// Observation is what an edge node sees of one connection.
type Observation struct {
	ConnectionID string
	Sessions     []SessionObservation
	Probe        *ProbeObservation // a test packet's fate
	OpenedAt     *time.Time        // when traffic began to cross
	ClosedAt     *time.Time        // when traffic stopped crossing
	SuspendedAt  *time.Time        // since when it does not for a while
	ResumedAt    *time.Time        // when it last began to cross
	Bandwidth    int               // Mbps that the node applies; 0 if it says none
	Removed      bool              // nothing of it is left on the node, and its readings are delivered
	Message      string            // for people
}

// SessionObservation is a BGP session as the node sees it now.
type SessionObservation struct {
	Side             string // "a" or "z"
	Family           string // "ipv4" or "ipv6"; "" is IPv4
	State            string
	Since            time.Time
	PrefixesReceived int
	PrefixesSent     int
}

// ProbeObservation is how the probe that the node was asked for went.
type ProbeObservation struct {
	ProbeID string
	Passed  bool
	Detail  string
}

// Observe turns an edge node's report into events of the connections it names: all of it in one append, or none if
// anything in it is wrong. What is known already, or comes too late to matter, is passed over, so a report may be
// repeated freely. It returns the position of the last event, or 0 if there was nothing new.
//
// Errors, with pointers into the request's body:
//   - Invalid for wrong fields, all of them at once;
//   - NotFound for a connection that does not exist or is not on this node;
//   - Conflict for what can't be so: traffic that crosses where none was to, a connection removed that is to be there;
//   - Unavailable if the connections never stood still, or the log could not be written: nothing was appended.
func Observe(ctx context.Context, log *events.Log, edgeNodeID, kind string, at time.Time, observations ...Observation) (events.Position, error) {
	return observe(ctx, log, log, edgeNodeID, kind, at, observations)
}

func observe(ctx context.Context, log *events.Log, to appender, edgeNodeID, kind string, at time.Time, observations []Observation) (events.Position, error) {
	const op = "provisioning.Observe"
	var p domain.Problems
	p.OneOf("/kind", kind, KindEBPF, KindSoftware)
	p.Check(len(observations) <= MaxObservations, "/observations", "must be at most %d", MaxObservations)
	if err := p.Err(op); err != nil {
		return 0, err
	}
	for range observationTries {
		r := report{node: edgeNodeID, at: at, seen: make(map[string]*observed, len(observations))}
		for i, o := range observations {
			if err := r.read(ctx, log, domain.Pointer("/observations", i), o); err != nil {
				return 0, err
			}
		}
		if err := r.err(op); err != nil {
			return 0, err
		}
		changed := r.append()
		if len(changed.Streams) == 0 {
			return 0, nil
		}
		result, err := to.Append(ctx, changed)
		if domain.CodeOf(err) != domain.Conflict {
			return result.Last, err
		}
	}
	return 0, domain.Errorf(domain.Unavailable, op, "the connections of the report changed too often while it was read").
		WithHint("send it again")
}

// report is a report being read against the log.
type report struct {
	node  string
	at    time.Time
	seen  map[string]*observed
	order []*observed // as they first occurred

	code  domain.Code // of the gravest problem so far
	hint  string
	wrong domain.Problems
}

// observed is a connection with what the report adds to it.
type observed struct {
	state   connection.State
	version int64
	events  []domain.Event
}

// read decides one observation. Problems with it are collected; an error means that the log could not be read.
func (r *report) read(ctx context.Context, log *events.Log, pointer string, o Observation) error {
	c := r.seen[o.ConnectionID]
	if c == nil {
		c = &observed{}
		if domain.ValidID(domain.PrefixConnection, o.ConnectionID) { // no other has a stream
			var err error
			if c.state, c.version, err = loadConnection(ctx, log, o.ConnectionID); err != nil {
				return err
			}
		}
		if c.version == 0 || !c.state.Concerns(r.node) {
			r.problem(pointer+"/connection_id", domain.Errorf(domain.NotFound, "provisioning.Observe", "there is no such connection on this edge node").
				WithHint("remove it from the node"))
			return nil
		}
		r.seen[o.ConnectionID] = c
		r.order = append(r.order, c)
	}
	if o.ClosedAt != nil && !o.Removed { // before the sessions, which are of the new build from then on
		r.decide(c, pointer, connection.ReportStopped{EdgeNodeID: r.node, ClosedAt: *o.ClosedAt, At: r.at})
	}
	for i, s := range o.Sessions {
		r.decide(c, domain.Pointer(pointer+"/sessions", i), connection.ReportSession{EdgeNodeID: r.node, Side: s.Side, Family: s.Family, At: r.at, Session: connection.Session{
			State: s.State, Since: s.Since, PrefixesReceived: s.PrefixesReceived, PrefixesSent: s.PrefixesSent}})
	}
	if o.Probe != nil {
		r.decide(c, pointer+"/probe", connection.ReportProbe{EdgeNodeID: r.node, ProbeID: o.Probe.ProbeID, Passed: o.Probe.Passed, Detail: o.Probe.Detail, At: r.at})
	}
	if o.OpenedAt != nil {
		r.decide(c, pointer, connection.Activate{EdgeNodeID: r.node, OpenedAt: *o.OpenedAt, At: r.at})
		if o.ClosedAt == nil {
			r.decide(c, pointer, connection.ReportRestored{EdgeNodeID: r.node, OpenedAt: *o.OpenedAt, At: r.at})
		}
	}
	if o.Bandwidth != 0 {
		r.decide(c, pointer, connection.ReportBandwidth{EdgeNodeID: r.node, BandwidthMbps: o.Bandwidth, At: r.at})
	}
	if o.SuspendedAt != nil {
		r.decide(c, pointer, connection.ReportSuspended{EdgeNodeID: r.node, SuspendedAt: *o.SuspendedAt, At: r.at})
	}
	if o.ResumedAt != nil {
		r.decide(c, pointer, connection.ReportResumed{EdgeNodeID: r.node, ResumedAt: *o.ResumedAt, At: r.at})
	}
	r.decide(c, pointer, connection.ReportMessage{EdgeNodeID: r.node, Message: o.Message, At: r.at})
	if o.Removed { // closed_at alone is half the way: the readings are still to come
		closed := r.at // a node that never let traffic cross has no closing time to tell
		if o.ClosedAt != nil {
			closed = *o.ClosedAt
		}
		r.decide(c, pointer, connection.CloseEdge{EdgeNodeID: r.node, ClosedAt: closed, At: r.at})
	}
	return nil
}

// decide adds to c what a command makes of it.
func (r *report) decide(c *observed, pointer string, command connection.Command) {
	decided, err := connection.Decide(c.state, command)
	if err != nil {
		r.problem(pointer, err)
		return
	}
	for _, e := range decided {
		c.state = connection.Evolve(c.state, e)
	}
	c.events = append(c.events, decided...)
}

// problem records a refusal at its place in the report.
func (r *report) problem(pointer string, err error) {
	var refusal *domain.Error
	if !errors.As(err, &refusal) {
		refusal = domain.Errorf(domain.Internal, "provisioning.Observe", "%w", err)
	}
	for _, f := range refusal.Fields {
		r.add(refusal.Code, refusal.Hint, domain.FieldError{Pointer: pointer + f.Pointer, Detail: f.Detail})
	}
	if len(refusal.Fields) == 0 {
		r.add(refusal.Code, refusal.Hint, domain.FieldError{Pointer: pointer, Detail: refusal.Message})
	}
}

// add keeps a problem. A wrong field is the sender's defect and outweighs what only does not fit the present state.
func (r *report) add(code domain.Code, hint string, f domain.FieldError) {
	if r.code == "" || code == domain.Invalid && r.code != domain.Invalid {
		r.code, r.hint = code, hint
	}
	r.wrong = append(r.wrong, f)
}

func (r *report) err(op string) error {
	if len(r.wrong) == 0 {
		return nil
	}
	message := "the report is not acceptable, and nothing of it was recorded"
	if r.code == domain.NotFound {
		message = "the report names a connection that is not on this edge node, and nothing of it was recorded"
	}
	return &domain.Error{Code: r.code, Op: op, Message: message, Hint: r.hint, Fields: r.wrong}
}

// settle gives back in tx what a connection that is narrower now takes no more of its ports, in the append that says so.
func (r *report) settle(ctx context.Context, tx pgx.Tx) error {
	for _, c := range r.order {
		for _, e := range c.events {
			if changed, ok := e.(connection.Changed); ok && c.state.Leaving == nil { // else the build that it left holds it yet
				if err := hold(ctx, tx, c.state.ID, changed.BandwidthMbps, nil); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *report) append() events.Append {
	a := events.Append{Ask: r.settle}
	for _, c := range r.order {
		if len(c.events) == 0 {
			continue
		}
		parties := []string{c.state.CustomerID, c.state.ProviderID}
		slices.Sort(parties)
		metadata := events.Metadata{Actor: r.node, Correlation: c.state.OrderID, Parties: slices.Compact(parties)}
		s := events.StreamAppend{Stream: connection.Stream(c.state.ID), Expected: events.ExpectedVersion(c.version)}
		for i, e := range c.events {
			id := domain.DeriveEventID("observation", s.Stream, strconv.FormatInt(c.version+1+int64(i), 10), e.EventType())
			s.Events = append(s.Events, events.NewEvent{ID: id, Event: e, Metadata: metadata})
		}
		a.Streams = append(a.Streams, s)
	}
	return a
}
