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
	complete := Complete{id, scenario.Noon, scenario.After(10), 5, invoices, settlements, scenario.After(10)}
	completed := Completed{id, scenario.Noon, scenario.After(10), 5, invoices, settlements, scenario.After(10)}
	nothing := complete
	nothing.Invoices, nothing.Settlements = nil, nil
	wrong := func(name string, change func(*Complete), fields ...string) scenario.Case[Command] {
		c := complete
		change(&c)
		return scenario.Case[Command]{Name: name, When: c, Code: domain.Invalid, Fields: fields}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "completed", When: complete, Then: []domain.Event{completed}},
		{Name: "nothing to bill", When: nothing, Then: []domain.Event{Completed{id, scenario.Noon, scenario.After(10), 5, []string{}, []string{}, scenario.After(10)}}},
		{Name: "exists", Given: []domain.Event{completed}, When: complete, Code: domain.Conflict},
		wrong("nothing", func(c *Complete) { *c = Complete{} }, "/run_id", "/period_start", "/period_end", "/log_position", "/at"),
		wrong("a period that goes on", func(c *Complete) { c.PeriodEnd = scenario.After(11) }, "/period_end"),
		wrong("documents", func(c *Complete) { c.Invoices, c.Settlements = append(invoices, invoices...), invoices }, "/invoices/1", "/settlements/0"),
		{Name: "no command", Code: domain.Internal},
	})
}
