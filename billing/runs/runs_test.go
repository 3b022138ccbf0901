package runs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/exchangerate"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// asNode makes the test's binary a node that carries runs out, to be killed at any moment.
const asNode = "CROSSBILL_TEST_BILLING_NODE"

func TestMain(m *testing.M) {
	if url := os.Getenv(asNode); url != "" {
		if err := nodeOn(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func nodeOn(url string) error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	log, err := openLog(ctx, pool, time.Now)
	if err != nil {
		return err
	}
	r, err := New(Options{Pool: pool, Log: log, Clock: func() time.Time { return afterward }, Tick: 24 * time.Hour})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	fmt.Println("started")
	select {}
}

func openLog(ctx context.Context, pool *pgxpool.Pool, clock func() time.Time) (*events.Log, error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return nil, err
	}
	return events.Open(ctx, pool, codec, events.Options{Clock: clock})
}

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

var (
	march     = billing.Period{From: date(2026, 3, 1), To: date(2026, 4, 1)}
	afterward = date(2026, 4, 4)
)

const patience = 2 * time.Minute

// world is a log on a database of the test's own, with a clock that the test moves.
type world struct {
	*events.Log
	t     *testing.T
	pool  *pgxpool.Pool
	sla   *listing.SLA // that what is sold next promises
	clock atomic.Int64 // Unix microseconds
}

func newWorld(t *testing.T, now time.Time) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t)}
	w.set(now)
	log, err := openLog(t.Context(), w.pool, w.now)
	must(t, err)
	t.Cleanup(log.Close)
	w.Log = log
	must(t, Migrate(t.Context(), w.pool))
	w.project(slices.DeleteFunc(projections.All(), func(p projections.Projection) bool { return p.Name != "availability" })...) // a month is settled before it is billed
	return w
}

