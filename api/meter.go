package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/port"
	"crossbill/domain/reading"
	"crossbill/events"
)

// Limits of what a node remembers of the connections that are metered, and of how many it reads at once.
const (
	keptStates   = 10_000 // of each kind
	stateReaders = 16
)

// states remembers states by their stream and version: what has not changed since need not be read and folded again.
type states[S any] struct {
	mu   sync.Mutex
	kept map[string]keptState[S]
}

type keptState[S any] struct {
	version int64
	state   S
}

// of returns the present states of streams, each named once. One query tells which of them have changed.
func (k *states[S]) of(ctx context.Context, log *events.Log, streams []string, evolve func(S, domain.Event) S) (map[string]S, error) {
	if len(streams) == 0 {
		return nil, nil
	}
	versions, err := log.Versions(ctx, streams)
	if err != nil {
		return nil, err
	}
	found := make(map[string]S, len(streams))
	var changed []string
	k.mu.Lock()
	for _, stream := range streams {
		if s, ok := k.kept[stream]; ok && s.version == versions[stream] {
			found[stream] = s.state
		} else if versions[stream] > 0 {
			changed = append(changed, stream)
		}
	}
	k.mu.Unlock()
	if len(changed) == 0 {
		return found, nil
	}
	fresh, errs := make([]keptState[S], len(changed)), make([]error, len(changed))
	var reading sync.WaitGroup
	slots := make(chan struct{}, stateReaders)
	for i, stream := range changed {
		slots <- struct{}{}
		reading.Go(func() {
			defer func() { <-slots }()
			fresh[i].state, fresh[i].version, errs[i] = events.Load(ctx, log, stream, evolve)
		})
	}
	reading.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept)+len(changed) > keptStates || k.kept == nil {
		k.kept = make(map[string]keptState[S])
	}
	for i, stream := range changed {
		k.kept[stream], found[stream] = fresh[i], fresh[i].state
	}
	return found, nil
}

// metered is what a reading of a connection is decided by.
type metered struct {
	connection   connection.State
	capacityMbps int
	metering     string
	parties      []string
}

// meteredStates are what a node remembers for [Server.meteredOf].
type meteredStates struct {
	connections states[connection.State]
	ports       states[port.State]
	listings    states[listing.State]
}

// meteredOf returns what the readings of connections are decided by: three queries, however many connections there are.
func (s *Server) meteredOf(ctx context.Context, ids []string) (map[string]*metered, error) {
	streams := make([]string, len(ids))
	for i, id := range ids {
		streams[i] = connection.Stream(id)
	}
	connections, err := s.metered.connections.of(ctx, s.Log, streams, connection.Evolve)
	if err != nil {
		return nil, err
	}
	all, ports, listings := make(map[string]*metered, len(ids)), map[string]string{}, map[string]string{}
	for i, id := range ids {
		m := &metered{connection: connections[streams[i]]}
		all[id] = m
		if m.connection.CustomerPortID != "" {
			ports[m.connection.CustomerPortID] = port.Stream(m.connection.CustomerPortID)
		}
		if m.connection.ListingID != "" {
			listings[m.connection.ListingID] = listing.Stream(m.connection.ListingID)
		}
		m.parties = unique(m.connection.CustomerID, m.connection.ProviderID)
	}
	portStates, err := s.metered.ports.of(ctx, s.Log, values(ports), port.Evolve)
	if err != nil {
		return nil, err
	}
	listingStates, err := s.metered.listings.of(ctx, s.Log, values(listings), listing.Evolve)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		m.capacityMbps = portStates[ports[m.connection.CustomerPortID]].CapacityMbps
		if terms, ok := listingStates[listings[m.connection.ListingID]].TermsOf(m.connection.ListingVersion); ok {
			m.metering = terms.MeteredBy()
		}
	}
	return all, nil
}

func values(of map[string]string) []string {
	all := make([]string, 0, len(of))
	for _, v := range of {
		all = append(all, v)
	}
	return all
}

// outcome is what became of a reading.
type outcome string

const (
	accepted  outcome = "accepted"
	duplicate outcome = "duplicate"
	rejected  outcome = "rejected"
)

// meterBatch records readings that came together, each with an outcome of its own. Readings of one connection keep their
// order.
type meterBatch struct {
	server   *Server
	readings []reading.Recorded
	id       func(*reading.Recorded) [16]byte                                      // the event's, by which the reading is known
	decide   func(*reading.Recorded, *metered) (decided []domain.Event, err error) // by the rules of its meter

	outcomes []outcome
	errors   []error // why a reading is rejected; may hold some before record
	position int64   // of the last event

	ids    [][16]byte
	events []events.NewEvent
}

