package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/edgenode"
	"crossbill/domain/port"
	"crossbill/events"
)

var edgeNodes = folder[edgenode.State]{
	family: familyOf("edge_node", edgenode.Events()),
	evolve: edgenode.Evolve,
	load:   `SELECT edge_node_id, position, version, doc FROM read_edge_nodes WHERE edge_node_id = ANY($1)`,
}

var ports = folder[port.State]{
	family: familyOf("port", port.Events()),
	evolve: port.Evolve,
	load:   `SELECT port_id, position, version, doc FROM read_ports WHERE port_id = ANY($1)`,
}

// applyInventory keeps the locations, the edge nodes and the ports on them.
func applyInventory(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	if err := applyEdgeNodes(ctx, tx, batch); err != nil {
		return err
	}
	if err := applyPorts(ctx, tx, batch); err != nil {
		return err
	}
	return applyLocations(ctx, tx, batch)
}

func applyEdgeNodes(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := edgeNodes.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_edge_nodes (edge_node_id, position, version, doc)
		SELECT id, position, version, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS t (id, position, version, doc)
		ON CONFLICT (edge_node_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, c.docs)
	return err
}

func applyPorts(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := ports.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_ports (port_id, position, version, edge_node_id, organisation_id, doc)
		SELECT id, position, version, edge_node_id, organisation_id, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
			AS t (id, position, version, edge_node_id, organisation_id, doc)
		ON CONFLICT (port_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s port.State) string { return s.EdgeNodeID }),
		each(rows, func(s port.State) string { return s.OrganisationID }),
		c.docs)
	return err
}

// EdgeNode returns one edge node, or a NotFound error.
func (q Queries) EdgeNode(ctx context.Context, id string) (edgenode.State, error) {
	return oneDoc[edgenode.State](ctx, q.DB, "projections.EdgeNode", "there is no such edge node",
		`SELECT position, doc FROM read_edge_nodes WHERE edge_node_id = $1`, id)
}

// Port returns one port, or a NotFound error. It does not ask whose it is: the state says so.
func (q Queries) Port(ctx context.Context, id string) (port.State, error) {
	return oneDoc[port.State](ctx, q.DB, "projections.Port", "there is no such port",
		`SELECT position, doc FROM read_ports WHERE port_id = $1`, id)
}

// PortsOf returns a page of the viewer's ports, newest first, and the token of the next page ("" at the end). It returns
// an Invalid error for a limit or a token that is none.
func (q Queries) PortsOf(ctx context.Context, viewer Viewer, limit int, token string) ([]port.State, string, error) {
	const op = "projections.PortsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	p, err := listOf("ports", viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[port.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_ports -- read_ports_position_key
			WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	return docsPage[port.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_ports -- read_ports_organisation
		WHERE organisation_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}
