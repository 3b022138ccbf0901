// Package vault keeps the keys of persons: texts about a person are encrypted inside events under a key of that person
// alone, so that destroying the key erases the person from a log that never changes.
//
// Keys are in tables apart from the log, each wrapped by a master key that is never in the database. The package never
// logs or returns a key, never makes one for an erased subject, and never goes on using one for longer than [KeepFor]
// after it was destroyed, whichever node destroyed it. It knows nothing of events but their names and ids; events/personal.go
// finds the texts. Start reading at [Vault.ForReading], then seal.go for the encryption, masterkey.go for the master key.
package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// Limits.
const (
	// KeepFor is how long a node may use a key without asking the database again, and so how long after an erasure
	// another node may still read what is erased. It is measured on the node's monotonic clock.
	KeepFor = 5 * time.Second
	// MaxKept is how many subjects' keys a node keeps in memory.
	MaxKept = 10_000
	// maxConnections are the vault's own. It does not take them from the pool: who appends may hold one of that already,
	// and must not wait for another.
	maxConnections = 2
	mintAttempts   = 5
)

// Options are what a vault may be given beside its database and master key.
type Options struct {
	Clock  func() time.Time // nil: time.Now; only spans of it are used
	Logger *slog.Logger     // nil: slog.Default
}

// Vault is one node's access to the keys. It is safe for concurrent use.
type Vault struct {
	pool    *pgxpool.Pool
	source  Source
	options Options

	mu           sync.Mutex
	master       []MasterKey
	young, older map[string]kept // two generations: when the younger is full, the older is dropped
}

// kept is what was found of a subject.
type kept struct {
	*keys
	asked time.Time // before the database was
}

// Open opens the vault of a migrated database. The first time, it takes the source's master key for the vault's, making
// the key if there is none yet.
//
// Errors: Invalid if the source does not have the master key that the vault's keys are wrapped by, or holds no proper
// keys; Unavailable if the database can't be read.
func Open(ctx context.Context, pool *pgxpool.Pool, source Source, o Options) (*Vault, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	config := pool.Config().Copy()
	config.MaxConns, config.MinConns, config.MinIdleConns = maxConnections, 0, 0
	config.ConnConfig.RuntimeParams["application_name"] = "crossbill vault"
	own, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, unavailable("vault.Open", err)
	}
	v := &Vault{pool: own, source: source, options: o, young: make(map[string]kept)}
	if err := v.start(ctx); err != nil {
		own.Close()
		return nil, err
	}
	return v, nil
}

// Close ends the vault's connections and forgets the keys.
func (v *Vault) Close() {
	v.mu.Lock()
	v.young, v.older, v.master = make(map[string]kept), nil, nil
	v.mu.Unlock()
	v.pool.Close()
}

func unavailable(op string, err error) error {
	return domain.Errorf(domain.Unavailable, op, "the key vault can't be reached: %w", err)
}

// start settles which master key the vault has and makes sure that this node has it too.
func (v *Vault) start(ctx context.Context) error {
	const op = "vault.Open"
	id, err := readMasterKeyID(ctx, v.pool)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err := v.source.Load(); errors.Is(err, fs.ErrNotExist) {
			if err := v.source.Create(); err != nil {
				return domain.Errorf(domain.Internal, op, "the master key can't be made: %w", err)
			}
		}
		var master []MasterKey
		if master, err = v.source.Load(); err != nil {
			return noMaster(op, err)
		}
		// Of several nodes that do this at once one is first, and the others must have its key.
		_, err = v.pool.Exec(ctx, `INSERT INTO key_vault (master_key_id) VALUES ($1) ON CONFLICT DO NOTHING`, master[0].id[:])
		if err == nil {
			id, err = readMasterKeyID(ctx, v.pool)
		}
	}
	if err != nil {
		return unavailable(op, err)
	}
	_, err = v.masterKey(id)
	return err
}

func noMaster(op string, err error) error {
	var e *domain.Error
	if errors.As(err, &e) {
		return err
	}
	return domain.Errorf(domain.Invalid, op, "there is no master key: %w", err).
		WithHint("put the file with the master key back, or set %s", MasterKeyVariable)
}

