package projections_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
)

// childURL makes this test binary a process that runs a projection on the database it names, until it is killed.
const childURL = "CROSSBILL_PROJECTIONS_TEST_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		fmt.Fprintln(os.Stderr, "child:", projectUntilKilled(url))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// projectUntilKilled applies events and never gets to commit them.
func projectUntilKilled(url string) error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	codec, err := events.NewCodec([]domain.Event{ticked{}})
	if err != nil {
		return err
	}
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		return err
	}
	r, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: log, Projections: []projections.Projection{{
		Name: "count", Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			for _, e := range batch {
				if _, err := tx.Exec(ctx, `INSERT INTO ticks VALUES ($1, 0)`, e.Position); err != nil {
					return err
				}
			}
			fmt.Println("applied")
			select {}
		},
	}}})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// TestTakeoverFromKilled kills the process that works on a projection with its transaction open. The process that stands
// by must go on within 5 seconds, and every event take effect once.
func TestTakeoverFromKilled(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	last := k.append(100)
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), childURL+"="+k.pool.Config().ConnString())
	owner.Stderr = os.Stderr
	said, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { owner.Process.Kill(); owner.Wait() })
	if _, err := io.ReadFull(said, make([]byte, len("applied"))); err != nil {
		t.Fatal(err)
	}
	r, _ := k.run(k.count("count"))
	for deadline := time.Now().Add(10 * time.Second); r.Status()[0].State != projections.Standby; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", r.Status())
		}
	}
	k.requireOnce(0)
	owner.Process.Kill()
	killed := time.Now()
	k.waitFor(r, last)
	if took := time.Since(killed); took > 5*time.Second {
		t.Errorf("the takeover took %v", took)
	} else {
		t.Logf("taken over %v after the SIGKILL", took.Round(time.Millisecond))
	}
	k.requireOnce(last)
}
