package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/webhook"

	"crossbill/domain"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
)

const (
	// MaxWebhookBytes is the largest webhook that is read. Stripe's are some kilobytes.
	MaxWebhookBytes = 512 << 10
	// WebhookTolerance is how far a webhook's time may be from now: an older one may be a repetition by somebody who has seen it.
	WebhookTolerance = 5 * time.Minute

	maxBankPayout = 100_000 // transfers in one payment to a provider's bank account that are looked at
)

// Webhook takes a webhook of Stripe's: its body as it came, byte by byte, and its Stripe-Signature header, which is made with
// the endpoint's secret. What it says is a hint where to look; the object is fetched as it is now. So it does not matter in
// which order webhooks come, how often, and in which version of Stripe's API they are written.
//
// Errors: Invalid for one that is not signed by Stripe, too old, or no event; others are worth a repetition by Stripe.
func (m *Mover) Webhook(ctx context.Context, body []byte, signature, secret string) error {
	e, err := webhook.ConstructEventWithOptions(body, signature, secret, webhook.ConstructEventOptions{
		Tolerance: WebhookTolerance, IgnoreAPIVersionMismatch: true, // only ids are taken from it
	})
	if err != nil {
		return domain.Errorf(domain.Invalid, "stripe.Webhook", "the webhook is not one of Stripe's: %w", err).
			WithHint("check that the endpoint's secret (whsec_…) is the one that the platform was started with, and the clock")
	}
	var object struct {
		ID string `json:"id"`
	}
	if e.ID == "" || e.Data == nil || json.Unmarshal(e.Data.Raw, &object) != nil || object.ID == "" {
		return domain.Errorf(domain.Invalid, "stripe.Webhook", "the webhook holds no event with an object").WithHint("send what Stripe sends")
	}
	return m.observe(ctx, e, object.ID)
}

// observe looks at the object of an event. Kinds of events that say nothing of what the log holds are done with by nothing.
func (m *Mover) observe(ctx context.Context, e stripe.Event, id string) error {
	noun, _, _ := strings.Cut(string(e.Type), ".")
	switch {
	case e.Type == stripe.EventTypePayoutPaid:
		return m.lookAtBankPayout(ctx, e.Account, id, e.ID)
	case e.Account != "" && e.Type != stripe.EventTypeAccountUpdated: // what else happens on a provider's account is the provider's
		return nil
	case noun == "payment_intent":
		return m.lookAtIntent(ctx, e, id)
	case strings.HasPrefix(string(e.Type), "charge.dispute."):
		return m.lookAtDispute(ctx, id, e.ID)
	case noun == "refund" || e.Type == stripe.EventTypeChargeRefundUpdated:
		return m.lookAtRefund(ctx, id, e.ID)
	case e.Type == stripe.EventTypeAccountUpdated:
		return m.lookAtAccount(ctx, id, e.ID)
	}
	return nil
}

func (m *Mover) lookAtIntent(ctx context.Context, e stripe.Event, id string) error {
	intent, err := m.intent(ctx, id)
	if err != nil {
		return ignoreMissing(err)
	}
	paymentID := intent.Metadata[MetadataPayment]
	if !domain.ValidID(domain.PrefixPayment, paymentID) {
		return nil
	}
	p, version, err := load(ctx, m.Log, payment.Stream(paymentID), payment.Evolve)
	if err != nil {
		return err
	}
	switch {
	case intent.Status == stripe.PaymentIntentStatusSucceeded:
		return m.receive(ctx, intent, e.ID)
	case version == 0: // of another log
		return nil
	case intent.Status == stripe.PaymentIntentStatusCanceled:
		return m.cancelled(ctx, p, intent)
	case e.Type == stripe.EventTypePaymentIntentPaymentFailed && (p.State == payment.StateRequested || p.State == payment.StateOpen):
		return m.attemptFailed(ctx, paymentID, intent, e)
	}
	return nil
}

// attemptFailed records an attempt that failed, once for each of Stripe's events, whose id the log's is derived from.
func (m *Mover) attemptFailed(ctx context.Context, paymentID string, intent *stripe.PaymentIntent, e stripe.Event) error {
	reason := "payment_failed"
	if intent.LastPaymentError != nil && intent.LastPaymentError.Code != "" {
		reason = string(intent.LastPaymentError.Code)
	}
	command := payment.Fail{Reference: intent.ID, Reason: line(reason, domain.MaxReason), At: time.Unix(e.Created, 0)}
	_, err := record(ctx, m.Log, decision[payment.State]{
		stream: payment.Stream(paymentID), evolve: payment.Evolve, cause: e.ID, id: domain.DeriveEventID("stripe", e.ID),
		decide:  func(s payment.State) ([]domain.Event, error) { return payment.Decide(s, command) },
		parties: func(s payment.State) []string { return []string{s.CustomerID} },
	})
	if domain.CodeOf(err) == domain.Conflict { // it was received or cancelled since, or the event's first delivery saw another reason
		return nil
	}
	return err
}

