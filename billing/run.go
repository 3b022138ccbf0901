package billing

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/events"
)

// RunRequest asks for the close of a period.
type RunRequest struct {
	// RunID makes the run repeatable: the same id again answers with what it issued. Empty, it is derived from the period
	// (and ConnectionIDs), and the same request again bills what the first could not know of.
	RunID       string
	PeriodStart time.Time // UTC, whole seconds
	PeriodEnd   time.Time // exclusive; not after At
	// ConnectionIDs are the connections to bill, and Connections lists them when that takes a while; both nil, they are
	// all that were ever in production. One that is not billable in the period is passed over.
	ConnectionIDs []string
	Connections   func(ctx context.Context) ([]string, error)
	At            time.Time       // now; when the documents are issued
	Metadata      events.Metadata // of what is appended; Run sets the parties
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
	Issued      int // how many of the invoices this call issued
}

// Run closes a period: it bills every connection that is billable in it and is not billed for it yet, one invoice per
// customer and currency, and settles with every provider what its services came to. It asserts [CheckNoMargin] before
// anything is appended, and again on what the log then holds.
//
// Invoices, their numbers, the settlements and the run's own event are one append, so the log never holds a part of a
// close. A close that is too large for one append is several, each complete in itself: a provider has a settlement from
// each. Whoever runs it again after a crash, or at the same time, continues it: a connection and a period meet in one
// stream, so none is billed twice.
//
// A reading that arrives for a period that is closed stays in the log and changes no invoice; [LateReadings] lists it.
//
// It returns an Invalid error for a period that is malformed or still open, NotFound for a connection that does not
// exist, a Conflict for a connection that is billed for a part of the period or a run id that closed another period,
// Unavailable if other runs kept coming first, Internal if the books do not balance: then nothing was appended.
func Run(ctx context.Context, log Log, request RunRequest) (RunResult, error) {
	const op = "billing.Run"
	request.PeriodStart, request.PeriodEnd, request.At = request.PeriodStart.UTC(), request.PeriodEnd.UTC(), domain.Instant(request.At)
	if err := checkPeriod(op, request.period(), request.At); err != nil {
		return RunResult{}, err
	}
	if request.RunID != "" && !domain.ValidID(domain.PrefixBillingRun, request.RunID) {
		return RunResult{}, domain.Errorf(domain.Invalid, op, "%.60q is no id of a billing run", request.RunID)
	}
	for range maxRunAttempts {
		r := run{log: log, request: request, open: make(map[string]openConnection), allowances: make(map[string]int64)}
		result, err := r.attempt(ctx)
		if !errors.As(err, new(lostRace)) {
			return result, err
		}
		if err := ctx.Err(); err != nil {
			return RunResult{}, domain.Errorf(domain.Unavailable, op, "the caller gave up: %w", err)
		}
	}
	return RunResult{}, domain.Errorf(domain.Unavailable, op, "other runs came first %d times", maxRunAttempts).WithHint("run it again")
}

func (r RunRequest) period() Period { return Period{From: r.PeriodStart, To: r.PeriodEnd} }

// lostRace is a Conflict of an append: somebody else wrote what it was decided on.
type lostRace struct{ error }

func (l lostRace) Unwrap() error { return l.error }

// run is one attempt at a request: everything it read, so that it can be thrown away when another came first.
type run struct {
	log     Log
	request RunRequest
	id      string
	upTo    events.Position
	found   []billingrun.PeriodClosed // billed for this very period already
	open    map[string]openConnection // to be billed, by id

	allowances map[string]int64 // how many invoices of this run have used a customer's free tier
}

// openConnection is one that is to be billed, with its closed periods as they were read.
type openConnection struct {
	Facts
	periods billingrun.PeriodState
	version int64
}

