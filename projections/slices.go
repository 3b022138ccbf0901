package projections

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
)

// SlicesModel is the name of the read model of which events an organisation may see.
const SlicesModel = "event_slices"

// everybodys is the slice that holds every event: the platform's.
const everybodys = ""

// run is consecutive events of one type in one organisation's slice.
type run struct {
	organisation string
	first, last  int64
	eventType    string
}

// applySlices keeps the runs of each slice. The parties are in the event's metadata, so nothing is decoded or decided.
func applySlices(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	open, err := runsBefore(ctx, tx, batch[0])
	if err != nil {
		return err
	}
	var done []run
	for _, e := range batch {
		for _, organisation := range partiesOf(e) {
			r := open[organisation]
			if r != nil && r.eventType == e.Type && r.last == int64(e.Position)-1 {
				r.last++
				continue
			}
			if r != nil {
				done = append(done, *r)
			}
			open[organisation] = &run{organisation, int64(e.Position), int64(e.Position), e.Type}
		}
	}
	for _, r := range open {
		done = append(done, *r)
	}
	if err := writeRuns(ctx, tx, done); err != nil {
		return err
	}
	return writeHeads(ctx, tx, done)
}

// partiesOf returns whose slices an event is in, each once.
func partiesOf(e events.Recorded) []string {
	parties := append([]string{everybodys}, e.Metadata.Parties...)
	slices.Sort(parties)
	return slices.Compact(parties)
}

// runsBefore returns the runs that an event may go on with: those that end right before it.
func runsBefore(ctx context.Context, tx pgx.Tx, e events.Recorded) (map[string]*run, error) {
	rows, err := tx.Query(ctx, `
		SELECT o, r.first_position, r.last_position, r.type
		  FROM unnest($1::text[]) AS o,
		       LATERAL (SELECT first_position, last_position, type FROM read_event_slices -- primary key
		                 WHERE organisation_id = o ORDER BY first_position DESC LIMIT 1) AS r
		 WHERE r.last_position = $2`, partiesOf(e), int64(e.Position)-1)
	if err != nil {
		return nil, err
	}
	open := make(map[string]*run)
	var r run
	_, err = pgx.ForEachRow(rows, []any{&r.organisation, &r.first, &r.last, &r.eventType}, func() error {
		before := r
		open[r.organisation] = &before
		return nil
	})
	return open, err
}

func writeRuns(ctx context.Context, tx pgx.Tx, runs []run) error {
	slices.SortFunc(runs, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.organisation, b.organisation), cmp.Compare(a.first, b.first))
	})
	var organisations, types []string
	var firsts, lasts []int64
	for _, r := range runs {
		organisations, types = append(organisations, r.organisation), append(types, r.eventType)
		firsts, lasts = append(firsts, r.first), append(lasts, r.last)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_event_slices (organisation_id, first_position, last_position, type)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
		ON CONFLICT (organisation_id, first_position) DO UPDATE SET last_position = EXCLUDED.last_position`,
		organisations, firsts, lasts, types)
	return err
}

func writeHeads(ctx context.Context, tx pgx.Tx, runs []run) error {
	type slice struct{ organisation, eventType string }
	heads := make(map[slice]int64)
	for _, r := range runs {
		key := slice{r.organisation, r.eventType}
		heads[key] = max(heads[key], r.last)
	}
	ordered := slices.SortedFunc(maps.Keys(heads), func(a, b slice) int {
		return cmp.Or(cmp.Compare(a.organisation, b.organisation), cmp.Compare(a.eventType, b.eventType))
	})
	var organisations, types []string
	var positions []int64
	for _, s := range ordered {
		organisations, types, positions = append(organisations, s.organisation), append(types, s.eventType), append(positions, heads[s])
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_event_heads (organisation_id, type, last_position)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
		ON CONFLICT (organisation_id, type) DO UPDATE SET last_position = EXCLUDED.last_position`,
		organisations, types, positions)
	return err
}

