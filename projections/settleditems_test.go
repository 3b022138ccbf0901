package projections_test

import (
	"maps"
	"testing"

	"crossbill/domain/invoice"
	"crossbill/projections"
)

// TestSettledItems asks for the same items as the customer, the provider, an operator and a stranger, with no condition but
// the door's, and with the queries'.
func TestSettledItems(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordHistory()
	b.project()
	documents := []string{id("inv", 1), id("inv", 2), id("inv", 3), id("crn", 1), id("crn", 2)}
	digest := invoice.EvidenceDigest(invoiced(2, acme).Lines[0].Evidence)
	item := func(document string, n int) projections.ItemOf {
		return projections.ItemOf{DocumentID: document, ItemID: id("itm", n)}
	}
	of2 := map[projections.ItemOf]projections.SettledItem{ // acme's even ones, which CloudCo provides
		item(id("inv", 2), 2): {EvidenceDigest: digest, CustomerID: acme, ProviderID: cloudCo, Line: 1, Charged: "400.00", SettlementID: id("set", 2), Amount: "400.00"},
		item(id("crn", 2), 2): {CustomerID: acme, ProviderID: cloudCo, Line: 1, Charged: "-1.00", SettlementID: id("set", 2), Number: "SC-2", Amount: "-1.00"},
	}
	for name, test := range map[string]struct {
		viewer projections.Viewer
		count  int
	}{
		"acme": {projections.Party(acme), 2}, "lakeCo": {projections.Party(lakeCo), 3}, "cloudCo": {projections.Party(cloudCo), 5},
		"stranger": {projections.Party(stranger), 0}, "operator": {projections.Operator(), 5},
	} {
		through := projections.Queries{DB: projections.Door{Pool: b.pool}}
		seen := projections.Viewing(t.Context(), test.viewer)
		items, err := through.SettledItems(seen, test.viewer, documents)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := b.q.SettledItems(t.Context(), test.viewer, documents)
		if err != nil || !maps.Equal(items, direct) || len(items) != test.count {
			t.Errorf("%s finds %v through the door and %v else, not %d (%v)", name, items, direct, test.count, err)
		}
		forgetful, err := through.SettledItems(seen, projections.Operator(), documents) // a caller that forgets who asks
		if err != nil || !maps.Equal(items, forgetful) {
			t.Errorf("%s finds %v where the query names nobody (%v)", name, forgetful, err)
		}
		if name == "acme" && !maps.Equal(items, of2) {
			t.Errorf("acme finds %v, not %v", items, of2)
		}

		notes, _, err := through.CreditNotesOf(seen, test.viewer, projections.BookSearch{From: at(91), To: at(93)})
		if err != nil {
			t.Fatal(err)
		}
		byID, err := through.InvoicesByID(seen, test.viewer, documents[:3])
		if err != nil {
			t.Fatal(err)
		}
		quotes, err := through.QuotesByID(seen, test.viewer, []string{id("quo", 1), id("quo", 2), id("quo", 99)})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][3]int{"acme": {1, 1, 1}, "lakeCo": {1, 2, 1}, "cloudCo": {0, 0, 2}, "stranger": {}, "operator": {2, 3, 2}}[name]
		if got := [3]int{len(notes), len(byID), len(quotes)}; got != want {
			t.Errorf("%s finds %v credit notes, invoices and quotes, not %v", name, got, want)
		}
	}
	notes, next, err := b.q.CreditNotesOf(t.Context(), projections.Operator(), projections.BookSearch{Limit: 1, Currency: "USD"})
	if err != nil || len(notes) != 1 || notes[0].CreditNoteID != id("crn", 2) || next == "" {
		t.Errorf("the newest credit note is %v, then %q (%v)", notes, next, err)
	}
	for name, s := range map[string]projections.BookSearch{"another currency": {Currency: "EUR"}, "another time": {To: at(91)}} {
		if notes, _, err := b.q.CreditNotesOf(t.Context(), projections.Operator(), s); err != nil || len(notes) != 0 {
			t.Errorf("%s has %d credit notes (%v)", name, len(notes), err)
		}
	}
}
