package api

import (
	"context"
	"slices"

	"crossbill/domain"
	"crossbill/events"
)

// conflictTries is how often a write that lost a race for its stream is decided anew before the caller hears of it.
const conflictTries = 5

// load returns a thing's state and version. A thing that the caller may not see is as unknown as one that is not there:
// parties are the organisations that may. That is looked at twice, and the first time by PostgreSQL: the log is read as the
// caller sees it. What a decision takes from things of others is read with the platform's rights instead, by
// events.Load(ctx, s.Log, …), and is never shown.
func load[S any](ctx context.Context, s *Server, what, id, stream string, evolve func(S, domain.Event) S, parties func(S) []string) (S, int64, error) {
	state, version, err := events.Load(ctx, s.seen(ctx), stream, evolve)
	if err != nil {
		return state, 0, err
	}
	if version == 0 || !callerFrom(ctx).sees(parties(state)...) {
		var none S
		return none, 0, notFound(what, id)
	}
	return state, version, nil
}

// seen is the log as the caller sees it.
func (s *Server) seen(ctx context.Context) events.View {
	caller := callerFrom(ctx)
	return s.Log.View(s.door, func(m events.Metadata) bool { return caller.sees(m.Parties...) })
}

func notFound(what, id string) *domain.Error {
	return domain.Errorf(domain.NotFound, "api", "there is no %s %.60s", what, id)
}

// onlyFor returns Forbidden unless the caller acts for the organisation. It is for things that the caller may see.
func onlyFor(ctx context.Context, organisationID, who string) error {
	if callerFrom(ctx).OrganisationID == organisationID {
		return nil
	}
	return domain.Errorf(domain.Forbidden, "api", "only the %s may do this", who)
}

// again runs try until it does not end in a conflict, a few times at most: another writer may have been first, and then
// the decision is to be made on the new state. With an If-Match there is nothing to try again.
func again(ifMatch *string, try func() error) error {
	var err error
	for range conflictTries {
		if err = try(); domain.CodeOf(err) != domain.Conflict || ifMatch != nil {
			return err
		}
	}
	return err
}

// appendTo makes the append of decided events to a stream that is at the given version.
func appendTo(stream string, version int64, decided ...domain.Event) events.StreamAppend {
	a := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
	for _, e := range decided {
		a.Events = append(a.Events, events.NewEvent{Event: e})
	}
	return a
}

// evolved folds decided events into a state, for the answer to a write.
func evolved[S any](state S, evolve func(S, domain.Event) S, decided []domain.Event) S {
	for _, e := range decided {
		state = evolve(state, e)
	}
	return state
}

// unique drops repeated organisations.
func unique(ids ...string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// seenBy names the organisations that may see a stream's events, where they are not those of the whole append.
func seenBy(parties []string, a events.StreamAppend) events.StreamAppend {
	for i := range a.Events {
		a.Events[i].Metadata.Parties = parties
	}
	return a
}
