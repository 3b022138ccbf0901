package projections

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// Queries answers from the read models. It never writes, and what it answers is as old as the projections' checkpoints:
// whoever has to see its own write waits for its position first (the runner's WaitFor).
//
// A database error is returned as an Unavailable [domain.Error]: the same question may be answered later.
type Queries struct {
	DB Database
}

// Database is what a query needs of a *pgxpool.Pool, a connection or a transaction.
type Database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Viewer says on whose behalf a list is read. Its zero value may see nothing: a caller that forgets to say who is asking
// gets an error and never everybody's rows.
type Viewer struct {
	organisation string
	operator     bool
}

// Party views what the organisation is a party of.
func Party(organisationID string) Viewer { return Viewer{organisation: organisationID} }

// Node views what the agent of an edge node is told.
func Node(edgeNodeID string) Viewer { return Viewer{organisation: edgeNodeID} }

// Operator views everything.
func Operator() Viewer { return Viewer{operator: true} }

func (v Viewer) check(op string) error {
	if v.operator == (v.organisation != "") {
		return domain.Errorf(domain.Internal, op, "nobody is named as the one who is asking")
	}
	return nil
}

// key tells viewers apart in page tokens.
func (v Viewer) key() string {
	if v.operator {
		return "operator"
	}
	return v.organisation
}

// stored is a row as every list reads it: its place in the list and its document.
type stored[S any] struct {
	place int64
	doc   S
}

// selectDocs runs a query whose rows are (place, doc) and decodes the documents.
func selectDocs[S any](ctx context.Context, db Database, op, sql string, args ...any) ([]stored[S], error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (stored[S], error) {
		var s stored[S]
		var doc []byte
		if err := row.Scan(&s.place, &doc); err != nil {
			return s, err
		}
		if err := json.Unmarshal(doc, &s.doc); err != nil {
			return s, broken(op, err)
		}
		return s, nil
	})
	return found, unavailable(op, err)
}

// docsPage runs the query of one page and cuts the page off what it found.
func docsPage[S any](ctx context.Context, db Database, op string, p page, sql string, args ...any) ([]S, string, error) {
	found, err := selectDocs[S](ctx, db, op, sql, args...)
	if err != nil {
		return nil, "", err
	}
	found, next := cut(p, found, func(s stored[S]) int64 { return s.place })
	docs := make([]S, len(found))
	for i, s := range found {
		docs[i] = s.doc
	}
	return docs, next, nil
}

// oneDoc returns the document of the only row of a query, or a NotFound error with the given message.
func oneDoc[S any](ctx context.Context, db Database, op, missing, sql string, args ...any) (S, error) {
	found, err := selectDocs[S](ctx, db, op, sql, args...)
	if err != nil || len(found) == 0 {
		var zero S
		if err == nil {
			err = domain.Errorf(domain.NotFound, op, "%s", missing)
		}
		return zero, err
	}
	return found[0].doc, nil
}

// unavailable gives a database error the code that says "ask again"; an error that has a code keeps it.
func unavailable(op string, err error) error {
	var e *domain.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return domain.Errorf(domain.Unavailable, op, "the read model cannot be reached: %w", err).WithHint("try again in a moment")
}

// broken is a row that no projection of this version can have written.
func broken(op string, err error) error {
	return domain.Errorf(domain.Internal, op, "a stored document does not decode: %w", err).
		WithHint("rebuild the projection from the log")
}
