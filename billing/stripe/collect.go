package stripe

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/organisation"
	"crossbill/domain/payment"
	"crossbill/events"
)

// Payment is a payment that Stripe is ready to take.
type Payment struct {
	PaymentID    string
	Reference    string
	Status       string       // as Stripe names it
	ClientSecret string       // for the payer's browser; a secret
	Amount       domain.Money // that is asked for
}

// Collect returns the payment of what is due of an issued invoice, and makes it if there is none. One that is open over
// another amount, because of a credit note, is changed. No money moves until the payer confirms it.
//
// Errors: NotFound for an unknown invoice; Conflict for one that is not to be paid, or is being paid over another amount
// this very moment; Invalid for an amount of nothing or one that Stripe can't take; the others as [Client.CustomerFor].
func (m *Mover) Collect(ctx context.Context, invoiceID string) (Payment, error) {
	const op = "stripe.Collect"
	for range recordTries {
		i, version, err := load(ctx, m.Log, invoice.Stream(invoiceID), invoice.Evolve)
		switch {
		case err != nil:
			return Payment{}, err
		case version == 0:
			return Payment{}, domain.Missing(op, "invoice")
		case i.State != invoice.StateIssued:
			return Payment{}, domain.InState(op, "invoice", i.InvoiceID, i.State)
		}
		if _, err := minorUnits(i.Due()); err != nil {
			return Payment{}, err
		}
		p, err := m.current(ctx, i)
		if err != nil {
			return Payment{}, err
		}
		intent, err := m.intentOf(ctx, i, p)
		if err != nil {
			return Payment{}, err
		}
		switch intent.Status {
		case stripe.PaymentIntentStatusCanceled:
			if err := m.cancelled(ctx, p, intent); err != nil {
				return Payment{}, err
			}
			continue // with another payment
		case stripe.PaymentIntentStatusSucceeded:
			if err := m.receive(ctx, intent, ""); err != nil {
				return Payment{}, err
			}
			return Payment{}, domain.InState(op, "invoice", i.InvoiceID, invoice.StatePaid)
		}
		if intent, err = m.ask(ctx, p, intent, i.Due()); err != nil {
			return Payment{}, err
		}
		return Payment{PaymentID: p.PaymentID, Reference: intent.ID, Status: string(intent.Status), ClientSecret: intent.ClientSecret, Amount: i.Due()}, nil
	}
	return Payment{}, domain.Errorf(domain.Unavailable, op, "the payments of invoice %s keep changing", invoiceID).WithHint("try again in a moment")
}

// current returns the invoice's payment that is not cancelled, or records the intention to make one.
func (m *Mover) current(ctx context.Context, i invoice.State) (payment.State, error) {
	for range recordTries {
		all, err := m.paymentsOf(ctx, i)
		if err != nil {
			return payment.State{}, err
		}
		if n := len(all); n > 0 && all[n-1].State != payment.StateCancelled {
			return all[n-1], nil
		}
		if len(all) == MaxPayments {
			return payment.State{}, domain.Errorf(domain.Conflict, "stripe.Collect", "%d payments of invoice %s were cancelled", MaxPayments, i.InvoiceID).
				WithHint("pay by the invoice's other terms")
		}
		id := payment.ID(i.InvoiceID, i.At, len(all)+1)
		decided, err := payment.Decide(payment.State{}, payment.Request{
			PaymentID: id, InvoiceID: i.InvoiceID, CustomerID: i.CustomerID, Processor: payment.Stripe, Amount: i.Due(), At: m.now(),
		})
		if err != nil {
			return payment.State{}, err
		}
		_, err = m.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{appendTo(payment.Stream(id), 0, "", []string{i.CustomerID}, decided...)}})
		if err != nil && !errors.As(err, new(*events.VersionConflict)) {
			return payment.State{}, err
		}
	}
	return payment.State{}, domain.Errorf(domain.Unavailable, "stripe.Collect", "the payments of invoice %s keep changing", i.InvoiceID).WithHint("try again in a moment")
}

// intentOf returns Stripe's payment intent for a payment. One that has no reference yet is made, or found made.
func (m *Mover) intentOf(ctx context.Context, i invoice.State, p payment.State) (*stripe.PaymentIntent, error) {
	const op = "stripe.Collect"
	if p.Reference != "" {
		return m.intent(ctx, p.Reference)
	}
	asked, payer, err := m.opening(ctx, p)
	if err != nil {
		return nil, err
	}
	customerID, err := m.Client.CustomerFor(ctx, payer)
	if err != nil {
		return nil, err
	}
	var intent *stripe.PaymentIntent
	if m.now().Sub(asked) > keyTrusted {
		params := &stripe.PaymentIntentListParams{Customer: &customerID}
		params.Context = ctx
		found := m.Client.intents.List(params)
		for intent == nil && found.Next() {
			if one := found.PaymentIntent(); one.Metadata[MetadataPayment] == p.PaymentID {
				intent = one
			}
		}
		if err := found.Err(); err != nil {
			return nil, failed(op, err)
		}
	}
	if intent == nil {
		if intent, err = m.make(ctx, i, p, customerID); err != nil {
			return nil, err
		}
	}
	if _, err := m.recordPayment(ctx, p.PaymentID, "", payment.Open{Reference: intent.ID, At: m.now()}); err != nil {
		return nil, err
	}
	return intent, nil
}

