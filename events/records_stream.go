package events

import "context"

// Stream implements [Records] for a log none of which is archived.
func (t tableRecords) Stream(ctx context.Context, stream string, last Position, limit int) ([]Position, error) {
	return t.stream(ctx, stream, last, limit, nil)
}

// stream goes on after the positions that are known, of the stream's first versions.
func (t tableRecords) stream(ctx context.Context, stream string, last Position, limit int, known []Position) ([]Position, error) {
	rows, err := t.pool.Query(ctx, `
		SELECT version, position FROM events
		 WHERE stream = $1 AND version > $2 AND position <= $3
		 ORDER BY version LIMIT $4 -- index events_p…_stream_version
	`, stream, len(known), last, limit-len(known))
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var version int64
		var position Position
		if err := rows.Scan(&version, &position); err != nil {
			return nil, unreadable(ctx, err)
		}
		if version != int64(len(known))+1 {
			return nil, broken("version %d of the stream %.60s is missing", len(known)+1, stream)
		}
		known = append(known, position)
	}
	if err := rows.Err(); err != nil {
		return nil, unreadable(ctx, err)
	}
	return known, nil
}

// Stream implements [Records]. Events may go to an archive between the reading of one place and the other; then both are
// read again.
func (a archivedRecords) Stream(ctx context.Context, stream string, last Position, limit int) ([]Position, error) {
	end, err := a.archives.refresh(ctx)
	if err != nil {
		return nil, err
	}
	for {
		var positions []Position
		err := a.archives.stream(ctx, stream, 0, func(r Record) bool {
			if r.Position > last || len(positions) == limit {
				return false
			}
			positions = append(positions, r.Position)
			return true
		})
		if err != nil {
			return nil, err
		}
		positions, err = a.table.stream(ctx, stream, last, limit, positions)
		now, refreshErr := a.archives.refresh(ctx)
		if refreshErr != nil {
			return nil, refreshErr
		}
		if now == end {
			return positions, err
		}
		end = now
	}
}
