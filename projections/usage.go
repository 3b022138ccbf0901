package projections

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/reading"
	"crossbill/events"
)

var readings = familyOf("usage", reading.Events())

func applyUsage(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var connections, edgeNodes, sources []string
	var versions, epochs, sequences, bytesIn, bytesOut, packetsIn, packetsOut, droppedIn, droppedOut []int64
	var from, to []time.Time
	var partyOf, parties []string      // pairs: who may see a connection's readings, as their events say
	named := make(map[string][]string) // by connection, the parties that were named last
	for _, e := range batch {
		id, ours, err := readings.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		r, ok := e.Event.(reading.Recorded)
		if !ok {
			return unhandled(e)
		}
		connections = append(connections, id)
		versions = append(versions, e.Version)
		edgeNodes = append(edgeNodes, r.EdgeNodeID)
		epochs = append(epochs, r.Epoch)
		sequences = append(sequences, r.Sequence)
		from = append(from, r.From)
		to = append(to, r.To)
		bytesIn = append(bytesIn, r.BytesIn)
		bytesOut = append(bytesOut, r.BytesOut)
		packetsIn = append(packetsIn, r.PacketsIn)
		packetsOut = append(packetsOut, r.PacketsOut)
		droppedIn = append(droppedIn, r.DroppedIn)
		droppedOut = append(droppedOut, r.DroppedOut)
		sources = append(sources, r.Source)
		if !slices.Equal(named[id], e.Metadata.Parties) {
			named[id] = e.Metadata.Parties
			for _, party := range e.Metadata.Parties {
				partyOf, parties = append(partyOf, id), append(parties, party)
			}
		}
	}
	if len(connections) == 0 {
		return nil
	}
	// One statement writes the readings and adds them up, so the two cannot part. What was there is added before the
	// INSERT and not in its ON CONFLICT arm, because the table's CHECK is made on the proposed row.
	_, err := tx.Exec(ctx, `
		WITH batch AS (
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[],
				$7::timestamptz[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
				$14::text[])
			AS t (connection_id, version, edge_node_id, epoch, sequence, from_at, to_at, bytes_in, bytes_out, packets_in,
				packets_out, dropped_in, dropped_out, source)
		), kept AS (
			INSERT INTO read_readings (connection_id, version, edge_node_id, epoch, sequence, from_at, to_at, bytes_in,
				bytes_out, packets_in, packets_out, dropped_in, dropped_out, source)
			SELECT * FROM batch
		)
		INSERT INTO read_usage (connection_id, readings, bytes_in, bytes_out, last_to, last_version, parties)
		SELECT b.connection_id,
			coalesce(u.readings, 0) + b.readings, coalesce(u.bytes_in, 0) + b.bytes_in,
			coalesce(u.bytes_out, 0) + b.bytes_out, greatest(u.last_to, b.last_to), b.last_version,
			CASE WHEN u.parties @> p.parties COLLATE "C" THEN u.parties -- nearly always, and a set operation a row is dear
				ELSE ARRAY(SELECT unnest(u.parties) UNION SELECT unnest(p.parties) COLLATE "C" ORDER BY 1) END
		FROM (
			SELECT connection_id, count(*) AS readings, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out,
				max(to_at) AS last_to, max(version) AS last_version
			FROM batch GROUP BY connection_id
		) AS b LEFT JOIN read_usage AS u USING (connection_id)
		LEFT JOIN (
			SELECT id AS connection_id, array_agg(party) AS parties
			FROM unnest($15::text[], $16::text[]) AS t (id, party) GROUP BY id
		) AS p USING (connection_id)
		ON CONFLICT (connection_id) DO UPDATE SET
			readings = EXCLUDED.readings, bytes_in = EXCLUDED.bytes_in, bytes_out = EXCLUDED.bytes_out,
			last_to = EXCLUDED.last_to, last_version = EXCLUDED.last_version,
			parties = EXCLUDED.parties`,
		connections, versions, edgeNodes, epochs, sequences, from, to, bytesIn, bytesOut, packetsIn, packetsOut,
		droppedIn, droppedOut, sources, partyOf, parties)
	return err
}

