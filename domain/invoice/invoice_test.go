package invoice

import (
	"math"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	invoiceID = scenario.ID(domain.PrefixInvoice, 1)
	customer  = scenario.ID(domain.PrefixOrganisation, 1)
	provider  = scenario.ID(domain.PrefixOrganisation, 2)
	march     = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	april     = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func line(number int, kind, charge, exact string, minor int64) Line {
	return Line{
		Number: number, ItemID: "item-" + charge, Kind: kind, ProviderID: provider, ConnectionID: scenario.ID(domain.PrefixConnection, 1),
		ChargeID: charge, Description: charge, Quantity: "1", Unit: "month", Exact: exact, Amount: usd(minor), Steps: []string{"a × b = c"},
		Plan: PlanRef{scenario.ID(domain.PrefixListing, 1), 1}, QuoteID: scenario.ID(domain.PrefixQuote, 1),
		Evidence: []Evidence{{Stream: "usage-con_1", FromVersion: 1, ToVersion: 9, Count: 9, Digest: strings.Repeat("0a", 32)}},
	}
}

// exampleA is the invoice of rebill.md's worked example A.
func exampleA() Issued {
	return Issued{
		InvoiceID: invoiceID, Number: "CB-000001", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
		Lines: []Line{
			line(1, LinePassthrough, "port", "270.967741935483870967…", 27097),
			line(2, LinePassthrough, "traffic", "343.45678901234", 34346),
			line(3, LineFee, "platform_fee", "18.4329", 1843),
		},
		Passthrough: usd(61443), Fee: usd(1843), Total: usd(63286), LogPosition: 99, RunID: scenario.ID(domain.PrefixBillingRun, 1), At: april,
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	wrong := func(name string, change func(*Issued), fields ...string) scenario.Case[Command] {
		i := exampleA()
		change(&i)
		return scenario.Case[Command]{Name: name, When: Issue{i}, Code: domain.Invalid, Fields: fields}
	}
	feeOfNoPlan := exampleA()
	feeOfNoPlan.Lines[2].Plan = PlanRef{}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "example A", When: Issue{exampleA()}, Then: []domain.Event{exampleA()}},
		{Name: "a fee is of no plan", When: Issue{feeOfNoPlan}, Then: []domain.Event{feeOfNoPlan}},
		{Name: "exists", Given: []domain.Event{exampleA()}, When: Issue{exampleA()}, Code: domain.Conflict},
		wrong("nothing", func(i *Issued) { *i = Issued{} },
			"/invoice_id", "/number", "/customer_id", "/period_end", "/log_position", "/run_id", "/at", "/currency", "/lines"),
		wrong("an empty line", func(i *Issued) { i.Lines = []Line{{}} },
			"/lines/0/number", "/lines/0/item_id", "/lines/0/kind", "/lines/0/provider_id", "/lines/0/connection_id", "/lines/0/charge_id",
			"/lines/0/description", "/lines/0/quote_id", "/lines/0/amount/currency", "/lines/0/exact", "/lines/0/steps", "/lines/0/evidence"),
		wrong("too early", func(i *Issued) { i.At = april.Add(-time.Second) }, "/at"),
		wrong("numbers", func(i *Issued) { i.Lines[1].Number = 3 }, "/lines/1/number"),
		wrong("an item twice", func(i *Issued) { i.Lines[1].ItemID = i.Lines[0].ItemID }, "/lines/1/item_id"),
		wrong("another currency", func(i *Issued) { i.Lines[1].Amount.Currency = "EUR" }, "/lines/1/amount/currency"),
		wrong("negative", func(i *Issued) { i.Lines[1].Amount.Minor, i.Lines[1].Exact = -1, "-0.01" }, "/lines/1/amount"),
		wrong("rounded up", func(i *Issued) { i.Lines[2].Amount.Minor = 1844 }, "/lines/2/amount"),
		wrong("rounded down", func(i *Issued) { i.Lines[0].Amount.Minor = 27096 }, "/lines/0/amount"),
		wrong("exact is no number", func(i *Issued) { i.Lines[0].Exact = "about 270" }, "/lines/0/exact"),
		wrong("passthrough", func(i *Issued) { i.Passthrough.Minor++ }, "/passthrough"),
		wrong("fee", func(i *Issued) { i.Fee.Minor-- }, "/fee"),
		wrong("total", func(i *Issued) { i.Total.Minor++ }, "/total"),
		wrong("total in another currency", func(i *Issued) { i.Total.Currency = "EUR" }, "/total"),
		wrong("a fee passed off as the provider's", func(i *Issued) { i.Lines[2].Kind = LinePassthrough }, "/passthrough", "/fee"),
		wrong("a line without a plan", func(i *Issued) { i.Lines[0].Plan = PlanRef{} }, "/lines/0/plan/listing_id", "/lines/0/plan/version"),
		wrong("evidence", func(i *Issued) { i.Lines[0].Evidence = []Evidence{{ToVersion: -1, Digest: "x"}} },
			"/lines/0/evidence/0/stream", "/lines/0/evidence/0/from_version", "/lines/0/evidence/0/to_version", "/lines/0/evidence/0/count", "/lines/0/evidence/0/digest"),
		wrong("more evidence than the range holds", func(i *Issued) { i.Lines[0].Evidence[0].Count = 10 }, "/lines/0/evidence/0/count"),
		wrong("more than can be added", func(i *Issued) {
			for n := range 2 {
				i.Lines[n].Amount.Minor, i.Lines[n].Exact = math.MaxInt64, "92233720368547758.07"
			}
		}, "/lines/1/amount"),
	})
}

