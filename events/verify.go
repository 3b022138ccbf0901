package events

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/tile"
)

// verifyPage is how many events are read at once, a whole number of tiles. The log is verified in short statements and no
// long transaction: what is verified can't change, and a snapshot held for minutes would keep PostgreSQL from clearing up
// behind the head row.
const verifyPage = 8 * tile.Width

// Verify recomputes the whole log from its rows: that positions have no gaps, that every leaf hash is that of its row,
// that the leaves hash to the head's root and, at the checkpoint's size, to the root the checkpoint vouches for (which is
// what a consistency proof shows, without one), and that the tiles are those of the leaves. It returns the head that was
// proven: the checkpoint's. Without a checkpoint (nil; verifierKey is not looked at then) it returns the head row's, which
// proves that the log agrees with itself and not that it is the one it was.
//
// Errors: Invalid for a checkpoint that is not signed with the key; Conflict if anything does not fit, with the first
// bad position or the tile; Unavailable if the log can't be read.
func Verify(ctx context.Context, pool *pgxpool.Pool, checkpoint []byte, verifierKey string) (Head, error) {
	return VerifyRecords(ctx, pool, RecordsIn(pool), checkpoint, verifierKey)
}

// VerifyRecords is [Verify] for a log whose events are to be read from elsewhere too, as archives. Head, tiles and streams
// are the database's in any case.
func VerifyRecords(ctx context.Context, pool *pgxpool.Pool, records Records, checkpoint []byte, verifierKey string) (Head, error) {
	v := verification{pool: pool, records: records, tree: emptyTree(), tiles: tileCheck{pool: pool}, last: time.Unix(0, 0)}
	if err := v.readHead(ctx); err != nil {
		return Head{}, err
	}
	v.proven = v.head
	if checkpoint != nil {
		var err error
		if v.proven, err = ParseCheckpoint(checkpoint, verifierKey); err != nil {
			return Head{}, err
		}
		if v.proven.Position > v.head.Position {
			return Head{}, broken("the checkpoint vouches for %d events and the log has %d", v.proven.Position, v.head.Position).
				WithHint("the end of the log was lost; restore it from a backup that is newer than the checkpoint")
		}
	}
	if err := v.run(ctx); err != nil {
		return Head{}, err
	}
	if !bytes.Equal(v.tree.frontier(), v.frontier) {
		return Head{}, broken("the head's frontier is not that of its %d events", v.head.Position).
			WithHint("the events are those that the head's root stands for; restore the head row from a backup")
	}
	if !v.recordedAt.Equal(v.last) {
		return Head{}, broken("the head was recorded at %s and its last event, at position %d, at %s",
			v.recordedAt.UTC().Format(time.RFC3339Nano), v.head.Position, v.last.UTC().Format(time.RFC3339Nano)).
			WithHint("the events are those that the head's root stands for; restore the head row from a backup")
	}
	return v.proven, nil
}

type verification struct {
	pool     *pgxpool.Pool
	records  Records
	head     Head // of the head row
	frontier []byte
	// recordedAt is the head row's; last is that of the last event seen, which it should be.
	recordedAt, last time.Time
	proven           Head // of the checkpoint, or the head row's
	tree             tree // over the events seen so far
	tiles            tileCheck
	hasher           leafHasher
	mismatch         *domain.Error // the first root that is not the one expected
}

func broken(format string, args ...any) *domain.Error {
	return domain.Errorf(domain.Conflict, "events.Verify", format, args...).
		WithHint("the log was changed outside crossbill, or its storage is damaged; compare with a backup")
}

func (v *verification) readHead(ctx context.Context) (err error) {
	if v.head, v.frontier, err = readHead(ctx, v.pool); err != nil {
		return err
	}
	err = v.pool.QueryRow(ctx, `SELECT recorded_at FROM log_head WHERE log = 'main' AND position = $1`, v.head.Position).Scan(&v.recordedAt)
	if errors.Is(err, pgx.ErrNoRows) { // it has moved on
		return v.readHead(ctx)
	}
	if err != nil {
		return unreadable(ctx, err)
	}
	return nil
}

func readHead(ctx context.Context, pool *pgxpool.Pool) (h Head, frontier []byte, err error) {
	var root []byte
	err = pool.QueryRow(ctx, `SELECT position, root, frontier FROM log_head WHERE log = 'main'`).Scan(&h.Position, &root, &frontier)
	if errors.Is(err, pgx.ErrNoRows) {
		return h, nil, broken("the log has no head: the table log_head has no row for it")
	}
	if err != nil {
		return h, nil, domain.Errorf(domain.Unavailable, "events.Verify", "the head of the log can't be read: %w", err)
	}
	copy(h.Root[:], root)
	return h, frontier, nil
}

// run goes through all events up to the head, and then makes sure that none is past it.
func (v *verification) run(ctx context.Context) error {
	if err := v.compare(); err != nil { // an empty log
		return err
	}
	for v.tree.size() < v.head.Position {
		if err := v.page(ctx); err != nil {
			return err
		}
	}
	if v.mismatch != nil {
		return v.located(v.mismatch)
	}
	if err := v.tiles.finish(ctx); err != nil {
		return err
	}
	return v.tables(ctx)
}

