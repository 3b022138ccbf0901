package invoice

import (
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
)

// Limits on an invoice.
const (
	MaxLines       = 100_000
	MaxNumber      = 40   // characters
	MaxItemID      = 120  // characters
	MaxDescription = 300  // characters
	MaxStep        = 1000 // characters of a step of the arithmetic
	MaxSteps       = 200  // of one line
	MaxEvidence    = 400  // of one line: the fee of a month of many changes names each quote
	MaxReference   = 120  // characters
)

// Command is what can be asked of an invoice.
type Command interface{ command() }

// Issue makes an invoice. Its totals must be the sums of its lines: what was added up once is added up again here.
type Issue struct {
	Invoice Issued
}

// Pay records that what is due was paid. The same payment again does nothing.
type Pay struct {
	Reference string
	Amount    domain.Money // zero: what is due
	At        time.Time
}

// Credit records what a credit note takes off. It may take no more off a line than is left of it. The same note again does
// nothing.
type Credit struct {
	CreditNoteID string
	Number       string
	Lines        []CreditedLine
	Total        domain.Money // with tax
	At           time.Time
}

// Void records that the invoice is not to be paid. The same again does nothing.
type Void struct {
	Reason string
	At     time.Time
}

func (Issue) command()  {}
func (Pay) command()    {}
func (Void) command()   {}
func (Credit) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the invoice, among them a total that is not the sum of its lines and an amount that is not its exact one rounded;
// NotFound for an invoice that does not exist; a Conflict for one whose state does not allow the command.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "invoice.Decide"
	if issue, ok := c.(Issue); ok {
		return issue.decide(op, s)
	}
	if s.InvoiceID == "" {
		return nil, domain.Missing(op, "invoice")
	}
	var p domain.Problems
	switch c := c.(type) {
	case Pay:
		p.Text("/reference", c.Reference, MaxReference)
		p.Time("/at", c.At)
		if c.Amount == (domain.Money{}) {
			c.Amount = s.Due()
		}
		p.Check(s.State != StateIssued || c.Amount == s.Due(), "/amount", "must be what is due, %s", s.Due())
		return s.close(op, p, StatePaid, "payment", c.Reference == s.Reference,
			Paid{InvoiceID: s.InvoiceID, Reference: c.Reference, Amount: c.Amount, At: domain.Instant(c.At)})
	case Void:
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		if s.State == StateIssued && len(s.CreditNotes) > 0 {
			return nil, domain.Errorf(domain.Conflict, op, "a credit note took something off invoice %s: it can't be voided any more", s.InvoiceID).
				WithHint("correct it with another credit note")
		}
		return s.close(op, p, StateVoid, "reason", c.Reason == s.Reason,
			Voided{InvoiceID: s.InvoiceID, Reason: c.Reason, At: domain.Instant(c.At)})
	}
	if credit, ok := c.(Credit); ok {
		return credit.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

// decide holds a credit to what is left of each line. A void invoice has nothing to credit; one that is paid has.
func (c Credit) decide(op string, s State) ([]domain.Event, error) {
	if slices.Contains(s.CreditNotes, c.CreditNoteID) {
		return nil, nil
	}
	if s.State == StateVoid {
		return nil, domain.InState(op, "invoice", s.InvoiceID, s.State).WithHint("nothing of it is owed: there is nothing to credit")
	}
	var p domain.Problems
	p.ID("/credit_note_id", domain.PrefixCreditNote, c.CreditNoteID)
	p.Text("/number", c.Number, MaxNumber)
	p.Time("/at", c.At)
	p.Check(len(c.Lines) >= 1 && len(c.Lines) <= MaxLines, "/lines", "must hold 1 to %d lines", MaxLines)
	seen := make(map[int]bool, len(c.Lines))
	for n, l := range c.Lines {
		at := domain.Pointer("/lines", n)
		if l.Line < 1 || l.Line > len(s.Lines) {
			p.Add(at+"/line", "must be 1 to %d, a line of invoice %s", len(s.Lines), s.Number)
			continue
		}
		p.Check(!seen[l.Line], at+"/line", "is credited by an earlier line")
		seen[l.Line] = true
		left := domain.Money{Minor: s.Lines[l.Line-1].Amount.Minor - s.ByLine[l.Line].Minor, Currency: s.Currency}
		p.Check(l.Amount.Currency == s.Currency, at+"/amount/currency", "must be the invoice's, %s", s.Currency)
		p.Check(min(left.Minor, 0) <= l.Amount.Minor && l.Amount.Minor <= max(left.Minor, 0), at+"/amount", "must be between nothing and %s, which is left of the line", left)
	}
	p.Check(c.Total.Currency == s.Currency, "/total/currency", "must be the invoice's, %s", s.Currency)
	p.Check(c.Total.Minor > 0 && c.Total.Minor <= s.Total.Minor-s.Credited.Minor, "/total", "must be above 0, and no more than is left of the invoice")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Credited{
		InvoiceID: s.InvoiceID, CreditNoteID: c.CreditNoteID, Number: c.Number, Lines: slices.Clone(c.Lines), Total: c.Total, At: domain.Instant(c.At),
	}}, nil
}

