package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/events/postgres"
	"crossbill/migrations"
)

// Server is a private PostgreSQL that is measured on.
type Server struct {
	server   *postgres.Server
	dir      string
	progress io.Writer
}

// migrated is the database that the others are copies of.
const migrated = "migrated"

// OpenServer starts a server under a directory, with fsync on, and says to progress what is measured on.
func OpenServer(ctx context.Context, parent string, progress io.Writer) (_ *Server, err error) {
	// The server's account has to pass through.
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "server-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, progress: progress}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if s.server, err = postgres.Start(ctx, postgres.Options{DataDir: dir}); err != nil {
		s.Close()
		return nil, err
	}
	if err = s.migrate(ctx); err == nil {
		err = s.describe(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// describe says what is measured on. It asks the server: what it was told and what it does may differ.
func (s *Server) describe(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.server.URL)
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
	s.Say("PostgreSQL %s, fsync %s, synchronous_commit %s; %s, %d processors, load %s",
		version, fsync, commit, runtime.Version(), runtime.NumCPU(), Load())
	return nil
}

// Close stops the server and removes its files.
func (s *Server) Close() {
	if s.server != nil {
		s.server.Stop(context.Background())
	}
	os.RemoveAll(s.dir)
}

// Say tells people how far a bench is.
func (s *Server) Say(format string, args ...any) { fmt.Fprintf(s.progress, format+"\n", args...) }

// Load is the machine's load average over 1, 5 and 15 minutes: what else it did.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); err == nil && len(fields) >= 3 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}

// Dir is a directory that is removed with the server.
func (s *Server) Dir() string { return s.dir }

// URLFor is how to connect to a database of the server.
func (s *Server) URLFor(name string) string { return s.server.URLFor(name) }

// Database makes a migrated database.
func (s *Server) Database(ctx context.Context, name string) (*pgxpool.Pool, error) {
	if err := s.create(ctx, name, migrated); err != nil {
		return nil, err
	}
	return pgxpool.New(ctx, s.server.URLFor(name))
}

// Copy makes a database that is like another, which nobody may be connected to.
func (s *Server) Copy(ctx context.Context, name, of string) error {
	return s.create(ctx, name, of+" STRATEGY file_copy") // the pages of a large one, not a log of them
}

// Drop removes a database that nobody is connected to.
func (s *Server) Drop(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.server.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `DROP DATABASE `+name)
	return err
}

func (s *Server) migrate(ctx context.Context) error {
	if err := s.create(ctx, migrated, "template1"); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, s.server.URLFor(migrated))
	if err != nil {
		return err
	}
	defer pool.Close()
	return migrations.Apply(ctx, pool)
}

func (s *Server) create(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, s.server.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template)
	return err
}
