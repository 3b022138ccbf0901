package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
)

// notifyChannel is where one notification per flush says the head's new position.
const notifyChannel = "crossbill_log"

// copyFrom is the number of rows from which COPY is faster than one statement with arrays: it costs two more round
// trips and less for each row.
const copyFrom = 48

// flush is one transaction. It decides every append, writes the accepted ones, and tells all callers when it is
// committed, the rejected ones too: what they were rejected for may rest on a neighbour's events. After an error nothing
// is written, or with errAmbiguous perhaps everything; the appends that have no outcome yet are to be flushed again,
// with again set, so that what an earlier attempt did commit is found.
func (s *sequencer) flush(ctx context.Context, batch []*pending, again bool) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	defer s.rollback(ctx, conn)
	if err := s.transaction(ctx, conn, batch, again); err != nil {
		if conn.IsClosed() {
			err = fmt.Errorf("%w: %w", errLost, err)
		}
		return err
	}
	return nil
}

func (s *sequencer) transaction(ctx context.Context, conn *pgx.Conn, batch []*pending, again bool) error {
	pl, tree, err := s.begin(ctx, conn, batch, again)
	if err != nil {
		return err
	}
	outcomes, err := s.decide(ctx, conn, pl, batch)
	if err != nil {
		return err
	}
	if len(pl.rows) > 0 {
		if err := s.write(ctx, conn, pl, tree); err != nil {
			return err
		}
		s.tail.advance(pl.position)
	}
	for i, p := range batch {
		p.finish(outcomes[i].result, outcomes[i].err)
	}
	return nil
}

// rollback leaves the connection outside any transaction, or closed.
func (s *sequencer) rollback(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		s.disconnect()
	}
}

// begin locks the head and reads, in one round trip, all that the decisions need. Statements after the lock see what
// its last holder committed, because at READ COMMITTED each has a snapshot of its own.
func (s *sequencer) begin(ctx context.Context, conn *pgx.Conn, batch []*pending, again bool) (*plan, tree, error) {
	streams, ids, events := lookups(batch, again)
	var q pgx.Batch
	q.Queue(`begin isolation level read committed`)
	q.Queue(`SELECT position, root, frontier, recorded_at FROM log_head WHERE log = 'main' FOR UPDATE`)
	q.Queue(`SELECT stream, version FROM streams WHERE stream = ANY($1)`, streams) // primary key
	if len(ids) > 0 {
		q.Queue(`
			SELECT event_id, position, stream, type, schema, payload, salt
			  FROM events
			 WHERE event_id = ANY($1) -- index events_p…_event_id of each partition
		`, ids)
		// After the events, whose lock the query above took: no partition can go to an archive from there on.
		q.Queue(`SELECT event_id, position, digest FROM log_archived_ids WHERE event_id = ANY($1)`, ids) // index log_archived_ids_p…_event_id of each
	}
	pl := &plan{versions: make(map[string]int64, len(streams)), seen: make(map[[16]byte]known), rows: make([]row, 0, events)}
	br := conn.SendBatch(ctx, &q)
	defer br.Close()
	if _, err := br.Exec(); err != nil {
		return nil, tree{}, fmt.Errorf("begin: %w", err)
	}
	var root, frontier []byte
	var recordedAt time.Time
	if err := br.QueryRow().Scan(&pl.position, &root, &frontier, &recordedAt); err != nil {
		return nil, tree{}, fmt.Errorf("lock the head: %w", err)
	}
	// The clock of this node may be behind that of the node that wrote last.
	pl.recordedAt = s.options.Clock().UTC().Truncate(time.Microsecond)
	if pl.recordedAt.Before(recordedAt) {
		pl.recordedAt = recordedAt.UTC()
	}
	rows, _ := br.Query()
	var stream string
	var version int64
	if _, err := pgx.ForEachRow(rows, []any{&stream, &version}, func() error {
		pl.versions[stream] = version
		return nil
	}); err != nil {
		return nil, tree{}, fmt.Errorf("read the streams' versions: %w", err)
	}
	if len(ids) > 0 {
		if err := readKnown(br, pl.seen); err != nil {
			return nil, tree{}, fmt.Errorf("look for event ids: %w", err)
		}
		if err := readArchived(br, pl.seen); err != nil {
			return nil, tree{}, fmt.Errorf("look for archived event ids: %w", err)
		}
	}
	if err := br.Close(); err != nil {
		return nil, tree{}, err
	}
	s.recall(ctx, conn, batch, pl.seen)
	t, err := checkHead(pl.position, root, frontier)
	return pl, t, err
}

