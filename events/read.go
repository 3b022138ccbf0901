package events

import (
	"context"
	"errors"
	"slices"

	"crossbill/domain"
)

// maxReadBytes bounds the memory of one page. A page that would be larger ends early.
const maxReadBytes = 32 << 20

// smallPage is how many events a page has before memory is taken for as many as it may have: most reads of a stream ask
// for many and get few, and those that get more mostly get them all.
const smallPage = 64

const selectRecorded = `
	SELECT position, event_id, stream, version, type, schema, payload, metadata, recorded_at, salt, leaf_hash
	  FROM events
`

// ReadAll returns events in order of position, from the first past after. A page may be shorter than limit, which is
// from 1 to [MaxRead]; only an empty one means that there are no more. Events that are in archives are read from there.
//
// It returns an Internal error caused by [ErrUndecodable] for an event that can't be decoded, when that would be the
// first of the page: what comes before it is returned by an earlier call, and it is never passed over. Unavailable: the
// database or an archive can't be read. Conflict: an event is missing, or an archive is not the one that was written.
func (l *Log) ReadAll(ctx context.Context, after Position, limit int) ([]Recorded, error) {
	const query = selectRecorded + `WHERE position > $1 ORDER BY position LIMIT $2` // primary key
	p, err := l.newPage(limit)
	after = max(after, 0)
	for err == nil && p.open() {
		if after, err = l.archives.scan(ctx, after, "", p.addRecord); err != nil || !p.open() {
			break
		}
		err = l.read(ctx, p, query, []any{after, limit - len(p.events)}, func(r Recorded) bool { return r.Position == after+1+Position(p.fresh) })
		if !errors.Is(err, errGap) {
			break
		}
		// The end of the log is never archived. So where events are archived that were to be read here, there is a gap.
		after += Position(p.fresh)
		var end Position
		if end, err = l.archives.refresh(ctx); err == nil && end <= after {
			err = missing("the event at position %d is missing", after+1)
		}
	}
	return p.result(ctx, err)
}

// ReadStream is [Log.ReadAll] for the events of one stream, from the first past afterVersion.
func (l *Log) ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]Recorded, error) {
	page, _, err := l.readStream(ctx, stream, afterVersion, limit)
	return page, err
}

// readStream also says whether there may be more events than it returns.
func (l *Log) readStream(ctx context.Context, stream string, after int64, limit int) (_ []Recorded, more bool, err error) {
	const query = selectRecorded + `WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3` // index events_p…_stream_version
	if err := checkStream("events.ReadStream", stream); err != nil {
		return nil, false, err
	}
	p, err := l.newPage(limit)
	after = max(after, 0)
	for again := false; err == nil && p.open(); {
		err = l.read(ctx, p, query, []any{stream, after, limit - len(p.events)}, func(r Recorded) bool { return r.Version == after+1+int64(p.fresh) })
		after += int64(p.fresh)
		if err == nil && p.fresh == 0 && p.open() {
			err = l.streamEnds(ctx, stream, after)
		}
		if !errors.Is(err, errGap) {
			break
		}
		// Versions have no gaps: what is not in the table is in the archives.
		found := len(p.events)
		_, end := l.archives.all()
		if err = l.archives.stream(ctx, stream, after, p.addRecord); err != nil {
			break
		}
		after += int64(len(p.events) - found)
		if len(p.events) > found || !p.open() {
			again = false
			continue
		}
		// Not there either: it was archived, or appended, while this looked elsewhere; or it is nowhere.
		var now Position
		if now, err = l.archives.refresh(ctx); err == nil && now == end && again {
			err = missing("version %d of stream %.60s is missing", after+1, stream)
		}
		again = now == end
	}
	events, err := p.result(ctx, err)
	return events, !p.open(), err
}

// streamEnds returns errGap if the stream has events past the version.
func (l *Log) streamEnds(ctx context.Context, stream string, version int64) error {
	var last int64
	err := l.pool.QueryRow(ctx, `SELECT coalesce((SELECT version FROM streams WHERE stream = $1), 0)`, stream).Scan(&last) // primary key
	if err != nil {
		return unreadable(ctx, err)
	}
	if last > version {
		return errGap
	}
	return nil
}

// ReadCategory is [Log.ReadAll] for the events of all streams whose name begins with the category and a dash.
func (l *Log) ReadCategory(ctx context.Context, category string, after Position, limit int) ([]Recorded, error) {
	return l.ReadPart(ctx, category, Part{}, after, limit)
}