// make makes a payment intent. One that Stripe refuses is cancelled, so that the next one is asked for anew.
func (m *Mover) make(ctx context.Context, i invoice.State, p payment.State, customerID string) (*stripe.PaymentIntent, error) {
	amount, err := minorUnits(p.Amount)
	if err != nil {
		return nil, err
	}
	params := &stripe.PaymentIntentParams{
		Amount: &amount, Currency: currencyOf(p.Amount.Currency), Customer: &customerID,
		Description:             stripe.String("Invoice " + i.Number),
		TransferGroup:           &i.InvoiceID,
		AutomaticPaymentMethods: &stripe.PaymentIntentAutomaticPaymentMethodsParams{Enabled: stripe.Bool(true)},
		Metadata:                map[string]string{MetadataPayment: p.PaymentID, MetadataInvoice: i.InvoiceID, MetadataInvoiceNumber: i.Number},
	}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PaymentID)
	intent, err := m.Client.intents.New(params)
	if reason, ok := refused(err); ok {
		if _, err := m.recordPayment(ctx, p.PaymentID, "", payment.Cancel{Reason: reason, At: m.now()}); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, failed("stripe.Collect", err)
	}
	return intent, nil
}

// opening returns when a payment was asked for, and of whom.
func (m *Mover) opening(ctx context.Context, p payment.State) (time.Time, Customer, error) {
	first, err := m.Log.ReadStream(ctx, payment.Stream(p.PaymentID), 0, 1)
	if err != nil {
		return time.Time{}, Customer{}, err
	}
	payer, _, err := load(ctx, m.Log, organisation.Stream(p.CustomerID), organisation.Evolve)
	if err != nil {
		return time.Time{}, Customer{}, err
	}
	requested, ok := first[0].Event.(payment.Requested)
	if !ok {
		return time.Time{}, Customer{}, domain.Errorf(domain.Internal, "stripe.Collect", "the payment %s begins with %T", p.PaymentID, first[0].Event)
	}
	return requested.At, Customer{OrganisationID: p.CustomerID, Name: payer.Name}, nil
}

// intent fetches a payment intent with what its charge cost.
func (m *Mover) intent(ctx context.Context, reference string) (*stripe.PaymentIntent, error) {
	params := &stripe.PaymentIntentParams{}
	params.Context = ctx
	params.AddExpand("latest_charge.balance_transaction")
	intent, err := m.Client.intents.Get(reference, params)
	if err != nil {
		return nil, failed("stripe.intent", err)
	}
	return intent, nil
}

// ask makes the payer be asked for an amount. The intention to change it is recorded first, and may be from before.
func (m *Mover) ask(ctx context.Context, p payment.State, intent *stripe.PaymentIntent, due domain.Money) (*stripe.PaymentIntent, error) {
	const op = "stripe.Collect"
	amount, err := minorUnits(due)
	if err != nil {
		return nil, err
	}
	if intent.Amount == amount && p.Amount == due {
		return intent, nil
	}
	if _, err := m.recordPayment(ctx, p.PaymentID, "", payment.Reprice{Amount: due, At: m.now()}); err != nil {
		return nil, err
	}
	params := &stripe.PaymentIntentParams{Amount: &amount}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PaymentID + "-amount-" + strconv.FormatInt(amount, 10)) // what is due only falls: no amount comes twice
	changed, err := m.Client.intents.Update(intent.ID, params)
	if reason, ok := refused(err); ok {
		return nil, domain.Errorf(domain.Conflict, op, "the payment %s is %s over %d %s and can't be changed to %s (%s)", p.PaymentID, intent.Status, intent.Amount,
			intent.Currency, due, reason).WithHint("wait for what becomes of it; what is paid too much is given back")
	}
	if err != nil {
		return nil, failed(op, err)
	}
	return changed, nil
}

