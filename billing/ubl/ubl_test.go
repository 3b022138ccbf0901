package ubl_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"crossbill/billing/document"
	"crossbill/billing/document/documenttest"
	"crossbill/billing/ubl"
	"crossbill/domain"
)

// With -documents DIR the documents are written there too, for other people's validators and for looking at them.
var documents = flag.String("documents", "", "a directory that the documents are written to")

func written(t *testing.T, d *document.Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := ubl.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func keep(t *testing.T, name, text string) {
	t.Helper()
	if *documents == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*documents, strings.NewReplacer(" ", "_", ",", "", "/", "_").Replace(name)+".xml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, name string) *document.Document {
	t.Helper()
	for _, c := range documenttest.All() {
		if c.Name == name {
			return c.Document
		}
	}
	t.Fatalf("there is no document %q", name)
	return nil
}

// claims are what each document claims, where it is not Peppol.
var claims = map[string]string{
	"erased": "EN 16931", "no address": "EN 16931", "mail address": "EN 16931",
	"three decimals": "", "nobody known": "", "nobody known, settlement": "",
}

// TestDocuments holds every document to the sequences of UBL's schemas, and to all the rules of what it claims.
func TestDocuments(t *testing.T) {
	t.Parallel()
	all, checked := documenttest.All(), 0
	for _, c := range all {
		text := written(t, c.Document)
		keep(t, c.Name, text)
		root := parse(t, text)
		if wrong := checkOrder(root); wrong != nil {
			t.Errorf("%s: %v", c.Name, wrong)
		}
		ids, n := broken(root)
		if checked += n; ids != nil {
			t.Errorf("%s breaks %v", c.Name, ids)
		}
		claim := "Peppol"
		switch {
		case !root.has("cbc:CustomizationID"):
			claim = ""
		case !root.has("cbc:ProfileID"):
			claim = "EN 16931"
		}
		want, other := claims[c.Name]
		if !other {
			want = "Peppol"
		}
		if claim != want {
			t.Errorf("%s claims %q, want %q", c.Name, claim, want)
		}
	}
	t.Logf("%d rules, %d checks of %d documents", len(rules), checked, len(all))
}

// TestAmounts adds the lines of every document up again from its text.
func TestAmounts(t *testing.T) {
	t.Parallel()
	for _, c := range documenttest.All() {
		root, d := parse(t, written(t, c.Document)), c.Document
		for path, m := range map[string]domain.Money{
			totals + "cbc:LineExtensionAmount": d.Net, totals + "cbc:TaxExclusiveAmount": d.Net,
			totals + "cbc:TaxInclusiveAmount": d.Total, totals + "cbc:PayableAmount": d.Total,
		} {
			if got := root.at(path); got != m.Amount() {
				t.Errorf("%s: %s is %s, want %s", c.Name, path, got, m.Amount())
			}
		}
		if len(d.Taxes) > 0 && root.at("cac:TaxTotal/cbc:TaxAmount") != d.Tax.Amount() {
			t.Errorf("%s: the tax is %s, want %s", c.Name, root.at("cac:TaxTotal/cbc:TaxAmount"), d.Tax.Amount())
		}
		sum := new(big.Rat)
		for _, l := range invoiceLines(root) {
			sum.Add(sum, l.number("cbc:LineExtensionAmount"))
		}
		if net, _ := new(big.Rat).SetString(d.Net.Amount()); sum.Cmp(net) != 0 {
			t.Errorf("%s: the lines come to %s, want %s", c.Name, sum.FloatString(3), d.Net)
		}
	}
}

// TestWhatIsSaid looks at what no rule is about.
func TestWhatIsSaid(t *testing.T) {
	t.Parallel()
	line := func(n int) string {
		prefix := "cac:InvoiceLine"
		return fmt.Sprintf("%s#%d", prefix, n)
	}
	at := func(root *node, path string) string { // "x#2/y" is y of the second x
		for _, part := range strings.Split(path, "/") {
			name, index, _ := strings.Cut(part, "#")
			n := 0
			fmt.Sscan(index, &n)
			found := root.all(name)
			if len(found) <= n {
				return ""
			}
			root = found[n]
		}
		return strings.TrimSpace(root.text)
	}
	for name, want := range map[string]map[string]string{
		"normal": {
			"cbc:InvoiceTypeCode": "380", "cbc:DueDate": "2026-05-01", "cac:OrderReference/cbc:ID": "PO-2026-7", "cbc:IssueDate": "2026-04-03",
			"cac:InvoicePeriod/cbc:StartDate": "2026-03-01", "cac:InvoicePeriod/cbc:EndDate": "2026-03-31",
			"cac:AdditionalDocumentReference/cac:Attachment/cac:ExternalReference/cbc:URI": "https://crossbill.example/v1/invoices/inv_1/proof",
			"cac:PaymentMeans/cac:PayeeFinancialAccount/cbc:ID":                            "NL91ABNA0417164300",
			line(0) + "/cbc:InvoicedQuantity":                                              "1", line(0) + "/cac:Price/cbc:PriceAmount": "270.97", // a part of a month
			line(0) + "/cac:InvoicePeriod/cbc:StartDate": "2026-03-11", line(0) + "/cac:InvoicePeriod/cbc:EndDate": "2026-03-31",
			line(3) + "/cbc:InvoicedQuantity": "1", line(3) + "/cac:Price/cbc:PriceAmount": "150",
			line(4) + "/cbc:InvoicedQuantity": "1000", line(4) + "/cac:Price/cbc:PriceAmount": "0.02",
			line(5) + "/cbc:InvoicedQuantity": "12.5", line(5) + "/cac:Price/cbc:PriceAmount": "3",
			line(0) + "/cac:DocumentReference/cbc:ID": firstConnection(t),
			seller + "cbc:EndpointID":                 "12345678", seller + "cac:PartyTaxScheme/cbc:CompanyID": "NL004495445B01",
		},
		"adjustments": {
			line(4) + "/cbc:InvoicedQuantity": "-1", line(4) + "/cac:Price/cbc:PriceAmount": "43.46", line(4) + "/cbc:LineExtensionAmount": "-43.46",
			line(3) + "/cac:InvoicePeriod": "", line(3) + "/cbc:InvoicedQuantity": "1", line(3) + "/cac:Price/cbc:PriceAmount": "10.00",
		},
		"credit for availability": { // a price is never negative (BR-27)
			line(3) + "/cbc:InvoicedQuantity": "-1", line(3) + "/cac:Price/cbc:PriceAmount": "27.10", line(3) + "/cbc:LineExtensionAmount": "-27.10",
			line(3) + "/cac:Item/cbc:Name": "Credit for availability, 10 % of what is charged by time", totals + "cbc:LineExtensionAmount": "605.76",
		},
		"no decimals": {
			totals + "cbc:PayableAmount": "42472", line(1) + "/cbc:InvoicedQuantity": "1", line(1) + "/cac:Price/cbc:PriceAmount": "1235",
			line(0) + "/cac:Price/cbc:PriceAmount": "40000",
		},
		"three decimals": {totals + "cbc:PayableAmount": "41.329"},
		"reverse charge": {
			"cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cbc:TaxExemptionReasonCode": "VATEX-EU-AE", buyer + "cac:PartyTaxScheme/cbc:CompanyID": "DE136695976",
			"cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cbc:TaxExemptionReason": "Reverse charge",
		},
		"export":       {"cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cbc:TaxExemptionReasonCode": "VATEX-EU-G", buyer + "cac:PartyTaxScheme": ""},
		"out of scope": {"cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cbc:TaxExemptionReasonCode": "VATEX-EU-O"},
		"exempt":       {"cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cbc:TaxExemptionReason": "Exempt under article 11"},
		"Cyrillic":     {buyer + "cac:PartyLegalEntity/cbc:RegistrationName": `ТОВ "Дніпровські мережі" & Ко <Київ>`},
		"erased":       {buyer + "cac:PartyLegalEntity/cbc:RegistrationName": domain.Erased, buyer + "cac:PartyTaxScheme": "", buyer + "cbc:EndpointID": ""},
		"credit note": {
			"cbc:CreditNoteTypeCode": "381", "cac:BillingReference/cac:InvoiceDocumentReference/cbc:ID": "CB-000042",
			"cac:BillingReference/cac:InvoiceDocumentReference/cbc:IssueDate": "2026-04-03", "cac:PaymentMeans": "",
		},
		"settlement": {
			"cbc:InvoiceTypeCode": "389", seller + "cac:PartyLegalEntity/cbc:RegistrationName": "Northlight Carrier ApS",
			buyer + "cac:PartyLegalEntity/cbc:RegistrationName": "Neutral Ground B.V.", buyer + "cac:PartyTaxScheme/cbc:CompanyID": "NL004495445B01",
			"cbc:ProfileID": "urn:fdc:peppol.eu:2017:poacc:selfbilling:01:1.0",
		},
		"settlement credit": {"cbc:CreditNoteTypeCode": "261", "cac:BillingReference/cac:InvoiceDocumentReference/cbc:ID": "ST-000003"},
	} {
		root := parse(t, written(t, find(t, name)))
		for path, text := range want {
			if got := at(root, path); got != text {
				t.Errorf("%s: %s is %q, want %q", name, path, got, text)
			}
		}
	}
	for name, said := range map[string]string{"void": "Void: nothing", "paid": "Paid on 21 April 2026", "credit note": "Outage of 12 March", "credited since": "To pay: 966.84 EUR"} {
		if note := parse(t, written(t, find(t, name))).at("cbc:Note"); !strings.Contains(note, said) {
			t.Errorf("%s says %q, not %q", name, note, said)
		}
	}
}

func firstConnection(t *testing.T) (id string) {
	for l := range find(t, "normal").Lines() {
		return l.ConnectionID
	}
	t.Fatal("no line")
	return ""
}

// TestRules breaks documents and sees each rule say so: a check that can't fail holds nothing.
func TestRules(t *testing.T) {
	t.Parallel()
	for i, m := range mutations {
		text := written(t, find(t, m.document))
		changed := strings.Replace(text, m.old, m.new, max(m.times, 1))
		if changed == text {
			t.Errorf("%s: %q is not in it", m.document, m.old)
			continue
		}
		keep(t, fmt.Sprintf("broken %02d %s", i, m.rule), changed)
		if ids, _ := broken(parse(t, changed)); !slices.Contains(ids, m.rule) {
			t.Errorf("%s with %q for %q breaks %v, want %s", m.document, m.new, m.old, ids, m.rule)
		}
	}
}

type mutation struct {
	rule, document, old, new string
	times                    int
}

var mutations = []mutation{
	{"BR-03", "normal", "<cbc:IssueDate>2026-04-03</cbc:IssueDate>", "", 1},
	{"BR-06", "normal", "<cbc:RegistrationName>Neutral Ground B.V.</cbc:RegistrationName>", "", 1},
	{"BR-07", "normal", "<cbc:RegistrationName>Grachtennet B.V.</cbc:RegistrationName>", "", 1},
	{"BR-27", "adjustments", `<cbc:PriceAmount currencyID="EUR">43.46`, `<cbc:PriceAmount currencyID="EUR">-43.46`, 1},
	{"BR-29", "normal", "<cbc:EndDate>2026-03-31", "<cbc:EndDate>2026-02-28", 1},
	{"BR-48", "normal", "</cbc:TaxAmount>\n      <cac:TaxCategory>\n        <cbc:ID>S</cbc:ID>\n        <cbc:Percent>21</cbc:Percent>", "</cbc:TaxAmount>\n      <cac:TaxCategory>\n        <cbc:ID>S</cbc:ID>", 1},
	{"BR-61", "normal", "<cbc:ID>NL91ABNA0417164300</cbc:ID>", "", 1},
	{"BR-62", "normal", ` schemeID="0106"`, "", 1},
	{"BR-CO-09", "normal", "<cbc:CompanyID>NL004495445B01", "<cbc:CompanyID>004495445B01", 1},
	{"BR-CO-10", "normal", `<cbc:LineExtensionAmount currencyID="EUR">270.97`, `<cbc:LineExtensionAmount currencyID="EUR">270.98`, 1},
	{"BR-CO-13", "normal", `<cbc:TaxExclusiveAmount currencyID="EUR">840.36`, `<cbc:TaxExclusiveAmount currencyID="EUR">840.35`, 1},
	{"BR-CO-14", "normal", `<cbc:TaxAmount currencyID="EUR">176.48`, `<cbc:TaxAmount currencyID="EUR">176.49`, 1},
	{"BR-CO-15", "normal", `<cbc:TaxInclusiveAmount currencyID="EUR">1016.84`, `<cbc:TaxInclusiveAmount currencyID="EUR">1016.85`, 1},
	{"BR-CO-16", "normal", `<cbc:PayableAmount currencyID="EUR">1016.84`, `<cbc:PayableAmount currencyID="EUR">1016.85`, 1},
	{"BR-CO-17", "normal", `<cbc:TaxAmount currencyID="EUR">176.48`, `<cbc:TaxAmount currencyID="EUR">178.48`, 2},
	{"BR-DEC-18", "normal", `<cbc:PayableAmount currencyID="EUR">1016.84`, `<cbc:PayableAmount currencyID="EUR">1016.840`, 1},
	{"BR-DEC-23", "normal", `<cbc:LineExtensionAmount currencyID="EUR">270.97`, `<cbc:LineExtensionAmount currencyID="EUR">270.970`, 1},
	{"BR-CL-01", "normal", "<cbc:InvoiceTypeCode>380", "<cbc:InvoiceTypeCode>381", 1},
	{"BR-CL-17", "normal", "</cbc:TaxAmount>\n      <cac:TaxCategory>\n        <cbc:ID>S", "</cbc:TaxAmount>\n      <cac:TaxCategory>\n        <cbc:ID>X", 1},
	{"BR-CL-22", "reverse charge", "VATEX-EU-AE", "VATEX-EU-XX", 1},
	{"BR-CL-23", "normal", `unitCode="E34"`, `unitCode="GiB"`, 1},
	{"BR-S-02", "normal", "<cbc:CompanyID>NL004495445B01</cbc:CompanyID>", "", 1},
	{"BR-S-05", "normal", "<cac:ClassifiedTaxCategory>\n        <cbc:ID>S</cbc:ID>\n        <cbc:Percent>21", "<cac:ClassifiedTaxCategory>\n        <cbc:ID>S</cbc:ID>\n        <cbc:Percent>0", 1},
	{"BR-S-08", "normal", `<cbc:TaxableAmount currencyID="EUR">840.36`, `<cbc:TaxableAmount currencyID="EUR">850.36`, 1},
	{"BR-S-10", "normal", "<cbc:Percent>21</cbc:Percent>", "<cbc:Percent>21</cbc:Percent><cbc:TaxExemptionReason>None</cbc:TaxExemptionReason>", 1},
	{"BR-AE-02", "reverse charge", "<cac:PartyTaxScheme>\n        <cbc:CompanyID>DE136695976</cbc:CompanyID>\n        <cac:TaxScheme>\n          <cbc:ID>VAT</cbc:ID>\n        </cac:TaxScheme>\n      </cac:PartyTaxScheme>", "", 1},
	{"BR-AE-10", "reverse charge", "<cbc:TaxExemptionReasonCode>VATEX-EU-AE</cbc:TaxExemptionReasonCode>\n        <cbc:TaxExemptionReason>Reverse charge</cbc:TaxExemptionReason>", "", 1},
	{"BR-O-02", "out of scope", "<cac:PartyLegalEntity>", "<cac:PartyTaxScheme><cbc:CompanyID>NL004495445B01</cbc:CompanyID><cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme></cac:PartyTaxScheme><cac:PartyLegalEntity>", 1},
	{"BR-O-05", "out of scope", "<cac:ClassifiedTaxCategory>\n        <cbc:ID>O</cbc:ID>", "<cac:ClassifiedTaxCategory>\n        <cbc:ID>O</cbc:ID>\n        <cbc:Percent>0</cbc:Percent>", 1},
	{"BR-E-10", "exempt", "<cbc:TaxExemptionReason>Exempt under article 11</cbc:TaxExemptionReason>", "", 1},
	{"BR-CO-25", "settlement", "<cac:PaymentTerms>\n    <cbc:Note>Paid out to the seller&#39;s account by the buyer.</cbc:Note>\n  </cac:PaymentTerms>", "", 1},
	{"PEPPOL-EN16931-R003", "settlement", "cbc:BuyerReference>", "cbc:AccountingCost>", 2},
	{"PEPPOL-EN16931-R008", "normal", "<cbc:CityName>Amsterdam</cbc:CityName>", "<cbc:CityName></cbc:CityName>", 1},
	{"PEPPOL-EN16931-R010", "normal", `<cbc:EndpointID schemeID="0190">00000001234567890000</cbc:EndpointID>`, "", 1},
	{"PEPPOL-EN16931-R051", "normal", `<cbc:PriceAmount currencyID="EUR">150`, `<cbc:PriceAmount currencyID="USD">150`, 1},
	{"PEPPOL-EN16931-R101", "normal", "<cbc:DocumentTypeCode>130", "<cbc:DocumentTypeCode>50", 1},
	{"PEPPOL-EN16931-R110", "normal", "<cbc:StartDate>2026-03-11", "<cbc:StartDate>2026-02-11", 1},
	{"PEPPOL-EN16931-R120", "normal", `<cbc:PriceAmount currencyID="EUR">0.02`, `<cbc:PriceAmount currencyID="EUR">0.0201`, 1},
	{"PEPPOL-EN16931-P0104", "export", "<cbc:ID>G</cbc:ID>", "<cbc:ID>E</cbc:ID>", 99},
	{"PEPPOL-EN16931-P0100", "normal", "<cbc:InvoiceTypeCode>380", "<cbc:InvoiceTypeCode>389", 1},
	{"PEPPOL-EN16931-CL008", "normal", `schemeID="0190"`, `schemeID="EM"`, 1},
	{"PEPPOL-EN16931-F001", "normal", "<cbc:DueDate>2026-05-01", "<cbc:DueDate>01.05.2026", 1},
}

// TestStream writes an invoice of very many lines and holds that nothing of it is kept.
func TestStream(t *testing.T) {
	const lines = 50_000
	d := *find(t, "normal")
	var first document.Line
	for l := range find(t, "normal").Lines() {
		first = l
		break
	}
	d.Lines = func() iter.Seq[document.Line] {
		return func(yield func(document.Line) bool) {
			for n := range lines {
				first.Number = n + 1
				if !yield(first) {
					return
				}
			}
		}
	}
	var out counter
	if err := ubl.Write(&out, &d); err != nil {
		t.Fatal(err)
	}
	if out.peak > 16<<20 {
		t.Errorf("%d MiB of lines took %d MiB of memory", out.n>>20, out.peak>>20)
	}
	t.Logf("%d lines, %d MiB, at most %d KiB of memory more than before", lines, out.n>>20, out.peak>>10)
}

// counter counts what is written, and now and then what memory is in use beyond what was at first.
type counter struct {
	n, next, before, peak int
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n >= c.next {
		c.next += 16 << 20
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if c.before == 0 {
			c.before = int(m.HeapAlloc)
		}
		c.peak = max(c.peak, int(m.HeapAlloc)-c.before)
	}
	c.n += len(p)
	return len(p), nil
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestOutputFails(t *testing.T) {
	t.Parallel()
	if err := ubl.Write(full{}, find(t, "many connections")); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("a full output: %v", err)
	}
}
