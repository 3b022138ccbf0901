// Package pgtest gives every test a PostgreSQL database of its own, migrated, in some tens of milliseconds.
//
// With CROSSBILL_TEST_DATABASE_URL set, the databases are made on that server, which several test processes may share.
// Without it the first test of a process starts a private server with fsync off; it ends with the process, however that
// ends, and its files go with it. Each database is a clone of a template that is migrated once per server and version
// of the migrations. It is for tests only. Start reading at [New].
package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/migrations"
)

// URLVariable names the environment variable with the URL of a server to use; its role must be a superuser.
const URLVariable = "CROSSBILL_TEST_DATABASE_URL"

const (
	templatePrefix = "crossbill_template_"
	testPrefix     = "crossbill_test_"
	poolSize       = 10 // connections; the private server has room for some 25 tests at once
	cloneSlots     = 2  // clones made at once: more only queue for the disk
	setUpPatience  = 2 * time.Minute
	dropPatience   = 30 * time.Second
)

// Advisory locks of this package, all in the administrative database: one for making templates, and of two-part locks
// one for each test process that is alive.
const (
	templateLock = 0x70677465 // "pgte"
	processLock  = 0x70677470 // "pgtp"
)

// server is the one server of this test process.
type server struct {
	url   string
	admin *pgxpool.Pool
	tag   int32     // names this process's databases
	alive *pgx.Conn // holds the lock (processLock, tag); never closed but by the end of the process
	slots chan struct{}
	err   error
}

var (
	once    sync.Once
	shared  server
	counter atomic.Int64
)

// New returns a pool on a migrated database that is the test's own. Both are gone when the test has ended.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL returns the URL of a migrated database that is the test's own.
func URL(t testing.TB) string {
	t.Helper()
	once.Do(shared.start)
	if shared.err != nil {
		t.Fatalf("pgtest: %v", shared.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpPatience)
	defer cancel()
	name := fmt.Sprintf("%s%d_%d", testPrefix, shared.tag, counter.Add(1))
	shared.slots <- struct{}{}
	_, err := shared.admin.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, templateName()))
	<-shared.slots
	if err != nil {
		t.Fatalf("pgtest: clone the template: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dropPatience)
		defer cancel()
		if _, err := shared.admin.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("pgtest: drop the database: %v", err)
		}
	})
	return withDatabase(shared.url, name)
}

func templateName() string { return templatePrefix + migrations.Hash() }

func (s *server) start() {
	ctx, cancel := context.WithTimeout(context.Background(), setUpPatience)
	defer cancel()
	s.slots = make(chan struct{}, cloneSlots)
	s.url = os.Getenv(URLVariable)
	if s.url == "" {
		if s.url, s.err = startPrivate(ctx); s.err != nil {
			return
		}
	}
	if s.admin, s.err = pgxpool.New(ctx, s.url); s.err != nil {
		return
	}
	if s.err = s.signOn(ctx); s.err == nil {
		s.err = s.makeTemplate(ctx)
	}
}

// signOn takes this process's lock, on a connection that stays open until the process ends, and drops the databases of
// processes that have lost theirs: tests that were killed could not.
func (s *server) signOn(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	s.alive = conn
	for held := false; !held; {
		s.tag = 1 + rand.Int32N(1<<31-1)
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, processLock, s.tag).Scan(&held); err != nil {
			return fmt.Errorf("sign on: %w", err)
		}
	}
	rows, _ := conn.Query(ctx, `SELECT datname FROM pg_database WHERE datname LIKE $1`, testPrefix+"%")
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, name := range names {
		var tag int32
		var free bool
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, testPrefix), "%d_", &tag); err != nil || tag == s.tag {
			continue
		}
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, processLock, tag).Scan(&free); err != nil {
			return fmt.Errorf("look for abandoned databases: %w", err)
		}
		if !free {
			continue
		}
		if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			return fmt.Errorf("drop an abandoned database: %w", err)
		}
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1, $2)`, processLock, tag); err != nil {
			return fmt.Errorf("drop an abandoned database: %w", err)
		}
	}
	return nil
}

// makeTemplate migrates the template unless another process has. It is built under another name and renamed when it is
// whole, so that a process killed half-way leaves nothing that looks finished.
func (s *server) makeTemplate(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer conn.Close(context.Background()) // which gives the lock back
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, templateLock); err != nil {
		return fmt.Errorf("lock the template: %w", err)
	}
	var exists bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, templateName()).Scan(&exists)
	if err != nil || exists {
		return err
	}
	building := templateName() + "_building"
	for _, sql := range []string{
		`DROP DATABASE IF EXISTS ` + building + ` WITH (FORCE)`,
		`CREATE DATABASE ` + building,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the template: %w", err)
		}
	}
	if err := migrate(ctx, withDatabase(s.url, building)); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `ALTER DATABASE `+building+` RENAME TO `+templateName()); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return migrations.Apply(ctx, pool)
}

// withDatabase returns the URL with another database's name.
func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(fmt.Sprintf("pgtest: %s is no URL: %v", URLVariable, err))
	}
	u.Path = "/" + name
	return u.String()
}
