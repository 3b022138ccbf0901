package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/numberseries"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// CreditRequest asks for a credit note over an invoice.
type CreditRequest struct {
	CreditNoteID string // makes the request repeatable: the same again answers with the note that there is
	InvoiceID    string
	Reason       string
	Everything   bool // all that is left of every line; then Lines is empty
	Lines        []CreditLine
	At           time.Time       // now; when the note is issued
	Metadata     events.Metadata // of what is appended; Credit sets the parties
}

// CreditLine says how much of a passthrough line is given back: an amount, a fraction of the line, or, with neither, all
// that is left of it. The fee follows by itself.
type CreditLine struct {
	Line     int            // its number on the invoice
	Amount   *domain.Money  // in the invoice's currency; negative for a negative line
	Fraction domain.Decimal // of the whole line, above 0 and at most 1; rounded once
}

// CreditResult is a credit note that was issued, now or before.
type CreditResult struct {
	CreditNote creditnote.Content
	Position   events.Position // of the last event that was appended; 0: it was issued before
}

// Credit takes something off the lines of an issued or paid invoice: of the customer's debt, of the provider's settlement,
// and of the platform's fee and of both taxes in the same proportion. The fee and the tax of all credit notes over an
// invoice are rounded as one, so that the whole gives the whole back. The note, its number, what it takes off the invoice
// and off each settlement are one append, before which [CheckNoMarginLeft] is asserted.
//
// It returns NotFound for an invoice that does not exist, an Invalid error for a request that asks for more than is left,
// with pointers into the request, a Conflict for an invoice that is void or of which nothing is left and for an id that is
// another note's, Unavailable if others kept coming first, Internal if the books do not balance: then nothing was appended.
func Credit(ctx context.Context, log Log, request CreditRequest) (result CreditResult, err error) {
	const op = "billing.Credit"
	if !domain.ValidID(domain.PrefixCreditNote, request.CreditNoteID) {
		return result, domain.Errorf(domain.Invalid, op, "%.60q is no id of a credit note", request.CreditNoteID)
	}
	request.At = domain.Instant(request.At)
	err = retried(ctx, op, func() error {
		result, err = request.credit(ctx, log)
		return err
	})
	return result, err
}

// retried calls try until it loses no race, a limited number of times.
func retried(ctx context.Context, op string, try func() error) error {
	for range maxRunAttempts {
		if err := ctx.Err(); err != nil {
			return domain.Errorf(domain.Unavailable, op, "the caller gave up: %w", err)
		}
		if err := try(); !errors.As(err, new(lostRace)) {
			return err
		}
	}
	return domain.Errorf(domain.Unavailable, op, "others came first %d times", maxRunAttempts).WithHint("try again")
}

func (r CreditRequest) credit(ctx context.Context, log Log) (CreditResult, error) {
	const op = "billing.Credit"
	there, _, err := load(ctx, log, creditnote.Stream(r.CreditNoteID), maxPosition, creditnote.Evolve)
	if err != nil {
		return CreditResult{}, err
	}
	if there.CreditNoteID != "" {
		if there.InvoiceID != r.InvoiceID || there.Reason != r.Reason {
			return CreditResult{}, domain.Differs(op, "credit note", r.CreditNoteID, "content")
		}
		return CreditResult{CreditNote: there.Content}, nil
	}
	c, err := openCorrection(ctx, log, op, r.InvoiceID, r.Metadata)
	if err != nil {
		return CreditResult{}, err
	}
	note, err := r.note(c.invoice)
	if err != nil {
		return CreditResult{}, err
	}
	numbers, err := c.numbers(ctx, numberseries.CreditNotes, note.CreditNoteID)
	if err != nil {
		return CreditResult{}, err
	}
	note.Number = numberseries.Format(numberseries.CreditNotes, note.At, numbers[0])
	credit := invoice.Credit{CreditNoteID: note.CreditNoteID, Number: note.Number, Total: note.Total, At: note.At}
	amounts := make(map[int]domain.Money)
	for _, l := range note.Lines {
		amounts[l.InvoiceLine] = l.Amount
		credit.Lines = append(credit.Lines, invoice.CreditedLine{Line: l.InvoiceLine, Amount: l.Amount})
	}
	cause := settlement.Credited{CreditNoteID: note.CreditNoteID, Reason: note.Reason, At: note.At}
	if note.Settlements, err = c.creditSettlements(ctx, cause, amounts); err != nil {
		return CreditResult{}, err
	}
	credited, err := invoice.Decide(c.invoice, credit)
	if err != nil {
		return CreditResult{}, err
	}
	issued, err := creditnote.Decide(creditnote.State{}, creditnote.Issue{CreditNote: note})
	if err != nil {
		return CreditResult{}, err
	}
	parties := []string{note.CustomerID}
	c.add(creditnote.Stream(note.CreditNoteID), 0, parties, note.CreditNoteID, issued...)
	c.add(invoice.Stream(note.InvoiceID), c.version, parties, note.InvoiceID+" "+note.CreditNoteID, credited...)
	for _, e := range credited {
		c.invoice = invoice.Evolve(c.invoice, e)
	}
	position, err := c.commit(ctx)
	return CreditResult{CreditNote: creditnote.Evolve(creditnote.State{}, issued[0]).Content, Position: position}, err
}

