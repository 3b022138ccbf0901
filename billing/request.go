package billing

import (
	"context"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
)

// RunID names the run that closes a period for everybody. Whoever asks for it again asks for the same run.
func RunID(p Period) string {
	r := run{request: RunRequest{PeriodStart: p.From.UTC(), PeriodEnd: p.To.UTC()}}
	return r.derivedID()
}

// Request returns the command that asks for the close of a period for everybody. What carries it out is billing/runs.
//
// It returns an Invalid error for a period that is malformed or still open, and a Conflict for one that is open for readings
// under way.
func Request(p Period, grace time.Duration, at time.Time) (billingrun.Request, error) {
	const op = "billing.Request"
	at = domain.Instant(at)
	if err := checkPeriod(op, p, at); err != nil {
		return billingrun.Request{}, err
	}
	if open := p.To.Add(grace); open.After(at) {
		return billingrun.Request{}, domain.Errorf(domain.Conflict, op, "the period is open for readings under way until %s", open.Format(time.RFC3339)).
			WithHint("try again then; readings that come later still are billed as adjustments")
	}
	return billingrun.Request{RunID: RunID(p), PeriodStart: p.From, PeriodEnd: p.To, Grace: grace, At: at}, nil
}

// Requested is what was last asked of a run, and by whom.
type Requested struct {
	billingrun.RequestState
	Version  int64           // of the stream of requests
	Position events.Position // of its newest event
	// Metadata says who asked: actor and delegation, and the request's correlation.
	Metadata events.Metadata
}

// LoadRequest returns what was last asked of a run. A run that nobody asked for is the zero state.
func LoadRequest(ctx context.Context, log Log, runID string) (r Requested, err error) {
	err = scan(ctx, log, billingrun.RequestStream(runID), 1, maxVersion, maxPosition, func(e events.Recorded) error {
		r.RequestState, r.Version, r.Position = billingrun.EvolveRequest(r.RequestState, e.Event), e.Version, e.Position
		if _, asked := e.Event.(billingrun.Requested); asked {
			r.Metadata = e.Metadata
		}
		return nil
	})
	return r, err
}
