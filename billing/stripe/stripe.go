// Package stripe moves money through Stripe: customers pay their invoices, providers get their shares of what was paid,
// and what is credited goes back. It is the one place that imports stripe-go.
//
// It uses separate charges and transfers: a customer pays an invoice once, over what is due; of that, each settlement's
// share goes to its provider's connected account as a transfer of its own; what is left, the platform's fee and the tax,
// stays. It never decides what is owed (invoice, settlement and credit note say that) and never confirms a payment by
// itself.
//
// No amount is moved twice and none is lost, whatever fails when. Every act is an event of intention in the log before it
// is asked of Stripe (payment.requested, payment.refund_requested, payout.requested, payout.reversal_requested) and is
// asked under an idempotency key that is derived from the intention's own id, so that it can be asked again until there is
// an answer. Stripe forgets a key after a day at the earliest; an intention of more than half a day is looked up first.
// What Stripe tells by webhooks is taken as a hint to look: the object's present state is fetched, and what it comes to is
// decided by the streams, so that repeated, late and reordered webhooks do no harm, and lost ones are made up for by
// looking again ([Mover.Advance]).
//
// Start reading at [Mover] in mover.go, then collect.go (money in), refund.go (back), payout.go (out), webhook.go and
// reconcile.go.
package stripe

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/account"
	"github.com/stripe/stripe-go/v79/accountlink"
	"github.com/stripe/stripe-go/v79/balancetransaction"
	"github.com/stripe/stripe-go/v79/charge"
	"github.com/stripe/stripe-go/v79/customer"
	"github.com/stripe/stripe-go/v79/dispute"
	"github.com/stripe/stripe-go/v79/paymentintent"
	"github.com/stripe/stripe-go/v79/refund"
	"github.com/stripe/stripe-go/v79/transfer"
	"github.com/stripe/stripe-go/v79/transferreversal"

	"crossbill/domain"
)

// Limits of the conversation with Stripe.
const (
	DefaultTimeout = 20 * time.Second // of one request
	DefaultRetries = 2                // of a request that may succeed when it is repeated, with the same key

	// keyTrusted is the age of an intention up to which its key alone makes sure that nothing happens twice. Stripe keeps
	// keys for at least 24 hours (docs.stripe.com/api/idempotent_requests).
	keyTrusted = 12 * time.Hour
)

// Metadata keys of what is made at Stripe.
const (
	MetadataOrganisation  = "crossbill_organisation_id"
	MetadataInvoice       = "crossbill_invoice_id"
	MetadataInvoiceNumber = "crossbill_invoice_number"
	MetadataPayment       = "crossbill_payment_id"
	MetadataRefund        = "crossbill_refund" // its number within the payment
	MetadataCreditNote    = "crossbill_credit_note_id"
	MetadataPayout        = "crossbill_payout_id"
	MetadataSettlement    = "crossbill_settlement_id"
	MetadataReversal      = "crossbill_reversal" // its number within the payout
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
	customers    customer.Client
	intents      paymentintent.Client
	charges      charge.Client
	refunds      refund.Client
	transfers    transfer.Client
	reversals    transferreversal.Client
	disputes     dispute.Client
	accounts     account.Client
	links        accountlink.Client
	transactions balancetransaction.Client
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
	b, key := stripe.GetBackendWithConfig(stripe.APIBackend, config), o.Key
	return &Client{
		customers: customer.Client{B: b, Key: key}, intents: paymentintent.Client{B: b, Key: key}, charges: charge.Client{B: b, Key: key},
		refunds: refund.Client{B: b, Key: key}, transfers: transfer.Client{B: b, Key: key}, reversals: transferreversal.Client{B: b, Key: key},
		disputes: dispute.Client{B: b, Key: key}, accounts: account.Client{B: b, Key: key}, links: accountlink.Client{B: b, Key: key},
		transactions: balancetransaction.Client{B: b, Key: key},
	}, nil
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
	search := &stripe.CustomerSearchParams{SearchParams: stripe.SearchParams{
		Context: ctx, Query: "metadata['" + MetadataOrganisation + "']:'" + of.OrganisationID + "'", Single: true,
	}}
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
