package provisioning

import (
	"context"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

// actor is who did what a saga does.
const actor = "system"

// change is a step on its way into the log: what happens to the order, to the connection, and to the reservations, in
// one append that happens whole or not at all.
type change struct {
	order      []order.Command
	connection []connection.Command
	ask        func(ctx context.Context, tx pgx.Tx) error
	stays      bool     // a trouble that the saga has
	obstacle   obstacle // why the order can't be carried out, if that is so
}

// do carries one step out. It returns a Conflict if the saga is no longer as it was loaded; then nothing was done.
// races is how often that happened to this job.
func (p *Provisioner) do(ctx context.Context, s saga, step Step, races int) error {
	const op = "provisioning.do"
	now, id := p.now(), s.connection.ID
	switch step.Kind {
	case AcceptOrder:
		return p.append(ctx, s, change{order: []order.Command{order.Accept{By: actor, At: now}}})
	case Allocate:
		return p.allocate(ctx, s, races)
	case StartTesting:
		return p.append(ctx, s, change{connection: []connection.Command{
			connection.StartTesting{Deadline: now.Add(p.options.TestingDeadline), At: now}}})
	case RequestProbe:
		return p.append(ctx, s, change{connection: []connection.Command{
			connection.RequestProbe{ProbeID: probeID(s.connection, step.Attempt), At: now}}})
	case RequestCutover:
		return p.append(ctx, s, change{connection: []connection.Command{connection.RequestCutover{At: now}}})
	case CompleteOrder:
		return p.append(ctx, s, change{order: []order.Command{order.Complete{At: now}}})
	case RequestUndo:
		return p.append(ctx, s, change{connection: []connection.Command{connection.RequestCancellation{Reason: step.Reason, At: now}}})
	case RequestTermination:
		// Of an order that was never completed: billed for no time at all.
		end := connection.RequestDecommission{Reason: step.Reason, EffectiveAt: *s.connection.BillingFrom, At: now}
		if s.order.ItemKind() == order.ItemRemove {
			end.EffectiveAt, end.OrderID = s.connection.Termination.EffectiveAt, s.order.ID
		}
		return p.append(ctx, s, change{connection: []connection.Command{end}})
	case FailOrder:
		return p.append(ctx, s, change{order: []order.Command{s.giveUp(step.Reason, now)}})
	case RequestChange:
		return p.requestChange(ctx, s, races)
	case ConfirmChange:
		return p.append(ctx, s, change{connection: []connection.Command{connection.ConfirmChange{OrderID: s.order.ID, At: now}}})
	case AbandonChange:
		c := change{
			connection: []connection.Command{connection.AbandonChange{OrderID: s.order.ID, Reason: step.Reason, At: now}},
			ask:        func(ctx context.Context, tx pgx.Tx) error { return hold(ctx, tx, id, s.connection.BandwidthMbps, nil) },
		}
		if !s.order.Final() {
			c.order = []order.Command{s.giveUp(step.Reason, now)}
		}
		return p.append(ctx, s, c)
	case StartRebuild:
		return p.startMove(ctx, s, races)
	case AbandonRebuild:
		return p.append(ctx, s, change{connection: []connection.Command{connection.AbandonRebuild{Reason: step.Reason, At: now}}})
	case ReleaseBuild:
		gone := *s.connection.Leaving
		return p.append(ctx, s, change{
			connection: []connection.Command{connection.ReleaseBuild{At: now}},
			ask: func(ctx context.Context, tx pgx.Tx) error {
				if err := releaseBuild(ctx, tx, id, gone.Build); err != nil {
					return err
				}
				return hold(ctx, tx, id, s.connection.BandwidthMbps, nil)
			},
		})
	case AwaitSuspension, AwaitResumption, AwaitRemoval, AwaitRestoration:
		if t := s.connection.Trouble; t != nil && (t.State == connection.TroubleOperator || t.OrderID != s.order.ID) {
			return domain.Errorf(domain.Unavailable, op, "a person is needed for the step %s first", t.Step)
		}
		return p.append(ctx, s, change{stays: true, connection: []connection.Command{
			connection.FailStep{OrderID: s.order.ID, Step: string(step.Kind), At: now}}})
	case Undo:
		return p.undo(ctx, s, step.Reason, obstacle{})
	case FinishDecommission:
		c := change{
			connection: []connection.Command{connection.Decommission{At: now}},
			ask:        func(ctx context.Context, tx pgx.Tx) error { return release(ctx, tx, id) },
		}
		if s.order.State == order.StateCancelling {
			c.order = []order.Command{order.FinishCancel{At: now}}
		}
		return p.append(ctx, s, c)
	}
	return domain.Errorf(domain.Internal, op, "there is no rule for the step %q", step.Kind)
}

// undo ends a connection of which no edge node has anything, and the order with it if that has not ended already. why is what
// kept the connection from coming about, if anything did.
func (p *Provisioner) undo(ctx context.Context, s saga, reason string, why obstacle) error {
	now, id := p.now(), s.connection.ID
	c := change{obstacle: why, ask: func(ctx context.Context, tx pgx.Tx) error { return release(ctx, tx, id) }}
	if s.connection.State != connection.StateCancelling {
		c.connection = append(c.connection, connection.RequestCancellation{Reason: reason, At: now})
	}
	c.connection = append(c.connection, connection.Cancel{At: now})
	switch {
	case s.order.State == order.StateCancelling:
		c.order = append(c.order, order.FinishCancel{At: now})
	case !s.order.Final():
		c.order = append(c.order, order.Fail{Reason: reason, At: now})
	}
	return p.append(ctx, s, c)
}

// giveUp ends an order of which nothing is left.
func (s saga) giveUp(reason string, now time.Time) order.Command {
	if s.order.State == order.StateCancelling {
		return order.FinishCancel{At: now}
	}
	return order.Fail{Reason: reason, At: now}
}

// append decides a change on the saga as it was loaded and records it at exactly those versions.
func (p *Provisioner) append(ctx context.Context, s saga, c change) error {
	a := events.Append{Ask: c.ask}
	if len(c.order) > 0 {
		decided, err := decideAll(s.order, c.order, order.Decide, order.Evolve)
		if err != nil {
			return err
		}
		a.Streams = append(a.Streams, s.streamAppend(order.Stream(s.order.ID), s.orderVersion, decided))
	}
	var decided []domain.Event
	if len(c.connection) > 0 {
		var err error
		if decided, err = decideAll(s.connection, c.connection, connection.Decide, connection.Evolve); err != nil {
			return err
		}
	}
	if s.troubled() && !c.stays {
		recovered, err := s.recovered(decided, p.now())
		if err != nil {
			return err
		}
		decided = append(decided, recovered...)
	}
	if s.connection.HadTrouble() && s.order.State != order.StateFailed { // of one that was rolled back it is why; a trouble may also have ended with another state
		a.Ask = Both(a.Ask, forgetFailure(s.order.ID))
	}
	if len(decided) > 0 {
		a.Streams = append(a.Streams, s.streamAppend(connection.Stream(s.connection.ID), s.connectionVersion, decided))
	}
	KeepCommitments(&a)
	s.keepObstacle(&a, c.obstacle)
	if _, err := p.appender.Append(ctx, a); err != nil {
		return err
	}
	if s.next != nil {
		*s.next = s.after(a)
	}
	return nil
}

// after returns the saga as an append at exactly its versions has made it.
func (s saga) after(a events.Append) saga {
	for _, stream := range a.Streams {
		for _, e := range stream.Events {
			if stream.Stream == order.Stream(s.order.ID) {
				s.order, s.orderVersion = order.Evolve(s.order, e.Event), s.orderVersion+1
			} else {
				s.connection, s.connectionVersion = connection.Evolve(s.connection, e.Event), s.connectionVersion+1
			}
		}
	}
	return s
}

// Both does two things in an append's transaction, either of which may be nothing.
func Both(first, second func(ctx context.Context, tx pgx.Tx) error) func(ctx context.Context, tx pgx.Tx) error {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(ctx context.Context, tx pgx.Tx) error {
		if err := first(ctx, tx); err != nil {
			return err
		}
		return second(ctx, tx)
	}
}

// decideAll decides commands one after the other. Next chose them by the same state, so a refusal is a defect, and no
// Conflict that looking again would mend.
func decideAll[S, C any](state S, commands []C, decide func(S, C) ([]domain.Event, error), evolve func(S, domain.Event) S) ([]domain.Event, error) {
	const op = "provisioning.decideAll"
	var all []domain.Event
	for _, command := range commands {
		decided, err := decide(state, command)
		if err != nil {
			return nil, domain.Errorf(domain.Internal, op, "the step %T was refused: %w", command, err)
		}
		if len(decided) == 0 {
			return nil, domain.Errorf(domain.Internal, op, "the step %T was taken before", command)
		}
		for _, e := range decided {
			state = evolve(state, e)
		}
		all = append(all, decided...)
	}
	return all, nil
}

// streamAppend makes the append to one of the saga's streams. An event's id is that of its place in the stream and its
// type, so two runs of one step can't record it twice under any circumstances.
func (s saga) streamAppend(stream string, version int64, decided []domain.Event) events.StreamAppend {
	parties := []string{s.connection.CustomerID, s.connection.ProviderID}
	slices.Sort(parties)
	metadata := events.Metadata{Actor: actor, Correlation: s.connection.OrderID, Causation: s.cause, Parties: slices.Compact(parties)}
	a := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
	for i, e := range decided {
		a.Events = append(a.Events, events.NewEvent{ID: eventID(stream, version+1+int64(i), e), Event: e, Metadata: metadata})
	}
	return a
}

// eventID is that of an event that a saga records as a version of a stream.
func eventID(stream string, version int64, e domain.Event) [16]byte {
	return domain.DeriveEventID("provisioning", stream, strconv.FormatInt(version, 10), e.EventType())
}

// probeID names an attempt's probe the same on every run of the step.
func probeID(c connection.State, attempt int) string {
	if r := c.Rebuild; r != nil {
		return domain.DeriveID(domain.PrefixProbe, r.RequestedAt, c.ID, "rebuild", strconv.Itoa(attempt))
	}
	return domain.DeriveID(domain.PrefixProbe, c.RequestedAt, c.ID, strconv.Itoa(attempt))
}

// short cuts a reason to what an event may hold.
func short(reason string) string {
	if utf8.RuneCountInString(reason) <= domain.MaxReason {
		return reason
	}
	return string([]rune(reason)[:domain.MaxReason-1]) + "…"
}
