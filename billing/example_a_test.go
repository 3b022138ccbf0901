package billing

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

// TestExampleA is the rebill document's worked example A on a real log, digit for digit.
func TestExampleA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	w.meterA()
	before := w.head()
	result := w.run(request(march))
	if len(result.Invoices) != 1 || len(result.Settlements) != 1 || result.Issued != 1 || result.LogPosition != int64(before) || result.Position != w.head() {
		t.Fatalf("the run made %+v", result)
	}
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

	i := w.invoice(result.Invoices[0])
	lines := []struct {
		kind, charge, quantity, unit, exact string
		amount                              domain.Money
		evidence                            int
	}{
		{invoice.LinePassthrough, "port", "0.677419354838709677…", "month", "270.967741935483870967…", usd(270_97), 3},
		{invoice.LinePassthrough, "traffic", "12345.678901234", "GB", "343.45678901234", usd(343_46), 4},
		{invoice.LineFee, "platform_fee", "614.43", "USD", "18.4329", usd(18_43), 4},
	}
	if len(i.Lines) != len(lines) {
		t.Fatalf("%d lines", len(i.Lines))
	}
	for n, want := range lines {
		l := i.Lines[n]
		if l.Number != n+1 || l.Kind != want.kind || l.ChargeID != want.charge || l.Quantity != want.quantity || l.Unit != want.unit ||
			l.Exact != want.exact || l.Amount != want.amount || len(l.Evidence) != want.evidence {
			t.Errorf("line %d is %+v", n+1, l)
		}
	}
	if i.Passthrough != usd(614_43) || i.Fee != usd(18_43) || i.Total != usd(632_86) || i.Number != "CB-2026-000001" ||
		i.LogPosition != int64(before) || i.RunID != result.RunID || !i.At.Equal(afterward) || i.CustomerID != id(domain.PrefixOrganisation, "customer") {
		t.Errorf("the invoice is %+v", i)
	}

	s := w.settlement(result.Settlements[0])
	if s.Total != usd(614_43) || len(s.Lines) != 2 || s.ProviderID != id(domain.PrefixOrganisation, "provider") {
		t.Fatalf("the settlement is %+v", s)
	}
	for n, l := range s.Lines {
		if l.ItemID != i.Lines[n].ItemID || l.Amount != i.Lines[n].Amount || l.InvoiceID != i.InvoiceID {
			t.Errorf("settlement line %d is not line %d of the invoice: %+v", n, n, l)
		}
	}

	testParties(t, w, result)
	testRecompute(t, w, i)
	testExplain(t, w, i)
	testCSV(t, i, s)
}

// testParties: the customer sees its invoice, the provider its settlement, and neither the platform's own.
func testParties(t *testing.T, w *world, r RunResult) {
	for stream, party := range map[string]string{
		invoice.Stream(r.Invoices[0]): "customer", settlement.Stream(r.Settlements[0]): "provider", billingrun.Stream(r.RunID): "", invoice.NumberStream(Issuer): "",
	} {
		e := w.recorded(stream)
		if e.Metadata.Actor != "operator" || party == "" && e.Metadata.Parties != nil ||
			party != "" && (len(e.Metadata.Parties) != 1 || e.Metadata.Parties[0] != id(domain.PrefixOrganisation, party)) {
			t.Errorf("%s has the metadata %+v", stream, e.Metadata)
		}
	}
}

// testRecompute: an invoice is a function of the log up to a position, whatever comes after.
func testRecompute(t *testing.T, w *world, i invoice.Issued) {
	con := exampleA()
	w.meter(w.reading(con.id(), date(2026, 3, 30), date(2026, 3, 31), 1_000_000_000_000, 0))
	again, err := Recompute(t.Context(), w, i)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if stored := w.recorded(invoice.Stream(i.InvoiceID)).Data; !bytes.Equal(b, stored) {
		t.Errorf("computed again:\n%s\nin the log:\n%s", b, stored)
	}
	altered := i
	altered.LogPosition = int64(w.head())
	if _, err := Recompute(t.Context(), w, altered); domain.CodeOf(err) != domain.Internal {
		t.Errorf("with the reading that came later it is the same: %v", err)
	}
}

func testExplain(t *testing.T, w *world, i invoice.Issued) {
	for n, want := range []int{3, 3 + 21*24, 3 + 21*24} { // requested, activated, quote issued; readings
		e, err := Explain(t.Context(), w, invoice.Content(i), n+1)
		if err != nil {
			t.Fatal(err)
		}
		if e.Recomputed != i.Lines[n].Amount || e.Exact != i.Lines[n].Exact || len(e.Events) != want || strings.Join(e.Steps, "|") != strings.Join(i.Lines[n].Steps, "|") {
			t.Errorf("line %d: %s from %d events: %v", n+1, e.Recomputed, len(e.Events), e.Steps)
		}
		types := []string{"connection.requested", "connection.activated", "quote.issued", "reading.recorded"}
		for k, event := range e.Events {
			if event.Type != types[min(k, 3)] || event.Position == 0 || event.ID == [16]byte{} || len(event.LeafHash) != 64 {
				t.Errorf("event %d is %+v", k, event)
			}
		}
	}
	for _, n := range []int{0, 4, -1} {
		if _, err := Explain(t.Context(), w, invoice.Content(i), n); domain.CodeOf(err) != domain.NotFound {
			t.Errorf("line %d: %v", n, err)
		}
	}
}

func testCSV(t *testing.T, i invoice.Issued, s settlement.Issued) {
	var out bytes.Buffer
	invoices := NewInvoiceCSV(&out)
	if err := invoices.Write(invoice.Evolve(invoice.State{}, i)); err != nil {
		t.Fatal(err)
	}
	if err := invoices.Flush(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d rows (%v)", len(rows), err)
	}
	cell := func(row int, column string) string {
		for k, name := range rows[0] {
			if name == column {
				return rows[row][k]
			}
		}
		t.Fatalf("no column %s", column)
		return ""
	}
	for column, want := range map[string]string{
		"invoice_number": "CB-2026-000001", "state": "issued", "line": "2", "amount": "343.46", "exact_amount": "343.45678901234", "currency": "USD",
		"quantity": "12345.678901234", "unit": "GB", "period_start": "2026-03-01T00:00:00Z", "period_end": "2026-04-01T00:00:00Z",
		"issued_at": "2026-05-02T00:00:00.123456Z", "evidence_digest": invoice.EvidenceDigest(i.Lines[1].Evidence), "item_id": s.Lines[1].ItemID,
	} {
		if got := cell(2, column); got != want {
			t.Errorf("%s is %q, not %q", column, got, want)
		}
	}
	out.Reset()
	settlements := NewSettlementCSV(&out)
	if err := settlements.Write(settlement.Evolve(settlement.State{}, s), noDigest); err != nil {
		t.Fatal(err)
	}
	if err := settlements.Flush(); err != nil {
		t.Fatal(err)
	}
	if rows, err = csv.NewReader(&out).ReadAll(); err != nil || len(rows) != 3 || cell(1, "amount") != "270.97" || cell(2, "amount") != "343.46" || cell(2, "invoice_id") != i.InvoiceID {
		t.Errorf("the settlement's rows are %v (%v)", rows, err)
	}
}
