package billingrun

import (
	"time"

	"crossbill/domain"
)

// MaxGrace is the longest time that a period stays open after its end.
const MaxGrace = 31 * 24 * time.Hour

// Limits of what the end of a run says, so that it fits into one event; the log holds the documents themselves.
const (
	maxListed   = 1000 // documents that it names
	maxProblems = 200  // that it tells
	maxText     = 500  // runes of a problem's text
)

// Requested says that the close of [PeriodStart, PeriodEnd) is asked for, by an operator or by the calendar. Who asked is
// in the event's metadata.
type Requested struct {
	RunID        string    `json:"run_id"`
	PeriodStart  time.Time `json:"period_start"`
	PeriodEnd    time.Time `json:"period_end"`
	GraceSeconds int64     `json:"grace_seconds"` // how long after its end the period was open for readings under way
	At           time.Time `json:"at"`
}

// Ended says that what was asked for is done: the documents that stand for the period, and what could not be billed.
type Ended struct {
	RunID           string    `json:"run_id"`
	LogPosition     int64     `json:"log_position"` // everything was computed from the log up to here
	Issued          int       `json:"issued"`       // how many of the invoices this run issued
	Invoices        []string  `json:"invoices"`     // none if there are too many to be listed
	Settlements     []string  `json:"settlements"`  // likewise
	InvoiceCount    int       `json:"invoice_count"`
	SettlementCount int       `json:"settlement_count"`
	Problems        []Problem `json:"problems"` // the first of them
	ProblemCount    int       `json:"problem_count"`
	At              time.Time `json:"at"`
}

// Failed says that what was asked for could not be done. What it issued before stands.
type Failed struct {
	RunID  string      `json:"run_id"`
	Code   domain.Code `json:"code"`
	Detail string      `json:"detail"`
	Hint   string      `json:"hint,omitempty"`
	At     time.Time   `json:"at"`
}

// Problem is why a connection could not be billed.
type Problem struct {
	ConnectionID string      `json:"connection_id"`
	Code         domain.Code `json:"code"`
	Detail       string      `json:"detail"`
	Hint         string      `json:"hint,omitempty"`
}

// EventType is the name in the log.
func (Requested) EventType() string { return "billing_run.requested" }

// EventType is the name in the log.
func (Ended) EventType() string { return "billing_run.ended" }

// EventType is the name in the log.
func (Failed) EventType() string { return "billing_run.failed" }

// RequestStream names the stream of what was asked of one run, again and again, and how it ended. It is not the stream of
// the run itself: a request that finds everything billed makes no [Completed].
func RequestStream(runID string) string { return "billing_request-" + runID }

// RequestState is what was last asked of a run. The zero RequestState is that nothing was.
type RequestState struct {
	Requested
	Requests int     // how often it was asked for
	Ended    *Ended  // how the last request ended; nil if it did not …
	Failed   *Failed // … or failed
}

// Open says that a request waits to be carried out, or is being.
func (s RequestState) Open() bool { return s.Requests > 0 && s.Ended == nil && s.Failed == nil }

// Again returns whether the last request left something to be done, and when it ended.
func (s RequestState) Again() (bool, time.Time) {
	switch {
	case s.Failed != nil:
		return true, s.Failed.At
	case s.Ended != nil:
		return s.Ended.ProblemCount > 0, s.Ended.At
	}
	return false, time.Time{}
}

// EvolveRequest returns the state after the event.
func EvolveRequest(s RequestState, e domain.Event) RequestState {
	switch e := e.(type) {
	case Requested:
		return RequestState{Requested: e, Requests: s.Requests + 1}
	case Ended:
		s.Ended = &e
	case Failed:
		s.Failed = &e
	}
	return s
}

// RequestCommand is what can be done with the request for a run.
type RequestCommand interface{ requestCommand() }

// Request asks for the close of a period.
type Request struct {
	RunID       string
	PeriodStart time.Time
	PeriodEnd   time.Time // exclusive; not after At
	Grace       time.Duration
	At          time.Time
}

