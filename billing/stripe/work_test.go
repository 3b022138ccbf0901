package stripe

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain/invoice"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// The worker finds by the log alone what there is to be moved: a payment whose webhook was lost, a share that waits for an
// account, and a credit note.
func TestWorker(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgtest.New(t)
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	w := newWorld(t, log, 5)
	w.bill(1, 1, 2)
	work := NewWorker(w.Client, log, pool, nil)
	work.Mover.Now = w.Now
	w.Mover = work.Mover

	after := events.Position(0)
	follow := func() {
		t.Helper()
		page, err := log.ReadAll(ctx, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return
		}
		after = page[len(page)-1].Position
		var p projections.Projection = work.Projection()
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return p.Apply(ctx, tx, page) }); err != nil {
			t.Fatal(err)
		}
	}
	// drain does what is due, as if the given time had passed.
	drain := func(passed time.Duration) (done int) {
		t.Helper()
		follow()
		w.clock = w.clock.Add(passed)
		if _, err := pool.Exec(ctx, `UPDATE stripe_work SET due_at = now() - interval '1 second' WHERE due_at <= now() + $1::interval OR due_at <= $2`, passed, w.clock); err != nil {
			t.Fatal(err)
		}
		for {
			some, err := work.Once(ctx)
			if err != nil {
				t.Fatal(err)
			}
			follow()
			if done++; !some || done > 50 {
				return done - 1
			}
		}
	}
	waiting := func() (n int) {
		if err := pool.QueryRow(context.Background(), `SELECT count(*) FROM stripe_work`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	if drain(0); waiting() != 0 {
		t.Errorf("%d invoices wait although nobody pays", waiting())
	}
	p, err := w.Collect(ctx, w.invoices[0])
	if err != nil {
		t.Fatal(err)
	}
	w.fake.Pay(p.Reference, 59)
	w.fake.Events() // lost
	if drain(2 * time.Hour); waiting() != 1 {
		t.Errorf("%d invoices wait for an account", waiting())
	}
	if i, _ := w.invoice(w.invoices[0]); i.State != invoice.StatePaid {
		t.Fatalf("the payment was not noticed: %s", i.State)
	}
	if moved := w.fake.All("transfer"); len(moved) != 0 {
		t.Errorf("moved without an account: %v", moved)
	}
	if _, err := w.Connect(ctx, w.providers[0], "NL", "https://x.example", "https://x.example"); err != nil {
		t.Fatal(err)
	}
	w.fake.Enable(w.fake.All("account")[0]["id"].(string), true)
	w.deliverAll(w.fake.Events())
	if drain(0); len(w.fake.All("transfer")) != 1 {
		t.Fatalf("after the account opened the transfers are %v", w.fake.All("transfer"))
	}
	w.credit(w.invoices[0], true)
	drain(0)
	if len(w.fake.All("refund")) == 0 || len(w.fake.All("transfer_reversal")) != 1 {
		t.Errorf("after a credit note the refunds are %v, and the reversals %v", w.fake.All("refund"), w.fake.All("transfer_reversal"))
	}
	drain(24 * time.Hour)
	if drain(24 * time.Hour); waiting() != 0 {
		t.Errorf("%d invoices wait although everything is moved", waiting())
	}
	w.settle()
	w.check()
}

// TestNightOf: a node that is restarted every day compares every night all the same.
func TestNightOf(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]time.Time{
		day:                       day.Add(-24*time.Hour + reconcileAt),
		day.Add(reconcileAt - 1):  day.Add(-24*time.Hour + reconcileAt),
		day.Add(reconcileAt):      day.Add(reconcileAt),
		day.Add(24*time.Hour - 1): day.Add(reconcileAt),
		day.Add(23 * time.Hour).In(time.FixedZone("west", -5*3600)): day.Add(reconcileAt),
	} {
		if got := nightOf(at); !got.Equal(want) {
			t.Errorf("the night of %s is %s, and should be %s", at, got, want)
		}
	}
}
