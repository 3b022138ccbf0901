package api

import (
	"context"

	"crossbill/domain"
	"crossbill/projections"
)

// NewServer returns the server behind New's handler, for tests of what no request shows.
func NewServer(o Options) (*Server, error) { return newServer(o) }

// AsCaller returns the context of a request from an organisation.
func AsCaller(ctx context.Context, organisationID string, scopes ...string) context.Context {
	ctx = context.WithValue(ctx, callerKey{}, Caller{OrganisationID: organisationID, Scopes: scopes})
	return projections.Viewing(ctx, viewer(ctx))
}

// ForgetfulLoad loads a thing for the caller as a handler that takes everybody for one of its parties.
func ForgetfulLoad[S any](ctx context.Context, s *Server, stream string, evolve func(S, domain.Event) S) (S, int64, error) {
	return load(ctx, s, "thing", stream, stream, evolve, func(S) []string { return []string{callerFrom(ctx).OrganisationID} })
}

// WordsFor returns what a story says of an event, or "".
func WordsFor(e domain.Event) string { return wordsFor(e) }
