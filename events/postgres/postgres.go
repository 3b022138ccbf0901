// Package postgres runs a private PostgreSQL server from the binaries on this machine, so that a single binary and a
// data directory are a whole system.
//
// The server listens on a Unix socket only, in a directory nobody else may enter; as root it runs under an unprivileged
// account. One process owns a data directory at a time. The server does not outlive its owner, however that ends, and
// what a crash left behind is cleared up by the next [Start]. The package never touches a server it did not start, nor
// the network, and never removes data. Start reading at [Start].
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
)

// Names inside the server and inside the data directory.
const (
	role        = "crossbill"
	database    = "crossbill"
	port        = "5432" // part of the socket's file name; there is no TCP port
	clusterDir  = "postgres"
	logFile     = "postgres.log"
	lockFile    = "postgres.lock"
	initMarker  = "postgres.initialising"
	socketName  = ".s.PGSQL." + port
	socketsFile = "postgres.socket"
)

// Limits.
const (
	maxConnections   = 300
	maxLogBytes      = 16 << 20         // a longer log is set aside at the next start
	maxRecovery      = 10 * time.Minute // replay of the write-ahead log after a crash
	stopPatience     = 30 * time.Second // for a clean stop; then it is stopped as by a crash
	sweepPatience    = 10 * time.Second
	maxSocketPath    = 100 // bytes; sun_path holds 108 on Linux, 104 on macOS and the BSDs
	readyPoll        = 10 * time.Millisecond
	logTailOnFailure = 2000 // bytes
)

// InstallHint is the command that gives a Debian machine the server binaries.
const InstallHint = "apt-get install -y postgresql"

// Options say where and how the server runs.
type Options struct {
	// DataDir holds the cluster (DataDir/postgres), its log and its lock. It is made if missing. Required.
	DataDir string
	// NoFsync makes commits not survive a crash of the machine. For tests only.
	NoFsync bool
	// Account is who runs the server when this process is root; empty for postgres, or nobody where there is none.
	Account string
	// BinDir is where initdb and postgres are; empty to look for them.
	BinDir string
}

// Server is a running private server.
type Server struct {
	// URL connects to its database as its only role, a superuser.
	URL string

	socketDir string
	dir       dataDir
	process   *process
	lock      *os.File
}

// Start starts the server of a data directory, making the directory's cluster first if there is none, and returns when
// it answers. A server that a dead owner left there is stopped first.
//
// Errors: Unavailable if another process owns the directory or the server does not come up, Invalid if the directory or
// the account can't be used, NotFound (with the install command) if there are no server binaries.
func Start(ctx context.Context, o Options) (*Server, error) {
	const op = "postgres.Start"
	dir, err := openDataDir(o)
	if err != nil {
		return nil, err
	}
	lock, err := dir.lock()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, lock: lock}
	if err := s.start(ctx, o); err != nil {
		s.release()
		var e *domain.Error
		if errors.As(err, &e) {
			return nil, err
		}
		return nil, domain.Errorf(domain.Unavailable, op, "the private PostgreSQL in %s did not start: %w", dir.path, err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, o Options) error {
	if err := s.dir.prepare(); err != nil {
		return err
	}
	if err := sweep(s.dir.cluster, sweepPatience); err != nil {
		return err
	}
	bin, err := findBinaries(o.BinDir, s.dir.clusterMajor())
	if err != nil {
		return err
	}
	if s.socketDir, err = s.dir.openSocketDir(); err != nil {
		return err
	}
	log, err := s.dir.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	s.URL = s.URLFor(database)
	s.process, err = startProcess(ctx, s.dir, bin, s.socketDir, log, o.NoFsync)
	if err != nil {
		return err
	}
	if err := s.waitReady(ctx); err != nil {
		s.process.stop(syscall.SIGQUIT, sweepPatience)
		return err
	}
	return s.createDatabase(ctx)
}

// URLFor returns the URL of another database on the server.
func (s *Server) URLFor(name string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + name}
	u.RawQuery = url.Values{"host": {s.socketDir}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// Done is closed when the server has ended, whether by [Server.Stop] or by itself.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Stop ends the server cleanly: sessions are ended, everything is written, and the data directory is free for the next
// owner. If ctx ends first, or the server takes longer than half a minute, it is stopped as by a crash, which loses
// nothing that was committed. Stopping twice does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.lock == nil {
		return nil
	}
	patience := stopPatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline))
	}
	clean := s.process.stop(syscall.SIGINT, patience)
	if !clean {
		s.process.stop(syscall.SIGQUIT, sweepPatience)
	}
	err := sweep(s.dir.cluster, sweepPatience)
	s.release()
	if err == nil && !clean {
		err = domain.Errorf(domain.Unavailable, "postgres.Stop", "PostgreSQL did not stop in time and was cut off; it recovers at its next start")
	}
	return err
}

// release gives the data directory back.
func (s *Server) release() {
	s.dir.removeSocketDir()
	if s.lock != nil {
		// Closing alone would leave the lock to a program that is just being started: until it is, it has all our files.
		syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		s.lock.Close()
		s.lock = nil
	}
}

// waitReady returns when the server accepts connections, which after a crash is when it has replayed its log.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxRecovery)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URLFor("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.done:
			return domain.Errorf(domain.Unavailable, "postgres.Start", "PostgreSQL ended at once (%v). Its log ends:\n%s", s.process.err, s.dir.logTail()).
				WithHint("the whole log is %s", filepath.Join(s.dir.path, logFile))
		case <-ctx.Done():
			return fmt.Errorf("%w; the last attempt to connect: %w", ctx.Err(), err)
		case <-time.After(readyPoll):
		}
	}
}

func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URLFor("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool // as always on a hot standby, which can't make one
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+database)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42P04" { // duplicate_database
		return nil
	}
	return err
}

// settings are given on the command line, so that a data directory made by an older version gets them too.
func settings(socketDir string, noFsync bool) []string {
	on := map[string]string{
		"listen_addresses":        "",
		"port":                    port,
		"unix_socket_directories": socketDir,
		"unix_socket_permissions": "0700",
		"max_connections":         strconv.Itoa(maxConnections),
		"shared_buffers":          "256MB",
		"max_wal_size":            "4GB", // checkpoints far apart: the log is written in order and without pause
		"jit":                     "off", // our statements are short; compiling them costs more than it saves
		"log_timezone":            "UTC",
		"timezone":                "UTC",
		"cluster_name":            "crossbill",
	}
	if noFsync {
		on["fsync"], on["full_page_writes"], on["synchronous_commit"] = "off", "off", "off"
		on["shared_buffers"], on["autovacuum_naptime"] = "128MB", "10s"
	}
	var args []string
	for name, value := range on {
		args = append(args, "-c", name+"="+value)
	}
	return args
}
