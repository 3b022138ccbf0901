package provisioning

import (
	"cmp"
	"context"
	"log/slog"
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
func (p *Provisioner) advance(ctx context.Context, args AdvanceArgs) (Step, error) {
	if args.OrderID != "" {
		return p.advanceOrder(ctx, args)
	}
	c, _, err := loadConnection(ctx, p.options.Log, args.ConnectionID)
	if err != nil {
		return Step{}, err
	}
	nearest := Step{Kind: Done}
	var failed error
	for i, id := range c.OrderIDs() {
		args.OrderID = id
		step, err := p.advanceOrder(ctx, args)
		if err != nil { // one that fails must not keep the others
			failed = cmp.Or(failed, err)
			continue
		}
		if i == 0 || !step.Until.IsZero() && (nearest.Until.IsZero() || step.Until.Before(nearest.Until)) {
			nearest = step
		}
	}
	return nearest, failed
}

// advanceOrder does the steps of one order's saga.
func (p *Provisioner) advanceOrder(ctx context.Context, args AdvanceArgs) (Step, error) {
	const op = "provisioning.advance"
	if args.ConnectionID == "" { // it is the order's for good
		o, _, err := events.Load(ctx, p.options.Log, order.Stream(args.OrderID), order.Evolve)
		if err != nil {
			return Step{}, err
		}
		args.ConnectionID = o.ConnectionID
	}
	races := 0
	for range maxStepsPerJob + maxRacesPerJob {
		s, err := p.load(ctx, args)
		if err != nil {
			return Step{}, err
		}
		step := Next(s.order, s.connection, p.now(), p.policy)
		resting := step.Kind == Wait || step.Kind == Done
		if resting {
			err = p.rest(ctx, s)
		} else {
			err = p.attempt(ctx, s, step, races)
		}
		switch {
		case domain.CodeOf(err) == domain.Conflict && races < maxRacesPerJob:
			races++ // somebody moved on, or took what was about to be allocated: look again
		case err != nil:
			return Step{}, &stepError{s.order.ID, s.connection.ID, step, err}
		case resting:
			return step, nil
		default:
			p.options.Logger.InfoContext(ctx, "saga step", "step", step.Kind, "reason", step.Reason,
				"order", s.order.ID, "connection", s.connection.ID, "cause", args.Cause)
		}
	}
	return Step{}, domain.Errorf(domain.Unavailable, op, "the saga of %s%s did not come to rest", args.OrderID, args.ConnectionID)
}

// load reads both halves of the saga. A connection that nobody asked for yet is the zero state.
//
// The connection is read first. The log may grow between the two, and a connection that is newer than its order would be
// taken for one whose order never got so far, and be taken down. An order that is newer than its connection does no harm:
// what follows from that is appended to the connection, whose version has passed.
func (p *Provisioner) load(ctx context.Context, args AdvanceArgs) (s saga, err error) {
	s.cause = args.Cause
	if s.connection, s.connectionVersion, err = loadConnection(ctx, p.options.Log, args.ConnectionID); err != nil {
		return s, err
	}
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
