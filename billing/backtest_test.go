package billing

import (
	"testing"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/pricing"
)

// TestBacktest rates other plans over the rebill document's worked example A: its own gives what was billed, 614.43.
func TestBacktest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := exampleA(), exampleA()
	b.name, b.from = "later", date(2026, 4, 5)
	w.sell(a, b)
	w.meterA()
	must(t, w.meters().CatchUp(t.Context(), w.head()))
	both := []usage.Billable{{CustomerID: id(domain.PrefixOrganisation, a.customer), ConnectionID: a.id()}, {CustomerID: id(domain.PrefixOrganisation, b.customer), ConnectionID: b.id()}}
	flat := pricing.Plan{Currency: "EUR", Charges: []pricing.Charge{{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("310")}}}
	before := w.head()
	for _, test := range []struct {
		plan pricing.Plan
		want string
	}{{planA(), "614.43 USD"}, {flat, "210.00 EUR"}, {burst(), "135.48 USD"}} { // 21 of 31 days; 100 Mbps committed at 2.00, and less used
		rows, err := Backtest(t.Context(), w, w.meters(), test.plan, "", march, both)
		must(t, err)
		if len(rows) != 1 || rows[0].ConnectionID != a.id() || rows[0].Own.String() != "614.43 USD" || rows[0].Other.String() != test.want {
			t.Errorf("%+v, want %s", rows, test.want)
		}
	}
	if rows, err := Backtest(t.Context(), w, w.meters(), flat, id(domain.PrefixListing, "none"), march, both); err != nil || len(rows) != 0 {
		t.Errorf("of another listing: %+v (%v)", rows, err)
	}
	flat.Charges[0].Amount = domain.MustDecimal("-1")
	if _, err := Backtest(t.Context(), w, w.meters(), flat, "", march, both); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a negative price: %v", err)
	}
	if w.head() != before {
		t.Error("a backtest appended")
	}
}
