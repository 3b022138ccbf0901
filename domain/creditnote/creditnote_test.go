package creditnote

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/invoice"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// exampleC is the credit note of rebill.md's worked example C.
func exampleC() Issued {
	end := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	line := func(n, of int, kind, exact string, minor int64) Line {
		return Line{Number: n, InvoiceLine: of, ItemID: "item-" + kind, Kind: kind, ProviderID: scenario.ID(domain.PrefixOrganisation, 2),
			ConnectionID: scenario.ID(domain.PrefixConnection, 1), Description: kind, Exact: exact, Amount: usd(minor), Steps: []string{"a × b = c"}}
	}
	return Issued{
		CreditNoteID: scenario.ID(domain.PrefixCreditNote, 1), Number: "CN-2026-000001", InvoiceID: scenario.ID(domain.PrefixInvoice, 1),
		InvoiceNumber: "CB-2026-000001", CustomerID: scenario.ID(domain.PrefixOrganisation, 1), Reason: "Outage", PeriodStart: end.AddDate(0, -1, 0),
		PeriodEnd: end, Currency: "USD", Lines: []Line{line(1, 1, invoice.LinePassthrough, "135.485", 135_49), line(2, 3, invoice.LineFee, "4.0647", 4_06)},
		Passthrough: usd(135_49), Fee: usd(4_06), Total: usd(139_55), Settlements: []string{scenario.ID(domain.PrefixSettlement, 1)}, At: end,
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	wrong := func(name string, change func(*Issued), fields ...string) scenario.Case[Issue] {
		n := exampleC()
		change(&n)
		return scenario.Case[Issue]{Name: name, When: Issue{n}, Code: domain.Invalid, Fields: fields}
	}
	taxed := exampleC()
	for n := range taxed.Lines {
		taxed.Lines[n].TaxCategory = taxrate.CategoryStandard
	}
	standard, err := tax.Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal("21")}.Of(taxed.Total)
	if err != nil {
		t.Fatal(err)
	}
	taxed.Taxes, taxed.Tax, taxed.Total = []tax.Subtotal{standard}, standard.Tax, usd(139_55+standard.Tax.Minor)
	scenario.Run(t, Decide, Evolve, []scenario.Case[Issue]{
		{Name: "example C", When: Issue{exampleC()}, Then: []domain.Event{exampleC()}},
		{Name: "with tax", When: Issue{taxed}, Then: []domain.Event{taxed}},
		{Name: "exists", Given: []domain.Event{exampleC()}, When: Issue{exampleC()}, Code: domain.Conflict},
		wrong("nothing", func(n *Issued) { *n = Issued{} }, "/credit_note_id", "/number", "/invoice_id", "/invoice_number", "/customer_id", "/reason",
			"/at", "/currency", "/lines"),
		wrong("of no settlement's name", func(n *Issued) { n.Settlements = []string{"x"} }, "/settlements/0"),
		wrong("a line twice", func(n *Issued) { n.Lines[1].InvoiceLine = 1 }, "/lines/1/invoice_line"),
		wrong("not rounded once", func(n *Issued) { n.Lines[0].Amount.Minor-- }, "/lines/0/amount"),
		wrong("another currency", func(n *Issued) { n.Lines[0].Amount.Currency = "EUR" }, "/lines/0/amount/currency"),
		wrong("not a number", func(n *Issued) { n.Lines[0].Exact = "much" }, "/lines/0/exact"),
		wrong("without its arithmetic", func(n *Issued) { n.Lines[0].Steps = nil }, "/lines/0/steps"),
		wrong("less passthrough", func(n *Issued) { n.Passthrough.Minor-- }, "/passthrough"),
		wrong("less fee", func(n *Issued) { n.Fee.Minor-- }, "/fee"),
		wrong("a larger total", func(n *Issued) { n.Total.Minor++ }, "/total"),
		wrong("tax of nothing", func(n *Issued) { n.Tax = usd(1) }, "/tax"),
		wrong("what is taken", func(n *Issued) {
			n.Lines, n.Passthrough, n.Fee, n.Total = n.Lines[:1], usd(-1), usd(0), usd(-1)
			n.Lines[0].Exact, n.Lines[0].Amount = "-0.01", usd(-1)
		}, "/total"),
	})
}
