package billing

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

// InvoiceColumns are the columns of the invoice export, one row per line. They are a contract: a column is never
// renamed, moved or given another meaning; new ones come at the end.
//
// Amounts are decimals in major units with all digits of the row's currency; exact_amount is the amount before its one
// rounding and ends in "…" if it has no end. Times are RFC 3339 in UTC; period_end and to are exclusive. evidence_digest is
// [invoice.EvidenceDigest] of the line. An empty cell is a value that there is none of: part, of charges that are no percentile; from
// and to, of lines that are for the whole period; adjusts_…, of lines that correct no earlier period (adjusts_billed is what
// was billed for it before); plan_… and exchange_…, where the plan is in the invoice's currency; credited_amount, of lines
// that no credit note took anything off. Taxes are of the invoice and not of a line: the FOCUS export has rows for them.
var InvoiceColumns = []string{
	"invoice_id", "invoice_number", "state", "customer_id", "period_start", "period_end", "issued_at", "line", "item_id", "kind",
	"provider_id", "connection_id", "charge_id", "description", "quantity", "unit", "exact_amount", "amount", "currency",
	"listing_id", "listing_version", "quote_id", "log_position", "run_id", "evidence_digest",
	"part", "from", "to", "tax_category", "adjusts_period_start", "adjusts_period_end", "adjusts_billed", "plan_amount", "plan_currency",
	"exchange_rate", "exchange_rate_version", "credited_amount", "billing_account_id", "purchase_order", "due_at", "reissues",
}

// SettlementColumns are the columns of the settlement export, one row per line, under the same terms as
// [InvoiceColumns]. A row's item_id is that of the invoice line that it settles; evidence_digest is of that line's evidence.
var SettlementColumns = []string{
	"settlement_id", "state", "provider_id", "period_start", "period_end", "issued_at", "line", "item_id", "invoice_id",
	"connection_id", "charge_id", "description", "amount", "currency", "log_position", "run_id",
	"settlement_number", "invoice_line", "tax_category", "adjusts_period_start", "credited_amount", "evidence_digest",
}

// InvoiceCSV writes invoices as CSV (RFC 4180: CRLF, a header row), a document at a time and in constant memory.
type InvoiceCSV struct{ rows }

// NewInvoiceCSV returns a writer that begins with the header. Its errors come with the first Write or Flush.
func NewInvoiceCSV(w io.Writer) *InvoiceCSV { return &InvoiceCSV{newRows(w, InvoiceColumns)} }

// Write writes a row for each line. It returns an Unavailable error if the output does not take them.
func (c *InvoiceCSV) Write(i invoice.State) error {
	for _, l := range i.Lines {
		var adjusts struct {
			start, end *time.Time
			billed     string
		}
		if a := l.Adjusts; a != nil {
			adjusts.start, adjusts.end, adjusts.billed = &a.PeriodStart, &a.PeriodEnd, a.Billed.Amount()
		}
		var converted struct{ amount, currency, rate, version string }
		if v := l.Converted; v != nil {
			converted.amount, converted.currency, converted.rate, converted.version = v.Amount, string(v.Currency), v.Rate.String(), strconv.Itoa(v.RateVersion)
		}
		c.write(
			i.InvoiceID, PlainText(i.Number), i.State, i.CustomerID, timestamp(i.PeriodStart), timestamp(i.PeriodEnd), timestamp(i.At),
			strconv.Itoa(l.Number), l.ItemID, l.Kind, l.ProviderID, l.ConnectionID, PlainText(l.ChargeID), PlainText(l.Description),
			l.Quantity, PlainText(l.Unit), l.Exact, l.Amount.Amount(), string(l.Amount.Currency), l.Plan.ListingID,
			strconv.Itoa(l.Plan.Version), l.QuoteID, strconv.FormatInt(i.LogPosition, 10), i.RunID, invoice.EvidenceDigest(l.Evidence),
			l.Part, instant(l.From), instant(l.To), l.TaxCategory, instant(adjusts.start), instant(adjusts.end), adjusts.billed,
			converted.amount, converted.currency, converted.rate, converted.version, amountOf(i.ByLine, l.Number),
			i.BillingAccountID, PlainText(i.PurchaseOrder), instant(i.DueAt), i.Reissue)
	}
	return c.error()
}

// SettlementCSV is [InvoiceCSV] for settlements.
type SettlementCSV struct{ rows }

// NewSettlementCSV is [NewInvoiceCSV] for settlements.
func NewSettlementCSV(w io.Writer) *SettlementCSV {
	return &SettlementCSV{newRows(w, SettlementColumns)}
}

// Write writes a row for each line. digest returns the digest of the evidence of a line, which its invoice has; "" if it is not
// known. It returns an Unavailable error if the output does not take them.
func (c *SettlementCSV) Write(s settlement.State, digest func(settlement.Line) string) error {
	for n, l := range s.Lines {
		c.write(
			s.SettlementID, s.State, s.ProviderID, timestamp(s.PeriodStart), timestamp(s.PeriodEnd), timestamp(s.At),
			strconv.Itoa(n+1), l.ItemID, l.InvoiceID, l.ConnectionID, PlainText(l.ChargeID), PlainText(l.Description),
			l.Amount.Amount(), string(l.Amount.Currency), strconv.FormatInt(s.LogPosition, 10), s.RunID,
			s.Number, positive(l.InvoiceLine), l.TaxCategory, instant(l.Adjusts), amountOf(s.ByItem, l.ItemID), digest(l))
	}
	return c.error()
}

type rows struct{ out *csv.Writer }

func newRows(w io.Writer, header []string) rows {
	r := rows{csv.NewWriter(w)}
	r.out.UseCRLF = true
	r.write(header...)
	return r
}

// write leaves the error, which the csv writer keeps, to error.
func (r rows) write(cells ...string) { _ = r.out.Write(cells) }

// Flush writes what is buffered. It must be called at the end.
func (r rows) Flush() error {
	r.out.Flush()
	return r.error()
}

func (r rows) error() error {
	if err := r.out.Error(); err != nil {
		return domain.Errorf(domain.Unavailable, "billing.CSV", "the export could not be written: %w", err)
	}
	return nil
}

// instant is a time that may be missing.
func instant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return timestamp(*t)
}

// positive is a number of which 0 says that there is none.
func positive(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func amountOf[K comparable](amounts map[K]domain.Money, of K) string {
	if m, ok := amounts[of]; ok {
		return m.Amount()
	}
	return ""
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// PlainText guards a cell that people wrote against being run as a formula by a spreadsheet: what begins like one gets an
// apostrophe in front (OWASP, "CSV Injection"; the wide forms are read the same way). Numbers are not guarded: they
// are ours, and a negative one must stay a number.
func PlainText(s string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \u00a0\u3000"))
	if strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) && s != "" {
		return "'" + s
	}
	return s
}
