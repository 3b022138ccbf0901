package payment

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Limits on a payment.
const (
	MaxReference = 255 // characters, as the processor's ids have
	MaxRefunds   = 1000
	MaxDisputes  = 20
)

// Command is what can be asked of a payment.
type Command interface{ command() }

// Request is the intention to ask the payer.
type Request struct {
	PaymentID  string
	InvoiceID  string
	CustomerID string
	Processor  string
	Amount     domain.Money
	At         time.Time
}

// Open records the processor's reference. The same again does nothing.
type Open struct {
	Reference string
	At        time.Time
}

// Reprice is the intention to ask for another amount. The same amount does nothing.
type Reprice struct {
	Amount domain.Money
	At     time.Time
}

// Cancel records that it can't be paid any more. What is cancelled already stays so.
type Cancel struct {
	Reason string
	At     time.Time
}

// Receive records that the money is there, whatever was known of the payment before: what the processor has taken is a
// fact. The same again does nothing.
type Receive struct {
	Payment Received
}

// Cost records what the processor kept. What is known already stays so.
type Cost struct {
	Amount domain.Money
	At     time.Time
}

// Fail records an attempt that failed.
type Fail struct {
	Reference string
	Reason    string
	At        time.Time
}

// RequestRefund is the intention to give an amount back: no more than is kept, and not while a dispute is open.
type RequestRefund struct {
	CreditNoteID string
	Amount       domain.Money
	At           time.Time
}

// RecordRefund records that a refund was made. The same again does nothing.
type RecordRefund struct {
	Refund    int
	Reference string
	At        time.Time
}

// FailRefund records that a refund was not made, or came back. The same again does nothing.
type FailRefund struct {
	Refund    int
	Reference string
	Reason    string
	At        time.Time
}

// OpenDispute records a dispute. The same again does nothing.
type OpenDispute struct {
	Dispute string
	Amount  domain.Money
	Reason  string
	At      time.Time
}

// CloseDispute records how a dispute was decided. The same again does nothing.
type CloseDispute struct {
	Dispute string
	Outcome string
	Amount  domain.Money
	Cost    domain.Money // may be none
	At      time.Time
}

func (Request) command()       {}
func (Open) command()          {}
func (Reprice) command()       {}
func (Cancel) command()        {}
func (Receive) command()       {}
func (Cost) command()          {}
func (Fail) command()          {}
func (RequestRefund) command() {}
func (RecordRefund) command()  {}
func (FailRefund) command()    {}
func (OpenDispute) command()   {}
func (CloseDispute) command()  {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, NotFound for a
// payment that does not exist, and a Conflict for one whose state does not allow the command, or that has the same step
// done with other content.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "payment.Decide"
	switch c := c.(type) {
	case nil:
		return nil, domain.UnknownCommand(op, c)
	case Request:
		return c.decide(op, s)
	case Receive:
		return c.decide(op, s)
	}
	if s.PaymentID == "" {
		return nil, domain.Missing(op, "payment")
	}
	switch c := c.(type) {
	case RequestRefund:
		return c.decide(op, s)
	case RecordRefund:
		return c.decide(op, s)
	case FailRefund:
		return c.decide(op, s)
	case OpenDispute:
		return c.decide(op, s)
	case CloseDispute:
		return c.decide(op, s)
	}
	return s.decideAsking(op, c)
}

