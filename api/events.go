package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/projections"
)

// streamPage is how many events an event stream reads at once.
const streamPage = 500

// slicePatience is how long a page of events waits for the read model to have what is in the log already.
const slicePatience = time.Second

// streamPause bounds how often an event stream looks for what its caller may see among what it may not.
const streamPause = 20 * time.Millisecond

// eventFilter narrows a caller's slice of the log.
type eventFilter struct {
	types  []string // nil: all
	stream string   // "": all
}

// ListEvents serves the caller's slice of the log as a page, or as a stream if the caller accepts one.
func (s *Server) ListEvents(ctx context.Context, req ListEventsRequestObject) (ListEventsResponseObject, error) {
	after := events.Position(valueOr(req.Params.After, 0))
	if req.Params.LastEventID != nil {
		after = events.Position(*req.Params.LastEventID)
	}
	filter, err := filterOf(req.Params)
	if err != nil {
		return nil, err
	}
	if wantsStream(ctx) {
		select {
		case s.streams <- struct{}{}:
			return &eventStream{server: s, ctx: ctx, after: after, filter: filter}, nil
		default:
			return nil, domain.Errorf(domain.Unavailable, "api.ListEvents", "this node has %d open streams, its limit", maxStreams).
				WithHint("try again, or read pages with after=")
		}
	}
	found, known, err := s.currentEventsOf(ctx, filter, after, valueOr(req.Params.Limit, 100))
	if err != nil {
		return nil, err
	}
	page := EventPage{Items: []Event{}, NextAfter: int64(known)}
	for _, e := range found {
		page.Items = append(page.Items, eventView(e))
	}
	return ListEvents200JSONResponse(page), nil
}

func filterOf(params ListEventsParams) (eventFilter, error) {
	filter := eventFilter{stream: valueOr(params.Stream, "")}
	if params.Types == nil {
		return filter, nil
	}
	var p domain.Problems
	var unknown []string
	filter.types, unknown = vocabulary.Matching(*params.Types...)
	for _, pattern := range unknown {
		p.Add("/query/types", "there is no event type %.80s", pattern)
	}
	return filter, p.Err("api.ListEvents")
}

// currentEventsOf is eventsOf with all that was in the log when it was called, unless the read model is further behind than
// slicePatience makes up for.
func (s *Server) currentEventsOf(ctx context.Context, f eventFilter, after events.Position, limit int) ([]events.Recorded, events.Position, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, after, err
	}
	found, known, err := s.eventsOf(ctx, f, after, limit)
	if err != nil || len(found) == limit || known >= head.Position {
		return found, known, err
	}
	wait, cancel := context.WithTimeout(ctx, slicePatience)
	defer cancel()
	if s.Waiter.WaitFor(wait, head.Position, projections.SlicesModel) != nil {
		return found, known, nil // what there is; known says how far it goes
	}
	return s.eventsOf(ctx, f, after, limit)
}

// eventsOf returns the next events of the caller's slice, and how far that is all there is of it.
func (s *Server) eventsOf(ctx context.Context, f eventFilter, after events.Position, limit int) ([]events.Recorded, events.Position, error) {
	if f.stream == "" {
		page, known, err := s.Queries.ReadSlice(ctx, s.Log, viewer(ctx), f.types, after, limit)
		// The read model says whose the events are, and their own metadata says it again.
		return slices.DeleteFunc(page, func(e events.Recorded) bool { return !eventVisible(callerFrom(ctx), e) }), known, err
	}
	// A stream is read from the log itself, so it needs no read model to have come to its end.
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, after, err
	}
	version, err := s.Log.VersionAt(ctx, f.stream, after)
	if err != nil {
		return nil, after, err
	}
	var found []events.Recorded
	for caller := callerFrom(ctx); ; {
		page, err := s.seen(ctx).ReadStream(ctx, f.stream, version, streamPage)
		if err != nil {
			return nil, after, err
		}
		for _, e := range page {
			version = e.Version
			if !eventVisible(caller, e) || f.types != nil && !slices.Contains(f.types, e.Type) {
				continue
			}
			if found = append(found, e); len(found) == limit {
				return found, e.Position, nil
			}
		}
		if len(page) == 0 {
			known := max(head.Position, after)
			if n := len(found); n > 0 {
				known = max(known, found[n-1].Position)
			}
			return found, known, nil
		}
	}
}

// awaitEvents waits until there may be events past a position that was known of.
func (s *Server) awaitEvents(ctx context.Context, f eventFilter, known events.Position) error {
	if err := s.Log.Wait(ctx, known); err != nil || f.stream != "" {
		return err
	}
	return s.Waiter.WaitFor(ctx, known+1, projections.SlicesModel)
}

// eventVisible reports whether the event is in the caller's slice: the organisations it concerns are in its metadata.
func eventVisible(c Caller, e events.Recorded) bool {
	return c.Operator() || slices.Contains(e.Metadata.Parties, c.OrganisationID)
}

func eventView(e events.Recorded) Event {
	v := Event{
		Position: int64(e.Position), Id: uuid.UUID(e.ID), Type: e.Type, Stream: e.Stream, Version: e.Version,
		RecordedAt: e.RecordedAt, Data: json.RawMessage(e.Data),
	}
	if e.Metadata.Actor != "" {
		v.Actor = &e.Metadata.Actor
	}
	v.OnBehalfOf, v.Reason = optional(e.Metadata.OnBehalfOf), optional(e.Metadata.Reason)
	return v
}

type acceptKey struct{}

// wantsStream reports whether the request's Accept header asked for Server-Sent Events; match put it in the context.
func wantsStream(ctx context.Context) bool {
	accept, _ := ctx.Value(acceptKey{}).(string)
	return strings.Contains(accept, "text/event-stream")
}

// eventStream writes the caller's events as they happen, in the format of the HTML standard, section 9.2, until the
// caller goes away. The event's id is its log position. An error ends the stream without a word: the answer has begun, and
// the caller resumes with the last id it has.
type eventStream struct {
	server *Server
	ctx    context.Context
	after  events.Position
	filter eventFilter
}

func (e *eventStream) VisitListEventsResponse(w http.ResponseWriter) error {
	defer func() { <-e.server.streams }()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	if err := flush(); err != nil {
		return err
	}
	out, said := bufio.NewWriter(w), time.Now()
	for {
		page, known, err := e.server.eventsOf(e.ctx, e.filter, e.after, streamPage)
		if err != nil {
			return nil
		}
		for _, r := range page {
			data, err := json.Marshal(eventView(r))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "id: %d\nevent: %s\ndata: %s\n\n", r.Position, r.Type, data)
		}
		if len(page) == 0 && time.Since(said) >= streamHeartbeat { // say that we are alive
			io.WriteString(out, ":\n\n")
		}
		if out.Buffered() > 0 {
			said = time.Now()
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		if err := flush(); err != nil {
			return nil
		}
		before := e.after
		e.after = known
		if len(page) == 0 && known > before { // others' events, of which there may be many a second
			pause(e.ctx, streamPause)
		}
		if len(page) < streamPage {
			wait, cancel := context.WithTimeout(e.ctx, streamHeartbeat)
			err := e.server.awaitEvents(wait, e.filter, known)
			over := wait.Err() != nil
			cancel()
			if e.ctx.Err() != nil || err != nil && !over && !errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
