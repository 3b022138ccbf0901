package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/port"
	"crossbill/domain/reading"
	"crossbill/events"
	"crossbill/provisioning"
)

// readingWriters is how many connections' readings of one batch are appended at a time.
const readingWriters = 16

// loadEdgeNode returns the node if the caller is its agent; to any other agent it does not exist.
func (s *Server) loadEdgeNode(ctx context.Context, id string) (edgenode.State, error) {
	state, version, err := events.Load(ctx, s.Log, edgenode.Stream(id), edgenode.Evolve)
	if err != nil {
		return state, err
	}
	if version == 0 || callerFrom(ctx).Principal.ID != id {
		return state, notFound("edge node", id)
	}
	return state, nil
}

// GetDesiredState answers with the node's desired state once it is newer than the caller's, or the wait is over.
func (s *Server) GetDesiredState(ctx context.Context, req GetDesiredStateRequestObject) (GetDesiredStateResponseObject, error) {
	node, err := s.loadEdgeNode(ctx, req.EdgeNodeId)
	if err != nil {
		return nil, err
	}
	if err := s.heard(ctx, node.ID, s.now(), nil, nil); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Duration(valueOr(req.Params.WaitSeconds, 0))*time.Second)
	defer cancel()
	for {
		head, err := s.Log.Head(ctx)
		if err != nil {
			return nil, err
		}
		// The state must include everything up to head before it is looked at: the wait below is for what comes after.
		if err := s.Waiter.WaitFor(wait, head.Position, connectionsModel); err != nil && wait.Err() == nil {
			return nil, err
		}
		desired, err := s.Queries.EdgeState(ctx, node.ID)
		if err != nil {
			return nil, err
		}
		if desired.Revision > events.Position(valueOr(req.Params.AfterRevision, 0)) || wait.Err() != nil {
			state, err := s.desiredState(ctx, node, desired.Revision, desired.Connections)
			return GetDesiredState200JSONResponse(state), err
		}
		if err := s.Log.Wait(wait, head.Position); err != nil && wait.Err() == nil {
			return nil, err
		}
	}
}

// connectionsModel is the read model that desired states come from.
const connectionsModel = "connections"

func (s *Server) desiredState(ctx context.Context, node edgenode.State, revision events.Position, connections []connection.State) (DesiredState, error) {
	v := DesiredState{
		Revision: int64(revision), EdgeNodeId: node.ID, Asn: node.ASN, RouterId: node.RouterID,
		ReadingIntervalSeconds: int(s.ReadingInterval / time.Second), Connections: []DesiredConnection{},
	}
	for _, c := range connections {
		desired := DesiredConnection{
			ConnectionId: c.ID, Tag: c.Tag, Phase: DesiredConnectionPhase(c.DesiredPhase()), BandwidthMbps: c.DesiredMbps(),
			A: desiredAttachment(c.A), Z: desiredAttachment(c.Z),
		}
		if c.ProbePending() {
			desired.ProbeId = &c.LastProbe.ID
		}
		if err := s.desiredSessions(ctx, c, &desired); err != nil {
			return v, err
		}
		v.Connections = append(v.Connections, desired)
	}
	return v, nil
}

// ReportObservations turns what an agent sees into events.
func (s *Server) ReportObservations(ctx context.Context, req ReportObservationsRequestObject) (ReportObservationsResponseObject, error) {
	node, err := s.loadEdgeNode(ctx, req.EdgeNodeId)
	if err != nil {
		return nil, err
	}
	observations := make([]provisioning.Observation, len(req.Body.Observations))
	for i, o := range req.Body.Observations {
		observations[i] = observationOf(o)
	}
	position, err := provisioning.Observe(ctx, s.Log, node.ID, string(req.Body.Kind), s.now(), observations...)
	if err != nil {
		return nil, err
	}
	kind := string(req.Body.Kind)
	if err := s.heard(ctx, node.ID, s.now(), &kind, req.Body.Revision); err != nil {
		return nil, err
	}
	return ReportObservations204Response{Headers: ReportObservations204ResponseHeaders{CrossbillPosition: optional(int64(position))}}, nil
}

