package events

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/events/postgres"
	"crossbill/migrations"
)

// TestHotStandby follows the log on a hot standby, which has no LISTEN: what is appended to the primary comes by polling.
// What would write there, an append or a subscription's lease, is refused or waits; it does no harm.
func TestHotStandby(t *testing.T) {
	t.Parallel()
	dirs := [2]string{}
	for i := range dirs {
		dir, err := os.MkdirTemp("", "pair") // short: the server's socket is in it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		os.Chmod(dir, 0o711)
		dirs[i] = dir
	}
	start := func(dir string) *postgres.Server {
		s, err := postgres.Start(t.Context(), postgres.Options{DataDir: dir, NoFsync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			s.Stop(ctx)
		})
		return s
	}
	primary := start(dirs[0])
	pool := connect(t, primary.URL)
	if err := migrations.Apply(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	writer := openOn(t, pool, Options{})
	mustAppend(t, writer, one("note-a", NoStream, nil, "before the standby"))
	backUp(t, pool.Config().ConnConfig, filepath.Join(dirs[1], "postgres"))
	standby := connect(t, start(dirs[1]).URL)
	var recovering bool
	if err := standby.QueryRow(t.Context(), `SELECT pg_is_in_recovery()`).Scan(&recovering); err != nil || !recovering {
		t.Fatalf("a standby: %t, %v", recovering, err)
	}
	reader := openOn(t, standby, Options{})

	handled := make(chan struct{}, 1)
	go reader.Subscribe(t.Context(), Subscription{Name: "s", Handle: func(_ context.Context, batch []Recorded) (int, error) {
		handled <- struct{}{}
		return len(batch), nil
	}})
	for i := range Position(20) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		page, err := reader.Next(ctx, "", i, 10)
		cancel()
		if err != nil || len(page) != 1 || page[0].Position != i+1 {
			t.Fatalf("after %d: %d events, %v", i, len(page), err)
		}
		mustAppend(t, writer, one("note-a", Any, nil, "x"))
	}
	if h := requireSound(t, standby); h.Position < 20 {
		t.Errorf("head %d", h.Position)
	}
	if _, err := reader.Append(t.Context(), one("note-a", Any, nil, "x")); err == nil {
		t.Error("a standby says that it has recorded an event")
	}
	select {
	case <-handled:
		t.Error("a subscription got events without a lease")
	default:
	}
}

// backUp copies a running server's cluster and makes the copy its standby.
func backUp(t *testing.T, from *pgx.ConnConfig, to string) {
	t.Helper()
	program, err := exec.LookPath("pg_basebackup")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_basebackup")
		if len(found) == 0 {
			t.Skip("there is no pg_basebackup on this machine")
		}
		program = found[len(found)-1]
	}
	out, err := exec.Command(program, "-D", to, "-h", from.Host, "-p", "5432", "-U", from.User, "-c", "fast", "-R").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