// End records how a run ended; the counts are of the lists.
type End struct {
	LogPosition int64
	Issued      int
	Invoices    []string
	Settlements []string
	Problems    []Problem
	At          time.Time
}

// Fail records that a run can't be carried out.
type Fail struct {
	Code         domain.Code
	Detail, Hint string
	At           time.Time
}

func (Request) requestCommand() {}
func (End) requestCommand()     {}
func (Fail) requestCommand()    {}

// DecideRequest returns the events that a command makes of a state. A request for what is asked for already makes none.
// It returns an Invalid error for wrong fields, and a Conflict for the end of what is not open.
func DecideRequest(s RequestState, c RequestCommand) ([]domain.Event, error) {
	const op = "billingrun.DecideRequest"
	switch c := c.(type) {
	case Request:
		return c.decide(op, s)
	case End:
		return c.decide(op, s)
	case Fail:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Request) decide(op string, s RequestState) ([]domain.Event, error) {
	start, end, at := domain.Instant(c.PeriodStart), domain.Instant(c.PeriodEnd), domain.Instant(c.At)
	var p domain.Problems
	p.ID("/run_id", domain.PrefixBillingRun, c.RunID)
	p.Time("/period_start", c.PeriodStart)
	p.Check(end.After(start), "/period_end", "must be after the start")
	p.Time("/at", c.At)
	p.Check(!end.After(at), "/period_end", "must not be in the future")
	p.Check(c.Grace >= 0 && c.Grace <= MaxGrace && c.Grace%time.Second == 0, "/grace", "must be whole seconds, %s at most", MaxGrace)
	p.Check(s.Requests == 0 || s.PeriodStart.Equal(start) && s.PeriodEnd.Equal(end), "/run_id", "is the run of another period")
	if err := p.Err(op); err != nil || s.Open() {
		return nil, err
	}
	return []domain.Event{Requested{RunID: c.RunID, PeriodStart: start, PeriodEnd: end, GraceSeconds: int64(c.Grace / time.Second), At: at}}, nil
}

func (c End) decide(op string, s RequestState) ([]domain.Event, error) {
	if !s.Open() {
		return nil, notOpen(op, s)
	}
	var p domain.Problems
	p.Check(c.LogPosition >= 1, "/log_position", "must be at least 1")
	p.Check(c.Issued >= 0 && c.Issued <= len(c.Invoices), "/issued", "must be of the invoices")
	p.Time("/at", c.At)
	checkIDs(&p, "/invoices", domain.PrefixInvoice, c.Invoices)
	checkIDs(&p, "/settlements", domain.PrefixSettlement, c.Settlements)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	e := Ended{
		RunID: s.RunID, LogPosition: c.LogPosition, Issued: c.Issued, Invoices: []string{}, Settlements: []string{}, Problems: []Problem{},
		InvoiceCount: len(c.Invoices), SettlementCount: len(c.Settlements), ProblemCount: len(c.Problems), At: domain.Instant(c.At),
	}
	if len(c.Invoices)+len(c.Settlements) <= maxListed {
		e.Invoices, e.Settlements = orEmpty(c.Invoices), orEmpty(c.Settlements)
	}
	for _, problem := range c.Problems[:min(len(c.Problems), maxProblems)] {
		problem.Detail, problem.Hint = short(problem.Detail), short(problem.Hint)
		e.Problems = append(e.Problems, problem)
	}
	return []domain.Event{e}, nil
}

func (c Fail) decide(op string, s RequestState) ([]domain.Event, error) {
	if !s.Open() {
		return nil, notOpen(op, s)
	}
	var p domain.Problems
	p.Check(c.Code != "", "/code", "is required")
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Failed{RunID: s.RunID, Code: c.Code, Detail: short(c.Detail), Hint: short(c.Hint), At: domain.Instant(c.At)}}, nil
}

// short cuts a text off, so that there is room for the others in one event.
func short(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return text
}

func notOpen(op string, s RequestState) error {
	return domain.Errorf(domain.Conflict, op, "run %s has ended, or was never asked for", s.RunID).
		WithHint("ask for it")
}