func (s State) close(op string, p domain.Problems, to, what string, same bool, e domain.Event) ([]domain.Event, error) {
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.State == to && same:
		return nil, nil
	case s.State == to:
		return nil, domain.Differs(op, "invoice", s.InvoiceID, what)
	case s.State != StateIssued:
		return nil, domain.InState(op, "invoice", s.InvoiceID, s.State).WithHint("correct it with a credit note")
	}
	return []domain.Event{e}, nil
}

func (c Issue) decide(op string, s State) ([]domain.Event, error) {
	if s.InvoiceID != "" {
		return nil, domain.Exists(op, "invoice", s.InvoiceID)
	}
	i := c.Invoice
	i.PeriodStart, i.PeriodEnd, i.At = domain.Instant(i.PeriodStart), domain.Instant(i.PeriodEnd), domain.Instant(i.At)
	var p domain.Problems
	p.ID("/invoice_id", domain.PrefixInvoice, i.InvoiceID)
	p.Text("/number", i.Number, MaxNumber)
	p.ID("/customer_id", domain.PrefixOrganisation, i.CustomerID)
	p.Check(i.PeriodEnd.After(i.PeriodStart), "/period_end", "must be after the start")
	p.Check(i.LogPosition >= 1, "/log_position", "must be at least 1")
	p.ID("/run_id", domain.PrefixBillingRun, i.RunID)
	if i.BillingAccountID != "" {
		p.ID("/billing_account_id", domain.PrefixBillingAccount, i.BillingAccountID)
	}
	p.Time("/at", c.Invoice.At)
	p.Check(!i.At.Before(i.PeriodEnd), "/at", "must not be before the period ends")
	p.Check(i.BillingAccountVersion >= 0, "/billing_account_version", "must not be negative")
	p.Check(i.IssuerVersion >= 0, "/issuer_version", "must not be negative")
	p.OptionalText("/purchase_order", i.PurchaseOrder, MaxReference)
	if i.DueAt != nil {
		due := domain.Instant(*i.DueAt)
		i.DueAt = &due
		p.Check(!due.Before(i.At), "/due_at", "must not be before the invoice is issued")
	}
	if i.Reissue != "" {
		p.ID("/reissues", domain.PrefixInvoice, i.Reissue)
	}
	p.Check(i.Currency.Valid(), "/currency", "%.10q is not a currency that Crossbill bills in", string(i.Currency))
	p.Check(len(i.Lines) >= 1 && len(i.Lines) <= MaxLines, "/lines", "must hold 1 to %d lines", MaxLines)
	if err := p.Err(op); err != nil { // what follows needs a currency and a bounded number of lines
		return nil, err
	}
	i.checkLines(&p)
	if err := p.Err(op); err != nil { // what follows needs lines of one currency
		return nil, err
	}
	i.checkTotals(&p)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{i}, nil
}

func (i Issued) checkLines(p *domain.Problems) {
	items := make(map[string]bool, len(i.Lines))
	for n, l := range i.Lines {
		at := domain.Pointer("/lines", n)
		p.Check(l.Number == n+1, at+"/number", "must be %d", n+1)
		p.Text(at+"/item_id", l.ItemID, MaxItemID)
		p.Check(!items[l.ItemID], at+"/item_id", "is that of an earlier line")
		items[l.ItemID] = true
		l.check(p, at, i.Currency)
	}
}

func (l Line) check(p *domain.Problems, at string, currency domain.Currency) {
	p.OneOf(at+"/kind", l.Kind, LinePassthrough, LineFee)
	p.ID(at+"/provider_id", domain.PrefixOrganisation, l.ProviderID)
	p.ID(at+"/connection_id", domain.PrefixConnection, l.ConnectionID)
	p.Check(l.ChargeID != "", at+"/charge_id", "must be given")
	p.Text(at+"/description", l.Description, MaxDescription)
	if l.Kind == LinePassthrough { // a fee is not any plan's
		p.ID(at+"/plan/listing_id", domain.PrefixListing, l.Plan.ListingID)
		p.Check(l.Plan.Version >= 1, at+"/plan/version", "must be at least 1")
	}
	p.ID(at+"/quote_id", domain.PrefixQuote, l.QuoteID)
	p.Check((l.From == nil) == (l.To == nil) && (l.From == nil || l.From.Before(*l.To)), at+"/to", "must be after from, and given with it")
	l.checkAmount(p, at, currency)
	p.Check(len(l.Steps) >= 1 && len(l.Steps) <= MaxSteps, at+"/steps", "must hold 1 to %d steps", MaxSteps)
	for i, step := range l.Steps {
		p.Text(domain.Pointer(at+"/steps", i), step, MaxStep)
	}
	p.Check(len(l.Evidence) >= 1 && len(l.Evidence) <= MaxEvidence, at+"/evidence", "must name 1 to %d ranges of events", MaxEvidence)
	for i, e := range l.Evidence {
		e.check(p, domain.Pointer(at+"/evidence", i))
	}
}

