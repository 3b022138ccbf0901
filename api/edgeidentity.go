package api

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/edgeidentity"
	"crossbill/domain/edgenode"
	"crossbill/events"
)

// nodeCaller is the machine that is an edge node. It is of no organisation and a party of no event.
func nodeCaller(edgeNodeID string) Caller {
	return Caller{KeyID: edgeNodeID, OrganisationID: edgeNodeID, Scopes: []string{ScopeEdge},
		Principal: apikey.Principal{Kind: apikey.KindEdgeNode, ID: edgeNodeID, Name: edgeNodeID}}
}

// identified returns the edge node whose certificate a request came with. That the caller has its key was proved when the
// connection was made; whether it is signed by the authority, in its time and listed for the node is looked at here, so
// that the answer can say what is wrong, and with every request, so that a revocation holds on open connections too.
func (s *Server) identified(ctx context.Context, shown *x509.Certificate) (Caller, error) {
	if s.Authority == nil {
		return Caller{}, domain.Errorf(domain.Unauthorised, "api.authenticate", "this address takes no client certificates")
	}
	edgeNodeID, fingerprint, err := s.Authority.Known(shown)
	if err != nil {
		return Caller{}, err
	}
	known, err := s.identity(ctx, edgeNodeID)
	if err != nil {
		return Caller{}, err
	}
	if _, err := known.state.Admit(fingerprint, s.now()); err != nil {
		return Caller{}, err
	}
	caller := nodeCaller(edgeNodeID)
	caller.fingerprint = fingerprint
	return caller, nil
}

// stillIdentified is for requests that have waited: it returns an Unauthorised error if the caller's certificate is not
// good any more.
func (s *Server) stillIdentified(ctx context.Context) error {
	caller := callerFrom(ctx)
	known, err := s.identity(ctx, caller.Principal.ID)
	if err == nil {
		_, err = known.state.Admit(caller.fingerprint, s.now())
	}
	return err
}

// identity is that of an edge node, as it is in the log at the version.
type identity struct {
	state   edgeidentity.State
	version int64
}

// identity returns an edge node's identity as it is now. As with accounts, what is remembered is never taken on trust.
func (s *Server) identity(ctx context.Context, edgeNodeID string) (identity, error) {
	stream := edgeidentity.Stream(edgeNodeID)
	if found, ok := s.identities.get(edgeNodeID); ok {
		var now int64
		err := s.Pool.QueryRow(ctx, `SELECT coalesce((SELECT version FROM streams WHERE stream = $1), 0)`, stream).Scan(&now) // primary key
		if err != nil {
			return identity{}, domain.Errorf(domain.Unavailable, "api.authenticate", "the edge node can't be looked up: %w", err)
		}
		if now == found.version {
			return found, nil
		}
	}
	state, version, err := events.Load(ctx, s.Log, stream, edgeidentity.Evolve)
	if err != nil || version == 0 {
		return identity{}, err
	}
	found := identity{state, version}
	s.identities.put(edgeNodeID, found)
	return found, nil
}

// CreateJoinToken makes a token with which a machine joins as an edge node.
func (s *Server) CreateJoinToken(ctx context.Context, req CreateJoinTokenRequestObject) (CreateJoinTokenResponseObject, error) {
	if s.Authority == nil {
		return nil, noAuthority("api.CreateJoinToken")
	}
	if err := s.edgeNodeExists(ctx, req.EdgeNodeId); err != nil {
		return nil, err
	}
	token := edgeidentity.JoinToken{EdgeNodeID: req.EdgeNodeId, Authority: s.Authority.Pin()}
	if _, err := io.ReadFull(s.Random, token.Secret[:]); err != nil {
		return nil, domain.Errorf(domain.Internal, "api.CreateJoinToken", "the random source failed: %w", err)
	}
	life := time.Duration(valueOr(req.Body.ValidSeconds, int(edgeidentity.TokenLife/time.Second))) * time.Second
	var answer JoinToken
	decided, position, err := s.decideIdentity(ctx, req.EdgeNodeId, http.StatusCreated,
		edgeidentity.IssueToken{EdgeNodeID: req.EdgeNodeId, SecretHash: token.SecretHash(), Life: life, At: s.now()},
		func(decided []domain.Event) any {
			answer.ExpiresAt = decided[0].(edgeidentity.TokenIssued).ExpiresAt
			return answer // the kept answer is without the token
		})
	if err != nil || len(decided) == 0 {
		return nil, err
	}
	answer.Token = token.String()
	return CreateJoinToken201JSONResponse{Body: answer, Headers: CreateJoinToken201ResponseHeaders{CrossbillPosition: position}}, nil
}

