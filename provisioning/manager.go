package provisioning

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/events"
	"crossbill/projections"
)

// ProjectionName is the name the process manager's checkpoint is kept under.
const ProjectionName = "provisioning"

// Projection returns the process manager: a projection whose write is the insertion of jobs. A replay from the first
// event starts a job per connection that finds nothing to do.
func (p *Provisioner) Projection() projections.Projection {
	return projections.Projection{Name: ProjectionName, Apply: p.start}
}

// start inserts one job for each order or connection that batch says something new of, one for both of a new order, and one
// more for each deadline that batch sets, to run when it is reached.
func (p *Provisioner) start(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var jobs []river.InsertManyParams
	queued := make(map[string]int) // stream → index of its job
	for _, recorded := range batch {
		args, now := concerned(recorded)
		stream := recorded.Stream
		if placed, ok := recorded.Event.(order.Placed); ok && placed.Item == "" { // its connection is requested in the same append
			stream = connection.Stream(placed.ConnectionID)
		}
		if i, again := queued[stream]; again && now { // the later event is the better cause to name
			jobs[i].Args = args
		} else if now {
			queued[stream] = len(jobs)
			jobs = append(jobs, river.InsertManyParams{Args: args, InsertOpts: insertOpts(time.Time{})})
		}
		if deadline := p.deadlineSet(recorded.Event); !deadline.IsZero() {
			args.Timer = true
			if scheduled, ok := recorded.Event.(connection.TerminationScheduled); ok {
				args.Termination = scheduled.OrderID
			}
			jobs = append(jobs, river.InsertManyParams{Args: args, InsertOpts: insertOpts(deadline)})
		}
	}
	if len(jobs) == 0 {
		return dropTimers(ctx, tx, batch)
	}
	if _, err := p.client.InsertManyFastTx(ctx, tx, jobs); err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.start", "the jobs could not be queued: %w", err).
			WithHint("run the migrations first: the table river_job is made by provisioning.Migrate")
	}
	return dropTimers(ctx, tx, batch)
}

// dropTimers removes the timers of terminations that batch takes back. One that stayed would do no harm, but wait for years.
func dropTimers(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var orders []string
	for _, recorded := range batch {
		if e, ok := recorded.Event.(connection.TerminationUnscheduled); ok {
			orders = append(orders, e.OrderID)
		}
	}
	if len(orders) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		DELETE FROM river_job WHERE kind = $1 AND state = 'scheduled' -- index river_job_prioritized_fetching_index or a scan: it is rare
		AND args ->> 'termination' = ANY ($2)`, AdvanceArgs{}.Kind(), orders)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.dropTimers", "the timers could not be removed: %w", err)
	}
	return nil
}

// concerned returns the job of the saga or the sagas that an event concerns; the zero job for events that leave every saga
// where it is. now is that the event asks for it to be run. What a saga recorded does not: its job goes on from there, or is
// run again if its process dies.
func concerned(recorded events.Recorded) (job AdvanceArgs, now bool) {
	now = recorded.ID != eventID(recorded.Stream, recorded.Version, recorded.Event)
	switch e := recorded.Event.(type) {
	case connection.SessionChanged:
		if e.State != connection.SessionEstablished {
			return AdvanceArgs{}, false // a saga waits for sessions to come up; one that goes down is the operators' matter
		}
	case connection.MessageChanged, connection.SessionConfigured, connection.SecretSet, connection.SecretRemoved,
		connection.StepFailed, connection.StepRecovered:
		return AdvanceArgs{}, false
	case connection.StepRetried: // its order's saga, of which the connection may not have heard yet
		return AdvanceArgs{OrderID: e.OrderID, Cause: strconv.FormatInt(int64(recorded.Position), 10)}, now
	case connection.Decommissioned: // all that is left to do is to complete the order that asked for it, if one did
	case order.Completed:
		return AdvanceArgs{}, false
	case order.Placed:
		return AdvanceArgs{OrderID: e.OrderID, ConnectionID: e.ConnectionID, Cause: strconv.FormatInt(int64(recorded.Position), 10)}, now
	}
	args := AdvanceArgs{Cause: strconv.FormatInt(int64(recorded.Position), 10)}
	category, id, _ := strings.Cut(recorded.Stream, "-")
	switch category {
	case "order":
		args.OrderID = id
	case "connection":
		args.ConnectionID = id
	default:
		return AdvanceArgs{}, false
	}
	return args, now
}

func (p *Provisioner) deadlineSet(event domain.Event) time.Time {
	switch e := event.(type) {
	case order.Placed:
		return e.Deadline
	case order.Approved:
		return e.Deadline
	case order.QuestionAsked:
		return e.AnswerBy
	case order.QuestionAnswered:
		return e.Deadline
	case connection.TestingStarted:
		return e.Deadline
	case connection.ChangeRequested:
		return e.At.Add(p.options.ChangeWithin)
	case connection.RebuildStarted:
		return e.Deadline
	case connection.RebuildAbandoned:
		return e.At.Add(p.options.EdgeWithin)
	case connection.Rebuilt:
		return e.At.Add(p.options.EdgeWithin)
	case connection.TerminationScheduled:
		return e.EffectiveAt
	case connection.SuspensionRequested:
		return e.At.Add(p.options.EdgeWithin)
	case connection.ResumptionRequested:
		return e.At.Add(p.options.EdgeWithin)
	case connection.DecommissionRequested:
		return e.At.Add(p.options.EdgeWithin)
	case connection.CancellationRequested:
		return e.At.Add(p.options.EdgeWithin)
	case connection.StepRetried:
		return e.At.Add(p.options.EdgeWithin)
	}
	return time.Time{}
}
