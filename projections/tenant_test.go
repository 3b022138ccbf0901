package projections_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/projections"
)

// count counts the rows of a table through the door.
func (b *bench) count(ctx context.Context, d projections.Door, table string) (n int) {
	b.Helper()
	rows, err := d.Query(ctx, `SELECT count(*) FROM `+pgx.Identifier{table}.Sanitize())
	if err != nil {
		b.Fatal(err)
	}
	if n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int]); err != nil {
		b.Fatal(err)
	}
	return n
}

// TestDoor counts what each viewer finds in queries that name nobody: a handler that forgets to can show no more.
func TestDoor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	d := projections.Door{Pool: b.pool}
	all := map[string]int{}
	for _, table := range allTables() {
		var n int
		if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		all[table] = n
	}
	open := map[string]int{"read_listings": 3, "read_listing_prices": 8, "read_locations": 1, "read_fee_schedules": 2}
	viewers := map[string]struct {
		ctx  context.Context
		sees map[string]int
	}{
		"nobody":    {t.Context(), nil},
		"a zero":    {projections.Viewing(t.Context(), projections.Viewer{}), nil},
		"stranger":  {projections.Viewing(t.Context(), projections.Party(stranger)), nil},
		"the word":  {projections.Viewing(t.Context(), projections.Party("")), nil},
		"acme":      {projections.Viewing(t.Context(), projections.Party(acme)), map[string]int{"read_availability": 3, "read_interruptions": 2, "read_orders": 4, "read_connections": 3, "read_usage": 2, "read_readings": 6, "read_invoices": 2, "read_ports": 1}},
		"lakeCo":    {projections.Viewing(t.Context(), projections.Party(lakeCo)), map[string]int{"read_private_listings": 1, "read_private_listing_prices": 2, "read_availability": 4, "read_interruptions": 3, "read_orders": 4, "read_connections": 4, "read_usage": 3, "read_readings": 9, "read_invoices": 2, "read_settlements": 2, "read_ports": 1}},
		"cloudCo":   {projections.Viewing(t.Context(), projections.Party(cloudCo)), map[string]int{"read_own_listings": 5, "read_private_listings": 2, "read_private_listing_prices": 4, "read_availability": 7, "read_interruptions": 5, "read_orders": 8, "read_connections": 7, "read_usage": 5, "read_readings": 15, "read_settlements": 2, "read_ports": 1}},
		"the node":  {projections.Viewing(t.Context(), projections.Node(node)), map[string]int{"read_connections": 5, "read_edge_nodes": 1, "read_edge_revisions": 1, "read_edge_changes": 6}},
		"operators": {projections.Viewing(t.Context(), projections.Operator()), all},
	}
	check := func(when string) {
		for name, v := range viewers {
			for _, table := range allTables() {
				want, isOpen := v.sees[table], open[table] > 0
				if isOpen {
					want = open[table]
				}
				if !isOpen && !knownTable(table) {
					continue // of a slice that has a test of its own
				}
				if got := b.count(v.ctx, d, table); got != want {
					t.Errorf("%s, %s sees %d rows of %s, want %d", when, name, got, table, want)
				}
			}
		}
	}
	check("at first")
	b.rebuildAll()
	check("after a rebuild")
}

// knownTable reports whether the test's history says what is in a table.
func knownTable(table string) bool {
	return strings.Contains(" read_orders read_connections read_usage read_readings read_invoices read_settlements read_ports read_edge_nodes read_edge_revisions read_edge_changes read_availability read_interruptions ", " "+table+" ")
}

// TestDoor_LeavesNoTrace makes sure that a connection is the platform's again after whatever happened to a query.
func TestDoor_LeavesNoTrace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	config := b.pool.Config()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	d := projections.Door{Pool: pool}
	ctx := projections.Viewing(t.Context(), projections.Party(acme))
	who := func(q projections.Database) string {
		t.Helper()
		rows, err := q.Query(ctx, `SELECT current_user || ' ' || coalesce(current_setting('crossbill.viewer', true), '')`)
		if err != nil {
			t.Fatal(err)
		}
		text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := who(d); got != "crossbill_tenant "+acme {
		t.Errorf("inside it is %q", got)
	}
	cancelled, cancel := context.WithCancel(ctx)
	for what, use := range map[string]func(){
		"a success":            func() { who(d) },
		"an error of syntax":   func() { drain(d.Query(ctx, `SELEKT`)) },
		"an error of a row":    func() { drain(d.Query(ctx, `SELECT 1 / (2 - n) FROM generate_series(1, 3) AS n`)) },
		"an error of a right":  func() { drain(d.Query(ctx, `SELECT * FROM subject_keys`)) },
		"a change of the role": func() { drain(d.Query(ctx, `SELECT set_config('work_mem', '1MB', true)`)) },
		"rows half read": func() {
			rows, err := d.Query(ctx, `SELECT n FROM generate_series(1, 100000) AS n`)
			if err != nil || !rows.Next() {
				t.Fatal(err)
			}
			rows.Close()
		},
		"a cancelled query": func() {
			rows, err := d.Query(cancelled, `SELECT n, pg_sleep(0.01) FROM generate_series(1, 1000) AS n`)
			if err == nil {
				cancel()
				for rows.Next() {
				}
				err = rows.Err()
			}
			if err == nil {
				t.Error("a cancelled query has ended well")
			}
		},
	} {
		use()
		if got := who(pool); strings.Contains(got, "crossbill_tenant") || strings.Contains(got, acme) {
			t.Errorf("after %s the connection is %q's", what, got)
		}
		if n := pool.Stat().AcquiredConns(); n != 0 {
			t.Fatalf("after %s %d connections are not given back", what, n)
		}
	}
	cancel()
}

