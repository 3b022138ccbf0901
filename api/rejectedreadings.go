package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/reading"
	"crossbill/projections"
)

// Limits of what is kept of readings that were refused.
const (
	keptRejected  = 10_000 // of one reporter, the newest
	maxRejectSent = 4096   // bytes of one; an honest one has some 400
)

// refusal is a reading that was refused, as it was sent, and why.
type refusal struct {
	connectionID string
	sent         []byte
	err          error
}

// refusals are those of the batch.
func (b *meterBatch) refusals(sent func(i int) []byte) (all []refusal) {
	for i, o := range b.outcomes {
		if o == rejected {
			all = append(all, refusal{b.readings[i].ConnectionID, sent(i), b.errors[i]})
		}
	}
	return all
}

// keepRejected keeps readings that were refused, before whoever sent them is told: they won't be sent again.
func (s *Server) keepRejected(ctx context.Context, reporter string, at time.Time, all []refusal) error {
	var connections, sent, problems []string
	var digests [][]byte
	seen := make(map[[sha256.Size]byte]bool, len(all))
	for _, r := range all {
		digest := sha256.Sum256(append([]byte(reporter+"\x00"), r.sent...))
		if seen[digest] {
			continue
		}
		seen[digest] = true
		problem, err := json.Marshal(problemOf(r.err))
		if err != nil {
			return err
		}
		text := r.sent[:min(len(r.sent), maxRejectSent)]
		connections, digests = append(connections, strings.ReplaceAll(strings.ToValidUTF8(r.connectionID, "�"), "\x00", "�")), append(digests, digest[:])
		sent, problems = append(sent, strings.ToValidUTF8(string(text), "�")), append(problems, string(problem))
	}
	if len(digests) == 0 {
		return nil
	}
	_, err := s.Pool.Exec(ctx, `
		INSERT INTO rejected_readings (digest, reported_by, connection_id, sent, problem, first_at, last_at)
		SELECT digest, $1, connection_id, sent, problem::json, $2, $2
		  FROM unnest($3::bytea[], $4::text[], $5::text[], $6::text[]) AS r (digest, connection_id, sent, problem)
		 ORDER BY digest -- as every other sender does, or two would wait for each other
		ON CONFLICT (digest) DO UPDATE SET problem = EXCLUDED.problem, last_at = EXCLUDED.last_at, times = rejected_readings.times + 1`,
		reporter, at, digests, connections, sent, problems)
	if err == nil {
		_, err = s.Pool.Exec(ctx, `
			DELETE FROM rejected_readings WHERE reported_by = $1 AND number <=
				(SELECT number FROM rejected_readings WHERE reported_by = $1 ORDER BY number DESC OFFSET $2 LIMIT 1) -- rejected_readings_reporter`,
			reporter, keptRejected)
	}
	if err != nil {
		return domain.Errorf(domain.Unavailable, "api.keepRejected", "what is refused can't be kept: %w", err).WithHint("send it again")
	}
	return nil
}

// keepMalformed keeps the readings of a batch that the contract refuses: those that its problem points at, if it can be read.
func (s *Server) keepMalformed(ctx context.Context, edgeNodeID string, body []byte, refused error) error {
	var batch struct {
		Readings []json.RawMessage `json:"readings"`
	}
	if json.Unmarshal(body, &batch) != nil {
		return nil // it is no batch: there is no reading in it
	}
	var all []refusal
	for i, sent := range batch.Readings[:min(len(batch.Readings), maxReadings)] {
		at := domain.Pointer("/readings", i)
		var p domain.Problems
		for _, f := range problemFields(refused) {
			if rest, ok := strings.CutPrefix(f.Pointer, at); ok && (rest == "" || rest[0] == '/') {
				p.Add(rest, "%s", f.Detail)
			}
		}
		var names reading.Recorded
		_ = json.Unmarshal(sent, &names) // as far as it can be read
		if err := p.Err("api.validate"); err != nil {
			all = append(all, refusal{names.ConnectionID, sent, err})
		}
	}
	return s.keepRejected(ctx, edgeNodeID, s.now(), all)
}

func problemFields(err error) []domain.FieldError {
	if e, ok := err.(*domain.Error); ok {
		return e.Fields
	}
	return nil
}

// ListRejectedReadings shows operators what was refused, newest first.
func (s *Server) ListRejectedReadings(ctx context.Context, req ListRejectedReadingsRequestObject) (ListRejectedReadingsResponseObject, error) {
	found, next, err := s.Platform.RejectedReadings(ctx, projections.RejectedSearch{
		ReportedBy: valueOr(req.Params.ReportedBy, ""), Limit: valueOr(req.Params.Limit, 0), PageToken: valueOr(req.Params.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	page := RejectedReadingPage{Items: []RejectedReading{}, NextPageToken: optional(next)}
	for _, r := range found {
		v := RejectedReading{ReportedBy: r.ReportedBy, ConnectionId: optional(r.ConnectionID), Sent: r.Sent, FirstAt: r.FirstAt, LastAt: r.LastAt, Times: r.Times}
		if err := json.Unmarshal(r.Problem, &v.Problem); err != nil {
			return nil, domain.Errorf(domain.Internal, "api.ListRejectedReadings", "the problem of %d can't be read: %w", r.Number, err)
		}
		page.Items = append(page.Items, v)
	}
	return ListRejectedReadings200JSONResponse(page), nil
}
