package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3filter"

	"crossbill/domain"
	"crossbill/domain/reading"
)

// What meters send comes by the thousand. Two operations therefore read their bodies themselves: not less strictly than the
// contract says, but without a tree of values for each. They pass every middleware before that, and their handlers are here
// and not in the generated server.

// ingest serves the operations that read their own bodies.
func (s *Server) ingest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve := s.ingests()[matchedFrom(r.Context()).route.Operation.OperationID]
		if serve == nil {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body) // validate has read it before
		if err != nil {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api.ingest", "the body can't be read: %w", err))
			return
		}
		answer, position, err := serve(r, body)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if position > 0 {
			w.Header().Set("Crossbill-Position", strconv.FormatInt(position, 10))
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	})
}

// ingests are those operations.
func (s *Server) ingests() map[string]func(r *http.Request, body []byte) (answer []byte, position int64, err error) {
	return map[string]func(*http.Request, []byte) ([]byte, int64, error){"sendReadings": s.sendReadings, "sendUsageEvents": s.sendUsageEvents}
}

// readsItself reports whether the matched operation reads its own body.
func (s *Server) readsItself(m matched) bool {
	return s.ingests()[m.route.Operation.OperationID] != nil
}

// validateBody holds a body to the contract, as validate does for other operations.
func (s *Server) validateBody(r *http.Request, body []byte) error {
	if len(body) > 0 {
		if err := checkJSON(body); err != nil {
			return err
		}
	}
	m := matchedFrom(r.Context())
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: again, PathParams: m.params, Route: m.route,
		Options: &openapi3filter.Options{MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
	if err == nil {
		return nil
	}
	var problems domain.Problems
	collectProblems(&problems, "", err)
	return problems.Err("api.validate")
}

// readingsOf reads the body of sendReadings.
func (s *Server) readingsOf(r *http.Request, body []byte, edgeNodeID string) ([]reading.Recorded, error) {
	if all, ok := parseReadings(body, edgeNodeID); ok {
		return all, nil
	}
	if err := s.validateBody(r, body); err != nil {
		return nil, err
	}
	var batch ReadingBatch
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, domain.Errorf(domain.Invalid, "api.SendReadings", "the body can't be read: %w", err)
	}
	all := make([]reading.Recorded, len(batch.Readings))
	for i, v := range batch.Readings {
		all[i] = reading.Recorded{
			EdgeNodeID: edgeNodeID, ConnectionID: v.ConnectionId, Epoch: v.Epoch, Sequence: v.Sequence, From: v.From.UTC(), To: v.To.UTC(),
			BytesIn: v.BytesIn, BytesOut: v.BytesOut, PacketsIn: v.PacketsIn, PacketsOut: v.PacketsOut, DroppedIn: v.DroppedIn,
			DroppedOut: v.DroppedOut, Source: string(v.Source),
		}
	}
	return all, nil
}

// sendReadings records a batch of an edge node's readings, each with a verdict of its own.
func (s *Server) sendReadings(r *http.Request, body []byte) ([]byte, int64, error) {
	const op = "api.SendReadings"
	ctx := r.Context()
	node, err := s.loadEdgeNode(ctx, matchedFrom(ctx).params["edge_node_id"])
	if err != nil {
		return nil, 0, err
	}
	all, err := s.readingsOf(r, body, node.ID)
	if err != nil {
		if failed := s.keepMalformed(ctx, node.ID, body, err); failed != nil {
			return nil, 0, failed
		}
		return nil, 0, err
	}
	now := s.now()
	batch := &meterBatch{
		server: s, readings: all,
		id: func(r *reading.Recorded) [16]byte {
			return reading.EventID(node.ID, r.ConnectionID, r.Epoch, r.Sequence)
		},
		decide: func(r *reading.Recorded, m *metered) ([]domain.Event, error) {
			return reading.Decide(reading.State{}, reading.Record{
				Reading: *r, Connection: m.connection, CapacityMbps: m.capacityMbps, Metering: m.metering, At: now,
			})
		},
	}
	if err := batch.record(ctx); err != nil {
		return nil, 0, err
	}
	err = s.keepRejected(ctx, node.ID, now, batch.refusals(func(i int) []byte { return all[i].AppendJSON(nil) }))
	if err != nil {
		return nil, 0, err
	}
	if err := batch.allRejected(op, "reading of the batch", "/readings"); err != nil {
		return nil, 0, err
	}
	answer, err := appendVerdicts(make([]byte, 0, 128*len(all)), batch)
	return answer, batch.position, err
}

// SendReadings is in the generated interface; [Server.ingest] serves the operation.
func (s *Server) SendReadings(context.Context, SendReadingsRequestObject) (SendReadingsResponseObject, error) {
	return nil, domain.Errorf(domain.Internal, "api.SendReadings", "the operation is served elsewhere")
}

// SendUsageEvents is in the generated interface; [Server.ingest] serves the operation.
func (s *Server) SendUsageEvents(context.Context, SendUsageEventsRequestObject) (SendUsageEventsResponseObject, error) {
	return nil, domain.Errorf(domain.Internal, "api.SendUsageEvents", "the operation is served elsewhere")
}
