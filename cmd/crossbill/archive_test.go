package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/events/pgtest"
)

// smallPartitions is a database without a node yet, whose log has partitions of two events.
func smallPartitions(t *testing.T) *logTest {
	t.Helper()
	l := &logTest{t: t, url: pgtest.URL(t), dir: t.TempDir()}
	var err error
	if l.pool, err = pgxpool.New(t.Context(), l.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.pool.Close)
	for _, sql := range []string{
		`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 2::bigint'`,
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		if _, err := l.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestLogArchive archives beside a running node, which goes on as before, and repeats what it was asked before.
func TestLogArchive(t *testing.T) {
	t.Parallel()
	l := smallPartitions(t)
	l.refused("how much", l.database("archive")...)
	l.refused("position", l.database("archive", "--before", "0")...)
	if said := l.run(l.database("archive", "--keep-partitions", "0")...); said != "nothing to archive\n" {
		t.Errorf("archive says %q", said)
	}

	p, err := platform.Start(t.Context(), platform.Config{DataDir: l.dir, DatabaseURL: l.url, Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.New(p.URL, p.OperatorKey)
	if err != nil {
		t.Fatal(err)
	}
	key := "the-same-request"
	register := func() (status int, body, position string) {
		r, err := c.CreateOrganisation(t.Context(), &client.CreateOrganisationParams{IdempotencyKey: &key},
			client.NewOrganisation{Name: "Two", Slug: "two", Roles: []client.Role{client.RoleCustomer}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b), r.Header.Get("Crossbill-Position")
	}
	register()
	status, body, position := register() // what a repetition is answered with
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	for i := range 3 {
		if _, _, err := client.Decode[client.OrganisationWithKey](c.CreateOrganisation(t.Context(), nil,
			client.NewOrganisation{Name: "More", Slug: fmt.Sprintf("more-%d", i), Roles: []client.Role{client.RoleCustomer}})); err != nil {
			t.Fatal(err)
		}
	}
	said := l.run(l.database("archive", "--keep-partitions", "0", "--verify")...)
	if !strings.Contains(said, "archived events 1 to 2 in "+filepath.Join(l.dir, "archive")) || !strings.Contains(said, "through the archives, root ") {
		t.Errorf("archive says %q", said)
	}
	if again, sameBody, samePosition := register(); again != status || sameBody != body || samePosition != position {
		t.Errorf("the repeated request is answered with %d %s at %s, and was with %d %s at %s", again, sameBody, samePosition, status, body, position)
	}
	if said := l.run(l.database("verify")...); !strings.Contains(said, "verified ") {
		t.Errorf("verify says %q", said)
	}
	l.refused("can't be read in "+l.dir, append(l.database("verify"), "--archive-dir", l.dir)...)
	if said := l.run(append(l.database("archive", "--before", "3"), "--dir", l.path("archive"))...); said != "nothing to archive\n" {
		t.Errorf("archive says %q", said)
	}
	files, err := filepath.Glob(l.path("archive/*.archive"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.Truncate(files[1], 100); err != nil {
		t.Fatal(err)
	}
	l.refused(filepath.Base(files[1]), l.database("verify")...)
}
