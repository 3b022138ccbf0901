package events

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// ReadAt returns the events at positions, which are in ascending order and at most [MaxRead]. It may return fewer, those
// of the first positions, and returns at least one if any is asked for. Its errors are those of [Log.ReadAll].
func (l *Log) ReadAt(ctx context.Context, positions []Position) ([]Recorded, error) {
	const query = selectRecorded + `WHERE position = ANY($1) ORDER BY position` // primary key
	if len(positions) == 0 {
		return nil, nil
	}
	if !slices.IsSorted(positions) {
		return nil, domain.Errorf(domain.Internal, "events.ReadAt", "the positions are in no order")
	}
	p, err := l.newPage(len(positions))
	list, end := l.archives.all()
	for left := positions; err == nil && p.open(); {
		archived, _ := slices.BinarySearch(left, end+1)
		for _, at := range left[:archived] {
			var r Record
			if r, err = l.archives.find(list, at); err != nil || !p.addRecord(r) {
				return p.result(ctx, err)
			}
		}
		if left = left[archived:]; len(left) == 0 {
			break
		}
		err = l.read(ctx, p, query, []any{left}, func(r Recorded) bool { return r.Position == left[p.fresh] })
		left = left[p.fresh:]
		if err == nil && len(left) == 0 || !p.open() {
			break
		}
		if err != nil && !errors.Is(err, errGap) {
			break
		}
		// What is not in the table has gone to an archive since this looked, or is nowhere.
		before := end
		if end, err = l.archives.refresh(ctx); err == nil && end == before {
			err = missing("the event at position %d is missing", left[0])
		}
		list, end = l.archives.all()
	}
	return p.result(ctx, err)
}

// VersionAt returns the version that a stream had when the log was at a position: 0 if it had no event then. Its errors
// are those of [Log.ReadStream].
func (l *Log) VersionAt(ctx context.Context, stream string, at Position) (int64, error) {
	var last int64
	var lastAt Position
	err := l.pool.QueryRow(ctx, `SELECT version, position FROM streams WHERE stream = $1`, stream).Scan(&last, &lastAt) // primary key
	if errors.Is(err, pgx.ErrNoRows) || err == nil && at <= 0 {
		return 0, nil
	}
	if err != nil {
		return 0, unreadable(ctx, err)
	}
	if lastAt <= at {
		return last, nil
	}
	// Versions are in the order of positions. Those up to low are at or before the position, those from high on past it.
	low, high := int64(0), last
	for low+1 < high {
		middle := low + (high-low)/2
		page, err := l.ReadStream(ctx, stream, middle-1, 1)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 || page[0].Version != middle {
			return 0, missing("version %d of stream %.60s is missing", middle, stream)
		}
		if page[0].Position <= at {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// Versions returns the versions that streams have now; streams without events are left out. It returns an Unavailable
// error if they can't be read.
func (l *Log) Versions(ctx context.Context, streams []string) (map[string]int64, error) {
	if len(streams) == 0 {
		return nil, nil
	}
	rows, err := l.pool.Query(ctx, `SELECT stream, version FROM streams WHERE stream = ANY($1)`, streams) // primary key
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	versions := make(map[string]int64, len(streams))
	var stream string
	var version int64
	if _, err := pgx.ForEachRow(rows, []any{&stream, &version}, func() error {
		versions[stream] = version
		return nil
	}); err != nil {
		return nil, unreadable(ctx, err)
	}
	return versions, nil
}

// Known returns which of the event ids are in the log, archived or not. It returns an Unavailable error if that can't be
// read.
func (l *Log) Known(ctx context.Context, ids [][16]byte) (map[[16]byte]bool, error) {
	rows, err := l.pool.Query(ctx, `
		SELECT event_id FROM events WHERE event_id = ANY($1) -- index events_p…_event_id of each partition
		UNION ALL
		SELECT event_id FROM log_archived_ids WHERE event_id = ANY($1) -- likewise
	`, ids)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	known := make(map[[16]byte]bool)
	var id [16]byte
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		known[id] = true
		return nil
	}); err != nil {
		return nil, unreadable(ctx, err)
	}
	return known, nil
}