func drain(rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return rows.Err()
}

// TestDoor_OnlyReads tries what a caller's role must not be able to do.
func TestDoor_OnlyReads(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	d := projections.Door{Pool: b.pool}
	ctx := projections.Viewing(t.Context(), projections.Operator()) // who sees everything may still not do this
	for _, sql := range []string{
		`DELETE FROM read_orders RETURNING 1`, `UPDATE read_orders SET version = 0 RETURNING 1`, `SELECT * FROM events_p00000`,
		`SELECT * FROM subject_keys`, `SELECT * FROM idempotency_keys`, `SELECT * FROM streams`, `SELECT * FROM reserved_keys`,
		`CREATE TABLE mine (a int)`, `SELECT position FROM read_orders FOR UPDATE`,
	} {
		if err := drain(d.Query(ctx, sql)); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestDoor_UsesIndexes makes sure that the policies leave the lists their indexes, and call no function for a row.
func TestDoor_UsesIndexes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.pool.Exec(t.Context(), `
		INSERT INTO read_orders SELECT n, n, 1, 'org_' || n % 1000, 'org_' || n % 7, '{}',
			CASE WHEN n % 300 < 5 THEN 'awaiting_provider' ELSE 'completed' END, CASE WHEN n % 300 < 5 THEN 'provider' ELSE '' END, CASE WHEN n % 300 < 5 THEN now() END, 'con_' || n % 5000, n FROM generate_series(1, 20000) AS n; ANALYZE read_orders;
		INSERT INTO read_listings (listing_id, position, provider_id, version, effective_from, category, metro, metro_name, bandwidths_mbps,
				title, description, terms)
			SELECT n, n, 'org_1', 1, now(), 'voice', 'ams', 'AMS', '{100}', 'word' || n, 'text', '{}' FROM generate_series(1, 20000) AS n;
		SELECT gin_clean_pending_list('read_listings_search'); ANALYZE read_listings`); err != nil {
		t.Fatal(err)
	}
	d, ctx := projections.Door{Pool: b.pool}, projections.Viewing(t.Context(), projections.Party("org_5"))
	for index, sql := range map[string]string{
		"read_orders_customer":       `SELECT position, doc FROM read_orders WHERE customer_id = 'org_5' AND position < 10000 ORDER BY position DESC LIMIT 10`,
		"read_orders_provider_needs": `SELECT position, doc FROM read_orders WHERE provider_id = 'org_5' AND position < 20001 AND needs = 'provider' AND needs <> '' ORDER BY position DESC LIMIT 10`,
		"read_orders_connection":     `SELECT order_id, position FROM read_orders WHERE connection_id = 'con_5' AND position > 10 ORDER BY position LIMIT 10`,
		"read_orders_needs":          `SELECT position, doc FROM read_orders WHERE position < 20001 AND needs = 'provider' AND needs <> '' ORDER BY position DESC LIMIT 10`,
		"read_orders_due":            `SELECT position, doc FROM read_orders WHERE position < 20001 AND due < now() ORDER BY position DESC LIMIT 10`,
		"read_orders_pkey":           `SELECT doc FROM read_orders WHERE order_id = '77'`,
		"read_listings_search":       `SELECT listing_id FROM read_listings WHERE search @@ websearch_to_tsquery('english', 'word77')`,
	} {
		rows, err := d.Query(ctx, `EXPLAIN (COSTS OFF) `+sql)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); !strings.Contains(text, index) || strings.Contains(text, "crossbill_sees") {
			t.Errorf("without %s, or with a call for each row:\n%s", index, text)
		}
	}
}

// TestQueriesNameNobody asks every list on behalf of an organisation other than the one it is asked for. The door gives
// nothing, whatever the query's own conditions say.
func TestQueriesNameNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	q := projections.Queries{DB: projections.Door{Pool: b.pool}}
	ctx := projections.Viewing(t.Context(), projections.Party(stranger))
	for _, forgot := range []projections.Viewer{projections.Party(acme), projections.Party(cloudCo), projections.Operator()} {
		orders, _, err1 := q.OrdersOf(ctx, forgot, projections.OrderFilter{}, 10, "")
		connections, _, err2 := q.ConnectionsOf(ctx, forgot, false, 10, "")
		invoices, _, err3 := q.InvoicesOf(ctx, forgot, projections.BookSearch{})
		settlements, _, err4 := q.SettlementsOf(ctx, forgot, projections.BookSearch{})
		usage, _, err5 := q.Usage(ctx, id("con", 5), 10, "")
		if n := len(orders) + len(connections) + len(invoices) + len(settlements) + len(usage.Items); n > 0 || usage.Readings > 0 {
			t.Errorf("a stranger gets %d rows", n)
		}
		if text := fmt.Sprint(err1, err2, err3, err4, err5); strings.Contains(text, ":") {
			t.Error(text)
		}
	}
	if _, err := q.Port(ctx, id("prt", 1)); err == nil {
		t.Error("a stranger sees a port")
	}
	if _, err := q.EdgeState(ctx, node, 0); err == nil {
		t.Error("a stranger sees an edge node's desired state")
	}
	if s, err := q.EdgeState(projections.Viewing(ctx, projections.Node(node)), node, 0); err != nil || len(s.Connections) == 0 {
		t.Errorf("the node sees %d connections, %v", len(s.Connections), err)
	}
}