// JoinEdgeNode gives the certificate of an edge node to who has a token for it.
func (s *Server) JoinEdgeNode(ctx context.Context, req JoinEdgeNodeRequestObject) (JoinEdgeNodeResponseObject, error) {
	if s.Authority == nil {
		return nil, noAuthority("api.JoinEdgeNode")
	}
	token, err := edgeidentity.ParseJoinToken(req.Body.Token)
	if err != nil {
		return nil, err
	}
	answer, certificate, err := s.certify(req.EdgeNodeId, req.Body.CertificateRequest)
	if err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, callerKey{}, nodeCaller(req.EdgeNodeId)) // if the token is good
	_, position, err := s.decideIdentity(ctx, req.EdgeNodeId, http.StatusCreated,
		edgeidentity.Join{EdgeNodeID: req.EdgeNodeId, SecretHash: token.SecretHash(), Certificate: certificate, At: s.now()},
		func([]domain.Event) any { return answer })
	if err != nil {
		return nil, err
	}
	s.Logger.InfoContext(ctx, "edge node joined", "edge_node", req.EdgeNodeId, "serial", certificate.Serial, "fingerprint", certificate.Fingerprint)
	return JoinEdgeNode201JSONResponse{Body: answer, Headers: JoinEdgeNode201ResponseHeaders{CrossbillPosition: position}}, nil
}

// RenewEdgeCertificate gives the calling edge node a further certificate.
func (s *Server) RenewEdgeCertificate(ctx context.Context, req RenewEdgeCertificateRequestObject) (RenewEdgeCertificateResponseObject, error) {
	if _, err := s.loadEdgeNode(ctx, req.EdgeNodeId); err != nil {
		return nil, err
	}
	answer, certificate, err := s.certify(req.EdgeNodeId, req.Body.CertificateRequest)
	if err != nil {
		return nil, err
	}
	_, position, err := s.decideIdentity(ctx, req.EdgeNodeId, http.StatusCreated,
		edgeidentity.Renew{EdgeNodeID: req.EdgeNodeId, With: callerFrom(ctx).fingerprint, Certificate: certificate, At: s.now()},
		func([]domain.Event) any { return answer })
	if err != nil {
		return nil, err
	}
	return RenewEdgeCertificate201JSONResponse{Body: answer, Headers: RenewEdgeCertificate201ResponseHeaders{CrossbillPosition: position}}, nil
}

// RevokeEdgeNode takes an edge node's tokens and certificates back.
func (s *Server) RevokeEdgeNode(ctx context.Context, req RevokeEdgeNodeRequestObject) (RevokeEdgeNodeResponseObject, error) {
	if err := s.edgeNodeExists(ctx, req.EdgeNodeId); err != nil {
		return nil, err
	}
	_, position, err := s.decideIdentity(ctx, req.EdgeNodeId, http.StatusNoContent,
		edgeidentity.Revoke{EdgeNodeID: req.EdgeNodeId, At: s.now()}, func([]domain.Event) any { return nil })
	if err != nil {
		return nil, err
	}
	return RevokeEdgeNode204Response{Headers: RevokeEdgeNode204ResponseHeaders{CrossbillPosition: position}}, nil
}

// decideIdentity decides a command over an edge node's identity and records it; position is nil if there was nothing to.
// The events name no party: they are for operators, who see everything.
func (s *Server) decideIdentity(ctx context.Context, edgeNodeID string, status int, c edgeidentity.Command, answer func([]domain.Event) any) (decided []domain.Event, position *int64, _ error) {
	stream := edgeidentity.Stream(edgeNodeID)
	err := again(nil, func() error {
		state, version, err := events.Load(ctx, s.Log, stream, edgeidentity.Evolve)
		if err != nil {
			return err
		}
		if decided, err = edgeidentity.Decide(state, c); err != nil || len(decided) == 0 {
			return err
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(stream, version, decided...)}}, status, answer(decided))
		return err
	})
	return decided, position, err
}

// certify makes a certificate, which is nobody's until the log has it.
func (s *Server) certify(edgeNodeID, request string) (EdgeCertificate, edgeidentity.Certificate, error) {
	certificate, kept, err := s.Authority.Sign(request, edgeNodeID, s.now(), s.CertificateLife)
	return EdgeCertificate{Certificate: certificate, Authority: s.Authority.PEM(), Serial: kept.Serial, Fingerprint: kept.Fingerprint,
		NotBefore: kept.NotBefore, NotAfter: kept.NotAfter}, kept, err
}

func noAuthority(op string) *domain.Error {
	return domain.Errorf(domain.Unavailable, op, "this platform has no edge authority").WithHint("crossbill serve --edge-listen has one")
}

// edgeNodeExists returns NotFound for an edge node that is not there. It is for operators.
func (s *Server) edgeNodeExists(ctx context.Context, id string) error {
	_, _, err := load(ctx, s, "edge node", id, edgenode.Stream(id), edgenode.Evolve, func(edgenode.State) []string { return nil })
	return err
}

// edgeIdentityView shows who is an edge node.
func edgeIdentityView(state edgeidentity.State, now time.Time) *EdgeNodeIdentity {
	v := &EdgeNodeIdentity{State: EdgeNodeIdentityStateNone, RevokedAt: state.RevokedAt}
	for _, t := range state.Tokens {
		if now.Before(t.ExpiresAt) {
			v.JoinTokens++
		}
	}
	if n := len(state.Certificates); n > 0 {
		newest := state.Certificates[n-1]
		v.State, v.Serial, v.Fingerprint, v.NotAfter = EdgeNodeIdentityStateJoined, &newest.Serial, &newest.Fingerprint, &newest.NotAfter
		if now.After(newest.NotAfter) {
			v.State = EdgeNodeIdentityStateExpired
		}
	} else if state.RevokedAt != nil {
		v.State = EdgeNodeIdentityStateRevoked
	}
	return v
}