func TestAfterwards(t *testing.T) {
	t.Parallel()
	issued := domain.Event(exampleA())
	paid, void := Paid{InvoiceID: invoiceID, Reference: "bank-7", At: april, Amount: exampleA().Total}, Voided{invoiceID, "wrong customer", april}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "pay", Given: []domain.Event{issued}, When: Pay{Reference: "bank-7", At: april}, Then: []domain.Event{paid}},
		{Name: "pay again", Given: []domain.Event{issued, paid}, When: Pay{Reference: "bank-7", At: april.Add(1)}},
		{Name: "pay twice", Given: []domain.Event{issued, paid}, When: Pay{Reference: "bank-8", At: april}, Code: domain.Conflict},
		{Name: "pay what is void", Given: []domain.Event{issued, void}, When: Pay{Reference: "bank-7", At: april}, Code: domain.Conflict},
		{Name: "pay nothing", When: Pay{Reference: "bank-7", At: april}, Code: domain.NotFound},
		{Name: "pay without a reference", Given: []domain.Event{issued}, When: Pay{}, Code: domain.Invalid, Fields: []string{"/reference", "/at"}},
		{Name: "void", Given: []domain.Event{issued}, When: Void{"wrong customer", april}, Then: []domain.Event{void}},
		{Name: "void again", Given: []domain.Event{issued, void}, When: Void{"wrong customer", april}},
		{Name: "void again, otherwise", Given: []domain.Event{issued, void}, When: Void{"wrong", april}, Code: domain.Conflict},
		{Name: "void what is paid", Given: []domain.Event{issued, paid}, When: Void{"wrong customer", april}, Code: domain.Conflict},
		{Name: "void without a reason", Given: []domain.Event{issued}, When: Void{}, Code: domain.Invalid, Fields: []string{"/reason", "/at"}},
	})
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	other := scenario.ID(domain.PrefixInvoice, 2)
	scenario.Run(t, DecideNumber, EvolveNumber, []scenario.Case[NumberCommand]{
		{Name: "first", When: TakeNumber{invoiceID}, Then: []domain.Event{NumberTaken{1, invoiceID}}},
		{Name: "next", Given: []domain.Event{NumberTaken{1, invoiceID}}, When: TakeNumber{other}, Then: []domain.Event{NumberTaken{2, other}}},
		{Name: "again", Given: []domain.Event{NumberTaken{1, invoiceID}}, When: TakeNumber{invoiceID}},
		{Name: "nobody's", When: TakeNumber{}, Code: domain.Invalid, Fields: []string{"/invoice_id"}},
		{Name: "no command", Code: domain.Internal},
	})
	if got := NumberStream("crossbill"); got != "invoice_number-crossbill" {
		t.Errorf("the stream is %s", got)
	}
}
