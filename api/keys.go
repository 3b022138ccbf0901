package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/events"
	"crossbill/projections"
	"crossbill/provisioning"
)

// MaxLiveKeys is how many keys of an organisation can be neither revoked nor expired, those of edge nodes aside.
const MaxLiveKeys = 500

// WhoAmI shows the caller itself, and what it may still commit to.
func (s *Server) WhoAmI(ctx context.Context, _ WhoAmIRequestObject) (WhoAmIResponseObject, error) {
	caller := callerFrom(ctx)
	month := order.CommitmentOf(caller.Principal.Ref(), domain.Money{}, s.now()).Month
	spent, err := provisioning.Committed(ctx, s.Pool, caller.OrganisationID, caller.Principal.Ref(), month)
	if err != nil {
		return nil, err
	}
	v := WhoAmI{
		KeyId: caller.KeyID, Principal: principalView(caller.Principal.Ref()), Name: optional(caller.Principal.Name),
		Scopes: append([]string{}, caller.Scopes...), Limits: limitsView(caller.Limits), ExpiresAt: caller.account.key.ExpiresAt,
		CommittedThisMonth: []Money{},
	}
	if org := caller.account.organisation; org.ID != "" {
		view := organisationView(org)
		v.Organisation = &view
	}
	if caller.Principal.Kind == apikey.KindPerson && v.Organisation != nil { // the caller's account has no names
		org, _, err := s.loadOrganisation(ctx, caller.OrganisationID)
		if err != nil {
			return nil, err
		}
		if m, ok := org.Member(caller.Principal.ID); ok {
			v.Name, v.Role = optional(m.Name), optional(MemberRole(m.Role))
		}
	}
	for currency, minor := range spent {
		v.CommittedThisMonth = append(v.CommittedThisMonth, Money{Minor: minor, Currency: currency})
	}
	slices.SortFunc(v.CommittedThisMonth, func(a, b Money) int { return strings.Compare(string(a.Currency), string(b.Currency)) })
	return WhoAmI200JSONResponse(v), nil
}