// MaxSlicePage is how many positions of a slice are read at once.
const MaxSlicePage = 1000

// Slice returns the positions, in order and past after, of the events that the viewer may see: all, or with types those of
// them. known is how far that is everything there is: no event of the slice between after and known is left out, and of
// what the log has past known nothing is said yet, be it that there are more than limit or that the read model has not
// come to it.
func (q Queries) Slice(ctx context.Context, viewer Viewer, types []string, after events.Position, limit int) (positions []events.Position, known events.Position, err error) {
	const op = "projections.Slice"
	if err := viewer.check(op); err != nil {
		return nil, after, err
	}
	if limit < 1 || limit > MaxSlicePage {
		return nil, after, domain.Errorf(domain.Internal, op, "%d is no number of positions to read; from 1 to %d are allowed", limit, MaxSlicePage)
	}
	slice := viewer.organisation
	if viewer.operator {
		slice = everybodys
	}
	// One statement, hence one snapshot: the runs are exactly those up to the checkpoint.
	const ofAll = `
		SELECT s.position, r.first_position, r.last_position
		  FROM subscriptions AS s -- primary key
		  LEFT JOIN LATERAL (
		       SELECT first_position, last_position FROM read_event_slices -- primary key
		        WHERE organisation_id = $1 AND last_position > $2
		          AND first_position >= coalesce((SELECT max(first_position) FROM read_event_slices WHERE organisation_id = $1 AND first_position <= $2 + 1), 0)
		        ORDER BY first_position LIMIT $3) AS r ON true
		 WHERE s.name = '` + SlicesModel + `' ORDER BY r.first_position`
	const ofTypes = `
		SELECT s.position, r.first_position, r.last_position
		  FROM subscriptions AS s -- primary key
		  LEFT JOIN LATERAL (
		       SELECT t.first_position, t.last_position
		         FROM unnest($4::text[]) AS wanted,
		              LATERAL (SELECT first_position, last_position FROM read_event_slices -- read_event_slices_type
		                        WHERE organisation_id = $1 AND type = wanted AND last_position > $2
		                          AND first_position >= coalesce((SELECT max(first_position) FROM read_event_slices WHERE organisation_id = $1 AND type = wanted AND first_position <= $2 + 1), 0)
		                        ORDER BY first_position LIMIT $3) AS t
		        ORDER BY t.first_position LIMIT $3) AS r ON true
		 WHERE s.name = '` + SlicesModel + `' ORDER BY r.first_position`
	sql, args := ofAll, []any{slice, int64(after), limit}
	if types != nil {
		sql, args = ofTypes, append(args, types)
	}
	rows, err := q.DB.Query(ctx, sql, args...)
	if err != nil {
		return nil, after, unavailable(op, err)
	}
	known = after
	var checkpoint events.Position
	var first, last *events.Position
	_, err = pgx.ForEachRow(rows, []any{&checkpoint, &first, &last}, func() error {
		if first == nil { // there is none
			return nil
		}
		for p := max(*first, after+1); p <= *last && len(positions) < limit; p++ {
			positions = append(positions, p)
		}
		return nil
	})
	if err != nil {
		return nil, after, unavailable(op, err)
	}
	if len(positions) == limit {
		return positions, positions[limit-1], nil
	}
	return positions, max(checkpoint, after), nil
}

// ReadSlice returns the events of [Queries.Slice]. It may return fewer than there are: known tells how far it got.
func (q Queries) ReadSlice(ctx context.Context, log *events.Log, viewer Viewer, types []string, after events.Position, limit int) (page []events.Recorded, known events.Position, err error) {
	positions, known, err := q.Slice(ctx, viewer, types, after, limit)
	if err != nil || len(positions) == 0 {
		return nil, known, err
	}
	if page, err = log.ReadAt(ctx, positions); err != nil {
		return nil, after, err
	}
	if len(page) < len(positions) {
		known = page[len(page)-1].Position
	}
	return page, known, nil
}
