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

// start inserts one job for each order or connection that batch says something new of, and one more for each deadline
// that batch sets, to run when it is reached.
func (p *Provisioner) start(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var jobs []river.InsertManyParams
	queued := make(map[string]int) // stream → index of its job
	for _, recorded := range batch {
		args, ok := concerned(recorded)
		if !ok {
			continue
		}
		if i, again := queued[recorded.Stream]; again { // the later event is the better cause to name
			jobs[i].Args = args
		} else {
			queued[recorded.Stream] = len(jobs)
			jobs = append(jobs, river.InsertManyParams{Args: args, InsertOpts: insertOpts(time.Time{})})
		}
		if deadline := deadlineSet(recorded.Event); !deadline.IsZero() {
			args.Timer = true
			jobs = append(jobs, river.InsertManyParams{Args: args, InsertOpts: insertOpts(deadline)})
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	if _, err := p.client.InsertManyFastTx(ctx, tx, jobs); err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.start", "the jobs could not be queued: %w", err).
			WithHint("run the migrations first: the table river_job is made by provisioning.Migrate")
	}
	return nil
}

// concerned returns the job that an event asks for. Events that leave every saga where it is ask for none.
func concerned(recorded events.Recorded) (AdvanceArgs, bool) {
	switch e := recorded.Event.(type) {
	case connection.SessionChanged:
		if e.State != connection.SessionEstablished {
			return AdvanceArgs{}, false // a saga waits for sessions to come up; one that goes down is the operators' matter
		}
	case order.Completed, connection.Decommissioned:
		return AdvanceArgs{}, false
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
	return args, true
}

func deadlineSet(event domain.Event) time.Time {
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
	}
	return time.Time{}
}
