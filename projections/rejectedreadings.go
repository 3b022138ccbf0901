package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// RejectedReading is a reading that was refused.
type RejectedReading struct {
	Number       int64 // in the order in which they first came
	ReportedBy   string
	ConnectionID string // "" if it names none
	Sent         string
	Problem      []byte // RFC 9457
	FirstAt      time.Time
	LastAt       time.Time
	Times        int64
}

// RejectedSearch narrows a list of them.
type RejectedSearch struct {
	ReportedBy string // an edge node or an organisation; "" is any
	Limit      int
	PageToken  string
}

// RejectedReadings returns a page of the readings that were refused, newest first, and the token of the next page. It needs
// the platform's rights. It returns an Invalid error for a limit or a token that is none.
func (q Queries) RejectedReadings(ctx context.Context, s RejectedSearch) ([]RejectedReading, string, error) {
	const op = "projections.RejectedReadings"
	p, err := listOf("rejected_readings", s.ReportedBy).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.DB.Query(ctx, `
		SELECT number, reported_by, connection_id, sent, problem, first_at, last_at, times
		  FROM rejected_readings -- rejected_readings_reporter, or primary key
		 WHERE ($1 = '' OR reported_by = $1) AND number < $2 ORDER BY number DESC LIMIT $3`, s.ReportedBy, p.place, p.ask())
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RejectedReading])
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, next := cut(p, found, func(r RejectedReading) int64 { return r.Number })
	return found, next, nil
}
