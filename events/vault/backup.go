package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// A backup is lines of JSON: a header, a line for each key as it is wrapped, and a footer with the number of keys and the
// SHA-256 of all bytes before the footer. It tells whose keys there are and, without the master key, nothing else. The
// checksum finds damage; that nobody has put another key in place of one, each key's own authentication does.
const (
	backupFormat  = "crossbill-keys"
	backupVersion = 1
	maxBackupLine = 4096 // bytes
)

type backupHeader struct {
	Format      string `json:"format"`
	Version     int    `json:"version"`
	MasterKeyID string `json:"master_key_id"` // which master key they are wrapped by
}

type backupFooter struct {
	Keys   int    `json:"keys"`
	SHA256 string `json:"sha256"`
}

// Backup writes all keys there are, as of one moment, and returns how many. Keys of erased subjects are not among them.
// It returns an Unavailable error if the database can't be read, and what w returns.
func (v *Vault) Backup(ctx context.Context, w io.Writer) (keys int, err error) {
	const op = "vault.Backup"
	digest := sha256.New()
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(io.MultiWriter(out, digest))
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, v.pool, snapshot, func(tx pgx.Tx) error {
		id, err := readMasterKeyID(ctx, tx)
		if err != nil {
			return err
		}
		if err := lines.Encode(backupHeader{backupFormat, backupVersion, hex.EncodeToString(id[:])}); err != nil {
			return err
		}
		var last storedKey
		for {
			page, err := readStored(ctx, tx, last)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, s := range page {
				if err := lines.Encode(s); err != nil {
					return err
				}
			}
			keys, last = keys+len(page), page[len(page)-1]
		}
	})
	if err == nil {
		err = json.NewEncoder(out).Encode(backupFooter{keys, hex.EncodeToString(digest.Sum(nil))})
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return 0, domain.Errorf(domain.Unavailable, op, "the keys can't be backed up: %w", err)
	}
	return keys, nil
}

// Restored says what became of a backup's keys.
type Restored struct {
	Restored int
	Present  int // were there already
	Erased   int // left out: their subjects are erased
}

// Restore puts back the keys of a backup that the vault does not have. It never puts back a key of a subject that is
// erased, be it by the log or by the vault. All of it happens or nothing.
//
// Errors: Invalid for a backup that is damaged, of a later version, or wrapped by a master key that is not among the
// source's; Unavailable if the database is away.
func (v *Vault) Restore(ctx context.Context, backup io.ReadSeeker) (Restored, error) {
	const op = "vault.Restore"
	header, err := checkBackup(backup)
	if err != nil {
		return Restored{}, domain.Errorf(domain.Invalid, op, "the backup can't be used: %w", err).WithHint("take another backup")
	}
	id, err := hex.DecodeString(header.MasterKeyID)
	if err != nil || len(id) != 8 {
		return Restored{}, domain.Errorf(domain.Invalid, op, "the backup does not say which master key it needs")
	}
	from, err := v.masterKey([8]byte(id))
	if err != nil {
		return Restored{}, err
	}
	var r Restored
	err = v.change(ctx, op, func(tx pgx.Tx, master MasterKey) error {
		lines, err := backupLines(backup)
		if err != nil {
			return err
		}
		lines.Scan() // the header
		for {
			page, err := readPage(lines)
			if err != nil || len(page) == 0 {
				return err
			}
			for i := range page {
				if err := page[i].rewrap(from, master); err != nil {
					return err
				}
			}
			if err := r.insert(ctx, tx, page); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return Restored{}, err
	}
	v.mu.Lock()
	v.young, v.older = make(map[string]kept), nil // they say that keys are missing
	v.mu.Unlock()
	return r, nil
}

// checkBackup reads a backup through and holds it to its checksum.
func checkBackup(backup io.ReadSeeker) (h backupHeader, err error) {
	lines, err := backupLines(backup)
	if err != nil {
		return h, err
	}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &h) != nil || h.Format != backupFormat {
		return h, errors.New("it is no backup of keys")
	}
	if h.Version != backupVersion {
		return h, errors.New("it was made by another version of crossbill")
	}
	digest := sha256.New()
	add := func(line []byte) {
		digest.Write(line)
		digest.Write([]byte{'\n'})
	}
	add(lines.Bytes())
	for keys := 0; lines.Scan(); keys++ {
		if !isFooter(lines.Bytes()) {
			add(lines.Bytes())
			continue
		}
		var f backupFooter
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil || f.Keys != keys || f.SHA256 != hex.EncodeToString(digest.Sum(nil)) {
			return h, errors.New("it is damaged: its checksum is not that of its content")
		}
		if lines.Scan() {
			return h, errors.New("it is damaged: it goes on after its end")
		}
		return h, lines.Err()
	}
	return h, errors.Join(errors.New("it is damaged: its end is missing"), lines.Err())
}

func isFooter(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"keys":`)) }

func backupLines(backup io.ReadSeeker) (*bufio.Scanner, error) {
	if _, err := backup.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(backup)
	lines.Buffer(nil, maxBackupLine)
	return lines, nil
}

// readPage returns the next keys of a backup that has been checked.
func readPage(lines *bufio.Scanner) (page []storedKey, err error) {
	for len(page) < storedPage && lines.Scan() && !isFooter(lines.Bytes()) {
		var s storedKey
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, domain.Errorf(domain.Invalid, "vault.Restore", "the backup has a line that is no key: %w", err)
		}
		page = append(page, s)
	}
	return page, lines.Err()
}

// insert puts keys in the table, under its lock, and counts what becomes of them.
func (r *Restored) insert(ctx context.Context, tx pgx.Tx, page []storedKey) error {
	subjects, ids, wrapped := columns(page)
	streams, current := make([]string, len(page)), make([]bool, len(page))
	for i, s := range page {
		streams[i], current[i] = subject.Stream(s.Subject), s.Current
	}
	var restored, erased int
	err := tx.QueryRow(ctx, `
		WITH w AS (
			SELECT w.*, EXISTS (SELECT FROM streams s WHERE s.stream = w.stream) -- has a subject.erased
			         OR EXISTS (SELECT FROM subject_keys k WHERE k.subject = w.subject AND k.erased_at IS NOT NULL) AS erased
			  FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::boolean[]) AS w (subject, key_id, wrapped, stream, current)
		), inserted AS (
			INSERT INTO subject_keys (subject, key_id, current, wrapped)
			SELECT subject, key_id, current AND NOT EXISTS (SELECT FROM subject_keys k WHERE k.subject = w.subject AND k.current), wrapped
			  FROM w
			 WHERE NOT erased
			    ON CONFLICT (subject, key_id) DO NOTHING
			RETURNING 1
		)
		SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM w WHERE erased)
	`, subjects, ids, wrapped, streams, current).Scan(&restored, &erased)
	if err != nil {
		return err
	}
	r.Restored += restored
	r.Erased += erased
	r.Present += len(page) - restored - erased
	return nil
}
