package projections

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/events"
)

var connectionEvents = familyOf("connection", connection.Events())

// applyConnections keeps every connection, and for each edge node the revision of what it should be: the position of
// the last event that changed its desired state. An event that changes nothing the node is told (a session that came up)
// leaves the revision alone, or every agent would wake for its own reports.
func applyConnections(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	revisions := make(map[string]int64)
	changes := make(map[edgeChange]int64)
	for _, e := range batch {
		id, ours, err := edgeNodes.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		switch e.Event.(type) {
		case edgenode.Registered: // its AS number and router id are part of the desired state
			revisions[id] = int64(e.Position)
		case edgenode.FellSilent, edgenode.Heard: // nothing that it should be
		default:
			return unhandled(e)
		}
	}
	rows, err := folder[connection.State]{
		family: connectionEvents,
		evolve: connection.Evolve,
		load:   `SELECT connection_id, position, version, doc FROM read_connections WHERE connection_id = ANY($1)`,
		step: func(e events.Recorded, before, after connection.State) {
			was, is := desiredOf(before), desiredOf(after)
			for _, d := range slices.Concat(was, is) {
				if !reflect.DeepEqual(on(was, d.EdgeNodeID), on(is, d.EdgeNodeID)) {
					revisions[d.EdgeNodeID] = max(revisions[d.EdgeNodeID], int64(e.Position))
					changes[edgeChange{d.EdgeNodeID, after.ID}] = int64(e.Position)
				}
			}
		},
	}.fold(ctx, tx, batch)
	if err != nil {
		return err
	}
	if err := writeConnections(ctx, tx, rows); err != nil {
		return err
	}
	return errors.Join(writeRevisions(ctx, tx, revisions), writeChanges(ctx, tx, changes))
}

// edgeChange is that what an edge node is told of a connection has changed.
type edgeChange struct{ edgeNodeID, connectionID string }

// desired is what an edge node is told of one connection.
type desired struct {
	connection.Desired
	SettingsA connection.SessionSettings // of a secret it has when it was set: the secret itself is in no read model
	SettingsZ connection.SessionSettings
}

// desiredOf returns what the edge nodes that have to do with the connection are told: of none, one, or two while it is moved.
func desiredOf(s connection.State) []desired {
	var all []desired
	for _, d := range s.Desired() {
		all = append(all, desired{d, s.Settings(connection.SideA), s.Settings(connection.SideZ)})
	}
	return all
}

// on returns what one edge node is told, nil if nothing.
func on(all []desired, edgeNodeID string) *desired {
	for _, d := range all {
		if d.EdgeNodeID == edgeNodeID {
			return &d
		}
	}
	return nil
}

// nthNode returns the nth edge node that has to do with the connection.
func nthNode(n int) func(s connection.State) *string {
	return func(s connection.State) *string {
		if all := s.Desired(); n < len(all) {
			return &all[n].EdgeNodeID
		}
		return nil
	}
}

func writeConnections(ctx context.Context, tx pgx.Tx, rows []*folded[connection.State]) error {
	if len(rows) == 0 {
		return nil
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_connections (connection_id, position, version, customer_id, provider_id, edge_node_id,
			other_edge_node_id, billing_from, billing_to, doc)
		SELECT id, position, version, customer_id, provider_id, edge_node_id, other_edge_node_id, billing_from, billing_to, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
			$8::timestamptz[], $9::timestamptz[], $10::text[])
			AS t (id, position, version, customer_id, provider_id, edge_node_id, other_edge_node_id, billing_from, billing_to, doc)
		ON CONFLICT (connection_id) DO UPDATE SET
			version = EXCLUDED.version, edge_node_id = EXCLUDED.edge_node_id, other_edge_node_id = EXCLUDED.other_edge_node_id,
			billing_from = EXCLUDED.billing_from, billing_to = EXCLUDED.billing_to, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s connection.State) string { return s.CustomerID }),
		each(rows, func(s connection.State) string { return s.ProviderID }),
		each(rows, nthNode(0)),
		each(rows, nthNode(1)),
		each(rows, func(s connection.State) *time.Time { return s.BillingFrom }),
		each(rows, func(s connection.State) *time.Time { return s.BillingTo }),
		c.docs)
	return err
}

