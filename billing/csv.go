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
// rounding and ends in "…" if it has no end. Times are RFC 3339 in UTC; period_end is exclusive. evidence_digest is
// [EvidenceDigest] of the line.
var InvoiceColumns = []string{
	"invoice_id", "invoice_number", "state", "customer_id", "period_start", "period_end", "issued_at", "line", "item_id", "kind",
	"provider_id", "connection_id", "charge_id", "description", "quantity", "unit", "exact_amount", "amount", "currency",
	"listing_id", "listing_version", "quote_id", "log_position", "run_id", "evidence_digest",
}

// SettlementColumns are the columns of the settlement export, one row per line, under the same terms as
// [InvoiceColumns]. A row's item_id is that of the invoice line that it settles, where the evidence is.
var SettlementColumns = []string{
	"settlement_id", "state", "provider_id", "period_start", "period_end", "issued_at", "line", "item_id", "invoice_id",
	"connection_id", "charge_id", "description", "amount", "currency", "log_position", "run_id",
}

// InvoiceCSV writes invoices as CSV (RFC 4180: CRLF, a header row), a document at a time and in constant memory.
type InvoiceCSV struct{ rows }

// NewInvoiceCSV returns a writer that begins with the header. Its errors come with the first Write or Flush.
func NewInvoiceCSV(w io.Writer) *InvoiceCSV { return &InvoiceCSV{newRows(w, InvoiceColumns)} }

// Write writes a row for each line. It returns an Unavailable error if the output does not take them.
func (c *InvoiceCSV) Write(i invoice.State) error {
	for _, l := range i.Lines {
		c.write(
			i.InvoiceID, text(i.Number), i.State, i.CustomerID, timestamp(i.PeriodStart), timestamp(i.PeriodEnd), timestamp(i.At),
			strconv.Itoa(l.Number), l.ItemID, l.Kind, l.ProviderID, l.ConnectionID, text(l.ChargeID), text(l.Description),
			l.Quantity, text(l.Unit), l.Exact, l.Amount.Amount(), string(l.Amount.Currency), l.Plan.ListingID,
			strconv.Itoa(l.Plan.Version), l.QuoteID, strconv.FormatInt(i.LogPosition, 10), i.RunID, EvidenceDigest(l.Evidence))
	}
	return c.error()
}

// SettlementCSV is [InvoiceCSV] for settlements.
type SettlementCSV struct{ rows }

// NewSettlementCSV is [NewInvoiceCSV] for settlements.
func NewSettlementCSV(w io.Writer) *SettlementCSV {
	return &SettlementCSV{newRows(w, SettlementColumns)}
}

// Write writes a row for each line. It returns an Unavailable error if the output does not take them.
func (c *SettlementCSV) Write(s settlement.State) error {
	for n, l := range s.Lines {
		c.write(
			s.SettlementID, s.State, s.ProviderID, timestamp(s.PeriodStart), timestamp(s.PeriodEnd), timestamp(s.At),
			strconv.Itoa(n+1), l.ItemID, l.InvoiceID, l.ConnectionID, text(l.ChargeID), text(l.Description),
			l.Amount.Amount(), string(l.Amount.Currency), strconv.FormatInt(s.LogPosition, 10), s.RunID)
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

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// text guards a cell that people wrote against being run as a formula by a spreadsheet: what begins like one gets an
// apostrophe in front (OWASP, "CSV Injection"; the wide forms are read the same way). Numbers are not guarded: they
// are ours, and a negative one must stay a number.
func text(s string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \u00a0\u3000"))
	if strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) && s != "" {
		return "'" + s
	}
	return s
}