func observationOf(v Observation) provisioning.Observation {
	o := provisioning.Observation{
		ConnectionID: v.ConnectionId, OpenedAt: v.OpenedAt, ClosedAt: v.ClosedAt, Removed: valueOr(v.Removed, false),
		Message: valueOr(v.Message, ""), SuspendedAt: v.SuspendedAt, ResumedAt: v.ResumedAt, Bandwidth: valueOr(v.BandwidthMbps, 0),
	}
	for _, session := range valueOr(v.Sessions, nil) {
		o.Sessions = append(o.Sessions, provisioning.SessionObservation{
			Side: string(session.Side), State: string(session.State), Since: session.Since,
			PrefixesReceived: session.PrefixesReceived, PrefixesSent: session.PrefixesSent,
		})
	}
	if v.Probe != nil {
		o.Probe = &provisioning.ProbeObservation{ProbeID: v.Probe.ProbeId, Passed: v.Probe.Passed, Detail: valueOr(v.Probe.Detail, "")}
	}
	return o
}

// SendReadings records a batch of readings, each with a verdict of its own. Readings of one connection keep their order.
func (s *Server) SendReadings(ctx context.Context, req SendReadingsRequestObject) (SendReadingsResponseObject, error) {
	node, err := s.loadEdgeNode(ctx, req.EdgeNodeId)
	if err != nil {
		return nil, err
	}
	batch := readingBatch{server: s, node: node.ID, readings: req.Body.Readings, verdicts: make([]ReadingVerdict, len(req.Body.Readings))}
	batch.errors = make([]error, len(batch.readings))
	if err := batch.record(ctx); err != nil {
		return nil, err
	}
	if err := batch.allRejected(); err != nil {
		return nil, err
	}
	return SendReadings200JSONResponse{
		Body: ReadingVerdicts{Verdicts: batch.verdicts}, Headers: SendReadings200ResponseHeaders{CrossbillPosition: optional(batch.position)},
	}, nil
}

type readingBatch struct {
	server   *Server
	node     string
	readings []Reading

	verdicts []ReadingVerdict
	errors   []error // why a reading is rejected

	mu       sync.Mutex
	position int64
}

// record gives every reading its verdict. It returns an error only for what is nobody's reading's fault; then nothing is
// known of those without a verdict, and sending the batch again is safe.
func (b *readingBatch) record(ctx context.Context) error {
	of := map[string][]int{} // indices by connection
	var order []string
	for i, r := range b.readings {
		if of[r.ConnectionId] == nil {
			order = append(order, r.ConnectionId)
		}
		of[r.ConnectionId] = append(of[r.ConnectionId], i)
	}
	var (
		wait  sync.WaitGroup
		slots = make(chan struct{}, readingWriters)
		fails = make([]error, len(order))
	)
	for n, id := range order {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			fails[n] = b.recordConnection(ctx, id, of[id])
		})
	}
	wait.Wait()
	return errors.Join(fails...)
}

func (b *readingBatch) recordConnection(ctx context.Context, id string, indices []int) error {
	s := b.server
	state, _, err := events.Load(ctx, s.Log, connection.Stream(id), connection.Evolve)
	if err != nil {
		return err
	}
	capacity := 0
	if state.CustomerPortID != "" {
		p, _, err := events.Load(ctx, s.Log, port.Stream(state.CustomerPortID), port.Evolve)
		if err != nil {
			return err
		}
		capacity = p.CapacityMbps
	}
	parties := unique(state.CustomerID, state.ProviderID)
	var valid []int
	var appends []events.NewEvent
	for _, i := range indices {
		e, err := b.decide(state, capacity, b.readings[i])
		if domain.CodeOf(err) == domain.Unavailable { // not wrong but early: the node is yet to report the gate open
			return err
		}
		if err != nil {
			b.reject(i, err)
			continue
		}
		e.Metadata = events.Metadata{Actor: callerFrom(ctx).KeyID, Parties: parties}
		valid, appends = append(valid, i), append(appends, e)
	}
	if len(valid) == 0 {
		return nil
	}
	// Together if all are new or all are known; one by one if the batch is a mixture or one of them contradicts.
	err = b.append(ctx, id, valid, appends)
	if domain.CodeOf(err) == domain.Conflict && len(valid) > 1 {
		for n, i := range valid {
			if err = b.append(ctx, id, []int{i}, appends[n:n+1]); err != nil {
				if domain.CodeOf(err) != domain.Conflict {
					return err
				}
				b.reject(i, err)
			}
		}
		return nil
	}
	if domain.CodeOf(err) == domain.Conflict {
		b.reject(valid[0], err)
		return nil
	}
	return err
}

