package billing

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

func TestTextIsNoFormula(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": "", "Port": "Port", "a=b": "a=b", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\tx": "'\tx", "\r=x": "'\r=x",
		"\n=x": "'\n=x", "  =1": "'  =1", "＝1": "'＝1", "'=1": "'=1", "100 Mbps": "100 Mbps",
	} {
		if got := PlainText(s); got != want {
			t.Errorf("%q is written as %q, not %q", s, got, want)
		}
	}
}

// TestCSVIsRFC4180 reads back what is hard to write, and checks the line ends.
func TestCSVIsRFC4180(t *testing.T) {
	t.Parallel()
	description := "a \"quoted\", long\r\nname; = π"
	amount := domain.Money{Minor: -1_00, Currency: "USD"}
	var out bytes.Buffer
	w := NewSettlementCSV(&out)
	if err := w.Write(settlement.State{Content: settlement.Content{SettlementID: "set_1", Lines: []settlement.Line{{Description: description, Amount: amount}}}, State: "issued"}, noDigest); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), strings.Join(SettlementColumns, ",")+"\r\n") || !strings.HasSuffix(out.String(), "\r\n") {
		t.Errorf("the lines don't end in CRLF: %q", out.String())
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[1]) != len(SettlementColumns) {
		t.Fatalf("%v (%v)", rows, err)
	}
	if rows[1][11] != strings.ReplaceAll(description, "\r\n", "\n") || rows[1][12] != "-1.00" { // the reader makes CRLF one LF
		t.Errorf("the cells are %q and %q", rows[1][11], rows[1][12])
	}
}

func noDigest(settlement.Line) string { return "" }

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestCSVTellsOfAFailedWrite(t *testing.T) {
	t.Parallel()
	w := NewInvoiceCSV(full{})
	if err := w.Flush(); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("the header: %v", err)
	}
	lines := make([]invoice.Line, 1000)
	for n := range lines {
		lines[n].Amount.Currency = "USD"
	}
	if err := w.Write(invoice.State{Content: invoice.Content{Lines: lines}}); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("the rows: %v", err)
	}
}

// cellsOf returns the cells of a file's only row by their columns.
func cellsOf(t *testing.T, file string) map[string]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v (%v)", rows, err)
	}
	cells := make(map[string]string)
	for n, name := range rows[0] {
		cells[name] = rows[1][n]
	}
	return cells
}

// TestCSVIsComplete writes lines with everything and with nothing that a line may have.
func TestCSVIsComplete(t *testing.T) {
	t.Parallel()
	february, march, april := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	line := invoice.Line{
		Number: 1, Amount: usd(1000), Part: "commit", From: &march, To: &april, TaxCategory: "AE",
		Adjusts:   &invoice.Adjustment{PeriodStart: february, PeriodEnd: march, Billed: usd(34346)},
		Converted: &invoice.Conversion{Amount: "9.25", Currency: "EUR", Rate: domain.MustDecimal("1.0956"), RateVersion: 7},
	}
	i := invoice.State{ByLine: map[int]domain.Money{1: usd(500)}, Content: invoice.Content{
		Lines: []invoice.Line{line}, BillingAccountID: "bac_1", PurchaseOrder: "=PO", DueAt: &april, Reissue: "inv_9"}}
	s := settlement.State{ByItem: map[string]domain.Money{"itm_1": usd(5)}, Content: settlement.Content{
		Number: "ST-1", Lines: []settlement.Line{{ItemID: "itm_1", InvoiceID: "inv_1", Amount: usd(10), InvoiceLine: 3, TaxCategory: "S", Adjusts: &february}}}}
	write := func(i invoice.State, s settlement.State) map[string]string {
		var invoices, settlements bytes.Buffer
		a, b := NewInvoiceCSV(&invoices), NewSettlementCSV(&settlements)
		if err := errors.Join(a.Write(i), a.Flush(), b.Write(s, func(l settlement.Line) string { return l.InvoiceID }), b.Flush()); err != nil {
			t.Fatal(err)
		}
		cells := cellsOf(t, invoices.String())
		for name, cell := range cellsOf(t, settlements.String()) {
			cells["settlement "+name] = cell
		}
		return cells
	}
	want := map[string]string{
		"part": "commit", "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", "tax_category": "AE", "adjusts_period_start": "2026-02-01T00:00:00Z",
		"adjusts_period_end": "2026-03-01T00:00:00Z", "adjusts_billed": "343.46", "plan_amount": "9.25", "plan_currency": "EUR", "exchange_rate": "1.0956",
		"exchange_rate_version": "7", "credited_amount": "5.00", "billing_account_id": "bac_1", "purchase_order": "'=PO", "due_at": "2026-04-01T00:00:00Z",
		"reissues": "inv_9", "settlement settlement_number": "ST-1", "settlement invoice_line": "3", "settlement tax_category": "S",
		"settlement adjusts_period_start": "2026-02-01T00:00:00Z", "settlement credited_amount": "0.05", "settlement evidence_digest": "inv_1",
	}
	full := write(i, s)
	empty := write(invoice.State{Content: invoice.Content{Lines: []invoice.Line{{Amount: usd(1)}}}},
		settlement.State{Content: settlement.Content{Lines: []settlement.Line{{Amount: usd(1)}}}})
	for name, cell := range want {
		if full[name] != cell || empty[name] != "" {
			t.Errorf("%s is %q and %q, not %q and nothing", name, full[name], empty[name], cell)
		}
	}
}