func writeRevisions(ctx context.Context, tx pgx.Tx, revisions map[string]int64) error {
	if len(revisions) == 0 {
		return nil
	}
	nodes := keys(revisions)
	positions := make([]int64, len(nodes))
	for i, node := range nodes {
		positions[i] = revisions[node]
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_edge_revisions AS r (edge_node_id, revision, changes_to)
		SELECT node, revision, revision FROM unnest($1::text[], $2::bigint[]) AS t (node, revision)
		ON CONFLICT (edge_node_id) DO UPDATE SET revision = EXCLUDED.revision, changes_to = EXCLUDED.revision,
			changes_from = CASE WHEN r.changes_to = r.revision THEN r.changes_from ELSE EXCLUDED.revision END`, nodes, positions)
	return err
}

func writeChanges(ctx context.Context, tx pgx.Tx, changes map[edgeChange]int64) error {
	if len(changes) == 0 {
		return nil
	}
	var nodes, connections []string
	var positions []int64
	for change, position := range changes {
		nodes, connections, positions = append(nodes, change.edgeNodeID), append(connections, change.connectionID), append(positions, position)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_edge_changes (edge_node_id, connection_id, revision)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
		ON CONFLICT (edge_node_id, connection_id) DO UPDATE SET revision = EXCLUDED.revision`, nodes, connections, positions)
	return err
}

// ConnectionsOf returns a page of the connections that the viewer bought or provides, newest first, and the token of
// the next page ("" at the end); with troubled only those that need an operator. It returns an Invalid error for a limit or a
// token that is none.
func (q Queries) ConnectionsOf(ctx context.Context, viewer Viewer, troubled bool, limit int, token string) ([]connection.State, string, error) {
	const op = "projections.ConnectionsOf"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	filter, name := "", "connections"
	if troubled {
		filter, name = ` AND doc -> 'trouble' ->> 'state' = 'operator'`, "connections in trouble" // read_connections_trouble
	}
	p, err := listOf(name, viewer.key()).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	if viewer.operator {
		return docsPage[connection.State](ctx, q.DB, op, p, `
			SELECT position, doc FROM read_connections -- read_connections_position_key
			WHERE position < $1`+filter+` ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	}
	// A party may be both ends of a connection; the second arm leaves those to the first.
	return docsPage[connection.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM (
			(SELECT position, doc FROM read_connections -- read_connections_customer
			 WHERE customer_id = $1 AND position < $2`+filter+` ORDER BY position DESC LIMIT $3)
			UNION ALL
			(SELECT position, doc FROM read_connections -- read_connections_provider
			 WHERE provider_id = $1 AND customer_id <> $1 AND position < $2`+filter+` ORDER BY position DESC LIMIT $3)
		) AS mine ORDER BY position DESC LIMIT $3`, viewer.organisation, p.place, p.ask())
}

// EdgeState is what an edge node is to be.
type EdgeState struct {
	Revision    events.Position    // of the last event that changed it
	Connections []connection.State // those with a desired phase, in order of id
}

// EdgeState returns the desired state of an edge node, or a NotFound error if there is no such node. One that is no newer than a
// revision comes without its connections, which are not read then; else it is never shown in part: a node that runs more
// connections than one answer may hold (MaxEdgeConnections) is an Internal error.
func (q Queries) EdgeState(ctx context.Context, edgeNodeID string, after events.Position) (EdgeState, error) {
	const op = "projections.EdgeState"
	// One statement, hence one snapshot: a revision never stands beside the connections of another.
	rows, err := q.DB.Query(ctx, `
		SELECT r.revision, c.doc
		FROM read_edge_revisions AS r
		LEFT JOIN LATERAL (
			SELECT connection_id, doc FROM read_connections WHERE edge_node_id = r.edge_node_id AND r.revision > $3 -- read_connections_edge_node
			UNION ALL
			SELECT connection_id, doc FROM read_connections WHERE other_edge_node_id = r.edge_node_id AND r.revision > $3 -- read_connections_other_edge_node
		) AS c ON true
		WHERE r.edge_node_id = $1 ORDER BY c.connection_id LIMIT $2`, edgeNodeID, MaxEdgeConnections+1, after)
	if err != nil {
		return EdgeState{}, unavailable(op, err)
	}
	var state EdgeState
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var doc []byte // null if the node has no connections
		if err := row.Scan(&state.Revision, &doc); err != nil || doc == nil {
			return struct{}{}, err
		}
		var c connection.State
		if err := json.Unmarshal(doc, &c); err != nil {
			return struct{}{}, broken(op, err)
		}
		state.Connections = append(state.Connections, c)
		return struct{}{}, nil
	})
	switch {
	case err != nil:
		return EdgeState{}, unavailable(op, err)
	case state.Revision == 0:
		return EdgeState{}, domain.Errorf(domain.NotFound, op, "there is no such edge node")
	case len(state.Connections) > MaxEdgeConnections:
		return EdgeState{}, domain.Errorf(domain.Internal, op, "%s has more than %d connections", edgeNodeID, MaxEdgeConnections).
			WithHint("move connections to another edge node")
	}
	return state, nil
}

