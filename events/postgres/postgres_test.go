package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// childEnv makes this test binary start a server of the data directory it names, say so, and wait to be killed.
const childEnv = "CROSSBILL_POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		s, err := Start(context.Background(), Options{DataDir: dir})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("ready", s.URL)
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, url string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM kept`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func requireNothingLeft(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		pids, err := leftOver(filepath.Join(dir, clusterDir))
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("postgres processes %v are left", pids)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tempDir is a data directory that the server's account can reach without help.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStopAndSecondStart(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, dir)
	exec1(t, s.URL, `CREATE TABLE kept AS SELECT 1`)

	var e *domain.Error
	if _, err := Start(t.Context(), Options{DataDir: dir}); !errors.As(err, &e) || e.Code != domain.Unavailable || e.Hint == "" {
		t.Fatalf("a second server of the same directory: %v", err)
	}
	if !strings.Contains(e.Message, strconv.Itoa(os.Getpid())) {
		t.Errorf("the message does not name the owner: %s", e.Message)
	}

	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	requireNothingLeft(t, dir)
	if _, err := os.Stat(filepath.Join(dir, clusterDir, "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("not a clean stop: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
	if n := count(t, start(t, dir).URL); n != 1 {
		t.Errorf("%d rows after a restart", n)
	}
}

// TestParentKilled kills the owner with SIGKILL: its server has to go with it and the next start has to find everything
// that was committed.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	child, url := startChild(t, dir)
	exec1(t, url, `CREATE TABLE kept AS SELECT 1`)
	busy(t, url)
	child.Process.Kill()
	child.Wait()
	requireNothingLeft(t, dir)
	if n := count(t, start(t, dir).URL); n != 1 {
		t.Errorf("%d rows after the owner was killed", n)
	}
}

// TestPostmasterKilled kills the postmaster alone, with a session at work that does not notice.
func TestPostmasterKilled(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, dir)
	exec1(t, s.URL, `CREATE TABLE kept AS SELECT 1`)
	busy(t, s.URL)
	syscall.Kill(s.process.pid, syscall.SIGKILL)
	select {
	case <-s.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("Done does not tell that the server has gone")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	requireNothingLeft(t, dir)
	if n := count(t, start(t, dir).URL); n != 1 {
		t.Errorf("%d rows after the postmaster was killed", n)
	}
}

// TestLeftOver starts where both the owner and its server are gone but for a session, and where a stale postmaster.pid
// has the number of a live process that has nothing to do with it.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	child, url := startChild(t, dir)
	exec1(t, url, `CREATE TABLE kept AS SELECT 1`)
	busy(t, url)
	pidFile := filepath.Join(dir, clusterDir, "postmaster.pid")
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(b), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	// A stopped postmaster takes no notice of its owner's death: what a hung one looks like to the next start.
	syscall.Kill(postmaster, syscall.SIGSTOP)
	child.Process.Kill()
	child.Wait()
	if pids, err := leftOver(filepath.Join(dir, clusterDir)); err != nil || len(pids) < 2 {
		t.Fatalf("left over: %v, %v", pids, err)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n%s", other.Process.Pid, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := count(t, start(t, dir).URL); n != 1 {
		t.Errorf("%d rows", n)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process that was no postgres was stopped: %v", err)
	}
}

// TestHalfMadeCluster starts where initdb was cut off.
// TestReleasedWhileAProgramStarts: between fork and exec a child has the owner's files, the lock among them.
func TestReleasedWhileAProgramStarts(t *testing.T) {
	t.Parallel()
	d, err := openDataDir(Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := d.lock()
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	(&Server{dir: d, lock: lock}).release()
	again, err := d.lock()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestHalfMadeCluster(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.MkdirAll(filepath.Join(dir, clusterDir, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(clusterDir, "PG_VERSION"), initMarker} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("15\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exec1(t, start(t, dir).URL, `SELECT 1`)
}

// TestClosedParent puts the data directory under one that only root may enter, as /root is.
func TestClosedParent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server under another account")
	}
	parent := tempDir(t)
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "a", "data")
	s, err := Start(t.Context(), Options{DataDir: dir})
	if err != nil {
		var e *domain.Error
		if !errors.Is(err, syscall.EPERM) || !errors.As(err, &e) || !strings.Contains(e.Message, parent) || e.Hint == "" {
			t.Fatal(err)
		}
		t.Skipf("this machine allows no mount namespaces, and the error says so: %v", err)
	}
	exec1(t, s.URL, `CREATE TABLE kept AS SELECT 1`)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, start(t, dir).URL); n != 1 {
		t.Errorf("%d rows", n)
	}
	if info, err := os.Stat(parent); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the parent's mode was changed: %v %v", info.Mode(), err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), parent) {
		t.Errorf("the way shows outside the server's namespace (%v)", err)
	}
}

// TestLongPath has a data directory whose path is longer than a socket's may be.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long", 30))
	s := start(t, dir)
	exec1(t, s.URL, `SELECT 1`)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.socketDir); !os.IsNotExist(err) {
		t.Errorf("the socket's directory is left: %v", err)
	}
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{DataDir: tempDir(t), BinDir: t.TempDir()})
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.NotFound || !strings.Contains(e.Hint, InstallHint) {
		t.Errorf("error %v", err)
	}
	if _, err := findBinaries("", "9"); domain.CodeOf(err) != domain.NotFound || !strings.Contains(err.Error(), "postgresql-9") {
		t.Errorf("a cluster of a version that is not installed: %v", err)
	}
}

func TestNotRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this process is not root")
	}
	dir := tempDir(t)
	s := start(t, dir)
	info, err := os.Stat(fmt.Sprintf("/proc/%d", s.process.pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the server runs as root")
	}
	if info, err := os.Stat(filepath.Join(dir, clusterDir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may enter the cluster: %v %v", info.Mode(), err)
	}
	if _, err := Start(t.Context(), Options{DataDir: tempDir(t), Account: "root"}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("the account root: %v", err)
	}
}

// startChild runs this test binary as the owner of a server.
func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("the child said %q (%v)", line, err)
	}
	return child, url
}

// busy leaves a session computing, which looks at nothing while it does.
func busy(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	go conn.Exec(context.Background(), `SELECT count(*) FROM generate_series(1, 1000000000) a`)
	time.Sleep(100 * time.Millisecond)
}