func readMasterKeyID(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (id [8]byte, err error) {
	var raw []byte
	if err := db.QueryRow(ctx, `SELECT master_key_id FROM key_vault`).Scan(&raw); err != nil {
		return id, err
	}
	return [8]byte(raw), nil // the table holds it to 8 bytes
}

// masterKey returns the master key with the id. If this node does not know it, it looks at the source again: somebody may
// have changed the master key since.
func (v *Vault) masterKey(id [8]byte) (MasterKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for again := false; ; again = true {
		for _, k := range v.master {
			if k.id == id {
				return k, nil
			}
		}
		if again {
			return MasterKey{}, domain.Errorf(domain.Invalid, "vault", "the master key %x, which wraps the vault's keys, is not among those this node has", id).
				WithHint("copy the file with the master key from another node or a backup of it, or set %s", MasterKeyVariable)
		}
		master, err := v.source.Load()
		if err != nil {
			return MasterKey{}, noMaster("vault", err)
		}
		v.master = master
	}
}

// ForReading returns the keys there are of the subjects, none of which is named twice. The ring is for the page at hand
// and not to be kept.
// It returns an Unavailable error if the database can't be read, Invalid if the master key is not there.
func (v *Vault) ForReading(ctx context.Context, subjects []string) (Ring, error) {
	ring, missing := v.known(subjects)
	if len(missing) == 0 {
		return ring, nil
	}
	if _, err := v.fetch(ctx, missing, ring); err != nil {
		return nil, err
	}
	return ring, nil
}

// ForWriting is ForReading, and makes keys for the subjects that have none. A subject that is erased gets none:
// [Ring.Erased] tells.
func (v *Vault) ForWriting(ctx context.Context, subjects []string) (Ring, error) {
	ring, missing := v.known(subjects)
	for subject, k := range ring {
		if !k.erased && k.current == nil {
			missing = append(missing, subject)
		}
	}
	for range mintAttempts {
		if len(missing) == 0 {
			return ring, nil
		}
		master, err := v.fetch(ctx, missing, ring)
		if err != nil {
			return nil, err
		}
		missing = slices.DeleteFunc(missing, func(s string) bool { return ring[s].erased || ring[s].current != nil })
		if len(missing) == 0 {
			return ring, nil
		}
		if err := v.mint(ctx, missing, master); err != nil {
			return nil, err
		}
	}
	return nil, domain.Errorf(domain.Unavailable, "vault.ForWriting", "the master key changes all the time").WithHint("try again")
}

// known returns what is kept of the subjects and fresh, and which are not.
func (v *Vault) known(subjects []string) (Ring, []string) {
	ring := make(Ring, len(subjects))
	var missing []string
	now := v.options.Clock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range subjects {
		k, ok := v.young[s]
		if !ok {
			k, ok = v.older[s]
		}
		if !ok || now.Sub(k.asked) >= KeepFor {
			missing = append(missing, s)
			continue
		}
		ring[s] = k.keys
	}
	return ring, missing
}

// keep keeps what was found.
func (v *Vault) keep(ring Ring, subjects []string, asked time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range subjects {
		if len(v.young) >= MaxKept/2 {
			v.older, v.young = v.young, make(map[string]kept)
		}
		delete(v.older, s)
		v.young[s] = kept{ring[s], asked}
	}
}

// Forget makes this node ask again for a subject's keys.
func (v *Vault) Forget(subject string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.young, subject)
	delete(v.older, subject)
}

