package payout

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/payment"
)

// Limits on a payout.
const (
	MaxReference = 255 // characters, as the processor's ids have
	MaxReversals = 1000
)

// Command is what can be asked of a payout.
type Command interface{ command() }

// Request is the intention to move an amount to a provider.
type Request struct {
	Payout Requested
}

// Send records that it was moved. The same again does nothing.
type Send struct {
	Transfer string
	At       time.Time
}

// Pay records that it reached the provider's bank account. What is paid already stays so.
type Pay struct {
	Reference string
	At        time.Time
}

// Fail records that it was not moved. What failed already stays so.
type Fail struct {
	Reason string
	At     time.Time
}

// RequestReversal is the intention to move an amount back: no more than is left of it.
type RequestReversal struct {
	Credit string
	Amount domain.Money
	At     time.Time
}

// Reverse records that a reversal was made. The same again does nothing.
type Reverse struct {
	Reversal  int
	Reference string
	At        time.Time
}

// FailReversal records that a reversal was not made. The same again does nothing.
type FailReversal struct {
	Reversal int
	Reason   string
	At       time.Time
}

func (Request) command()         {}
func (Send) command()            {}
func (Pay) command()             {}
func (Fail) command()            {}
func (RequestReversal) command() {}
func (Reverse) command()         {}
func (FailReversal) command()    {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, NotFound for a
// payout that does not exist, and a Conflict for one whose state does not allow the command, or that has the same step
// done with other content.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "payout.Decide"
	switch c := c.(type) {
	case nil:
		return nil, domain.UnknownCommand(op, c)
	case Request:
		return c.decide(op, s)
	}
	if s.PayoutID == "" {
		return nil, domain.Missing(op, "payout")
	}
	var p domain.Problems
	switch c := c.(type) {
	case Send:
		p.Text("/transfer", c.Transfer, MaxReference)
		p.Time("/at", c.At)
		switch {
		case len(p) == 0 && s.Transfer == c.Transfer:
			return nil, nil
		case len(p) == 0 && s.Transfer != "":
			return nil, domain.Differs(op, "payout", s.PayoutID, "transfer")
		}
		return s.only(op, p, Sent{s.PayoutID, s.ProviderID, s.SettlementID, s.Amount, c.Transfer, domain.Instant(c.At)}, StatePending)
	case Pay:
		p.Text("/reference", c.Reference, MaxReference)
		p.Time("/at", c.At)
		if s.State == StatePaid {
			return nil, nil
		}
		return s.only(op, p, Paid{s.PayoutID, s.ProviderID, c.Reference, domain.Instant(c.At)}, StateSent)
	case Fail:
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		if s.State == StateFailed {
			return nil, nil
		}
		return s.only(op, p, Failed{s.PayoutID, s.ProviderID, s.SettlementID, s.Amount, c.Reason, domain.Instant(c.At)}, StatePending)
	case RequestReversal:
		p.Text("/credit", c.Credit, MaxReference)
		p.Check(c.Amount.Currency == s.Amount.Currency, "/amount/currency", "must be the payout's, %s", s.Amount.Currency)
		p.Check(c.Amount.Minor > 0 && c.Amount.Minor <= s.Kept().Minor, "/amount", "must be above 0 and no more than is left, %s", s.Kept())
		p.Check(len(s.Reversals) < MaxReversals, "", "there are %d reversals", MaxReversals)
		p.Time("/at", c.At)
		return s.only(op, p, ReversalRequested{s.PayoutID, len(s.Reversals) + 1, c.Credit, c.Amount, domain.Instant(c.At)}, StateSent, StatePaid)
	case Reverse:
		return c.decide(op, s)
	case FailReversal:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

// only is the event, of a payout in one of the states.
func (s State) only(op string, p domain.Problems, e domain.Event, states ...string) ([]domain.Event, error) {
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if !slices.Contains(states, s.State) {
		return nil, domain.InState(op, "payout", s.PayoutID, s.State).WithHint("read it again and decide anew")
	}
	return []domain.Event{e}, nil
}

func (c Request) decide(op string, s State) ([]domain.Event, error) {
	if s.PayoutID != "" {
		return nil, domain.Exists(op, "payout", s.PayoutID)
	}
	e := c.Payout
	e.At = domain.Instant(e.At)
	var p domain.Problems
	p.ID("/payout_id", domain.PrefixPayout, e.PayoutID)
	p.ID("/provider_id", domain.PrefixOrganisation, e.ProviderID)
	p.ID("/settlement_id", domain.PrefixSettlement, e.SettlementID)
	p.ID("/invoice_id", domain.PrefixInvoice, e.InvoiceID)
	p.ID("/payment_id", domain.PrefixPayment, e.PaymentID)
	p.OneOf("/processor", e.Processor, payment.Stripe)
	p.Text("/destination", e.Destination, MaxReference)
	p.OptionalText("/source", e.Source, MaxReference)
	p.Check(e.Amount.Currency.Valid(), "/amount/currency", "must be a currency")
	p.Check(e.Amount.Minor > 0, "/amount", "must be above 0")
	p.Time("/at", c.Payout.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{e}, nil
}

// reversalOf returns reversal n, or the error that there is none.
func (s State) reversalOf(op string, n int) (Reversal, error) {
	if n < 1 || n > len(s.Reversals) {
		return Reversal{}, domain.Missing(op, "reversal")
	}
	return s.Reversals[n-1], nil
}

func (c Reverse) decide(op string, s State) ([]domain.Event, error) {
	r, err := s.reversalOf(op, c.Reversal)
	if err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Text("/reference", c.Reference, MaxReference)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case r.State == Made && r.Reference == c.Reference:
		return nil, nil
	case r.State != Pending:
		return nil, domain.Differs(op, "payout", s.PayoutID, "reversal")
	}
	return []domain.Event{Reversed{s.PayoutID, s.ProviderID, s.SettlementID, c.Reversal, r.Credit, r.Amount, c.Reference, domain.Instant(c.At)}}, nil
}

func (c FailReversal) decide(op string, s State) ([]domain.Event, error) {
	r, err := s.reversalOf(op, c.Reversal)
	if err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch r.State {
	case NotMade:
		return nil, nil
	case Made:
		return nil, domain.Differs(op, "payout", s.PayoutID, "reversal")
	}
	return []domain.Event{ReversalFailed{s.PayoutID, c.Reversal, r.Amount, c.Reason, domain.Instant(c.At)}}, nil
}
