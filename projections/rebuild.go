package projections

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
)

// Limits of a rebuild. Two batches are in memory at once: one is read while the other is applied.
const (
	rebuildBatch  = 2000    // events in one transaction
	rebuildBytes  = 4 << 20 // payload in one transaction, unless one event has more; Apply may need many times as much
	firstBatch    = 16      // before it is known how large events are
	maxRounds     = 20      // after the log that grew meanwhile; then the rest is applied while the projection waits
	closePatience = 10 * time.Second
)

// RebuildOptions are what a rebuild needs. The log is only read.
type RebuildOptions struct {
	Pool *pgxpool.Pool
	Log  *events.Log
	// Progress, if set, is told after each batch how much of the log is applied, and how much there is to apply.
	Progress func(done, target events.Position)
}

// Rebuild makes a projection's tables anew from the log's first event and puts them in the place of those in use. It
// returns the position at which it did.
//
// It builds in a schema of its own, so that Apply's SQL runs there as it is, and the projection runs on meanwhile. Then
// one transaction holds the projection's checkpoint, drops the tables in use, moves the new ones to their place, and sets
// the checkpoint to where they are. Whoever reads sees all of the old or all of the new, in one statement and in one
// snapshot; nobody waits longer than [lockPatience] for it. Whatever ends a rebuild early leaves the tables in use as they
// are, and at worst the schema, which the next one drops.
//
// Errors: Invalid for a projection that can't be rebuilt, or a database user who may not; Conflict while another process
// rebuilds or verifies it, and if a migration changed its tables; Internal, caused by [events.ErrUndecodable], at an event
// that this version of the program does not know; Unavailable if the database can't be used, or if others' transactions
// last so long that the tables can't be exchanged.
func Rebuild(ctx context.Context, p Projection, o RebuildOptions) (events.Position, error) {
	const op = "projections.Rebuild"
	b, err := openBuild(ctx, p, o)
	if err != nil {
		return 0, failed(op, p, err)
	}
	defer b.close(ctx)
	if err := b.catchUp(ctx, b.head); err != nil {
		return 0, failed(op, p, err)
	}
	if err := b.analyse(ctx); err != nil {
		return 0, failed(op, p, err)
	}
	if err := b.swap(ctx); err != nil {
		return 0, failed(op, p, err)
	}
	return b.position, nil
}

// build is a rebuild under way: tables in a schema of their own, and how much of the log is in them.
type build struct {
	RebuildOptions
	projection Projection
	// conn holds the advisory lock that makes this the only build of the projection, and writes its tables. The lock
	// lasts exactly as long as the connection.
	conn     *pgx.Conn
	live     string   // the schema of the tables in use, quoted
	schema   string   // the schema of this build, quoted
	tables   []string // quoted
	begin    string   // begins a transaction in which names mean this build's tables, and no others
	position events.Position
}

