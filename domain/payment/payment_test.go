package payment

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	id         = scenario.ID(domain.PrefixPayment, 1)
	invoiceID  = scenario.ID(domain.PrefixInvoice, 1)
	customer   = scenario.ID(domain.PrefixOrganisation, 1)
	creditNote = scenario.ID(domain.PrefixCreditNote, 1)
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func requested() Requested {
	return Requested{id, invoiceID, customer, Stripe, usd(63286), scenario.After(0)}
}
func opened() Opened { return Opened{id, "pi_1", scenario.After(1)} }
func received() Received {
	return Received{PaymentID: id, InvoiceID: invoiceID, CustomerID: customer, Processor: Stripe, Reference: "pi_1", Charge: "ch_1", Amount: usd(63286),
		At: scenario.After(2)}
}
func refundRequested(n int, minor int64) RefundRequested {
	return RefundRequested{id, n, creditNote, usd(minor), scenario.After(3)}
}
func refunded(n int, minor int64) Refunded {
	return Refunded{id, invoiceID, customer, n, creditNote, "re_1", usd(minor), scenario.After(4)}
}
func failedRefund(n int, reference string, minor int64) RefundFailed {
	return RefundFailed{id, invoiceID, customer, n, creditNote, reference, usd(minor), "no", scenario.After(5)}
}
func disputed() Disputed {
	return Disputed{id, invoiceID, customer, "du_1", usd(63286), "fraudulent", scenario.After(3)}
}
func closed(outcome string) DisputeClosed {
	return DisputeClosed{id, invoiceID, customer, "du_1", outcome, usd(63286), usd(1500), scenario.After(4)}
}

func TestAsking(t *testing.T) {
	t.Parallel()
	request := Request(requested())
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "request", When: request, Then: []domain.Event{requested()}},
		{Name: "request again", Given: []domain.Event{requested()}, When: request, Code: domain.Conflict},
		{Name: "request nothing", When: Request{}, Code: domain.Invalid,
			Fields: []string{"/payment_id", "/invoice_id", "/customer_id", "/processor", "/amount", "/amount/currency", "/at"}},
		{Name: "open", Given: []domain.Event{requested()}, When: Open{"pi_1", scenario.After(1)}, Then: []domain.Event{opened()}},
		{Name: "open again", Given: []domain.Event{requested(), opened()}, When: Open{"pi_1", scenario.After(9)}},
		{Name: "open as another", Given: []domain.Event{requested(), opened()}, When: Open{"pi_2", scenario.After(1)}, Code: domain.Conflict},
		{Name: "open after it was received", Given: []domain.Event{requested(), received()}, When: Open{"pi_1", scenario.After(9)}},
		{Name: "reprice", Given: []domain.Event{requested(), opened()}, When: Reprice{usd(5), scenario.After(2)}, Then: []domain.Event{Repriced{id, usd(5), scenario.After(2)}}},
		{Name: "the same price", Given: []domain.Event{requested(), opened()}, When: Reprice{usd(63286), scenario.After(2)}},
		{Name: "reprice what is received", Given: []domain.Event{requested(), received()}, When: Reprice{usd(5), scenario.After(2)}, Code: domain.Conflict},
		{Name: "reprice in euros", Given: []domain.Event{requested(), opened()}, When: Reprice{domain.Money{Minor: 5, Currency: "EUR"}, scenario.After(2)},
			Code: domain.Invalid, Fields: []string{"/amount/currency"}},
		{Name: "cancel", Given: []domain.Event{requested(), opened()}, When: Cancel{"void", scenario.After(2)}, Then: []domain.Event{Cancelled{id, "void", scenario.After(2)}}},
		{Name: "cancel again", Given: []domain.Event{requested(), Cancelled{id, "void", scenario.After(2)}}, When: Cancel{"void", scenario.After(3)}},
		{Name: "cancel what is received", Given: []domain.Event{requested(), received()}, When: Cancel{"void", scenario.After(3)}, Code: domain.Conflict},
		{Name: "an attempt fails", Given: []domain.Event{requested(), opened()}, When: Fail{"pi_1", "card_declined", scenario.After(2)},
			Then: []domain.Event{Failed{id, "pi_1", "card_declined", scenario.After(2)}}},
		{Name: "an attempt failed before it was received", Given: []domain.Event{requested(), received()}, When: Fail{"pi_1", "card_declined", scenario.After(3)}, Code: domain.Conflict},
		{Name: "cancel nothing", When: Cancel{"void", scenario.After(2)}, Code: domain.NotFound},
		{Name: "no command", Code: domain.Internal},
	})
}

