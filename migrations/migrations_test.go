package migrations_test

import (
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"crossbill/events/pgtest"
	"crossbill/migrations"
)

// TestDownAndUp takes everything back, which must leave nothing, and has several nodes migrate at the same moment.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	relations := func() (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname NOT LIKE 'goose%'
		`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := relations()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if left := relations(); left != 0 || before < 10 {
		t.Fatalf("%d of %d relations are left", left, before)
	}
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			if err := migrations.Apply(t.Context(), pool); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	if after := relations(); after != before {
		t.Errorf("%d relations, and %d the first time", after, before)
	}
}