// openBuild makes the build's schema and empty tables.
func openBuild(ctx context.Context, p Projection, o RebuildOptions) (_ *build, err error) {
	const op = "projections.Rebuild"
	if len(p.Tables) == 0 {
		return nil, domain.Errorf(domain.Invalid, op, "the projection %s can't be rebuilt: what it does is not kept in tables of its own, and would be done again", p.Name).
			WithHint("it goes on from its checkpoint whenever a node runs")
	}
	conn, err := pgx.ConnectConfig(ctx, o.Pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	b := &build{RebuildOptions: o, projection: p, conn: conn}
	defer func() {
		if err != nil {
			b.close(ctx)
		}
	}()
	if err := b.claim(ctx); err != nil {
		return nil, err
	}
	return b, b.createTables(ctx)
}

// close drops what the build made, unless it is in use by now. A context that has ended must not keep it from that; it
// has closed the connection, though, and then another one gets the lock when the server has noticed.
func (b *build) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	if b.schema != "" && b.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, b.Pool.Config().ConnConfig)
		if err != nil {
			return // the next build drops it
		}
		b.conn = conn
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1, hashtext($2))`, buildLock, b.schema); err != nil {
			b.schema = "" // the next build is there already
		}
	}
	if b.schema != "" {
		b.conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+b.schema+` CASCADE`)
		b.conn.Exec(ctx, `SELECT pg_advisory_unlock($1, hashtext($2))`, buildLock, b.schema)
	}
	b.conn.Close(ctx)
}

// head is the goal of a rebuild: the end of the log, even if the projection has stopped before it.
func (b *build) head(ctx context.Context) (events.Position, error) {
	head, err := b.Log.Head(ctx)
	return head.Position, err
}

// checkpoint is the goal of a verification: as far as the tables in use are.
func (b *build) checkpoint(ctx context.Context) (events.Position, error) {
	return checkpointOf(ctx, b.conn, b.projection.Name)
}

// checkpointOf returns how far the tables in use are, as db sees them; 0 if the projection was never run.
func checkpointOf(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, name string) (position events.Position, err error) {
	err = db.QueryRow(ctx, `SELECT position FROM subscriptions WHERE name = $1`, name).Scan(&position) // primary key
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return position, err
}

// catchUp follows a goal that moves on while it is pursued, until less than a batch is missing.
func (b *build) catchUp(ctx context.Context, goal func(context.Context) (events.Position, error)) error {
	for range maxRounds {
		target, err := goal(ctx)
		if err != nil {
			return err
		}
		behind := target - b.position
		if err := b.buildTo(ctx, target); err != nil {
			return err
		}
		if behind <= rebuildBatch {
			break
		}
	}
	return nil
}

// buildTo applies the log up to target, and no event past it.
func (b *build) buildTo(ctx context.Context, target events.Position) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	parts, end := make(chan []events.Recorded), make(chan error, 1)
	reading.Go(func() { end <- b.read(ctx, b.position, target, parts) })
	for {
		select {
		case part := <-parts:
			if err := b.apply(ctx, part); err != nil {
				return err
			}
			b.position = part[len(part)-1].Position
			if b.Progress != nil {
				b.Progress(b.position, target)
			}
		case err := <-end:
			return err
		}
	}
}

// read hands over the events past after, up to target, in parts of bounded size. All have been taken when it returns nil.
func (b *build) read(ctx context.Context, after, target events.Position, parts chan<- []events.Recorded) error {
	for limit := events.Position(firstBatch); after < target; {
		page, err := b.Log.ReadAll(ctx, after, int(min(limit, target-after)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return domain.Errorf(domain.Internal, "projections.Rebuild", "the log ends at position %d and not at %d", after, target).
				WithHint("verify the log: crossbill log verify")
		}
		after = page[len(page)-1].Position
		count := 0
		for len(page) > 0 {
			n := firstPart(page)
			select {
			case parts <- page[:n:n]:
			case <-ctx.Done():
				return ctx.Err()
			}
			page, count = page[n:], count+1
		}
		limit = min(2*limit, rebuildBatch)
		if count > 1 { // the next page is to be one part, as far as events are alike
			limit = max(1, limit/events.Position(2*count))
		}
	}
	return nil
}

// firstPart returns how many of the events go into one transaction.
func firstPart(page []events.Recorded) (n int) {
	for size := 0; n < len(page); n++ {
		if size += len(page[n].Data); size > rebuildBytes && n > 0 {
			break
		}
	}
	return n
}

// apply is the transaction of a batch. Its commit does not wait for the disk: a build does not survive a crash anyhow.
func (b *build) apply(ctx context.Context, part []events.Recorded) error {
	tx, err := b.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: b.begin})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := b.projection.call(ctx, tx, part); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// failed gives an error that has none a code. What the database says of the tables is a defect, or a matter of rights;
// what it says of itself passes.
func failed(op string, p Projection, err error) error {
	var e *domain.Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42501": // insufficient_privilege
		return domain.Errorf(domain.Invalid, op, "the database user may not rebuild %s: %w", p.Name, err).
			WithHint("it must own the tables and have the right to create schemas: GRANT CREATE ON DATABASE")
	case errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "42"): // data, constraints, names
		return domain.Errorf(domain.Internal, op, "the projection %s can't be built from this log: %w", p.Name, err).
			WithHint("the tables in use are as they were; run a version of crossbill in which this is mended")
	}
	return domain.Errorf(domain.Unavailable, op, "the projection %s was not rebuilt: %w", p.Name, err).
		WithHint("the tables in use are as they were; try again")
}
