package events

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// maxReadBytes bounds the memory of one page. A page that would be larger ends early.
const maxReadBytes = 32 << 20

const selectRecorded = `
	SELECT position, event_id, stream, version, type, schema, payload, metadata, recorded_at, salt, leaf_hash
	  FROM events
`

// ReadAll returns events in order of position, from the first past after. A page may be shorter than limit, which is
// from 1 to [MaxRead]; only an empty one means that there are no more.
//
// It returns an Internal error caused by [ErrUndecodable] for an event that can't be decoded, when that would be the
// first of the page: what comes before it is returned by an earlier call, and it is never passed over. Unavailable: the
// database can't be read.
func (l *Log) ReadAll(ctx context.Context, after Position, limit int) ([]Recorded, error) {
	const query = selectRecorded + `WHERE position > $1 ORDER BY position LIMIT $2` // primary key
	return l.read(ctx, limit, query, after, limit)
}

// ReadStream is [Log.ReadAll] for the events of one stream, from the first past afterVersion.
func (l *Log) ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]Recorded, error) {
	const query = selectRecorded + `WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3` // index events_p…_stream_version
	if err := checkStream("events.ReadStream", stream); err != nil {
		return nil, err
	}
	return l.read(ctx, limit, query, stream, afterVersion, limit)
}

// ReadCategory is [Log.ReadAll] for the events of all streams whose name begins with the category and a dash.
func (l *Log) ReadCategory(ctx context.Context, category string, after Position, limit int) ([]Recorded, error) {
	const query = selectRecorded + `WHERE split_part(stream, '-', 1) = $1 AND position > $2 ORDER BY position LIMIT $3` // index events_category
	return l.read(ctx, limit, query, category, after, limit)
}

func (l *Log) read(ctx context.Context, limit int, query string, args ...any) ([]Recorded, error) {
	const op = "events.Read"
	if limit < 1 || limit > MaxRead {
		return nil, domain.Errorf(domain.Invalid, op, "%d is no number of events to read; from 1 to %d are allowed", limit, MaxRead)
	}
	rows, err := l.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	defer rows.Close()
	var page []Recorded
	var scan recordedScan
	for bytes := 0; bytes < maxReadBytes && rows.Next(); {
		r, err := scan.scan(rows)
		if err == nil {
			r.Event, err = l.codec.Decode(r.Type, r.Schema, r.Data)
		}
		if err != nil && len(page) > 0 {
			rows.Close()
			return l.reveal(ctx, page) // the next call begins with it and says so
		}
		if err != nil {
			return nil, undecodable(&r, err)
		}
		page = append(page, r)
		bytes += len(r.Data)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, unreadable(ctx, err)
	}
	return l.reveal(ctx, page)
}

// unreadable keeps the context's error as it is: the caller ended the reading, the database did not.
func unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return domain.Errorf(domain.Unavailable, "events.Read", "the log can't be read: %w", err)
}

// recordedScan reads rows of selectRecorded. It keeps the last metadata: events in a row often share theirs.
type recordedScan struct {
	raw     []byte
	decoded Metadata
}

func (s *recordedScan) scan(rows pgx.Rows) (Recorded, error) {
	var r Recorded
	var metadata, salt, leaf []byte
	err := rows.Scan(&r.Position, &r.ID, &r.Stream, &r.Version, &r.Type, &r.Schema, &r.Data, &metadata, &r.RecordedAt, &salt, &leaf)
	if err != nil {
		return r, err
	}
	copy(r.Salt[:], salt)
	copy(r.LeafHash[:], leaf)
	r.RecordedAt = r.RecordedAt.UTC()
	if s.raw == nil || string(s.raw) != string(metadata) {
		s.decoded = Metadata{}
		if err := json.Unmarshal(metadata, &s.decoded); err != nil {
			s.raw = nil
			return r, err
		}
		s.raw = metadata
	}
	r.Metadata = s.decoded
	return r, nil
}

// loadPage is how many events [Load] reads at once.
const loadPage = 1000

// Load folds a stream's events into the state they come to. A stream without events gives the zero state and version 0.
// Its errors are those of [Log.ReadStream].
func Load[S any](ctx context.Context, l *Log, stream string, evolve func(S, domain.Event) S) (state S, version int64, err error) {
	for {
		page, err := l.ReadStream(ctx, stream, version, loadPage)
		if err != nil {
			return state, version, err
		}
		for _, r := range page {
			if r.Version != version+1 {
				return state, version, domain.Errorf(domain.Internal, "events.Load", "stream %s goes from version %d to %d", stream, version, r.Version).
					WithHint("verify the log: crossbill log verify")
			}
			state, version = evolve(state, r.Event), r.Version
		}
		if len(page) < loadPage {
			return state, version, nil
		}
	}
}
