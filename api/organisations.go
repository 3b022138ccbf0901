package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/events"
)

// CreateOrganisation registers an organisation under a slug of its own, with a first key for its people.
func (s *Server) CreateOrganisation(ctx context.Context, req CreateOrganisationRequestObject) (CreateOrganisationResponseObject, error) {
	id, err := s.newID(domain.PrefixOrganisation)
	if err != nil {
		return nil, err
	}
	roles := make([]organisation.Role, len(req.Body.Roles))
	for i, r := range req.Body.Roles {
		roles[i] = organisation.Role(r)
	}
	decided, err := organisation.Decide(organisation.State{}, organisation.Register{
		OrganisationID: id, Name: req.Body.Name, Slug: req.Body.Slug, Roles: roles, At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	keyID, token, keyStream, err := NewKey(s.now(), s.Random, id, apikey.Principal{Kind: apikey.KindPerson, ID: "first", Name: "First key"},
		ScopeAdmin, ScopeTrade, ScopeApprove, ScopeFinance, ScopeRead, ScopeMeter)
	if err != nil {
		return nil, err
	}
	streams := []events.StreamAppend{appendTo(organisation.Stream(id), 0, decided...), keyStream}
	if slices.Contains(roles, organisation.RoleCustomer) {
		account, err := s.firstBillingAccount(id, req.Body.Name)
		if err != nil {
			return nil, err
		}
		streams = append(streams, account...)
	}
	answer := OrganisationWithKey{
		Organisation: organisationView(evolved(organisation.State{}, organisation.Evolve, decided)),
		ApiKey:       ApiKeySecret{Id: keyID},
	}
	position, err := s.commit(ctx, events.Append{
		Streams: streams,
		Ask:     reserve("organisation_slug", req.Body.Slug, id, "/slug"),
	}, http.StatusCreated, answer, id) // the kept answer is without the secret
	if err != nil {
		return nil, err
	}
	answer.ApiKey.Secret = token
	return CreateOrganisation201JSONResponse{Body: answer, Headers: CreateOrganisation201ResponseHeaders{CrossbillPosition: position}}, nil
}

// GetOrganisation shows an organisation to itself and to operators.
func (s *Server) GetOrganisation(ctx context.Context, req GetOrganisationRequestObject) (GetOrganisationResponseObject, error) {
	state, version, err := load(ctx, s, "organisation", req.OrganisationId, organisation.Stream(req.OrganisationId), organisation.Evolve,
		func(o organisation.State) []string { return []string{o.ID} })
	if err != nil {
		return nil, err
	}
	return GetOrganisation200JSONResponse{Body: organisationView(state), Headers: GetOrganisation200ResponseHeaders{ETag: etag(version)}}, nil
}

// RevokeApiKey revokes a key of the caller's organisation, be it the one it called with.
func (s *Server) RevokeApiKey(ctx context.Context, req RevokeApiKeyRequestObject) (RevokeApiKeyResponseObject, error) {
	state, version, err := load(ctx, s, "API key", req.KeyId, apikey.Stream(req.KeyId), apikey.Evolve,
		func(k apikey.State) []string { return []string{k.OrganisationID} })
	if err != nil {
		return nil, err
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

// reserve returns the ask function that takes a name which only one may have. pointer is the request's field.
func reserve(kind, key, owner, pointer string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		const insert = `INSERT INTO reserved_keys (kind, key, owner) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
		tag, err := tx.Exec(ctx, insert, kind, key, owner)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return &domain.Error{
				Code: domain.Conflict, Op: "api.reserve", Message: "the name is taken", Hint: "choose another",
				Fields: []domain.FieldError{{Pointer: pointer, Detail: "taken"}},
			}
		}
		return nil
	}
}
