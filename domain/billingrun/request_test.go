package billingrun

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixBillingRun, 1)
	invoices, settlements := []string{scenario.ID(domain.PrefixInvoice, 1)}, []string{scenario.ID(domain.PrefixSettlement, 1)}
	ask := Request{RunID: id, PeriodStart: scenario.Noon, PeriodEnd: scenario.After(10), Grace: time.Hour, At: scenario.After(10)}
	asked := Requested{RunID: id, PeriodStart: scenario.Noon, PeriodEnd: scenario.After(10), GraceSeconds: 3600, At: scenario.After(10)}
	end := End{LogPosition: 7, Issued: 1, Invoices: invoices, Settlements: settlements, At: scenario.After(20)}
	ended := Ended{RunID: id, LogPosition: 7, Issued: 1, Invoices: invoices, Settlements: settlements, InvoiceCount: 1, SettlementCount: 1,
		Problems: []Problem{}, At: scenario.After(20)}
	fail := Fail{Code: domain.Conflict, Detail: "no rate", Hint: "record one", At: scenario.After(20)}
	failed := Failed{RunID: id, Code: domain.Conflict, Detail: "no rate", Hint: "record one", At: scenario.After(20)}
	wrong := func(name string, change func(*Request), fields ...string) scenario.Case[RequestCommand] {
		c := ask
		change(&c)
		return scenario.Case[RequestCommand]{Name: name, When: c, Code: domain.Invalid, Fields: fields}
	}
	many := end
	many.Invoices, many.Settlements, many.Issued = nil, nil, 0
	for n := range maxListed + 1 {
		many.Invoices = append(many.Invoices, domain.DeriveID(domain.PrefixInvoice, scenario.Noon, string(rune('0'+n))))
		many.Problems = append(many.Problems, Problem{Code: domain.Conflict, Detail: strings.Repeat("é", maxText+1)})
	}
	counted := Ended{RunID: id, LogPosition: 7, Invoices: []string{}, Settlements: []string{}, InvoiceCount: maxListed + 1, ProblemCount: maxListed + 1, At: scenario.After(20)}
	for range maxProblems {
		counted.Problems = append(counted.Problems, Problem{Code: domain.Conflict, Detail: strings.Repeat("é", maxText-1) + "…"})
	}
	scenario.Run(t, DecideRequest, EvolveRequest, []scenario.Case[RequestCommand]{
		{Name: "asked", When: ask, Then: []domain.Event{asked}},
		{Name: "asked while it is open", Given: []domain.Event{asked}, When: ask},
		{Name: "asked again", Given: []domain.Event{asked, ended}, When: ask, Then: []domain.Event{asked}},
		{Name: "asked after it failed", Given: []domain.Event{asked, failed}, When: ask, Then: []domain.Event{asked}},
		{Name: "ended", Given: []domain.Event{asked}, When: end, Then: []domain.Event{ended}},
		{Name: "of too many to be listed", Given: []domain.Event{asked}, When: many, Then: []domain.Event{counted}},
		{Name: "failed", Given: []domain.Event{asked}, When: fail, Then: []domain.Event{failed}},
		{Name: "ended twice", Given: []domain.Event{asked, ended}, When: end, Code: domain.Conflict},
		{Name: "failed after it ended", Given: []domain.Event{asked, ended}, When: fail, Code: domain.Conflict},
		{Name: "ended and never asked", When: end, Code: domain.Conflict},
		{Name: "another period", Given: []domain.Event{asked, ended}, When: Request{RunID: id, PeriodStart: scenario.Noon, PeriodEnd: scenario.After(9), At: scenario.After(10)},
			Code: domain.Invalid, Fields: []string{"/run_id"}},
		wrong("nothing", func(c *Request) { *c = Request{} }, "/run_id", "/period_start", "/period_end", "/at"),
		wrong("a period that goes on", func(c *Request) { c.PeriodEnd = scenario.After(11) }, "/period_end"),
		wrong("parts of a second", func(c *Request) { c.Grace = time.Millisecond }, "/grace"),
		wrong("a year of grace", func(c *Request) { c.Grace = 365 * 24 * time.Hour }, "/grace"),
		{Name: "an end of nothing", Given: []domain.Event{asked}, When: End{}, Code: domain.Invalid, Fields: []string{"/log_position", "/at"}},
		{Name: "a failure of nothing", Given: []domain.Event{asked}, When: Fail{}, Code: domain.Invalid, Fields: []string{"/code", "/at"}},
		{Name: "no command", Code: domain.Internal},
	})
	for name, c := range map[string]struct {
		events []domain.Event
		open   bool
		again  bool
	}{
		"nothing": {}, "asked": {events: []domain.Event{asked}, open: true}, "ended": {events: []domain.Event{asked, ended}},
		"problems": {events: []domain.Event{asked, counted}, again: true}, "failed": {events: []domain.Event{asked, failed}, again: true},
		"asked after problems": {events: []domain.Event{asked, counted, asked}, open: true},
	} {
		var s RequestState
		for _, e := range c.events {
			s = EvolveRequest(s, e)
		}
		if again, at := s.Again(); s.Open() != c.open || again != c.again || again && !at.Equal(scenario.After(20)) {
			t.Errorf("%s: open %t, again %t at %s", name, s.Open(), again, at)
		}
	}
}
