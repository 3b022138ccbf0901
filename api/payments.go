package api

import (
	"context"
	"io"
	"net/http"

	"crossbill/billing/stripe"
	"crossbill/domain"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/organisation"
	"crossbill/events"
)

// stripeWebhookPath is where Stripe tells what happened. What it sends is by its own contract, and is signed instead of
// having a key, so it is not among the operations.
const stripeWebhookPath = "/v1/stripe/webhook"

// stripeWebhook takes a webhook of Stripe's. Anything but 200 makes Stripe send it again, for days.
func (s *Server) stripeWebhook(w http.ResponseWriter, r *http.Request) {
	const op = "api.stripeWebhook"
	if s.Stripe == nil || s.StripeSecret == "" {
		s.fail(w, r, domain.Errorf(domain.Unavailable, op, "no payment service is connected").
			WithHint("an operator starts the platform with STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET set"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, stripe.MaxWebhookBytes))
	if err != nil {
		s.fail(w, r, domain.Errorf(domain.Invalid, op, "the body can't be read: %w", err).WithHint("it has at most %d bytes", stripe.MaxWebhookBytes))
		return
	}
	if err := s.Stripe.Webhook(r.Context(), body, r.Header.Get("Stripe-Signature"), s.StripeSecret); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// payments returns what moves money.
func (s *Server) payments() (*stripe.Mover, error) {
	if s.Stripe == nil {
		return nil, domain.Errorf(domain.Unavailable, "api.payments", "no payment service is connected").
			WithHint("an operator starts the platform with STRIPE_API_KEY set; until then, pay by the invoice's other terms")
	}
	return s.Stripe, nil
}

// PayInvoice answers with the payment of what is due of an invoice, made if there is none. That it was paid is news that
// Stripe brings.
func (s *Server) PayInvoice(ctx context.Context, req PayInvoiceRequestObject) (PayInvoiceResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
		return nil, err
	}
	mover, err := s.payments()
	if err != nil {
		return nil, err
	}
	p, err := mover.Collect(ctx, state.InvoiceID)
	if err != nil {
		return nil, err
	}
	return PayInvoice200JSONResponse{Id: p.Reference, Status: p.Status, ClientSecret: p.ClientSecret, Amount: p.Amount}, nil
}

// ConnectPayoutAccount answers with the way to the caller's account at Stripe, made if there is none.
func (s *Server) ConnectPayoutAccount(ctx context.Context, req ConnectPayoutAccountRequestObject) (ConnectPayoutAccountResponseObject, error) {
	if err := s.require(ctx, organisation.RoleProvider); err != nil {
		return nil, err
	}
	mover, err := s.payments()
	if err != nil {
		return nil, err
	}
	o, err := mover.Connect(ctx, callerFrom(ctx).OrganisationID, domain.Country(req.Body.Country), req.Body.ReturnUrl, req.Body.RefreshUrl)
	if err != nil {
		return nil, err
	}
	return ConnectPayoutAccount200JSONResponse{Account: payoutAccountView(o.State), Url: o.URL, ExpiresAt: o.ExpiresAt}, nil
}

// GetPayoutAccount answers with the caller's account at Stripe.
func (s *Server) GetPayoutAccount(ctx context.Context, _ GetPayoutAccountRequestObject) (GetPayoutAccountResponseObject, error) {
	state, _, err := events.Load(ctx, s.seen(ctx), connectedaccount.Stream(callerFrom(ctx).OrganisationID), connectedaccount.Evolve)
	if err != nil {
		return nil, err
	}
	return GetPayoutAccount200JSONResponse(payoutAccountView(state)), nil
}

func payoutAccountView(a connectedaccount.State) PayoutAccount {
	view := PayoutAccount{Transfers: a.Transfers, BankPayouts: a.BankPayouts, Requirements: append([]string{}, a.Requirements...)}
	if a.Country != "" {
		country := Country(a.Country)
		view.Country = &country
	}
	if a.Account != "" {
		view.Id = &a.Account
	}
	return view
}

// ReconcilePayments compares the log with Stripe.
func (s *Server) ReconcilePayments(ctx context.Context, req ReconcilePaymentsRequestObject) (ReconcilePaymentsResponseObject, error) {
	mover, err := s.payments()
	if err != nil {
		return nil, err
	}
	r, err := mover.Reconcile(ctx, req.Params.From, req.Params.To)
	if err != nil {
		return nil, err
	}
	answer := PaymentReconciliation{From: r.From, To: r.To, Compared: r.Compared, Findings: make([]PaymentFinding, 0, len(r.Findings))}
	for _, f := range r.Findings {
		answer.Findings = append(answer.Findings, PaymentFinding{
			Kind: PaymentFindingKind(f.Kind), Problem: PaymentFindingProblem(f.Problem), Id: f.ID, Reference: f.Reference, Here: f.Here, There: f.There,
		})
	}
	return ReconcilePayments200JSONResponse(answer), nil
}
