package projections_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/pricing"
	"crossbill/domain/settlement"
	"crossbill/projections"
)

// sell records a connection at a price a month, with usage and a set-up that count for nothing, and a commitment if there is one.
func (b *bench) sell(n int, customer, price string, from time.Time) {
	b.Helper()
	b.price(n, customer, price)
	b.record("connection-"+id("con", n), requested(n, customer, cloudCo), activated(n, from))
}

func (b *bench) price(n int, customer, price string) {
	b.Helper()
	q := quoted(n, customer, cloudCo)
	q.Plan = pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal(price)},
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Set-up", Amount: domain.MustDecimal("250.00")},
		{ID: "traffic", Kind: pricing.KindUsage, Description: "Traffic", Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB, Model: pricing.ModelPerUnit,
			UnitPrice: domain.MustDecimal("0.05")},
	}}
	b.record("quote-"+id("quo", n), q)
}

func (b *bench) change(n, to int, customer, price string, at time.Time) {
	b.Helper()
	b.price(to, customer, price)
	b.record("connection-"+id("con", n), connection.Changed{ConnectionID: id("con", n), OrderID: id("ord", to), QuoteID: id("quo", to), ListingVersion: 1, BandwidthMbps: 100, At: at})
}

func noon(month time.Month, d int) time.Time { return time.Date(2026, month, d, 12, 0, 0, 0, time.UTC) }

func monthEnds(from, to time.Month) (ends []time.Time) {
	for m := from; m <= to+1; m++ {
		ends = append(ends, time.Date(2026, m, 1, 0, 0, 0, 0, time.UTC))
	}
	return ends
}

// inDocs holds a table to what docs/finance.md says, row by row.
func inDocs(t *testing.T, table string) {
	t.Helper()
	content, err := os.ReadFile("../docs/finance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), table) {
		t.Errorf("docs/finance.md does not have the table\n%s", table)
	}
}

// TestRecurringRevenue is the worked example of docs/finance.md, digit for digit.
func TestRecurringRevenue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	delta, bolt := "org_delta", "org_bolt"
	b.sell(1, acme, "400.00", noon(1, 11))
	b.sell(2, lakeCo, "1000.00", noon(1, 20))
	b.sell(3, bolt, "200.00", noon(1, 15))
	b.change(1, 11, acme, "600.00", noon(2, 10))
	b.sell(4, delta, "500.00", noon(2, 27))
	b.record("connection-"+id("con", 3), decommission(3, noon(2, 28)))
	b.change(2, 12, lakeCo, "800.00", noon(3, 5))
	b.sell(5, bolt, "300.00", noon(4, 3))
	b.price(6, acme, "9999.00") // quoted, and never bought
	b.record("connection-"+id("con", 7), requested(7, acme, cloudCo))
	b.project()
	say := func(provider string) string {
		t.Helper()
		months, err := b.q.RecurringRevenue(t.Context(), provider, monthEnds(1, 4))
		if err != nil {
			t.Fatal(err)
		}
		table := ""
		for _, m := range months {
			table += fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", time.Month(m.Month+1), m.Start.Amount(), m.New.Amount(), m.Returned.Amount(),
				m.Expansion.Amount(), m.Contraction.Amount(), m.Churn.Amount(), m.End.Amount(), m.EndCustomers)
			if sum := m.Start.Minor + m.New.Minor + m.Returned.Minor + m.Expansion.Minor - m.Contraction.Minor - m.Churn.Minor; sum != m.End.Minor {
				t.Errorf("the movements of month %d come to %d, not %d", m.Month, sum, m.End.Minor)
			}
			if m.StartCustomers+m.NewCustomers+m.ReturnCustomers-m.ChurnCustomers != m.EndCustomers {
				t.Errorf("the customers of month %+v", m)
			}
		}
		return table
	}
	fees := say("")
	if want := `| January | 0.00 | 48.00 | 0.00 | 0.00 | 0.00 | 0.00 | 48.00 | 3 |
| February | 48.00 | 15.00 | 0.00 | 6.00 | 0.00 | 6.00 | 63.00 | 3 |
| March | 63.00 | 0.00 | 0.00 | 0.00 | 6.00 | 0.00 | 57.00 | 3 |
| April | 57.00 | 0.00 | 9.00 | 0.00 | 0.00 | 0.00 | 66.00 | 4 |
`; fees != want {
		t.Errorf("the platform's is\n%swant\n%s", fees, want)
	}
	inDocs(t, fees)
	if got, want := say(cloudCo), `| January | 0.00 | 1600.00 | 0.00 | 0.00 | 0.00 | 0.00 | 1600.00 | 3 |
| February | 1600.00 | 500.00 | 0.00 | 200.00 | 0.00 | 200.00 | 2100.00 | 3 |
| March | 2100.00 | 0.00 | 0.00 | 0.00 | 200.00 | 0.00 | 1900.00 | 3 |
| April | 1900.00 | 0.00 | 300.00 | 0.00 | 0.00 | 0.00 | 2200.00 | 4 |
`; got != want {
		t.Errorf("the provider's is\n%swant\n%s", got, want)
	}
	if got := say(acme); got != "" {
		t.Errorf("a provider that sells nothing has\n%s", got)
	}
	// What is in force in the last moment of a month is in it.
	midnight := []time.Time{noon(2, 28).Add(-time.Nanosecond).Truncate(time.Microsecond), noon(2, 28), noon(2, 28).Add(time.Microsecond)}
	months, err := b.q.RecurringRevenue(t.Context(), "", midnight)
	if err != nil || len(months) != 2 || months[0].Churn.Minor != 0 || months[1].Churn.Minor != 6_00 {
		t.Errorf("around the end of a connection: %+v (%v)", months, err)
	}
}

