package provisioning

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
)

// Beside is what stands beside a connection in its redundancy groups, as it was read.
type Beside struct {
	connectionID, joining string
	held                  []heldInGroup
	Groups                []Group
}

// Group is a redundancy group with the members beside a connection.
type Group struct {
	ID, Diversity string
	Others        []redundancygroup.Neighbour
}

// heldInGroup is one thing that a member of a group has, or is to have: a port (kind vlan) or an edge node (kind tag). Of the
// connection itself it is also what version it has: one that ended meanwhile must not join, or nothing would free its place.
type heldInGroup struct{ Group, Diversity, Connection, Kind, Scope string }

// ReadBeside reads what stands beside a connection in all redundancy groups that it is in, and in one that it is to join ("" for
// none). A decision on it is held to with [Beside.Stands].
func ReadBeside(ctx context.Context, pool *pgxpool.Pool, log *events.Log, connectionID, joining string) (Beside, error) {
	b := Beside{connectionID: connectionID, joining: joining}
	var err error
	if b.held, err = heldBeside(ctx, pool, connectionID, joining); err != nil {
		return b, err
	}
	for _, h := range b.held { // in order of group and connection
		if h.Connection == connectionID {
			continue
		}
		if n := len(b.Groups); n == 0 || b.Groups[n-1].ID != h.Group {
			b.Groups = append(b.Groups, Group{ID: h.Group, Diversity: h.Diversity})
		}
		g := &b.Groups[len(b.Groups)-1]
		if n := len(g.Others); n == 0 || g.Others[n-1].ConnectionID != h.Connection {
			g.Others = append(g.Others, redundancygroup.Neighbour{ConnectionID: h.Connection})
		}
		other := &g.Others[len(g.Others)-1]
		if h.Kind == reservedVLAN {
			other.Ports = append(other.Ports, h.Scope)
			continue
		}
		node, _, err := events.Load(ctx, log, edgenode.Stream(h.Scope), edgenode.Evolve)
		if err != nil {
			return b, err
		}
		other.EdgeNodes, other.Locations = append(other.EdgeNodes, h.Scope), append(other.Locations, node.Building())
	}
	return b, nil
}

// Of returns the members beside the connection in one of its groups.
func (b Beside) Of(groupID string) []redundancygroup.Neighbour {
	for _, g := range b.Groups {
		if g.ID == groupID {
			return g.Others
		}
	}
	return nil
}

// heldBeside lists what a connection holds and its version, and what all other members of its groups do: what is reserved for them, also for a
// build that they leave, or what they were ordered on before anything is.
func heldBeside(ctx context.Context, db querier, connectionID, joining string) ([]heldInGroup, error) {
	const op = "provisioning.heldBeside"
	rows, err := db.Query(ctx, `
		SELECT group_id, diversity, connection_id, kind, scope FROM (
			SELECT m.group_id, m.diversity, m.connection_id, h.kind, h.scope
			  FROM redundancy_members AS m CROSS JOIN LATERAL (
				SELECT kind, scope FROM reservations WHERE owner = m.connection_id -- reservations_owner
				UNION
				SELECT kind, scope FROM (VALUES ('vlan', m.port_id), ('vlan', m.provider_port_id), ('tag', m.edge_node_id)) AS ordered (kind, scope)
				 WHERE NOT EXISTS (SELECT FROM reservations WHERE owner = m.connection_id)) AS h
			 WHERE m.connection_id <> $1 -- primary key
			   AND m.group_id IN (SELECT group_id FROM redundancy_members WHERE connection_id = $1 UNION ALL SELECT $2) -- redundancy_members_connection
			UNION
			SELECT '', '', owner, kind, scope FROM reservations WHERE owner = $1
			UNION
			SELECT '', '', $1, 'version', version::text FROM streams WHERE stream = $3 -- primary key
		) AS held ORDER BY 1, 3, 4, 5`, connectionID, joining, connection.Stream(connectionID))
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, op, "what redundancy groups hold can't be read: %w", err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowToStructByPos[heldInGroup])
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, op, "what redundancy groups hold can't be read: %w", err)
	}
	return held, nil
}

// Stands returns a Conflict unless all is as it was read. tx is a flush of the log and holds its head row, and whatever
// changes this is written in such a one.
func (b Beside) Stands(ctx context.Context, tx pgx.Tx) error {
	held, err := heldBeside(ctx, tx, b.connectionID, b.joining)
	if err != nil {
		return err
	}
	if !slices.Equal(held, b.held) {
		return domain.Errorf(domain.Conflict, "provisioning.Stands", "the connection %s or a redundancy group of it has changed just now", b.connectionID).
			WithHint("send the request again")
	}
	return nil
}

// Join records in tx that a connection is in a redundancy group, in the append that says so.
func (b Beside) Join(diversity string, m redundancygroup.Member) func(ctx context.Context, tx pgx.Tx) error {
	return Both(b.Stands, func(ctx context.Context, tx pgx.Tx) error {
		const insert = `
			INSERT INTO redundancy_members (group_id, connection_id, diversity, port_id, provider_port_id, edge_node_id)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`
		if _, err := tx.Exec(ctx, insert, b.joining, m.ConnectionID, diversity, m.PortID, m.ProviderPortID, m.EdgeNodeID); err != nil {
			return domain.Errorf(domain.Unavailable, "provisioning.Join", "the member could not be recorded: %w", err)
		}
		return nil
	})
}

// LeaveGroup records in tx that a connection is in a redundancy group no more.
func LeaveGroup(groupID, connectionID string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		const remove = `DELETE FROM redundancy_members WHERE group_id = $1 AND connection_id = $2` // primary key
		if _, err := tx.Exec(ctx, remove, groupID, connectionID); err != nil {
			return domain.Errorf(domain.Unavailable, "provisioning.LeaveGroup", "the member could not be removed: %w", err)
		}
		return nil
	}
}

// Crowded returns in an operator's words why a connection may not be somewhere: another one of one of its groups is there, goes
// there, or has not left yet. "" if it may.
func (b Beside) Crowded(m redundancygroup.Member) string {
	for _, g := range b.Groups {
		for _, other := range g.Others {
			if _, what := redundancygroup.Shared(g.Diversity, m, other); what != "" {
				return fmt.Sprintf("the connection %s of the redundancy group %s is on the same %s", other.ConnectionID, g.ID, what)
			}
		}
	}
	return ""
}

// crowded is what a saga makes of it. Which connection it is, is the customer's to know.
func (b Beside) crowded(at site) (why obstacle) {
	detail := b.Crowded(redundancygroup.Member{ConnectionID: b.connectionID, PortID: at.a.ID, ProviderPortID: at.z.ID, EdgeNodeID: at.node.ID, Location: at.node.Building()})
	if detail == "" {
		return obstacle{}
	}
	return obstacle{"it would not be kept apart there from another connection of the customer's", detail}
}
