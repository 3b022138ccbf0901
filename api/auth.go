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
	ScopeEdge    = "edge"    // an edge node's agent, by its certificate; no key has it
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
	Principal      apikey.Principal // without a person's name
	Scopes         []string         // of the key, less what the person's role does not allow
	Limits         apikey.Limits
	Delegation     Delegation

	account     account
	fingerprint string // of an edge node's certificate
}

// Maker is the caller as one who issues and limits keys.
func (c Caller) Maker() *apikey.Maker {
	return &apikey.Maker{Principal: c.Principal.Ref(), Scopes: c.Scopes, Limits: c.Limits}
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
		if err := caller.mayNow(operation.OperationID, r.Method); err != nil {
			s.fail(w, r, err)
			return
		}
		if caller.Delegation, err = delegationOf(r, caller); err != nil {
			s.fail(w, r, err)
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
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 { // and then it is the node, whatever else it sends
		return s.identified(r.Context(), r.TLS.PeerCertificates[0])
	}
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
	found, err := s.account(r.Context(), id)
	if err != nil {
		return Caller{}, err
	}
	key := found.key
	if found.keyVersion == 0 || key.Revoked || subtle.ConstantTimeCompare([]byte(hashSecret(secret)), []byte(key.SecretHash)) != 1 {
		return Caller{}, unknown
	}
	if key.Expired(s.now()) {
		return Caller{}, domain.Errorf(domain.Unauthorised, "api.authenticate", "the API key expired at %s", key.ExpiresAt.Format(time.RFC3339)).
			WithHint("ask for a new one")
	}
	if key.Principal.Kind == apikey.KindEdgeNode { // of before they had certificates
		return Caller{}, unknown
	}
	scopes, ok := found.effectiveScopes()
	if !ok {
		return Caller{}, domain.Errorf(domain.Unauthorised, "api.authenticate", "the API key's person no longer acts for the organisation").
			WithHint("ask an owner of the organisation")
	}
	return Caller{KeyID: id, OrganisationID: key.OrganisationID, Principal: key.Principal, Scopes: scopes, Limits: key.Limits, account: found}, nil
}

// mayNow holds a caller to its organisation's state: suspended it reads and changes nothing, closed it is refused. It may
// revoke its keys at any time, for that only takes something away.
func (c Caller) mayNow(operation, method string) error {
	switch org := c.account.organisation; {
	case org.State == organisation.StateClosed:
		return domain.Errorf(domain.Forbidden, "api.authenticate", "the organisation %s is closed", org.ID).
			WithHint("ask the platform's operator for what you need of it")
	case org.State == organisation.StateSuspended && method != http.MethodGet && operation != "revokeApiKey":
		return domain.Errorf(domain.Forbidden, "api.authenticate", "the organisation %s is suspended and changes nothing: %s", org.ID, org.Reason).
			WithHint("it may read; the platform's operator reactivates it")
	}
	return nil
}

// hashSecret is a plain SHA-256: the secret has 256 random bits, so there is nothing for a slow hash to defend.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// NewKey makes a key for a principal and the append that records it. token is the key itself, known only here.
func NewKey(at time.Time, random io.Reader, organisationID string, principal apikey.Principal, scopes ...string) (id, token string, _ events.StreamAppend, _ error) {
	return newKey(random, apikey.Issue{OrganisationID: organisationID, Principal: principal, Scopes: scopes, At: at})
}

// newKey is NewKey for whatever can be said of a key; what is not of the command's id and secret is the caller's.
func newKey(random io.Reader, issue apikey.Issue) (id, token string, _ events.StreamAppend, _ error) {
	fail := func(err error) (string, string, events.StreamAppend, error) {
		return "", "", events.StreamAppend{}, err
	}
	id, err := domain.NewID(domain.PrefixAPIKey, issue.At, random)
	if err != nil {
		return fail(err)
	}
	var bits [32]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return fail(domain.Errorf(domain.Internal, "api.NewKey", "the random source failed: %w", err))
	}
	secret := base64.RawURLEncoding.EncodeToString(bits[:])
	issue.KeyID, issue.SecretHash = id, hashSecret(secret)
	issued, err := apikey.Decide(apikey.State{}, issue)
	if err != nil {
		return fail(err)
	}
	return id, keyPrefix + strings.TrimPrefix(id, domain.PrefixAPIKey+"_") + "_" + secret, appendTo(apikey.Stream(id), 0, issued...), nil
}

// require returns Forbidden unless the caller's organisation has the role.
func (s *Server) require(ctx context.Context, role organisation.Role) error {
	if !callerFrom(ctx).account.organisation.Has(role) {
		return domain.Errorf(domain.Forbidden, "api", "the organisation is not a %s", role).
			WithHint("an operator registers organisations with their roles")
	}
	return nil
}
