package focus_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"crossbill/billing/focus"
	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
)

// TestRows holds rows to what the documents say, by charge: category, frequency, quantity, unit, list price, billed.
func TestRows(t *testing.T) {
	t.Parallel()
	_, text, binary := exported(t)
	rows := readDataset(t, text, binary).rows
	columns := []string{"ChargeCategory", "ChargeFrequency", "PricingQuantity", "PricingUnit", "ListUnitPrice", "ConsumedQuantity", "BilledCost", "PricingCurrency"}
	for _, test := range []struct{ invoice, item, want string }{
		{"CB-inv_usd", "itm_setup", "Purchase One-Time 1 Units 150 - 150 USD"},
		{"CB-inv_usd", "itm_port", "Purchase Recurring 0.677419355 Months 900.5 - 610.02 USD"},
		{"CB-inv_usd", "itm_each12345.678901234", "Usage Usage-Based 12245.678901234 GB 0.02 12345.678901234 244.91 USD"}, // 100 are included
		{"CB-inv_usd", "itm_each0", "Usage Usage-Based 0 GB 0.02 0 0 USD"},
		{"CB-inv_usd", "itm_graduated12345.678901234", "Usage Usage-Based 12345.678901234 GB 0.02782 12345.678901234 343.46 USD"}, // the average
		{"CB-inv_usd", "itm_blocks12345.678901234", "Usage Usage-Based 25 500 GB 3.5 12345.678901234 87.5 USD"},
		{"CB-inv_usd", "itm_odd12345.678901234", "Usage Usage-Based 4939 Packages 0.03 12345.678901234 148.17 USD"},
		{"CB-inv_usd", "itm_burstcommit", "Purchase Recurring 67.741935484 Mbps-Months 2 - 135.48 USD"},
		{"CB-inv_usd", "itm_burstoverage", "Usage Usage-Based 67.741935484 Mbps-Months 3 67.741935484 203.23 USD"},
		{"CB-inv_usd", "itm_least", "Purchase Recurring 1 Units 338.709677419355 - 338.71 USD"},
		{"CB-inv_usd", "itm_fee", "Purchase Recurring 1 Units 18.4329 - 18.43 USD"},
		{"CB-inv_usd", "itm_sla_credit", "Credit One-Time - - - - -81.02 USD"},
		{"CN-inv_usd", "itm_sla_credit", "Credit One-Time - - - - 40.51 USD"}, // what was given back is owed again
		{"CB-inv_jpy", "itm_port", "Purchase Recurring 0.677419355 Months 900.5 - 610 JPY"},
		{"CB-inv_bhd", "itm_port", "Purchase Recurring 0.677419355 Months 900.5 - 610.016 BHD"},
		{"CB-inv_converted", "itm_burstcommit", "Purchase Recurring 67.741935484 Mbps-Months 0.0132246 - 0.9 JPY"},
		{"CB-inv_late", "itm_port", "Purchase Recurring - - - - -610.02 USD"},
		{"CN-inv_usd", "itm_port", "Purchase Recurring - - - - -305.01 USD"},
	} {
		found := 0
		for _, r := range rows {
			id := strings.ReplaceAll(r["x_ItemId"], "itm_platform_fee", "itm_fee")
			if r["InvoiceId"] != test.invoice || id != test.item {
				continue
			}
			found++
			var got []string
			for _, c := range columns {
				v := r[c]
				if v == "" {
					v = "-"
				}
				if c == "ListUnitPrice" && len(v) > 8 && test.item == "itm_graduated12345.678901234" {
					v = v[:7]
				}
				got = append(got, v)
			}
			if s := strings.Join(got, " "); s != test.want {
				t.Errorf("%s, %s: %s, not %s", test.invoice, test.item, s, test.want)
			}
		}
		if found != 1 {
			t.Errorf("%s has %d rows of %s", test.invoice, found, test.item)
		}
	}
	for _, r := range rows {
		if strings.Contains(r["InvoiceId"], "void") {
			t.Error("a void invoice is in the dataset")
		}
		publisher := r["PublisherName"] == "Cloud Co" || r["x_ProviderId"] == "org_none" && r["PublisherName"] == "org_none"
		if passthrough := r["x_LineKind"] == invoice.LinePassthrough; publisher != passthrough || r["ProviderName"] != "Neutral Ground B.V." {
			t.Errorf("%s is published by %s and provided by %s", r["ChargeDescription"], r["PublisherName"], r["ProviderName"])
		}
		if settled := r["x_SettlementAmount"]; settled != "" && settled != r["BilledCost"] || (settled == "") != (r["x_LineKind"] != invoice.LinePassthrough) {
			t.Errorf("%s is billed at %s and settled at %q", r["x_ItemId"], r["BilledCost"], settled)
		}
		// What is not rounded differs from what is billed by half a minor unit, and by what its factors are cut by.
		half := map[string]*big.Rat{"USD": big.NewRat(1, 200), "JPY": big.NewRat(1, 2), "BHD": big.NewRat(1, 2000)}[r["BillingCurrency"]]
		difference := new(big.Rat).Sub(rat(r["ContractedCost"]), rat(r["BilledCost"]))
		if difference.Abs(difference).Cmp(new(big.Rat).Add(half, big.NewRat(1, 1_000_000))) > 0 && r["ChargeCategory"] != "Tax" {
			t.Errorf("%s costs %s and is billed at %s", r["ChargeDescription"], r["ContractedCost"], r["BilledCost"])
		}
	}
}

