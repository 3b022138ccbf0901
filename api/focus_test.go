package api_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/settlement"
	"crossbill/events"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"exportFocus", "GET", "/v1/exports/focus?period=2026-03", m.customerKey, nil}}
	})
}

// rowsOf reads a CSV file.
func rowsOf(t *testing.T, file []byte) (rows []map[string]string) {
	t.Helper()
	all, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("%v: %.200s", err, file)
	}
	for _, cells := range all[1:] {
		row := make(map[string]string)
		for n, name := range all[0] {
			row[name] = cells[n]
		}
		rows = append(rows, row)
	}
	return rows
}

// record appends events for their parties.
func (m *market) record(stream string, parties []string, facts ...domain.Event) {
	m.t.Helper()
	a := events.StreamAppend{Stream: stream, Expected: events.Any}
	for _, f := range facts {
		a.Events = append(a.Events, events.NewEvent{Event: f, Metadata: events.Metadata{Parties: parties}})
	}
	_, err := m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{a}})
	must(m.t, err)
}

// TestFocus exports a month that a run billed, an invoice that names its parties as they were, and a credit note.
func TestFocus(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	ctx := context.Background()
	month := billing.MonthOf(m.now().AddDate(0, 2, 0))
	m.ahead.Add(int64(time.Until(month.From)))
	m.sellFrom(month.From)
	m.ahead.Add(int64(month.To.Sub(month.From) + 72*time.Hour)) // past the time in which readings may come late
	run := m.close(nil, client.NewBillingRun{PeriodStart: month.From, PeriodEnd: month.To})

	// A second invoice, made out to the account and by the issuer as they were before both changed their names.
	customers, both := []string{m.customerID}, []string{m.customerID, m.providerID}
	billed, _, err := events.Load(ctx, m.log, invoice.Stream(run.Invoices[0]), invoice.Evolve)
	must(t, err)
	account, version, err := events.Load(ctx, m.log, billingaccount.Stream(m.accountID), billingaccount.Evolve)
	must(t, err)
	renamed := account.Details
	renamed.Name = "Renamed since"
	m.record(billingaccount.Stream(m.accountID), customers, billingaccount.Changed{BillingAccountID: m.accountID, OrganisationID: m.customerID, Details: renamed, At: m.now()})
	for n, name := range []string{"Neutral Ground B.V.", "Other Ground B.V."} {
		m.record(issuer.Stream(billing.Issuer), nil, issuer.Set{Issuer: billing.Issuer, Version: n + 1, Details: issuer.Details{LegalName: name}, At: m.now()})
	}
	second := invoice.Issued(billed.Content)
	second.InvoiceID, second.Number = unknownID(domain.PrefixInvoice), "CB-SECOND"
	second.BillingAccountID, second.BillingAccountVersion, second.IssuerVersion = m.accountID, version, 1
	m.record(invoice.Stream(second.InvoiceID), customers, second)
	port := billed.Lines[0]
	note := creditnote.Issued{CreditNoteID: unknownID(domain.PrefixCreditNote), Number: "CN-1", InvoiceID: billed.InvoiceID, InvoiceNumber: billed.Number,
		CustomerID: m.customerID, Reason: "Outage", PeriodStart: month.From, PeriodEnd: month.To, Currency: "USD", At: month.To.Add(time.Hour),
		Lines: []creditnote.Line{{Number: 1, InvoiceLine: port.Number, ItemID: port.ItemID, Kind: port.Kind, ProviderID: port.ProviderID, ConnectionID: port.ConnectionID,
			Description: port.Description, Exact: "1.5", Amount: domain.Money{Minor: 150, Currency: "USD"}, Steps: []string{"1.5"}}},
		Passthrough: domain.Money{Minor: 150, Currency: "USD"}, Fee: domain.Money{Currency: "USD"}, Total: domain.Money{Minor: 150, Currency: "USD"},
		Settlements: []string{run.Settlements[0]}}
	m.record(creditnote.Stream(note.CreditNoteID), customers, note)
	m.record(settlement.Stream(run.Settlements[0]), both[1:], settlement.Credited{SettlementID: run.Settlements[0], Number: "SC-1", CreditNoteID: note.CreditNoteID,
		Reason: "Outage", Lines: []settlement.CreditedLine{{ItemID: port.ItemID, Amount: note.Lines[0].Amount}}, Total: note.Lines[0].Amount, At: note.At})

	export := func(key, query string) []byte {
		t.Helper()
		status, p, body := m.do(key, "GET", "/v1/exports/focus?"+query, nil)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %+v", query, status, p)
		}
		return body
	}
	name, later := month.From.Format("2006-01"), month.To.Format("2006-01")
	_, _, err = client.Decode[client.InvoicePage](m.customer.ListInvoices(ctx, &client.ListInvoicesParams{AtPosition: m.at()})) // what was recorded is read
	must(t, err)

	rows := rowsOf(t, export(m.customerKey, "period="+name))
	if len(rows) != 2*len(billed.Lines) {
		t.Fatalf("%d rows of %d lines", len(rows), 2*len(billed.Lines))
	}
	provider, _, err := client.Decode[client.Organisation](m.provider.GetOrganisation(ctx, m.providerID))
	must(t, err)
	for _, r := range rows {
		want := map[string]string{"ProviderName": "crossbill", "InvoiceIssuerName": "crossbill", "BillingAccountName": renamed.Name, "x_DocumentId": billed.InvoiceID}
		if r["InvoiceId"] == "CB-SECOND" {
			want = map[string]string{"ProviderName": "Neutral Ground B.V.", "InvoiceIssuerName": "Neutral Ground B.V.", "BillingAccountName": account.Details.Name,
				"BillingAccountId": m.accountID, "x_DocumentId": second.InvoiceID}
		}
		if r["x_LineKind"] == invoice.LinePassthrough {
			want["PublisherName"], want["ServiceName"], want["RegionName"] = provider.Name, m.listing.Terms.Title, m.listing.Terms.Metro
			if r["x_DocumentId"] == billed.InvoiceID {
				want["x_SettlementId"], want["x_SettlementAmount"] = run.Settlements[0], r["BilledCost"]
			}
		}
		want["ResourceId"], want["x_QuoteId"], want["ChargePeriodStart"] = billed.Lines[0].ConnectionID, billed.Lines[0].QuoteID, month.From.Format(time.RFC3339)
		for column, value := range want {
			if column == "BillingAccountName" && r["x_DocumentId"] == billed.InvoiceID {
				continue // as the run has it
			}
			if r[column] != value {
				t.Errorf("%s, line %s: %s is %q, not %q", r["InvoiceId"], r["x_InvoiceLine"], column, r[column], value)
			}
		}
	}
	credits := rowsOf(t, export(m.customerKey, "period="+later+"&format=csv"))
	if len(credits) != 1 || credits[0]["BilledCost"] != "-1.5" || credits[0]["x_SettlementAmount"] != "-1.5" || credits[0]["ChargeClass"] != "Correction" ||
		credits[0]["InvoiceId"] != "CN-1" || credits[0]["x_CreditedInvoiceId"] != billed.Number {
		t.Errorf("the credit note's rows are %v", credits)
	}
	if all := rowsOf(t, export(m.operatorKey, "period="+name)); len(all) != len(rows) {
		t.Errorf("an operator gets %d rows", len(all))
	}
	for who, key := range map[string]string{"a provider": m.providerKey, "a stranger": m.strangerKey} {
		for _, period := range []string{name, later} {
			if other := rowsOf(t, export(key, "period="+period)); len(other) != 0 {
				t.Errorf("%s gets %v", who, other)
			}
		}
	}
	if file := export(m.customerKey, "period="+name+"&format=parquet"); !bytes.HasPrefix(file, []byte("PAR1")) || !bytes.HasSuffix(file, []byte("PAR1")) {
		t.Errorf("no Parquet file: %.20q", file)
	}
	for _, query := range []string{"", "period=2026-13", "period=2026", "period=" + name + "&format=xlsx"} {
		if status, _, _ := m.do(m.customerKey, "GET", "/v1/exports/focus?"+query, nil); status != http.StatusUnprocessableEntity && status != http.StatusBadRequest {
			t.Errorf("%q answers %d", query, status)
		}
	}
	if status, _, _ := m.do(m.keyFor(m.customerID, "trade"), "GET", "/v1/exports/focus?period="+name, nil); status != http.StatusForbidden {
		t.Errorf("a key without the scope: %d", status)
	}

	// The provider's settlement names the digest that the customer's invoice has.
	_, _, ours := m.do(m.customerKey, "GET", "/v1/exports/invoices.csv?period="+name, nil)
	_, _, theirs := m.do(m.providerKey, "GET", "/v1/exports/settlements.csv?period="+name, nil)
	digests := make(map[string]string)
	for _, r := range rowsOf(t, ours) {
		digests[r["item_id"]] = r["evidence_digest"]
	}
	settled := rowsOf(t, theirs)
	for _, r := range settled {
		if r["evidence_digest"] == "" || r["evidence_digest"] != digests[r["item_id"]] {
			t.Errorf("%s is settled on %q and billed on %q", r["item_id"], r["evidence_digest"], digests[r["item_id"]])
		}
	}
	if len(settled) == 0 || !strings.Contains(string(theirs), "credited_amount") {
		t.Errorf("the settlement's rows are %v", settled)
	}
}
