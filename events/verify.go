package events

import (
	"bytes"
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

// verifyPage is how many events are read at once. The log is verified in short statements and no long transaction: what
// is verified can't change, and a snapshot held for minutes would keep PostgreSQL from clearing up behind the head row.
const verifyPage = 2000

// Verify recomputes the whole log from its rows: that positions have no gaps, that every leaf hash is that of its row,
// that the leaves hash to the head's root and, at the checkpoint's size, to the root the checkpoint vouches for. It
// returns the head that was proven: the checkpoint's. Without a checkpoint (nil; verifierKey is not looked at then) it
// returns the head row's, which proves that the log agrees with itself and not that it is the one it was.
//
// Errors: Invalid for a checkpoint that is not signed with the key; Conflict if anything does not fit, with the first
// bad position; Unavailable if the log can't be read.
func Verify(ctx context.Context, pool *pgxpool.Pool, checkpoint []byte, verifierKey string) (Head, error) {
	v := verification{pool: pool, tree: emptyTree()}
	var frontier []byte
	var err error
	if v.head, frontier, err = readHead(ctx, pool); err != nil {
		return Head{}, err
	}
	proven := v.head
	if checkpoint != nil {
		if proven, err = ParseCheckpoint(checkpoint, verifierKey); err != nil {
			return Head{}, err
		}
		if proven.Position > v.head.Position {
			return Head{}, broken("the checkpoint vouches for %d events and the log has %d", proven.Position, v.head.Position).
				WithHint("the end of the log was lost; restore it from a backup that is newer than the checkpoint")
		}
	}
	v.proven = proven
	if err := v.run(ctx); err != nil {
		return Head{}, err
	}
	if !bytes.Equal(v.tree.frontier(), frontier) {
		return Head{}, broken("the head's frontier is not that of its %d events", v.head.Position)
	}
	return proven, nil
}

type verification struct {
	pool   *pgxpool.Pool
	head   Head // of the head row
	proven Head // of the checkpoint, or the head row's
	tree   tree // over the events seen so far
	hasher leafHasher
}

func broken(format string, args ...any) *domain.Error {
	return domain.Errorf(domain.Conflict, "events.Verify", format, args...).
		WithHint("the log was changed outside crossbill, or its storage is damaged; compare with a backup")
}

func readHead(ctx context.Context, pool *pgxpool.Pool) (h Head, frontier []byte, err error) {
	var root []byte
	err = pool.QueryRow(ctx, `SELECT position, root, frontier FROM log_head WHERE log = 'main'`).Scan(&h.Position, &root, &frontier)
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
	return v.streams(ctx)
}

// page verifies the next events.
func (v *verification) page(ctx context.Context) error {
	from := v.tree.size()
	rows, err := v.pool.Query(ctx, `
		SELECT position, version, recorded_at, event_id, schema, stream, type, metadata, payload, salt, leaf_hash
		  FROM events
		 WHERE position > $1 AND position <= $2
		 ORDER BY position -- primary key
		 LIMIT $3
	`, from, v.head.Position, verifyPage)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := v.event(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return unreadable(ctx, err)
	}
	if v.tree.size() == from {
		return broken("the event at position %d is missing", from+1)
	}
	return nil
}

// event verifies one row and adds it to the tree.
func (v *verification) event(rows pgx.Rows) error {
	var r leafRecord
	var salt, leaf []byte
	err := rows.Scan(&r.position, &r.version, &r.recordedAt, &r.id, &r.schema, &r.stream, &r.eventType, &r.metadata, &r.payload, &salt, &leaf)
	next := v.tree.size() + 1
	switch {
	case err != nil:
		return broken("the event at position %d can't be read: %w", next, err)
	case r.position != next:
		return broken("the event at position %d is missing", next)
	case len(salt) != len(r.salt):
		return broken("the event at position %d has a salt of %d bytes", next, len(salt))
	}
	r.salt = [16]byte(salt)
	hash := v.hasher.hash(r)
	if !bytes.Equal(hash[:], leaf) {
		return broken("the event at position %d (%s, version %d of %.60s) is not the one that was recorded: its row does not hash to its leaf",
			next, r.eventType, r.version, r.stream)
	}
	if err := v.tree.add(hash); err != nil {
		return domain.Errorf(domain.Internal, "events.Verify", "the tree can't take leaf %d: %w", next, err)
	}
	return v.compare()
}

// compare holds the tree against the roots that are known for its size.
func (v *verification) compare() error {
	size := v.tree.size()
	if size != v.proven.Position && size != v.head.Position {
		return nil
	}
	root, err := v.tree.root()
	if err != nil {
		return domain.Errorf(domain.Internal, "events.Verify", "the tree over %d leaves has no root: %w", size, err)
	}
	if size == v.head.Position && root != v.head.Root {
		return broken("the %d events hash to the root %x; the head row has %x", size, root, v.head.Root)
	}
	if size == v.proven.Position && root != v.proven.Root {
		return broken("the first %d events hash to the root %x; the checkpoint of that size vouches for %x", size, root, v.proven.Root)
	}
	return nil
}

// streams holds the table streams against the events. A wrong version there would let an append conflict with nothing,
// or number two events the same.
func (v *verification) streams(ctx context.Context) error {
	after := ""
	for {
		var n int
		var last, bad *string
		err := v.pool.QueryRow(ctx, `
			WITH page AS (
				SELECT stream, version, position FROM streams WHERE stream > $1 ORDER BY stream LIMIT $2 -- primary key
			)
			SELECT count(*), max(stream),
			       min(stream) FILTER (WHERE NOT EXISTS (
			           SELECT FROM events e WHERE e.position = page.position AND e.stream = page.stream AND e.version = page.version)
			        OR EXISTS (
			           SELECT FROM events e WHERE e.stream = page.stream AND e.version > page.version)) -- index events_p…_stream_version
			  FROM page
		`, after, verifyPage).Scan(&n, &last, &bad)
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
