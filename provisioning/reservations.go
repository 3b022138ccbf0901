package provisioning

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
)

// Kinds of reservations, as in migrations/0020_reservations.sql.
const (
	reservedVLAN = "vlan"
	reservedTag  = "tag"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Reservation is something scarce that a connection holds.
type Reservation struct {
	Kind   string // "vlan" or "tag"
	Scope  string // the port of a VLAN, the edge node of a tag
	Number int
	Owner  string // the connection
	Mbps   int    // taken from the port's capacity
}

// claims are the numbers that jobs of this process have chosen and may not have reserved yet: a crowd of orders would otherwise choose
// the same ones, and all but one of them do it again. Other processes do not know of them; the reservation decides.
type claims struct {
	mu   sync.Mutex
	held map[number]*claim
}

// number is one of a scope's numbers, such as a port's VLANs.
type number struct {
	kind, scope string
	n           int
}

// claim is what one job has chosen. Whoever makes one releases it.
type claim struct {
	of   *claims
	held []number
}

func (c *claim) release() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	for _, n := range c.held {
		delete(c.of.held, n)
	}
	c.held = nil
}

// hold adds a number to the claim. The caller has the lock.
func (c *claim) hold(n number) int {
	c.of.held[n] = c
	c.held = append(c.held, n)
	return n.n
}

