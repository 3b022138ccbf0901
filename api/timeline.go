package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/domain/quote"
	"crossbill/events"
)

// GetOrderTimeline tells the story of an order, from its quote to its connection.
func (s *Server) GetOrderTimeline(ctx context.Context, req GetOrderTimelineRequestObject) (GetOrderTimelineResponseObject, error) {
	o, _, err := s.loadOrder(ctx, req.OrderId)
	if err != nil {
		return nil, err
	}
	page, err := s.timeline(ctx, story{
		customer: o.CustomerID, provider: o.ProviderID, connection: o.ConnectionID,
		short: func(place, int) ([]string, error) { return []string{quote.Stream(o.QuoteID), order.Stream(o.ID)}, nil },
	}, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return GetOrderTimeline200JSONResponse(page), nil
}

// GetQuoteTimeline tells the same story from the quote on, also where no order came of it.
func (s *Server) GetQuoteTimeline(ctx context.Context, req GetQuoteTimelineRequestObject) (GetQuoteTimelineResponseObject, error) {
	q, _, err := s.loadQuote(ctx, req.QuoteId)
	if err != nil {
		return nil, err
	}
	told, streams := story{customer: q.CustomerID, provider: q.ProviderID}, []string{quote.Stream(q.QuoteID)}
	if q.OrderID != "" {
		o, _, err := s.loadOrder(ctx, q.OrderID)
		if err != nil {
			return nil, err
		}
		told.connection, streams = o.ConnectionID, append(streams, order.Stream(o.ID))
	}
	told.short = func(place, int) ([]string, error) { return streams, nil }
	page, err := s.timeline(ctx, told, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return GetQuoteTimeline200JSONResponse(page), nil
}

// GetConnectionTimeline tells the story of a connection: what happened to it, and to every order for it, also to those that
// it never heard of because they were refused.
func (s *Server) GetConnectionTimeline(ctx context.Context, req GetConnectionTimelineRequestObject) (GetConnectionTimelineResponseObject, error) {
	c, _, err := s.loadConnection(ctx, req.ConnectionId)
	if err != nil {
		return nil, err
	}
	page, err := s.timeline(ctx, story{
		customer: c.CustomerID, provider: c.ProviderID, connection: c.ID,
		short: func(from place, limit int) ([]string, error) {
			ids, err := s.Queries.OrdersOfConnection(ctx, c.ID, from.position, limit)
			for i, id := range ids {
				ids[i] = order.Stream(id)
			}
			return ids, err
		},
	}, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return GetConnectionTimeline200JSONResponse(page), nil
}

// A story is the events of a few streams in the order of the log.
type story struct {
	customer, provider string
	connection         string // "": there is none yet. Its stream may be long: BGP sessions come and go.
	// short returns the streams of a few events each that have some past a place: all that have any of the first limit.
	short func(from place, limit int) ([]string, error)
}

// A place is how far a story is told.
type place struct {
	position events.Position // of the last event that was told
	version  int64           // of the last one of the connection's
}

// timeline returns a page of a story. A short stream is read whole, and of the connection's as much as may be on the page,
// from where the page before ended, so a long story costs no more by the page than a short one. The log is read as the
// caller sees it.
func (s *Server) timeline(ctx context.Context, told story, limit int, token string) (Timeline, error) {
	page := Timeline{Items: []TimelineEntry{}}
	at, err := parseTimelineToken(token)
	if err != nil {
		return page, err
	}
	streams, err := told.short(at, limit+1)
	if err != nil {
		return page, err
	}
	var all []events.Recorded
	for _, stream := range streams {
		found, err := s.readAll(ctx, stream, 0, events.MaxRead)
		if err != nil {
			return page, err
		}
		all = append(all, slices.DeleteFunc(found, func(e events.Recorded) bool { return e.Position <= at.position })...)
	}
	if told.connection != "" {
		found, err := s.readAll(ctx, connection.Stream(told.connection), at.version, limit+1)
		if err != nil {
			return page, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b events.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	actors := actors{server: s, story: told, known: make(map[string]TimelineActor)}
	for _, e := range all[:min(len(all), limit)] {
		if at.position = e.Position; e.Stream == connection.Stream(told.connection) {
			at.version = e.Version
		}
		actor, err := actors.find(ctx, e.Metadata)
		if err != nil {
			return page, err
		}
		_, subject, _ := strings.Cut(e.Stream, "-")
		page.Items = append(page.Items, TimelineEntry{
			Position: int64(e.Position), RecordedAt: e.RecordedAt, Type: e.Type, Subject: subject, Sentence: sentence(e), Actor: actor,
		})
	}
	if len(all) > limit {
		next := at.token()
		page.NextPageToken = &next
	}
	return page, nil
}

// readAll returns the events of a stream past a version that the caller sees, up to a number of them.
func (s *Server) readAll(ctx context.Context, stream string, last int64, wanted int) (all []events.Recorded, _ error) {
	for seen := s.seen(ctx); wanted > 0; { // a page of the log may be cut short by its size
		found, err := seen.ReadStream(ctx, stream, last, wanted)
		if err != nil || len(found) == 0 {
			return all, err
		}
		all, last, wanted = append(all, found...), found[len(found)-1].Version, wanted-len(found)
	}
	return all, nil
}

// token is the page token that goes on from the place. It grants nothing: it only leaves events out.
func (p place) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d", p.position, p.version))
}

func parseTimelineToken(token string) (at place, _ error) {
	if token == "" {
		return at, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		_, err = fmt.Sscan(string(text), &at.position, &at.version)
	}
	if err != nil || at.position < 0 || at.version < 0 || at.token() != token {
		var p domain.Problems
		p.Add("/page_token", "is not the next_page_token of this list")
		return place{}, p.Err("api.timeline")
	}
	return at, nil
}

// actors finds who is behind the actors of a story's events. A party is told to everybody who reads the story; which of
// its people and programs it was, on whose behalf and why, only to itself.
type actors struct {
	server *Server
	story  story
	known  map[string]TimelineActor // by actor; for whom it acted and why is of each event
}

// find returns who did what has the metadata.
func (a actors) find(ctx context.Context, m events.Metadata) (TimelineActor, error) {
	actor, ok := a.known[m.Actor]
	if !ok {
		var err error
		if actor, err = a.whoseKey(ctx, m.Actor); err != nil {
			return actor, err
		}
		a.known[m.Actor] = actor
	}
	if actor.ApiKeyId != nil { // the caller may know
		actor.OnBehalfOf, actor.Reason = optional(m.OnBehalfOf), optional(m.Reason)
	}
	return actor, nil
}

func (a actors) whoseKey(ctx context.Context, id string) (TimelineActor, error) {
	actor := TimelineActor{Party: TimelineActorPartyPlatform}
	if !domain.ValidID(domain.PrefixAPIKey, id) {
		return actor, nil
	}
	key, _, err := events.Load(ctx, a.server.Log, apikey.Stream(id), apikey.Evolve)
	if err != nil {
		return actor, err
	}
	switch key.OrganisationID {
	case a.story.customer:
		actor.Party = TimelineActorPartyCustomer
	case a.story.provider:
		actor.Party = TimelineActorPartyProvider
	}
	if callerFrom(ctx).sees(key.OrganisationID) {
		actor.ApiKeyId, actor.Kind, actor.Name = optional(key.ID), optional(string(key.Principal.Kind)), optional(key.Principal.Name)
	}
	return actor, nil
}
