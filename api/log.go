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

	"github.com/google/uuid"

	"crossbill/domain"
	"crossbill/events"
)

// eventScan is how many events of the log are looked at for one page of an organisation's slice.
const eventScan = 1000

// GetHealth answers while the log can be read.
func (s *Server) GetHealth(ctx context.Context, _ GetHealthRequestObject) (GetHealthResponseObject, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	return GetHealth200JSONResponse{Status: "ok", LogPosition: int64(head.Position)}, nil
}

// GetCheckpoint serves the signed checkpoint of the log as it is now.
func (s *Server) GetCheckpoint(ctx context.Context, _ GetCheckpointRequestObject) (GetCheckpointResponseObject, error) {
	note, err := s.Log.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return checkpointText(note), nil
}

// checkpointText is a checkpoint as C2SP tlog-tiles has it served: with its character set, and not from a cache.
type checkpointText []byte

func (c checkpointText) VisitGetCheckpointResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, err := w.Write(c)
	return err
}

// GetLogKey serves the key that checkpoints are verified with.
func (s *Server) GetLogKey(context.Context, GetLogKeyRequestObject) (GetLogKeyResponseObject, error) {
	return GetLogKey200TextResponse(s.VerifierKey + "\n"), nil
}

// ListEvents serves the caller's slice of the log as a page, or as a stream if the caller accepts one.
func (s *Server) ListEvents(ctx context.Context, req ListEventsRequestObject) (ListEventsResponseObject, error) {
	after := events.Position(valueOr(req.Params.After, 0))
	if req.Params.LastEventID != nil {
		after = events.Position(*req.Params.LastEventID)
	}
	if wantsStream(ctx) {
		select {
		case s.streams <- struct{}{}:
			return &eventStream{server: s, ctx: ctx, after: after}, nil
		default:
			return nil, domain.Errorf(domain.Unavailable, "api.ListEvents", "this node has %d open streams, its limit", maxStreams).
				WithHint("try again, or read pages with after=")
		}
	}
	limit := valueOr(req.Params.Limit, 100)
	page := EventPage{Items: []Event{}, NextAfter: int64(after)}
	for len(page.Items) < limit {
		batch, err := s.Log.ReadAll(ctx, events.Position(page.NextAfter), eventScan)
		if err != nil {
			return nil, err
		}
		for _, e := range batch {
			if len(page.Items) == limit {
				break
			}
			page.NextAfter = int64(e.Position)
			if eventVisible(callerFrom(ctx), e) {
				page.Items = append(page.Items, eventView(e))
			}
		}
		if len(batch) < eventScan {
			break
		}
	}
	return ListEvents200JSONResponse(page), nil
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
	out, caller := bufio.NewWriter(w), callerFrom(e.ctx)
	for {
		batch, err := e.server.Log.ReadAll(e.ctx, e.after, eventScan)
		if err != nil {
			return nil
		}
		for _, r := range batch {
			e.after = r.Position
			if !eventVisible(caller, r) {
				continue
			}
			data, err := json.Marshal(eventView(r))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "id: %d\nevent: %s\ndata: %s\n\n", r.Position, r.Type, data)
		}
		if len(batch) == 0 { // nothing new: say we are alive, then wait
			io.WriteString(out, ":\n\n")
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		if err := flush(); err != nil {
			return nil
		}
		if len(batch) == 0 {
			wait, cancel := context.WithTimeout(e.ctx, streamHeartbeat)
			err := e.server.Log.Wait(wait, e.after)
			cancel()
			if e.ctx.Err() != nil {
				return nil
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
		}
	}
}
