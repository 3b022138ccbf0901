package projections

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
)

// family is the event types that live in one category of streams, "<category>-<id>".
type family struct {
	category string
	types    map[string]bool
}

func familyOf(category string, all []domain.Event, except ...domain.Event) family {
	f := family{category, make(map[string]bool, len(all))}
	for _, e := range all {
		f.types[e.EventType()] = true
	}
	for _, e := range except {
		delete(f.types, e.EventType())
	}
	return f
}

// id returns the aggregate's id if the event is of this family. What belongs to another family is left alone. What
// belongs to none stops the projection, because a skipped fact would be missing for good: an event that did not decode,
// and one whose type and stream are not of the same family.
func (f family) id(e events.Recorded) (id string, ours bool, err error) {
	const op = "projections.family.id"
	if e.Event == nil {
		return "", false, domain.Errorf(domain.Internal, op, "event %d (%s) has not been decoded", e.Position, e.Type).
			WithHint("run a version of crossbill that knows this event type")
	}
	category, id, _ := strings.Cut(e.Stream, "-")
	ours = category == f.category
	if f.types[e.Event.EventType()] != ours {
		return "", false, domain.Errorf(domain.Internal, op, "event %d has the type %s, which has no place in stream %s",
			e.Position, e.Event.EventType(), e.Stream).WithHint("run a version of crossbill that knows it there")
	}
	return id, ours, nil
}

// unhandled stops a projection at an event that its family has and its switch has not: a new type must be decided on
// here, even if only to be passed over by name.
func unhandled(e events.Recorded) error {
	return domain.Errorf(domain.Internal, "projections.unhandled", "event %d in stream %s is a %T, for which this read model has no rule",
		e.Position, e.Stream, e.Event)
}

// folded is one aggregate's row: how far its stream is folded, and into what.
type folded[S any] struct {
	id       string
	position int64 // of the event that made the row
	version  int64
	state    S
}

// folder folds the events of one family into states, a batch at a time.
type folder[S any] struct {
	family
	evolve func(S, domain.Event) S
	// load selects (id, position, version, doc) of the ids in $1.
	load string
	// step, if set, sees each event with the state before and after it.
	step func(e events.Recorded, before, after S)
}

// fold reads the rows that the batch touches, once, and returns them evolved, in order of id. Nothing is written.
func (f folder[S]) fold(ctx context.Context, tx pgx.Tx, batch []events.Recorded) ([]*folded[S], error) {
	const op = "projections.fold"
	ids := make([]string, len(batch)) // "" where the event is not ours
	touched := make(map[string]*folded[S])
	for i, e := range batch {
		id, ours, err := f.id(e)
		if err != nil {
			return nil, err
		}
		if ours {
			ids[i] = id
			touched[id] = nil
		}
	}
	if len(touched) == 0 {
		return nil, nil
	}
	if err := f.loadInto(ctx, tx, touched); err != nil {
		return nil, err
	}
	for i, e := range batch {
		if ids[i] == "" {
			continue
		}
		row := touched[ids[i]]
		if row == nil {
			row = &folded[S]{id: ids[i], position: int64(e.Position)}
			touched[ids[i]] = row
		}
		if e.Version != row.version+1 {
			return nil, domain.Errorf(domain.Internal, op, "event %d is version %d of %s, of which %d versions are folded",
				e.Position, e.Version, e.Stream, row.version).WithHint("rebuild the projection from the log")
		}
		after := f.evolve(row.state, e.Event)
		if f.step != nil {
			f.step(e, row.state, after)
		}
		row.state, row.version = after, e.Version
	}
	rows := make([]*folded[S], 0, len(touched))
	for _, row := range touched {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b *folded[S]) int { return strings.Compare(a.id, b.id) })
	return rows, nil
}

func (f folder[S]) loadInto(ctx context.Context, tx pgx.Tx, touched map[string]*folded[S]) error {
	ids := make([]string, 0, len(touched))
	for id := range touched {
		ids = append(ids, id)
	}
	found, err := tx.Query(ctx, f.load, ids)
	if err != nil {
		return err
	}
	for found.Next() {
		row := new(folded[S])
		var doc []byte
		if err := found.Scan(&row.id, &row.position, &row.version, &doc); err != nil {
			return err
		}
		if err := json.Unmarshal(doc, &row.state); err != nil {
			return broken("projections.fold", err)
		}
		touched[row.id] = row
	}
	return found.Err()
}

// columns are the values of rows that are written in one statement: the arrays that its unnest takes.
type columns struct {
	ids       []string
	positions []int64
	versions  []int64
	docs      []string
}

func columnsOf[S any](rows []*folded[S]) (columns, error) {
	var c columns
	for _, row := range rows {
		doc, err := json.Marshal(row.state)
		if err != nil {
			return c, domain.Errorf(domain.Internal, "projections.columnsOf", "%s has no JSON: %w", row.id, err)
		}
		c.ids = append(c.ids, row.id)
		c.positions = append(c.positions, row.position)
		c.versions = append(c.versions, row.version)
		c.docs = append(c.docs, string(doc))
	}
	return c, nil
}

// each maps rows to one column.
func each[S, T any](rows []*folded[S], column func(S) T) []T {
	values := make([]T, len(rows))
	for i, row := range rows {
		values[i] = column(row.state)
	}
	return values
}

// storable is s without NUL, the one character that PostgreSQL's text cannot hold. It is for columns that are searched;
// the document keeps what was written.
func storable(s string) string { return strings.ReplaceAll(s, "\x00", "") }
