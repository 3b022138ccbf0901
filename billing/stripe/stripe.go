// Package stripe asks Stripe for the payment of issued invoices. It is the one place that imports stripe-go.
//
// It never decides what is owed (an invoice says that), never confirms a payment by itself, and keeps no state: what it
// made is found again by the metadata it left. Every request that makes something carries an idempotency key derived
// from the fact that it follows from, so a request that is repeated, by a retry here or by a job that runs again, makes
// one thing. Stripe forgets keys after a day at the earliest and finds new things by search within a minute or so; a
// request therefore searches first and then creates under its key, and the two cover each other.
//
// Start reading at [Client.PaymentFor].
package stripe

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/customer"
	"github.com/stripe/stripe-go/v79/paymentintent"

	"crossbill/domain"
	"crossbill/domain/invoice"
)

// Limits of the conversation with Stripe.
const (
	DefaultTimeout = 20 * time.Second // of one request
	DefaultRetries = 2                // of a request that may succeed when it is repeated, with the same key
)

// Metadata keys of what is made at Stripe.
const (
	MetadataOrganisation  = "crossbill_organisation_id"
	MetadataInvoice       = "crossbill_invoice_id"
	MetadataInvoiceNumber = "crossbill_invoice_number"
	MetadataEvent         = "crossbill_event_id" // of invoice.issued, in hexadecimal
)

// Options are what a client is made of. Key is required.
type Options struct {
	Key        string       // Stripe's secret key
	URL        string       // of Stripe's API; default: the real one
	HTTPClient *http.Client // default: one with [DefaultTimeout]
	Retries    *int64       // default: [DefaultRetries]
}

// Client talks to Stripe. It is safe for concurrent use.
type Client struct {
	customers customer.Client
	payments  paymentintent.Client
}

// New returns a client; it does not connect. It returns an Invalid error if there is no key.
func New(o Options) (*Client, error) {
	if strings.TrimSpace(o.Key) == "" {
		return nil, domain.Errorf(domain.Invalid, "stripe.New", "there is no Stripe key").WithHint("set Stripe's secret key (sk_…)")
	}
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{Timeout: DefaultTimeout}
	}
	if o.Retries == nil {
		o.Retries = stripe.Int64(DefaultRetries)
	}
	config := &stripe.BackendConfig{
		HTTPClient: o.HTTPClient, MaxNetworkRetries: o.Retries, EnableTelemetry: stripe.Bool(false),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}, // errors are returned, and stripe-go would log what they hold
	}
	if o.URL != "" {
		config.URL = stripe.String(o.URL)
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, config)
	return &Client{customers: customer.Client{B: backend, Key: o.Key}, payments: paymentintent.Client{B: backend, Key: o.Key}}, nil
}

// Customer is an organisation that pays.
type Customer struct {
	OrganisationID string
	Name           string
}

// CustomerFor returns the id of Stripe's customer for an organisation, and makes it if there is none.
//
// Errors: Unavailable if it is worth another try; Conflict if Stripe knows the key from a request with other content
// (the name changed within the hour); Internal if Stripe refuses the key or the request.
func (c *Client) CustomerFor(ctx context.Context, of Customer) (id string, err error) {
	const op = "stripe.CustomerFor"
	if !domain.ValidID(domain.PrefixOrganisation, of.OrganisationID) {
		return "", domain.Errorf(domain.Invalid, op, "%.60q is no organisation", of.OrganisationID)
	}
	search := &stripe.CustomerSearchParams{SearchParams: searchBy(ctx, MetadataOrganisation, of.OrganisationID)}
	found := c.customers.Search(search)
	for found.Next() {
		if one := found.Customer(); !one.Deleted && one.Metadata[MetadataOrganisation] == of.OrganisationID {
			return one.ID, nil
		}
	}
	if err := found.Err(); err != nil {
		return "", failed(op, err)
	}
	params := &stripe.CustomerParams{Name: stripe.String(of.Name), Metadata: map[string]string{MetadataOrganisation: of.OrganisationID}}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-customer-" + of.OrganisationID)
	made, err := c.customers.New(params)
	if err != nil {
		return "", failed(op, err)
	}
	return made.ID, nil
}

// Payment is a payment that Stripe is ready to take.
type Payment struct {
	ID           string
	Status       string // as Stripe names it
	ClientSecret string // for the payer's browser; a secret
}

// PaymentFor returns the payment intent for the total of an issued invoice, and makes it if there is none. No money
// moves until the payer confirms it. eventID is the id of the invoice.issued event, from which the key is derived.
//
// Errors: Conflict for an invoice that is not to be paid, or whose payment Stripe has with another amount; Invalid for a
// total of nothing or one that Stripe can't take; the others as [Client.CustomerFor].
func (c *Client) PaymentFor(ctx context.Context, customerID string, i invoice.State, eventID [16]byte) (Payment, error) {
	const op = "stripe.PaymentFor"
	if i.State != invoice.StateIssued {
		return Payment{}, domain.InState(op, "invoice", i.InvoiceID, i.State)
	}
	amount, err := minorUnits(i.Total)
	if err != nil {
		return Payment{}, err
	}
	currency := strings.ToLower(string(i.Total.Currency))
	found := c.payments.Search(&stripe.PaymentIntentSearchParams{SearchParams: searchBy(ctx, MetadataInvoice, i.InvoiceID)})
	for found.Next() {
		if one := found.PaymentIntent(); one.Metadata[MetadataInvoice] == i.InvoiceID && one.Status != stripe.PaymentIntentStatusCanceled {
			return checked(op, one, amount, currency)
		}
	}
	if err := found.Err(); err != nil {
		return Payment{}, failed(op, err)
	}
	params := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(amount), Currency: stripe.String(currency), Customer: stripe.String(customerID),
		Description:             stripe.String("Invoice " + i.Number),
		AutomaticPaymentMethods: &stripe.PaymentIntentAutomaticPaymentMethodsParams{Enabled: stripe.Bool(true)},
		Metadata: map[string]string{
			MetadataInvoice: i.InvoiceID, MetadataInvoiceNumber: i.Number, MetadataEvent: hex.EncodeToString(eventID[:]),
		},
	}
	params.Context = ctx
	params.SetIdempotencyKey(paymentKey(eventID))
	made, err := c.payments.New(params)
	if err != nil {
		return Payment{}, failed(op, err)
	}
	return checked(op, made, amount, currency)
}

// paymentKey derives the idempotency key of an invoice's payment from the event that issued it.
func paymentKey(eventID [16]byte) string {
	return "crossbill-payment-" + hex.EncodeToString(eventID[:])
}

// checked returns the payment if it is over the amount that the invoice says.
func checked(op string, p *stripe.PaymentIntent, amount int64, currency string) (Payment, error) {
	if p.Amount != amount || string(p.Currency) != currency {
		return Payment{}, domain.Errorf(domain.Conflict, op, "Stripe has the payment %s over %d %s, the invoice is over %d %s",
			p.ID, p.Amount, p.Currency, amount, currency).WithHint("cancel that payment at Stripe")
	}
	return Payment{ID: p.ID, Status: string(p.Status), ClientSecret: p.ClientSecret}, nil
}

func searchBy(ctx context.Context, key, value string) stripe.SearchParams {
	return stripe.SearchParams{Context: ctx, Query: "metadata['" + key + "']:'" + value + "'", Single: true}
}