func (m *Mover) lookAtRefund(ctx context.Context, id, cause string) error {
	params := &stripe.RefundParams{}
	params.Context = ctx
	made, err := m.Client.refunds.Get(id, params)
	if err != nil {
		return ignoreMissing(failed("stripe.refund", err))
	}
	paymentID := made.Metadata[MetadataPayment]
	n, err := strconv.Atoi(made.Metadata[MetadataRefund])
	if !domain.ValidID(domain.PrefixPayment, paymentID) || err != nil {
		return nil
	}
	_, err = m.refunded(ctx, paymentID, n, made, cause)
	if domain.CodeOf(err) == domain.NotFound { // of another log
		return nil
	}
	return err
}

// lookAtDispute records a dispute that took money away, and how it was decided. An inquiry takes none.
func (m *Mover) lookAtDispute(ctx context.Context, id, cause string) error {
	params := &stripe.DisputeParams{}
	params.Context = ctx
	d, err := m.Client.disputes.Get(id, params)
	if err != nil {
		return ignoreMissing(failed("stripe.dispute", err))
	}
	if strings.HasPrefix(string(d.Status), "warning_") || d.PaymentIntent == nil {
		return nil
	}
	intent, err := m.intent(ctx, d.PaymentIntent.ID)
	if err != nil {
		return ignoreMissing(err)
	}
	paymentID := intent.Metadata[MetadataPayment]
	if !domain.ValidID(domain.PrefixPayment, paymentID) {
		return nil
	}
	if err := m.receive(ctx, intent, cause); err != nil { // the webhook that it was paid may be still to come
		return err
	}
	amount, err := fromMinorUnits(d.Amount, d.Currency)
	if err != nil {
		return err
	}
	reason := line(string(d.Reason), domain.MaxReason)
	if reason == "" {
		reason = "general"
	}
	_, err = m.recordPayment(ctx, paymentID, cause, payment.OpenDispute{Dispute: d.ID, Amount: amount, Reason: reason, At: time.Unix(max(d.Created, 1), 0)})
	if err != nil || d.Status != stripe.DisputeStatusWon && d.Status != stripe.DisputeStatusLost {
		if domain.CodeOf(err) == domain.NotFound {
			return nil
		}
		return err
	}
	outcome := payment.DisputeWon
	if d.Status == stripe.DisputeStatusLost {
		outcome = payment.DisputeLost
	}
	_, err = m.recordPayment(ctx, paymentID, cause, payment.CloseDispute{Dispute: d.ID, Outcome: outcome, Amount: amount, Cost: disputeCost(d), At: m.now()})
	return err
}

// disputeCost adds up what Stripe kept for a dispute; none if it is in a currency that is not billed in.
func disputeCost(d *stripe.Dispute) domain.Money {
	var sum int64
	var currency stripe.Currency
	for _, t := range d.BalanceTransactions {
		sum, currency = sum+t.Fee, t.Currency
	}
	cost, err := fromMinorUnits(sum, currency)
	if err != nil || sum <= 0 {
		return domain.Money{}
	}
	return cost
}

// lookAtBankPayout records which payouts a payment to a provider's bank account held. Each is found by the transfer that
// the account's own transaction came from.
func (m *Mover) lookAtBankPayout(ctx context.Context, account, id, cause string) error {
	if account == "" {
		return nil // the platform's own
	}
	params := &stripe.BalanceTransactionListParams{Payout: &id}
	params.Context = ctx
	params.AddExpand("data.source")
	params.SetStripeAccount(account)
	found := m.Client.transactions.List(params)
	for n := 0; found.Next() && n < maxBankPayout; n++ {
		t := found.BalanceTransaction()
		if t.Source == nil || t.Source.Charge == nil || t.Source.Charge.SourceTransfer == nil {
			continue
		}
		get := &stripe.TransferParams{} // the platform's own, which the provider's account can't read
		get.Context = ctx
		moved, err := m.Client.transfers.Get(t.Source.Charge.SourceTransfer.ID, get)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return failed("stripe.payout", err)
		}
		payoutID := moved.Metadata[MetadataPayout]
		if !domain.ValidID(domain.PrefixPayout, payoutID) {
			continue
		}
		// Its answer may have been lost; this is it.
		if _, err = m.recordPayout(ctx, payoutID, cause, payout.Send{Transfer: moved.ID, At: m.now()}); err == nil {
			_, err = m.recordPayout(ctx, payoutID, cause, payout.Pay{Reference: id, At: m.now()})
		}
		if code := domain.CodeOf(err); err != nil && code != domain.NotFound {
			return err
		}
	}
	if err := found.Err(); err != nil {
		return failed("stripe.payout", err)
	}
	return nil
}

// ignoreMissing drops the error that Stripe has no such thing: a webhook can be about another account's, or about nothing.
func ignoreMissing(err error) error {
	if e := (*stripe.Error)(nil); errors.As(err, &e) && isMissing(e) {
		return nil
	}
	return err
}
