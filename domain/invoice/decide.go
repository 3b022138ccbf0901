package invoice

import (
	"strings"
	"time"

	"crossbill/domain"
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

// Pay records that the total was paid. The same payment again does nothing.
type Pay struct {
	Reference string
	At        time.Time
}

// Void records that the invoice is not to be paid. The same again does nothing.
type Void struct {
	Reason string
	At     time.Time
}

func (Issue) command() {}
func (Pay) command()   {}
func (Void) command()  {}

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
		return s.close(op, p, StatePaid, "payment", c.Reference == s.Reference,
			Paid{InvoiceID: s.InvoiceID, Reference: c.Reference, At: domain.Instant(c.At)})
	case Void:
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		return s.close(op, p, StateVoid, "reason", c.Reason == s.Reason,
			Voided{InvoiceID: s.InvoiceID, Reason: c.Reason, At: domain.Instant(c.At)})
	}
	return nil, domain.UnknownCommand(op, c)
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
	p.Check(l.Amount.Minor >= 0, at+"/amount", "must not be negative: a credit is a credit note's")
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
	p.Check(i.Passthrough == sums[LinePassthrough], "/passthrough", "must be the sum of its lines, %s", sums[LinePassthrough])
	p.Check(i.Fee == sums[LineFee], "/fee", "must be the sum of its lines, %s", sums[LineFee])
	p.Check(i.Total == total, "/total", "must be the sum of all lines, %s", total)
}