// recall reads archived events whose digest alone can't tell whether they are repeated: of what the repetition says,
// something is no longer known to anybody. What fails is only that append's.
func (s *sequencer) recall(ctx context.Context, conn *pgx.Conn, batch []*pending, seen map[[16]byte]known) {
	for _, p := range batch {
		if !p.refused {
			continue
		}
		for _, st := range p.streams {
			for i := range st.events {
				k, ok := seen[st.events[i].id]
				if !ok || k.archived == nil {
					continue
				}
				r, err := s.archives.event(ctx, conn, k.position)
				if err != nil {
					k.unread = err
				} else {
					k = known{position: k.position, stream: r.Stream, eventType: r.Type, schema: r.Schema, payload: r.Payload, salt: r.Salt}
				}
				seen[st.events[i].id] = k
			}
		}
	}
}

// lookups lists the streams a batch touches and the event ids that may be known.
func lookups(batch []*pending, again bool) (streams []string, ids [][16]byte, events int) {
	touched := make(map[string]struct{}, len(batch))
	for _, p := range batch {
		events += p.events
		for _, st := range p.streams {
			if _, ok := touched[st.name]; !ok {
				touched[st.name] = struct{}{}
				streams = append(streams, st.name)
			}
			if !p.given && !again { // minted just now, from 74 random bits
				continue
			}
			for i := range st.events {
				ids = append(ids, st.events[i].id)
			}
		}
	}
	return streams, ids, events
}

func readKnown(br pgx.BatchResults, seen map[[16]byte]known) error {
	rows, _ := br.Query()
	var id [16]byte
	var k known
	var salt []byte
	_, err := pgx.ForEachRow(rows, []any{&id, &k.position, &k.stream, &k.eventType, &k.schema, &k.payload, &salt}, func() error {
		copy(k.salt[:], salt)
		seen[id] = k
		k.payload = nil // the next row's must not be read into the same memory
		return nil
	})
	return err
}

func readArchived(br pgx.BatchResults, seen map[[16]byte]known) error {
	rows, _ := br.Query()
	var id [16]byte
	var k known
	_, err := pgx.ForEachRow(rows, []any{&id, &k.position, &k.archived}, func() error {
		seen[id] = k
		k.archived = nil // as above
		return nil
	})
	return err
}

// checkHead reads the frontier and holds it against the root, so that a damaged head stops the log instead of being
// built upon.
func checkHead(position Position, root, frontier []byte) (tree, error) {
	t, err := parseTree(position, frontier)
	if err != nil {
		return tree{}, damagedHead(err)
	}
	have, err := t.root()
	if err != nil {
		return tree{}, damagedHead(err)
	}
	if string(have[:]) != string(root) {
		return tree{}, damagedHead(errors.New("its frontier does not hash to its root"))
	}
	return t, nil
}

func damagedHead(err error) error {
	return domain.Errorf(domain.Internal, "events.Append", "the head of the log is damaged: %w", err).
		WithHint("stop writing and compare the log with a checkpoint: crossbill log verify")
}

