package billing

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"

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
		if got := text(s); got != want {
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
	if err := w.Write(settlement.State{Content: settlement.Content{SettlementID: "set_1", Lines: []settlement.Line{{Description: description, Amount: amount}}}, State: "issued"}); err != nil {
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