// EdgeChanges is what has changed of what an edge node is to be.
type EdgeChanges struct {
	Revision    events.Position    // of the last event that changed it
	Connections []connection.State // that have changed and are on the node, in order of id
	Gone        []string           // those that are no more, by id, in order
}

// EdgeChanges returns what has changed of an edge node's desired state since a revision, or a NotFound error if there is no such
// node. ok is that it can be told: not to who has a revision that is yet to come, or one from before changes were kept, nor of more
// changes than a node can have connections.
func (q Queries) EdgeChanges(ctx context.Context, edgeNodeID string, since events.Position) (changes EdgeChanges, ok bool, err error) {
	const op = "projections.EdgeChanges"
	// One statement, as in EdgeState. A connection that has moved on is not the node's to see.
	rows, err := q.DB.Query(ctx, `
		SELECT r.revision, r.changes_to = r.revision AND r.changes_from <= $2, d.connection_id, c.doc
		FROM read_edge_revisions AS r
		LEFT JOIN read_edge_changes AS d ON d.edge_node_id = r.edge_node_id AND d.revision > $2 -- read_edge_changes_revision
		LEFT JOIN read_connections AS c ON c.connection_id = d.connection_id AND r.edge_node_id IN (c.edge_node_id, c.other_edge_node_id) -- primary key
		WHERE r.edge_node_id = $1 ORDER BY d.connection_id LIMIT $3`, edgeNodeID, since, MaxEdgeConnections+1)
	if err != nil {
		return changes, false, unavailable(op, err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var id *string // null if nothing has changed
		var doc []byte // null if it is on the node no more
		if err := row.Scan(&changes.Revision, &ok, &id, &doc); err != nil || id == nil {
			return struct{}{}, err
		}
		if doc == nil {
			changes.Gone = append(changes.Gone, *id)
			return struct{}{}, nil
		}
		var c connection.State
		if err := json.Unmarshal(doc, &c); err != nil {
			return struct{}{}, broken(op, err)
		}
		changes.Connections = append(changes.Connections, c)
		return struct{}{}, nil
	})
	switch {
	case err != nil:
		return EdgeChanges{}, false, unavailable(op, err)
	case changes.Revision == 0:
		return EdgeChanges{}, false, domain.Errorf(domain.NotFound, op, "there is no such edge node")
	}
	return changes, ok && since <= changes.Revision && len(changes.Connections)+len(changes.Gone) <= MaxEdgeConnections, nil
}

// MaxEdgeConnections is how many connections one edge node can have: as many as there are tags on it.
const MaxEdgeConnections = 1<<14 - 1

// MaxBillable is how many connections one billing run can bill.
const MaxBillable = 1_000_000

// Billable returns the ids, in order, of the connections whose billing interval meets [start, end). A connection that
// still accrues is billed without an end. It returns an Internal error past MaxBillable rather than leave one unbilled.
func (q Queries) Billable(ctx context.Context, start, end time.Time) ([]string, error) {
	const op = "projections.Billable"
	if !start.Before(end) {
		var problems domain.Problems
		problems.Add("/period_end", "must be after the start")
		return nil, problems.Err(op)
	}
	rows, err := q.DB.Query(ctx, `
		SELECT connection_id FROM read_connections -- read_connections_billing
		WHERE billing_from < $2 AND (billing_to IS NULL OR billing_to > greatest(billing_from, $1))
		ORDER BY connection_id LIMIT $3`, start, end, MaxBillable+1)
	if err != nil {
		return nil, unavailable(op, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, unavailable(op, err)
	}
	if len(ids) > MaxBillable {
		return nil, domain.Errorf(domain.Internal, op, "more than %d connections are to be billed", MaxBillable).
			WithHint("bill a shorter period, or raise MaxBillable")
	}
	return ids, nil
}