// note computes what is taken off an invoice, without its number and the settlements.
func (r CreditRequest) note(i invoice.State) (creditnote.Issued, error) {
	const op = "billing.Credit"
	n := creditnote.Issued{
		CreditNoteID: r.CreditNoteID, InvoiceID: i.InvoiceID, InvoiceNumber: i.Number, CustomerID: i.CustomerID, Reason: r.Reason,
		PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, Currency: i.Currency, At: r.At,
		Passthrough: domain.Money{Currency: i.Currency}, Fee: domain.Money{Currency: i.Currency},
		BillingAccountID: i.BillingAccountID, BillingAccountVersion: i.BillingAccountVersion, IssuerVersion: i.IssuerVersion,
		PurchaseOrder: i.PurchaseOrder,
	}
	if i.State == invoice.StateVoid {
		return n, domain.InState(op, "invoice", i.InvoiceID, i.State).WithHint("nothing of it is owed: there is nothing to credit")
	}
	taken, err := r.passthrough(op, i)
	if err != nil {
		return n, err
	}
	before, now := make(map[string]int64), make(map[string]int64)
	for _, l := range i.Lines {
		before[l.TaxCategory] += i.ByLine[l.Number].Minor
		part, ok := taken[l.Number]
		if l.Kind == invoice.LineFee {
			if part, err = r.fee(i, l, taken); err != nil {
				return n, err
			}
			ok = part.amount.Minor != 0
		}
		if !ok {
			continue
		}
		n.Lines = append(n.Lines, creditnote.Line{
			Number: len(n.Lines) + 1, InvoiceLine: l.Number, ItemID: l.ItemID, Kind: l.Kind, ProviderID: l.ProviderID, ConnectionID: l.ConnectionID,
			Description: l.Description, Exact: part.exact.String(), Amount: part.amount, Steps: []string{part.step}, TaxCategory: l.TaxCategory,
		})
		now[l.TaxCategory] += part.amount.Minor
		if l.Kind == invoice.LineFee {
			n.Fee.Minor += part.amount.Minor
		} else {
			n.Passthrough.Minor += part.amount.Minor
		}
	}
	if len(n.Lines) == 0 {
		return n, domain.Errorf(domain.Conflict, op, "nothing is left of invoice %s", i.Number).WithHint("it was credited before: read its credit notes")
	}
	if n.Taxes, n.Tax, err = taxOff(i.Taxes, before, now, i.Currency); err != nil {
		return n, err
	}
	n.Total = domain.Money{Minor: n.Passthrough.Minor + n.Fee.Minor + n.Tax.Minor, Currency: i.Currency}
	return n, nil
}

// part is what is taken off a line.
type part struct {
	exact  domain.Decimal
	amount domain.Money
	step   string
}

func leftOf(i invoice.State, l invoice.Line) domain.Money {
	return domain.Money{Minor: l.Amount.Minor - i.ByLine[l.Number].Minor, Currency: i.Currency}
}

// allOf takes off all that is left of a line.
func allOf(i invoice.State, l invoice.Line) part {
	left := leftOf(i, l)
	step := left.String() + ", all of the line"
	if before := i.ByLine[l.Number]; before.Minor != 0 {
		step = l.Amount.Amount() + " − " + before.Amount() + " credited before = " + left.String()
	}
	return part{left.Decimal(), left, step}
}

