package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// childEnv makes this test binary make a database on a server of its own, say where, and wait to be killed.
const childEnv = "CROSSBILL_PGTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		once.Do(shared.start)
		fmt.Println(shared.url, shared.err)
		select {}
	}
	os.Exit(m.Run())
}

func TestEachTestHasItsOwn(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := New(t)
			if _, err := pool.Exec(t.Context(), `INSERT INTO reserved_keys VALUES ('slug', 'same', 'me')`); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM reserved_keys`).Scan(&n); err != nil || n != 1 {
				t.Fatalf("%d rows, %v", n, err)
			}
		})
	}
}

func TestDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("user", func(t *testing.T) {
		config, err := pgx.ParseConfig(URL(t))
		if err != nil {
			t.Fatal(err)
		}
		name = config.Database
	})
	var exists bool
	err := shared.admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists)
	if err != nil || exists || name == "" {
		t.Errorf("%q exists %t, %v", name, exists, err)
	}
}

// TestAbandoned leaves a database as a killed process does; the next process to sign on removes it, and not the
// databases of the living.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	New(t) // so that the server is there
	ctx := t.Context()
	const dead = testPrefix + "2147483647_1" // no process has this tag
	if _, err := shared.admin.Exec(ctx, `CREATE DATABASE `+dead); err != nil {
		t.Fatal(err)
	}
	mine := New(t)
	other := server{url: shared.url}
	if err := other.signOn(ctx); err != nil {
		t.Fatal(err)
	}
	var exists bool
	err := shared.admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, dead).Scan(&exists)
	if err != nil || exists {
		t.Errorf("the abandoned database exists: %t, %v", exists, err)
	}
	if err := mine.Ping(ctx); err != nil {
		t.Errorf("a database in use was dropped: %v", err)
	}
}

// TestNothingLeft kills a test process; neither its server nor its files may stay.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	tmp, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	os.Chmod(tmp, 0o711)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1", URLVariable+"=", "TMPDIR="+tmp)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 1000)
	n, err := out.Read(said)
	if err != nil || !strings.Contains(string(said[:n]), "<nil>") {
		t.Fatalf("the child said %q, %v", said[:n], err)
	}
	child.Process.Kill()
	child.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(tmp, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", left)
		}
	}
	url := strings.Fields(string(said[:n]))[0]
	if conn, err := pgx.Connect(context.Background(), url); err == nil {
		conn.Close(context.Background())
		t.Error("the server still answers")
	}
}