// record gives every reading its outcome, but for those that are not wrong but early. It returns an error only for what is
// nobody's reading's fault, or if all are early; then nothing is known of those without an outcome, and sending the batch
// again is safe.
func (b *meterBatch) record(ctx context.Context) error {
	n := len(b.readings)
	b.outcomes, b.ids, b.events = make([]outcome, n), make([][16]byte, n), make([]events.NewEvent, n)
	if b.errors == nil {
		b.errors = make([]error, n)
	}
	var connections []string
	seen := make(map[string]bool, n)
	for i := range b.readings {
		if id := b.readings[i].ConnectionID; b.errors[i] == nil && !seen[id] {
			seen[id] = true
			connections = append(connections, id)
		}
	}
	found, err := b.server.meteredOf(ctx, connections)
	if err != nil {
		return err
	}
	var (
		valid []int
		early error
		first = make(map[[16]byte]int, n)
		again []int
		actor = callerFrom(ctx).KeyID
	)
	for i := range b.readings {
		r := &b.readings[i]
		if b.errors[i] != nil {
			b.outcomes[i] = rejected
			continue
		}
		m := found[r.ConnectionID]
		decided, err := b.decide(r, m)
		if domain.CodeOf(err) == domain.Unavailable { // early: its time, or the node's report of the gate, is yet to come
			early = err
			continue
		}
		if err != nil {
			b.outcomes[i], b.errors[i] = rejected, err
			continue
		}
		b.ids[i] = b.id(r)
		b.events[i] = events.NewEvent{ID: b.ids[i], Event: decided[0], Metadata: events.Metadata{Actor: actor, Parties: m.parties}}
		if _, twice := first[b.ids[i]]; twice { // in this very batch
			again = append(again, i)
			continue
		}
		first[b.ids[i]] = i
		valid = append(valid, i)
	}
	if err := b.append(ctx, valid); err != nil {
		return err
	}
	for _, i := range again {
		if err := b.append(ctx, []int{i}); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(b.outcomes, func(o outcome) bool { return o != "" }) {
		return nil
	}
	return early
}

// append records readings that have no outcome yet: all at once if all are new or all are known. If the batch is a mixture,
// those that are new together and the others one by one: one of them may contradict what is recorded.
func (b *meterBatch) append(ctx context.Context, indices []int) error {
	err := b.appendTogether(ctx, indices)
	if domain.CodeOf(err) != domain.Conflict {
		return err
	}
	if len(indices) == 1 {
		b.outcomes[indices[0]], b.errors[indices[0]] = rejected, err
		return nil
	}
	ids := make([][16]byte, len(indices))
	for n, i := range indices {
		ids[n] = b.ids[i]
	}
	known, err := b.server.Log.Known(ctx, ids)
	if err != nil {
		return err
	}
	var fresh, old []int
	for _, i := range indices {
		if known[b.ids[i]] {
			old = append(old, i)
		} else {
			fresh = append(fresh, i)
		}
	}
	if err := b.appendTogether(ctx, fresh); domain.CodeOf(err) == domain.Conflict { // somebody else was just as quick
		old = append(old, fresh...)
	} else if err != nil {
		return err
	}
	return b.oneByOne(ctx, old)
}

// oneByOne appends readings apart, several at a time. Those that are known already change nothing, so their order does not
// matter.
func (b *meterBatch) oneByOne(ctx context.Context, indices []int) error {
	errs := make([]error, len(indices))
	positions := make([]int64, len(indices))
	var appending sync.WaitGroup
	slots := make(chan struct{}, stateReaders)
	for n, i := range indices {
		slots <- struct{}{}
		appending.Go(func() {
			defer func() { <-slots }()
			var result events.Result
			result, errs[n] = b.server.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{
				{Stream: reading.Stream(b.readings[i].ConnectionID), Expected: events.Any, Events: b.events[i : i+1]},
			}})
			positions[n] = int64(result.Last)
			switch {
			case domain.CodeOf(errs[n]) == domain.Conflict:
				b.outcomes[i], b.errors[i], errs[n] = rejected, errs[n], nil
			case errs[n] == nil && result.Duplicate:
				b.outcomes[i] = duplicate
			case errs[n] == nil:
				b.outcomes[i] = accepted
			}
		})
	}
	appending.Wait()
	b.position = max(b.position, slices.Max(append(positions, 0)))
	return errors.Join(errs...)
}

// appendTogether records readings in one append.
func (b *meterBatch) appendTogether(ctx context.Context, indices []int) error {
	if len(indices) == 0 {
		return nil
	}
	at := make(map[string]int, len(indices))
	var a events.Append
	for _, i := range indices {
		id := b.readings[i].ConnectionID
		n, ok := at[id]
		if !ok {
			n = len(a.Streams)
			at[id] = n
			a.Streams = append(a.Streams, events.StreamAppend{Stream: reading.Stream(id), Expected: events.Any})
		}
		a.Streams[n].Events = append(a.Streams[n].Events, b.events[i])
	}
	result, err := b.server.Log.Append(ctx, a)
	if err != nil {
		return err
	}
	o := accepted
	if result.Duplicate {
		o = duplicate
	}
	for _, i := range indices {
		b.outcomes[i] = o
	}
	b.position = max(b.position, int64(result.Last))
	return nil
}

// appendOutcome ends a verdict's JSON object with the outcome of a reading.
func (b *meterBatch) appendOutcome(to []byte, i int) ([]byte, error) {
	to = append(append(to, `,"status":"`...), b.outcomes[i]...)
	to = append(to, '"')
	if b.errors[i] != nil {
		problem, err := json.Marshal(problemOf(b.errors[i]))
		if err != nil {
			return nil, err
		}
		to = append(append(to, `,"problem":`...), problem...)
	}
	return append(to, '}'), nil
}

// allRejected returns the problem of a batch in which nothing was acceptable: the first reading's, with a pointer to
// each reading under the given one.
func (b *meterBatch) allRejected(op, what, pointer string) error {
	if slices.ContainsFunc(b.errors, func(err error) bool { return err == nil }) { // early ones have none either
		return nil
	}
	e := &domain.Error{Code: domain.CodeOf(b.errors[0]), Op: op, Message: "no " + what + " is acceptable"}
	for i, err := range b.errors {
		p := problemOf(err)
		if e.Hint == "" {
			e.Hint = valueOr(p.Hint, "")
		}
		if p.Errors == nil {
			e.Fields = append(e.Fields, domain.FieldError{Pointer: fmt.Sprintf("%s/%d", pointer, i), Detail: p.Detail})
			continue
		}
		for _, f := range *p.Errors {
			e.Fields = append(e.Fields, domain.FieldError{Pointer: fmt.Sprintf("%s/%d%s", pointer, i, f.Pointer), Detail: f.Detail})
		}
	}
	return e
}
