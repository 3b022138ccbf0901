package provisioning

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
)

// Bounds of one job. A saga from order to production has six steps; every lost race means that somebody else's append
// went through.
const (
	maxStepsPerJob = 32
	maxRacesPerJob = 64
	longestSnooze  = 30 * time.Second // a longer wait has a timer of its own
	shortestSnooze = time.Millisecond // a timer may run a little before its deadline by this node's clock
	givenUpHint    = "crossbill connections list --needs operator"
	unkeptHint     = "look at the database: the log takes no events, or can't be read"
)

// AdvanceArgs name the saga a job is to advance, by its order or its connection; either leads to the other.
type AdvanceArgs struct {
	OrderID      string `json:"order_id,omitempty"`
	ConnectionID string `json:"connection_id,omitempty"`
	Cause        string `json:"cause"`                 // log position of the event that asked for it, for tracing
	Timer        bool   `json:"timer,omitempty"`       // it was scheduled for a deadline
	Termination  string `json:"termination,omitempty"` // the order that ends the connection at that deadline
}

// Kind implements river.JobArgs. It is stored with each job and never changes.
func (AdvanceArgs) Kind() string { return "advance" }

// insertOpts are those of a job for now, or for a later instant.
func insertOpts(at time.Time) *river.InsertOpts {
	return &river.InsertOpts{Queue: queue, MaxAttempts: maxAttempts, ScheduledAt: at}
}

// saga is what the log says of an order and its connection at one moment.
type saga struct {
	order             order.State
	orderVersion      int64
	connection        connection.State
	connectionVersion int64
	cause             string
	next              *saga // where what an append makes of it is left; nil: nowhere
}

type worker struct {
	river.WorkerDefaults[AdvanceArgs]
	provisioner *Provisioner
}

// Work runs a job: it advances the saga and, when the next step depends on nothing but time, asks to be run then.
func (w *worker) Work(ctx context.Context, job *river.Job[AdvanceArgs]) error {
	step, err := w.provisioner.advance(ctx, job.Args)
	if err != nil {
		kept, unkept := w.provisioner.report(ctx, err)
		if unkept != nil {
			w.provisioner.options.Logger.WarnContext(ctx, "that a saga step failed could not be recorded", "error", unkept, "job", job.ID)
		}
		if !kept && job.Attempt >= job.MaxAttempts { // nobody would hear of it, so it goes on
			w.provisioner.options.Logger.ErrorContext(ctx, "saga step fails, and that could not be recorded", "error", err, "job", job.ID,
				"args", job.Args, "hint", unkeptHint)
			return river.JobSnooze(maxBackOff)
		}
		return err
	}
	if step.Until.IsZero() {
		return nil
	}
	wait := max(step.Until.Sub(w.provisioner.now()), shortestSnooze)
	if job.Args.Timer || wait <= longestSnooze {
		return river.JobSnooze(wait)
	}
	return nil
}

// NextRetry implements river.Worker.
func (w *worker) NextRetry(job *river.Job[AdvanceArgs]) time.Time {
	return time.Now().Add(w.provisioner.backOff(job.Attempt))
}

// advance does the steps of the named order's saga or, of a connection, of all the orders whose fate is bound to its, until
// each has to wait or is done. It returns that last step: of several, the one that waits for the nearest time.
//
// What one order's saga does to the connection may be what another's waits for, and starts no job: after a step of one, all are
// looked at.
func (p *Provisioner) advance(ctx context.Context, args AdvanceArgs) (Step, error) {
	var known *saga
	orders := []string{args.OrderID}
	if args.OrderID == "" {
		known = &saga{}
		var err error
		if known.connection, known.connectionVersion, err = loadConnection(ctx, p.options.Log, args.ConnectionID); err != nil {
			return Step{}, err
		}
		orders = known.connection.OrderIDs()
	}
	nearest, first := Step{Kind: Done}, true
	var failed error
	for steps := 0; len(orders) > 0; orders = orders[1:] {
		args.OrderID = orders[0]
		s, step, taken, err := p.advanceOrder(ctx, args, known)
		known, args.ConnectionID = nil, cmp.Or(args.ConnectionID, s.connection.ID)
		if steps += taken; steps > maxStepsPerJob {
			return Step{}, domain.Errorf(domain.Unavailable, "provisioning.advance", "the sagas of %s did not come to rest", s.connection.ID)
		}
		for _, id := range s.connection.OrderIDs() {
			if taken > 0 && !slices.Contains(orders, id) {
				orders = append(orders, id)
			}
		}
		if err != nil { // one that fails must not keep the others
			failed = cmp.Or(failed, err)
			continue
		}
		if first || !step.Until.IsZero() && (nearest.Until.IsZero() || step.Until.Before(nearest.Until)) {
			nearest, first = step, false
		}
	}
	return nearest, failed
}