// checkAmount holds an amount to one rounding of the exact one. An exact amount that is cut ("…") rounds as the whole
// number does: halves lie on a currency's digits, all of them before the cut.
func (l Line) checkAmount(p *domain.Problems, at string, currency domain.Currency) {
	p.Check(l.Amount.Currency == currency, at+"/amount/currency", "must be the invoice's, %s", currency)
	p.Check(l.Amount.Minor >= 0 || l.Adjusts != nil || l.ChargeID == pricing.CreditChargeID, at+"/amount", "must not be negative: a credit is a credit note's, or an SLA's")
	if a := l.Adjusts; a != nil {
		p.Check(a.PeriodEnd.After(a.PeriodStart), at+"/adjusts/period_end", "must be after the start")
		p.Check(a.Billed.Currency == currency, at+"/adjusts/billed/currency", "must be the invoice's, %s", currency)
	}
	if v := l.Converted; v != nil {
		p.Check(v.Currency.Valid() && v.Currency != currency, at+"/converted/currency", "must be another currency than the invoice's")
		p.Check(v.Rate.Sign() > 0 && v.RateVersion >= 1, at+"/converted/rate", "must be that of an exchange rate's version")
	}
	exact, err := domain.ParseDecimal(strings.TrimSuffix(l.Exact, "…"))
	if err != nil {
		p.Add(at+"/exact", "must be a decimal number, with … at its end if it is cut")
		return
	}
	rounded, err := domain.RoundMoney(exact, currency)
	p.Check(err == nil && rounded.Minor == l.Amount.Minor, at+"/amount", "is not %s rounded", l.Exact)
}

func (e Evidence) check(p *domain.Problems, at string) {
	p.Check(e.Stream != "", at+"/stream", "must be given")
	p.Check(e.FromVersion >= 1, at+"/from_version", "must be at least 1")
	p.Check(e.ToVersion >= e.FromVersion, at+"/to_version", "must not be before from_version")
	p.Check(e.Count >= 1 && int64(e.Count) <= e.ToVersion-e.FromVersion+1, at+"/count", "must be 1 to the length of the range")
	p.Hash(at+"/digest", e.Digest)
	p.Check((e.From == nil) == (e.To == nil) && (e.From == nil || e.From.Before(*e.To)), at+"/to", "must be after from, and given with it")
}

func (i Issued) checkTotals(p *domain.Problems) {
	sums := map[string]domain.Money{LinePassthrough: {Currency: i.Currency}, LineFee: {Currency: i.Currency}}
	for n, l := range i.Lines {
		sum, err := sums[l.Kind].Add(l.Amount)
		if err != nil {
			p.Add(domain.Pointer("/lines", n)+"/amount", "makes a sum that is too large")
			return
		}
		sums[l.Kind] = sum
	}
	total, err := sums[LinePassthrough].Add(sums[LineFee])
	if err != nil {
		p.Add("/total", "is too large")
		return
	}
	if len(i.Taxes) == 0 {
		p.Check(i.Tax == (domain.Money{}), "/tax", "must be given with taxes alone")
	} else {
		taxes := tax.Check(p, "/taxes", i.Taxes, i.taxable(), i.Currency)
		p.Check(i.Tax == taxes, "/tax", "must be the sum of the taxes, %s", taxes)
		if total, err = total.Add(taxes); err != nil {
			p.Add("/total", "is too large")
			return
		}
	}
	p.Check(i.Passthrough == sums[LinePassthrough], "/passthrough", "must be the sum of its lines, %s", sums[LinePassthrough])
	p.Check(i.Fee == sums[LineFee], "/fee", "must be the sum of its lines, %s", sums[LineFee])
	p.Check(i.Total == total, "/total", "must be the sum of all lines, %s", total)
}

// taxable returns the sum of the lines by tax category. They add up: all of them together did.
func (i Issued) taxable() map[string]domain.Money {
	sums := make(map[string]domain.Money)
	for _, l := range i.Lines {
		sums[l.TaxCategory] = domain.Money{Minor: sums[l.TaxCategory].Minor + l.Amount.Minor, Currency: i.Currency}
	}
	return sums
}