// decideAsking is of what happens until the money is there, and of its cost.
func (s State) decideAsking(op string, c Command) ([]domain.Event, error) {
	var p domain.Problems
	switch c := c.(type) {
	case Open:
		p.Text("/reference", c.Reference, MaxReference)
		p.Time("/at", c.At)
		switch {
		case len(p) == 0 && s.Reference == c.Reference:
			return nil, nil
		case len(p) == 0 && s.Reference != "":
			return nil, domain.Differs(op, "payment", s.PaymentID, "reference")
		}
		return s.only(op, p, Opened{s.PaymentID, c.Reference, domain.Instant(c.At)}, StateRequested)
	case Reprice:
		checkAmount(&p, "/amount", c.Amount, s.Amount.Currency)
		p.Time("/at", c.At)
		if c.Amount == s.Amount {
			return nil, nil
		}
		return s.only(op, p, Repriced{s.PaymentID, c.Amount, domain.Instant(c.At)}, StateOpen)
	case Cancel:
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		if s.State == StateCancelled {
			return nil, nil
		}
		return s.only(op, p, Cancelled{s.PaymentID, c.Reason, domain.Instant(c.At)}, StateRequested, StateOpen)
	case Fail:
		p.Text("/reference", c.Reference, MaxReference)
		p.Text("/reason", c.Reason, domain.MaxReason)
		p.Time("/at", c.At)
		return s.only(op, p, Failed{s.PaymentID, c.Reference, c.Reason, domain.Instant(c.At)}, StateRequested, StateOpen)
	case Cost:
		p.Check(c.Amount.Currency.Valid() && c.Amount.Minor >= 0, "/amount", "must be an amount of at least 0")
		p.Time("/at", c.At)
		if s.ProcessingCost != (domain.Money{}) {
			return nil, nil
		}
		return s.only(op, p, Costed{s.PaymentID, s.InvoiceID, c.Amount, domain.Instant(c.At)}, StateReceived)
	}
	return nil, domain.UnknownCommand(op, c)
}

// only is the event, of a payment in one of the states.
func (s State) only(op string, p domain.Problems, e domain.Event, states ...string) ([]domain.Event, error) {
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if !slices.Contains(states, s.State) {
		return nil, domain.InState(op, "payment", s.PaymentID, s.State).WithHint("read it again and decide anew")
	}
	return []domain.Event{e}, nil
}

func checkAmount(p *domain.Problems, at string, m domain.Money, currency domain.Currency) {
	p.Check(m.Currency == currency && currency.Valid(), at+"/currency", "must be the payment's, %s", currency)
	p.Check(m.Minor > 0, at, "must be above 0")
}

func checkIdentity(p *domain.Problems, paymentID, invoiceID, customerID, processor string) {
	p.ID("/payment_id", domain.PrefixPayment, paymentID)
	p.ID("/invoice_id", domain.PrefixInvoice, invoiceID)
	p.ID("/customer_id", domain.PrefixOrganisation, customerID)
	p.OneOf("/processor", processor, Stripe)
}

func (c Request) decide(op string, s State) ([]domain.Event, error) {
	if s.PaymentID != "" {
		return nil, domain.Exists(op, "payment", s.PaymentID)
	}
	var p domain.Problems
	checkIdentity(&p, c.PaymentID, c.InvoiceID, c.CustomerID, c.Processor)
	checkAmount(&p, "/amount", c.Amount, c.Amount.Currency)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Requested{c.PaymentID, c.InvoiceID, c.CustomerID, c.Processor, c.Amount, domain.Instant(c.At)}}, nil
}

func (c Receive) decide(op string, s State) ([]domain.Event, error) {
	e := c.Payment
	e.At = domain.Instant(e.At)
	var p domain.Problems
	checkIdentity(&p, e.PaymentID, e.InvoiceID, e.CustomerID, e.Processor)
	p.Text("/reference", e.Reference, MaxReference)
	p.OptionalText("/charge", e.Charge, MaxReference)
	checkAmount(&p, "/amount", e.Amount, e.Amount.Currency)
	p.Check(e.ProcessingCost == (domain.Money{}) || e.ProcessingCost.Currency.Valid(), "/processing_cost/currency", "must be a currency")
	p.Time("/at", c.Payment.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.PaymentID != "" && s.InvoiceID != e.InvoiceID:
		return nil, domain.Differs(op, "payment", s.PaymentID, "invoice")
	case s.Reference != "" && s.Reference != e.Reference:
		return nil, domain.Differs(op, "payment", s.PaymentID, "reference")
	case s.State == StateReceived && s.Amount != e.Amount:
		return nil, domain.Differs(op, "payment", s.PaymentID, "amount")
	case s.State == StateReceived:
		return nil, nil
	}
	return []domain.Event{e}, nil
}

