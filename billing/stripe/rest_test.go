package stripe

import (
	"slices"
	"testing"

	"crossbill/billing/stripe/stripefake"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
)

// TestThirdDigit: of 1.234 dinars Stripe moves 1.23; the fils stay owed, are named, go with what comes to them, and what is
// taken back never leaves a provider more than it is owed.
func TestThirdDigit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newMemlog(t), 5)
	w.currency = "BHD"
	provider := w.provider(0)
	w.providers, w.invoices, w.settlements = []string{provider}, []string{testID(domain.PrefixInvoice, 1)}, []string{testID(domain.PrefixSettlement, 1)}
	id := w.invoices[0]
	customer := testID(domain.PrefixOrganisation, 1)
	line := invoice.Line{Number: 1, ItemID: "item", Kind: invoice.LinePassthrough, Amount: w.money(1234), ProviderID: provider}
	fee := invoice.Line{Number: 2, ItemID: "fee", Kind: invoice.LineFee, Amount: w.money(36)}
	w.append(
		w.stream(invoice.Stream(id), invoice.Issued{InvoiceID: id, Number: "CB-1", Currency: "BHD", At: began, CustomerID: customer,
			Lines: []invoice.Line{line, fee}, Passthrough: w.money(1234), Fee: w.money(36), Total: w.money(1270)}),
		w.stream(settlement.Stream(w.settlements[0]), settlement.Issued{SettlementID: w.settlements[0], ProviderID: provider, Currency: "BHD", At: began,
			Lines: []settlement.Line{{ItemID: "item", InvoiceID: id, Amount: w.money(1234), InvoiceLine: 1}}, Total: w.money(1234)}),
	)
	p, err := w.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.fake.Pay(p.Reference, 1)
	w.settle()
	transfers := func() (all []int64) {
		for _, o := range w.fake.All("transfer") {
			all = append(all, o["amount"].(int64)-o["amount_reversed"].(int64))
		}
		return all
	}
	rests := func() (all []string) {
		r, err := w.Reconcile(t.Context(), began, began.Add(MaxWindow))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			all = append(all, f.Kind+" "+f.Problem+" "+f.Here)
		}
		return all
	}
	if got := transfers(); !slices.Equal(got, []int64{1230}) {
		t.Fatalf("the transfers are %v", got)
	}
	if got := rests(); !slices.Equal(got, []string{"payout rest_owed 0.004 BHD"}) {
		t.Errorf("the findings are %v", got)
	}

	// The customer gets 0.226 back, of which 0.22 can be moved. The provider is owed 1.234 − 0.226 = 1.008.
	i, version := w.invoice(id)
	decided, err := invoice.Decide(i, invoice.Credit{CreditNoteID: testID(domain.PrefixCreditNote, 1), Number: "CN-1", At: w.clock, Total: w.money(226),
		Lines: []invoice.CreditedLine{{Line: 1, Amount: w.money(226)}}})
	if err != nil {
		t.Fatal(err)
	}
	w.append(append(w.creditSettlements(testID(domain.PrefixCreditNote, 1), "", map[string][]settlement.CreditedLine{provider: {{ItemID: "item", Amount: w.money(226)}}}),
		appendTo(invoice.Stream(id), version, "", nil, decided...))...)
	w.settle()
	if got := transfers(); !slices.Equal(got, []int64{1000}) {
		t.Errorf("after the credit the transfers are %v", got)
	}
	if o := w.fake.All("refund"); len(o) != 1 || o[0]["amount"].(int64) != 220 {
		t.Errorf("the refunds are %v", o)
	}
	if got := rests(); !slices.Equal(got, []string{"payout rest_owed 0.008 BHD", "refund rest_owed 0.006 BHD"}) {
		t.Errorf("after the credit the findings are %v", got)
	}
}

// TestUnpayableDue: a credit leaves an amount that Stripe can't ask for, so the payer is not asked for another one.
func TestUnpayableDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newMemlog(t), 5)
	w.currency = "BHD"
	w.bill(1, 1, 1)
	id := w.invoices[0]
	if _, err := w.Collect(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for i, _ := w.invoice(id); i.Due().Minor%lastDigitZero == 0; i, _ = w.invoice(id) {
		w.credit(id, false)
	}
	if _, err := w.Advance(t.Context(), id); err != nil {
		t.Errorf("advancing: %v", err)
	}
	if o := w.fake.All("payment_intent"); len(o) != 1 || o[0]["status"] != "canceled" {
		t.Errorf("the payment is %v", o)
	}
	if _, err := w.Collect(t.Context(), id); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("asked to pay: %v", err)
	}
}

// TestGivenUp: of everything that Stripe refuses for good the reconciliation says so, and nothing before it is given up.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind   string
		refuse func(w *world, n int) // one more refusal
	}{
		"refunds": {KindRefund, func(w *world, n int) {
			p := w.paid()
			w.append(w.stream(payment.Stream(p), payment.RefundRequested{PaymentID: p, Refund: n, Amount: w.money(100), At: w.clock},
				payment.RefundFailed{PaymentID: p, Refund: n, Amount: w.money(100), Reason: "no", At: w.clock}))
		}},
		"payouts": {KindPayout, func(w *world, n int) {
			id, s := payout.ID("s", "i", began, n), w.settlements[0]
			w.append(w.stream(payout.Stream(id), payout.Requested{PayoutID: id, ProviderID: w.provider(0), SettlementID: s, InvoiceID: w.invoices[0], Amount: w.money(100), At: w.clock},
				payout.Failed{PayoutID: id, Amount: w.money(100), Reason: "no", At: w.clock}))
		}},
		"reversals": {KindPayout, func(w *world, n int) {
			id := payout.ID("s", "i", began, 1)
			if n == 1 {
				w.append(w.stream(payout.Stream(id), payout.Requested{PayoutID: id, SettlementID: w.settlements[0], InvoiceID: w.invoices[0], Amount: w.money(100), At: w.clock}))
			}
			w.append(w.stream(payout.Stream(id), payout.ReversalRequested{PayoutID: id, Reversal: n, Amount: w.money(50), At: w.clock},
				payout.ReversalFailed{PayoutID: id, Reversal: n, Amount: w.money(50), Reason: "no", At: w.clock}))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := quietWorld(t)
			for n := 1; n <= MaxTries; n++ {
				c.refuse(w, n)
				r, err := w.Reconcile(t.Context(), began, began.Add(MaxWindow))
				if err != nil {
					t.Fatal(err)
				}
				given := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Problem == GivenUp && f.Kind == c.kind })
				if (given >= 0) != (n == MaxTries) {
					t.Fatalf("after %d refusals: %+v", n, r.Findings)
				}
			}
		})
	}
}

// paid returns the payment of the first invoice, which is received.
func (w *world) paid() (paymentID string) {
	w.t.Helper()
	p, err := w.Collect(w.t.Context(), w.invoices[0])
	if err == nil {
		w.fake.Pay(p.Reference, 1)
		w.deliverAll([]stripefake.Event{w.fake.Events()[0]})
	}
	i, _ := w.invoice(w.invoices[0])
	all, err := w.paymentsOf(w.t.Context(), i)
	if err != nil || len(all) != 1 {
		w.t.Fatal(all, err)
	}
	return all[0].PaymentID
}