// passthrough returns what is asked to be taken off passthrough lines, by their numbers.
func (r CreditRequest) passthrough(op string, i invoice.State) (map[int]part, error) {
	var p domain.Problems
	taken := make(map[int]part)
	p.Check(r.Everything == (len(r.Lines) == 0), "/lines", "must name lines, unless everything is given back")
	p.Check(len(r.Lines) <= invoice.MaxLines, "/lines", "must hold at most %d lines", invoice.MaxLines)
	p.Text("/reason", r.Reason, domain.MaxReason)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if r.Everything {
		for _, l := range i.Lines {
			if l.Kind == invoice.LinePassthrough && leftOf(i, l).Minor != 0 {
				taken[l.Number] = allOf(i, l)
			}
		}
		return taken, nil
	}
	for n, asked := range r.Lines {
		at := domain.Pointer("/lines", n)
		k := slices.IndexFunc(i.Lines, func(l invoice.Line) bool { return l.Number == asked.Line })
		if k < 0 || i.Lines[k].Kind != invoice.LinePassthrough {
			p.Add(at+"/line", "must be a passthrough line of invoice %s: the fee falls with it", i.Number)
			continue
		}
		l := i.Lines[k]
		if _, twice := taken[l.Number]; twice {
			p.Add(at+"/line", "is credited by an earlier line")
			continue
		}
		part, err := asked.of(&p, at, i, l)
		if err != nil {
			return nil, err
		}
		left := leftOf(i, l)
		p.Check(part.amount.Minor != 0 && min(left.Minor, 0) <= part.amount.Minor && part.amount.Minor <= max(left.Minor, 0), at,
			"comes to %s; of the line %s is left", part.amount, left)
		taken[l.Number] = part
	}
	return taken, p.Err(op)
}

func (c CreditLine) of(p *domain.Problems, at string, i invoice.State, l invoice.Line) (part, error) {
	switch given := c.Fraction.Given(); {
	case given && c.Amount != nil:
		p.Add(at+"/fraction", "must not be given with an amount")
	case given:
		p.Check(c.Fraction.Sign() > 0 && c.Fraction.Cmp(domain.DecimalFromInt(1)) <= 0, at+"/fraction", "must be above 0 and at most 1")
		exact := l.Amount.Decimal().Mul(c.Fraction)
		amount, err := domain.RoundMoney(exact, i.Currency)
		return part{exact, amount, fmt.Sprintf("%s × %s = %s", l.Amount.Amount(), c.Fraction, exact)}, err
	case c.Amount != nil:
		p.Check(c.Amount.Currency == i.Currency, at+"/amount/currency", "must be the invoice's, %s", i.Currency)
		return part{c.Amount.Decimal(), *c.Amount, c.Amount.String() + " of " + l.Amount.Amount()}, nil
	}
	return allOf(i, l), nil
}

// fee returns what is taken off a fee with the passthrough that it was taken of: that of its connection and period. All
// credit notes together take off fee × passthrough taken off ÷ passthrough, rounded once; each takes what the others did not.
func (r CreditRequest) fee(i invoice.State, fee invoice.Line, taken map[int]part) (part, error) {
	var of, off int64 // minor units
	touched, whole := false, true
	for _, l := range i.Lines {
		if l.Kind != invoice.LinePassthrough || l.ConnectionID != fee.ConnectionID || !samePeriod(l.Adjusts, fee.Adjusts) {
			continue
		}
		_, now := taken[l.Number]
		touched = touched || now
		whole = whole && leftOf(i, l) == domain.Money{Minor: taken[l.Number].amount.Minor, Currency: i.Currency}
		of += l.Amount.Minor
		off += i.ByLine[l.Number].Minor + taken[l.Number].amount.Minor
	}
	before := i.ByLine[fee.Number]
	switch {
	case whole && (touched || r.Everything): // also a fee on no passthrough, such as a floor
		return allOf(i, fee), nil
	case !touched || of == 0:
		return part{}, nil
	}
	exact, err := domain.ParseDecimal(strings.TrimSuffix(fee.Exact, "…"))
	if err != nil {
		return part{}, domain.Errorf(domain.Internal, "billing.Credit", "the fee of line %d: %w", fee.Number, err)
	}
	share := domain.Money{Minor: off, Currency: i.Currency}
	all := domain.Money{Minor: of, Currency: i.Currency}
	back := exact.Mul(share.Decimal()).Quo(all.Decimal())
	step := fmt.Sprintf("%s × %s ÷ %s = %s", fee.Exact, share.Amount(), all.Amount(), back)
	if before.Minor != 0 {
		back = back.Sub(before.Decimal())
		step += " − " + before.Amount() + " credited before = " + back.String()
	}
	amount, err := domain.RoundMoney(back, i.Currency)
	if err != nil {
		return part{}, err
	}
	// Where adjustments have both signs, a part of them can be more than their sum: of the fee no more than all comes back,
	// and nothing is taken back again.
	switch left := leftOf(i, fee); {
	case (amount.Minor < 0) != (left.Minor < 0):
		return part{}, nil
	case max(amount.Minor, -amount.Minor) > max(left.Minor, -left.Minor):
		return allOf(i, fee), nil
	}
	return part{back, amount, step}, nil
}

func samePeriod(a, b *invoice.Adjustment) bool {
	return (a == nil) == (b == nil) && (a == nil || a.PeriodStart.Equal(b.PeriodStart) && a.PeriodEnd.Equal(b.PeriodEnd))
}
