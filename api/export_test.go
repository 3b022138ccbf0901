package api

import (
	"context"

	"crossbill/events"
	"crossbill/projections"
)

// NewServer returns the server behind New's handler, for tests of what no request shows.
func NewServer(o Options) (*Server, error) { return newServer(o) }

// AsCaller returns the context of a request from an organisation.
func AsCaller(ctx context.Context, organisationID string, scopes ...string) context.Context {
	ctx = context.WithValue(ctx, callerKey{}, Caller{OrganisationID: organisationID, Scopes: scopes})
	return projections.Viewing(ctx, viewer(ctx))
}

// Seen returns the log as the caller sees it.
func Seen(ctx context.Context, s *Server) events.View { return s.seen(ctx) }
