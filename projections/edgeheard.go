package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/edgenode"
	"crossbill/events"
)

// EdgeHeard is what was last heard of an edge node's agent, beside what the node should be.
type EdgeHeard struct {
	EdgeNodeID string
	Desired    events.Position // the revision of what it should be
	At         *time.Time      // nil if its agent never asked or reported
	Kind       *string
	Revision   *int64 // the newest that it said it acts on
}

// EdgeNodes returns a page of the edge nodes, newest first, and the token of the next page.
func (q Queries) EdgeNodes(ctx context.Context, limit int, token string) ([]edgenode.State, string, error) {
	const op = "projections.EdgeNodes"
	p, err := listOf("edge nodes").pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[edgenode.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_edge_nodes WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
}

// EdgeHeard returns what was heard of edge nodes, by id. It needs the platform's rights.
func (q Queries) EdgeHeard(ctx context.Context, nodes []edgenode.State) (map[string]EdgeHeard, error) {
	const op = "projections.EdgeHeard"
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID
	}
	rows, err := q.DB.Query(ctx, `
		SELECT r.edge_node_id, r.revision, h.heard_at, h.kind, h.revision
		FROM read_edge_revisions AS r LEFT JOIN edge_heard AS h USING (edge_node_id)
		WHERE r.edge_node_id = ANY ($1)`, ids) // primary keys
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[EdgeHeard])
	if err != nil {
		return nil, unavailable(op, err)
	}
	byID := make(map[string]EdgeHeard, len(found))
	for _, h := range found {
		byID[h.EdgeNodeID] = h
	}
	return byID, nil
}
