package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

// ArchiveOptions say which full partitions [Archive] moves to files, and where. All that are set must agree.
type ArchiveOptions struct {
	Dir            string   // of the files; made if it is not there
	Before         Position // partitions all of whose events are before it; 0: of any position
	KeepPartitions int      // how many full partitions stay in the database
	Logger         *slog.Logger

	// after, in tests, is called when a step is done, with its name. Its error ends the run where a crash would.
	after func(step string) error
}

// Archived is a partition that was moved to a file.
type Archived struct {
	Partition   int64
	First, Last Position
	File        string // in the directory
	Bytes       int64
	SHA256      [32]byte
	SubtreeRoot [32]byte
	Locked      time.Duration // how long the table of events was locked to take the partition out
}

// archiveLock is the advisory lock of who archives: one at a time.
const archiveLock = 0x6172636869766572 // "archiver"

// Limits of archiving.
const (
	archivePage = 2000 // events in one statement: none may hold a snapshot for long
	// Taking a partition out needs the table of events alone for a moment. While that is waited for, everybody else waits
	// too: so it is a short wait, tried again and again.
	switchPatience = 100 * time.Millisecond
	switchRetry    = 500 * time.Millisecond
	switchGiveUp   = 2 * time.Minute
)

// Archive moves full partitions of the log, from the oldest on, to files. It returns those it has moved, also beside an
// error. Appends and reads go on meanwhile.
//
// Before anything is moved, the stored leaf hashes of the whole log must come to the head's root: what can't be proven is
// not taken away from the evidence. Each partition is then written under a temporary name, synced, read back and computed
// again to its last leaf, and renamed; one transaction then drops the partition and records the archive. Wherever that
// ends, the events are in the table or in a recorded archive, and the next call goes on. The partition with the end of
// the log always stays.
//
// Errors: Invalid for wrong options; Conflict if another process archives or the log does not verify; Unavailable if the
// database or the directory fails, or the table of events is in use for too long.
func Archive(ctx context.Context, pool *pgxpool.Pool, o ArchiveOptions) ([]Archived, error) {
	const op = "events.Archive"
	if o.Dir == "" || o.KeepPartitions < 0 || o.Before < 0 {
		return nil, domain.Errorf(domain.Invalid, op, "an archive needs a directory, and numbers that are not negative")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, unarchivable(ctx, "connect", err)
	}
	defer conn.Release()
	var alone bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(archiveLock)).Scan(&alone); err != nil {
		return nil, unarchivable(ctx, "lock", err)
	}
	if !alone {
		return nil, domain.Errorf(domain.Conflict, op, "another process is archiving").WithHint("wait until it is done")
	}
	defer func() {
		if _, err := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(archiveLock)); err != nil {
			conn.Conn().Close(context.WithoutCancel(ctx)) // which gives the lock back
		}
	}()
	a := &archiver{ArchiveOptions: o, pool: pool, conn: conn.Conn(), archives: newArchives(pool, o.Dir)}
	return a.run(ctx)
}

func unarchivable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, new(*domain.Error)) {
		return err
	}
	return domain.Errorf(domain.Unavailable, "events.Archive", "%s: %w", what, err).
		WithHint("nothing is lost; run it again when the cause is gone")
}

type archiver struct {
	ArchiveOptions
	pool     *pgxpool.Pool
	conn     *pgx.Conn
	archives *archives
	size     Position // of a partition
}

func (a *archiver) run(ctx context.Context) (done []Archived, err error) {
	if err := a.conn.QueryRow(ctx, `SELECT events_partition_size()`).Scan(&a.size); err != nil {
		return nil, unarchivable(ctx, "read the size of a partition", err)
	}
	if bits.OnesCount64(uint64(a.size)) != 1 {
		return nil, domain.Errorf(domain.Internal, "events.Archive", "a partition has %d events, which is no power of two: it has no subtree", a.size)
	}
	end, err := a.archives.refresh(ctx)
	if err != nil {
		return nil, err
	}
	var head Head
	var root []byte
	if err := a.conn.QueryRow(ctx, `SELECT position, root FROM log_head WHERE log = 'main'`).Scan(&head.Position, &root); err != nil {
		return nil, unarchivable(ctx, "read the head", err)
	}
	copy(head.Root[:], root)
	partitions := a.choose(end, head.Position)
	if len(partitions) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, unarchivable(ctx, "make the directory", err)
	}
	roots, err := a.prove(ctx, head)
	if err != nil {
		return nil, err
	}
	for _, n := range partitions {
		moved, err := a.move(ctx, n, roots[n])
		if err != nil {
			return done, unarchivable(ctx, fmt.Sprintf("archive the partition %d", n), err)
		}
		done = append(done, moved)
	}
	return done, nil
}

// choose returns the numbers of the partitions to archive. Readers rely on it that the last event is never archived: an
// empty page is the end of the log, and not something that has gone to a file.
func (a *archiver) choose(archived, head Position) (partitions []int64) {
	last := int64((head-1)/a.size) - int64(a.KeepPartitions) // the first that stays
	for n := int64(archived / a.size); n < last; n++ {
		if a.Before != 0 && Position(n+1)*a.size >= a.Before {
			break
		}
		partitions = append(partitions, n)
	}
	return partitions
}

