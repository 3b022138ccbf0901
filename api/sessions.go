package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/events"
)

// ListBGPSessions shows both sessions of a connection to its parties, each its own side's settings.
func (s *Server) ListBGPSessions(ctx context.Context, req ListBGPSessionsRequestObject) (ListBGPSessionsResponseObject, error) {
	state, version, err := s.loadConnection(ctx, req.ConnectionId)
	if err != nil {
		return nil, err
	}
	all := BGPSessions{Items: []BGPSession{}}
	if state.A != nil {
		for _, side := range []string{connection.SideA, connection.SideZ} {
			all.Items = append(all.Items, sessionView(state, side, callerFrom(ctx)))
		}
	}
	return ListBGPSessions200JSONResponse{Body: all, Headers: ListBGPSessions200ResponseHeaders{ETag: etag(version)}}, nil
}

// ConfigureBGPSession records what a party wants of its own session. The other party's is as unknown to it as one that is
// not there would be, if the connection did not say that it is.
func (s *Server) ConfigureBGPSession(ctx context.Context, req ConfigureBGPSessionRequestObject) (ConfigureBGPSessionResponseObject, error) {
	var (
		view     BGPSession
		position *int64
		b        = req.Body
		side     = string(req.Side)
	)
	err := again(req.Params.IfMatch, func() error {
		state, version, err := s.loadConnection(ctx, req.ConnectionId)
		if err != nil {
			return err
		}
		party, who := state.CustomerID, "customer"
		if side == connection.SideZ {
			party, who = state.ProviderID, "provider"
		}
		if err := onlyFor(ctx, party, who); err != nil {
			return err
		}
		if err := checkMatch(req.Params.IfMatch, version); err != nil {
			return err
		}
		var p domain.Problems
		p.Check(b.Md5Secret == nil || !valueOr(b.RemoveMd5Secret, false), "/remove_md5_secret", "can't be said with another secret")
		if err := p.Err("api.ConfigureBGPSession"); err != nil {
			return err
		}
		if b.Prefixes != nil && side == connection.SideA {
			if err := s.bgpInPlace(ctx, state); err != nil {
				return err
			}
		}
		decided, err := decideSession(state, side, *b, s)
		if err != nil {
			return err
		}
		view = sessionView(evolved(state, connection.Evolve, decided), side, callerFrom(ctx))
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(connection.Stream(state.ID), version, decided...)}},
			http.StatusOK, view, unique(state.CustomerID, state.ProviderID)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ConfigureBGPSession200JSONResponse{Body: view, Headers: ConfigureBGPSession200ResponseHeaders{CrossbillPosition: position}}, nil
}

// bgpInPlace returns a Conflict if the listing does not let a customer's prefixes change while traffic crosses.
func (s *Server) bgpInPlace(ctx context.Context, c connection.State) error {
	offered, _, err := events.Load(ctx, s.Log, listing.Stream(c.ListingID), listing.Evolve)
	if err != nil {
		return err
	}
	if terms, ok := offered.TermsOf(c.ListingVersion); ok && !terms.InPlace(listing.ChangeBGP) {
		return domain.Errorf(domain.Conflict, "api.ConfigureBGPSession", "the listing does not allow other prefixes in place").
			WithHint("order a new connection, and terminate this one when that is in production")
	}
	return nil
}

func decideSession(state connection.State, side string, b BGPSessionSettings, s *Server) (all []domain.Event, _ error) {
	now := s.now()
	configure := connection.ConfigureSession{Side: side, PrefixLimit: b.PrefixLimit, At: now}
	if b.AdminState != nil {
		admin := string(*b.AdminState)
		configure.Admin = &admin
	}
	if b.Prefixes != nil {
		configure.Prefixes = append([]string{}, *b.Prefixes...)
	}
	commands := []connection.Command{configure}
	if b.Md5Secret != nil {
		commands = append(commands, connection.SetSecret{Side: side, Secret: *b.Md5Secret, At: now})
	}
	if valueOr(b.RemoveMd5Secret, false) {
		commands = append(commands, connection.RemoveSecret{Side: side, At: now})
	}
	for _, command := range commands {
		decided, err := connection.Decide(state, command)
		if err != nil {
			return nil, err
		}
		state, all = evolved(state, connection.Evolve, decided), append(all, decided...)
	}
	return all, nil
}

// sessionView shows a session: its settings to the party whose it is, what is seen of it to both.
func sessionView(s connection.State, side string, to Caller) BGPSession {
	on, whose := s.A, s.CustomerID
	if side == connection.SideZ {
		on, whose = s.Z, s.ProviderID
	}
	settings := s.Settings(side)
	v := BGPSession{Side: Side(side), Asn: on.PeerASN, PeerAsn: s.EdgeASN}
	v.Observed = observedSession(s, connection.SessionName{Side: side, Family: domain.IPv4})
	v.ObservedIpv6 = observedSession(s, connection.SessionName{Side: side, Family: domain.IPv6})
	if to.OrganisationID != whose {
		return v
	}
	admin, protected := AdminState(settings.Admin), settings.SecretSetAt != nil
	prefixes := append([]Prefix{}, on.Prefixes...)
	v.AdminState, v.Prefixes, v.PrefixLimit = &admin, &prefixes, &settings.PrefixLimit
	v.Address, v.PeerAddress = routerLink(on, domain.IPv4)
	v.Ipv6Address, v.Ipv6PeerAddress = routerLink(on, domain.IPv6)
	v.Md5, v.Md5SetAt = &protected, settings.SecretSetAt
	return v
}

// desiredSessions completes what an edge node is told of a connection's sessions with their secrets, which stand in no read
// model: the connection's events are read for them. A secret that was erased leaves the session off rather than open.
func (s *Server) desiredSessions(ctx context.Context, c connection.State, desired *DesiredConnection) error {
	known := c
	if c.Settings(connection.SideA).SecretSetAt != nil || c.Settings(connection.SideZ).SecretSetAt != nil {
		var err error
		if known, _, err = events.Load(ctx, s.Log, connection.Stream(c.ID), connection.Evolve); err != nil {
			return err
		}
	}
	for _, end := range []struct {
		side string
		on   *DesiredAttachment
	}{{connection.SideA, &desired.A}, {connection.SideZ, &desired.Z}} {
		settings := c.Settings(end.side)
		admin := AdminState(settings.Admin)
		end.on.PrefixLimit, end.on.AdminState = settings.PrefixLimit, &admin
		if settings.SecretSetAt == nil {
			continue
		}
		switch secret := known.Secret(end.side); secret {
		case domain.Erased, "":
			down := AdminStateDown
			end.on.AdminState = &down
		case domain.Unreadable:
			return domain.Errorf(domain.Unavailable, "api.desiredSessions", "the MD5 secret of a session of %s can't be read", c.ID).
				WithHint("restore the keys: crossbill keys restore")
		default:
			end.on.Md5Secret = &secret
		}
	}
	return nil
}
