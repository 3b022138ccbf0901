package vault

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
)

// Execer is a pool, a connection or a transaction.
type Execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// Destroy destroys all keys of a subject and leaves its rows without them. It is for the transaction that records the
// erasure, so that both happen or neither. known is false for a subject that the vault has no row of; none is made then.
//
// What PostgreSQL keeps of the old rows (dead tuples, write-ahead log, dumps) is wrapped by the master key:
// docs/privacy.md says how to get rid of that.
func Destroy(ctx context.Context, tx pgx.Tx, subject string, at time.Time) (known bool, err error) {
	if err := destroyKeys(ctx, tx, subject, at); err != nil {
		return false, err
	}
	const rows = `SELECT EXISTS (SELECT FROM subject_keys WHERE subject = $1)` // primary key
	return known, tx.QueryRow(ctx, rows, subject).Scan(&known)
}

// Bar makes a row without a key for a subject that may have none, so that none is made or restored, and destroys those
// there are.
func Bar(ctx context.Context, tx pgx.Tx, subject string, at time.Time) error {
	id := make([]byte, 8)
	rand.Read(id)
	// First the row: it waits for a node that is just making a key, and the statement after it sees that key.
	_, err := tx.Exec(ctx, `
		INSERT INTO subject_keys (subject, key_id, current, erased_at) VALUES ($1, $2, true, $3)
		    ON CONFLICT DO NOTHING -- index subject_keys_current
	`, subject, id, at)
	if err != nil {
		return err
	}
	return destroyKeys(ctx, tx, subject, at)
}

func destroyKeys(ctx context.Context, db Execer, subject string, at time.Time) error {
	_, err := db.Exec(ctx, `UPDATE subject_keys SET wrapped = NULL, erased_at = $2 WHERE subject = $1 AND wrapped IS NOT NULL`, subject, at)
	return err
}

// DestroyAgain destroys keys of an erased subject that came back, for instance from a dump of the table.
func DestroyAgain(ctx context.Context, db Execer, subject string, at time.Time) error {
	if err := destroyKeys(ctx, db, subject, at); err != nil {
		return domain.Errorf(domain.Unavailable, "vault.DestroyAgain", "the keys can't be destroyed: %w", err)
	}
	return nil
}

// Vacuum makes PostgreSQL give up the rows' former versions. Their bytes may stay in free space of the table's file until
// it is used again.
func Vacuum(ctx context.Context, db Execer) error {
	_, err := db.Exec(ctx, `VACUUM subject_keys`)
	return err
}