// prove computes the root of the tree from what is stored, up to the head, and returns the subtree root of each partition
// that is in the table.
func (a *archiver) prove(ctx context.Context, head Head) (roots map[int64][32]byte, err error) {
	whole := treeFactory.NewEmptyRange(0)
	list, end := a.archives.all()
	for _, of := range list {
		subtree, err := treeFactory.NewRange(uint64(of.first-1), uint64(of.last), [][]byte{of.root[:]})
		if err == nil {
			err = whole.AppendRange(subtree, nil)
		}
		if err != nil {
			return nil, broken("the archive %s has no subtree: %w", of.file, err)
		}
	}
	roots = make(map[int64][32]byte)
	table := tableRecords{a.pool}
	for from := end; from < head.Position; {
		until := min(from+a.size, head.Position)
		subtree := treeFactory.NewEmptyRange(uint64(from))
		for at := from; at < until; at = min(at+archivePage, until) {
			leaves, err := table.Leaves(ctx, at+1, min(at+archivePage, until))
			if err != nil {
				return nil, err
			}
			for ; len(leaves) > 0; leaves = leaves[32:] {
				if err := subtree.Append(leaves[:32:32], nil); err != nil {
					return nil, err
				}
			}
		}
		if until == from+a.size {
			roots[int64(from/a.size)] = [32]byte(subtree.Hashes()[0])
		}
		if err := whole.AppendRange(subtree, nil); err != nil {
			return nil, err
		}
		from = until
	}
	root, err := tree{whole}.root()
	if err != nil {
		return nil, err
	}
	if root != head.Root {
		return nil, domain.Errorf(domain.Conflict, "events.Archive", "the log's %d leaf hashes come to the root %x and the head has %x; nothing was archived",
			head.Position, root, head.Root).WithHint("find out what was changed: crossbill log verify")
	}
	return roots, nil
}

// move archives one partition.
func (a *archiver) move(ctx context.Context, n int64, root [32]byte) (Archived, error) {
	of := archive{partition: n, first: Position(n)*a.size + 1, last: Position(n+1) * a.size, root: root}
	// The root is in the name: the salts make it another for every log, so that no log takes another's file for its own.
	of.file = fmt.Sprintf("events-%012d-%012d-%x.archive", of.first, of.last, root[:4])
	var err error
	if of.sums, err = a.file(ctx, of); err != nil {
		return Archived{}, err
	}
	f, err := openArchive(a.Dir, of)
	if err != nil {
		return Archived{}, err
	}
	if err := a.keepIDs(ctx, f); err != nil {
		return Archived{}, err
	}
	if err := a.step("ids kept"); err != nil {
		return Archived{}, err
	}
	locked, err := a.switchOver(ctx, of)
	if err != nil {
		return Archived{}, err
	}
	a.Logger.Info("events: a partition was archived", "file", of.file, "first", of.first, "last", of.last, "bytes", of.sums.bytes, "locked", locked)
	return Archived{n, of.first, of.last, of.file, of.sums.bytes, of.sums.file, of.root, locked}, a.step("switched over")
}

func (a *archiver) step(name string) error {
	if a.after == nil {
		return nil
	}
	return a.after(name)
}

// file makes the archive's file, unless an earlier run has come that far. It ends with a file of its final name that is
// on the disk and was computed again to its last leaf.
func (a *archiver) file(ctx context.Context, of archive) (archiveSums, error) {
	path := filepath.Join(a.Dir, of.file)
	if sums, err := sumsOf(path); err == nil {
		of.sums = sums
		if err = a.check(ctx, path, of); err == nil {
			return sums, nil
		}
		a.Logger.Warn("events: a file of an earlier run is not whole and is written again", "file", of.file, "error", err)
	}
	temporary := path + ".tmp"
	sums, err := a.write(ctx, temporary, of)
	if err != nil {
		return sums, err
	}
	if err := a.step("written"); err != nil {
		return sums, err
	}
	of.sums = sums
	if err := a.check(ctx, temporary, of); err != nil {
		return sums, fmt.Errorf("read the file back: %w", err)
	}
	if err := a.step("checked"); err != nil {
		return sums, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return sums, err
	}
	if err := syncDir(a.Dir); err != nil {
		return sums, err
	}
	return sums, a.step("renamed")
}

// write writes the file and syncs it.
func (a *archiver) write(ctx context.Context, path string, of archive) (sums archiveSums, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return sums, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w, err := newArchiveWriter(file, of.first)
	if err != nil {
		return sums, err
	}
	var hasher leafHasher
	table := tableRecords{a.pool}
	next := of.first
	for next <= of.last {
		from := next
		err := table.Range(ctx, next, min(next+archivePage-1, of.last), func(r StoredRecord) error {
			if hash := hasher.hash(r.leaf()); r.Position != next || string(hash[:]) != string(r.LeafHash) {
				return broken("the event at position %d is missing or is not the one that was recorded", next)
			}
			next++
			return w.event(r.Record)
		})
		if err == nil && next == from {
			err = broken("the event at position %d is missing", next)
		}
		if err != nil {
			return sums, err
		}
	}
	if err := a.places(ctx, w, of); err != nil {
		return sums, err
	}
	if sums, err = w.finish(of.root); err != nil {
		return sums, err
	}
	return sums, file.Sync()
}