// TestRecurringPrices: commitments, minimums and a fee's bounds are recurring; currencies are apart.
func TestRecurringPrices(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	euros := quoted(1, acme, cloudCo)
	euros.BandwidthMbps = 200
	euros.Plan = pricing.Plan{Currency: "EUR", Charges: []pricing.Charge{
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: domain.MustDecimal("2.00"), OveragePrice: domain.MustDecimal("3.00")},
		{ID: "least", Kind: pricing.KindMinimum, Description: "Least", Amount: domain.MustDecimal("50.00")},
	}}
	euros.FeeTerms = &pricing.FeeTerms{Caps: []domain.Money{{Minor: 5_00, Currency: "EUR"}}}
	b.record("quote-"+id("quo", 1), euros)
	b.record("connection-"+id("con", 1), requested(1, acme, cloudCo), activated(1, noon(1, 5)))
	b.sell(2, acme, "100.00", noon(1, 6))
	b.project()
	for provider, want := range map[string]string{"": "5.00 EUR, 3.00 USD", cloudCo: "250.00 EUR, 100.00 USD"} {
		months, err := b.q.RecurringRevenue(t.Context(), provider, monthEnds(1, 1))
		if err != nil || len(months) != 2 {
			t.Fatalf("%+v (%v)", months, err)
		}
		if got := months[0].New.String() + ", " + months[1].End.String(); got != want {
			t.Errorf("%q has %s, not %s", provider, got, want)
		}
	}
}

