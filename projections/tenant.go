package projections

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type viewerKey struct{}

// Viewing returns a context in which a [Door] shows what the viewer may see.
func Viewing(ctx context.Context, v Viewer) context.Context {
	return context.WithValue(ctx, viewerKey{}, v)
}

// Door reads the database as the role crossbill_tenant, on behalf of the viewer of the context ([Viewing]). Row-level
// security then leaves out whatever the viewer may not see (migrations/0060_row_level_security.sql), whichever condition
// the query has forgotten. In a context without a viewer only what everybody may see is found.
type Door struct {
	Pool *pgxpool.Pool
}

// enter makes the rest of its transaction the viewer's. It is one statement, and one round trip together with the query:
// statements that are sent before the client's Sync are one transaction (PostgreSQL: Frontend/Backend Protocol, Pipelining).
//
// Its queries are planned for their own arguments each time: a plan for any words there could be asks the text search for
// none of them, and a search of the market then takes eighty milliseconds instead of twenty.
const enter = `
	SELECT set_config('role', 'crossbill_tenant', true), set_config('crossbill.viewer', $1, true),
	       set_config('plan_cache_mode', 'force_custom_plan', true)`

// asTenant keeps the text of a query apart from that of the same query asked by the platform: a connection caches
// statements by their text, and one that changes roles is planned anew each time.
const asTenant = "/* as crossbill_tenant */ "

// Query runs one query. The rows must be closed, as those of a pool.
func (d Door) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	viewer, _ := ctx.Value(viewerKey{}).(Viewer)
	var batch pgx.Batch
	batch.Queue(enter, viewer.setting())
	batch.Queue(asTenant+sql, args...)
	results := d.Pool.SendBatch(ctx, &batch) // closing them gives the connection back
	if _, err := results.Exec(); err != nil {
		results.Close()
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		results.Close()
		return nil, err
	}
	return &tenantRows{Rows: rows, results: results}, nil
}

// setting is the viewer as the policies know it; "" sees what everybody does.
func (v Viewer) setting() string {
	if v.operator {
		return "operator"
	}
	return v.organisation
}

// tenantRows are rows that end their transaction when they are closed, or read to their end.
type tenantRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *tenantRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *tenantRows) Close() {
	r.Rows.Close()
	if r.results != nil {
		r.err = r.results.Close()
		r.results = nil
	}
}

func (r *tenantRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}
