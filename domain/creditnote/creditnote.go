// Package creditnote is what a customer no longer owes of an issued invoice, line by line. The invoice itself never
// changes; the provider's settlement and the platform's fee fall in the same proportion.
//
// It checks that a credit note adds up and never computes one: that is billing's. What is left of an invoice to credit is
// held by the invoice's own stream (invoice.Credit). Start reading at [Issued], then [Decide].
package creditnote

import (
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/tax"
)

// Line is what is taken off one line of the invoice. Amounts are what is given back: positive, but for a line that is
// negative on the invoice, an adjustment.
type Line struct {
	Number       int          `json:"number"`       // counts from 1
	InvoiceLine  int          `json:"invoice_line"` // the line's number on the invoice
	ItemID       string       `json:"item_id"`
	Kind         string       `json:"kind"` // invoice.LinePassthrough or invoice.LineFee
	ProviderID   string       `json:"provider_id"`
	ConnectionID string       `json:"connection_id"`
	Description  string       `json:"description"`
	Exact        string       `json:"exact"` // before its one rounding; "…" ends a number that is cut
	Amount       domain.Money `json:"amount"`
	Steps        []string     `json:"steps"` // the arithmetic
	TaxCategory  string       `json:"tax_category,omitempty"`
}

// Issued says what is taken off an invoice.
type Issued struct {
	CreditNoteID  string          `json:"credit_note_id"`
	Number        string          `json:"number"`
	InvoiceID     string          `json:"invoice_id"`
	InvoiceNumber string          `json:"invoice_number"` // EN 16931 BT-25
	CustomerID    string          `json:"customer_id"`
	Reason        string          `json:"reason"`
	PeriodStart   time.Time       `json:"period_start"` // the invoice's
	PeriodEnd     time.Time       `json:"period_end"`
	Currency      domain.Currency `json:"currency"`
	Lines         []Line          `json:"lines"`
	Passthrough   domain.Money    `json:"passthrough"`
	Fee           domain.Money    `json:"fee"`
	Taxes         []tax.Subtotal  `json:"taxes,omitempty"`
	Tax           domain.Money    `json:"tax,omitzero"` // none if there are no taxes
	Total         domain.Money    `json:"total"`        // with tax
	Settlements   []string        `json:"settlements"`  // that fall with it
	At            time.Time       `json:"at"`

	BillingAccountID      string `json:"billing_account_id,omitempty"` // the invoice's, as the two after it
	BillingAccountVersion int64  `json:"billing_account_version,omitempty"`
	IssuerVersion         int64  `json:"issuer_version,omitempty"`
	PurchaseOrder         string `json:"purchase_order,omitempty"`
}

// EventType is the name in the log.
func (Issued) EventType() string { return "credit_note.issued" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Issued{}} }

// Stream names the stream of one credit note.
func Stream(id string) string { return "credit_note-" + id }

// Content is what a credit note says; it is [Issued] without being an event.
type Content Issued

// State is a credit note. The zero State is one that does not exist.
type State struct{ Content }

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Issued); ok {
		return State{Content(e)}
	}
	return s
}

// Issue makes a credit note. Its totals must be the sums of its lines: what was added up once is added up again here.
type Issue struct {
	CreditNote Issued
}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the credit note, and a Conflict for one that exists.
func Decide(s State, c Issue) ([]domain.Event, error) {
	const op = "creditnote.Decide"
	if s.CreditNoteID != "" {
		return nil, domain.Exists(op, "credit note", s.CreditNoteID)
	}
	n := c.CreditNote
	n.PeriodStart, n.PeriodEnd, n.At = domain.Instant(n.PeriodStart), domain.Instant(n.PeriodEnd), domain.Instant(n.At)
	n.Settlements = append([]string{}, n.Settlements...)
	var p domain.Problems
	p.ID("/credit_note_id", domain.PrefixCreditNote, n.CreditNoteID)
	p.Text("/number", n.Number, invoice.MaxNumber)
	p.ID("/invoice_id", domain.PrefixInvoice, n.InvoiceID)
	p.Text("/invoice_number", n.InvoiceNumber, invoice.MaxNumber)
	p.ID("/customer_id", domain.PrefixOrganisation, n.CustomerID)
	p.Text("/reason", n.Reason, domain.MaxReason)
	p.Time("/at", c.CreditNote.At)
	for i, id := range n.Settlements {
		p.ID(domain.Pointer("/settlements", i), domain.PrefixSettlement, id)
	}
	p.Check(n.Currency.Valid(), "/currency", "%.10q is not a currency that Crossbill bills in", string(n.Currency))
	p.Check(len(n.Lines) >= 1 && len(n.Lines) <= invoice.MaxLines, "/lines", "must hold 1 to %d lines", invoice.MaxLines)
	if err := p.Err(op); err != nil { // what follows needs a currency and a bounded number of lines
		return nil, err
	}
	n.checkLines(&p)
	if err := p.Err(op); err != nil { // what follows needs lines of one currency
		return nil, err
	}
	n.checkTotals(&p)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{n}, nil
}

