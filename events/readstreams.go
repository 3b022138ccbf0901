package events

import (
	"context"

	"crossbill/domain"
)

// MaxReadStreams is how many streams [Log.ReadStreams] reads at once.
const MaxReadStreams = 5000

// ReadStreams returns all events of streams up to a position, by stream, in one look at the database: for who needs many
// short streams at once. Streams without events up to there are left out. Its errors are those of [Log.ReadStream], and
// Invalid for more streams than [MaxReadStreams].
func (l *Log) ReadStreams(ctx context.Context, streams []string, upTo Position) (map[string][]Recorded, error) {
	const query = selectRecorded + `WHERE stream = ANY($1) AND position <= $2 ORDER BY stream, version` // index events_p…_stream_version
	const op = "events.ReadStreams"
	if len(streams) > MaxReadStreams {
		return nil, domain.Errorf(domain.Invalid, op, "%d streams at once; the limit is %d", len(streams), MaxReadStreams)
	}
	if len(streams) == 0 {
		return nil, nil
	}
	rows, err := l.pool.Query(ctx, query, streams, upTo)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	defer rows.Close()
	scan := recordedScan{codec: l.codec}
	found := make(map[string][]Recorded, len(streams))
	for rows.Next() {
		var r Recorded
		err := scan.scan(rows, &r)
		if err == nil {
			r.Event, err = l.codec.Decode(r.Type, r.Schema, r.Data)
		}
		if err != nil {
			return nil, undecodable(&r, err)
		}
		found[r.Stream] = append(found[r.Stream], r)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, unreadable(ctx, err)
	}
	// What is not whole here is, in part, in the archives. Versions have no gaps and begin with 1.
	var empty []string
	for _, stream := range streams {
		if len(found[stream]) == 0 {
			empty = append(empty, stream)
		}
	}
	known, err := l.Versions(ctx, empty)
	if err != nil {
		return nil, err
	}
	for _, stream := range streams {
		events := found[stream]
		if n := len(events); n > 0 && events[0].Version == 1 && events[n-1].Version == int64(n) || n == 0 && known[stream] == 0 {
			if found[stream], err = l.revealAll(ctx, events); err != nil {
				return nil, err
			}
			continue
		}
		if found[stream], err = l.whole(ctx, stream, upTo); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// whole reads a stream up to a position, from wherever it is.
func (l *Log) whole(ctx context.Context, stream string, upTo Position) (all []Recorded, err error) {
	for {
		page, more, err := l.readStream(ctx, stream, int64(len(all)), loadPage)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Position > upTo {
				return all, nil
			}
			all = append(all, r)
		}
		if !more {
			return all, nil
		}
	}
}

// revealAll is reveal for all events or none.
func (l *Log) revealAll(ctx context.Context, events []Recorded) ([]Recorded, error) {
	if len(events) == 0 {
		return nil, nil
	}
	opened, err := l.reveal(ctx, events)
	if err == nil && len(opened) < len(events) {
		_, err = l.reveal(ctx, events[len(opened):]) // says what is wrong with its first
	}
	return opened, err
}
