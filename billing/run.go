package billing

import (
	"context"
	"maps"
	"slices"
	"time"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
)

// RunRequest asks for the close of a period.
type RunRequest struct {
	// RunID makes the run repeatable: the same id again answers with what it issued. Empty, it is derived from the period
	// (and ConnectionIDs), and the same request again bills what the first could not know of.
	RunID       string
	PeriodStart time.Time // UTC, whole seconds
	PeriodEnd   time.Time // exclusive; not after At
	// ConnectionIDs are the connections to bill; nil, they are all that were ever in production. One that has nothing to
	// bill is passed over.
	ConnectionIDs []string
	At            time.Time       // now; when the documents are issued
	Metadata      events.Metadata // of what is appended; Run sets the parties
	// Grace is how long after its end a period stays open for readings that are under way. Closed before, it is refused;
	// what comes later still is billed as an adjustment.
	Grace time.Duration

	batch int // connections that are billed together; 0: maxBatch
}

// DefaultGrace is for meters that were cut off for a while.
const DefaultGrace = 48 * time.Hour

// Meters is where readings are kept by bucket and day; [usage.Store] is it.
type Meters interface {
	CatchUp(ctx context.Context, position events.Position) error
	Open(ctx context.Context, connections []string, from, to time.Time) (*usage.Stock, error)
	Connections(ctx context.Context, from, to time.Time, after usage.Billable, limit int) ([]usage.Billable, error)
	Known(ctx context.Context, connections []string) ([]usage.Billable, error)
}

// Problem is a connection that could not be billed, and why. The next run tries again.
type Problem struct {
	ConnectionID string
	Err          error
}

// RunResult is what stands for a period after a run: the invoices and settlements of its connections, whether this call
// issued them or found them issued.
type RunResult struct {
	RunID       string
	PeriodStart time.Time
	PeriodEnd   time.Time
	LogPosition int64           // the run computed everything from the log up to here
	Position    events.Position // of the last event that the run appended
	Invoices    []string
	Settlements []string
	Issued      int       // how many of the invoices this call issued
	Problems    []Problem // connections that were left out
}

// Run closes a period: it bills every connection that is billable in it and is not billed for it yet, one invoice per
// customer, billing account and currency, adjusts closed periods for which readings came late, and settles with every
// provider what its services came to. It asserts [CheckNoMargin] before anything is appended, and again on what the log
// then holds.
//
// It goes through the connections by customer, some hundreds at a time, each batch as the log was at one position: so its
// memory does not grow with their number. The invoices of a batch, their numbers, the settlements and, with the last, the
// run's own event are one append: the log never holds a part of it. A provider has a settlement from each. Whoever runs it
// again after a crash, or at the same time, continues it: a connection and a period meet in one stream, so none is billed
// twice.
//
// What keeps a connection from being billed (no exchange rate, say) is a [Problem] and keeps no other; if there is nothing
// but problems, the first of them is the error, and the result has them all.
//
// It returns an Invalid error for a period that is malformed or still open, NotFound for a connection that does not
// exist, a Conflict for a run id that closed another period, Unavailable if other runs kept coming first, Internal if the
// books do not balance: then nothing was appended.
func Run(ctx context.Context, log Log, meters Meters, request RunRequest) (RunResult, error) {
	const op = "billing.Run"
	request.PeriodStart, request.PeriodEnd, request.At = request.PeriodStart.UTC(), request.PeriodEnd.UTC(), domain.Instant(request.At)
	if err := checkPeriod(op, request.period(), request.At); err != nil {
		return RunResult{}, err
	}
	if open := request.PeriodEnd.Add(request.Grace); open.After(request.At) {
		return RunResult{}, domain.Errorf(domain.Conflict, op, "the period is open for readings under way until %s", open.Format(time.RFC3339)).
			WithHint("try again then; readings that come later still are billed as adjustments")
	}
	if request.RunID != "" && !domain.ValidID(domain.PrefixBillingRun, request.RunID) {
		return RunResult{}, domain.Errorf(domain.Invalid, op, "%.60q is no id of a billing run", request.RunID)
	}
	if request.batch == 0 {
		request.batch = maxBatch
	}
	r := run{log: log, meters: meters, request: request}
	return r.close(ctx)
}

