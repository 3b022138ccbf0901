package api

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/port"
	"crossbill/domain/servicekey"
	"crossbill/events"
)

// serviceKeyDays is how long a service key is good for if its issuer does not say.
const serviceKeyDays = 90

// CreateServiceKey gives a permission to connect to a port of the caller's. The key reads "svk_<26 characters>_<43
// characters>": its id, then 32 random bytes in base64url, of which only the hash is kept. Whether the customer it names exists is not looked at: an answer
// would tell, and a key for nobody is never used.
func (s *Server) CreateServiceKey(ctx context.Context, req CreateServiceKeyRequestObject) (CreateServiceKeyResponseObject, error) {
	const op = "api.CreateServiceKey"
	b, now, issuer := req.Body, s.now(), callerFrom(ctx).OrganisationID
	onPort, _, err := events.Load(ctx, s.Log, port.Stream(b.PortId), port.Evolve)
	if err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixServiceKey)
	if err != nil {
		return nil, err
	}
	var bits [32]byte
	if _, err := io.ReadFull(s.Random, bits[:]); err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the random source failed: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(bits[:])
	decided, err := servicekey.Decide(servicekey.State{}, servicekey.Issue{
		ServiceKeyID: id, ProviderID: issuer, PortID: b.PortId, Port: onPort, CustomerID: valueOr(b.CustomerId, ""),
		MaxMbps: valueOr(b.MaxMbps, 0), Note: valueOr(b.Note, ""), SecretHash: hashSecret(secret),
		ExpiresAt: now.Add(time.Duration(valueOr(b.ValidForDays, serviceKeyDays)) * 24 * time.Hour), At: now,
	})
	if err != nil {
		return nil, err
	}
	answer := ServiceKeyWithSecret{ServiceKey: serviceKeyView(evolved(servicekey.State{}, servicekey.Evolve, decided), now)}
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(servicekey.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, issuer) // the kept answer is without the secret
	if err != nil {
		return nil, err
	}
	answer.Secret = id + "_" + secret
	return CreateServiceKey201JSONResponse{Body: answer, Headers: CreateServiceKey201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListServiceKeys lists the service keys the caller's organisation issued; an operator sees all.
func (s *Server) ListServiceKeys(ctx context.Context, req ListServiceKeysRequestObject) (ListServiceKeysResponseObject, error) {
	found, next, err := s.Queries.ServiceKeysOf(ctx, viewer(ctx), valueOr(req.Params.PortId, ""), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	now := s.now()
	page := ServiceKeyPage{Items: []ServiceKey{}, NextPageToken: optional(next)}
	for _, k := range found {
		page.Items = append(page.Items, serviceKeyView(k, now))
	}
	return ListServiceKeys200JSONResponse(page), nil
}

// GetServiceKey shows a service key to its issuer.
func (s *Server) GetServiceKey(ctx context.Context, req GetServiceKeyRequestObject) (GetServiceKeyResponseObject, error) {
	state, version, err := s.loadServiceKey(ctx, req.ServiceKeyId)
	if err != nil {
		return nil, err
	}
	return GetServiceKey200JSONResponse{Body: serviceKeyView(state, s.now()), Headers: GetServiceKey200ResponseHeaders{ETag: etag(version)}}, nil
}

// RevokeServiceKey takes a service key back.
func (s *Server) RevokeServiceKey(ctx context.Context, req RevokeServiceKeyRequestObject) (RevokeServiceKeyResponseObject, error) {
	var (
		view     ServiceKey
		position *int64
	)
	err := again(req.Params.IfMatch, func() error {
		state, version, err := s.loadServiceKey(ctx, req.ServiceKeyId)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.ProviderID, "issuer"); err != nil {
			return err
		}
		if err := checkMatch(req.Params.IfMatch, version); err != nil {
			return err
		}
		decided, err := servicekey.Decide(state, servicekey.Revoke{At: s.now()})
		if err != nil {
			return err
		}
		view = serviceKeyView(evolved(state, servicekey.Evolve, decided), s.now())
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(servicekey.Stream(state.ID), version, decided...)}},
			http.StatusOK, view, state.ProviderID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return RevokeServiceKey200JSONResponse{Body: view, Headers: RevokeServiceKey200ResponseHeaders{CrossbillPosition: position}}, nil
}

func (s *Server) loadServiceKey(ctx context.Context, id string) (servicekey.State, int64, error) {
	return load(ctx, s, "service key", id, servicekey.Stream(id), servicekey.Evolve,
		func(k servicekey.State) []string { return []string{k.ProviderID} })
}

// redeem decides on a service key that an order presents, if it presents one. The key is its issuer's, so it is read with
// the platform's rights; who has not its secret learns nothing. The version makes a key good for one append only.
func (s *Server) redeem(ctx context.Context, token *string, c servicekey.Redeem) (id string, _ events.StreamAppend, _ error) {
	if token == nil {
		return "", events.StreamAppend{}, nil
	}
	const idLength = len("svk_") + 26 // the contract holds the token to its form
	id, secret := (*token)[:idLength], (*token)[idLength+1:]
	state, version, err := events.Load(ctx, s.Log, servicekey.Stream(id), servicekey.Evolve)
	if err != nil {
		return "", events.StreamAppend{}, err
	}
	c.SecretHash = hashSecret(secret)
	decided, err := servicekey.Decide(state, c)
	if err != nil {
		return "", events.StreamAppend{}, err
	}
	return id, appendTo(servicekey.Stream(id), version, decided...), nil
}

func serviceKeyView(k servicekey.State, now time.Time) ServiceKey {
	return ServiceKey{
		Id: k.ID, State: ServiceKeyState(k.StateAt(now)), PortId: k.PortID, CustomerId: optional(k.CustomerID), MaxMbps: optional(k.MaxMbps),
		Note: optional(k.Note), IssuedAt: k.IssuedAt, ExpiresAt: k.ExpiresAt, OrderId: optional(k.OrderID), RedeemedBy: optional(k.RedeemedBy),
	}
}
