package settlement

import (
	"crossbill/domain"
)

// Limits on a settlement.
const (
	MaxLines       = 1_000_000
	MaxItemID      = 120 // characters
	MaxDescription = 300 // characters
)

// Command is what can be asked of a settlement.
type Command interface{ command() }

// Issue makes a settlement. Its total must be the sum of its lines: what was added up once is added up again here.
type Issue struct {
	Settlement Issued
}

func (Issue) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the settlement, and a Conflict for a settlement that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "settlement.Decide"
	switch c := c.(type) {
	case Issue:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
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
		p.Check(l.Amount.Minor >= 0, at+"/amount", "must not be negative")
		var err error
		if sum, err = sum.Add(l.Amount); err != nil {
			p.Add(at+"/amount", "makes a sum that is too large")
			return
		}
	}
	p.Check(i.Total == sum, "/total", "must be the sum of its lines, %s", sum)
}
