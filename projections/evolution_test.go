package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
)

// tickedTwice is what a later version makes of ticked: the same type in another shape, with the way there from the first.
type tickedTwice struct {
	Number string `json:"number"`
}

func (tickedTwice) EventType() string { return "test.ticked" }
func (tickedTwice) EventSchema() int  { return 2 }
func (tickedTwice) Upcasts() []domain.Upcast {
	return []domain.Upcast{func(payload []byte) ([]byte, error) {
		var old ticked
		if err := json.Unmarshal(payload, &old); err != nil {
			return nil, err
		}
		return json.Marshal(tickedTwice{Number: fmt.Sprint(old.N)})
	}}
}

// numbers is a projection that writes what each event comes to, whatever version of the program knows it.
func (k *ticker) numbers() projections.Projection {
	if _, err := k.pool.Exec(k.Context(), `CREATE TABLE IF NOT EXISTS numbers (position bigint PRIMARY KEY, number text NOT NULL)`); err != nil {
		k.Fatal(err)
	}
	return projections.Projection{Name: "numbers", Tables: []string{"numbers"}, Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
		for _, r := range batch {
			number := ""
			switch e := r.Event.(type) {
			case ticked:
				number = fmt.Sprint(e.N)
			case tickedTwice:
				number = e.Number
			case rung:
				number = "rung"
			default:
				return fmt.Errorf("event %d is a %T", r.Position, r.Event)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO numbers VALUES ($1, $2)`, r.Position, number); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (k *ticker) requireNumbers(want ...string) {
	k.Helper()
	rows, _ := k.pool.Query(context.Background(), `SELECT number FROM numbers ORDER BY position`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(got, want) {
		k.Errorf("the table has %q, want %q, %v", got, want, err)
	}
}

// listed returns how the database tells that a projection is.
func (k *ticker) listed(p projections.Projection) projections.Listed {
	k.Helper()
	all, err := projections.List(context.Background(), k.pool, []projections.Projection{p})
	i := slices.IndexFunc(all, func(l projections.Listed) bool { return l.Name == p.Name })
	if err != nil || i < 0 {
		k.Fatalf("%+v, %v", all, err)
	}
	return all[i]
}

// TestEvolution has an old program follow a log that a newer one writes to. At what it can't know it stops: there, with an
// error that says where that is, what it is and what to do, for whoever asks the program or the database. It passes
// nothing over and changes nothing. The newer program goes on from there, and reads the old shapes too.
func TestEvolution(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fact   domain.Event
		known  []domain.Event // to the newer program
		number string         // what the fact comes to
		what   string         // what the error calls it
	}{
		"unknown type":  {rung{}, []domain.Event{ticked{}, rung{}}, "rung", "test.rung, schema 1"},
		"newer version": {tickedTwice{"two"}, []domain.Event{tickedTwice{}}, "two", "test.ticked, schema 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTicker(t)
			p := k.numbers()
			if l := k.listed(p); l.State != projections.NeverRun || l.Lag != 0 || !l.Updated.IsZero() {
				t.Errorf("before it ran: %+v", l)
			}
			newer := k.open(c.known...)
			k.append(3)
			at := k.appendTo(newer, c.fact)
			last := k.append(2)
			if l := k.listed(p); l.Lag != last {
				t.Errorf("before it ran: %+v", l)
			}

			r, stop := k.run(p)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := r.WaitFor(ctx, last)
			if domain.CodeOf(err) != domain.Unavailable || !errors.Is(err, events.ErrUndecodable) || ctx.Err() != nil {
				t.Errorf("waiting for it: %v", err)
			}
			k.requireNoted("numbers", c.what)
			s, l := r.Status()[0], k.listed(p)
			if s.State != projections.Stopped || s.Position != at-1 || s.Err == nil {
				t.Errorf("status %+v", s)
			}
			if l.State != projections.Stopped || l.Position != at-1 || l.Lag != last-at+1 {
				t.Errorf("listed as %+v", l)
			}
			for _, text := range []string{s.Err.Error(), l.Error} {
				for _, part := range []string{fmt.Sprintf("position %d", at), "hint: run a version of crossbill that knows the type " + c.what} {
					if !strings.Contains(text, part) {
						t.Errorf("%q does not say %q", text, part)
					}
				}
			}
			k.requireNumbers("0", "1", "2")

			// What the old program has is right as far as it goes, and it can make no more of the log.
			o := projections.RebuildOptions{Pool: k.pool, Log: k.log}
			if v, err := projections.Verify(t.Context(), p, o); err != nil || v.Position != at-1 {
				t.Errorf("%+v, %v", v, err)
			}
			_, err = projections.Rebuild(t.Context(), p, o)
			if !errors.Is(err, events.ErrUndecodable) || !strings.Contains(err.Error(), fmt.Sprintf("position %d", at)) {
				t.Errorf("rebuilt by the old program: %v", err)
			}
			k.requireNumbers("0", "1", "2")
			if k.builds() != 0 {
				t.Error("a rebuild that failed has left a schema")
			}
			stop()

			k.log = newer
			r, _ = k.run(p)
			k.waitFor(r, last)
			k.requireNumbers("0", "1", "2", c.number, "0", "1")
			if l := k.listed(p); l.State != projections.Current || l.Error != "" || l.Lag != 0 || l.Updated.IsZero() {
				t.Errorf("listed as %+v", l)
			}
			if _, err := projections.Rebuild(t.Context(), p, projections.RebuildOptions{Pool: k.pool, Log: newer}); err != nil {
				t.Error(err)
			}
			k.requireNumbers("0", "1", "2", c.number, "0", "1")
		})
	}
}

// TestList_Retrying tells a projection that fails from one that only has not come so far yet.
func TestList_Retrying(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	last := k.append(4)
	p := projections.Projection{Name: "failing", Apply: func(context.Context, pgx.Tx, []events.Recorded) error { return errors.New("no luck") }}
	_, stop := k.run(p)
	k.requireNoted("failing", "no luck")
	stop()
	if l := k.listed(p); l.State != projections.Retrying || l.Lag != last || !strings.HasPrefix(l.Error, "events 1 to ") || !strings.HasSuffix(l.Error, ": no luck") {
		t.Errorf("listed as %+v", l)
	}
	if _, err := k.pool.Exec(t.Context(), `UPDATE subscriptions SET error = NULL, position = 1`); err != nil {
		t.Fatal(err)
	}
	if l := k.listed(p); l.State != projections.Behind || l.Lag != last-1 || l.Error != "" {
		t.Errorf("listed as %+v", l)
	}
}
