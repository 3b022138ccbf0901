package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
	"crossbill/events"
)

// Limits of the exchange of tables.
const (
	// lockPatience bounds how long readers wait for each other and us. It is less than PostgreSQL's deadlock_timeout (one
	// second): where a reader and we hold what the other wants, we give way before PostgreSQL chooses whom to cancel.
	lockPatience  = 500 * time.Millisecond
	rowPatience   = 10 * time.Second // for a batch of the projection to be finished
	heldPatience  = time.Second      // how long the projection stands still for the sake of others' transactions
	swapPatience  = 5 * time.Minute  // in all
	swapPause     = time.Second      // between attempts
	levelPatience = 2 * time.Second  // for the projection to come as far as the build is
	outlastPoll   = 10 * time.Millisecond
)

// errBusy says that others use the tables in a way that makes us wait.
var errBusy = errors.New("others' transactions last")

// swap puts the build's tables in the place of those in use.
func (b *build) swap(ctx context.Context) error {
	for deadline := time.Now().Add(swapPatience); ; {
		err := b.awaitLevel(ctx)
		if err == nil {
			err = b.outlast(ctx, time.Until(deadline)) // while nothing is held yet
		}
		if err == nil {
			err = b.trySwap(ctx)
		}
		if !isBusy(err) {
			return err
		}
		if time.Now().After(deadline) {
			return domain.Errorf(domain.Unavailable, "projections.Rebuild", "the tables of %s could not be exchanged, because others use them: %w", b.projection.Name, err).
				WithHint("end the long transactions on this database (pg_stat_activity shows them) and try again")
		}
		pause(ctx, swapPause)
		if err := b.catchUp(ctx, b.head); err != nil {
			return err
		}
	}
}

func isBusy(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, errBusy) || errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01") // lock_not_available, deadlock_detected
}

// trySwap is the transaction of the exchange. While it holds the checkpoint the projection stands still, so the build can
// be brought to the same position.
func (b *build) trySwap(ctx context.Context) error {
	name := b.projection.Name
	if _, err := b.Pool.Exec(ctx, `INSERT INTO subscriptions (name) VALUES ($1) ON CONFLICT DO NOTHING`, name); err != nil {
		return err
	}
	tx, err := b.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var at events.Position
	if err := setLockTimeout(ctx, tx, rowPatience); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `SELECT position FROM subscriptions WHERE name = $1 FOR UPDATE`, name).Scan(&at); err != nil {
		return err
	}
	if err := b.buildTo(ctx, at); err != nil {
		return err
	}
	if err := b.outlast(ctx, heldPatience, tx.Conn().PgConn().PID()); err != nil {
		return err
	}
	if err := b.lockTables(ctx, tx); err != nil {
		return err
	}
	if err := b.requireSame(ctx, tx); err != nil {
		return err
	}
	// All at once, because the policy of one may name another.
	if _, err := tx.Exec(ctx, `DROP TABLE `+b.live+`.`+strings.Join(b.tables, `, `+b.live+`.`)); err != nil {
		return err
	}
	for _, table := range b.tables {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s.%s SET SCHEMA %s`, b.schema, table, b.live)); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `DROP SCHEMA `+b.schema); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE subscriptions SET position = $2, updated_at = now(), error = NULL WHERE name = $1`, name, b.position)
	if err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// lockTables locks both sets of tables against everybody, and makes sure that those of the build are still ours: whoever
// else wanted to build would have had to take the lock that conn holds, and to drop what tx has locked by now.
func (b *build) lockTables(ctx context.Context, tx pgx.Tx) error {
	if err := setLockTimeout(ctx, tx, lockPatience); err != nil {
		return err
	}
	var all []string
	for _, schema := range []string{b.live, b.schema} {
		for _, table := range b.tables {
			all = append(all, schema+"."+table)
		}
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE `+strings.Join(all, ", ")+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	return b.conn.Ping(ctx)
}

func setLockTimeout(ctx context.Context, tx pgx.Tx, d time.Duration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, d.Milliseconds()))
	return err
}

// awaitLevel waits until the projection has come as far as the build, so that a snapshot in which the checkpoint is an old one
// and the table a new one finds no more rows than the checkpoint says. A projection that has stopped, or that nobody runs, is
// not waited for.
func (b *build) awaitLevel(ctx context.Context) error {
	for deadline := time.Now().Add(levelPatience); time.Now().Before(deadline); pause(ctx, outlastPoll) {
		var behind bool
		err := b.conn.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM subscriptions WHERE name = $1 AND position < $2 AND error IS NULL)
		`, b.projection.Name, b.position).Scan(&behind)
		if err != nil || !behind {
			return err
		}
	}
	return ctx.Err()
}

// outlast waits for the transactions that are under way to end, if they have a snapshot.
//
// It is for readers with one snapshot for a whole transaction (REPEATABLE READ). A table has its name by what is
// committed now, but its rows are seen by the snapshot: one from before the build's last commit would find, under the
// old name, the new table with rows missing. Any snapshot from after it sees in the new table what it would have seen in
// the old. (Sessions of other database users are only seen by members of pg_read_all_stats.)
func (b *build) outlast(ctx context.Context, patience time.Duration, ours ...uint32) error {
	var since time.Time
	own := []int64{int64(b.conn.PgConn().PID())} // conn itself, and who waits for it
	for _, pid := range ours {
		own = append(own, int64(pid))
	}
	if err := b.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&since); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; pause(ctx, outlastPoll) {
		var pid int
		var query string
		err := b.conn.QueryRow(ctx, `
			SELECT pid, left(query, 200) FROM pg_stat_activity
			 WHERE datname = current_database() AND backend_type = 'client backend' AND backend_xmin IS NOT NULL
			   AND xact_start < $1 AND pid <> ALL ($2::bigint[])
			 ORDER BY xact_start LIMIT 1
		`, since, own).Scan(&pid, &query)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: process %d, at %q", errBusy, pid, query)
		}
	}
}
