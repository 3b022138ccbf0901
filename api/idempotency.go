package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/provisioning"
)

// An idempotent request is one with an Idempotency-Key. Its answer is kept by (organisation, key) in the transaction
// that appends its events, so either both are there or neither; a repeat gets the kept answer, and two at the same
// moment end with one append and two equal answers.
type idempotentRequest struct {
	organisationID string
	key            string
	hash           [sha256.Size]byte // of method, path, query and body
}

type idempotentKey struct{}

func idempotentFrom(ctx context.Context) (idempotentRequest, bool) {
	r, ok := ctx.Value(idempotentKey{}).(idempotentRequest)
	return r, ok
}

// idempotent answers a repeated request from what was kept, and remembers a new one for [Server.commit].
func (s *Server) idempotent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		if key == "" || r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api.idempotent", "the body can't be read: %w", err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hash := sha256.New()
		io.WriteString(hash, r.Method+"\x00"+r.URL.RequestURI()+"\x00")
		hash.Write(body)
		request := idempotentRequest{callerFrom(r.Context()).OrganisationID, key, [sha256.Size]byte(hash.Sum(nil))}
		ctx := context.WithValue(r.Context(), idempotentKey{}, request)
		if s.replay(w, r.WithContext(ctx)) {
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// replay writes the kept answer to the request, or the problem that its key was used for another one.
// It reports whether it wrote anything.
func (s *Server) replay(w http.ResponseWriter, r *http.Request) bool {
	request, ok := idempotentFrom(r.Context())
	if !ok {
		return false
	}
	const query = `
		SELECT i.request_hash, i.status, i.body, e.position
		  FROM idempotency_keys i,
		       LATERAL (SELECT position FROM events e WHERE e.event_id = i.event_id -- index events_p…_event_id of each partition
		                 UNION ALL
		                SELECT position FROM log_archived_ids a WHERE a.event_id = i.event_id) e -- likewise
		 WHERE i.organisation_id = $1 AND i.key = $2 -- primary key
	`
	var (
		hash, body []byte
		status     int
		position   int64
	)
	err := s.Pool.QueryRow(r.Context(), query, request.organisationID, request.key).Scan(&hash, &status, &body, &position)
	if errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	if err != nil {
		s.fail(w, r, domain.Errorf(domain.Internal, "api.replay", "can't look up the idempotency key: %w", err))
		return true
	}
	if !bytes.Equal(hash, request.hash[:]) {
		s.fail(w, r, domain.Errorf(domain.Invalid, "api.replay", "the Idempotency-Key was used for another request").
			WithHint("take a new key for a new request"))
		return true
	}
	w.Header().Set("Crossbill-Position", strconv.FormatInt(position, 10))
	w.Header().Set("Idempotent-Replayed", "true")
	if len(body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	w.Write(body)
	return true
}

// failOrReplay ends a handler's error. A conflict may come from this same request having just succeeded on another
// connection; then its answer is the answer.
func (s *Server) failOrReplay(w http.ResponseWriter, r *http.Request, err error) {
	if domain.CodeOf(err) == domain.Conflict && s.replay(w, r) {
		return
	}
	s.fail(w, r, err)
}

// commit appends events for the caller and keeps the answer (its HTTP status and its body; nil for none) under the
// request's idempotency key. parties are the organisations that may see the events,
// but for those of which seenBy has said otherwise.
// Besides the log's errors it returns a Conflict if another request with the same key was first.
func (s *Server) commit(ctx context.Context, a events.Append, status int, answer any, parties ...string) (*int64, error) {
	caller := callerFrom(ctx)
	for _, stream := range a.Streams {
		for i := range stream.Events {
			e := &stream.Events[i]
			e.Metadata.Actor = caller.KeyID
			if e.Metadata.Parties == nil { // see seenBy
				e.Metadata.Parties = parties
			}
			e.Metadata.OnBehalfOf, e.Metadata.Reason = caller.Delegation.OnBehalfOf, caller.Delegation.Reason
			if e.ID == ([16]byte{}) {
				id, err := s.newEventID()
				if err != nil {
					return nil, err
				}
				e.ID = id
			}
		}
	}
	provisioning.KeepCommitments(&a)
	if request, ok := idempotentFrom(ctx); ok {
		if err := keepAnswer(&a, request, status, answer); err != nil {
			return nil, err
		}
	}
	result, err := s.Log.Append(ctx, a)
	if err != nil {
		return nil, err
	}
	position := int64(result.Last)
	return &position, nil
}

func keepAnswer(a *events.Append, request idempotentRequest, status int, answer any) error {
	body, err := encodeAnswer(answer)
	if err != nil {
		return err
	}
	eventID, ask := a.Streams[0].Events[0].ID, a.Ask
	a.Ask = func(ctx context.Context, tx pgx.Tx) error {
		kept, err := insertAnswer(ctx, tx, request, status, body, eventID)
		if err != nil {
			return err
		}
		if !kept {
			return domain.Errorf(domain.Conflict, "api.commit", "another request with this Idempotency-Key was first")
		}
		if ask != nil {
			return ask(ctx, tx)
		}
		return nil
	}
	return nil
}

// keepAfter keeps the answer of a request whose events, of which the last is at position, are in the log already. It is for
// work that finds by itself what it did before: a crash in between loses the answer, and the same request gets it again.
func (s *Server) keepAfter(ctx context.Context, status int, answer any, position events.Position) error {
	request, ok := idempotentFrom(ctx)
	if !ok || position == 0 {
		return nil
	}
	body, err := encodeAnswer(answer)
	if err != nil {
		return err
	}
	last, err := s.Log.ReadAll(ctx, position-1, 1)
	if err != nil {
		return err
	}
	_, err = insertAnswer(ctx, s.Pool, request, status, body, last[0].ID)
	return err
}

// encodeAnswer is the body as the first answer is written; nil for none.
func encodeAnswer(answer any) ([]byte, error) {
	if answer == nil {
		return nil, nil
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "api.commit", "the answer can't be encoded: %w", err)
	}
	return append(body, '\n'), nil
}

// insertAnswer keeps an answer unless the key has one.
func insertAnswer(ctx context.Context, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, request idempotentRequest, status int, body []byte, eventID [16]byte) (kept bool, _ error) {
	const insert = `
		INSERT INTO idempotency_keys (organisation_id, key, request_hash, status, body, event_id)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
	`
	tag, err := db.Exec(ctx, insert, request.organisationID, request.key, request.hash[:], status, body, eventID)
	return tag.RowsAffected() > 0, err
}

// newEventID mints a UUIDv7.
func (s *Server) newEventID() (id [16]byte, err error) {
	return domain.NewEventID(s.now(), s.Random)
}