func (r RunRequest) period() Period { return Period{From: r.PeriodStart, To: r.PeriodEnd} }

// lostRace is a Conflict of an append: somebody else wrote what it was decided on.
type lostRace struct{ error }

func (l lostRace) Unwrap() error { return l.error }

// run is a request being carried out.
type run struct {
	log      Log
	meters   Meters
	request  RunRequest
	id       string
	upTo     events.Position // where the log was when it began
	found    found
	issued   int
	problems []Problem
}

// found is what was billed for the very period already: each document once, however many connections it has.
type found struct {
	by                    string // a run that billed some
	mine                  bool   // this run billed some
	invoices, settlements map[string]bool
}

func (f *found) add(closed []billingrun.PeriodClosed, run string) {
	for _, c := range closed {
		if f.by == "" {
			*f = found{by: c.RunID, invoices: make(map[string]bool), settlements: make(map[string]bool)}
		}
		f.mine = f.mine || c.RunID == run
		f.invoices[c.InvoiceID], f.settlements[c.SettlementID] = true, true
	}
}

// openConnection is one that is to be billed, with its closed periods as they were read.
type openConnection struct {
	Facts
	periods billingrun.PeriodState
	version int64
}

// derivedID names a request that has no name: what it asks for, and what else tells it from others.
func (r *run) derivedID(parts ...string) string {
	parts = append(parts, r.request.PeriodStart.Format(time.RFC3339), r.request.PeriodEnd.Format(time.RFC3339))
	return domain.DeriveID(domain.PrefixBillingRun, r.request.PeriodStart, append(parts, r.request.ConnectionIDs...)...)
}

// completed returns what a run issued, if it completed, and the position of the event that says so.
func (r *run) completed(ctx context.Context, id string) (billingrun.Content, events.Position, error) {
	var state billingrun.State
	var position events.Position
	err := scan(ctx, r.log, billingrun.Stream(id), 1, maxVersion, maxPosition, func(e events.Recorded) error {
		state, position = billingrun.Evolve(state, e.Event), e.Position
		return nil
	})
	if err != nil || state.RunID == "" {
		return billingrun.Content{}, 0, err
	}
	if !state.PeriodStart.Equal(r.request.PeriodStart) || !state.PeriodEnd.Equal(r.request.PeriodEnd) {
		return billingrun.Content{}, 0, domain.Errorf(domain.Conflict, "billing.Run", "run %s closed the period from %s to %s", id,
			state.PeriodStart.Format(time.RFC3339), state.PeriodEnd.Format(time.RFC3339)).WithHint("give another period another run id")
	}
	return state.Content, position, nil
}

// candidates returns the connections to look at after another, in the order of their customers; at most limit.
func (r *run) candidates(ctx context.Context, after usage.Billable, limit int) ([]usage.Billable, error) {
	if r.request.ConnectionIDs == nil {
		return r.meters.Connections(ctx, r.request.PeriodStart, r.request.PeriodEnd, after, limit)
	}
	known, err := r.meters.Known(ctx, r.request.ConnectionIDs)
	if err != nil {
		return nil, err
	}
	for _, id := range r.request.ConnectionIDs {
		if !slices.ContainsFunc(known, func(b usage.Billable) bool { return b.ConnectionID == id }) {
			return nil, domain.Missing("billing.Run", "connection")
		}
	}
	n := 0
	for n < len(known) && known[n].Compare(after) <= 0 {
		n++
	}
	return known[n:min(len(known), n+limit)], nil
}

// batch is connections of a few customers that are billed together, as the log was at one position.
type batch struct {
	*run
	upTo       events.Position
	open       map[string]openConnection // to be billed, by id
	book       *book
	found      []billingrun.PeriodClosed
	problems   []Problem
	allowances map[string]int64 // how many invoices of this batch have used a customer's free tier
}

// surveyed is the batch of connections after another, as far as it could be read.
type surveyed struct {
	*batch
	after, end usage.Billable // the last connection before it, and its own
	last       bool           // there is none after it
	goesOn     bool           // its last customer has more connections
	err        error
}

// survey sorts the next connections into those billed for the period and those to be billed, with their facts.
func (r *run) survey(ctx context.Context, after usage.Billable) surveyed {
	s := surveyed{after: after}
	s.err = s.read(ctx, r)
	return s
}