func (i Issued) checkLines(p *domain.Problems) {
	var credited []int
	for n, l := range i.Lines {
		at := domain.Pointer("/lines", n)
		p.Check(l.Number == n+1, at+"/number", "must be %d", n+1)
		p.Check(l.InvoiceLine >= 1, at+"/invoice_line", "must be at least 1")
		p.Check(!slices.Contains(credited, l.InvoiceLine), at+"/invoice_line", "is credited by an earlier line")
		credited = append(credited, l.InvoiceLine)
		p.Text(at+"/item_id", l.ItemID, invoice.MaxItemID)
		p.OneOf(at+"/kind", l.Kind, invoice.LinePassthrough, invoice.LineFee)
		p.ID(at+"/provider_id", domain.PrefixOrganisation, l.ProviderID)
		p.ID(at+"/connection_id", domain.PrefixConnection, l.ConnectionID)
		p.Text(at+"/description", l.Description, invoice.MaxDescription)
		p.Check(l.Amount.Currency == i.Currency, at+"/amount/currency", "must be the credit note's, %s", i.Currency)
		exact, err := domain.ParseDecimal(strings.TrimSuffix(l.Exact, "…"))
		if err != nil {
			p.Add(at+"/exact", "must be a decimal number, with … at its end if it is cut")
			continue
		}
		rounded, err := domain.RoundMoney(exact, i.Currency)
		p.Check(err == nil && rounded.Minor == l.Amount.Minor, at+"/amount", "is not %s rounded", l.Exact)
		p.Check(len(l.Steps) >= 1 && len(l.Steps) <= invoice.MaxSteps, at+"/steps", "must hold 1 to %d steps", invoice.MaxSteps)
	}
}

func (i Issued) checkTotals(p *domain.Problems) {
	sums := map[string]domain.Money{invoice.LinePassthrough: {Currency: i.Currency}, invoice.LineFee: {Currency: i.Currency}}
	taxable := make(map[string]domain.Money)
	for n, l := range i.Lines {
		sum, err := sums[l.Kind].Add(l.Amount)
		if err != nil {
			p.Add(domain.Pointer("/lines", n)+"/amount", "makes a sum that is too large")
			return
		}
		sums[l.Kind] = sum
		taxable[l.TaxCategory] = domain.Money{Minor: taxable[l.TaxCategory].Minor + l.Amount.Minor, Currency: i.Currency}
	}
	total, err := sums[invoice.LinePassthrough].Add(sums[invoice.LineFee])
	if err == nil && len(i.Taxes) > 0 {
		taxes := tax.CheckCredit(p, "/taxes", i.Taxes, taxable, i.Currency)
		p.Check(i.Tax == taxes, "/tax", "must be the sum of the taxes, %s", taxes)
		total, err = total.Add(taxes)
	}
	if err != nil {
		p.Add("/total", "is too large")
		return
	}
	p.Check(len(i.Taxes) > 0 || i.Tax == (domain.Money{}), "/tax", "must be given with taxes alone")
	p.Check(i.Passthrough == sums[invoice.LinePassthrough], "/passthrough", "must be the sum of its lines, %s", sums[invoice.LinePassthrough])
	p.Check(i.Fee == sums[invoice.LineFee], "/fee", "must be the sum of its lines, %s", sums[invoice.LineFee])
	p.Check(i.Total == total, "/total", "must be the sum of all lines and the tax, %s", total)
	p.Check(total.Minor > 0, "/total", "must be above 0: it is what is given back")
}