// project runs projections until the test ends or stop is called.
func (w *world) project(all ...projections.Projection) (stop func()) {
	w.t.Helper()
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: w.pool, Log: w.Log, Projections: all})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { runner.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

func (w *world) now() time.Time    { return time.UnixMicro(w.clock.Load()).UTC() }
func (w *world) set(now time.Time) { w.clock.Store(now.UnixMicro()) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node starts a runner with its process manager, and stops both when the test ends or stop is called.
func (w *world) node() (r *Runner, stop func()) {
	w.t.Helper()
	r, err := New(Options{Pool: w.pool, Log: w.Log, Clock: w.now, Tick: 24 * time.Hour})
	must(w.t, err)
	ended := w.project(r.Projection())
	must(w.t, r.Start(context.Background()))
	stop = sync.OnceFunc(func() { ended(); must(w.t, r.Stop(context.Background())) })
	w.t.Cleanup(stop)
	return r, stop
}

func id(prefix string, name ...any) string {
	return domain.DeriveID(prefix, date(2026, 1, 1), fmt.Sprint(name...))
}

func stream(name string, all ...domain.Event) events.StreamAppend {
	s := events.StreamAppend{Stream: name, Expected: events.Any}
	for _, e := range all {
		s.Events = append(s.Events, events.NewEvent{Event: e})
	}
	return s
}

// sell appends connections in production since a time, three a customer.
func (w *world) sell(from time.Time, currency domain.Currency, names ...string) {
	w.t.Helper()
	var a events.Append
	for n, name := range names {
		con, quo, customer, provider := id(domain.PrefixConnection, name), id(domain.PrefixQuote, name), id(domain.PrefixOrganisation, "customer", name[:1], n/3), id(domain.PrefixOrganisation, "provider", n%2)
		before := from.Add(-time.Hour)
		money := domain.Money{Currency: currency}
		q := quote.Issued{QuoteID: quo, CustomerID: customer, ProviderID: provider, ListingID: id(domain.PrefixListing, "l"), ListingVersion: 1, BandwidthMbps: 100,
			Plan:          pricing.Plan{Currency: currency, Charges: []pricing.Charge{{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400.00")}}},
			FeeScheduleID: id(domain.PrefixFeeSchedule, "fee"), FeeScheduleVersion: 1, BasisPoints: 300, Passthrough: money, Fee: money, Total: money, ValidUntil: from, At: before, SLA: w.sla}
		q.Hash = quote.Hash(q)
		a.Streams = append(a.Streams,
			stream(quote.Stream(quo), q, quote.Accepted{QuoteID: quo, OrderID: id(domain.PrefixOrder, name), At: before}),
			stream(connection.Stream(con),
				connection.Requested{ConnectionID: con, OrderID: id(domain.PrefixOrder, name), QuoteID: quo, CustomerID: customer, ProviderID: provider, ListingID: q.ListingID, ListingVersion: 1, BandwidthMbps: 100, At: before},
				connection.TestingStarted{ConnectionID: con, Deadline: from, At: before}, connection.Activated{ConnectionID: con, At: from}))
	}
	_, err := w.Append(context.Background(), a)
	must(w.t, err)
}

// ask asks for a period's run.
func (w *world) ask(p billing.Period) (runID string) {
	w.t.Helper()
	command, err := billing.Request(p, billing.DefaultGrace, w.now())
	must(w.t, err)
	request, err := billing.LoadRequest(context.Background(), w, command.RunID)
	must(w.t, err)
	decided, err := billingrun.DecideRequest(request.RequestState, command)
	must(w.t, err)
	_, err = w.Append(context.Background(), events.Append{Streams: []events.StreamAppend{{Stream: billingrun.RequestStream(command.RunID),
		Expected: events.ExpectedVersion(request.Version), Events: []events.NewEvent{{Event: decided[0], Metadata: events.Metadata{Actor: "the operator"}}}}}})
	must(w.t, err)
	return command.RunID
}

// ended waits until what was last asked of a run has ended.
func (w *world) ended(runID string) billing.Requested {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		request, err := billing.LoadRequest(context.Background(), w, runID)
		must(w.t, err)
		if request.Requests > 0 && !request.Open() {
			return request
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the run is %+v", request)
		}
	}
}

// books returns the lines of every invoice and settlement, without what depends on when they were issued, and how often each
// type of event of a run is in the log.
func (w *world) books() (books string, counts map[string]int) {
	w.t.Helper()
	var lines []string
	counts = make(map[string]int)
	var invoices []invoice.Issued
	var settlements []settlement.Issued
	for after := events.Position(0); ; {
		page, err := w.ReadAll(context.Background(), after, 1000)
		must(w.t, err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			after = e.Position
			if strings.HasPrefix(e.Type, "billing_run.") {
				counts[e.Type]++
			}
			switch e := e.Event.(type) {
			case invoice.Issued:
				invoices = append(invoices, e)
				for _, l := range e.Lines {
					lines = append(lines, fmt.Sprint(e.InvoiceID, e.CustomerID, l.Kind, l.ConnectionID, l.Description, l.Exact, l.Amount))
				}
				if want := fmt.Sprintf("CB-2026-%06d", len(invoices)); e.Number != want {
					w.t.Errorf("the number is %s, not %s", e.Number, want)
				}
			case settlement.Issued:
				settlements = append(settlements, e)
				for _, l := range e.Lines {
					lines = append(lines, fmt.Sprint(e.ProviderID, l.ItemID, l.Amount))
				}
			}
		}
	}
	must(w.t, billing.CheckNoMargin(invoices, settlements))
	slices.Sort(lines)
	return strings.Join(lines, "\n"), counts
}

func names(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// TestRun: what is asked for is carried out once, by whichever of two nodes, and says who asked.
func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", names("a", 7)...)
	w.node()
	w.node()
	runID := w.ask(march)
	request := w.ended(runID)
	if e := request.Ended; e == nil || e.Issued != 3 || len(e.Invoices) != 3 || len(e.Settlements) != 2 || e.ProblemCount != 0 || !e.At.Equal(afterward) {
		t.Fatalf("it ended with %+v", request)
	}
	issued, err := w.ReadStream(t.Context(), invoice.Stream(request.Ended.Invoices[0]), 0, 1)
	must(t, err)
	if issued[0].Metadata.Actor != "the operator" {
		t.Errorf("the invoices are %s's", issued[0].Metadata.Actor)
	}
	if p, begun, err := ProgressOf(t.Context(), w.pool, billing.Requested{RequestState: request.RequestState, Version: 1}); err != nil || !begun || p.Of != 7 {
		t.Errorf("its progress was %+v, %t (%v)", p, begun, err)
	}
	before, _ := w.books()
	w.ask(march)
	if again := w.ended(runID); again.Requests != 2 || again.Ended.Issued != 0 || again.Ended.InvoiceCount != 3 {
		t.Errorf("asked for again, it ended with %+v", again)
	}
	if after, counts := w.books(); after != before || counts["billing_run.ended"] != 2 {
		t.Errorf("then there are %v", counts)
	}
}

// TestRunSettlesTheMonth: what a listing promises for a month that falls short is on the month's own invoice, and is said once.
func TestRunSettlesTheMonth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, afterward)
	w.sla = &listing.SLA{Availability: domain.MustDecimal("99.95"), Credits: []listing.Credit{{Below: domain.MustDecimal("99.9"), Percent: domain.MustDecimal("10")}}}
	w.sell(date(2026, 3, 11), "USD", "a")
	down := connection.SessionChanged{ConnectionID: id(domain.PrefixConnection, "a"), Side: connection.SideZ, State: connection.SessionIdle, Since: date(2026, 3, 20), At: date(2026, 3, 20)}
	up := down
	up.State, up.Since = connection.SessionEstablished, down.Since.Add(2*time.Hour)
	up.At = up.Since
	_, err := w.Append(t.Context(), events.Append{Streams: []events.StreamAppend{stream(connection.Stream(down.ConnectionID), down, up)}})
	must(t, err)
	w.node()
	request := w.ended(w.ask(march))
	if request.Ended == nil || len(request.Ended.Invoices) != 1 {
		t.Fatalf("it ended with %+v", request)
	}
	issued, err := w.ReadStream(t.Context(), invoice.Stream(request.Ended.Invoices[0]), 0, 1)
	must(t, err)
	// 21 of March's 31 days at 400.00 are 270.97; a tenth goes back, and the fee is 3 percent of what is left.
	if i := issued[0].Event.(invoice.Issued); i.Passthrough.Amount() != "243.87" || i.Fee.Amount() != "7.32" || len(i.Lines) != 3 || i.Lines[1].Amount.Amount() != "-27.10" {
		t.Errorf("the invoice is over %s and %s: %+v", i.Passthrough, i.Fee, i.Lines)
	}
	w.ended(w.ask(march))
	var settled, invoices int
	must(t, w.pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE type = 'availability.settled'), count(*) FILTER (WHERE type = 'invoice.issued') FROM events`).Scan(&settled, &invoices))
	if settled != 1 || invoices != 1 {
		t.Errorf("asked for again, %d months are settled and %d invoices issued", settled, invoices)
	}
}

// TestRunFails: what can't be billed is said, not tried for ever.
func TestRunFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", "a")
	w.node()
	w.ended(w.ask(march))
	overlapping := billing.Period{From: date(2026, 3, 20), To: date(2026, 4, 2)}
	w.set(date(2026, 4, 10))
	if request := w.ended(w.ask(overlapping)); request.Ended == nil || request.Ended.Issued != 0 || request.Ended.ProblemCount != 1 ||
		request.Ended.Problems[0].Code != domain.Conflict || request.Ended.Problems[0].Hint == "" {
		t.Errorf("time that is billed: %+v", request)
	}
}

// TestKilledNodes kills the process that carries a run out at random moments and starts another, until one ends it. What
// stands then is what a run that nobody killed issues.
func TestKilledNodes(t *testing.T) {
	t.Parallel()
	want := calmBooks(t)
	for killed, worlds := 0, 0; killed == 0; worlds++ { // on a busy machine a run may end before it can be killed
		if worlds == 5 {
			t.Fatal("nothing could be killed while it went on")
		}
		w := newWorld(t, afterward)
		w.sell(date(2026, 3, 11), "USD", names("a", connections)...)
		runID := w.ask(march)
		_, stop := w.manager()
		stop()
		for n := 0; ; n++ {
			w.process(func() {
				if n >= kills {
					w.ended(runID)
					return
				}
				w.await(func() bool { // it is killed once it has begun, or come so far, or is done
					var issued, running int
					must(t, w.pool.QueryRow(context.Background(), `SELECT count(*) FROM events WHERE type = 'invoice.issued'`).Scan(&issued))
					must(t, w.pool.QueryRow(context.Background(), `SELECT count(*) FROM `+Schema+`.river_job WHERE kind = 'billing_run' AND state = 'running'`).Scan(&running))
					return issued > 3*n || running > 0 && n%2 == 0 || !w.request(runID).Open()
				})
			})
			if !w.request(runID).Open() {
				break
			}
			killed++
		}
		t.Logf("%d kills", killed)
		got, counts := w.books()
		if got != want || counts["billing_run.ended"] != 1 || counts["billing_run.completed"] != 1 {
			t.Fatalf("after %d kills there are %v, and the books are\n%.1000s\nand should be\n%.1000s", killed, counts, got, want)
		}
	}
}

// TestStoppedNodes: a node that is told to stop leaves its run in the queue at once, without an attempt less, and the next goes on.
func TestStoppedNodes(t *testing.T) {
	t.Parallel()
	want := calmBooks(t)
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", names("a", connections)...)
	runID := w.ask(march)
	_, leave := w.manager()
	leave()
	stopped := 0
	for range 8 {
		r, err := New(Options{Pool: w.pool, Log: w.Log, Clock: w.now, Tick: 24 * time.Hour})
		must(t, err)
		must(t, r.Start(t.Context()))
		w.await(func() bool {
			_, begun, err := ProgressOf(context.Background(), w.pool, w.request(runID))
			must(t, err)
			return begun
		})
		must(t, r.Stop(t.Context()))
		if w.request(runID).Open() {
			stopped++
			var state string
			var attempt, errors int
			must(t, w.pool.QueryRow(t.Context(), `SELECT state, attempt, coalesce(array_length(errors, 1), 0) FROM `+Schema+`.river_job WHERE kind = 'billing_run'`).Scan(&state, &attempt, &errors))
			if state != "available" || attempt > 1 || errors > 0 {
				t.Fatalf("the job that was stopped is %s after %d attempts with %d errors", state, attempt, errors)
			}
		}
	}
	t.Logf("stopped %d times", stopped)
	w.node()
	w.ended(runID)
	if got, counts := w.books(); got != want || counts["billing_run.ended"] != 1 {
		t.Errorf("there are %v, and the books are\n%.1000s\nand should be\n%.1000s", counts, got, want)
	}
}

// TestTick: the periodic job is there: a month that is due is closed by a node that nobody told to.
func TestTick(t *testing.T) {
	t.Parallel()
	w := newWorld(t, date(2026, 3, 1))
	w.sell(date(2026, 3, 11), "USD", "a")
	w.set(afterward)
	r, stop := w.manager()
	t.Cleanup(stop)
	r.options.Tick = time.Second
	ticking, err := New(r.options)
	must(t, err)
	must(t, ticking.Start(t.Context()))
	t.Cleanup(func() { ticking.Stop(context.Background()) })
	if request := w.ended(billing.RunID(march)); request.Ended == nil || request.Ended.Issued != 1 || request.Metadata.Actor != Actor {
		t.Errorf("March ended with %+v", request)
	}
}

// TestProgress: page after page is noted, and a run that is taken up again begins anew.
func TestProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", names("a", 7)...)
	r, err := New(Options{Pool: w.pool, Log: w.Log, Clock: w.now})
	must(t, err)
	request := w.request(w.ask(march))
	for range 2 {
		p := &progress{Meters: r.meters, runner: r, request: request}
		must(t, p.begin(t.Context()))
		for want, after := int64(0), (usage.Billable{}); ; want += 2 {
			page, err := p.Connections(t.Context(), march.From, march.To, after, 3) // one more than is billed at once
			must(t, err)
			if got, begun, err := ProgressOf(t.Context(), w.pool, request); err != nil || !begun || got != (Progress{LookedAt: want, Of: 7}) {
				t.Fatalf("after %d it is %+v, %t (%v)", want, got, begun, err)
			}
			if len(page) < 3 {
				break
			}
			after = page[1]
		}
	}
	request.Version++
	if _, begun, err := ProgressOf(t.Context(), w.pool, request); begun || err != nil {
		t.Errorf("another request has begun: %t (%v)", begun, err)
	}
}

const connections, kills = 120, 12

// calmBooks are the books of a run that nobody disturbs.
func calmBooks(t *testing.T) string {
	t.Helper()
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", names("a", connections)...)
	w.node()
	w.ended(w.ask(march))
	books, _ := w.books()
	return books
}

// manager runs the process manager of a runner that works no jobs, until stop is called, which waits until it has made the
// jobs of all that is in the log.
func (w *world) manager() (r *Runner, stop func()) {
	w.t.Helper()
	r, err := New(Options{Pool: w.pool, Log: w.Log, Clock: w.now, Tick: 24 * time.Hour})
	must(w.t, err)
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: w.pool, Log: w.Log, Projections: []projections.Projection{r.Projection()}})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { runner.Run(ctx); close(done) }()
	return r, func() {
		head, err := w.Head(context.Background())
		must(w.t, err)
		waiting, enough := context.WithTimeout(ctx, patience)
		defer enough()
		must(w.t, runner.WaitFor(waiting, head.Position))
		cancel()
		<-done
	}
}

// process runs a node as a process of its own, while f runs, and kills it.
func (w *world) process(f func()) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asNode+"="+w.pool.Config().ConnString())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, cmd.Start())
	defer func() {
		must(w.t, cmd.Process.Signal(syscall.SIGKILL))
		cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 100)); err != nil {
		w.t.Fatalf("the node did not start: %v %s", err, &said)
	}
	f()
}

func (w *world) request(runID string) billing.Requested {
	w.t.Helper()
	request, err := billing.LoadRequest(context.Background(), w, runID)
	must(w.t, err)
	return request
}

func (w *world) await(ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("it did not come to that")
		}
	}
}

// TestTakeUp: a job that a dead process left is taken up beside a living node, and one that is worked at is not.
func TestTakeUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, afterward)
	w.sell(date(2026, 3, 11), "USD", "a")
	r, _ := w.node()
	_, err := w.pool.Exec(t.Context(), `INSERT INTO `+Schema+`.river_job (kind, queue, args, max_attempts, state, attempt, attempted_at, attempted_by)
		SELECT 'billing_run', 'billing', jsonb_build_object('run_id', $1::text), 25, 'running', 1, now() - interval '1 hour', '{dead}'`, billing.RunID(march))
	must(t, err)
	state := func() (s string) {
		must(t, w.pool.QueryRow(context.Background(), `SELECT state FROM `+Schema+`.river_job ORDER BY id LIMIT 1`).Scan(&s))
		return s
	}
	mine, release, err := r.lock(t.Context(), billing.RunID(march))
	if err != nil || !mine {
		t.Fatal(mine, err)
	}
	must(t, r.takeUp(t.Context(), takeUpAfter))
	if got := state(); got != "running" {
		t.Errorf("what is worked at is %s", got)
	}
	release()
	must(t, r.takeUp(t.Context(), 2*time.Hour))
	if got := state(); got != "running" {
		t.Errorf("what has just begun is %s", got)
	}
	must(t, r.takeUp(t.Context(), takeUpAfter))
	w.await(func() bool { return state() == "completed" })
}

// TestMonths: the clock passes the end of March's grace, and March is closed once, by whichever of three nodes; what had
// problems is asked for again a day later, and no more once it has none.
func TestMonths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, date(2026, 3, 1)) // the log begins
	w.sell(date(2026, 3, 11), "USD", names("a", 3)...)
	var nodes []*Runner
	for range 3 {
		r, _ := w.node()
		nodes = append(nodes, r)
	}
	tick := func(at time.Time) (requests int) {
		w.set(at)
		var ticks sync.WaitGroup
		for _, r := range nodes {
			for range 3 {
				ticks.Go(func() {
					if err := (&ticker{runner: r}).Work(context.Background(), nil); err != nil {
						t.Error(err)
					}
				})
			}
		}
		ticks.Wait()
		_, counts := w.books()
		return counts["billing_run.requested"]
	}
	due := march.To.Add(billing.DefaultGrace)
	for _, at := range []time.Time{date(2026, 3, 31), march.To, due.Add(-time.Microsecond)} {
		if n := tick(at); n != 0 {
			t.Fatalf("at %s March was asked for %d times", at, n)
		}
	}
	if n := tick(due); n != 1 {
		t.Fatalf("at the end of its grace March was asked for %d times", n)
	}
	runID := billing.RunID(march)
	request := w.ended(runID)
	if request.Ended == nil || request.Ended.Issued != 1 || !request.Ended.At.Equal(due) || request.Metadata.Actor != Actor {
		t.Fatalf("March ended with %+v", request)
	}
	if n := tick(due.Add(20 * 24 * time.Hour)); n != 1 {
		t.Errorf("March is closed and was asked for %d times", n)
	}

	// April has a connection that can't be billed at first.
	w.sell(date(2026, 4, 1), "EUR", "x")
	w.account("x", "USD")
	april := billing.MonthOf(march.To)
	due = april.To.Add(billing.DefaultGrace)
	tick(due)
	request = w.ended(billing.RunID(april))
	if request.Ended == nil || request.Ended.Issued != 1 || request.Ended.ProblemCount != 1 || request.Ended.Problems[0].ConnectionID != id(domain.PrefixConnection, "x") {
		t.Fatalf("April ended with %+v", request)
	}
	if n := tick(due.Add(retryAfter - time.Microsecond)); n != 2 {
		t.Errorf("within the day: %d requests", n)
	}
	if n := tick(due.Add(retryAfter)); n != 3 {
		t.Errorf("a day later: %d requests", n)
	}
	if request = w.ended(billing.RunID(april)); request.Ended == nil || request.Ended.Issued != 0 || request.Ended.ProblemCount != 1 {
		t.Errorf("a day later, with the same problem, April ended with %+v", request)
	}
	w.rate("EUR", "USD", "1.5", april.From)
	if n := tick(due.Add(2 * retryAfter)); n != 4 {
		t.Errorf("two days later: %d requests", n)
	}
	if request = w.ended(billing.RunID(april)); request.Ended == nil || request.Ended.Issued != 1 || request.Ended.InvoiceCount != 2 || request.Ended.ProblemCount != 0 {
		t.Errorf("with the rate, April ended with %+v", request)
	}
	if n := tick(due.Add(9 * retryAfter)); n != 4 {
		t.Errorf("all is billed and was asked for again: %d requests", n)
	}
	// A platform that was away for two months closes both.
	if n := tick(date(2026, 7, 3)); n != 6 {
		t.Errorf("after two months: %d requests", n)
	}
}

// account gives the customer of a connection that was sold by itself an account with a currency of its own.
func (w *world) account(name string, currency domain.Currency) {
	w.t.Helper()
	account, owner := id(domain.PrefixBillingAccount, name), id(domain.PrefixOrganisation, "customer", name[:1], 0)
	_, err := w.Append(context.Background(), events.Append{Streams: []events.StreamAppend{
		stream(billingaccount.Stream(account), billingaccount.Opened{BillingAccountID: account, OrganisationID: owner, At: date(2026, 1, 2),
			Details: billingaccount.Details{Name: name, InvoiceCurrency: currency, Holder: billingaccount.Holder{
				Kind: billingaccount.HolderCompany, LegalName: name, Address: &billingaccount.Address{Country: "US"}}}}),
		stream(billingaccount.DefaultStream(owner), billingaccount.DefaultSet{OrganisationID: owner, BillingAccountID: account, At: date(2026, 1, 2)}),
	}})
	must(w.t, err)
}

// rate records an exchange rate.
func (w *world) rate(base, quote domain.Currency, rate string, from time.Time) {
	w.t.Helper()
	_, err := w.Append(context.Background(), events.Append{Streams: []events.StreamAppend{stream(exchangerate.Stream(base, quote), exchangerate.Set{
		Base: base, Quote: quote, Version: 1, Rate: domain.MustDecimal(rate), Source: "test", EffectiveFrom: from, At: from})}})
	must(w.t, err)
}
