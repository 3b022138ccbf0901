package events

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// Querier is a connection, a pool of them, or what stands before one.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// View is the log as somebody sees it who may see some of the events: the others are not there.
type View struct {
	log  *Log
	db   Querier
	sees func(Metadata) bool
}

// View returns a view. Events in the database are read by db, which leaves out those that are not to be seen (row-level
// security does); of those in archives, sees tells which they are. The two must agree.
func (l *Log) View(db Querier, sees func(Metadata) bool) View { return View{l, db, sees} }

// ReadStream returns a page of the events of a stream that are seen, in order, from the first past afterVersion. Only an empty
// page means that there are no more. Its errors are those of [Log.ReadStream].
func (v View) ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]Recorded, error) {
	page, _, err := v.readStream(ctx, stream, afterVersion, limit)
	return page, err
}

// readStream returns the events of a stream past a version that are seen, in order, and whether there may be more.
func (v View) readStream(ctx context.Context, stream string, after int64, limit int) (_ []Recorded, more bool, err error) {
	const query = selectRecorded + `WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3` // index events_p…_stream_version
	if err := checkStream("events.View", stream); err != nil {
		return nil, false, err
	}
	p, err := v.log.newPage(limit)
	if err != nil {
		return nil, false, err
	}
	after = max(after, 0)
	err = v.log.readBy(ctx, v.db, p, query, []any{stream, after, limit}, nil)
	if err == nil && p.stopped == nil && (len(p.events) == 0 || p.events[0].Version != after+1) {
		err = v.archived(ctx, p, stream, after)
	}
	events, err := p.result(ctx, err)
	return events, !p.open(), err
}

// archived puts the archived events of a stream before those of the page. What was archived after the page was read is in
// both.
func (v View) archived(ctx context.Context, p *page, stream string, after int64) error {
	end, err := v.log.archives.refresh(ctx)
	if err != nil || end == 0 {
		return err
	}
	old, err := v.log.newPage(p.limit)
	if err != nil {
		return err
	}
	err = v.log.archives.stream(ctx, stream, after, func(r Record) bool {
		recorded, err := old.scan.record(r)
		if err == nil && !v.sees(recorded.Metadata) {
			return true
		}
		return old.add(recorded, err)
	})
	if err != nil {
		return err
	}
	for _, r := range p.events {
		if n := len(old.events); old.open() && (n == 0 || r.Version > old.events[n-1].Version) {
			old.events, old.bytes = append(old.events, r), old.bytes+len(r.Data)
		}
	}
	*p = *old
	return nil
}

// Visible returns those of the positions whose events are seen, in order. It returns an Unavailable error if the database or
// an archive can't be read.
func (v View) Visible(ctx context.Context, positions []Position) ([]Position, error) {
	rows, err := v.db.Query(ctx, `SELECT position FROM events WHERE position = ANY($1) ORDER BY position`, positions) // primary key
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	seen, err := pgx.CollectRows(rows, pgx.RowTo[Position])
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	if _, err := v.log.archives.refresh(ctx); err != nil {
		return nil, err
	}
	list, end := v.log.archives.all()
	scan, inTable := recordedScan{codec: v.log.codec}, len(seen)
	for _, position := range positions {
		if _, found := slices.BinarySearch(seen[:inTable], position); found || position < 1 || position > end {
			continue
		}
		archived, err := v.log.archives.find(list, position)
		if err != nil {
			return nil, err
		}
		recorded, err := scan.record(archived)
		if err != nil {
			return nil, err
		}
		if v.sees(recorded.Metadata) {
			seen = append(seen, position)
		}
	}
	slices.Sort(seen)
	return slices.Compact(seen), nil
}

// streamReader is the log, or a view of it.
type streamReader interface {
	readStream(ctx context.Context, stream string, after int64, limit int) (events []Recorded, more bool, err error)
	// gap is what [Load] makes of a stream whose next event is not the one after version: nil if there is no such stream.
	gap(stream string, version, next int64) error
}

func (l *Log) gap(stream string, version, next int64) error {
	return domain.Errorf(domain.Internal, "events.Load", "stream %s goes from version %d to %d", stream, version, next).
		WithHint("verify the log: crossbill log verify")
}

// gap takes a stream whose first event is not seen for none. One of which later events are not seen has no state that could
// be shown: that its events don't all name their parties is a defect.
func (v View) gap(stream string, version, next int64) error {
	if version == 0 {
		return nil
	}
	return domain.Errorf(domain.Internal, "events.Load", "of stream %s, events after version %d and before %d do not name who may see them", stream, version, next).
		WithHint("whatever appends to a stream names the same parties in Metadata.Parties")
}
