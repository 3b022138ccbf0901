package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/events"
	"crossbill/projections"
)

// The closed set of scopes a key can have.
const (
	ScopeAdmin   = "admin"   // the organisation's own affairs: members, keys, limits, webhooks
	ScopeTrade   = "trade"   // listings, quotes, orders, connections
	ScopeApprove = "approve" // orders above a program's limits; only a person can have it
	ScopeFinance = "finance" // billing accounts, budgets, invoices, settlements, exports
	ScopeRead    = "read"    // everything that trade and finance show, and no change
	ScopeMeter   = "meter"   // usage of a provider's own meters
	ScopeEdge    = "edge"    // an edge node's agent
	ScopeOperate = "operate" // the platform's own: organisations, inventory, fees, billing runs; sees everything
)

// Scopes are all scopes there are.
var Scopes = []string{ScopeAdmin, ScopeTrade, ScopeApprove, ScopeFinance, ScopeRead, ScopeMeter, ScopeEdge, ScopeOperate}

// scopesOf returns the scopes of which an operation needs any one: its `x-scopes` in the contract. An operation without
// them is refused to everybody, and a test names it.
func scopesOf(operation *openapi3.Operation) []string {
	listed, _ := operation.Extensions["x-scopes"].([]any)
	scopes := make([]string, 0, len(listed))
	for _, scope := range listed {
		if name, ok := scope.(string); ok {
			scopes = append(scopes, name)
		}
	}
	return scopes
}

// Caller is who a request comes from.
type Caller struct {
	KeyID          string
	OrganisationID string
	Principal      apikey.Principal
	Scopes         []string
}

// Operator reports whether the caller acts for the platform itself.
func (c Caller) Operator() bool { return slices.Contains(c.Scopes, ScopeOperate) }

// sees reports whether a thing of the given organisations may be shown to the caller.
func (c Caller) sees(organisations ...string) bool {
	return c.Operator() || slices.Contains(organisations, c.OrganisationID)
}

// viewer is on whose behalf the caller reads.
func viewer(ctx context.Context) projections.Viewer {
	switch c := callerFrom(ctx); {
	case c.Operator():
		return projections.Operator()
	case c.Principal.Kind == apikey.KindEdgeNode:
		return projections.Node(c.Principal.ID)
	default:
		return projections.Party(c.OrganisationID)
	}
}

type callerKey struct{}

// callerFrom returns the caller that authenticate put there; the zero Caller for the public operations.
func callerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// authenticate admits a request whose key is known, not revoked, and has a scope that the operation accepts.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := matchedFrom(r.Context()).route.Operation
		if operation.Security != nil && len(*operation.Security) == 0 { // public by contract
			next.ServeHTTP(w, r)
			return
		}
		caller, err := s.callerOf(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		accepted := scopesOf(operation)
		if !slices.ContainsFunc(accepted, func(scope string) bool { return slices.Contains(caller.Scopes, scope) }) {
			s.fail(w, r, domain.Errorf(domain.Forbidden, "api.authenticate", "this key may not call %s", operation.OperationID).
				WithHint("it takes a key with the scope %s", strings.Join(accepted, " or ")))
			return
		}
		ctx := context.WithValue(r.Context(), callerKey{}, caller)
		next.ServeHTTP(w, r.WithContext(projections.Viewing(ctx, viewer(ctx))))
	})
}

// A key reads "cbk_<26 characters>_<43 characters>": the body of its id, then 32 random bytes in base64url. The id
// finds the key's stream, so a key works from the moment it is in the log, and not from when a read model has it.
const keyPrefix = "cbk_"

func (s *Server) callerOf(r *http.Request) (Caller, error) {
	unknown := domain.Errorf(domain.Unauthorised, "api.authenticate", "the API key is missing, unknown or revoked").
		WithHint("send it as Authorization: Bearer cbk_…")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Caller{}, unknown
	}
	body, ok := strings.CutPrefix(token, keyPrefix)
	if !ok {
		return Caller{}, unknown
	}
	idBody, secret, ok := strings.Cut(body, "_")
	id := domain.PrefixAPIKey + "_" + idBody
	if !ok || !domain.ValidID(domain.PrefixAPIKey, id) {
		return Caller{}, unknown
	}
	key, version, err := events.Load(r.Context(), s.Log, apikey.Stream(id), apikey.Evolve)
	if err != nil {
		return Caller{}, err
	}
	hash := hashSecret(secret)
	if version == 0 || key.Revoked || subtle.ConstantTimeCompare([]byte(hash), []byte(key.SecretHash)) != 1 {
		return Caller{}, unknown
	}
	return Caller{KeyID: id, OrganisationID: key.OrganisationID, Principal: key.Principal, Scopes: key.Scopes}, nil
}

// hashSecret is a plain SHA-256: the secret has 256 random bits, so there is nothing for a slow hash to defend.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// NewKey makes a key for a principal and the append that records it. token is the key itself, known only here.
func NewKey(at time.Time, random io.Reader, organisationID string, principal apikey.Principal, scopes ...string) (id, token string, _ events.StreamAppend, _ error) {
	fail := func(err error) (string, string, events.StreamAppend, error) {
		return "", "", events.StreamAppend{}, err
	}
	id, err := domain.NewID(domain.PrefixAPIKey, at, random)
	if err != nil {
		return fail(err)
	}
	var bits [32]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return fail(domain.Errorf(domain.Internal, "api.NewKey", "the random source failed: %w", err))
	}
	secret := base64.RawURLEncoding.EncodeToString(bits[:])
	issued, err := apikey.Decide(apikey.State{}, apikey.Issue{
		KeyID: id, OrganisationID: organisationID, Principal: principal, Scopes: scopes, SecretHash: hashSecret(secret), At: at,
	})
	if err != nil {
		return fail(err)
	}
	stream := appendTo(apikey.Stream(id), 0, issued...)
	for i := range stream.Events {
		stream.Events[i].Metadata.Parties = []string{organisationID}
	}
	return id, keyPrefix + strings.TrimPrefix(id, domain.PrefixAPIKey+"_") + "_" + secret, stream, nil
}

// require returns Forbidden unless the caller's organisation has the role.
func (s *Server) require(ctx context.Context, role organisation.Role) error {
	caller := callerFrom(ctx)
	org, _, err := events.Load(ctx, s.Log, organisation.Stream(caller.OrganisationID), organisation.Evolve)
	if err != nil {
		return err
	}
	if !slices.Contains(org.Roles, role) {
		return domain.Errorf(domain.Forbidden, "api", "the organisation is not a %s", role).
			WithHint("an operator registers organisations with their roles")
	}
	return nil
}
