package projections_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// rebuildAll rebuilds every read model.
func (b *bench) rebuildAll() {
	b.Helper()
	for _, p := range projections.All() {
		if _, err := projections.Rebuild(b.Context(), p, projections.RebuildOptions{Pool: b.pool, Log: b.log}); err != nil {
			b.Fatalf("%s: %v", p.Name, err)
		}
	}
}

// catalog is what the database says about the read models' tables, apart from their rows.
func (b *bench) catalog() string {
	b.Helper()
	rows, err := b.pool.Query(b.Context(), `
		SELECT format('index %s: %s', indexname, indexdef) FROM pg_indexes WHERE tablename LIKE 'read\_%'
		UNION ALL
		SELECT format('constraint %s of %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid::regclass::text LIKE 'read\_%'
		UNION ALL
		SELECT format('column %s.%s: %s', table_schema, table_name, c::text) FROM information_schema.columns AS c WHERE table_name LIKE 'read\_%'
		UNION ALL
		SELECT format('table %s: %s %s %s %s', oid::regclass, reloptions, relacl, relrowsecurity, relforcerowsecurity)
		  FROM pg_class WHERE relkind = 'r' AND relname LIKE 'read\_%'
		UNION ALL
		SELECT format('rights on column %s.%s: %s', attrelid::regclass, attname, attacl)
		  FROM pg_attribute WHERE attrelid::regclass::text LIKE 'read\_%' AND attacl IS NOT NULL
		UNION ALL
		SELECT format('policy %s', p::text) FROM pg_policies AS p WHERE tablename LIKE 'read\_%'
		UNION ALL
		SELECT format('schema %s', nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
		ORDER BY 1`)
	if err != nil {
		b.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestRebuild rebuilds the read models from whatever their tables have become, down to the names of their indexes, and
// the projections go on from there.
func TestRebuild(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	role := "reader_" + strings.ToLower(rand.Text()) // roles are the whole server's: one of a killed test may be there
	b.exec(`ALTER TABLE read_orders SET (fillfactor = 77); GRANT SELECT ON read_orders TO PUBLIC;
		CREATE ROLE ` + role + `; GRANT SELECT, UPDATE ON read_ports TO ` + role + ` WITH GRANT OPTION;
		GRANT SELECT (order_id), UPDATE (version) ON read_orders TO ` + role + ` WITH GRANT OPTION;
		ALTER TABLE read_ports FORCE ROW LEVEL SECURITY;
		CREATE POLICY "of two" ON read_ports AS RESTRICTIVE FOR UPDATE TO ` + role + `, crossbill_tenant
			USING (EXISTS (SELECT FROM read_edge_nodes AS n WHERE n.edge_node_id = read_ports.edge_node_id)) WITH CHECK (port_id > 'a');
		CREATE POLICY anybody ON read_orders FOR DELETE USING (version > 7)`)
	t.Cleanup(func() { b.pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	b.recordHistory()
	b.project()
	want, catalog := b.dump(), b.catalog()

	b.exec(`DELETE FROM read_orders WHERE order_id < $1`, id("ord", 4))
	b.exec(`UPDATE read_usage SET bytes_in = bytes_in + 1`)
	b.exec(`TRUNCATE read_connections, read_edge_revisions, read_ports`)
	b.exec(`INSERT INTO read_fee_schedules VALUES ('x', 1, 99999, 1, now())`)
	if b.dump() == want {
		t.Fatal("the tables are as they were")
	}
	b.rebuildAll()
	if got := b.dump(); got != want {
		t.Errorf("a rebuild made other tables:\n%s", firstDifference(want, got))
	}
	if got := b.catalog(); got != catalog {
		t.Errorf("a rebuild left the database different:\n%s", firstDifference(catalog, got))
	}

	var known float64
	if err := b.pool.QueryRow(t.Context(), `SELECT reltuples FROM pg_class WHERE oid = 'read_readings'::regclass`).Scan(&known); err != nil || known <= 0 {
		t.Errorf("the planner takes the new table to have %v rows, %v", known, err)
	}

	before := b.head()
	b.record("order-"+id("ord", 60), placed(60, acme, cloudCo))
	b.record("usage-"+id("con", 3), read(3, 4, 1, 1))
	b.project()
	if b.head() == before || !strings.Contains(b.dump(), id("ord", 60)) {
		t.Error("the projections do not go on after a rebuild")
	}
}

func (b *bench) head() events.Position {
	b.Helper()
	head, err := b.log.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return head.Position
}

// TestRebuild_OnAnotherMachine copies nothing but the log, as rows, and makes everything else from it.
func TestRebuild_OnAnotherMachine(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()

	other := &bench{T: t, pool: pgtest.New(t)}
	copyLog(t, b.pool, other.pool)
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	if other.log, err = events.Open(t.Context(), other.pool, codec, events.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.log.Close)
	other.rebuildAll()
	if want, got := b.dump(), other.dump(); got != want || strings.Count(got, "\n") < 50 {
		t.Errorf("another machine made other tables:\n%s", firstDifference(want, got))
	}
	for _, p := range projections.All() {
		here, err := projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: b.pool, Log: b.log})
		if err != nil {
			t.Fatal(err)
		}
		there, err := projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: other.pool, Log: other.log})
		if err != nil {
			t.Fatal(err)
		}
		if here.Position != there.Position || len(here.Tables) != len(p.Tables) {
			t.Errorf("%s is at %d here and at %d there", p.Name, here.Position, there.Position)
		}
		for i, table := range here.Tables {
			if table != there.Tables[i] || table.Rows == 0 {
				t.Errorf("here %+v, there %+v", table, there.Tables[i])
			}
		}
	}
	// What was appended by one goes on with the other.
	other.record("order-"+id("ord", 70), placed(70, acme, cloudCo))
	other.project()
}