func (c RequestRefund) decide(op string, s State) ([]domain.Event, error) {
	if s.State != StateReceived {
		return nil, domain.InState(op, "payment", s.PaymentID, s.State).WithHint("nothing of it can be given back")
	}
	if s.InDispute() {
		return nil, domain.Errorf(domain.Conflict, op, "the payment %s is disputed", s.PaymentID).WithHint("wait until the dispute is decided")
	}
	var p domain.Problems
	if c.CreditNoteID != "" {
		p.ID("/credit_note_id", domain.PrefixCreditNote, c.CreditNoteID)
	}
	checkAmount(&p, "/amount", c.Amount, s.Amount.Currency)
	p.Check(c.Amount.Minor <= s.Kept().Minor, "/amount", "must be no more than is kept, %s", s.Kept())
	p.Check(len(s.Refunds) < MaxRefunds, "", "there are %d refunds", MaxRefunds)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{RefundRequested{s.PaymentID, len(s.Refunds) + 1, c.CreditNoteID, c.Amount, domain.Instant(c.At)}}, nil
}

// refundOf returns refund n, or the error that there is none.
func (s State) refundOf(op string, n int) (Refund, error) {
	if n < 1 || n > len(s.Refunds) {
		return Refund{}, domain.Missing(op, "refund")
	}
	return s.Refunds[n-1], nil
}

func (c RecordRefund) decide(op string, s State) ([]domain.Event, error) {
	r, err := s.refundOf(op, c.Refund)
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
	case r.State != Pending && r.Reference == c.Reference: // made, or made and come back since
		return nil, nil
	case r.State != Pending:
		return nil, domain.Differs(op, "payment", s.PaymentID, "refund")
	}
	return []domain.Event{Refunded{s.PaymentID, s.InvoiceID, s.CustomerID, c.Refund, r.CreditNoteID, c.Reference, r.Amount, domain.Instant(c.At)}}, nil
}

func (c FailRefund) decide(op string, s State) ([]domain.Event, error) {
	r, err := s.refundOf(op, c.Refund)
	if err != nil {
		return nil, err
	}
	var p domain.Problems
	p.OptionalText("/reference", c.Reference, MaxReference)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case r.State == NotMade:
		return nil, nil
	case r.Reference != c.Reference: // a refund that was made fails under its reference; one that was not has none
		return nil, domain.Differs(op, "payment", s.PaymentID, "refund")
	}
	return []domain.Event{RefundFailed{s.PaymentID, s.InvoiceID, s.CustomerID, c.Refund, r.CreditNoteID, c.Reference, r.Amount, c.Reason, domain.Instant(c.At)}}, nil
}

func (c OpenDispute) decide(op string, s State) ([]domain.Event, error) {
	if slices.ContainsFunc(s.Disputes, func(d Dispute) bool { return d.Reference == c.Dispute }) {
		return nil, nil
	}
	var p domain.Problems
	p.Text("/dispute", c.Dispute, MaxReference)
	checkAmount(&p, "/amount", c.Amount, s.Amount.Currency)
	p.Check(c.Amount.Minor <= s.Amount.Minor, "/amount", "must be no more than was received, %s", s.Amount)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Check(len(s.Disputes) < MaxDisputes, "", "there are %d disputes", MaxDisputes)
	p.Time("/at", c.At)
	return s.only(op, p, Disputed{s.PaymentID, s.InvoiceID, s.CustomerID, c.Dispute, c.Amount, c.Reason, domain.Instant(c.At)}, StateReceived)
}

func (c CloseDispute) decide(op string, s State) ([]domain.Event, error) {
	at := slices.IndexFunc(s.Disputes, func(d Dispute) bool { return d.Reference == c.Dispute })
	if at < 0 {
		return nil, domain.Missing(op, "dispute")
	}
	var p domain.Problems
	p.OneOf("/outcome", c.Outcome, DisputeWon, DisputeLost)
	checkAmount(&p, "/amount", c.Amount, s.Amount.Currency)
	p.Check(c.Amount.Minor <= s.Disputes[at].Amount.Minor, "/amount", "must be no more than is disputed, %s", s.Disputes[at].Amount)
	p.Check(c.Cost == (domain.Money{}) || c.Cost.Currency.Valid() && c.Cost.Minor >= 0, "/cost", "must be an amount of at least 0")
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch outcome := s.Disputes[at].Outcome; outcome {
	case "":
		return []domain.Event{DisputeClosed{s.PaymentID, s.InvoiceID, s.CustomerID, c.Dispute, c.Outcome, c.Amount, c.Cost, domain.Instant(c.At)}}, nil
	case c.Outcome:
		return nil, nil
	default:
		return nil, domain.Differs(op, "dispute", c.Dispute, "outcome")
	}
}