// TestCSVIsPlain reads the bytes: a header, CRLF, and no cell that a spreadsheet runs.
func TestCSVIsPlain(t *testing.T) {
	t.Parallel()
	_, text, _ := exported(t)
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte("\r\n")) != bytes.Count(text, []byte("\n")) || len(all[0]) != len(focus.Columns) {
		t.Error("the lines don't end in CRLF, or the header is short")
	}
	guarded := 0
	for _, row := range all[1:] {
		for n, cell := range row {
			if strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r") && focus.Columns[n].Type.Name != "Decimal" {
				t.Errorf("%s is %q", all[0][n], cell)
			}
			if strings.HasPrefix(cell, `'=Networks, "Europe"`) {
				guarded++
			}
		}
	}
	if guarded != len(all)-1 {
		t.Errorf("the account's name is guarded in %d of %d rows", guarded, len(all)-1)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestErrors(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	i := b.invoice("inv_1", "USD", nil, nil)
	for name, w := range map[string]focus.Writer{"csv": focus.NewCSV(full{}), "parquet": focus.NewParquet(full{})} {
		err := b.book.Invoice(i, w.Write)
		if err == nil {
			err = w.Close()
		}
		if domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("%s: a full disk is %v", name, err)
		}
	}
	for name, w := range map[string]focus.Writer{"csv": focus.NewCSV(io.Discard), "parquet": focus.NewParquet(io.Discard)} {
		large := i
		large.Lines = append([]invoice.Line{}, i.Lines...)
		large.Lines[0].Exact = "100000000000000000"
		if err := b.book.Invoice(large, w.Write); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: a cost without room is %v", name, err)
		}
		none := i
		none.Lines = append([]invoice.Line{}, i.Lines...)
		none.Lines[0].Quantity = "much"
		if err := b.book.Invoice(none, w.Write); domain.CodeOf(err) != domain.Internal {
			t.Errorf("%s: a quantity that is none is %v", name, err)
		}
		c := creditnote.State{Content: creditnote.Content{CreditNoteID: "crn_1", InvoiceID: "inv_1", Lines: []creditnote.Line{{InvoiceLine: 99}}}}
		if err := b.book.CreditNote(c, i, w.Write); domain.CodeOf(err) != domain.Internal {
			t.Errorf("%s: a credit of a line that is not there is %v", name, err)
		}
		if err := w.Write(&focus.Row{}); name == "parquet" && domain.CodeOf(err) != domain.Internal {
			t.Errorf("a row without an account is %v", err)
		}
	}
}