func (b *readingBatch) decide(state connection.State, capacityMbps int, r Reading) (events.NewEvent, error) {
	decided, err := reading.Decide(reading.State{}, reading.Record{
		Connection: state, CapacityMbps: capacityMbps, At: b.server.now(),
		Reading: reading.Recorded{
			EdgeNodeID: b.node, ConnectionID: r.ConnectionId, Epoch: r.Epoch, Sequence: r.Sequence, From: r.From.UTC(), To: r.To.UTC(),
			BytesIn: r.BytesIn, BytesOut: r.BytesOut, PacketsIn: r.PacketsIn, PacketsOut: r.PacketsOut, DroppedIn: r.DroppedIn,
			DroppedOut: r.DroppedOut, Source: string(r.Source),
		},
	})
	if err != nil {
		return events.NewEvent{}, err
	}
	return events.NewEvent{ID: reading.EventID(b.node, r.ConnectionId, r.Epoch, r.Sequence), Event: decided[0]}, nil
}

func (b *readingBatch) append(ctx context.Context, connectionID string, indices []int, all []events.NewEvent) error {
	result, err := b.server.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{
		{Stream: reading.Stream(connectionID), Expected: events.Any, Events: all},
	}})
	if err != nil {
		return err
	}
	status := ReadingVerdictStatusAccepted
	if result.Duplicate {
		status = ReadingVerdictStatusDuplicate
	}
	for _, i := range indices {
		b.verdicts[i] = b.verdict(i, status)
	}
	b.mu.Lock()
	b.position = max(b.position, int64(result.Last))
	b.mu.Unlock()
	return nil
}

func (b *readingBatch) verdict(i int, status ReadingVerdictStatus) ReadingVerdict {
	r := b.readings[i]
	return ReadingVerdict{ConnectionId: r.ConnectionId, Epoch: r.Epoch, Sequence: r.Sequence, Status: status}
}

func (b *readingBatch) reject(i int, err error) {
	b.errors[i] = err
	b.verdicts[i] = b.verdict(i, ReadingVerdictStatusRejected)
	p := problemOf(err)
	b.verdicts[i].Problem = &p
}

// allRejected returns the problem of a batch in which nothing was acceptable: the first reading's, with a pointer to
// each reading.
func (b *readingBatch) allRejected() error {
	if slices.ContainsFunc(b.errors, func(err error) bool { return err == nil }) {
		return nil
	}
	e := &domain.Error{Code: domain.CodeOf(b.errors[0]), Op: "api.SendReadings", Message: "no reading of the batch is acceptable"}
	for i, err := range b.errors {
		p := problemOf(err)
		if e.Hint == "" {
			e.Hint = valueOr(p.Hint, "")
		}
		if p.Errors == nil {
			e.Fields = append(e.Fields, domain.FieldError{Pointer: fmt.Sprintf("/readings/%d", i), Detail: p.Detail})
			continue
		}
		for _, f := range *p.Errors {
			e.Fields = append(e.Fields, domain.FieldError{Pointer: fmt.Sprintf("/readings/%d%s", i, f.Pointer), Detail: f.Detail})
		}
	}
	return e
}
