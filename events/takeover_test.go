package events

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/events/pgtest"
)

func init() { children["subscriber"] = subscribeUntilKilled }

const hangsAt = 150 // past the first batch

// subscribeUntilKilled handles events, writing each down, until it comes to one it never gets done with.
func subscribeUntilKilled(l *Log, dir string, _ <-chan struct{}) error {
	file, err := os.OpenFile(filepath.Join(dir, "handled"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return l.Subscribe(context.Background(), Subscription{Name: "s", Handle: func(_ context.Context, batch []Recorded) (int, error) {
		for i, r := range batch {
			if _, err := fmt.Fprintln(file, int64(r.Position)); err != nil {
				return i, err
			}
			if r.Position == hangsAt {
				select {}
			}
		}
		return len(batch), nil
	}})
}

// TestTakeoverFromKilled kills the process that owns a subscription while it handles an event. The process that stands
// by must get the events from there on within 5 seconds, and nobody may miss one.
func TestTakeoverFromKilled(t *testing.T) {
	t.Parallel()
	url, dir := pgtest.URL(t), t.TempDir()
	pool := connect(t, url)
	l := openOn(t, pool, Options{})
	const total = 200
	mustAppend(t, l, one("note-a", Any, nil, make([]string, total)...))
	owner := startChild(t, "subscriber", url, dir)
	handled := func() (all []Position) {
		text, _ := os.ReadFile(filepath.Join(dir, "handled"))
		for _, line := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, Position(n))
		}
		return all
	}
	waitFor(t, "the owner to hang", func() bool { return len(handled()) >= hangsAt })

	var first atomic.Pointer[time.Time]
	var mine []Position // written by the handler alone, until it has everything
	done := make(chan struct{})
	go l.Subscribe(t.Context(), Subscription{Name: "s", Handle: func(_ context.Context, batch []Recorded) (int, error) {
		now := time.Now()
		first.CompareAndSwap(nil, &now)
		for _, r := range batch {
			if mine = append(mine, r.Position); r.Position == total {
				close(done)
			}
		}
		return len(batch), nil
	}})
	time.Sleep(leaseFor + leaseRetry) // as long as the owner lives, it keeps the lease, though its handler says nothing
	if first.Load() != nil {
		t.Fatal("the subscription was taken from an owner that lives")
	}
	owner.kill()
	killed := time.Now()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody took over")
	}
	took := first.Load().Sub(killed)
	if took > 5*time.Second {
		t.Errorf("the takeover took %v", took)
	}
	t.Logf("taken over %v after the SIGKILL", took.Round(time.Millisecond))
	theirs := handled()
	if want := upTo(1, hangsAt); !slices.Equal(theirs, want) {
		t.Errorf("the owner handled %v", theirs)
	}
	// The owner said of the first batch that it is done with it, and not of the second.
	if want := upTo(subscriptionBatch+1, total); !slices.Equal(mine, want) {
		t.Errorf("handled after the takeover: %v", mine)
	}
}

func upTo(first, last Position) (all []Position) {
	for p := first; p <= last; p++ {
		all = append(all, p)
	}
	return all
}