// look sees what became of a payment that is not received yet, and keeps it to what is due.
func (m *Mover) look(ctx context.Context, i invoice.State, p payment.State, w *wait) error {
	intent, err := m.intentOf(ctx, i, p)
	if err != nil {
		return err
	}
	switch intent.Status {
	case stripe.PaymentIntentStatusSucceeded:
		return m.receive(ctx, intent, "")
	case stripe.PaymentIntentStatusCanceled:
		return m.cancelled(ctx, p, intent)
	}
	w.until(m.now().Add(lookAgain))
	if due := i.Due(); due.Minor > 0 && movable(due) == due { // else it is paid by the invoice's other terms
		if p, _, err = load(ctx, m.Log, payment.Stream(p.PaymentID), payment.Evolve); err != nil {
			return err
		}
		if _, err := m.ask(ctx, p, intent, due); domain.CodeOf(err) != domain.Conflict { // what is being paid will be received, or fail
			return err
		}
		return nil
	}
	params := &stripe.PaymentIntentCancelParams{}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PaymentID + "-cancel-" + string(intent.Status)) // a refusal is about that state
	intent, err = m.Client.intents.Cancel(intent.ID, params)
	if _, ok := refused(err); ok { // it is being paid; what is received will be given back
		return nil
	}
	if err != nil {
		return failed("stripe.look", err)
	}
	return m.cancelled(ctx, p, intent)
}

func (m *Mover) cancelled(ctx context.Context, p payment.State, intent *stripe.PaymentIntent) error {
	reason := string(intent.CancellationReason)
	if reason == "" {
		reason = "cancelled at Stripe"
	}
	_, err := m.recordPayment(ctx, p.PaymentID, "", payment.Cancel{Reason: reason, At: m.now()})
	return err
}

// receive records that a payment intent succeeded, and that its invoice is paid, in one append. An intent that is not of
// an invoice of this log is none of its business.
func (m *Mover) receive(ctx context.Context, intent *stripe.PaymentIntent, cause string) error {
	const op = "stripe.receive"
	id, invoiceID := intent.Metadata[MetadataPayment], intent.Metadata[MetadataInvoice]
	if !domain.ValidID(domain.PrefixPayment, id) || !domain.ValidID(domain.PrefixInvoice, invoiceID) {
		return nil
	}
	amount, err := fromMinorUnits(intent.AmountReceived, intent.Currency)
	if err != nil {
		return err
	}
	received := payment.Received{PaymentID: id, InvoiceID: invoiceID, Processor: payment.Stripe, Reference: intent.ID, Amount: amount, At: m.now()}
	if c := intent.LatestCharge; c != nil {
		received.Charge, received.ProcessingCost = c.ID, costOf(c)
		if c.Created > 0 {
			received.At = time.Unix(c.Created, 0)
		}
	}
	for range recordTries {
		i, invoiceVersion, err := load(ctx, m.Log, invoice.Stream(invoiceID), invoice.Evolve)
		if err != nil || invoiceVersion == 0 {
			return err
		}
		p, version, err := load(ctx, m.Log, payment.Stream(id), payment.Evolve)
		if err != nil {
			return err
		}
		received.CustomerID = i.CustomerID
		decided, err := payment.Decide(p, payment.Receive{Payment: received})
		if err != nil || len(decided) == 0 {
			return err
		}
		a := events.Append{Streams: []events.StreamAppend{appendTo(payment.Stream(id), version, cause, []string{i.CustomerID}, decided...)}}
		if due := i.Due(); due.Minor > 0 && due.Currency == amount.Currency && amount.Minor >= due.Minor {
			paid, err := invoice.Decide(i, invoice.Pay{Reference: intent.ID, Amount: due, At: received.At})
			if err != nil {
				return err
			}
			a.Streams = append(a.Streams, appendTo(invoice.Stream(invoiceID), invoiceVersion, cause, []string{i.CustomerID}, paid...))
		}
		_, err = m.Log.Append(ctx, a)
		if !errors.As(err, new(*events.VersionConflict)) {
			return err
		}
	}
	return domain.Errorf(domain.Unavailable, op, "the payment %s keeps changing", id).WithHint("try again in a moment")
}

// costOf returns what Stripe kept of a charge; none if it is not known, or in a currency that is not billed in.
func costOf(c *stripe.Charge) domain.Money {
	if c.BalanceTransaction == nil || c.BalanceTransaction.Currency == "" { // not there yet, or not expanded
		return domain.Money{}
	}
	cost, err := fromMinorUnits(c.BalanceTransaction.Fee, c.BalanceTransaction.Currency)
	if err != nil {
		return domain.Money{}
	}
	return cost
}

// cost records what a payment cost, once that is known.
func (m *Mover) cost(ctx context.Context, p payment.State, w *wait) error {
	if p.State != payment.StateReceived || p.ProcessingCost != (domain.Money{}) {
		return nil
	}
	intent, err := m.intent(ctx, p.Reference)
	if err != nil {
		return err
	}
	c := intent.LatestCharge
	if c == nil || costOf(c) == (domain.Money{}) {
		if c != nil && m.now().Sub(time.Unix(c.Created, 0)) < costsWithin {
			w.until(m.now().Add(lookAgain))
		}
		return nil
	}
	_, err = m.recordPayment(ctx, p.PaymentID, "", payment.Cost{Amount: costOf(c), At: m.now()})
	return err
}
