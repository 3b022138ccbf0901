package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

const (
	storedPage   = 1000             // keys in one statement
	lockPatience = 30 * time.Second // of a change of all keys, for nodes that are just making some
)

// Rotate takes another master key: it makes one (in a [KeyFile]; [Keys] must begin with it already), wraps every subject's
// key by it in one transaction, and removes the old one from the file unless keepOld is set. It returns how many keys it
// wrapped.
//
// What was wrapped by the old master key, in dumps, backups of the keys and PostgreSQL's own leftovers, is worth nothing
// once that key is gone everywhere. Subject keys stay the same, so every text stays readable and every repetition known.
// Interrupted anywhere it leaves a vault that works, and may be run again.
//
// Errors: Invalid if the source is [Keys] and its first key is the vault's already; Unavailable.
func (v *Vault) Rotate(ctx context.Context, keepOld bool) (wrapped int, err error) {
	const op = "vault.Rotate"
	known, err := v.source.Load()
	if err != nil {
		return 0, noMaster(op, err)
	}
	file, isFile := v.source.(KeyFile)
	if isFile {
		next, err := newMasterKey()
		if err != nil {
			return 0, err
		}
		if len(known) == maxMasterKeys {
			return 0, domain.Errorf(domain.Invalid, op, "%s holds %d keys already", file, maxMasterKeys).WithHint("remove the last of them")
		}
		known = append([]MasterKey{next}, known...)
		if err := file.replace(known); err != nil { // before anything is wrapped by the new one
			return 0, domain.Errorf(domain.Internal, op, "the new master key can't be written: %w", err)
		}
	}
	v.mu.Lock()
	v.master = known
	v.mu.Unlock()
	err = v.change(ctx, op, func(tx pgx.Tx, old MasterKey) (err error) {
		if old.id == known[0].id {
			return domain.Errorf(domain.Invalid, op, "the vault's keys are wrapped by this master key already").
				WithHint("put a new key before it in %s: openssl rand -base64 32", MasterKeyVariable)
		}
		wrapped, err = rewrap(ctx, tx, old, known[0])
		return err
	})
	if err == nil && isFile && !keepOld {
		if err = file.replace(known[:1]); err != nil {
			err = domain.Errorf(domain.Internal, op, "the old master key can't be removed from %s: %w", file, err).WithHint("remove all lines but the first")
		}
	}
	return wrapped, err
}

// change runs f in a transaction in which nobody else makes, restores or wraps keys. Reading goes on.
func (v *Vault) change(ctx context.Context, op string, f func(tx pgx.Tx, master MasterKey) error) error {
	err := pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, lockPatience.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT FROM key_vault FOR UPDATE`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `LOCK TABLE subject_keys IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		id, err := readMasterKeyID(ctx, tx)
		if err != nil {
			return err
		}
		master, err := v.masterKey(id)
		if err != nil {
			return err
		}
		return f(tx, master)
	})
	if err == nil || errors.As(err, new(*domain.Error)) {
		return err
	}
	return unavailable(op, err)
}

// rewrap wraps all keys by another master key and makes that the vault's.
func rewrap(ctx context.Context, tx pgx.Tx, old, next MasterKey) (wrapped int, err error) {
	var last storedKey
	for {
		page, err := readStored(ctx, tx, last)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 {
			_, err := tx.Exec(ctx, `UPDATE key_vault SET master_key_id = $1`, next.id[:])
			return wrapped, err
		}
		for i := range page {
			if err := page[i].rewrap(old, next); err != nil {
				return 0, err
			}
		}
		subjects, ids, keys := columns(page)
		_, err = tx.Exec(ctx, `
			UPDATE subject_keys k SET wrapped = w.wrapped
			  FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS w (subject, key_id, wrapped)
			 WHERE k.subject = w.subject AND k.key_id = w.key_id -- primary key
		`, subjects, ids, keys)
		if err != nil {
			return 0, err
		}
		wrapped, last = wrapped+len(page), page[len(page)-1]
	}
}

// storedKey is a row of subject_keys that has a key, and a line of a backup.
type storedKey struct {
	Subject string `json:"subject"`
	KeyID   []byte `json:"key_id"`
	Current bool   `json:"current"`
	Wrapped []byte `json:"wrapped"`
}

// rewrap wraps the key anew; it returns an Internal error if it is not the subject's key, wrapped by old.
func (s *storedKey) rewrap(old, next MasterKey) error {
	if len(s.KeyID) != 8 {
		return domain.Errorf(domain.Internal, "vault.unwrap", "the key of %q has no proper id", s.Subject)
	}
	k, err := old.unwrap(s.Subject, [8]byte(s.KeyID), s.Wrapped)
	if err != nil {
		return err
	}
	s.Wrapped = next.seal(s.Subject, k.id, k.raw)
	return nil
}

// readStored returns the next keys in the order of the primary key.
func readStored(ctx context.Context, tx pgx.Tx, after storedKey) ([]storedKey, error) {
	if after.KeyID == nil {
		after.KeyID = []byte{}
	}
	rows, _ := tx.Query(ctx, `
		SELECT subject, key_id, current, wrapped FROM subject_keys
		 WHERE (subject, key_id) > ($1, $2) AND wrapped IS NOT NULL
		 ORDER BY subject, key_id LIMIT $3 -- primary key
	`, after.Subject, after.KeyID, storedPage)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[storedKey])
}

func columns(page []storedKey) (subjects []string, ids, wrapped [][]byte) {
	for _, s := range page {
		subjects, ids, wrapped = append(subjects, s.Subject), append(ids, s.KeyID), append(wrapped, s.Wrapped)
	}
	return subjects, ids, wrapped
}