func TestReceiving(t *testing.T) {
	t.Parallel()
	other, euros := received(), received()
	other.Reference, euros.Amount = "pi_2", usd(1)
	costed := Costed{id, invoiceID, usd(1865), scenario.After(4)}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "receive", Given: []domain.Event{requested(), opened()}, When: Receive{received()}, Then: []domain.Event{received()}},
		{Name: "before its reference was known", Given: []domain.Event{requested()}, When: Receive{received()}, Then: []domain.Event{received()}},
		{Name: "what was never requested", When: Receive{received()}, Then: []domain.Event{received()}},
		{Name: "what was thought cancelled", Given: []domain.Event{requested(), opened(), Cancelled{id, "x", scenario.After(1)}}, When: Receive{received()}, Then: []domain.Event{received()}},
		{Name: "again", Given: []domain.Event{received()}, When: Receive{received()}},
		{Name: "under another reference", Given: []domain.Event{requested(), opened()}, When: Receive{other}, Code: domain.Conflict},
		{Name: "again, over another amount", Given: []domain.Event{received()}, When: Receive{euros}, Code: domain.Conflict},
		{Name: "nothing", When: Receive{}, Code: domain.Invalid,
			Fields: []string{"/payment_id", "/invoice_id", "/customer_id", "/processor", "/reference", "/amount", "/amount/currency", "/at"}},
		{Name: "its cost", Given: []domain.Event{received()}, When: Cost{usd(1865), scenario.After(4)}, Then: []domain.Event{costed}},
		{Name: "its cost again", Given: []domain.Event{received(), costed}, When: Cost{usd(1865), scenario.After(9)}},
		{Name: "the cost of what is not received", Given: []domain.Event{requested()}, When: Cost{usd(1), scenario.After(4)}, Code: domain.Conflict},
	})
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	paid := []domain.Event{requested(), opened(), received()}
	with := func(more ...domain.Event) []domain.Event { return append(paid[:len(paid):len(paid)], more...) }
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "request", Given: paid, When: RequestRefund{creditNote, usd(100), scenario.After(3)}, Then: []domain.Event{refundRequested(1, 100)}},
		{Name: "a second one", Given: with(refundRequested(1, 100)), When: RequestRefund{creditNote, usd(63186), scenario.After(3)}, Then: []domain.Event{refundRequested(2, 63186)}},
		{Name: "more than was paid", Given: paid, When: RequestRefund{creditNote, usd(63287), scenario.After(3)}, Code: domain.Invalid, Fields: []string{"/amount"}},
		{Name: "more than is left", Given: with(refundRequested(1, 100)), When: RequestRefund{"", usd(63187), scenario.After(3)}, Code: domain.Invalid, Fields: []string{"/amount"}},
		{Name: "what failed is left", Given: with(refundRequested(1, 100), failedRefund(1, "", 100)), When: RequestRefund{creditNote, usd(63286), scenario.After(3)},
			Then: []domain.Event{refundRequested(2, 63286)}},
		{Name: "nothing received", Given: []domain.Event{requested()}, When: RequestRefund{creditNote, usd(1), scenario.After(3)}, Code: domain.Conflict},
		{Name: "in dispute", Given: with(disputed()), When: RequestRefund{creditNote, usd(1), scenario.After(3)}, Code: domain.Conflict},
		{Name: "lost", Given: with(disputed(), closed(DisputeLost)), When: RequestRefund{creditNote, usd(1), scenario.After(3)}, Code: domain.Invalid, Fields: []string{"/amount"}},
		{Name: "won", Given: with(disputed(), closed(DisputeWon)), When: RequestRefund{creditNote, usd(1), scenario.After(3)}, Then: []domain.Event{refundRequested(1, 1)}},
		{Name: "made", Given: with(refundRequested(1, 100)), When: RecordRefund{1, "re_1", scenario.After(4)}, Then: []domain.Event{refunded(1, 100)}},
		{Name: "made again", Given: with(refundRequested(1, 100), refunded(1, 100)), When: RecordRefund{1, "re_1", scenario.After(9)}},
		{Name: "made as another", Given: with(refundRequested(1, 100), refunded(1, 100)), When: RecordRefund{1, "re_2", scenario.After(9)}, Code: domain.Conflict},
		{Name: "none such", Given: paid, When: RecordRefund{1, "re_1", scenario.After(4)}, Code: domain.NotFound},
		{Name: "not made", Given: with(refundRequested(1, 100)), When: FailRefund{1, "", "no", scenario.After(5)}, Then: []domain.Event{failedRefund(1, "", 100)}},
		{Name: "came back", Given: with(refundRequested(1, 100), refunded(1, 100)), When: FailRefund{1, "re_1", "no", scenario.After(5)}, Then: []domain.Event{failedRefund(1, "re_1", 100)}},
		{Name: "made after it came back", Given: with(refundRequested(1, 100), refunded(1, 100), failedRefund(1, "re_1", 100)), When: RecordRefund{1, "re_1", scenario.After(9)}},
		{Name: "not made though it was", Given: with(refundRequested(1, 100), refunded(1, 100)), When: FailRefund{1, "", "no", scenario.After(5)}, Code: domain.Conflict},
		{Name: "dispute", Given: paid, When: OpenDispute{"du_1", usd(63286), "fraudulent", scenario.After(3)}, Then: []domain.Event{disputed()}},
		{Name: "dispute again", Given: with(disputed()), When: OpenDispute{"du_1", usd(63286), "fraudulent", scenario.After(9)}},
		{Name: "dispute more", Given: paid, When: OpenDispute{"du_1", usd(63287), "fraudulent", scenario.After(3)}, Code: domain.Invalid, Fields: []string{"/amount"}},
		{Name: "lose", Given: with(disputed()), When: CloseDispute{"du_1", DisputeLost, usd(63286), usd(1500), scenario.After(4)}, Then: []domain.Event{closed(DisputeLost)}},
		{Name: "lose again", Given: with(disputed(), closed(DisputeLost)), When: CloseDispute{"du_1", DisputeLost, usd(63286), usd(1500), scenario.After(9)}},
		{Name: "win what is lost", Given: with(disputed(), closed(DisputeLost)), When: CloseDispute{"du_1", DisputeWon, usd(63286), usd(1500), scenario.After(9)}, Code: domain.Conflict},
		{Name: "close what is not open", Given: paid, When: CloseDispute{"du_1", DisputeWon, usd(1), domain.Money{}, scenario.After(4)}, Code: domain.NotFound},
	})
}

func TestKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given []domain.Event
		want  int64
	}{
		"requested":         {[]domain.Event{requested()}, 0},
		"received":          {[]domain.Event{received()}, 63286},
		"to be given back":  {[]domain.Event{received(), refundRequested(1, 286)}, 63000},
		"given back":        {[]domain.Event{received(), refundRequested(1, 286), refunded(1, 286)}, 63000},
		"came back":         {[]domain.Event{received(), refundRequested(1, 286), refunded(1, 286), failedRefund(1, "re_1", 286)}, 63286},
		"disputed":          {[]domain.Event{received(), disputed()}, 63286},
		"lost in a dispute": {[]domain.Event{received(), disputed(), closed(DisputeLost)}, 0},
	} {
		if got := scenario.Fold(Evolve, c.given...).Kept(); got != usd(c.want) && got.Minor != c.want {
			t.Errorf("%s: %s is kept, not %s", name, got, usd(c.want))
		}
	}
	if a, b := ID(invoiceID, scenario.Noon, 1), ID(invoiceID, scenario.Noon, 11); a == b || !domain.ValidID(domain.PrefixPayment, a) {
		t.Errorf("the ids are %s and %s", a, b)
	}
}
