package api

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/events"
	"crossbill/projections"
)

// RecoverOrganisation issues a key to an owner of an organisation that has lost its own, and revokes all others if that is
// asked for. It is not held to [MaxLiveKeys]: an organisation that has lost as many needs one more to revoke them.
//
// An operator can't revoke the keys of its own organisation so: its own key would be among them.
func (s *Server) RecoverOrganisation(ctx context.Context, req RecoverOrganisationRequestObject) (RecoverOrganisationResponseObject, error) {
	revoke := valueOr(req.Body.RevokeKeys, false)
	if revoke && req.OrganisationId == callerFrom(ctx).OrganisationID {
		return nil, domain.Errorf(domain.Forbidden, "api.RecoverOrganisation", "an operator can't revoke all keys of its own organisation")
	}
	var r recovery
	var position *int64
	err := again(req.Params.IfMatch, func() (err error) {
		if r, err = s.recovery(ctx, req); err != nil {
			return err
		}
		ask := askFunc(nil)
		if revoke {
			revoked, all, err := s.revokeAll(ctx, req.OrganisationId, r.at)
			if err != nil {
				return err
			}
			r.streams, ask = append(r.streams, revoked...), all
		}
		position, err = s.commit(ctx, events.Append{Streams: r.streams, Ask: ask}, http.StatusOK, r.answer(false), req.OrganisationId)
		return err
	})
	if err != nil {
		return nil, err
	}
	return RecoverOrganisation200JSONResponse{Body: r.answer(true), Headers: RecoverOrganisation200ResponseHeaders{CrossbillPosition: position}}, nil
}

// recovery is one that can be recorded.
type recovery struct {
	at            time.Time
	organisation  organisation.State
	owner         organisation.Member
	keyID, secret string
	streams       []events.StreamAppend
}

func (s *Server) recovery(ctx context.Context, req RecoverOrganisationRequestObject) (r recovery, err error) {
	r.at = s.now()
	state, version, err := s.loadOrganisation(ctx, req.OrganisationId)
	if err != nil {
		return r, err
	}
	if err := checkMatch(req.Params.IfMatch, version); err != nil {
		return r, err
	}
	var decided []domain.Event
	if o := req.Body.Owner; o != nil {
		add := organisation.AddMember{Name: o.Name, Email: valueOr(o.Email, ""), Role: organisation.MemberOwner, At: r.at}
		if add.MemberID, err = s.newID(domain.PrefixMember); err != nil {
			return r, err
		}
		if decided, err = organisation.Decide(state, add); err != nil {
			return r, err
		}
		state = evolved(state, organisation.Evolve, decided)
		r.owner, _ = state.Member(add.MemberID)
	} else if r.owner, err = firstOwner(state); err != nil {
		return r, err
	}
	var key events.StreamAppend
	r.keyID, r.secret, key, err = NewKey(r.at, s.Random, state.ID, apikey.Principal{Kind: apikey.KindPerson, ID: r.owner.ID, Name: r.owner.Name},
		r.owner.Role.Scopes()...)
	if err != nil {
		return r, err
	}
	recovered, err := organisation.Decide(state, organisation.Recover{MemberID: r.owner.ID, KeyID: r.keyID, Reason: req.Body.Reason, At: r.at})
	if err != nil {
		return r, err
	}
	r.organisation = evolved(state, organisation.Evolve, recovered)
	r.streams = []events.StreamAppend{appendTo(organisation.Stream(state.ID), version, append(decided, recovered...)...), key}
	return r, nil
}

// firstOwner returns the member that came first of those who are owners.
func firstOwner(o organisation.State) (organisation.Member, error) {
	for _, m := range o.Members {
		if m.RemovedAt == nil && m.Role == organisation.MemberOwner {
			return m, nil
		}
	}
	return organisation.Member{}, domain.Errorf(domain.Conflict, "api.RecoverOrganisation", "the organisation %s has no owner", o.ID).WithHint("name a new owner")
}

// answer is what the operator is told; without what must not be kept, if it is to be.
func (r recovery) answer(withSecret bool) OrganisationWithKey {
	owner := memberView(r.owner, withSecret)
	answer := OrganisationWithKey{Organisation: organisationView(r.organisation), Owner: &owner, ApiKey: ApiKeySecret{Id: r.keyID}}
	if withSecret {
		answer.ApiKey.Secret = r.secret
	}
	return answer
}

// revokeAll revokes every key that the organisation has, and returns the ask that refuses, to be tried again, when one has
// been issued since they were looked up.
func (s *Server) revokeAll(ctx context.Context, organisationID string, at time.Time) (revoked []events.StreamAppend, _ askFunc, _ error) {
	if err := s.level(ctx, "api_keys"); err != nil {
		return nil, nil, err
	}
	live, _, err := s.Platform.LiveKeys(ctx, organisationID, at)
	if err != nil {
		return nil, nil, err
	}
	known := make(map[string]bool, len(live))
	for _, key := range live {
		decided, err := apikey.Decide(key.State, apikey.Revoke{At: at})
		if err != nil {
			return nil, nil, err
		}
		known[key.ID] = true
		revoked = append(revoked, appendTo(apikey.Stream(key.ID), key.Version, decided...))
	}
	return revoked, func(ctx context.Context, tx pgx.Tx) error {
		now, ahead, err := projections.Queries{DB: tx}.LiveKeys(ctx, organisationID, at)
		for _, key := range now {
			if !known[key.ID] {
				ahead++
			}
		}
		if err == nil && ahead > 0 {
			err = domain.Errorf(domain.Conflict, "api.revokeAll", "the organisation issued a key just now").
				WithHint("send the request again, or suspend the organisation first: then it issues none")
		}
		return err
	}, nil
}
