package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing/usage"
	"crossbill/domain/invoice"
	"crossbill/domain/reading"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
)

// asRun makes the test's binary a process that closes March on a database, to be killed at any moment.
const asRun = "CROSSBILL_TEST_BILLING_RUN"

func TestMain(m *testing.M) {
	if url := os.Getenv(asRun); url != "" {
		if err := runOn(context.Background(), url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runOn(ctx context.Context, url string) error {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	log, err := events.Open(ctx, pool, codec, events.Options{})
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Println("started") // what comes before is not what is to be killed
	r := request(march)
	r.batch = 4
	_, err = Run(ctx, log, usage.Store{Pool: pool, Log: log}, r)
	return err
}

const (
	kills       = 100
	worlds      = 4 // each billed to the end, through its share of the kills
	connections = 48
)

// TestKilledRuns kills runs at a hundred random moments and starts them again until they end. What stands then is what a run
// that nobody killed issues: the same invoices, each once, with the same lines, and their numbers have no gaps.
func TestKilledRuns(t *testing.T) {
	t.Parallel()
	want, took := booksOf(t, 0, 0)
	killed := 0
	for n := 1; killed < kills; n++ {
		if n > 10*worlds {
			t.Fatalf("%d runs ended before they could be killed more than %d times", n, killed)
		}
		k := 0
		got, _ := booksOf(t, (kills+worlds-1)/worlds, took, &k)
		killed += k
		if got != want {
			t.Fatalf("after %d kills the books are\n%.2000s\nand should be\n%.2000s", k, got, want)
		}
	}
	t.Logf("%d kills", killed)
}

// booksOf bills a world in processes of their own, of which at most so many are killed within the time that a run takes. It
// returns what was issued and how long the last process took.
func booksOf(t *testing.T, kill int, within time.Duration, killed ...*int) (string, time.Duration) {
	t.Helper()
	w := newWorld(t)
	var all []sold
	for n := range connections {
		s := exampleA()
		s.name, s.customer, s.provider = fmt.Sprint(n), fmt.Sprint("customer", n/3), fmt.Sprint("provider", n%2)
		all = append(all, s)
	}
	w.sell(all...)
	for n, s := range all {
		var some []reading.Recorded
		for hour := range 40 {
			from := s.from.Add(time.Duration(hour) * time.Hour)
			some = append(some, w.reading(s.id(), from, from.Add(time.Hour), int64(n+1)*1e9, int64(hour)*1e8))
		}
		w.meter(some...)
	}
	for left := kill; ; left-- {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asRun+"="+w.pool.Config().ConnString())
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 100))
		must(t, err)
		begun := time.Now()
		if left > 0 {
			// The more it is started again, the less there is left to do; so most kills come early.
			time.Sleep(time.Duration(rand.Int64N(int64(within)/4 + 1)))
			must(t, cmd.Process.Signal(syscall.SIGKILL))
		}
		err = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			*killed[0]++
			continue
		}
		if err != nil {
			t.Fatalf("a run that nobody killed: %v: %s", err, &said)
		}
		return w.issuedBooks(), time.Since(begun)
	}
}

// issuedBooks writes every invoice and settlement without what depends on when it was computed: the position of the log, and
// in which order the documents of different customers came.
func (w *world) issuedBooks() string {
	w.t.Helper()
	invoices, settlements := w.checkBooks()
	lines := make(map[string][]invoice.Line)
	for _, i := range invoices {
		if lines[i.InvoiceID] != nil {
			w.t.Errorf("invoice %s was issued twice", i.InvoiceID)
		}
		for _, l := range i.Lines {
			l.Evidence = slices.Clone(l.Evidence)
			for n := range l.Evidence {
				l.Evidence[n].Digest = "" // each world's events have salts of their own
			}
			lines[i.InvoiceID] = append(lines[i.InvoiceID], l)
		}
		if _, err := Recompute(context.Background(), w, i); err != nil {
			w.t.Error(err)
		}
	}
	settled := make(map[string]settlement.Line)
	for _, s := range settlements {
		for _, l := range s.Lines {
			if _, twice := settled[l.ItemID]; twice {
				w.t.Errorf("item %s was settled twice", l.ItemID)
			}
			settled[l.ItemID] = l
		}
	}
	data, err := json.MarshalIndent([]any{lines, settled}, "", " ")
	must(w.t, err)
	return string(data)
}