// places writes where the events of each stream are.
func (a *archiver) places(ctx context.Context, w *archiveWriter, of archive) error {
	stream, version := "", int64(0)
	for {
		rows, err := a.conn.Query(ctx, `
			SELECT stream, version, position FROM `+partitionName("events", of.partition)+`
			 WHERE (stream, version) > ($1, $2)
			 ORDER BY stream, version -- index events_p…_stream_version
			 LIMIT $3
		`, stream, version, archivePage)
		if err != nil {
			return err
		}
		var position Position
		tag, err := pgx.ForEachRow(rows, []any{&stream, &version, &position}, func() error { return w.place(stream, version, position) })
		if err != nil {
			return err
		}
		if tag.RowsAffected() < archivePage {
			return nil
		}
	}
}

func partitionName(table string, n int64) string { return fmt.Sprintf("%s_p%05d", table, n) }

// check reads a file as any reader would and computes everything in it again.
func (a *archiver) check(ctx context.Context, path string, of archive) error {
	of.file = filepath.Base(path)
	f, err := openArchive(a.Dir, of)
	if err != nil {
		return err
	}
	if err := f.fileSum(); err != nil {
		return err
	}
	return f.recompute(ctx, nil)
}

// keepIDs puts the event ids of an archive in a table of their own, from the file, so that what is kept is what can be
// read. It becomes part of log_archived_ids when the partition is dropped.
func (a *archiver) keepIDs(ctx context.Context, f *archiveFile) error {
	name := partitionName("log_archived_ids", f.partition)
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, sql := range []string{
		`DROP TABLE IF EXISTS ` + name, // of a run that did not end; it is attached only together with the archive's row
		fmt.Sprintf(`CREATE TABLE %s (LIKE log_archived_ids INCLUDING ALL, CHECK (position >= %d AND position <= %d))`, name, f.first, f.last),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	var block []Record
	number, next := 0, 0
	_, err = tx.CopyFrom(ctx, pgx.Identifier{name}, []string{"position", "event_id", "digest"}, pgx.CopyFromFunc(func() ([]any, error) {
		for next == len(block) {
			if number == len(f.index.blocks) {
				return nil, nil
			}
			var err error
			if block, err = f.block(number); err != nil {
				return nil, err
			}
			number, next = number+1, 0
		}
		r := &block[next]
		next++
		digest := saidDigest(r.Stream, r.Type, r.Schema, r.Payload)
		return []any{int64(r.Position), r.ID, digest[:]}, nil
	}))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(`CREATE UNIQUE INDEX %s_event_id ON %s (event_id)`, name, name)); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	_, err = a.conn.Exec(ctx, `ANALYZE `+name)
	return err
}

// switchOver takes the partition out of the table and drops it, and records the archive, in one transaction. It returns
// how long the table was locked.
func (a *archiver) switchOver(ctx context.Context, of archive) (locked time.Duration, err error) {
	for began := time.Now(); ; {
		locked, err = a.trySwitch(ctx, of)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable {
			return locked, err
		}
		if time.Since(began) > switchGiveUp {
			return 0, domain.Errorf(domain.Unavailable, "events.Archive", "the table of events has been in use for %s: %w", switchGiveUp, err).
				WithHint("a long query or transaction reads it (pg_stat_activity tells which); run this again when it has ended")
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(switchRetry):
		}
	}
}

func (a *archiver) trySwitch(ctx context.Context, of archive) (time.Duration, error) {
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `
		INSERT INTO log_archives (partition, first_position, last_position, file, bytes, sha256, index_sha256, subtree_root)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
	`, of.partition, of.first, of.last, of.file, of.sums.bytes, of.sums.file[:], of.sums.index[:], of.root[:]); err != nil {
		return 0, err
	}
	// Last and in one message: from the first of these on, everybody waits.
	events, ids := partitionName("events", of.partition), partitionName("log_archived_ids", of.partition)
	began := time.Now()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`
		SET LOCAL lock_timeout = %d;
		ALTER TABLE log_archived_ids ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d);
		ALTER TABLE events DETACH PARTITION %s;
		DROP TABLE %s
	`, switchPatience.Milliseconds(), ids, of.first, of.last+1, events, events)); err != nil {
		return 0, err
	}
	if err := a.step("dropped, not committed"); err != nil {
		return 0, err
	}
	err = tx.Commit(ctx)
	return time.Since(began), err
}

// sumsOf reads the sums of a file that an earlier run may have finished.
func sumsOf(path string) (sums archiveSums, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return sums, err
	}
	sums.bytes = info.Size()
	if sums.file, err = sumFile(path); err != nil {
		return sums, err
	}
	sums.index, err = indexSum(path, sums.bytes)
	return sums, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