// advanceOrder does the steps of one order's saga. It returns where that is then, what it waits for, and how many steps were
// taken. Of its connection, known has what was just loaded, unless it is nil.
//
// After a step the saga is what its append made of it, and is loaded again only before it rests: what others appended in between
// may have started a job that was over before the step was taken.
func (p *Provisioner) advanceOrder(ctx context.Context, args AdvanceArgs, known *saga) (s saga, rest Step, taken int, _ error) {
	const op = "provisioning.advance"
	if args.ConnectionID == "" { // it is the order's for good
		o, _, err := events.Load(ctx, p.options.Log, order.Stream(args.OrderID), order.Evolve)
		if err != nil {
			return s, Step{}, 0, err
		}
		args.ConnectionID = o.ConnectionID
	}
	races, loaded := 0, false
	var next *saga // what the last step made of it; nil: it is to be loaded
	for range 2*maxStepsPerJob + maxRacesPerJob {
		if loaded = next == nil; loaded {
			var err error
			if s, err = p.load(ctx, args, known); err != nil {
				return s, Step{}, taken, err
			}
			known = nil
		} else {
			s = *next
		}
		next = nil
		step := Next(s.order, s.connection, p.now(), p.policy)
		resting := step.Kind == Wait || step.Kind == Done
		if resting && !loaded {
			continue
		}
		var err error
		if resting {
			err = p.rest(ctx, s)
		} else {
			after := s
			s.next = &after
			err = p.attempt(ctx, s, step, races)
		}
		switch {
		case domain.CodeOf(err) == domain.Conflict && races < maxRacesPerJob:
			races++ // somebody moved on, or took what was about to be allocated: look again
		case err != nil:
			return s, Step{}, taken, &stepError{s.order.ID, s.connection.ID, step, err}
		case resting:
			return s, step, taken, nil
		default:
			next = s.next
			taken++
			p.options.Logger.InfoContext(ctx, "saga step", "step", step.Kind, "reason", step.Reason,
				"order", s.order.ID, "connection", s.connection.ID, "cause", args.Cause)
		}
	}
	return s, Step{}, taken, domain.Errorf(domain.Unavailable, op, "the saga of %s%s did not come to rest", args.OrderID, args.ConnectionID)
}

// load reads both halves of the saga. A connection that nobody asked for yet is the zero state.
//
// The connection is read first. The log may grow between the two, and a connection that is newer than its order would be
// taken for one whose order never got so far, and be taken down. An order that is newer than its connection does no harm:
// what follows from that is appended to the connection, whose version has passed.
//
// If the connection has just been loaded, that is known.
func (p *Provisioner) load(ctx context.Context, args AdvanceArgs, known *saga) (s saga, err error) {
	if known != nil {
		s = *known
	} else if s.connection, s.connectionVersion, err = loadConnection(ctx, p.options.Log, args.ConnectionID); err != nil {
		return s, err
	}
	s.cause = args.Cause
	s.order, s.orderVersion, err = events.Load(ctx, p.options.Log, order.Stream(args.OrderID), order.Evolve)
	return s, err
}

func loadConnection(ctx context.Context, log *events.Log, id string) (connection.State, int64, error) {
	return events.Load(ctx, log, connection.Stream(id), connection.Evolve)
}

// errorHandler tells the operator of a job that will not be tried again.
type errorHandler struct{ logger *slog.Logger }

// HandleError implements river.ErrorHandler.
func (h *errorHandler) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	level, message := slog.LevelWarn, "saga step failed, will be tried again"
	if job.Attempt >= job.MaxAttempts {
		level, message = slog.LevelError, "saga step given up, a person is needed"
	}
	h.logger.Log(ctx, level, message, "error", err, "attempt", job.Attempt, "job", job.ID,
		"args", string(job.EncodedArgs), "hint", givenUpHint)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (h *errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, value any, trace string) *river.ErrorHandlerResult {
	h.logger.ErrorContext(ctx, "saga step panicked", "panic", value, "attempt", job.Attempt, "job", job.ID,
		"args", string(job.EncodedArgs), "trace", trace, "hint", givenUpHint)
	return nil
}