// TestGrossMargin is the other worked example of docs/finance.md: credits and void invoices are no revenue.
func TestGrossMargin(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	issue := func(n int, month time.Month) {
		i, s := invoiced(n, acme), settled(n, cloudCo)
		i.At, s.At = noon(month, 3), noon(month, 3)
		b.record("invoice-"+id("inv", n), i)
		b.record("settlement-"+id("set", n), s)
	}
	issue(1, 3)
	issue(2, 3)
	b.record("payment-"+id("pay", 1), payment.Received{PaymentID: id("pay", 1), InvoiceID: id("inv", 1), CustomerID: acme, Processor: payment.Stripe, Reference: "pi_1",
		Amount: usd(41200), ProcessingCost: usd(530), At: noon(3, 20)})
	b.record("invoice-"+id("inv", 2), invoice.Voided{InvoiceID: id("inv", 2), Reason: "Wrong address", At: noon(3, 21)})
	b.record("settlement-"+id("set", 2), settlement.Credited{SettlementID: id("set", 2), Number: "SC-1", InvoiceID: id("inv", 2), Reason: "Wrong address",
		Lines: []settlement.CreditedLine{{ItemID: id("itm", 2), Amount: usd(40000)}}, Total: usd(40000), At: noon(3, 21)})
	b.record("credit_note-"+id("crn", 1), creditnote.Issued{CreditNoteID: id("crn", 1), Number: "CN-1", InvoiceID: id("inv", 1), InvoiceNumber: "2026-0001", CustomerID: acme,
		Currency: "USD", Lines: []creditnote.Line{{Number: 1, Kind: invoice.LinePassthrough, ProviderID: cloudCo, Amount: usd(10000)}},
		Passthrough: usd(10000), Fee: usd(300), Total: usd(10300), At: noon(4, 2)})
	issue(3, 4)
	b.record("payment-"+id("pay", 2), payment.Received{PaymentID: id("pay", 2), InvoiceID: id("inv", 3), CustomerID: acme, Processor: payment.Stripe, Reference: "pi_3",
		Amount: usd(41200), ProcessingCost: domain.Money{Minor: 900, Currency: "JPY"}, At: noon(4, 20)})
	head := b.ledger()
	months, err := b.q.GrossMargin(t.Context(), head, noon(1, 1).Truncate(24*time.Hour), monthEnds(5, 5)[0])
	if err != nil {
		t.Fatal(err)
	}
	table := ""
	for _, m := range months {
		table += fmt.Sprintf("| %s | %s | %s | %s |\n", m.Month, m.Fees, m.Cost, m.Passthrough)
	}
	if want := `| 2026-03 | 12.00 USD | 5.30 USD | 400.00 USD |
| 2026-04 | 0 JPY | 900 JPY | 0 JPY |
| 2026-04 | 9.00 USD | 0.00 USD | 300.00 USD |
`; table != want {
		t.Errorf("got\n%swant\n%s", table, want)
	}
	inDocs(t, table)
	if early, err := b.q.GrossMargin(t.Context(), 1, noon(1, 1), monthEnds(5, 5)[0]); err != nil || len(early) != 1 || early[0].Cost.Minor != 0 || early[0].Passthrough != usd(40000) {
		t.Errorf("after the first event it is %+v (%v)", early, err)
	}
}

// TestRevenueFalls: what is credited, or of a void invoice, is no revenue of its provider's any more.
func TestRevenueFalls(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.record("settlement-"+id("set", 1), settled(1, cloudCo))
	b.record("settlement-"+id("set", 2), settled(2, cloudCo))
	revenue := func() string {
		t.Helper()
		b.project()
		sums, err := b.q.Revenue(t.Context(), cloudCo, projections.RevenueByMonth, at(0).AddDate(-1, 0, 0), at(0).AddDate(1, 0, 0))
		if err != nil || len(sums) != 1 {
			t.Fatalf("%+v (%v)", sums, err)
		}
		return sums[0].Amount.String()
	}
	if got := revenue(); got != "800.00 USD" {
		t.Errorf("it is %s", got)
	}
	credit := settlement.Credited{SettlementID: id("set", 1), Number: "SC-1", CreditNoteID: id("crn", 1), Reason: "Outage",
		Lines: []settlement.CreditedLine{{ItemID: settled(1, cloudCo).Lines[0].ItemID, Amount: usd(10000)}}, Total: usd(10000), At: at(9)}
	b.record("settlement-"+id("set", 1), credit)
	if got := revenue(); got != "700.00 USD" {
		t.Errorf("after a credit of 100.00 it is %s", got)
	}
	void := credit
	void.SettlementID, void.Number, void.CreditNoteID, void.InvoiceID = id("set", 2), "SC-2", "", id("inv", 2)
	void.Lines = []settlement.CreditedLine{{ItemID: settled(2, cloudCo).Lines[0].ItemID, Amount: usd(40000)}}
	void.Total = usd(40000)
	credit.Number, credit.CreditNoteID = "SC-3", id("crn", 2)
	b.record("settlement-"+id("set", 2), void)
	b.record("settlement-"+id("set", 1), credit)
	if got := revenue(); got != "200.00 USD" {
		t.Errorf("after another credit and a void invoice it is %s", got)
	}
}
