package invoice

import "crossbill/domain"

// NumberCommand is what can be asked of an issuer's numbers.
type NumberCommand interface{ numberCommand() }

// TakeNumber gives an invoice the next number. The invoice that has the last number already keeps it.
type TakeNumber struct {
	InvoiceID string
}

func (TakeNumber) numberCommand() {}

// DecideNumber returns the events that a command makes of a state; it is Decide for [NumberStream]. It returns an Invalid
// error for a wrong identifier. Two invoices that are numbered at once meet in the log: the event is appended at the
// exact version that the state was read at.
func DecideNumber(s NumberState, c NumberCommand) ([]domain.Event, error) {
	const op = "invoice.DecideNumber"
	switch c := c.(type) {
	case TakeNumber:
		var p domain.Problems
		p.ID("/invoice_id", domain.PrefixInvoice, c.InvoiceID)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.InvoiceID == c.InvoiceID {
			return nil, nil
		}
		return []domain.Event{NumberTaken{Number: s.Last + 1, InvoiceID: c.InvoiceID}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
