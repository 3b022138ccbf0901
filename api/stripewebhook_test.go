package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/billing/stripe"
	"crossbill/billing/stripe/stripefake"
)

const stripeSecret = "whsec_test"

// signed is the header that Stripe signs a webhook with (docs.stripe.com/webhooks, "Verify webhook signatures manually").
func signed(secret string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// TestStripeWebhooks sends webhooks over HTTP, as Stripe does and as others might: only what is signed, fresh and of a bounded
// size is taken; the same again, in another order and in another version of Stripe's API, comes to the same.
func TestStripeWebhooks(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	fake := stripefake.New()
	t.Cleanup(fake.Close)
	clientOf, err := stripe.New(stripe.Options{Key: "sk_test_1", URL: fake.URL})
	must(t, err)
	mover := &stripe.Mover{Client: clientOf, Log: m.log, SettlementsOf: func(context.Context, string) ([]string, error) { return []string{m.settlementID}, nil }}
	handler, err := api.New(api.Options{Log: m.log, Pool: m.pool, Waiter: m.runner, Stripe: mover, StripeSecret: stripeSecret, Now: m.now})
	must(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	send := func(body []byte, header string) (int, client.Problem) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/stripe/webhook", bytes.NewReader(body))
		must(t, err)
		if header != "" {
			r.Header.Set("Stripe-Signature", header)
		}
		response, err := http.DefaultClient.Do(r)
		must(t, err)
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		must(t, err)
		var p client.Problem
		if response.StatusCode != http.StatusOK {
			must(t, json.Unmarshal(content, &p))
		}
		return response.StatusCode, p
	}
	asCustomer, err := client.New(server.URL, m.customerKey)
	must(t, err)
	asked, _, err := client.Decode[client.Payment](asCustomer.PayInvoice(ctx, m.invoiceID))
	must(t, err)
	fake.Decline(asked.Id)
	fake.Pay(asked.Id, 59)
	dispute := fake.Dispute(asked.Id, 40000)
	fake.CloseDispute(dispute, "won", 1500)
	told := fake.Events()
	if len(told) < 4 {
		t.Fatalf("Stripe tells %d events", len(told))
	}
	body, now := told[1].Body, time.Now()

	before := m.settle()
	large := append(slices.Clone(body), bytes.Repeat([]byte(" "), stripe.MaxWebhookBytes)...)
	for name, c := range map[string]struct {
		body   []byte
		header string
	}{
		"not signed":               {body, ""},
		"another secret":           {body, signed("whsec_other", now, body)},
		"signed long ago":          {body, signed(stripeSecret, now.Add(-stripe.WebhookTolerance-time.Minute), body)},
		"another body":             {append(slices.Clone(body), ' '), signed(stripeSecret, now, body)},
		"another time":             {body, strings.Replace(signed(stripeSecret, now, body), fmt.Sprint("t=", now.Unix()), fmt.Sprint("t=", now.Unix()-1), 1)},
		"a signature of no scheme": {body, strings.Replace(signed(stripeSecret, now, body), "v1=", "v0=", 1)},
		"too large":                {large, signed(stripeSecret, now, large)},
		"nothing":                  {nil, signed(stripeSecret, now, nil)},
		"no event":                 {[]byte(`{"id":"evt_1","object":"event"}`), signed(stripeSecret, now, []byte(`{"id":"evt_1","object":"event"}`))},
	} {
		want := http.StatusUnprocessableEntity
		if len(c.body) > stripe.MaxWebhookBytes {
			want = http.StatusRequestEntityTooLarge
		}
		if status, p := send(c.body, c.header); status != want || p.Hint == nil {
			t.Errorf("%s: %d %+v", name, status, p)
		}
	}
	if after := m.settle(); after != before {
		t.Fatalf("what is refused appended %d events", after-before)
	}

	// All of them backwards, each twice at once, the second written for a version of the API that nobody knows yet.
	slices.Reverse(told)
	for _, e := range told {
		var other map[string]any
		must(t, json.Unmarshal(e.Body, &other))
		other["api_version"] = "2099-01-01.future"
		future, err := json.Marshal(other)
		must(t, err)
		statuses := make(chan int, 2)
		for _, b := range [][]byte{e.Body, future} {
			go func() {
				status, _ := send(b, signed(stripeSecret, time.Now(), b))
				statuses <- status
			}()
		}
		for range 2 {
			if status := <-statuses; status != http.StatusOK {
				t.Errorf("%s answers %d", e.Type, status)
			}
		}
	}
	i, _, err := client.Decode[client.Invoice](m.customer.GetInvoice(ctx, m.invoiceID))
	must(t, err)
	if i.State != client.InvoiceStatePaid {
		t.Errorf("the invoice is %s", i.State)
	}
	once := m.settle()
	for _, e := range told {
		if status, _ := send(e.Body, signed(stripeSecret, time.Now(), e.Body)); status != http.StatusOK {
			t.Errorf("%s again answers %d", e.Type, status)
		}
	}
	if after := m.settle(); after != once {
		t.Errorf("the same webhooks again appended %d events", after-once)
	}
	reconciled, err := mover.Reconcile(ctx, now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil || len(reconciled.Findings) != 0 || reconciled.Compared != 2 { // the payment and the dispute
		t.Errorf("the reconciliation: %+v (%v)", reconciled, err)
	}

	// Without the endpoint's secret none is taken, and Stripe will try again.
	if status, p, _ := m.do("", "POST", "/v1/stripe/webhook", body, "Stripe-Signature", signed(stripeSecret, now, body)); status != http.StatusServiceUnavailable || p.Hint == nil {
		t.Errorf("without a payment service: %d %+v", status, p)
	}
}
