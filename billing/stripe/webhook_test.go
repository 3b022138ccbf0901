package stripe

import (
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"crossbill/billing/stripe/stripefake"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
)

// quietWorld is one invoice of one customer, with nothing going wrong by itself.
func quietWorld(t *testing.T) (w *world, invoiceID string) {
	t.Helper()
	w = newWorld(t, newMemlog(t), 5)
	w.bill(1, 1, 1)
	return w, w.invoices[0]
}

// deliverAll delivers every webhook that waits, in the order given.
func (w *world) deliverAll(all []stripefake.Event) {
	w.t.Helper()
	for _, e := range all {
		signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: e.Body, Secret: webhookSecret})
		if err := w.Webhook(w.t.Context(), e.Body, signed.Header, webhookSecret); err != nil {
			w.t.Errorf("%s: %v", e.Type, err)
		}
	}
}

func TestOnlyStripesWebhooksAreTaken(t *testing.T) {
	t.Parallel()
	w, id := quietWorld(t)
	p, err := w.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.fake.Pay(p.Reference, 59)
	e := w.fake.Events()[0]
	sign := func(secret string, at time.Time, body []byte) string {
		return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
	}
	for name, c := range map[string]struct {
		body      []byte
		signature string
	}{
		"another secret":     {e.Body, sign("whsec_other", time.Now(), e.Body)},
		"no signature":       {e.Body, ""},
		"too old":            {e.Body, sign(webhookSecret, time.Now().Add(-WebhookTolerance-time.Minute), e.Body)},
		"changed on the way": {[]byte(strings.Replace(string(e.Body), "succeeded", "succeeded ", 1)), sign(webhookSecret, time.Now(), e.Body)},
		"no event":           {[]byte(`{}`), sign(webhookSecret, time.Now(), []byte(`{}`))},
		"no JSON":            {[]byte(`<`), sign(webhookSecret, time.Now(), []byte(`<`))},
	} {
		if err := w.Webhook(t.Context(), c.body, c.signature, webhookSecret); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, _ := w.invoice(id); i.State != invoice.StateIssued {
		t.Fatalf("the invoice is %s", i.State)
	}
	size := w.size()
	for range 3 { // however often it comes
		w.deliverAll([]stripefake.Event{e})
	}
	i, _ := w.invoice(id)
	if got := w.size(); i.State != invoice.StatePaid || i.Reference != p.Reference || i.PaidAmount != i.Total || got != size+2 {
		t.Errorf("the invoice is %s by %s, and %d events came", i.State, i.Reference, got-size)
	}
	received, _, _ := load(t.Context(), w.log, payment.Stream(p.PaymentID), payment.Evolve)
	if received.ProcessingCost != cents(59) || received.Charge == "" {
		t.Errorf("the payment is %+v", received)
	}
}

// A refund's webhook, a dispute's, and an attempt that failed, all before the one that says that it was paid, and twice.
func TestWebhooksInAnyOrder(t *testing.T) {
	t.Parallel()
	w, id := quietWorld(t)
	p, err := w.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.fake.Decline(p.Reference)
	declined := w.fake.Events()
	w.deliverAll(append(declined, declined...))
	failures := 0
	all, _ := w.log.ReadStream(t.Context(), payment.Stream(p.PaymentID), 0, 100)
	for _, e := range all {
		if _, ok := e.Event.(payment.Failed); ok {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("an attempt that failed once is recorded %d times", failures)
	}
	w.fake.Pay(p.Reference, 59)
	i, _ := w.invoice(id)
	dispute := w.fake.Dispute(p.Reference, i.Total.Minor)
	w.fake.CloseDispute(dispute, "lost", 1500)
	told := w.fake.Events()
	w.deliverAll([]stripefake.Event{told[2], told[1], told[0], told[2]})
	got, _, _ := load(t.Context(), w.log, payment.Stream(p.PaymentID), payment.Evolve)
	if got.State != payment.StateReceived || got.Lost() != i.Total || got.Kept().Minor != 0 {
		t.Errorf("the payment is %+v", got)
	}
	if r, err := w.Reconcile(t.Context(), began, began.Add(MaxWindow)); err != nil || len(r.Findings) > 0 || r.Compared != 2 {
		t.Errorf("the reconciliation: %+v, %v", r, err)
	}
}

// A credit note while the payer looks at the old amount changes it; one while the payment is under way gives back.
func TestCreditBeforeAndDuringPayment(t *testing.T) {
	t.Parallel()
	w, id := quietWorld(t)
	first, err := w.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.credit(id, false)
	second, err := w.Collect(t.Context(), id)
	i, _ := w.invoice(id)
	if err != nil || second.Reference != first.Reference || second.Amount != i.Due() || i.Credited.Minor == 0 || w.fake.All("payment_intent")[0]["amount"] != i.Due().Minor {
		t.Fatalf("after a credit of %s the payment is %+v (%v)", i.Credited, second, err)
	}
	w.fake.Pay(first.Reference, 1)
	w.credit(id, false) // before the webhook
	w.settle()
	w.check()
	if refunds := w.fake.All("refund"); len(refunds) != 1 {
		t.Errorf("the refunds are %v", refunds)
	}
}

func TestReconciliationNamesEveryDifference(t *testing.T) {
	t.Parallel()
	// paidOut is a world at rest, where a payment came in, a credit went back, and a provider has its share.
	paidOut := func(t *testing.T) *world {
		w, id := quietWorld(t)
		p, err := w.Collect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		w.fake.Pay(p.Reference, 1)
		w.settle()
		for len(w.fake.All("refund")) == 0 || len(w.fake.All("transfer_reversal")) == 0 {
			w.credit(id, false)
			w.settle()
		}
		w.check()
		return w
	}
	first := func(w *world, kind string) string { return w.fake.All(kind)[0]["id"].(string) }
	for name, c := range map[string]struct {
		change        func(w *world)
		kind, problem string
	}{
		"another amount was charged": {func(w *world) {
			w.fake.Change(first(w, "charge"), func(o stripefake.Object) { o["amount"] = int64(1) })
		}, KindPayment, OtherAmount},
		"in another currency": {func(w *world) { w.fake.Change(first(w, "charge"), func(o stripefake.Object) { o["currency"] = "eur" }) }, KindPayment, OtherAmount},
		"a charge is not known": {func(w *world) {
			w.fake.Change(first(w, "charge"), func(o stripefake.Object) { o["payment_intent"] = "pi_x" })
		}, KindPayment, MissingHere},
		"a refund is not known": {func(w *world) { w.fake.Change(first(w, "refund"), func(o stripefake.Object) { o["id"] = "re_x" }) }, KindRefund, MissingHere},
		"a refund is not there": {func(w *world) { w.fake.Remove(first(w, "refund")) }, KindRefund, MissingThere},
		"a refund came back":    {func(w *world) { w.fake.FailRefund(first(w, "refund")) }, KindRefund, OtherState},
		"another amount was moved": {func(w *world) {
			w.fake.Change(first(w, "transfer"), func(o stripefake.Object) { o["amount"] = int64(1) })
		}, KindPayout, OtherAmount},
		"another was moved back": {func(w *world) {
			w.fake.Change(first(w, "transfer"), func(o stripefake.Object) { o["amount_reversed"] = int64(1) })
		}, KindPayout, OtherState},
		"to another account": {func(w *world) {
			w.fake.Change(first(w, "transfer"), func(o stripefake.Object) { o["destination"] = "acct_x" })
		}, KindPayout, OtherState},
		"a transfer is not there": {func(w *world) { w.fake.Remove(first(w, "transfer")) }, KindPayout, MissingThere},
		"a dispute is not known":  {func(w *world) { w.fake.Dispute(first(w, "payment_intent"), 100) }, KindDispute, MissingHere},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := paidOut(t)
			c.change(w)
			r, err := w.Reconcile(t.Context(), began, began.Add(MaxWindow))
			if err != nil || len(r.Findings) == 0 {
				t.Fatalf("the reconciliation: %+v, %v", r, err)
			}
			found := false
			for _, f := range r.Findings {
				found = found || f.Kind == c.kind && f.Problem == c.problem
			}
			if !found {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
	w, _ := quietWorld(t)
	if _, err := w.Reconcile(t.Context(), began, began); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("no time: %v", err)
	}
	if _, err := w.Reconcile(t.Context(), began, began.Add(MaxWindow+time.Hour)); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("too long a time: %v", err)
	}
}

// TestNoPayoutInDispute: what the payer's bank has taken back is not moved to providers, whoever opens an account meanwhile or
// looks how often; once the dispute is won it is, and what was lost never.
func TestNoPayoutInDispute(t *testing.T) {
	t.Parallel()
	for _, outcome := range []string{"won", "lost"} {
		w, id := quietWorld(t)
		p, err := w.Collect(t.Context(), id)
		must(t, err)
		w.fake.Pay(p.Reference, 59)
		i, _ := w.invoice(id)
		dispute := w.fake.Dispute(p.Reference, i.Total.Minor)
		w.deliverAll(w.fake.Events())
		_, err = w.Connect(t.Context(), w.providers[0], "NL", "https://x.example", "https://x.example")
		must(t, err)
		w.fake.Enable(w.fake.All("account")[0]["id"].(string), true)
		w.deliverAll(w.fake.Events())
		for range 3 {
			_, err = w.Advance(t.Context(), id)
			must(t, err)
			w.clock = w.clock.Add(24 * time.Hour)
		}
		if moved := w.fake.All("transfer"); len(moved) != 0 {
			t.Fatalf("while it is disputed %v is moved", moved)
		}
		w.fake.CloseDispute(dispute, outcome, 1500)
		w.settle()
		w.check()
		if moved := w.fake.All("transfer"); (len(moved) == 1) != (outcome == "won") {
			t.Errorf("once it is %s, %v is moved", outcome, moved)
		}
	}
}