func (s *surveyed) read(ctx context.Context, r *run) error {
	all, err := r.candidates(ctx, s.after, r.request.batch+1)
	if err != nil {
		return err
	}
	s.last = len(all) <= r.request.batch
	connections := wholeCustomers(all[:min(len(all), r.request.batch)], s.last)
	from, err := openStock(ctx, r.log, r.meters, r.request.period(), connections)
	if err != nil {
		return err
	}
	defer from.Close(ctx)
	s.batch = &batch{run: r, upTo: from.upTo, book: from.book, open: make(map[string]openConnection), allowances: make(map[string]int64)}
	for _, connection := range connections {
		c, err := s.look(ctx, from, connection.ConnectionID)
		switch {
		case domain.CodeOf(err) == domain.Conflict:
			s.problems = append(s.problems, Problem{connection.ConnectionID, err})
		case err != nil:
			return err
		case c.charges():
			s.open[connection.ConnectionID] = c
		}
	}
	if n := len(connections); n > 0 {
		s.end = connections[n-1]
		s.goesOn = n < len(all) && all[n].CustomerID == s.end.CustomerID
	}
	return nil
}

// look gathers a connection, unless it is billed for the period. A part of the period being billed is a Conflict.
func (b *batch) look(ctx context.Context, s *stock, id string) (c openConnection, err error) {
	if c.Facts, c.periods, c.version, err = s.facts(ctx, id); err != nil {
		return c, err
	}
	closed, overlaps := c.periods.Overlapping(b.request.PeriodStart, b.request.PeriodEnd)
	switch {
	case overlaps && ofPeriod(closed).Equal(b.request.period()):
		b.found = append(b.found, closed)
		return openConnection{}, nil
	case overlaps && !c.Billable.Empty():
		return c, domain.Errorf(domain.Conflict, "billing.Run", "%s is billed from %s to %s by %s already", id,
			closed.PeriodStart.Format(time.RFC3339), closed.PeriodEnd.Format(time.RFC3339), closed.InvoiceID).
			WithHint("choose a period that shares no time with it, or leave the connection out")
	}
	if err := s.complete(ctx, &c.Facts, c.periods, s.closedPeriod); err != nil || !c.charges() {
		return c, err
	}
	_, err = s.book.provider(ctx, c.Connection.ProviderID) // what keeps it from being settled must not keep the whole batch
	return c, err
}

// existing answers from the log where nothing is left to bill. ok is false if the run has yet to say that it is complete.
func (r *run) existing(ctx context.Context, done billingrun.Content, position events.Position) (result RunResult, ok bool, err error) {
	switch {
	case done.RunID != "":
	case r.found.by == "" || r.found.mine:
		return RunResult{}, false, nil
	default:
		if done, position, err = r.completed(ctx, r.found.by); err != nil {
			return RunResult{}, false, err
		}
		if done.RunID == "" { // a run that is still going on, or has crashed; the connections asked for are billed
			done.RunID, done.PeriodStart, done.PeriodEnd = r.found.by, r.request.PeriodStart, r.request.PeriodEnd
			done.LogPosition = int64(r.upTo)
		}
		done.Invoices, done.Settlements = nil, nil // its other connections were not asked for
	}
	result = resultOf(done, position)
	result.add(r.found)
	return result, true, nil
}

func resultOf(c billingrun.Content, position events.Position) RunResult {
	return RunResult{
		RunID: c.RunID, PeriodStart: c.PeriodStart, PeriodEnd: c.PeriodEnd, LogPosition: c.LogPosition, Position: position,
		Invoices: append([]string{}, c.Invoices...), Settlements: append([]string{}, c.Settlements...),
	}
}

// add adds the documents that were found, after those that were issued, in the order of their ids.
func (r *RunResult) add(f found) {
	for _, kind := range []struct {
		all   *[]string
		found map[string]bool
	}{{&r.Invoices, f.invoices}, {&r.Settlements, f.settlements}} {
		for _, id := range *kind.all {
			delete(kind.found, id)
		}
		*kind.all = append(*kind.all, slices.Sorted(maps.Keys(kind.found))...)
	}
}
