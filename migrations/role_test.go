package migrations_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/events/postgres"
	"crossbill/migrations"
)

// TestOrdinaryUsers migrates as users who are no superusers, on a server of its own, since roles are the server's: one who
// may make neither roles nor be given them, one for whom somebody made the role before, and one with CREATEROLE.
func TestOrdinaryUsers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "crossbill-roles-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the server's account has to pass through
		t.Fatal(err)
	}
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop(context.Background()) })
	admin, err := pgx.Connect(ctx, server.URLFor("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	// migrate applies the migrations as a new user with a database of its own, and reads as the role of callers.
	migrate := func(user, rights string) error {
		t.Helper()
		exec(fmt.Sprintf(`CREATE ROLE %s LOGIN NOSUPERUSER %s`, user, rights))
		if strings.HasPrefix(user, "granted") {
			exec(`CREATE ROLE crossbill_tenant NOLOGIN`)
			exec(`GRANT crossbill_tenant TO ` + user)
		}
		exec(fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, user, user))
		config, err := pgxpool.ParseConfig(server.URLFor(user))
		if err != nil {
			t.Fatal(err)
		}
		config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error { // the server trusts its owner's account alone
			_, err := c.Exec(ctx, `SET SESSION AUTHORIZATION `+user)
			return err
		}
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := migrations.Apply(ctx, pool); err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL ROLE crossbill_tenant`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `SELECT FROM events, read_orders`)
			return err
		})
	}
	err = migrate("plain", "NOCREATEROLE")
	if err == nil || !strings.Contains(err.Error(), "may not make the role crossbill_tenant") {
		t.Errorf("a user without the right was told: %v", err)
	}
	if err := migrate("maker", "CREATEROLE"); err != nil {
		t.Errorf("with CREATEROLE: %v", err)
	}
	exec(`DROP DATABASE maker`)
	exec(`DROP ROLE crossbill_tenant`)
	if err := migrate("granted", "NOCREATEROLE"); err != nil {
		t.Errorf("with the role made before: %v", err)
	}
	if err := migrate("second", "CREATEROLE"); err != nil {
		t.Errorf("with CREATEROLE beside another database: %v", err)
	}
}