// fetch reads the subjects' keys into the ring, and returns the master key that wraps them.
//
// A subject whose stream has an event is erased whatever its rows say: rows may have come back from a dump.
func (v *Vault) fetch(ctx context.Context, subjects []string, into Ring) (MasterKey, error) {
	const op = "vault.fetch"
	asked := v.options.Clock()
	found := make(Ring, len(subjects))
	streams := make([]string, len(subjects))
	for i, s := range subjects {
		streams[i] = subject.Stream(s)
		found[s] = &keys{byID: make(map[[8]byte]*subjectKey)}
	}
	rows, _ := v.pool.Query(ctx, `
		SELECT v.master_key_id, w.subject, k.key_id, k.current, k.wrapped,
		       s.stream IS NOT NULL OR k.erased_at IS NOT NULL
		  FROM unnest($1::text[], $2::text[]) AS w (subject, stream)
		 CROSS JOIN key_vault v
		  LEFT JOIN streams s ON s.stream = w.stream -- primary key
		  LEFT JOIN subject_keys k ON k.subject = w.subject -- primary key
	`, subjects, streams)
	var masterID, keyID, wrapped []byte
	var name string
	var current *bool
	var erased bool
	var master MasterKey
	_, err := pgx.ForEachRow(rows, []any{&masterID, &name, &keyID, &current, &wrapped, &erased}, func() (err error) {
		if master.wrap == nil {
			if master, err = v.masterKey([8]byte(masterID)); err != nil {
				return err
			}
		}
		k := found[name]
		k.erased = k.erased || erased
		if erased || keyID == nil {
			return nil
		}
		key, err := master.unwrap(name, [8]byte(keyID), wrapped)
		if err != nil {
			return err
		}
		if k.byID[key.id] = key; *current {
			k.current = key
		}
		return nil
	})
	if err != nil {
		if errors.As(err, new(*domain.Error)) {
			return master, err
		}
		if ctx.Err() != nil {
			return master, ctx.Err()
		}
		return master, unavailable(op, err)
	}
	if master.wrap == nil && len(subjects) > 0 {
		return master, domain.Errorf(domain.Internal, op, "the key vault has no row that says which master key it has").
			WithHint("start a node again: that makes it")
	}
	for _, k := range found {
		if k.erased {
			k.byID, k.current = nil, nil
		}
	}
	maps.Copy(into, found)
	v.keep(found, subjects, asked)
	return master, nil
}

// mint makes keys for subjects that have none. Of several nodes that do it at once, one is first for each subject, and
// none is if the master key has changed: the caller fetches again to see. A key is made before it is used, so an append
// that fails may leave one that nothing is encrypted under.
func (v *Vault) mint(ctx context.Context, subjects []string, master MasterKey) error {
	slices.Sort(subjects) // two nodes lock rows in the same order
	ids, wrapped := make([][]byte, len(subjects)), make([][]byte, len(subjects))
	for i, s := range subjects {
		raw := make([]byte, keySize)
		rand.Read(raw)
		var id [8]byte
		rand.Read(id[:])
		ids[i], wrapped[i] = id[:], master.seal(s, id, raw)
	}
	_, err := v.pool.Exec(ctx, `
		WITH v AS (SELECT master_key_id FROM key_vault FOR SHARE)
		INSERT INTO subject_keys (subject, key_id, current, wrapped)
		SELECT w.subject, w.key_id, true, w.wrapped
		  FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS w (subject, key_id, wrapped), v
		 WHERE v.master_key_id = $4
		 ORDER BY w.subject
		    ON CONFLICT DO NOTHING
	`, subjects, ids, wrapped, master.id[:])
	if err != nil {
		return unavailable("vault.mint", err)
	}
	return nil
}

// wrapPlace authenticates whose key it is, so that keys can't change places.
func wrapPlace(subject string, id [8]byte) []byte {
	return append(append([]byte("crossbill subject key 1"), id[:]...), subject...)
}

// seal wraps a subject's key.
func (m MasterKey) seal(subject string, id [8]byte, raw []byte) []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return m.wrap.Seal(nonce, nonce, raw, wrapPlace(subject, id))
}

// unwrap is the reverse of seal.
func (m MasterKey) unwrap(subject string, id [8]byte, wrapped []byte) (*subjectKey, error) {
	if len(wrapped) < nonceSize+tagSize {
		return nil, domain.Errorf(domain.Internal, "vault.unwrap", "the key %x of %q is damaged", id, subject)
	}
	raw, err := m.wrap.Open(nil, wrapped[:nonceSize], wrapped[nonceSize:], wrapPlace(subject, id))
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "vault.unwrap", "the key %x of %q was changed, or wrapped by another master key than the vault's", id, subject).
			WithHint("restore the keys from a backup: crossbill keys restore")
	}
	return newSubjectKey(id, raw)
}
