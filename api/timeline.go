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
		customer: o.CustomerID, provider: o.ProviderID,
		streams: []string{quote.Stream(o.QuoteID), order.Stream(o.ID), connection.Stream(o.ConnectionID)},
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
	told := story{customer: q.CustomerID, provider: q.ProviderID, streams: []string{quote.Stream(q.QuoteID)}}
	if q.OrderID != "" {
		o, _, err := s.loadOrder(ctx, q.OrderID)
		if err != nil {
			return nil, err
		}
		told.streams = append(told.streams, order.Stream(o.ID), connection.Stream(o.ConnectionID))
	}
	page, err := s.timeline(ctx, told, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	return GetQuoteTimeline200JSONResponse(page), nil
}

// A story is the events of a few streams in the order of the log.
type story struct {
	customer, provider string
	streams            []string
}

// timeline returns a page of a story. It reads as much of each stream as may be on the page, from where the page before
// ended in each, so a long story costs no more by the page than a short one. The log is read as the caller sees it.
func (s *Server) timeline(ctx context.Context, told story, limit int, token string) (Timeline, error) {
	page := Timeline{Items: []TimelineEntry{}}
	after, err := parseTimelineToken(token, len(told.streams))
	if err != nil {
		return page, err
	}
	var all []events.Recorded
	of := make(map[string]int, len(told.streams)) // index of each stream
	seen := s.seen(ctx)
	for i, stream := range told.streams {
		of[stream] = i
		last := after[i]
		for wanted := limit + 1; wanted > 0; { // a page of the log may be cut short by its size
			found, err := seen.ReadStream(ctx, stream, last, wanted)
			if err != nil {
				return page, err
			}
			if len(found) == 0 {
				break
			}
			all, last, wanted = append(all, found...), found[len(found)-1].Version, wanted-len(found)
		}
	}
	slices.SortFunc(all, func(a, b events.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	more := len(all) > limit
	actors := actors{server: s, story: told, known: make(map[string]TimelineActor)}
	for _, e := range all[:min(len(all), limit)] {
		after[of[e.Stream]] = e.Version
		actor, err := actors.find(ctx, e.Metadata)
		if err != nil {
			return page, err
		}
		_, subject, _ := strings.Cut(e.Stream, "-")
		page.Items = append(page.Items, TimelineEntry{
			Position: int64(e.Position), RecordedAt: e.RecordedAt, Type: e.Type, Subject: subject, Sentence: sentence(e), Actor: actor,
		})
	}
	if more {
		next := timelineToken(after)
		page.NextPageToken = &next
	}
	return page, nil
}

// A timeline's page token is the version that was read of each stream. It grants nothing: it only leaves events out.
func timelineToken(after []int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Trim(fmt.Sprint(after), "[]")))
}

func parseTimelineToken(token string, streams int) ([]int64, error) {
	after := make([]int64, streams)
	if token == "" {
		return after, nil
	}
	into := make([]any, streams)
	for i := range after {
		into[i] = &after[i]
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		_, err = fmt.Sscan(string(text), into...)
	}
	if err != nil || slices.Min(after) < 0 || timelineToken(after) != token {
		var p domain.Problems
		p.Add("/page_token", "is not the next_page_token of this list")
		return nil, p.Err("api.timeline")
	}
	return after, nil
}

// actors finds who is behind the actors of a story's events. A party is told to everybody who reads the story; which of
// its people and programs it was, on whose behalf and why, only to itself.
type actors struct {
	server *Server
	story  story
	known  map[string]TimelineActor // by actor
}

func (a actors) find(ctx context.Context, m events.Metadata) (TimelineActor, error) {
	actor, ok := a.known[m.Actor]
	if ok {
		return actor, nil
	}
	actor.Party = TimelineActorPartyPlatform
	if domain.ValidID(domain.PrefixAPIKey, m.Actor) {
		key, _, err := events.Load(ctx, a.server.Log, apikey.Stream(m.Actor), apikey.Evolve)
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
	}
	a.known[m.Actor] = actor
	return actor, nil
}
