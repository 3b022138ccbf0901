package projections

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/events"
)

// Listed is how a follower of the log is doing as its row tells, whichever process runs it.
type Listed struct {
	Name     string
	Position events.Position
	Lag      events.Position // events that it has not handled yet
	State    State           // Stopped, Retrying, Behind, Current or NeverRun
	Error    string          // why it does not go on; "" while it does
	Updated  time.Time       // when it last moved, UTC; zero if it never ran
}

// States that are told by the row alone.
const (
	Current  State = "current" // it is at the end of the log
	Behind   State = "behind"
	NeverRun State = "never run"
)

// List returns all followers of the log, those of the given projections and every other that has a checkpoint, by name.
// It returns an Unavailable error if the database can't be read.
func List(ctx context.Context, db Database, all []Projection) ([]Listed, error) {
	const op = "projections.List"
	rows, err := db.Query(ctx, `
		SELECT s.name, s.position, h.position - s.position, coalesce(s.error, ''), s.updated_at
		  FROM subscriptions AS s, log_head AS h WHERE h.log = 'main'
		UNION ALL
		SELECT n, 0, h.position, '', NULL
		  FROM unnest($1::text[]) AS n, log_head AS h
		 WHERE h.log = 'main' AND NOT EXISTS (SELECT FROM subscriptions WHERE name = n) -- primary key
	`, namesOf(all))
	if err != nil {
		return nil, unavailable(op, err)
	}
	listed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Listed, err error) {
		var updated *time.Time
		if err := row.Scan(&l.Name, &l.Position, &l.Lag, &l.Error, &updated); err != nil {
			return l, err
		}
		if updated != nil {
			l.Updated = updated.UTC()
		}
		l.State, l.Error = stateOf(l.Lag, l.Error, updated != nil)
		return l, nil
	})
	slices.SortFunc(listed, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return listed, unavailable(op, err)
}

func namesOf(all []Projection) []string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name
	}
	return names
}

// noteOf is what a row keeps of an error, and stateOf reads: what state it came to, and the error.
func noteOf(state State, err error) string { return string(state) + ": " + err.Error() }

func stateOf(lag events.Position, note string, ran bool) (State, string) {
	for _, failed := range []State{Stopped, Retrying} {
		if text, ok := strings.CutPrefix(note, string(failed)+": "); ok {
			return failed, text
		}
	}
	switch {
	case note != "": // written by a program that said no state
		return Retrying, note
	case !ran:
		return NeverRun, ""
	case lag > 0:
		return Behind, ""
	}
	return Current, ""
}