// ReadPart is [Log.ReadCategory] for a part of the category's events. It returns an Invalid error for a part that there
// can't be.
func (l *Log) ReadPart(ctx context.Context, category string, part Part, after Position, limit int) ([]Recorded, error) {
	if err := part.check(); err != nil {
		return nil, err
	}
	p, err := l.newPage(limit)
	for err == nil && p.open() && category != "" {
		if after, err = l.archives.scan(ctx, after, category, part.archived(p)); err != nil || !p.open() {
			break
		}
		kept := *p
		query, args := part.query(category, after, limit-len(p.events))
		if err = l.read(ctx, p, query, args, nil); err != nil {
			break
		}
		// A category has gaps, so that only asking shows whether some of it has gone to an archive before it was read here.
		var end Position
		if end, err = l.archives.refresh(ctx); err != nil || end <= after {
			break
		}
		*p = kept
	}
	return p.result(ctx, err)
}

func missing(format string, args ...any) error {
	return domain.Errorf(domain.Conflict, "events.Read", format, args...).WithHint("verify the log: crossbill log verify")
}

// page gathers what a read returns.
type page struct {
	log     *Log
	limit   int
	events  []Recorded
	bytes   int
	fresh   int // events that the last query added
	stopped error
	scan    recordedScan
}

func (l *Log) newPage(limit int) (*page, error) {
	if limit < 1 || limit > MaxRead {
		return &page{}, domain.Errorf(domain.Invalid, "events.Read", "%d is no number of events to read; from 1 to %d are allowed", limit, MaxRead)
	}
	return &page{log: l, limit: limit, scan: recordedScan{codec: l.codec}}, nil
}

// open reports whether the page takes more events.
func (p *page) open() bool {
	return p.stopped == nil && len(p.events) < p.limit && p.bytes < maxReadBytes
}

// result returns the page, with the texts about persons opened, which is closed then if there was an error. One that
// comes after the first event is left for the next call, which begins there.
func (p *page) result(ctx context.Context, err error) ([]Recorded, error) {
	if p.stopped == nil {
		p.stopped = err
	}
	if len(p.events) == 0 {
		return nil, p.stopped
	}
	events, err := p.log.reveal(ctx, p.events)
	if len(events) < len(p.events) && p.stopped == nil {
		p.stopped = errUnrevealed // so that nobody takes the page for the last
	}
	return events, err
}

// errUnrevealed says that a page ends before an event of which a text can't be opened.
var errUnrevealed = errors.New("a text about a person can't be opened")

// add decodes and adds an event, of which err is the error of reading it. It reports whether the page is still open.
func (p *page) add(r Recorded, err error) bool {
	if err == nil {
		r.Event, err = p.log.codec.Decode(r.Type, r.Schema, r.Data)
	}
	if err != nil {
		p.stopped = undecodable(&r, err)
		return false
	}
	if len(p.events) == cap(p.events) && len(p.events) >= smallPage {
		p.events = slices.Grow(p.events, p.limit-len(p.events))
	}
	p.events = append(p.events, r)
	p.bytes += len(r.Data)
	return p.open()
}

// addRecord adds an archived event.
func (p *page) addRecord(r Record) bool { return p.add(p.scan.record(r)) }

// read adds the rows of a query. next says whether a row follows on what came before; if not, it is left out and the
// error is errGap.
func (l *Log) read(ctx context.Context, p *page, query string, args []any, next func(Recorded) bool) error {
	return l.readBy(ctx, l.pool, p, query, args, next)
}

func (l *Log) readBy(ctx context.Context, db Querier, p *page, query string, args []any, next func(Recorded) bool) error {
	p.fresh = 0
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	for p.open() && rows.Next() {
		var r Recorded
		err := p.scan.scan(rows, &r)
		if err == nil && next != nil && !next(r) {
			return errGap
		}
		if p.add(r, err); p.stopped == nil {
			p.fresh++
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return unreadable(ctx, err)
	}
	return nil
}

// unreadable keeps the context's error as it is: the caller ended the reading, the database did not.
func unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return domain.Errorf(domain.Unavailable, "events.Read", "the log can't be read: %w", err)
}

// loadPage is how many events [Load] reads at once.
const loadPage = 1000

// Load folds a stream's events into the state they come to. A stream without events gives the zero state and version 0; to
// a [View] a stream whose first event is not seen is one. Its errors are those of [Log.ReadStream].
func Load[S any](ctx context.Context, l streamReader, stream string, evolve func(S, domain.Event) S) (state S, version int64, err error) {
	for {
		page, more, err := l.readStream(ctx, stream, version, loadPage)
		if err != nil {
			return state, version, err
		}
		for _, r := range page {
			if r.Version != version+1 {
				return state, version, l.gap(stream, version, r.Version)
			}
			state, version = evolve(state, r.Event), r.Version
		}
		if !more {
			return state, version, nil
		}
	}
}