// ListApiKeys lists the keys of the caller's organisation.
func (s *Server) ListApiKeys(ctx context.Context, req ListApiKeysRequestObject) (ListApiKeysResponseObject, error) {
	found, next, err := s.Queries.APIKeys(ctx, callerFrom(ctx).OrganisationID, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := ApiKeyPage{Items: []ApiKey{}, NextPageToken: optional(next)}
	for _, k := range found {
		page.Items = append(page.Items, keyView(k, s.now()))
	}
	return ListApiKeys200JSONResponse(page), nil
}

// GetApiKey shows one key of the caller's organisation.
func (s *Server) GetApiKey(ctx context.Context, req GetApiKeyRequestObject) (GetApiKeyResponseObject, error) {
	state, version, err := s.loadKey(ctx, req.KeyId)
	if err != nil {
		return nil, err
	}
	return GetApiKey200JSONResponse{Body: keyView(state, s.now()), Headers: GetApiKey200ResponseHeaders{ETag: etag(version)}}, nil
}

// CreateApiKey issues a key to a member or a program of the caller's organisation.
func (s *Server) CreateApiKey(ctx context.Context, req CreateApiKeyRequestObject) (CreateApiKeyResponseObject, error) {
	b, caller := req.Body, callerFrom(ctx)
	principal := apikey.Principal{Kind: string(b.Principal.Kind), ID: b.Principal.Id, Name: valueOr(b.Principal.Name, b.Principal.Id)}
	if principal.Kind == apikey.KindPerson {
		org, _, err := s.loadOrganisation(ctx, caller.OrganisationID)
		if err != nil {
			return nil, err
		}
		if principal.Name, err = memberFor(org, principal.ID, b.Scopes); err != nil {
			return nil, err
		}
	}
	issue := apikey.Issue{
		OrganisationID: caller.OrganisationID, Principal: principal, Limits: limitsOf(b.Limits), ExpiresAt: b.ExpiresAt,
		By: caller.Maker(), At: s.now(),
	}
	for _, scope := range b.Scopes {
		issue.Scopes = append(issue.Scopes, string(scope))
	}
	id, token, stream, err := newKey(s.Random, issue)
	if err != nil {
		return nil, err
	}
	issued := stream.Events[0].Event.(apikey.Issued)
	answer := ApiKeyIssued{ApiKey: keyView(apikey.Evolve(apikey.State{}, issued), issue.At)}
	position, err := s.commit(ctx, events.Append{
		// A member may have been removed, or a maker limited or revoked, a moment before: both streams are as they were read.
		Streams: []events.StreamAppend{
			stream, appendTo(apikey.Stream(caller.KeyID), caller.account.keyVersion),
			appendTo(organisation.Stream(caller.OrganisationID), caller.account.orgVersion),
		},
		Ask: func(ctx context.Context, tx pgx.Tx) error { return takeKey(ctx, tx, caller.OrganisationID, issue.At) },
	}, http.StatusCreated, answer, caller.OrganisationID) // the kept answer is without the secret
	if err != nil {
		return nil, err
	}
	s.Logger.InfoContext(ctx, "API key issued", "key", id, "by", caller.KeyID)
	answer.Secret = token
	return CreateApiKey201JSONResponse{Body: answer, Headers: CreateApiKey201ResponseHeaders{CrossbillPosition: position}}, nil
}

// takeKey returns a Conflict if the organisation has as many keys as it can have. The log's head is held, so that none
// comes in between.
func takeKey(ctx context.Context, tx pgx.Tx, organisationID string, at time.Time) error {
	q := projections.Queries{DB: tx}
	live, ahead, err := q.LiveKeys(ctx, organisationID, at)
	if err != nil {
		return err
	}
	if len(live)+ahead >= MaxLiveKeys {
		return domain.Errorf(domain.Conflict, "api.CreateApiKey", "the organisation has %d keys that are neither revoked nor expired, which is all it can have", MaxLiveKeys).
			WithHint("revoke those that are no longer used; give programs keys that expire")
	}
	return q.KeyIssued(ctx, organisationID)
}

// memberFor returns the name of the member that a key is for, or what of the request does not fit the member.
func memberFor(org organisation.State, id string, scopes []NewApiKeyScopes) (name string, _ error) {
	var p domain.Problems
	member, ok := org.Member(id)
	if p.Check(ok, "/principal/id", "is no member of the organisation"); ok {
		for i, scope := range scopes {
			p.Check(member.Role.Allows(string(scope)), domain.Pointer("/scopes", i), "is not for the role %s", member.Role)
		}
	}
	return member.Name, p.Err("api.CreateApiKey")
}

// SetApiKeyLimits replaces what a key's principal may commit to with it.
func (s *Server) SetApiKeyLimits(ctx context.Context, req SetApiKeyLimitsRequestObject) (SetApiKeyLimitsResponseObject, error) {
	caller := callerFrom(ctx)
	var view ApiKey
	var position *int64
	err := again(req.Params.IfMatch, func() error {
		state, version, err := s.loadKey(ctx, req.KeyId)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.OrganisationID, "organisation itself"); err != nil {
			return err
		}
		if err := checkMatch(req.Params.IfMatch, version); err != nil {
			return err
		}
		decided, err := apikey.Decide(state, apikey.SetLimits{Limits: limitsOf(req.Body), By: caller.Maker(), At: s.now()})
		if err != nil {
			return err
		}
		if view = keyView(evolved(state, apikey.Evolve, decided), s.now()); len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{
			Streams: []events.StreamAppend{appendTo(apikey.Stream(req.KeyId), version, decided...)}, Ask: caller.unchangedAsk(),
		}, http.StatusOK, view, state.OrganisationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return SetApiKeyLimits200JSONResponse{Body: view, Headers: SetApiKeyLimits200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RevokeApiKey revokes the key that the caller called with, or, with the scope for it, another of its organisation.
func (s *Server) RevokeApiKey(ctx context.Context, req RevokeApiKeyRequestObject) (RevokeApiKeyResponseObject, error) {
	state, version, err := s.loadKey(ctx, req.KeyId)
	if err != nil {
		return nil, err
	}
	caller := callerFrom(ctx)
	if req.KeyId != caller.KeyID && !caller.Operator() && !slices.Contains(caller.Scopes, ScopeAdmin) {
		return nil, domain.Errorf(domain.Forbidden, "api.RevokeApiKey", "this key may revoke itself and no other").
			WithHint("it takes a key with the scope %s", ScopeAdmin)
	}
	decided, err := apikey.Decide(state, apikey.Revoke{At: s.now()})
	if err != nil {
		return nil, err
	}
	if len(decided) == 0 {
		return RevokeApiKey204Response{}, nil
	}
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(apikey.Stream(req.KeyId), version, decided...)}},
		http.StatusNoContent, nil, state.OrganisationID)
	if err != nil {
		return nil, err
	}
	return RevokeApiKey204Response{Headers: RevokeApiKey204ResponseHeaders{CrossbillPosition: position}}, nil
}

func (s *Server) loadKey(ctx context.Context, id string) (apikey.State, int64, error) {
	return load(ctx, s, "API key", id, apikey.Stream(id), apikey.Evolve, func(k apikey.State) []string { return []string{k.OrganisationID} })
}

// keyView shows a key without its hash, and without the name of a person.
func keyView(k apikey.State, now time.Time) ApiKey {
	v := ApiKey{
		Id: k.ID, OrganisationId: k.OrganisationID, Principal: principalView(k.Principal.Ref()), Scopes: append([]string{}, k.Scopes...),
		Limits: limitsView(k.Limits), State: ApiKeyStateActive, IssuedAt: k.IssuedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt,
	}
	if k.Principal.Kind != apikey.KindPerson {
		v.Name = optional(k.Principal.Name)
	}
	switch {
	case k.Revoked:
		v.State = ApiKeyStateRevoked
	case k.Expired(now):
		v.State = ApiKeyStateExpired
	}
	if k.IssuedBy != nil {
		by := principalView(*k.IssuedBy)
		v.IssuedBy = &by
	}
	return v
}

func principalView(r apikey.PrincipalRef) PrincipalRef {
	return PrincipalRef{Kind: PrincipalRefKind(r.Kind), Id: r.ID}
}

func limitsView(l apikey.Limits) Limits { return Limits{PerOrder: l.PerOrder, PerMonth: l.PerMonth} }

func limitsOf(l *Limits) apikey.Limits {
	if l == nil {
		return apikey.Limits{}
	}
	return apikey.Limits{PerOrder: l.PerOrder, PerMonth: l.PerMonth}
}