// firstFree chooses the (skip+1)-th free number of a scope in [lowest, highest] that is in no claim, and claims it. When all are
// claimed it is one of another's, who may yet not get it; ok is false when none is left. Sagas that lost a race skip further
// than the winners did, so that a crowd needs few rounds.
func (c *claim) firstFree(ctx context.Context, db querier, kind, scope string, lowest, highest, skip int) (chosen int, ok bool, err error) {
	c.of.mu.Lock()
	most := skip + 1 + len(c.of.held)
	c.of.mu.Unlock()
	// So many free ones are among the first that are as many more than there are rows. The anti-join reads these by the primary key.
	const query = `
		SELECT n FROM generate_series($3::integer, least($4, $3 + $5 - 1 + (SELECT count(*) FROM reservations WHERE kind = $1 AND scope = $2))::integer) AS n
		WHERE NOT EXISTS (SELECT FROM reservations r WHERE r.kind = $1 AND r.scope = $2 AND r.number = n)
		ORDER BY n LIMIT $5`
	rows, err := db.Query(ctx, query, kind, scope, lowest, highest, most)
	var free []int
	if err == nil {
		free, err = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	if err != nil {
		return 0, false, domain.Errorf(domain.Unavailable, "provisioning.firstFree", "the reservations could not be read: %w", err)
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	contested := 0
	for _, n := range free {
		switch c.of.held[number{kind, scope, n}] {
		case nil:
			if chosen, ok = n, true; skip == 0 {
				return c.hold(number{kind, scope, chosen}), true, nil
			}
			skip--
		case c:
		default:
			contested = n
		}
	}
	if ok {
		return c.hold(number{kind, scope, chosen}), true, nil
	}
	return contested, contested != 0, nil
}

// portLoad returns the bandwidth that live connections hold on a port.
func portLoad(ctx context.Context, db querier, portID string) (mbps int64, err error) {
	// By the primary key: kind and scope lead it.
	err = db.QueryRow(ctx, `SELECT coalesce(sum(mbps), 0) FROM reservations WHERE kind = $1 AND scope = $2`,
		reservedVLAN, portID).Scan(&mbps)
	return mbps, err
}

// reserve records in tx what the allocation gives away. It returns a Conflict when somebody else has any of it by now,
// or when a port's capacity would be passed: the caller looks again at what is free.
//
// The sum is safe without a lock of its own: tx is a flush of the log and holds the log's head row, so that no other
// reservation is written between the sum and the commit.
func reserve(ctx context.Context, tx pgx.Tx, owner string, got built) error {
	const op = "provisioning.reserve"
	wanted := []Reservation{
		{reservedTag, got.EdgeNodeID, got.Tag, owner, 0},
		{reservedVLAN, got.A.PortID, got.A.VLAN, owner, got.mbps[0]},
		{reservedVLAN, got.Z.PortID, got.Z.VLAN, owner, got.mbps[1]},
	}
	for _, w := range wanted {
		const insert = `
			INSERT INTO reservations (kind, scope, number, owner, mbps) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (kind, scope, number) DO NOTHING`
		tag, err := tx.Exec(ctx, insert, w.Kind, w.Scope, w.Number, w.Owner, w.Mbps)
		if err != nil {
			return domain.Errorf(domain.Unavailable, op, "the reservation failed: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return domain.Errorf(domain.Conflict, op, "%s %d of %s is taken", w.Kind, w.Number, w.Scope)
		}
		if w.Kind != reservedVLAN {
			continue
		}
		load, err := portLoad(ctx, tx, w.Scope)
		if err != nil {
			return domain.Errorf(domain.Unavailable, op, "the port's load could not be read: %w", err)
		}
		if load > int64(got.capacity[w.Scope]) {
			return domain.Errorf(domain.Conflict, op, "%s has no capacity left", w.Scope)
		}
	}
	return nil
}

// hold sets in tx what the connection takes of its ports' bandwidth. With capacity it returns a Conflict when a port's
// would be passed.
func hold(ctx context.Context, tx pgx.Tx, connectionID string, mbps int, capacity map[string]int) error {
	const op = "provisioning.hold"
	const update = `UPDATE reservations SET mbps = $3 WHERE owner = $1 AND kind = $2` // index reservations_owner
	if _, err := tx.Exec(ctx, update, connectionID, reservedVLAN, mbps); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the reservation failed: %w", err)
	}
	for portID, most := range capacity {
		load, err := portLoad(ctx, tx, portID)
		if err != nil {
			return domain.Errorf(domain.Unavailable, op, "the port's load could not be read: %w", err)
		}
		if load > int64(most) {
			return domain.Errorf(domain.Conflict, op, "%s has no capacity left", portID)
		}
	}
	return nil
}

// releaseBuild gives back in tx what a connection holds for a build that it has no more.
func releaseBuild(ctx context.Context, tx pgx.Tx, connectionID string, gone connection.Build) error {
	const remove = `
		DELETE FROM reservations WHERE owner = $1 -- primary key
		   AND (kind, scope, number) IN (($2, $3, $4::integer), ($5, $6, $7::integer), ($5, $8, $9::integer))`
	_, err := tx.Exec(ctx, remove, connectionID, reservedTag, gone.EdgeNodeID, gone.Tag, reservedVLAN, gone.A.PortID, gone.A.VLAN, gone.Z.PortID, gone.Z.VLAN)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.releaseBuild", "the release failed: %w", err)
	}
	return nil
}

// release gives back in tx all that the connection holds, its places in redundancy groups too: it has ended.
func release(ctx context.Context, tx pgx.Tx, connectionID string) error {
	for _, remove := range []string{
		`DELETE FROM reservations WHERE owner = $1`,               // index reservations_owner
		`DELETE FROM redundancy_members WHERE connection_id = $1`, // index redundancy_members_connection
	} {
		if _, err := tx.Exec(ctx, remove, connectionID); err != nil {
			return domain.Errorf(domain.Unavailable, "provisioning.release", "the release failed: %w", err)
		}
	}
	return nil
}

// reservations lists what is held, by owner; all of it if owner is empty.
func reservations(ctx context.Context, db querier, owner string) ([]Reservation, error) {
	rows, err := db.Query(ctx, `
		SELECT kind, scope, number, owner, mbps FROM reservations
		WHERE $1 = '' OR owner = $1
		ORDER BY owner, kind, scope, number`, owner)
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "provisioning.reservations", "the reservations could not be read: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Reservation])
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "provisioning.reservations", "the reservations could not be read: %w", err)
	}
	return found, nil
}