// copyLog copies the log's rows from one migrated database to another.
func copyLog(t *testing.T, from, to *pgxpool.Pool) {
	t.Helper()
	if _, err := to.Exec(t.Context(), `DELETE FROM log_head`); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"events", "streams", "log_head"} {
		rows, err := from.Query(t.Context(), `SELECT * FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		var columns []string
		for _, f := range rows.FieldDescriptions() {
			columns = append(columns, f.Name)
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			t.Fatal(err)
		}
		if n, err := to.CopyFrom(t.Context(), pgx.Identifier{table}, columns, pgx.CopyFromRows(all)); err != nil || n == 0 {
			t.Fatalf("%d rows of %s: %v", n, table, err)
		}
	}
}

// tally is a projection of two tables that have one row an event each. Whoever reads them in one snapshot finds as many
// rows in both as the checkpoint says.
func (k *ticker) tally() projections.Projection {
	for _, table := range []string{"tally_a", "tally_b"} {
		if _, err := k.pool.Exec(k.Context(), `CREATE TABLE IF NOT EXISTS `+table+` (position bigint PRIMARY KEY, n bigint NOT NULL)`); err != nil {
			k.Fatal(err)
		}
	}
	return projections.Projection{Name: "tally", Tables: []string{"tally_a", "tally_b"},
		Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			var positions, numbers []int64
			for _, e := range batch {
				positions = append(positions, int64(e.Position))
				numbers = append(numbers, int64(e.Event.(ticked).N))
			}
			for _, table := range []string{"tally_a", "tally_b"} {
				if _, err := tx.Exec(ctx, `INSERT INTO `+table+` SELECT * FROM unnest($1::bigint[], $2::bigint[])`, positions, numbers); err != nil {
					return err
				}
			}
			return nil
		}}
}

func (k *ticker) rebuild(p projections.Projection) (events.Position, error) {
	return projections.Rebuild(k.Context(), p, projections.RebuildOptions{Pool: k.pool, Log: k.log})
}

// tallied returns how many rows the tables have and how many events the checkpoint says, in one statement.
const tallied = `SELECT (SELECT count(*) FROM tally_a), (SELECT count(*) FROM tally_b), coalesce((SELECT max(position) FROM tally_a), 0),
	(SELECT position FROM subscriptions WHERE name = 'tally')`

func (k *ticker) requireTallied(db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (position int64, ok bool) {
	var a, b, last int64
	if err := db.QueryRow(k.Context(), tallied).Scan(&a, &b, &last, &position); err != nil {
		k.Errorf("a reader was disturbed: %v", err)
		return 0, false
	}
	if a != position || b != position || last != position {
		k.Errorf("%d rows in one table, %d in the other, up to %d, and the checkpoint is %d", a, b, last, position)
		return position, false
	}
	return position, true
}

// TestRebuild_UnderReaders rebuilds again and again while the log grows, the projection runs and readers read, with a
// snapshot for each statement and with one for a whole transaction. Nobody may see a mix of old and new, a gap, or an
// error, and no reader may see the projection go back.
func TestRebuild_UnderReaders(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(3000)
	r, _ := k.run(p)
	k.waitFor(r, 1) // the checkpoint's row is there
	var done atomic.Bool
	var seen atomic.Int64
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for last := int64(0); !done.Load(); seen.Add(1) {
				position, ok := k.requireTallied(k.pool)
				if !ok || position < last {
					t.Errorf("position %d after %d", position, last)
					return
				}
				last = position
			}
		})
	}
	readers.Go(func() {
		for !done.Load() {
			ok := false
			err := pgx.BeginTxFunc(t.Context(), k.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM log_head`); err != nil { // takes the snapshot
					return err
				}
				time.Sleep(20 * time.Millisecond) // in which tables are exchanged
				_, ok = k.requireTallied(tx)
				return nil
			})
			if err != nil || !ok {
				t.Error(err)
				return
			}
			seen.Add(1)
		}
	})
	readers.Go(func() {
		for !done.Load() {
			k.append(20)
		}
	})
	for range 5 {
		if _, err := k.rebuild(p); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	readers.Wait()
	k.waitFor(r, k.append(1))
	k.requireTallied(k.pool)
	if seen.Load() < 50 {
		t.Errorf("only %d reads", seen.Load())
	}
}

