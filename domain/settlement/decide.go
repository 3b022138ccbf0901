package settlement

import (
	"slices"

	"crossbill/domain"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
)

// Limits on a settlement.
const (
	MaxLines       = 1_000_000
	MaxItemID      = 120 // characters
	MaxDescription = 300 // characters
	MaxNumber      = 40  // characters
)

// Command is what can be asked of a settlement.
type Command interface{ command() }

// Issue makes a settlement. Its total must be the sum of its lines: what was added up once is added up again here.
type Issue struct {
	Settlement Issued
}

// Credit takes something off items of the settlement: no more than is left of each. The same again does nothing.
type Credit struct {
	Credit Credited
}

func (Issue) command()  {}
func (Credit) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the settlement, and a Conflict for a settlement that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "settlement.Decide"
	switch c := c.(type) {
	case Issue:
		return c.decide(op, s)
	case Credit:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Credit) decide(op string, s State) ([]domain.Event, error) {
	if s.SettlementID == "" {
		return nil, domain.Missing(op, "settlement")
	}
	e := c.Credit
	e.SettlementID, e.At, e.Lines = s.SettlementID, domain.Instant(e.At), slices.Clone(e.Lines)
	if slices.ContainsFunc(s.Credits, func(o Credited) bool { return o.CreditNoteID == e.CreditNoteID && o.InvoiceID == e.InvoiceID }) {
		return nil, nil
	}
	var p domain.Problems
	p.Text("/number", e.Number, MaxNumber)
	p.Check((e.CreditNoteID == "") != (e.InvoiceID == ""), "/credit_note_id", "must be given, or invoice_id")
	p.Text("/reason", e.Reason, domain.MaxReason)
	p.Time("/at", c.Credit.At)
	p.Check(len(e.Lines) >= 1 && len(e.Lines) <= MaxLines, "/lines", "must hold 1 to %d lines", MaxLines)
	items := make(map[string]Line, len(s.Lines))
	for _, l := range s.Lines {
		items[l.ItemID] = l
	}
	sum, taxable := domain.Money{Currency: s.Currency}, make(map[string]domain.Money)
	for n, l := range e.Lines {
		at := domain.Pointer("/lines", n)
		item, ok := items[l.ItemID]
		if !ok {
			p.Add(at+"/item_id", "must be an item of the settlement, once")
			continue
		}
		delete(items, l.ItemID)
		left := item.Amount.Minor - s.ByItem[l.ItemID].Minor
		p.Check(l.Amount.Currency == s.Currency, at+"/amount/currency", "must be the settlement's, %s", s.Currency)
		p.Check(min(left, 0) <= l.Amount.Minor && l.Amount.Minor <= max(left, 0), at+"/amount", "must be no more than is left of the item, %s", domain.Money{Minor: left, Currency: s.Currency})
		sum.Minor += l.Amount.Minor // no more than the settlement's own sum
		taxable[item.TaxCategory] = domain.Money{Minor: taxable[item.TaxCategory].Minor + l.Amount.Minor, Currency: s.Currency}
	}
	p.Check(e.Total == sum, "/total", "must be the sum of its lines, %s", sum)
	p.Check(len(e.Taxes) > 0 || e.Tax == (domain.Money{}), "/tax", "must be given with taxes alone")
	if len(e.Taxes) > 0 {
		taxes := tax.CheckCredit(&p, "/taxes", e.Taxes, taxable, s.Currency)
		p.Check(e.Tax == taxes, "/tax", "must be the sum of the taxes, %s", taxes)
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{e}, nil
}

func (c Issue) decide(op string, s State) ([]domain.Event, error) {
	if s.SettlementID != "" {
		return nil, domain.Exists(op, "settlement", s.SettlementID)
	}
	i := c.Settlement
	i.PeriodStart, i.PeriodEnd, i.At = domain.Instant(i.PeriodStart), domain.Instant(i.PeriodEnd), domain.Instant(i.At)
	var p domain.Problems
	p.ID("/settlement_id", domain.PrefixSettlement, i.SettlementID)
	p.ID("/provider_id", domain.PrefixOrganisation, i.ProviderID)
	p.Check(i.PeriodEnd.After(i.PeriodStart), "/period_end", "must be after the start")
	p.Check(i.LogPosition >= 1, "/log_position", "must be at least 1")
	p.ID("/run_id", domain.PrefixBillingRun, i.RunID)
	p.Time("/at", c.Settlement.At)
	p.Check(!i.At.Before(i.PeriodEnd), "/at", "must not be before the period ends")
	p.OptionalText("/number", i.Number, MaxNumber)
	if i.ProviderAccountID != "" {
		p.ID("/provider_account_id", domain.PrefixBillingAccount, i.ProviderAccountID)
	}
	p.Check(i.Currency.Valid(), "/currency", "%.10q is not a currency that Crossbill bills in", string(i.Currency))
	p.Check(len(i.Lines) >= 1 && len(i.Lines) <= MaxLines, "/lines", "must hold 1 to %d lines", MaxLines)
	if err := p.Err(op); err != nil { // what follows needs a currency and a bounded number of lines
		return nil, err
	}
	i.checkLines(&p)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{i}, nil
}

func (i Issued) checkLines(p *domain.Problems) {
	items := make(map[string]bool, len(i.Lines))
	sum := domain.Money{Currency: i.Currency}
	for n, l := range i.Lines {
		at := domain.Pointer("/lines", n)
		p.Text(at+"/item_id", l.ItemID, MaxItemID)
		p.Check(!items[l.ItemID], at+"/item_id", "is that of an earlier line")
		items[l.ItemID] = true
		p.ID(at+"/invoice_id", domain.PrefixInvoice, l.InvoiceID)
		p.ID(at+"/connection_id", domain.PrefixConnection, l.ConnectionID)
		p.Check(l.ChargeID != "", at+"/charge_id", "must be given")
		p.Text(at+"/description", l.Description, MaxDescription)
		if l.Amount.Currency != i.Currency {
			p.Add(at+"/amount/currency", "must be the settlement's, %s", i.Currency)
			return // amounts of two currencies have no sum
		}
		p.Check(l.Amount.Minor >= 0 || l.Adjusts != nil || l.ChargeID == pricing.CreditChargeID, at+"/amount", "must not be negative: a credit is a credit note's, or an SLA's")
		p.Check(l.InvoiceLine >= 0, at+"/invoice_line", "must not be negative")
		var err error
		if sum, err = sum.Add(l.Amount); err != nil {
			p.Add(at+"/amount", "makes a sum that is too large")
			return
		}
	}
	p.Check(i.Total == sum, "/total", "must be the sum of its lines, %s", sum)
	if len(i.Taxes) == 0 {
		p.Check(i.Tax == (domain.Money{}), "/tax", "must be given with taxes alone")
		return
	}
	taxable := make(map[string]domain.Money)
	for _, l := range i.Lines {
		taxable[l.TaxCategory] = domain.Money{Minor: taxable[l.TaxCategory].Minor + l.Amount.Minor, Currency: i.Currency}
	}
	taxes := tax.Check(p, "/taxes", i.Taxes, taxable, i.Currency)
	p.Check(i.Tax == taxes, "/tax", "must be the sum of the taxes, %s", taxes)
}
