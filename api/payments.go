package api

import (
	"context"

	"crossbill/billing/stripe"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/organisation"
	"crossbill/events"
)

// PayInvoice answers with the payment of an issued invoice at Stripe, made if there is none. Nothing is recorded: the
// payment is found again by the invoice, and that it was paid is news that Stripe brings.
func (s *Server) PayInvoice(ctx context.Context, req PayInvoiceRequestObject) (PayInvoiceResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	if err := onlyFor(ctx, state.CustomerID, "customer"); err != nil {
		return nil, err
	}
	if s.Stripe == nil {
		return nil, domain.Errorf(domain.Unavailable, "api.PayInvoice", "no payment service is connected").
			WithHint("an operator starts the platform with STRIPE_API_KEY set; until then, pay by the invoice's other terms")
	}
	payer, _, err := events.Load(ctx, s.Log, organisation.Stream(state.CustomerID), organisation.Evolve)
	if err != nil {
		return nil, err
	}
	issued, err := s.Log.ReadStream(ctx, invoice.Stream(state.InvoiceID), 0, 1)
	if err != nil {
		return nil, err
	}
	customer, err := s.Stripe.CustomerFor(ctx, stripe.Customer{OrganisationID: payer.ID, Name: payer.Name})
	if err != nil {
		return nil, err
	}
	payment, err := s.Stripe.PaymentFor(ctx, customer, state, issued[0].ID)
	if err != nil {
		return nil, err
	}
	return PayInvoice200JSONResponse{Id: payment.ID, Status: payment.Status, ClientSecret: payment.ClientSecret, Amount: state.Total}, nil
}
