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

// CreateOrganisation registers an organisation under a slug of its own, with an owner and the owner's first key.
func (s *Server) CreateOrganisation(ctx context.Context, req CreateOrganisationRequestObject) (CreateOrganisationResponseObject, error) {
	id, err := s.newID(domain.PrefixOrganisation)
	if err != nil {
		return nil, err
	}
	memberID, err := s.newID(domain.PrefixMember)
	if err != nil {
		return nil, err
	}
	roles := make([]organisation.Role, len(req.Body.Roles))
	for i, r := range req.Body.Roles {
		roles[i] = organisation.Role(r)
	}
	owner := organisation.AddMember{MemberID: memberID, Name: "Owner", Role: organisation.MemberOwner, At: s.now()}
	if o := req.Body.Owner; o != nil {
		owner.Name, owner.Email = o.Name, valueOr(o.Email, "")
	}
	decided, err := organisation.Decide(organisation.State{}, organisation.Register{
		OrganisationID: id, Name: req.Body.Name, Slug: req.Body.Slug, Roles: roles, At: owner.At,
	})
	if err != nil {
		return nil, err
	}
	added, err := organisation.Decide(evolved(organisation.State{}, organisation.Evolve, decided), owner)
	if err != nil {
		return nil, err
	}
	decided = append(decided, added...)
	keyID, token, keyStream, err := NewKey(owner.At, s.Random, id, apikey.Principal{Kind: apikey.KindPerson, ID: memberID, Name: owner.Name},
		owner.Role.Scopes()...)
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
	state := evolved(organisation.State{}, organisation.Evolve, decided)
	kept := memberView(state.Members[0], false)
	answer := OrganisationWithKey{Organisation: organisationView(state), Owner: &kept, ApiKey: ApiKeySecret{Id: keyID}}
	position, err := s.commit(ctx, events.Append{
		Streams: streams,
		Ask:     reserve("organisation_slug", req.Body.Slug, id, "/slug"),
	}, http.StatusCreated, answer, id) // the kept answer is without the secret, and without the owner's name
	if err != nil {
		return nil, err
	}
	shown := memberView(state.Members[0], true)
	answer.ApiKey.Secret, answer.Owner = token, &shown
	return CreateOrganisation201JSONResponse{Body: answer, Headers: CreateOrganisation201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListOrganisations lists all organisations to operators.
func (s *Server) ListOrganisations(ctx context.Context, req ListOrganisationsRequestObject) (ListOrganisationsResponseObject, error) {
	found, next, err := s.Queries.Organisations(ctx, string(valueOr(req.Params.State, "")), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := OrganisationPage{Items: []Organisation{}, NextPageToken: optional(next)}
	for _, o := range found {
		page.Items = append(page.Items, organisationView(o))
	}
	return ListOrganisations200JSONResponse(page), nil
}

// GetOrganisation shows an organisation to itself and to operators.
func (s *Server) GetOrganisation(ctx context.Context, req GetOrganisationRequestObject) (GetOrganisationResponseObject, error) {
	state, version, err := s.loadOrganisation(ctx, req.OrganisationId)
	if err != nil {
		return nil, err
	}
	return GetOrganisation200JSONResponse{Body: organisationView(state), Headers: GetOrganisation200ResponseHeaders{ETag: etag(version)}}, nil
}

func (s *Server) loadOrganisation(ctx context.Context, id string) (organisation.State, int64, error) {
	return load(ctx, s, "organisation", id, organisation.Stream(id), organisation.Evolve,
		func(o organisation.State) []string { return []string{o.ID} })
}

// RenameOrganisation gives an organisation another name.
func (s *Server) RenameOrganisation(ctx context.Context, req RenameOrganisationRequestObject) (RenameOrganisationResponseObject, error) {
	view, position, err := s.changeOrganisation(ctx, req.OrganisationId, req.Params.IfMatch, organisation.Rename{Name: req.Body.Name, At: s.now()})
	if err != nil {
		return nil, err
	}
	return RenameOrganisation200JSONResponse{Body: view, Headers: RenameOrganisation200ResponseHeaders{CrossbillPosition: position}}, nil
}

// SuspendOrganisation keeps an organisation from changing anything. An operator can't suspend its own: nobody could end that.
func (s *Server) SuspendOrganisation(ctx context.Context, req SuspendOrganisationRequestObject) (SuspendOrganisationResponseObject, error) {
	if req.OrganisationId == callerFrom(ctx).OrganisationID {
		return nil, domain.Errorf(domain.Forbidden, "api.SuspendOrganisation", "an operator can't suspend its own organisation")
	}
	view, position, err := s.changeOrganisation(ctx, req.OrganisationId, req.Params.IfMatch, organisation.Suspend{Reason: req.Body.Reason, At: s.now()})
	if err != nil {
		return nil, err
	}
	return SuspendOrganisation200JSONResponse{Body: view, Headers: SuspendOrganisation200ResponseHeaders{CrossbillPosition: position}}, nil
}

// ReactivateOrganisation ends a suspension.
func (s *Server) ReactivateOrganisation(ctx context.Context, req ReactivateOrganisationRequestObject) (ReactivateOrganisationResponseObject, error) {
	view, position, err := s.changeOrganisation(ctx, req.OrganisationId, req.Params.IfMatch, organisation.Reactivate{At: s.now()})
	if err != nil {
		return nil, err
	}
	return ReactivateOrganisation200JSONResponse{Body: view, Headers: ReactivateOrganisation200ResponseHeaders{CrossbillPosition: position}}, nil
}

// CloseOrganisation ends a suspended organisation without live connections. Since it was suspended no order of it or from it
// has been placed ([Server.withinLimits]), so when the read model is level with the log it has all its connections.
func (s *Server) CloseOrganisation(ctx context.Context, req CloseOrganisationRequestObject) (CloseOrganisationResponseObject, error) {
	before, version, err := s.loadOrganisation(ctx, req.OrganisationId)
	if err != nil {
		return nil, err
	}
	if err := checkMatch(req.Params.IfMatch, version); err != nil {
		return nil, err
	}
	if before.State == organisation.StateActive { // says what to do first
		_, err := organisation.Decide(before, organisation.Close{At: s.now()})
		return nil, err
	}
	if err := s.level(ctx, "connections"); err != nil {
		return nil, err
	}
	live, err := s.Platform.LiveConnections(ctx, req.OrganisationId)
	if err != nil {
		return nil, err
	}
	view, position, err := s.changeOrganisation(ctx, req.OrganisationId, etag(version), organisation.Close{Live: live, At: s.now()})
	if err != nil {
		return nil, err
	}
	return CloseOrganisation200JSONResponse{Body: view, Headers: CloseOrganisation200ResponseHeaders{CrossbillPosition: position}}, nil
}

// level waits until a read model has what is in the log now.
func (s *Server) level(ctx context.Context, readModel string) error {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	if err := s.Waiter.WaitFor(wait, head.Position, readModel); err != nil {
		return domain.Errorf(domain.Unavailable, "api.level", "the read models have not reached position %d yet", head.Position).
			WithHint("try again in a moment")
	}
	return nil
}

func (s *Server) changeOrganisation(ctx context.Context, id string, ifMatch *string, command organisation.Command) (view Organisation, position *int64, _ error) {
	err := s.onOrganisation(ctx, id, ifMatch, command, http.StatusOK, func(o organisation.State) any {
		view = organisationView(o)
		return view
	}, &position)
	return view, position, err
}

// onOrganisation decides a command on an organisation and records it. kept makes the answer that is kept of the state after.
func (s *Server) onOrganisation(ctx context.Context, id string, ifMatch *string, command organisation.Command, status int,
	kept func(organisation.State) any, position **int64) error {
	return again(ifMatch, func() error {
		state, version, err := s.loadOrganisation(ctx, id)
		if err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		decided, err := organisation.Decide(state, command)
		if err != nil {
			return err
		}
		answer := kept(evolved(state, organisation.Evolve, decided))
		if len(decided) == 0 {
			return nil
		}
		*position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(organisation.Stream(id), version, decided...)}},
			status, answer, id)
		return err
	})
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
