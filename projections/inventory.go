package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/edgenode"
	"crossbill/domain/port"
	"crossbill/events"
)

var (
	edgeNodes = familyOf("edge_node", edgenode.Events())
	ports     = familyOf("port", port.Events())
)

func applyInventory(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	inserts := new(pgx.Batch)
	for _, e := range batch {
		nodeID, isNode, err := edgeNodes.id(e)
		if err != nil {
			return err
		}
		portID, isPort, err := ports.id(e)
		if err != nil {
			return err
		}
		if !isNode && !isPort {
			continue
		}
		switch r := e.Event.(type) {
		case edgenode.Registered:
			inserts.Queue(`
				INSERT INTO read_edge_nodes (edge_node_id, position, name, metro, facility, asn, router_id)
				VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				nodeID, e.Position, storable(r.Name), storable(r.Metro), storable(r.Facility), r.ASN, r.RouterID)
		case port.Registered:
			inserts.Queue(`
				INSERT INTO read_ports (port_id, position, edge_node_id, organisation_id, name, interface, capacity_mbps)
				VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				portID, e.Position, r.EdgeNodeID, r.OrganisationID, storable(r.Name), storable(r.Interface), r.CapacityMbps)
		default:
			return unhandled(e)
		}
	}
	if inserts.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, inserts).Close()
}

// EdgeNode is a machine at a point of presence.
type EdgeNode struct {
	ID       string
	Name     string
	Metro    string
	Facility string
	ASN      uint32
	RouterID string // BGP identifier in dotted form
}

// EdgeNode returns one edge node, or a NotFound error.
func (q Queries) EdgeNode(ctx context.Context, id string) (EdgeNode, error) {
	return one(ctx, q.DB, "projections.EdgeNode", "there is no such edge node",
		func(row pgx.CollectableRow) (n EdgeNode, err error) {
			err = row.Scan(&n.ID, &n.Name, &n.Metro, &n.Facility, &n.ASN, &n.RouterID)
			return n, err
		}, `
		SELECT edge_node_id, name, metro, facility, asn, router_id
		FROM read_edge_nodes WHERE edge_node_id = $1`, id)
}

// Port is an organisation's interface on an edge node.
type Port struct {
	ID             string
	EdgeNodeID     string
	OrganisationID string
	Name           string
	Interface      string // its name on the edge node
	CapacityMbps   int    // 10⁶ bits a second
}

const portColumns = `port_id, edge_node_id, organisation_id, name, interface, capacity_mbps`

func scanPort(row pgx.CollectableRow) (p Port, err error) {
	err = row.Scan(&p.ID, &p.EdgeNodeID, &p.OrganisationID, &p.Name, &p.Interface, &p.CapacityMbps)
	return p, err
}

// Port returns one port, or a NotFound error. It does not ask whose it is.
func (q Queries) Port(ctx context.Context, id string) (Port, error) {
	return one(ctx, q.DB, "projections.Port", "there is no such port", scanPort,
		`SELECT `+portColumns+` FROM read_ports WHERE port_id = $1`, id)
}