// page verifies the next events.
func (v *verification) page(ctx context.Context) error {
	from := v.tree.size()
	last := min(from+verifyPage, v.head.Position)
	if err := v.tiles.prefetch(ctx, from+1, last); err != nil {
		return err
	}
	err := v.records.Range(ctx, from+1, last, func(r StoredRecord) error { return v.event(ctx, r) })
	if err == nil && v.tree.size() < last {
		err = v.missing(v.tree.size() + 1)
	}
	return err
}

func (v *verification) missing(at Position) error {
	if at > 1 && bytes.Equal(v.tree.frontier(), v.frontier) {
		return broken("the event at position %d is missing: the head row's position is %d, but its frontier is that of the %d events before",
			at, v.head.Position, at-1).WithHint("the head row's position is damaged, not the events")
	}
	return broken("the event at position %d is missing", at)
}

// event verifies one event and adds it to the tree.
func (v *verification) event(ctx context.Context, r StoredRecord) error {
	next := v.tree.size() + 1
	if r.Position != next {
		return v.missing(next)
	}
	hash := v.hasher.hash(r.leaf())
	if !bytes.Equal(hash[:], r.LeafHash) {
		return broken("the event at position %d (%.60q, version %d of %.60q) is not the one that was recorded: its row hashes to %x and its leaf hash is %x",
			next, r.Type, r.Version, r.Stream, hash, r.LeafHash)
	}
	if err := v.tree.add(hash); err != nil {
		return domain.Errorf(domain.Internal, "events.Verify", "the tree can't take leaf %d: %w", next, err)
	}
	v.last = r.RecordedAt
	if err := v.tiles.add(ctx, 0, hash); err != nil {
		return err
	}
	return v.compare()
}

// compare holds the tree against the roots that are known for its size. One that differs does not end the reading: the
// tiles that follow may tell which event it is.
func (v *verification) compare() error {
	size := v.tree.size()
	if size != v.proven.Position && size != v.head.Position {
		return nil
	}
	root, err := v.tree.root()
	if err != nil {
		return domain.Errorf(domain.Internal, "events.Verify", "the tree over %d leaves has no root: %w", size, err)
	}
	switch {
	case v.mismatch != nil:
	case size == v.proven.Position && root != v.proven.Root && v.proven != v.head:
		v.mismatch = broken("the first %d events hash to the root %x; the checkpoint of that size vouches for %x", size, root, v.proven.Root)
	case size == v.head.Position && root != v.head.Root:
		v.mismatch = broken("the %d events hash to the root %x; the head row has %x", size, root, v.head.Root)
	}
	return nil
}

// located says of a wrong root where in the log what is wrong must be.
func (v *verification) located(mismatch *domain.Error) error {
	switch t := v.tiles; {
	case t.suspect != 0:
		return broken("the event at position %d is not the one that was recorded: its row agrees with its leaf hash, but the tile %s has another, and %s",
			t.suspect, tile.Path(0, int64(t.suspect-1)/tile.Width, tile.Width), mismatch.Message)
	case v.proven == v.head && bytes.Equal(v.tree.frontier(), v.frontier):
		return mismatch.WithHint("the head row's frontier is that of the events, so its root is what is damaged")
	case t.agreed == 0:
		return mismatch
	default:
		return mismatch.WithHint("the tiles still agree with the events up to position %d, so what was changed is past it, or the root itself, "+
			"or events and tiles together; compare with a backup", t.agreed)
	}
}

// streams holds the table streams against the events. A wrong version there would let an append conflict with nothing,
// or number two events the same. Streams whose last event is archived were held against the archives.
func (v *verification) streams(ctx context.Context, archived Position) error {
	after := ""
	for {
		var n int
		var last, bad *string
		err := v.pool.QueryRow(ctx, `
			WITH page AS (
				SELECT stream, version, position FROM streams WHERE stream > $1 ORDER BY stream LIMIT $2 -- primary key
			)
			SELECT count(*), max(stream),
			       min(stream) FILTER (WHERE position > $3 AND NOT EXISTS (
			           SELECT FROM events e WHERE e.position = page.position AND e.stream = page.stream AND e.version = page.version)
			        OR EXISTS (
			           SELECT FROM events e WHERE e.stream = page.stream AND e.version > page.version)) -- index events_p…_stream_version
			  FROM page
		`, after, verifyPage, archived).Scan(&n, &last, &bad)
		if err != nil {
			return unreadable(ctx, err)
		}
		if bad != nil {
			return broken("the table streams is wrong about %s: its last event is another", *bad)
		}
		if n < verifyPage {
			break
		}
		after = *last
	}
	return v.strays(ctx)
}

// strays looks for what is not accounted for: streams without a row in the table streams, and events past the head.
func (v *verification) strays(ctx context.Context) error {
	var stream *string
	err := v.pool.QueryRow(ctx, `
		SELECT (SELECT e.stream FROM events e WHERE e.version = 1 AND NOT EXISTS (SELECT FROM streams s WHERE s.stream = e.stream) LIMIT 1)
	`).Scan(&stream)
	if err != nil {
		return unreadable(ctx, err)
	}
	if stream != nil {
		return broken("the table streams does not have %s", *stream)
	}
	var stray *int64
	err = v.pool.QueryRow(ctx, `SELECT max(position) FROM events WHERE position > (SELECT position FROM log_head WHERE log = 'main')`).Scan(&stray)
	if err != nil {
		return unreadable(ctx, err)
	}
	if stray != nil {
		return broken("there is an event at position %d, past the head", *stray)
	}
	return nil
}