// TestRebuild_Alone lets nobody else build, or verify, what is being built.
func TestRebuild_Alone(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(10)
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := p
	slow.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		close(entered)
		<-leave
		return p.Apply(ctx, tx, batch)
	}
	first := make(chan error, 1)
	go func() {
		_, err := k.rebuild(slow)
		first <- err
	}()
	<-entered
	if _, err := k.rebuild(p); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a second rebuild: %v", err)
	}
	if _, err := projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: k.pool, Log: k.log}); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a verification: %v", err)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Error(err)
	}
	k.requireTallied(k.pool)
}

// builds returns the schemas that rebuilds have left.
func (k *ticker) builds() (n int) {
	k.Helper()
	err := k.pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%rebuild%'`).Scan(&n)
	if err != nil {
		k.Fatal(err)
	}
	return n
}

// TestRebuild_CutOff ends rebuilds in every way there is. The tables in use stay as they are, and the next rebuild is not
// hindered by what is left.
func TestRebuild_CutOff(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	last := k.append(5000)
	if at, err := k.rebuild(p); err != nil || at != last { // of a projection that never ran
		t.Fatalf("at %d: %v", at, err)
	}
	k.requireTallied(k.pool)
	for name, c := range map[string]struct {
		cut  func(ctx context.Context, tx pgx.Tx, cancel func()) error
		want func(error) bool
	}{
		"an error": {func(context.Context, pgx.Tx, func()) error { return errors.New("poison") },
			func(err error) bool { return strings.Contains(err.Error(), "events 17 to 48: poison") }},
		"a panic": {func(context.Context, pgx.Tx, func()) error { panic("poison") },
			func(err error) bool { return strings.Contains(err.Error(), "poison") }},
		"a constraint": {func(ctx context.Context, tx pgx.Tx, _ func()) error {
			_, err := tx.Exec(ctx, `INSERT INTO tally_a VALUES (1, 1)`)
			return err
		}, func(err error) bool { return domain.CodeOf(err) == domain.Internal }},
		"another's table": {func(ctx context.Context, tx pgx.Tx, _ func()) error {
			_, err := tx.Exec(ctx, `DELETE FROM ticks`)
			return err
		}, func(err error) bool { return domain.CodeOf(err) == domain.Internal }},
		"a signal": {func(_ context.Context, _ pgx.Tx, cancel func()) error { cancel(); return nil },
			func(err error) bool { return errors.Is(err, context.Canceled) }},
		"a crash": {func(ctx context.Context, tx pgx.Tx, _ func()) error {
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		}, func(err error) bool { return domain.CodeOf(err) == domain.Unavailable }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cutOff, calls := p, 0
		cutOff.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			if calls++; calls == 2 {
				return c.cut(ctx, tx, cancel)
			}
			return p.Apply(ctx, tx, batch)
		}
		_, err := projections.Rebuild(ctx, cutOff, projections.RebuildOptions{Pool: k.pool, Log: k.log})
		cancel()
		if err == nil || !c.want(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if left := k.builds(); left != 0 {
			t.Errorf("%s left %d schemas", name, left)
		}
		k.requireTallied(k.pool)
		if _, err := k.rebuild(p); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		k.requireTallied(k.pool)
	}

	// A process that is killed, or loses the whole server, can't clear up.
	if _, err := k.pool.Exec(t.Context(), `CREATE SCHEMA public_rebuild_tally; CREATE TABLE public_rebuild_tally.tally_a (LIKE tally_a);
		INSERT INTO public_rebuild_tally.tally_a VALUES (1, 1), (1, 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := k.rebuild(p); err != nil {
		t.Errorf("after a killed process: %v", err)
	}
	k.requireTallied(k.pool)
	if left := k.builds(); left != 0 {
		t.Errorf("%d schemas are left", left)
	}
}

// TestRebuild_Refuses what it would do harm to.
func TestRebuild_Refuses(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(10)
	jobs := p
	jobs.Tables = nil
	if _, err := k.rebuild(jobs); domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), "would be done again") {
		t.Errorf("a projection without tables: %v", err)
	}
	absent := p
	absent.Tables = []string{"tally_a", "tally_z"}
	if _, err := k.rebuild(absent); domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "tally_z") {
		t.Errorf("a projection whose table is not there: %v", err)
	}
	for name, ddl := range map[string][2]string{
		"view":    {`CREATE VIEW v AS SELECT * FROM tally_b`, `DROP VIEW v`},
		"trigger": {`CREATE TRIGGER x BEFORE UPDATE ON tally_a FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`, `DROP TRIGGER x ON tally_a`},
		"policy":  {`CREATE TABLE g (a bigint); CREATE POLICY x ON g USING (a > (SELECT count(*) FROM tally_a))`, `DROP TABLE g`},
		"foreign": {`CREATE TABLE f (a bigint CONSTRAINT foreign_x REFERENCES tally_a)`, `DROP TABLE f`},
	} {
		if _, err := k.pool.Exec(t.Context(), ddl[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := k.rebuild(p); domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), name) {
			t.Errorf("a table with a %s: %v", name, err)
		}
		if _, err := k.pool.Exec(t.Context(), ddl[1]); err != nil {
			t.Fatal(err)
		}
	}
	// A migration that comes while the tables are built must not be taken back.
	migrating := p
	migrating.Apply = func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		if _, err := k.pool.Exec(ctx, `ALTER TABLE tally_a ADD COLUMN IF NOT EXISTS m text`); err != nil {
			return err
		}
		return p.Apply(ctx, tx, batch)
	}
	if _, err := k.rebuild(migrating); domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), "column m text") {
		t.Errorf("a migration during a rebuild: %v", err)
	}
	if k.builds() != 0 {
		t.Error("a refused rebuild has left a schema")
	}
}

// TestRebuild_WaitsForSnapshots keeps a transaction open whose snapshot is older than the new tables. The exchange waits
// for it; the projection does not stand still for that long.
func TestRebuild_WaitsForSnapshots(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(100)
	r, _ := k.run(p)
	k.waitFor(r, 100)
	old, err := k.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Rollback(context.Background())
	if _, err := old.Exec(t.Context(), `SELECT count(*) FROM log_head`); err != nil {
		t.Fatal(err)
	}
	rebuilt := make(chan error, 1)
	go func() {
		_, err := k.rebuild(p)
		rebuilt <- err
	}()
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		k.waitFor(r, k.append(10))
	}
	select {
	case err := <-rebuilt:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if position, ok := k.requireTallied(old); !ok || position != 100 {
		t.Errorf("the old snapshot sees position %d", position)
	}
	if err := old.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-rebuilt; err != nil {
		t.Error(err)
	}
	k.waitFor(r, k.append(1))
	k.requireTallied(k.pool)
}

// TestRebuild_Stuck rebuilds a projection that does not go on because its tables are not what they must be, and it goes on.
func TestRebuild_Stuck(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(50)
	r, _ := k.run(p)
	k.waitFor(r, 50)
	if _, err := k.pool.Exec(t.Context(), `INSERT INTO tally_a VALUES (60, 0)`); err != nil { // in the way of event 60
		t.Fatal(err)
	}
	last := k.append(50)
	k.requireNoted("tally", "duplicate key")
	if at, err := k.rebuild(p); err != nil || at != last {
		t.Errorf("at %d: %v", at, err)
	}
	k.waitFor(r, k.append(1))
	k.requireNoted("tally", "")
	k.requireTallied(k.pool)
}

// TestVerify finds every kind of difference, says where, and changes nothing.
func TestVerify(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(3000)
	r, stop := k.run(p)
	k.waitFor(r, 3000)
	stop()
	last := k.append(7) // the projection has not seen these, and that is no difference
	verify := func() (projections.Verified, error) {
		return projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: k.pool, Log: k.log})
	}
	v, err := verify()
	if err != nil || v.Position != 3000 || len(v.Tables) != 2 || v.Tables[0].Rows != 3000 || v.Tables[0].SHA256 != v.Tables[1].SHA256 {
		t.Errorf("%+v, %v; the head is %d", v, err, last)
	}
	for sql, want := range map[string]string{
		`UPDATE tally_b SET n = 7777 WHERE position = 1234`: `tally_b is not what the log up to position 3000 makes it: row 1234 differs from byte 6 on: it is "(1234,7777)", and the log makes it "(1234,1233)"`,
		`DELETE FROM tally_a WHERE position = 3000`:         `it ends before row 3000, and the log makes "(3000,2999)" of that`,
		`INSERT INTO tally_a VALUES (3001, 0)`:              `it has a row 3001, "(3001,0)", and the log makes 3000 rows`,
	} {
		if _, err := k.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		before := k.tables()
		if _, err := verify(); domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
		if k.tables() != before || k.builds() != 0 {
			t.Errorf("%s: the verification changed something", sql)
		}
		if _, err := k.rebuild(p); err != nil {
			t.Fatal(err)
		}
		if _, err := k.pool.Exec(t.Context(), `DELETE FROM tally_a WHERE position > 3000; DELETE FROM tally_b WHERE position > 3000;
			UPDATE subscriptions SET position = 3000 WHERE name = 'tally'`); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := verify(); err != nil || again.Tables[0] != v.Tables[0] {
		t.Errorf("%+v, %v", again, err)
	}
}

// tables is everything that a verification might change.
func (k *ticker) tables() (text string) {
	k.Helper()
	err := k.pool.QueryRow(k.Context(), `
		SELECT concat((SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM tally_a AS t), (SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM tally_b AS t),
			(SELECT string_agg(s::text, ' ' ORDER BY s::text) FROM subscriptions AS s), 'tally_a'::regclass::oid, 'tally_b'::regclass::oid)
	`).Scan(&text)
	if err != nil {
		k.Fatal(err)
	}
	return text
}

// TestVerify_WhileRunning verifies while the projection runs and the log grows.
func TestVerify_WhileRunning(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	p := k.tally()
	k.append(2500)
	k.run(p)
	var done atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() {
		for !done.Load() {
			k.append(20)
		}
	})
	var last events.Position
	for range 3 {
		v, err := projections.Verify(t.Context(), p, projections.RebuildOptions{Pool: k.pool, Log: k.log})
		if err != nil || v.Position < last || v.Tables[0].Rows != int64(v.Position) {
			t.Errorf("%+v, %v", v, err)
		}
		last = v.Position
	}
	done.Store(true)
	writing.Wait()
}

// noisy is an event of any size.
type noisy struct {
	Noise string `json:"noise"`
}

func (noisy) EventType() string { return "test.noisy" }

// TestRebuild_BoundedBatches has events of very different sizes, of which no transaction may get more than it can bear.
func TestRebuild_BoundedBatches(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	k.log = k.open(ticked{}, noisy{})
	k.append(3000)
	for range 9 {
		k.appendTo(k.log, noisy{strings.Repeat("x", 900<<10)})
	}
	last := k.append(3000)
	p, seen, most, largest := k.tally(), events.Position(0), 0, 0
	p.Apply = func(_ context.Context, _ pgx.Tx, batch []events.Recorded) error {
		size := 0
		for _, e := range batch {
			if seen++; e.Position != seen {
				t.Errorf("position %d after %d", e.Position, seen-1)
			}
			size += len(e.Data)
		}
		most, largest = max(most, len(batch)), max(largest, size)
		return nil
	}
	if at, err := k.rebuild(p); err != nil || at != last || seen != last {
		t.Errorf("at %d of %d: %v", at, last, err)
	}
	if most < 1000 || most > 2000 || largest > 4<<20 || largest < 3<<20 {
		t.Errorf("up to %d events and up to %d bytes in a transaction", most, largest)
	}
}
