package billing

import (
	"fmt"
	"strings"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

// CheckNoMargin holds the invoices and settlements of a close against each other: for every provider and currency, what
// the customers pay for its services is what it is owed, to the minor unit; every passthrough line is settled once, as
// the same item of the same invoice with the same amount; every total is the sum of its lines.
//
// It returns an Internal error that names the first differences. Nothing that fails it may be issued.
func CheckNoMargin(invoices []invoice.Issued, settlements []settlement.Issued) error {
	billed, owed := make([]invoice.State, len(invoices)), make([]settlement.State, len(settlements))
	for n, i := range invoices {
		billed[n] = invoice.Evolve(invoice.State{}, i)
	}
	for n, s := range settlements {
		owed[n] = settlement.Evolve(settlement.State{}, s)
	}
	return CheckNoMarginLeft(billed, owed)
}

// CheckNoMarginLeft is [CheckNoMargin] after credits: what is left of a passthrough line is what is left of the settlement's
// item, and nothing is left of a void invoice's. An item of a void invoice may be billed again, by the invoice that comes in
// its place.
func CheckNoMarginLeft(invoices []invoice.State, settlements []settlement.State) error {
	b := books{owed: make(map[account]domain.Money), items: make(map[string]billedItem), void: make(map[string]bool)}
	for _, i := range invoices {
		b.invoice(i)
	}
	for _, s := range settlements {
		b.settlement(s)
	}
	for id, open := range b.items {
		b.wrong("item %s of %s, %s, is on no settlement", id, open.invoiceID, open.amount)
	}
	for of, difference := range b.owed {
		if difference.Minor != 0 {
			b.wrong("customers pay %s more for the services of %s than it is owed", difference, of.provider)
		}
	}
	if b.problems == 0 {
		return nil
	}
	return domain.Errorf(domain.Internal, "billing.CheckNoMargin", "passthrough and settlements differ: %s", strings.Join(b.first, "; ")).
		WithHint("nothing may be issued until this is understood; there are %d differences", b.problems)
}

type account struct {
	provider string
	currency domain.Currency
}

type billedItem struct {
	invoiceID, connectionID, chargeID, provider string
	amount                                      domain.Money // that is left
}

// books are the two sides while they are compared: passthrough less settlements, and the items not yet settled.
type books struct {
	owed     map[account]domain.Money
	items    map[string]billedItem
	void     map[string]bool // invoices of which nothing is owed
	problems int
	first    []string
}

const maxNamedProblems = 5

func (b *books) wrong(format string, args ...any) {
	if b.problems++; len(b.first) < maxNamedProblems {
		b.first = append(b.first, fmt.Sprintf(format, args...))
	}
}

// add adds to a sum; money that can't be added is a difference too.
func (b *books) add(sum, amount domain.Money) domain.Money {
	next, err := sum.Add(amount)
	if err != nil {
		b.wrong("%s", err)
		return sum
	}
	return next
}

func (b *books) post(of account, amount domain.Money) {
	sum, ok := b.owed[of]
	if !ok {
		sum = domain.Money{Currency: of.currency}
	}
	b.owed[of] = b.add(sum, amount)
}

func (b *books) invoice(i invoice.State) {
	b.void[i.InvoiceID] = i.State == invoice.StateVoid
	passthrough, fee := domain.Money{Currency: i.Currency}, domain.Money{Currency: i.Currency}
	for _, l := range i.Lines {
		switch l.Kind {
		case invoice.LinePassthrough:
			passthrough = b.add(passthrough, l.Amount)
			if b.void[i.InvoiceID] {
				continue
			}
			left := b.left(l.Amount, i.ByLine[l.Number])
			b.post(account{l.ProviderID, i.Currency}, left)
			if _, twice := b.items[l.ItemID]; twice {
				b.wrong("item %s is billed twice", l.ItemID)
			}
			b.items[l.ItemID] = billedItem{i.InvoiceID, l.ConnectionID, l.ChargeID, l.ProviderID, left}
		case invoice.LineFee:
			fee = b.add(fee, l.Amount)
		default:
			b.wrong("line %d of %s is of the unknown kind %q", l.Number, i.InvoiceID, l.Kind)
		}
	}
	total := b.add(passthrough, fee)
	if len(i.Taxes) > 0 {
		total = b.add(total, i.Tax)
	}
	if i.Passthrough != passthrough || i.Fee != fee || i.Total != total {
		b.wrong("the totals of %s are %s, %s and %s, its lines come to %s, %s and %s",
			i.InvoiceID, i.Passthrough, i.Fee, i.Total, passthrough, fee, total)
	}
}

// left returns what is left of an amount. An amount that nothing was taken off may have another currency than it should.
func (b *books) left(amount, credited domain.Money) domain.Money {
	if credited == (domain.Money{}) {
		return amount
	}
	return b.add(amount, credited.Neg())
}

func (b *books) settlement(s settlement.State) {
	total := domain.Money{Currency: s.Currency}
	for _, l := range s.Lines {
		total = b.add(total, l.Amount)
		left := b.left(l.Amount, s.ByItem[l.ItemID])
		b.post(account{s.ProviderID, s.Currency}, left.Neg())
		if b.void[l.InvoiceID] {
			if left.Minor != 0 {
				b.wrong("%s is owed for item %s of the void invoice %s", left, l.ItemID, l.InvoiceID)
			}
			continue
		}
		if billed, ok := b.items[l.ItemID]; !ok {
			b.wrong("item %s of %s is on no invoice, or settled twice", l.ItemID, s.SettlementID)
		} else if billed != (billedItem{l.InvoiceID, l.ConnectionID, l.ChargeID, s.ProviderID, left}) {
			b.wrong("item %s is billed as %v and settled as %v", l.ItemID, billed, l)
		}
		delete(b.items, l.ItemID)
	}
	if s.Total != total {
		b.wrong("the total of %s is %s, its lines come to %s", s.SettlementID, s.Total, total)
	}
}
