package stripe

import (
	"context"
	"slices"
	"strconv"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
)

// giveBack brings what is kept of a payment down to what its invoice is worth: the total less what was credited if it is
// this payment that paid it, and nothing if it is not (the invoice is void, or was paid otherwise). A credit note that came
// while the payer paid the old amount is given back like one that came later.
func (m *Mover) giveBack(ctx context.Context, i invoice.State, p payment.State, w *wait) (payment.State, error) {
	p, err := m.makeRefunds(ctx, p)
	if err != nil || p.InDispute() { // the payer's bank has the money; Stripe refuses to give it back twice
		return p, err
	}
	over := movable(tooMuch(i, p)).Minor
	refusals := 0
	for _, r := range slices.Backward(p.Refunds) {
		if r.State != payment.NotMade {
			break
		}
		refusals++
	}
	if over <= 0 || refusals > 0 && !m.due(refusals, p.Refunds[len(p.Refunds)-1].At, w) {
		return p, nil
	}
	parts, err := m.creditedOf(ctx, i, p, over)
	if err != nil {
		return p, err
	}
	for _, part := range parts {
		if p, err = m.recordPayment(ctx, p.PaymentID, "", part); err != nil {
			return p, err
		}
	}
	return m.makeRefunds(ctx, p)
}

// tooMuch returns what is kept of a payment beyond what its invoice is worth.
func tooMuch(i invoice.State, p payment.State) domain.Money {
	over := p.Kept()
	if pays(i, p) {
		over.Minor -= i.Total.Minor - i.Credited.Minor
	}
	return over
}

// creditedOf says for which credit notes an amount is given back, the newest first: the oldest may have made the payment
// smaller instead. What none of them explains was paid too much.
func (m *Mover) creditedOf(ctx context.Context, i invoice.State, p payment.State, over int64) (parts []payment.RequestRefund, _ error) {
	at, currency := m.now(), p.Amount.Currency
	for _, id := range slices.Backward(i.CreditNotes) {
		note, _, err := load(ctx, m.Log, creditnote.Stream(id), creditnote.Evolve)
		if err != nil {
			return nil, err
		}
		left := note.Total.Minor
		for _, r := range p.Refunds {
			if r.CreditNoteID == id && r.State != payment.NotMade {
				left -= r.Amount.Minor
			}
		}
		if part := movable(domain.Money{Minor: min(left, over), Currency: currency}); part.Minor > 0 {
			parts = append(parts, payment.RequestRefund{CreditNoteID: id, Amount: part, At: at})
			over -= part.Minor
		}
	}
	if over > 0 {
		parts = append(parts, payment.RequestRefund{Amount: domain.Money{Minor: over, Currency: currency}, At: at})
	}
	return parts, nil
}

// makeRefunds makes the refunds that were asked for and have no answer yet.
func (m *Mover) makeRefunds(ctx context.Context, p payment.State) (payment.State, error) {
	for n, r := range p.Refunds {
		if r.State != payment.Pending {
			continue
		}
		made, err := m.makeRefund(ctx, p, n+1)
		if reason, ok := refused(err); ok {
			p, err = m.recordPayment(ctx, p.PaymentID, "", payment.FailRefund{Refund: n + 1, Reason: reason, At: m.now()})
			if err != nil {
				return p, err
			}
			continue
		}
		if err != nil {
			return p, failed("stripe.refund", err)
		}
		if p, err = m.refunded(ctx, p.PaymentID, n+1, made, ""); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (m *Mover) makeRefund(ctx context.Context, p payment.State, n int) (*stripe.Refund, error) {
	r := p.Refunds[n-1]
	if m.now().Sub(r.At) > keyTrusted {
		params := &stripe.RefundListParams{PaymentIntent: &p.Reference}
		params.Context = ctx
		found := m.Client.refunds.List(params)
		for found.Next() {
			if one := found.Refund(); one.Metadata[MetadataPayment] == p.PaymentID && one.Metadata[MetadataRefund] == strconv.Itoa(n) {
				return one, nil
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	amount, err := minorUnits(r.Amount)
	if err != nil {
		return nil, err
	}
	params := &stripe.RefundParams{
		PaymentIntent: &p.Reference, Amount: &amount,
		Metadata: map[string]string{MetadataPayment: p.PaymentID, MetadataInvoice: p.InvoiceID, MetadataRefund: strconv.Itoa(n)},
	}
	if r.CreditNoteID != "" {
		params.Metadata[MetadataCreditNote] = r.CreditNoteID
	}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PaymentID + "-refund-" + strconv.Itoa(n))
	return m.Client.refunds.New(params)
}

// refunded records what Stripe made of a refund, and that it failed if it did: some fail days after they were made.
func (m *Mover) refunded(ctx context.Context, paymentID string, n int, made *stripe.Refund, cause string) (payment.State, error) {
	p, err := m.recordPayment(ctx, paymentID, cause, payment.RecordRefund{Refund: n, Reference: made.ID, At: m.now()})
	if err != nil || made.Status != stripe.RefundStatusFailed && made.Status != stripe.RefundStatusCanceled {
		return p, err
	}
	reason := string(made.FailureReason)
	if reason == "" {
		reason = string(made.Status)
	}
	return m.recordPayment(ctx, paymentID, cause, payment.FailRefund{Refund: n, Reference: made.ID, Reason: reason, At: m.now()})
}
