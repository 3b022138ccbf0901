package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api/webhooks"
	"crossbill/domain/listing"
	"crossbill/domain/reading"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/vault"
	"crossbill/projections"
)

// With senderURL set, this test binary is a process that sends the webhooks of the database it names until it is killed;
// senderVault is the file of the key that the secrets are wrapped with.
const (
	senderURL   = "CROSSBILL_API_TEST_SENDER_URL"
	senderVault = "CROSSBILL_API_TEST_SENDER_VAULT"
	senderName  = "sender" // by which PostgreSQL knows its connections
)

func TestMain(m *testing.M) {
	if url := os.Getenv(senderURL); url != "" {
		fmt.Fprintln(os.Stderr, "sender:", sendUntilKilled(context.Background(), url, os.Getenv(senderVault)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func sendUntilKilled(ctx context.Context, url, vaultFile string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.ConnConfig.RuntimeParams["application_name"] = senderName
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	keys, err := vault.Open(ctx, pool, vault.KeyFile(vaultFile), vault.Options{})
	if err != nil {
		return err
	}
	log, err := events.Open(ctx, pool, codec, events.Options{Vault: keys})
	if err != nil {
		return err
	}
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: log, Projections: projections.All()})
	if err != nil {
		return err
	}
	go runner.Run(ctx)
	return webhooks.New(webhooks.Options{Log: log, Pool: pool, Sender: webhooks.NewSender(true), Waiter: runner}).Run(ctx)
}

// TestWebhook_KilledSender kills the process that sends again and again, each time at a random moment, while the log goes on.
// Both targets have to get every event of their slices, in the log's order; what comes twice is only what was under way.
func TestWebhook_KilledSender(t *testing.T) {
	t.Parallel()
	const kills, eventsEach = 6, 40
	h := newHooked(t)
	connection := h.meteredBy(listing.MeteringPlatform)
	readings, all := newTarget(t), newTarget(t)
	slow := func(int) int { // as a target is: the process is killed before it answers, while it does and after it did
		time.Sleep(time.Duration(rand.IntN(3_000)) * time.Microsecond)
		return http.StatusOK
	}
	readings.answer, all.answer = slow, slow
	hooks := []struct {
		*target
		patterns []string
		after    int64
	}{{readings, []string{"reading.*"}, 0}, {all, []string{"*"}, 0}}
	for i := range hooks {
		hooks[i].after = h.create(hooks[i].target, hooks[i].patterns...).Delivery.Position
	}

	sequence := int64(0)
	grow := func() {
		a := events.StreamAppend{Stream: reading.Stream(connection), Expected: events.Any}
		for range eventsEach {
			sequence++
			from := h.now().Add(-time.Hour).Truncate(time.Second)
			parties := []string{h.customerID, h.providerID}
			if sequence%10 == 0 { // what others alone may see
				parties = parties[1:]
			}
			a.Events = append(a.Events, events.NewEvent{Metadata: events.Metadata{Parties: parties}, Event: reading.Recorded{
				EdgeNodeID: h.nodeID, ConnectionID: connection, Epoch: 1, Sequence: sequence, From: from, To: from.Add(time.Second), BytesIn: sequence, Source: reading.SourceSoftware,
			}})
		}
		_, err := h.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{a}})
		must(t, err)
	}
	start := func() (kill func()) {
		sender := exec.Command(os.Args[0])
		sender.Env = append(os.Environ(), senderURL+"="+h.pool.Config().ConnString(), senderVault+"="+h.vault)
		sender.Stderr = os.Stderr
		must(t, sender.Start())
		kill = func() { sender.Process.Kill(); sender.Wait() }
		t.Cleanup(kill)
		return kill
	}
	for range kills {
		grow()
		had := len(readings.accepted())
		kill := start()
		readings.await("the next process", func() bool { return len(readings.accepted()) > had })
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		kill()
		// The server may still be at what the process sent last. Its lease would end by itself, in half a minute.
		readings.await("the end of its connections", func() (gone bool) {
			const query = `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1)`
			must(t, h.pool.QueryRow(context.Background(), query, senderName).Scan(&gone))
			return gone
		})
		_, err := h.pool.Exec(context.Background(), `UPDATE webhook_cursors SET leased_until = now() - interval '1 second' WHERE owner IS NOT NULL`)
		must(t, err)
	}
	start()
	var twice int
	for _, c := range hooks {
		var want []string
		for _, e := range h.sliceOf(h.customer, c.patterns, "") {
			if e.Position > c.after {
				want = append(want, fmt.Sprintf("%019d", e.Position))
			}
		}
		got := func() []string {
			c.mu.Lock()
			defer c.mu.Unlock()
			var all []string
			for _, m := range c.got {
				all = append(all, m.sequence)
			}
			twice += len(all)
			all = slices.Compact(all)
			twice -= len(all)
			return all
		}
		c.await("everything", func() bool { return c.last() == want[len(want)-1] })
		if arrived := got(); len(want) < kills*eventsEach*9/10 || !slices.Equal(arrived, want) {
			t.Errorf("%v: of %d events arrived %d:\n%v\n%v", c.patterns, len(want), len(arrived), want, arrived)
		}
	}
	t.Logf("%d processes were killed, and %d events came twice", kills, twice)
}

// last is the sequence of what came last.
func (x *target) last() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.got) == 0 {
		return ""
	}
	return x.got[len(x.got)-1].sequence
}
