package projections

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/events"
)

const availabilityModel = "availability"

// MaxInterruptions is how many interruptions of one connection a month can be measured with: a session that is lost and comes
// back every few seconds.
const MaxInterruptions = 1_000_000

var availabilities = folder[availability.State]{
	family: familyOf("connection", connection.Events()),
	evolve: availability.Evolve,
	load:   `SELECT connection_id, position, version, doc FROM read_availability WHERE connection_id = ANY($1)`,
}

// applyAvailability keeps what keeps connections from being up, from their own events and from the silences of their edge
// nodes. A silence is every connection's on its node, so what comes before it in the batch is written first.
func applyAvailability(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	from := 0
	for n, e := range batch {
		id, ours, err := edgeNodes.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		switch e.Event.(type) {
		case edgenode.Registered:
			continue
		case edgenode.FellSilent, edgenode.Heard:
		default:
			return unhandled(e)
		}
		if err := foldAvailability(ctx, tx, batch[from:n]); err != nil {
			return err
		}
		if err := foldSilence(ctx, tx, id, e.Event); err != nil {
			return err
		}
		from = n + 1
	}
	return foldAvailability(ctx, tx, batch[from:])
}

func foldAvailability(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := availabilities.fold(ctx, tx, batch)
	if err != nil {
		return err
	}
	return writeAvailability(ctx, tx, rows)
}

// foldSilence folds an event of an edge node into every connection on it.
func foldSilence(ctx context.Context, tx pgx.Tx, edgeNodeID string, e domain.Event) error {
	found, err := tx.Query(ctx, `
		SELECT connection_id, position, version, doc FROM read_availability -- read_availability_edge_node
		WHERE edge_node_id = $1 ORDER BY connection_id`, edgeNodeID)
	if err != nil {
		return err
	}
	rows, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (*folded[availability.State], error) {
		f := new(folded[availability.State])
		var doc []byte
		if err := row.Scan(&f.id, &f.position, &f.version, &doc); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(doc, &f.state); err != nil {
			return nil, broken("projections.foldSilence", err)
		}
		f.state = availability.Evolve(f.state, e)
		return f, nil
	})
	if err != nil {
		return err
	}
	return writeAvailability(ctx, tx, rows)
}

func writeAvailability(ctx context.Context, tx pgx.Tx, rows []*folded[availability.State]) error {
	if len(rows) == 0 {
		return nil
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_availability (connection_id, position, version, customer_id, provider_id, edge_node_id, down_since, doc)
		SELECT id, position, version, customer_id, provider_id, nullif(edge_node_id, ''), down_since, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
			AS t (id, position, version, customer_id, provider_id, edge_node_id, down_since, doc)
		ON CONFLICT (connection_id) DO UPDATE SET
			version = EXCLUDED.version, edge_node_id = EXCLUDED.edge_node_id, down_since = EXCLUDED.down_since, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(s availability.State) string { return s.Connection.CustomerID }),
		each(rows, func(s availability.State) string { return s.Connection.ProviderID }),
		each(rows, availability.State.EdgeNodeID),
		each(rows, availability.State.DownSince),
		c.docs)
	if err != nil {
		return err
	}
	var ids, customers, providers, conditions []string
	var from, to []time.Time
	for _, row := range rows {
		for _, i := range row.state.Ended {
			ids, customers, providers = append(ids, row.id), append(customers, row.state.Connection.CustomerID), append(providers, row.state.Connection.ProviderID)
			conditions, from, to = append(conditions, i.Condition), append(from, i.From), append(to, i.To)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_interruptions (connection_id, customer_id, provider_id, condition, from_at, to_at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])`,
		ids, customers, providers, conditions, from, to)
	return err
}

// Availability measures a month of a connection up to a time. Nothing is in scope of a connection that the viewer may not see,
// or that there is not.
func (q Queries) Availability(ctx context.Context, connectionID string, month availability.Month, until time.Time) (availability.Report, error) {
	const op = "projections.Availability"
	// One statement, hence one snapshot: an interruption is either in the document or among those that ended.
	rows, err := q.DB.Query(ctx, `
		SELECT doc::text, '', $2::timestamptz, $3::timestamptz FROM read_availability WHERE connection_id = $1 -- primary key
		UNION ALL
		(SELECT '', condition, from_at, to_at FROM read_interruptions -- primary key
		 WHERE connection_id = $1 AND from_at < $3 AND to_at > $2 LIMIT $4)`,
		connectionID, month.From, month.To, MaxInterruptions+1)
	if err != nil {
		return availability.Report{}, unavailable(op, err)
	}
	var state availability.State
	var ended []availability.Interruption
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var doc string
		var i availability.Interruption
		if err := row.Scan(&doc, &i.Condition, &i.From, &i.To); err != nil {
			return struct{}{}, err
		}
		if doc == "" {
			ended = append(ended, i)
			return struct{}{}, nil
		}
		if err := json.NewDecoder(strings.NewReader(doc)).Decode(&state); err != nil {
			return struct{}{}, broken(op, err)
		}
		return struct{}{}, nil
	})
	switch {
	case err != nil:
		return availability.Report{}, unavailable(op, err)
	case len(ended) > MaxInterruptions:
		return availability.Report{}, domain.Errorf(domain.Internal, op, "%s was interrupted more than %d times in %s", connectionID, MaxInterruptions, month).
			WithHint("find out why its sessions come and go")
	}
	return state.Measure(month, ended, until), nil
}

// AvailabilityPosition returns up to where in the log [Queries.Availability] follows. It needs the platform's rights.
func (q Queries) AvailabilityPosition(ctx context.Context) (position events.Position, err error) {
	const op = "projections.AvailabilityPosition"
	rows, err := q.DB.Query(ctx, `SELECT coalesce(max(position), 0) FROM subscriptions WHERE name = $1`, availabilityModel) // primary key
	if err != nil {
		return 0, unavailable(op, err)
	}
	position, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[events.Position])
	return position, unavailable(op, err)
}

// DownConnections returns, in order of their ids, the connections after another that were down in any of [from, to), or may
// have been: those that had ended by then, or were suspended, are among them.
func (q Queries) DownConnections(ctx context.Context, from, to time.Time, after string, limit int) ([]string, error) {
	const op = "projections.DownConnections"
	rows, err := q.DB.Query(ctx, `
		SELECT connection_id FROM (
			SELECT connection_id FROM read_interruptions -- read_interruptions_time
			 WHERE to_at > $1 AND from_at < $2 AND condition = ANY ($5)
			UNION
			SELECT connection_id FROM read_availability WHERE down_since < $2 -- read_availability_down
		) AS down WHERE connection_id > $3 ORDER BY connection_id LIMIT $4`, from, to, after, limit, availability.DownConditions)
	if err != nil {
		return nil, unavailable(op, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, unavailable(op, err)
}