// decide judges the batch in order and returns an outcome for each append.
func (s *sequencer) decide(ctx context.Context, conn *pgx.Conn, pl *plan, batch []*pending) ([]outcome, error) {
	outcomes := make([]outcome, len(batch))
	before := "" // the next Ask
	for i, p := range batch {
		o := &outcomes[i]
		var settled bool
		if o.result, settled, o.err = pl.judge(p); settled || o.err != nil {
			continue
		}
		if p.ask != nil {
			var err error
			if o.err, err = ask(ctx, conn, p, before); err != nil {
				return nil, err
			}
			before = askEnded
			if o.err != nil {
				continue
			}
		}
		o.result = pl.take(p)
	}
	if before != "" && len(pl.rows) > 0 {
		if _, err := conn.Exec(ctx, asksEnded); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// write writes the plan's rows, moves the head and commits.
func (s *sequencer) write(ctx context.Context, conn *pgx.Conn, pl *plan, t tree) error {
	partitions, err := s.makePartitions(ctx, conn, pl.position-Position(len(pl.rows)), pl.position)
	if err != nil {
		return err
	}
	var q pgx.Batch
	leaves := leafWriter{plan: pl, tree: t}
	if len(pl.rows) < copyFrom {
		for i := range pl.rows {
			if err := leaves.next(&pl.rows[i]); err != nil {
				return damagedHead(err)
			}
		}
		queueInsert(&q, pl)
	} else if err := copyRows(ctx, conn, pl, &leaves); err != nil {
		return err
	}
	root, err := t.root()
	if err != nil {
		return damagedHead(err)
	}
	if t.size() != pl.position {
		return damagedHead(fmt.Errorf("the tree has %d leaves and the log %d events", t.size(), pl.position))
	}
	queueStreams(&q, pl)
	q.Queue(`
		UPDATE log_head SET position = $1, root = $2, frontier = $3, recorded_at = $4
		 WHERE log = 'main' AND position = $5
	`, pl.position, root[:], t.frontier(), pl.recordedAt, pl.position-Position(len(pl.rows)))
	q.Queue(`SELECT pg_notify($1, $2)`, notifyChannel, fmt.Sprint(int64(pl.position)))
	q.Queue(`commit`)
	if err := commit(ctx, conn, &q); err != nil {
		return err
	}
	s.partitions = partitions
	return nil
}

// commit sends a batch that ends in a commit. An error of a statement before the commit undoes everything. Any other
// way of not hearing "COMMIT" leaves open what happened.
func commit(ctx context.Context, conn *pgx.Conn, q *pgx.Batch) error {
	br := conn.SendBatch(ctx, q)
	var tag pgconn.CommandTag
	var err error
	for range q.Len() {
		if tag, err = br.Exec(); err != nil {
			break
		}
	}
	if closed := br.Close(); err == nil {
		err = closed
	}
	if err == nil && tag.String() == "COMMIT" {
		return nil
	}
	if err == nil {
		return fmt.Errorf("the commit was answered with %s", tag)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Severity == "ERROR" {
		return fmt.Errorf("write events: %w", err)
	}
	return fmt.Errorf("%w: %w", errAmbiguous, err)
}

// makePartitions makes the partitions for the positions past before and up to last, and the next one as soon as the last
// is half full, so that the table is there long before it is needed. What is made ahead is not waited for: when something
// else has the table's definition locked, it is tried again after aheadRetry. It returns up to which number partitions
// are known to be there once the transaction commits. Earlier ones are there or in archives.
func (s *sequencer) makePartitions(ctx context.Context, conn *pgx.Conn, before, last Position) (int64, error) {
	needed := int64((last-1)/s.partitionSize) + 1
	wanted := int64((last-1+s.partitionSize/2)/s.partitionSize) + 1
	made := max(s.partitions, int64(before/s.partitionSize))
	for ; made < needed; made++ {
		if _, err := conn.Exec(ctx, `SELECT make_events_partition($1)`, made); err != nil {
			return 0, fmt.Errorf("make partition %d: %w", made, err)
		}
	}
	for ; made < wanted && !time.Now().Before(s.aheadAgain); made++ {
		err := makeAhead(ctx, conn, made)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == lockNotAvailable {
			s.options.Logger.Warn("events: the next partition can't be made yet", "partition", made, "error", err)
			s.aheadAgain = time.Now().Add(aheadRetry)
			break
		}
		if err != nil {
			return 0, fmt.Errorf("make partition %d ahead: %w", made, err)
		}
	}
	return made, nil
}

// Patience with who has the table events locked against a new partition, as ANALYZE has. All appends wait with it.
const (
	aheadPatience = 50 * time.Millisecond
	aheadRetry    = 10 * time.Second
)

// lockNotAvailable is PostgreSQL's code for a lock that was not got in time.
const lockNotAvailable = "55P03"

// makeAhead makes a partition in a savepoint. If a lock is not to be had, the transaction goes on without it.
func makeAhead(ctx context.Context, conn *pgx.Conn, n int64) error {
	var q pgx.Batch
	q.Queue(`savepoint ahead`)
	q.Queue(fmt.Sprintf(`set local lock_timeout = %d`, aheadPatience.Milliseconds()))
	q.Queue(`SELECT make_events_partition($1)`, n)
	q.Queue(`set local lock_timeout to default`)
	q.Queue(`release savepoint ahead`)
	err := conn.SendBatch(ctx, &q).Close()
	if err != nil && conn.PgConn().TxStatus() == 'E' {
		if _, undo := conn.Exec(ctx, `rollback to savepoint ahead`); undo != nil {
			return undo
		}
	}
	return err
}
