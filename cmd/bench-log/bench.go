package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/postgres"
	"crossbill/migrations"
)

// bench is the server that is measured on.
type bench struct {
	sizes
	server   *postgres.Server
	dir      string
	codec    *events.Codec
	progress io.Writer
}

func openBench(ctx context.Context, s sizes, parent string, progress io.Writer) (_ *bench, err error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return nil, err
	}
	// The server's account has to pass through.
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "server-")
	if err != nil {
		return nil, err
	}
	b := &bench{sizes: s, dir: dir, codec: codec, progress: progress}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if b.server, err = postgres.Start(ctx, postgres.Options{DataDir: dir}); err != nil {
		b.close()
		return nil, err
	}
	if err = b.migrate(ctx); err == nil {
		err = b.describe(ctx)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// describe says what is measured on. It asks the server: what it was told and what it does may differ.
func (b *bench) describe(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.server.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var version, fsync, commit string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')`).
		Scan(&version, &fsync, &commit)
	if err != nil {
		return err
	}
	if fsync != "on" || commit != "on" {
		return fmt.Errorf("the server has fsync %s and synchronous_commit %s: what it measures is not what a log does", fsync, commit)
	}
	b.say("PostgreSQL %s, fsync %s, synchronous_commit %s; %s, %d processors, load %s",
		version, fsync, commit, runtime.Version(), runtime.NumCPU(), load())
	return nil
}

// close stops the server and removes its files.
func (b *bench) close() {
	if b.server != nil {
		b.server.Stop(context.Background())
	}
	os.RemoveAll(b.dir)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// load is the machine's load average over 1, 5 and 15 minutes: what else it did.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); err == nil && len(fields) >= 3 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}

// migrated is the database that the others are copies of.
const migrated = "migrated"

// database makes a migrated database.
func (b *bench) database(ctx context.Context, name string) (*pgxpool.Pool, error) {
	if err := b.create(ctx, name, migrated); err != nil {
		return nil, err
	}
	return pgxpool.New(ctx, b.server.URLFor(name))
}

func (b *bench) migrate(ctx context.Context) error {
	if err := b.create(ctx, migrated, "template1"); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, b.server.URLFor(migrated))
	if err != nil {
		return err
	}
	defer pool.Close()
	return migrations.Apply(ctx, pool)
}

func (b *bench) create(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, b.server.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template)
	return err
}

// testLog is a log in a database of its own.
type testLog struct {
	*events.Log
	pool   *pgxpool.Pool
	source *source
}

func (b *bench) log(ctx context.Context, name string) (*testLog, error) {
	pool, err := b.database(ctx, name)
	if err != nil {
		return nil, err
	}
	log, err := events.Open(ctx, pool, b.codec, events.Options{})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &testLog{log, pool, newSource()}, nil
}

func (l *testLog) close() {
	l.Close()
	l.pool.Close()
}

// head returns the log's last position.
func (l *testLog) head(ctx context.Context) (int64, error) {
	head, err := l.Head(ctx)
	return int64(head.Position), err
}
