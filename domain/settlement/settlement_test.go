package settlement

import (
	"math"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// exampleA is the settlement of rebill.md's worked example A.
func exampleA() Issued {
	line := func(charge string, minor int64) Line {
		return Line{ItemID: "item-" + charge, InvoiceID: scenario.ID(domain.PrefixInvoice, 1), ConnectionID: scenario.ID(domain.PrefixConnection, 1), ChargeID: charge,
			Description: charge, Amount: usd(minor)}
	}
	end := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	return Issued{
		SettlementID: scenario.ID(domain.PrefixSettlement, 1), ProviderID: scenario.ID(domain.PrefixOrganisation, 2),
		PeriodStart: end.AddDate(0, -1, 0), PeriodEnd: end, Currency: "USD", Lines: []Line{line("port", 27097), line("traffic", 34346)},
		Total: usd(61443), LogPosition: 99, RunID: scenario.ID(domain.PrefixBillingRun, 1), At: end,
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	wrong := func(name string, change func(*Issued), fields ...string) scenario.Case[Command] {
		i := exampleA()
		change(&i)
		return scenario.Case[Command]{Name: name, When: Issue{i}, Code: domain.Invalid, Fields: fields}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "example A", When: Issue{exampleA()}, Then: []domain.Event{exampleA()}},
		{Name: "exists", Given: []domain.Event{exampleA()}, When: Issue{exampleA()}, Code: domain.Conflict},
		wrong("nothing", func(i *Issued) { *i = Issued{} },
			"/settlement_id", "/provider_id", "/period_end", "/log_position", "/run_id", "/at", "/currency", "/lines"),
		wrong("an empty line", func(i *Issued) { i.Lines = []Line{{}} }, "/lines/0/item_id", "/lines/0/invoice_id", "/lines/0/connection_id",
			"/lines/0/charge_id", "/lines/0/description", "/lines/0/amount/currency"),
		wrong("too early", func(i *Issued) { i.At = i.PeriodEnd.Add(-time.Second) }, "/at"),
		wrong("an item twice", func(i *Issued) { i.Lines[1].ItemID = i.Lines[0].ItemID }, "/lines/1/item_id"),
		wrong("negative", func(i *Issued) { i.Lines[0].Amount.Minor, i.Total.Minor = -1, 34345 }, "/lines/0/amount"),
		wrong("less than the lines", func(i *Issued) { i.Total.Minor-- }, "/total"),
		wrong("more than the lines", func(i *Issued) { i.Total.Minor++ }, "/total"),
		wrong("more than can be added", func(i *Issued) { i.Lines[0].Amount.Minor = math.MaxInt64 }, "/lines/1/amount"),
		{Name: "no command", Code: domain.Internal},
	})
}