// Usage is what a connection's meter counted: in all, and a page of its readings.
type Usage struct {
	ConnectionID string
	BytesIn      int64 // from the customer into the platform
	BytesOut     int64 // towards the customer
	Readings     int64
	LastTo       time.Time // the end of the newest reading, UTC; zero if there is none
	Items        []Reading
}

// Reading is one reading with its version in the stream of its connection, by which an invoice's evidence names it.
type Reading struct {
	Version int64
	reading.Recorded
}

// Usage returns the connection's totals and a page of its readings in the order they came in, and the token of the next
// page ("" at the end). A connection without readings has totals of 0, be there such a connection or not: the caller
// knows which it has and who may see it. It returns an Invalid error for a limit or a token that is none.
func (q Queries) Usage(ctx context.Context, connectionID string, limit int, token string) (Usage, string, error) {
	const op = "projections.Usage"
	p, err := listOf("usage", connectionID).pageOf(op, limit, token, 0)
	if err != nil {
		return Usage{}, "", err
	}
	usage, lastVersion, err := q.totals(ctx, op, connectionID)
	if err != nil {
		return Usage{}, "", err
	}
	// Readings never change, so those up to the totals' last version are the ones that were added up: the two agree
	// without a snapshot around them.
	rows, err := q.DB.Query(ctx, `
		SELECT version, connection_id, edge_node_id, epoch, sequence, from_at, to_at, bytes_in, bytes_out,
			packets_in, packets_out, dropped_in, dropped_out, source
		FROM read_readings -- read_readings_pkey
		WHERE connection_id = $1 AND version > $2 AND version <= $3
		ORDER BY version LIMIT $4`, connectionID, p.place, lastVersion, p.ask())
	if err != nil {
		return Usage{}, "", unavailable(op, err)
	}
	items, err := pgx.CollectRows(rows, scanReading)
	if err != nil {
		return Usage{}, "", unavailable(op, err)
	}
	usage.Items, token = cut(p, items, func(r Reading) int64 { return r.Version })
	return usage, token, nil
}

func scanReading(row pgx.CollectableRow) (r Reading, err error) {
	err = row.Scan(&r.Version, &r.ConnectionID, &r.EdgeNodeID, &r.Epoch, &r.Sequence, &r.From, &r.To, &r.BytesIn, &r.BytesOut,
		&r.PacketsIn, &r.PacketsOut, &r.DroppedIn, &r.DroppedOut, &r.Source)
	r.From, r.To = r.From.UTC(), r.To.UTC()
	return r, err
}

// totals returns a connection's usage without items, and the version of the last reading that is in it.
func (q Queries) totals(ctx context.Context, op, connectionID string) (usage Usage, lastVersion int64, err error) {
	usage.ConnectionID = connectionID
	rows, err := q.DB.Query(ctx, `
		SELECT readings, bytes_in::text, bytes_out::text, last_to, last_version
		FROM read_usage WHERE connection_id = $1`, connectionID)
	if err != nil {
		return usage, 0, unavailable(op, err)
	}
	var in, out string
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, row.Scan(&usage.Readings, &in, &out, &usage.LastTo, &lastVersion)
	})
	if err != nil || len(found) == 0 {
		return usage, 0, unavailable(op, err)
	}
	usage.LastTo = usage.LastTo.UTC()
	var errIn, errOut error
	usage.BytesIn, errIn = strconv.ParseInt(in, 10, 64)
	usage.BytesOut, errOut = strconv.ParseInt(out, 10, 64)
	if err := errors.Join(errIn, errOut); err != nil {
		return usage, 0, domain.Errorf(domain.Internal, op, "the total of %s does not fit 63 bits: %w", connectionID, err).
			WithHint("look for a reading with an impossible byte count")
	}
	return usage, lastVersion, nil
}
