package billingrun

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestComplete(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixBillingRun, 1)
	invoices, settlements := []string{scenario.ID(domain.PrefixInvoice, 1)}, []string{scenario.ID(domain.PrefixSettlement, 1)}
	complete := Complete{RunID: id, PeriodStart: scenario.Noon, PeriodEnd: scenario.After(10), LogPosition: 5, Invoices: invoices, Settlements: settlements, At: scenario.After(10)}
	completed := Completed{RunID: id, PeriodStart: scenario.Noon, PeriodEnd: scenario.After(10), LogPosition: 5, Invoices: invoices, Settlements: settlements, At: scenario.After(10)}
	none := completed
	none.Invoices, none.Settlements = []string{}, []string{}
	nothing := complete
	nothing.Invoices, nothing.Settlements = nil, nil
	wrong := func(name string, change func(*Complete), fields ...string) scenario.Case[Command] {
		c := complete
		change(&c)
		return scenario.Case[Command]{Name: name, When: c, Code: domain.Invalid, Fields: fields}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "completed", When: complete, Then: []domain.Event{completed}},
		{Name: "nothing to bill", When: nothing, Then: []domain.Event{none}},
		{Name: "exists", Given: []domain.Event{completed}, When: complete, Code: domain.Conflict},
		wrong("nothing", func(c *Complete) { *c = Complete{} }, "/run_id", "/period_start", "/period_end", "/log_position", "/at"),
		wrong("a period that goes on", func(c *Complete) { c.PeriodEnd = scenario.After(11) }, "/period_end"),
		wrong("documents", func(c *Complete) { c.Invoices, c.Settlements = append(invoices, invoices...), invoices }, "/invoices/1", "/settlements/0"),
		{Name: "no command", Code: domain.Internal},
	})
}
