package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"crossbill/billing"
	"crossbill/billing/runs"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/events"
)

// CreateBillingRun asks for the close of a period for every connection that is billable in it; billing/runs carries it out. The
// run is what it is by its period, with an idempotency key or without.
func (s *Server) CreateBillingRun(ctx context.Context, req CreateBillingRunRequestObject) (CreateBillingRunResponseObject, error) {
	grace := billing.DefaultGrace
	if hours := req.Body.GraceHours; hours != nil {
		grace = time.Duration(*hours) * time.Hour
	}
	command, err := billing.Request(billing.Period{From: req.Body.PeriodStart.UTC(), To: req.Body.PeriodEnd.UTC()}, grace, s.now())
	if err != nil {
		return nil, err
	}
	var answer BillingRun
	var position *int64
	err = again(nil, func() error {
		request, err := billing.LoadRequest(ctx, s.Log, command.RunID)
		if err != nil {
			return err
		}
		decided, err := billingrun.DecideRequest(request.RequestState, command)
		if err != nil {
			return err
		}
		if len(decided) == 0 { // it is asked for already
			answer, err = s.requestedRun(ctx, request)
			return err
		}
		answer = requestedRunView(evolved(request.RequestState, billingrun.EvolveRequest, decided))
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{
			appendTo(billingrun.RequestStream(command.RunID), request.Version, decided...),
		}}, http.StatusAccepted, answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return CreateBillingRun202JSONResponse{Body: answer, Headers: CreateBillingRun202ResponseHeaders{CrossbillPosition: position}}, nil
}

// GetBillingRun shows what was last asked of a run, and what came of it.
func (s *Server) GetBillingRun(ctx context.Context, req GetBillingRunRequestObject) (GetBillingRunResponseObject, error) {
	request, err := billing.LoadRequest(ctx, s.Log, req.BillingRunId)
	if err != nil {
		return nil, err
	}
	if request.Requests == 0 {
		return nil, domain.Missing("api.GetBillingRun", "billing run")
	}
	answer, err := s.requestedRun(ctx, request)
	if err != nil {
		return nil, err
	}
	return GetBillingRun200JSONResponse{Body: answer, Headers: GetBillingRun200ResponseHeaders{
		ETag: etag(request.Version), CrossbillPosition: optional(int64(request.Position)),
	}}, nil
}

// requestedRun is the run with how far it is.
func (s *Server) requestedRun(ctx context.Context, request billing.Requested) (BillingRun, error) {
	view := requestedRunView(request.RequestState)
	if !request.Open() {
		return view, nil
	}
	progress, begun, err := runs.ProgressOf(ctx, s.Pool, request)
	if err == nil && begun {
		view.State, view.Progress = BillingRunStateRunning, &BillingProgress{LookedAt: progress.LookedAt, Of: progress.Of}
	}
	return view, err
}

func requestedRunView(s billingrun.RequestState) BillingRun {
	v := BillingRun{
		Id: s.RunID, State: BillingRunStateQueued, PeriodStart: s.PeriodStart, PeriodEnd: s.PeriodEnd, RequestedAt: optional(s.At),
		Invoices: []string{}, Settlements: []string{},
	}
	if e := s.Ended; e != nil {
		v.State, v.EndedAt, v.LogPosition, v.Issued = BillingRunStateCompleted, &e.At, &e.LogPosition, &e.Issued
		v.Invoices, v.Settlements, v.InvoiceCount, v.SettlementCount = e.Invoices, e.Settlements, &e.InvoiceCount, &e.SettlementCount
		v.ProblemCount = optional(e.ProblemCount)
		var problems []BillingProblem
		for _, p := range e.Problems {
			problems = append(problems, BillingProblem{ConnectionId: p.ConnectionID, Code: string(p.Code), Detail: p.Detail, Hint: optional(p.Hint)})
		}
		if len(problems) > 0 {
			v.Problems = &problems
		}
	}
	if f := s.Failed; f != nil {
		v.State, v.EndedAt = BillingRunStateFailed, &f.At
		v.Failure = &BillingFailure{Code: string(f.Code), Detail: f.Detail, Hint: optional(f.Hint)}
	}
	return v
}

// billingRunView is a run that is over when it is answered.
func billingRunView(result billing.RunResult) BillingRun {
	v := BillingRun{
		Id: result.RunID, State: BillingRunStateCompleted, PeriodStart: result.PeriodStart, PeriodEnd: result.PeriodEnd, LogPosition: &result.LogPosition,
		Invoices: append([]string{}, result.Invoices...), Settlements: append([]string{}, result.Settlements...),
	}
	var problems []BillingProblem
	for _, p := range result.Problems {
		problem := BillingProblem{ConnectionId: p.ConnectionID, Code: string(domain.CodeOf(p.Err)), Detail: p.Err.Error()}
		if e := (*domain.Error)(nil); errors.As(p.Err, &e) {
			problem.Hint = optional(e.Hint)
		}
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		v.Problems = &problems
	}
	return v
}