// attempt reads everything as it was at one position, so that nothing another run writes meanwhile is seen by half.
// What was written since then makes the append fail.
func (r *run) attempt(ctx context.Context) (RunResult, error) {
	head, err := r.log.Head(ctx)
	if err != nil {
		return RunResult{}, err
	}
	r.upTo = head.Position
	r.id = r.request.RunID
	if r.id == "" {
		r.id = r.derivedID()
	}
	done, position, err := r.completed(ctx, r.id)
	if err != nil {
		return RunResult{}, err
	}
	if done.RunID != "" && r.request.RunID != "" {
		return resultOf(done, position), nil
	}
	if err := r.survey(ctx); err != nil {
		return RunResult{}, err
	}
	if len(r.open) == 0 {
		if result, ok, err := r.existing(ctx, done, position); ok || err != nil {
			return result, err
		}
	} else if done.RunID != "" {
		r.id = r.derivedID(strconv.FormatInt(int64(r.upTo), 10))
	}
	return r.close(ctx)
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
	err := scan(ctx, r.log, billingrun.Stream(id), 1, maxVersion, r.upTo, func(e events.Recorded) error {
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

// survey sorts the connections into those billed for the period and those to be billed, with their facts.
func (r *run) survey(ctx context.Context) error {
	ids, err := r.connections(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		c := openConnection{}
		if c.periods, c.version, err = load(ctx, r.log, billingrun.PeriodStream(id), r.upTo, billingrun.EvolvePeriod); err != nil {
			return err
		}
		closed, overlaps := c.periods.Overlapping(r.request.PeriodStart, r.request.PeriodEnd)
		if overlaps && closed.PeriodStart.Equal(r.request.PeriodStart) && closed.PeriodEnd.Equal(r.request.PeriodEnd) {
			r.found = append(r.found, closed)
			continue
		}
		if c.Facts, err = Gather(ctx, r.log, id, r.request.period(), r.upTo); err != nil {
			return err
		}
		if c.Billable.Empty() {
			continue
		}
		if overlaps {
			return domain.Errorf(domain.Conflict, "billing.Run", "%s is billed from %s to %s by %s already", id,
				closed.PeriodStart.Format(time.RFC3339), closed.PeriodEnd.Format(time.RFC3339), closed.InvoiceID).
				WithHint("choose a period that shares no time with it, or leave the connection out")
		}
		r.open[id] = c
	}
	return nil
}

// connections returns the ids to bill, sorted, each once.
func (r *run) connections(ctx context.Context) (ids []string, err error) {
	switch {
	case r.request.Connections != nil:
		ids, err = r.request.Connections(ctx)
	case r.request.ConnectionIDs != nil:
		ids = slices.Clone(r.request.ConnectionIDs)
	default:
		ids, err = Connections(ctx, r.log, r.upTo)
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// Connections returns the connections that were put into production in the log up to a position, in that order.
func Connections(ctx context.Context, log Log, upTo events.Position) ([]string, error) {
	var ids []string
	for after := events.Position(0); ; {
		page, err := log.ReadCategory(ctx, "connection", after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if after = e.Position; after > upTo {
				return ids, nil
			}
			if a, ok := e.Event.(connection.Activated); ok {
				ids = append(ids, a.ConnectionID)
			}
		}
		if len(page) == 0 {
			return ids, nil
		}
	}
}

// existing answers from the log where nothing is left to bill. ok is false if the run has yet to say that it is complete.
func (r *run) existing(ctx context.Context, done billingrun.Content, position events.Position) (result RunResult, ok bool, err error) {
	mine := slices.ContainsFunc(r.found, func(c billingrun.PeriodClosed) bool { return c.RunID == r.id })
	switch {
	case done.RunID != "":
	case len(r.found) == 0 || mine:
		return RunResult{}, false, nil
	default:
		if done, position, err = r.completed(ctx, r.found[0].RunID); err != nil {
			return RunResult{}, false, err
		}
		if done.RunID == "" { // a run that is still going on, or has crashed; the connections asked for are billed
			done.RunID, done.PeriodStart, done.PeriodEnd = r.found[0].RunID, r.request.PeriodStart, r.request.PeriodEnd
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

// add adds the documents of closed periods that it does not have.
func (r *RunResult) add(closed []billingrun.PeriodClosed) {
	seen := make(map[string]bool)
	for _, id := range slices.Concat(r.Invoices, r.Settlements) {
		seen[id] = true
	}
	for _, c := range closed {
		if !seen[c.InvoiceID] {
			r.Invoices = append(r.Invoices, c.InvoiceID)
		}
		if !seen[c.SettlementID] {
			r.Settlements = append(r.Settlements, c.SettlementID)
		}
		seen[c.InvoiceID], seen[c.SettlementID] = true, true
	}
}
